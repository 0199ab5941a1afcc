"""A pipeline as its author writes it, and the definition that it becomes."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trilho_runtime.pipeline import Collected, FirstOf, Item, Param, Pipeline, PipelineError, Status, Value
from trilho_runtime.step import In, Model, Out, Table, step
from trilho_runtime.steps.define import define


@step
def load(table: Out[Table], rows: int = 5) -> int:
    return rows


@step
def fit(table: In[Table], model: Out[Model]) -> float:
    return 0.5


def line() -> int:
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


def test_a_task_is_written_with_its_arguments_options_and_line() -> None:
    p = Pipeline("nightly", parameters={"rows": int, "rate": 0.5, "names": list[str]})
    p.task("load", load, rows=Param("rows"), retries=2, cpu="2", after=("check",), code=["shop.a:b"])
    here = line() - 1
    written = p.definition()
    assert written["schema"] == 1
    assert written["parameters"] == {
        "rows": {"type": "int"},
        "rate": {"type": "float", "default": 0.5},
        "names": {"type": "list"},
    }
    assert written["tasks"] == [
        {
            "name": "load",
            "step": f"{__name__}:load",
            "import": None,
            "group": None,
            "arguments": {"rows": {"param": "rows"}},
            "after": ["check"],
            "retries": 2,
            "backoff_seconds": None,
            "backoff_factor": None,
            "timeout_seconds": None,
            "cpu": "2",
            "memory": None,
            "accelerator": None,
            "accelerators": None,
            "cache": None,
            "ignore_failure": False,
            "code": ["shop.a:b"],
            "uncounted": None,
            "at": {"file": __file__, "line": here},
        }
    ]
    assert json.loads(json.dumps(written)) == written


def test_what_stands_for_a_value_is_written() -> None:
    p = Pipeline("p")
    p.task(
        "a",
        "shop.steps:a",
        one=Value("x.y"),
        two=Item("region")["name"],
        three=Collected("fit.model"),
        four=FirstOf("a.x", "b.x"),
        five=Status(),
        six={"deep": [1, None]},
        seven={1, 2},
        arguments={"retries": 3},
    )
    (task,) = p.definition()["tasks"]
    assert task["arguments"] == {
        "retries": {"const": 3},
        "one": {"ref": "x.y"},
        "two": {"item": "region", "path": ["name"]},
        "three": {"collected": "fit.model"},
        "four": {"first_of": ["a.x", "b.x"]},
        "five": {"status": True},
        "six": {"const": {"deep": [1, None]}},
        "seven": {"unserializable": "{1, 2}", "type": "set"},
    }
    assert task["retries"] is None


def test_blocks_nest_and_follow_each_other() -> None:
    p = Pipeline("p")
    asked = (Value("a.x") > 1) & (Param("on") | ~(Param("rate") <= 0.5))
    with p.when(asked, name="better"), p.each("region", over=["a"], at_once=3):
        p.task("fit", fit, table="load.table")
    with p.otherwise(Value("a.x") == 1):
        p.task("equal", fit, table="load.table")
    with p.otherwise():
        p.task("worse", fit, table="load.table")
    p.on_exit("tell", "shop.steps:tell", status=Status())
    written = p.definition()
    shown = [(g["name"], g["kind"], g["parent"], g["title"], g["chain"]) for g in written["groups"]]
    assert shown == [
        ("better", "when", None, "better", None),
        ("region", "each", "better", None, None),
        ("otherwise-1", "otherwise", None, None, "better"),
        ("otherwise-2", "otherwise", None, None, "better"),
        ("exit-tell", "exit", None, None, None),
    ]
    assert written["groups"][0]["condition"] == {
        "all": [
            {"op": ">", "left": {"ref": "a.x"}, "right": {"const": 1}},
            {
                "any": [
                    {"op": "==", "left": {"param": "on"}, "right": {"const": True}},
                    {"not": {"op": "<=", "left": {"param": "rate"}, "right": {"const": 0.5}}},
                ]
            },
        ]
    }
    assert (written["groups"][1]["over"], written["groups"][1]["at_once"]) == ({"const": ["a"]}, 3)
    assert [task["group"] for task in written["tasks"]] == ["region", "otherwise-1", "otherwise-2"]
    assert written["groups"][4]["exit_task"]["arguments"] == {"status": {"status": True}}


def test_an_otherwise_after_something_else_belongs_to_nothing() -> None:
    p = Pipeline("p")
    with p.when(Value("a.x") > 1):
        p.task("a", load)
    p.task("between", load)
    with p.otherwise():
        p.task("b", load)
    assert [group["chain"] for group in p.definition()["groups"]] == [None, None]


def standard() -> Pipeline:
    p = Pipeline("train", parameters={"rate": 0.5})
    p.task("load", load)
    p.task("check", "shop.steps:check", table="load.table")
    p.task("fit", fit, table="load.table", after=["check"], retries=1)
    with p.when(Value("fit.output") > Param("rate"), name="better"):
        p.task("deploy", "shop.steps:deploy", model="fit.model")
    p.output("auc", "fit.output")
    p.output("findings", "check.findings")
    return p


def test_a_project_changes_the_standard_pipeline() -> None:
    p = Pipeline.from_definition(json.loads(json.dumps(standard().definition())))
    p.replace("fit", "shop.fit:fit", rate=0.1, retries=3)
    p.remove("check")
    p.remove("deploy")
    p.artifact("champion", uri="gs://b/m", kind=Model)
    written = p.definition()
    tasks = {task["name"]: task for task in written["tasks"]}
    assert list(tasks) == ["load", "fit", "champion"]
    assert tasks["fit"]["step"] == "shop.fit:fit"
    assert tasks["fit"]["arguments"] == {"table": {"const": "load.table"}, "rate": {"const": 0.1}}
    assert (tasks["fit"]["retries"], tasks["fit"]["after"]) == (3, [])
    assert tasks["champion"]["import"] == {"uri": {"const": "gs://b/m"}, "kind": "model"}
    assert written["outputs"] == {"auc": {"ref": "fit.output"}}
    assert list(written["outputs_at"]) == ["auc"]
    assert written["groups"] == []


def test_a_task_keeps_what_is_not_replaced_and_drops_what_is_named() -> None:
    p = standard()
    p.replace("fit", without=["table"], cpu=4)
    fitted = next(task for task in p.definition()["tasks"] if task["name"] == "fit")
    assert (fitted["step"], fitted["arguments"], fitted["cpu"]) == (f"{__name__}:fit", {}, 4)
    assert (fitted["retries"], fitted["after"]) == (1, ["check"])


def test_a_block_is_opened_again() -> None:
    p = standard()
    with p.inside("better"):
        p.task("tell", "shop.steps:tell")
    assert p.definition()["tasks"][-1]["group"] == "better"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: p.remove("chek"), "no task chek; did you mean check?"),
        (
            lambda p: p.remove("better"),
            "better is a block, not a task; remove its tasks, and it goes with the last: deploy",
        ),
        (lambda p: p.replace("fitt", load), "no task fitt; did you mean fit?"),
        (
            lambda p: p.replace("fit", load, without=["tabel"]),
            "no argument of task fit tabel; did you mean table?",
        ),
        (lambda p: p.inside("worse").__enter__(), "no block worse; there are: better"),
        (
            lambda p: p.task("a", load, retries="2"),
            "task a: the option retries is '2'; int is wanted. For an argument of that name: "
            "arguments={'retries': ...}",
        ),
        (lambda p: p.task("a", 5), 'task a: 5 is no step; a function is wanted, or "package.module:function"'),
        (
            lambda p: p.when(True).__enter__(),
            'True is no condition; a comparison is wanted, as Value("evaluate.auc") > 0.8',
        ),
    ],
)
def test_what_cannot_be_meant_is_told_with_its_line(change: Callable[[Any], Any], words: str) -> None:
    with pytest.raises(PipelineError) as told:
        change(standard())
    place, _, said = str(told.value).partition(": ")
    file, _, number = place.rpartition(":")
    assert Path(file).resolve() == Path(__file__)
    assert "lambda p" in inspect.getsource(sys.modules[__name__]).splitlines()[int(number) - 1]
    assert said == words


@pytest.mark.parametrize(
    "ask",
    [
        lambda: Value("a.x") > 1 and Value("a.y") > 1,
        lambda: 1 < Value("a.x") < 5,
        lambda: not (Value("a.x") > 1),
        lambda: bool(Value("a.x")),
        lambda: f"{Value('a.x')}",
        lambda: list(Value("a.x")),
    ],
)
def test_what_only_the_run_will_know_is_not_asked_before(ask: Callable[[], Any]) -> None:
    with pytest.raises(TypeError, match=r"(when|before) the pipeline runs"):
        ask()


MODULE = """
from trilho_runtime.pipeline import Pipeline, Value

