"""Typed steps and the executor contract."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import pytest

from trilho_runtime.step import (
    In,
    Metrics,
    Model,
    Out,
    StepError,
    Table,
    run,
    step,
)
from trilho_runtime.steps.artifact import Artifact
from trilho_runtime.steps.function import execute, load_function, option_problem, signature_of


@step
def scale(table: In, scaled: Out, factor: float, names: list[str] | None = None) -> dict[str, Any]:
    numbers = json.loads(table.path.read_text())
    scaled.path.write_text(json.dumps([factor * number for number in numbers]))
    scaled.metadata["rows"] = len(numbers)
    return {"rows": len(numbers)}


def request(tmp_path: Path, **parameters: Any) -> dict[str, Any]:
    (tmp_path / "table.json").write_text("[1, 2, 3]")
    return {
        "inputs": {
            "parameterValues": parameters,
            "artifacts": {"table": {"artifacts": [{"name": "table", "uri": str(tmp_path / "table.json")}]}},
        },
        "outputs": {
            "outputFile": str(tmp_path / "out" / "output.json"),
            "parameters": {"rows": {"outputFile": str(tmp_path / "rows")}},
            "artifacts": {"scaled": {"artifacts": [{"name": "scaled", "uri": str(tmp_path / "new" / "scaled")}]}},
        },
    }


def test_a_step_reads_writes_and_says_what_it_found(tmp_path: Path) -> None:
    execute(scale, request(tmp_path, factor=2))
    assert json.loads((tmp_path / "new" / "scaled").read_text()) == [2, 4, 6]
    assert json.loads((tmp_path / "out" / "output.json").read_text()) == {
        "parameterValues": {"rows": 3},
        "artifacts": {
            "scaled": {
                "artifacts": [
                    {"name": "scaled", "uri": str(tmp_path / "new" / "scaled"), "metadata": {"rows": 3}},
                ]
            }
        },
    }
    assert (tmp_path / "rows").read_text() == "3"


def test_what_a_step_takes_is_read_from_its_types() -> None:
    found = signature_of(scale)
    assert (found.inputs, found.outputs, set(found.parameters)) == (("table",), ("scaled",), {"factor", "names"})
    assert found.required == {"factor"}


def test_an_argument_without_a_type_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="step bare: x has no type"):
        step(_bare())


def _bare() -> Any:
    names: dict[str, Any] = {}
    exec("def bare(x): ...", names)
    return names["bare"]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({}, "parameter factor is missing"),
        ({"factor": "2"}, "parameter factor is '2'; float is wanted"),
        ({"factor": True}, "parameter factor is True; float is wanted"),
        ({"factor": 1, "facto": 2}, "unknown parameter facto; it takes factor, names"),
    ],
)
def test_wrong_parameters_are_told(tmp_path: Path, parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(StepError, match=words):
        execute(scale, request(tmp_path, **parameters))


def test_numbers_arrive_as_their_type_though_services_pass_all_as_doubles(tmp_path: Path) -> None:
    @step
    def typed(count: int, rate: float, maybe: int | None = 3) -> list[str]:
        return [repr(count), repr(rate), repr(maybe)]

    asked = {"inputs": {"parameterValues": {"count": 5.0, "rate": 1, "maybe": None}}, "outputs": place(tmp_path)}
    execute(typed, asked)
    assert said(tmp_path)["parameterValues"] == {"output": ["5", "1.0", "None"]}
    asked["inputs"]["parameterValues"]["count"] = 5.5
    with pytest.raises(StepError, match=r"parameter count is 5\.5; int is wanted"):
        execute(typed, asked)


class Sizes(NamedTuple):
    rows: int
    until: str


class Found(TypedDict):
    share: float


def place(tmp_path: Path, **values: str) -> dict[str, Any]:
    files = {name: {"outputFile": str(tmp_path / file)} for name, file in values.items()}
    return {"outputFile": str(tmp_path / "o.json"), "parameters": files}


def said(tmp_path: Path) -> Any:
    return json.loads((tmp_path / "o.json").read_text())


def test_output_values_are_the_fields_of_what_is_returned(tmp_path: Path) -> None:
    @step
    def sizes() -> Sizes:
        return Sizes(3, "2024")

    @step
    def found() -> Found:
        return {"share": 1}

    @step
    def single() -> str:
        return "it's"

    @step
    def nothing() -> None: ...

    for function, values in ((sizes, {"rows": 3, "until": "2024"}), (found, {"share": 1.0}), (nothing, {})):
        execute(function, {"outputs": place(tmp_path)})
        assert said(tmp_path)["parameterValues"] == values
    execute(single, {"outputs": place(tmp_path, output="text")})
    assert said(tmp_path)["parameterValues"] == {"output": "it's"}
    assert (tmp_path / "text").read_text() == "it's"  # as KFP reads a text back


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        ({"rows": 1}, "it returned no output value until; Sizes has rows, until"),
        ({"rows": 1, "until": "x", "more": 1}, "it returned an output value more; Sizes has rows, until"),
        (None, "it returned no output value rows; Sizes has rows, until"),
        ((1, "x"), "it returned (1, 'x'); Sizes has rows, until"),
        (Sizes("many", "x"), "output value rows is 'many'; int is wanted"),  # type: ignore[arg-type]
    ],
)
def test_an_output_value_that_was_not_promised_is_told(tmp_path: Path, returned: Any, words: str) -> None:
    @step
    def sizes() -> Sizes:
        return returned  # type: ignore[no-any-return]

    with pytest.raises(StepError) as told:
        execute(sizes, {"outputs": place(tmp_path)})
    assert str(told.value) == words
    assert not (tmp_path / "o.json").exists()


def test_a_list_of_artifacts_is_given_as_a_list(tmp_path: Path) -> None:
    @step
    def best(models: In[list[Model]], others: list[In[Model]], table: In[Table]) -> list[str]:
        return [*(model.name for model in models), *(model.uri for model in others), table.name]

    artifacts = [{"name": "a", "uri": "/a", "metadata": {"auc": 1}}, {"name": "b", "uri": "/b"}]
    given = {"models": {"artifacts": artifacts}, "others": {"artifacts": artifacts}, "table": {"artifacts": artifacts}}
    asked = {"inputs": {"artifacts": given}, "outputs": place(tmp_path)}
    with pytest.raises(StepError, match=r"it was given 2 artifacts table; one is wanted, or In\[list"):
        execute(best, asked)
    given["table"] = {"artifacts": artifacts[:1]}
    execute(best, asked)
    assert said(tmp_path)["parameterValues"] == {"output": ["a", "b", "/a", "/b", "a"]}


def test_metrics_need_no_file(tmp_path: Path) -> None:
    @step
    def measure(metrics: Out[Metrics]) -> None:
        metrics.metadata["auc"] = 0.7

    made = {"artifacts": [{"name": "metrics", "uri": str(tmp_path / "new" / "metrics")}]}
    execute(measure, {"outputs": {**place(tmp_path), "artifacts": {"metrics": made}}})
    assert said(tmp_path)["artifacts"]["metrics"]["artifacts"][0]["metadata"] == {"auc": 0.7}
    assert json.loads((tmp_path / "new" / "metrics").read_text()) == {"auc": 0.7}


def test_options_of_a_step_are_checked_when_it_is_defined() -> None:
    @step(retries=2, uncounted=("where",))
    def sound(where: str) -> None: ...

    assert signature_of(sound).options == {"retries": 2, "uncounted": ("where",)}
    with pytest.raises(TypeError, match=r"step wrong: @step has no option retry; did you mean retries\?"):

        @step(retry=2)  # type: ignore[call-overload, untyped-decorator]
        def wrong() -> None: ...

    assert option_problem("retries", True) == "option retries is True; int is wanted"
    assert option_problem("cpu", -1) == "option cpu is -1; it cannot be negative"
    assert option_problem("timeout_seconds", "1h") == "option timeout_seconds is '1h'; int or float is wanted"


def test_where_uris_lie_may_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Artifact("a", "gs://b/x").path == Path("/gcs/b/x")
    assert Artifact("a", "s3://b/x").path == Path("/s3/b/x")
    monkeypatch.setenv("TRILHO_MOUNTS", '{"gs://": "/tmp/buckets"}')
    assert Artifact("a", "gs://b/x").path == Path("/tmp/buckets/b/x")
    assert Artifact("a", "file:///x").path == Path("/x")
    monkeypatch.setenv("TRILHO_MOUNTS", "/tmp")
    with pytest.raises(ValueError, match="TRILHO_MOUNTS is '/tmp'; a JSON object"):
        Artifact("a", "gs://b/x").path  # noqa: B018


def test_a_missing_input_and_a_missing_output_are_told(tmp_path: Path) -> None:
    asked = request(tmp_path, factor=1)
    del asked["inputs"]["artifacts"]["table"]
    with pytest.raises(StepError, match="given no artifact table"):
        execute(scale, asked)

    @step
    def lazy(scaled: Out) -> None: ...

    with pytest.raises(StepError, match="left no output scaled"):
        execute(lazy, {**request(tmp_path), "inputs": {}})
    assert not (tmp_path / "out" / "output.json").exists()


def test_a_value_that_is_no_json_leaves_no_output_file(tmp_path: Path) -> None:
    @step
    def odd(scaled: Out) -> dict[str, Any]:
        scaled.path.write_text("x")
        return {"value": float("nan")}

    with pytest.raises(ValueError, match="not JSON compliant"):
        execute(odd, {**request(tmp_path), "inputs": {}})
    assert list((tmp_path / "out").glob("*")) == []


def test_wrong_names_are_told() -> None:
    with pytest.raises(StepError, match=r"no module trilho_runtime\.fitt, named by trilho_runtime\.fitt:fit"):
        load_function("trilho_runtime.fitt:fit")
    with pytest.raises(StepError, match=r"no function fitt in trilho_runtime\.fit"):
        load_function("trilho_runtime.fit:fitt")


MODULE = """
from trilho_runtime.step import Out, step