print("said at import")

def nightly():
    p = Pipeline("nightly")
    p.task("a", "shop.steps:a")
    return p

def changed(standard):
    standard.remove("check")

def broken():
    return {}["x"]

def nothing():
    return None

def two(a, b): ...

def wrong():
    Pipeline("p").task("a", 5)
"""


def ask(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "mine.py").write_text(MODULE)
    (folder / "standard.json").write_text(json.dumps(standard().definition()))
    command = [sys.executable, "-m", "trilho_runtime.pipeline", *words, "--path", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=folder)


def test_a_projects_function_is_asked_for_its_pipeline(tmp_path: Path) -> None:
    done = ask(tmp_path, "mine:nightly")
    assert done.returncode == 0
    assert done.stderr == "said at import\n"
    written = json.loads(done.stdout)
    assert written["name"] == "nightly"
    assert written["tasks"][0]["at"] == {"file": str(tmp_path / "mine.py"), "line": 8}


def test_a_projects_function_is_given_the_standard_pipeline(tmp_path: Path) -> None:
    done = ask(tmp_path, "mine:changed", "--standard", str(tmp_path / "standard.json"))
    assert [task["name"] for task in json.loads(done.stdout)["tasks"]] == ["load", "fit", "deploy"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("broken", "mine.py:15: KeyError: 'x'"),
        ("nothing", "mine.py:17: mine:nothing returned None; a Pipeline is wanted"),
        ("two", "mine:two takes 2 arguments; none is wanted, or one: the standard pipeline"),
        ("changed", "mine:changed takes the standard pipeline, and there is none outside of a trilho project"),
        ("wrong", 'mine.py:23: task a: 5 is no step; a function is wanted, or "package.module:function"'),
        ("none", "no function none in mine"),
    ],
)
def test_a_function_that_fails_is_told(tmp_path: Path, name: str, words: str) -> None:
    done = ask(tmp_path, f"mine:{name}")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == words
    assert ("Traceback" in done.stderr) == (name == "broken")


def test_a_module_of_the_builder_imports_nothing_heavy() -> None:
    code = "import sys, trilho_runtime.pipeline, trilho_runtime.step; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False\n"


def test_define_calls_a_function_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_here.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    assert define("mine_here:nightly").name == "nightly"