def deep():
    raise ValueError("boom")

@step
def fails(made: Out) -> None:
    deep()

@step
def leaves(made: Out) -> None:
    raise SystemExit(0)

class NotYet(Exception):
    exit_code = 4
    def __init__(self, fact, hint):
        self.fact, self.hint = fact, hint

@step
def waits(made: Out) -> None:
    raise NotYet("no labels yet", "wait")

@step
def hangs(made: Out) -> None:
    import subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    made.path.write_text(str(child.pid))
    while True:
        sum(range(10**7))

@step
def dies(made: Out) -> None:
    import os
    os.kill(os.getpid(), 9)

@step
def makes(made: Out) -> str:
    import os, shop_here
    made.path.write_text(shop_here.WORD)
    return str(os.getpgrp())
"""


def _run(tmp_path: Path, name: str, *more: str, **environment: str) -> tuple[int, str]:
    (tmp_path / "mine.py").write_text(MODULE)
    made = {"artifacts": [{"name": "made", "uri": str(tmp_path / "made")}]}
    asked = {"inputs": {}, "outputs": {"outputFile": str(tmp_path / "o.json"), "artifacts": {"made": made}}}
    (tmp_path / "in.json").write_text(json.dumps(asked))
    words = ["-m", "trilho_runtime.step", name if ":" in name else f"mine:{name}"]
    words += ["--executor-input", str(tmp_path / "in.json"), "--path", str(tmp_path), *more]
    done = subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=tmp_path,
        env={**os.environ, **environment},
    )
    return done.returncode, done.stderr


def _error(tmp_path: Path) -> Any:
    return json.loads((tmp_path / "o.json.error.json").read_text())


def test_why_a_step_failed_is_left_beside_its_output(tmp_path: Path) -> None:
    assert _run(tmp_path, "fails")[0] == 1
    error = _error(tmp_path)
    assert error.pop("said")[-1] == "ValueError: boom"
    assert error == {"schema": 1, "kind": "ValueError", "fact": "ValueError: boom", "hint": None, "exit_code": 1}
    assert _run(tmp_path, "waits") == (1, "step mine:waits failed: no labels yet\nHint: wait\n")
    error = {"schema": 1, "kind": "NotYet", "fact": "no labels yet", "hint": "wait", "exit_code": 4, "said": []}
    assert _error(tmp_path) == error
    assert _run(tmp_path, "leaves")[0] == 1
    assert _error(tmp_path)["kind"] == "StepFailed"


def test_a_step_that_does_not_end_is_ended_with_all_it_started(tmp_path: Path) -> None:
    begun = time.monotonic()
    code, told = _run(tmp_path, "hangs", "--timeout", "1.5")
    assert time.monotonic() - begun < 20
    assert code == 124
    assert told == "step mine:hangs failed: it ran for 1.5 seconds, which is as long as it may\n"
    assert _error(tmp_path)["fact"] == "it ran for 1.5 seconds, which is as long as it may"
    assert _is_gone(int((tmp_path / "made").read_text()))


def test_a_step_that_is_killed_says_so_where_its_time_is_limited(tmp_path: Path) -> None:
    assert _run(tmp_path, "dies", "--timeout", "60") == (137, "step mine:dies failed: it was ended by SIGKILL\n")
    assert _error(tmp_path)["kind"] == "StepFailed"


def test_a_step_in_time_is_as_without_a_limit(tmp_path: Path) -> None:
    (tmp_path / "shop_here.py").write_text("WORD = 'here'")
    assert _run(tmp_path, "makes", "--timeout", "60") == (0, "")
    assert (tmp_path / "made").read_text() == "here"
    assert _run(tmp_path, "fails", "--timeout", "60")[0] == 1


def test_what_ends_the_limit_ends_the_step(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MODULE)
    made = {"artifacts": [{"name": "made", "uri": str(tmp_path / "made")}]}
    asked = {"inputs": {}, "outputs": {"outputFile": str(tmp_path / "o.json"), "artifacts": {"made": made}}}
    words = ["-m", "trilho_runtime.step", "mine:hangs", "--executor-input", json.dumps(asked), "--timeout", "60"]
    limited = subprocess.Popen([sys.executable, *words, "--path", str(tmp_path)])
    _wait_for(lambda: (tmp_path / "made").exists() and (tmp_path / "made").read_text() != "")
    limited.send_signal(signal.SIGKILL)
    limited.wait(timeout=20)
    assert _is_gone(int((tmp_path / "made").read_text()))


def _wait_for(condition: Any) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def _is_gone(pid: int) -> bool:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


def test_the_source_folder_is_named_by_the_environment_or_found(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "shop_here.py").write_text("WORD = 'elsewhere'")
    assert _run(tmp_path, "makes", TRILHO_SOURCE=str(elsewhere)) == (0, "")
    assert (tmp_path / "made").read_text() == "elsewhere"


def test_the_working_folders_src_is_the_source(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "inner.py").write_text(MODULE.replace("import os, shop_here", "import os"))
    words = ["-m", "trilho_runtime.step", "inner:leaves", "--executor-input"]
    asked = json.dumps({"inputs": {}, "outputs": {"outputFile": str(tmp_path / "o.json"), "artifacts": {}}})
    done = subprocess.run(
        [sys.executable, *words, asked], capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path
    )
    assert done.stderr == "step inner:leaves failed: it was given no artifact made\n"


def test_a_step_of_the_platforms_hops_to_its_interpreter(tmp_path: Path, project_python: Path) -> None:
    words = ["-m", "trilho_runtime.step", "trilho.train.steps:nothing", "--executor-input"]
    asked = json.dumps({"inputs": {}, "outputs": {"outputFile": str(tmp_path / "o.json")}})

    def ask(**environment: str) -> tuple[int, str]:
        kept = {key: value for key, value in os.environ.items() if key != "TRILHO_PLATFORM_PYTHON"}
        done = subprocess.run(
            [project_python, *words, asked],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**kept, **environment},
            cwd=tmp_path,
        )
        return done.returncode, done.stderr

    failed = "step trilho.train.steps:nothing failed: "
    hopped = (1, f"{failed}no function nothing in trilho.train.steps\n")
    assert ask(TRILHO_PLATFORM_PYTHON=sys.executable) == hopped
    code, told = ask()
    assert (code, told.startswith(failed)) == (1, True)
    assert told.endswith("has no trilho; TRILHO_PLATFORM_PYTHON must name an interpreter that has it\n")
    assert ask(TRILHO_PLATFORM_PYTHON="/nowhere")[1] == (
        f"{failed}TRILHO_PLATFORM_PYTHON is '/nowhere', and there is no such program\n"
    )
    itself = str(project_python)
    assert ask(TRILHO_PLATFORM_PYTHON=itself)[1] == (
        f"{failed}TRILHO_PLATFORM_PYTHON is {itself!r}, and that interpreter has no trilho\n"
    )


def test_where_a_service_runs_it_a_step_is_on_record_and_not_done_twice(tmp_path: Path) -> None:
    (tmp_path / "shop_here.py").write_text("WORD = 'here'")
    buckets = {"TRILHO_MOUNTS": json.dumps({"gs://": f"{tmp_path}/buckets/"})}
    where = ("--root", "gs://b/root", "--run", "r1", "--task", "makes")
    records = tmp_path / "buckets" / "b" / "root" / "runs" / "r1"
    assert _run(tmp_path, "makes", *where, **buckets)[0] == 0
    assert json.loads((records / "makes.json").read_text())["state"] == "ran"
    assert _run(tmp_path, "makes", *where, **buckets)[0] == 0
    assert json.loads((records / "makes.json").read_text())["state"] == "cached"
    assert _run(tmp_path, "makes", *where, "--no-cache", "--timeout", "60", **buckets)[0] == 0
    assert json.loads((records / "makes.json").read_text())["state"] == "ran"
    assert _run(tmp_path, "hangs", *where, "--timeout", "0.5", **buckets)[0] == 124
    record = json.loads((records / "makes.json").read_text())
    assert (record["state"], record["error"]["fact"]) == (
        "failed",
        "it ran for 0.5 seconds, which is as long as it may",
    )


def test_a_placeholder_that_was_not_filled_in_is_none(tmp_path: Path) -> None:
    (tmp_path / "shop_here.py").write_text("WORD = 'here'")
    where = ("--root", "{{$.pipeline_root}}", "--run", "{{$.pipeline_job_name}}", "--task", "{{$.pipeline_task_name}}")
    assert _run(tmp_path, "makes", *where) == (0, "")
    assert not (tmp_path / "runs").exists()


def test_a_failing_step_shows_its_own_traceback_only(tmp_path: Path) -> None:
    code, said = _run(tmp_path, "fails")
    lines = said.splitlines()
    assert code == 1
    assert lines[0] == "Traceback (most recent call last):"
    assert "mine.py" in lines[1]
    assert "trilho_runtime/" not in said
    assert lines[-2:] == ["ValueError: boom", "step mine:fails failed: ValueError: boom"]
    assert not (tmp_path / "o.json").exists()


def test_leaving_by_exit_is_a_failure(tmp_path: Path) -> None:
    assert _run(tmp_path, "leaves") == (1, "step mine:leaves failed: it called exit(0)\n")


def test_an_error_in_the_projects_import_is_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken_import.py").write_text("import surely_not_there\n")
    assert run("broken_import:f", {}, [str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "broken_import.py" in said
    assert said.splitlines()[-1].endswith("ModuleNotFoundError: No module named 'surely_not_there'")
