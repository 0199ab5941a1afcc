"""Each rule, by the exact words that it finds something with, and the line that it points at."""

from __future__ import annotations

import datetime
import linecache
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trilho.pipeline.definition.document import Definition, linked, read_interfaces
from trilho.pipeline.rules.check import RULES, Finding, GraphError, check, require_sound
from trilho.pipeline.rules.reading import shown_file
from trilho_runtime.pipeline import Collected, FirstOf, Item, Param, Pipeline, Status, Value
from trilho_runtime.step import Model

STEPS = """
from datetime import date
from typing import Any, NamedTuple, TypedDict
import pandas as pd
from trilho_runtime.step import File, In, Metrics, Model, Out, Table, step

class Sizes(NamedTuple):
    rows: int
    until: str

@step
def load(table: Out[Table], rows: int = 5) -> Sizes: ...

@step
def split(table: In[Table], train: Out[Table], share: float = 0.2) -> None: ...

@step
def fit(train: In[Table], model: Out[Model], rate: float = 0.5, names: list[str] = []) -> float: ...

@step
def best(models: In[list[Model]]) -> None: ...

@step
def deploy(model: In[Model]) -> str: ...

@step
def plan() -> list[str]: ...

@step
def say(text: str, more: dict[str, Any] | None = None, on: bool = False) -> str: ...

@step
def tell(status: dict[str, Any], text: str = "") -> None: ...

@step
def late(text: str = "") -> None: ...

@step(side_effect=True)
def send(text: str) -> None: ...

def plain(x: int) -> int: ...  # here

@step
def old(x: int) -> dict[str, Any]: ...  # here

@step
def frame(x: pd.DataFrame) -> None: ...  # here

@step
def dated(day: str = str(date.today())) -> None: ...  # here

@step
def untyped(x) -> None: ...  # here

@step
def kind(x: In[Modle]) -> None: ...  # here

@step
def maybe(x: In[Model] | None) -> None: ...  # here

@step
def many(*x: int) -> None: ...  # here

@step
def default(x: int = "a") -> None: ...  # here

@step
def none() -> str | None: ...  # here

@step(retry=2)  # here
def option() -> None: ...

@step(retries=2 + int("3"))  # here
def computed() -> None: ...

@step
def outs(x: Out[list[Model]]) -> None: ...  # here

class Pair(TypedDict):
    a: int
    b: Model

@step
def pair() -> Pair: ...  # here

@step
async def later() -> None: ...  # here
"""
Case = Callable[[Pipeline], Any]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("src")
    (folder / "shop").mkdir()
    (folder / "shop" / "__init__.py").write_text("")
    (folder / "shop" / "steps.py").write_text(STEPS)
    return folder


def find(source: Path, write: Case, **parameters: Any) -> list[Finding]:
    pipeline = Pipeline("nightly", parameters=parameters)  # here
    write(pipeline)
    definition = linked(Definition.read(pipeline.definition()), source)
    return check(definition, read_interfaces(definition, source))


def errors(source: Path, write: Case, **parameters: Any) -> list[Finding]:
    return [finding for finding in find(source, write, **parameters) if finding.severity == "error"]


def task(name: str, step: str, **arguments: Any) -> Case:
    return lambda p: p.task(name, f"shop.steps:{step}", **arguments)  # here


def begin(p: Pipeline) -> None:
    """Add the beginning that most cases go on from: load, split, fit."""
    p.task("load", "shop.steps:load")
    p.task("split", "shop.steps:split", table="load.table")
    p.task("fit", "shop.steps:fit", train="split.train")


def after_begin(name: str, step: str, **arguments: Any) -> Case:
    def write(p: Pipeline) -> None:
        begin(p)
        p.task(name, f"shop.steps:{step}", **arguments)  # here

    return write


def test_a_sound_pipeline_has_no_errors(source: Path) -> None:
    def write(p: Pipeline) -> None:
        begin(p)
        with p.when((Value("fit.output") > Param("rate")) & (Value("load.until") != "never"), name="better"):
            p.task("deploy", "shop.steps:deploy", model="fit.model")
        with p.otherwise(Value("load.rows") < 3):
            p.task("less", "shop.steps:say", text="less")
        with p.otherwise():
            p.task("worse", "shop.steps:say", text="worse")
        p.task("said", "shop.steps:say", text=FirstOf("deploy.output", "less.output", "worse.output"))
        p.task("plan", "shop.steps:plan")
        with p.each("region", over=Value("plan.output"), at_once=2):
            p.task("fit_one", "shop.steps:fit", train="split.train", rate=1)
        p.task("best", "shop.steps:best", models=Collected("fit_one.model"))
        p.artifact("champion", uri="gs://b/m", kind=Model)
        p.task("deploy_old", "shop.steps:deploy", model="champion")
        p.on_exit("tell", "shop.steps:tell", status=Status())
        p.output("auc", "fit.output")

    assert errors(source, write, rate=0.5) == []


WRONG: list[tuple[Case, str, str, str]] = [
    (lambda p: None, "no tasks", "pipeline nightly has no task", 'add one: task("NAME", STEP)'),
    (
        task("fit model", "plan"),
        "bad name",
        "a task is named 'fit model'; letters, digits, - and _ are allowed, with a letter first and no - or _ last",
        "",
    ),
    (
        task("a", "lod"),
        "unknown step",
        "task a runs shop.steps:lod: no function lod in shop.steps",
        "did you mean 'shop.steps:load'?",
    ),
    (
        lambda p: p.task("a", "shop.stops:load"),  # here
        "unknown step",
        "task a runs shop.stops:load: no module shop.stops in src0/",
        "did you mean 'shop.steps:load'?",
    ),
    (
        lambda p: p.task("a", "load"),  # here
        "unknown step",
        "task a runs load: 'load' names no function",
        'a step is named "package.module:function"',
    ),
    (
        task("a", "plain", x=1),
        "not a step",
        "step shop.steps:plain: it is a function without @step",
        "from trilho_runtime.step import step",
    ),
    (
        after_begin("a", "split", tabel="load.table", table="load.table"),
        "unknown argument",
        "task a: shop.steps:split takes no argument tabel",
        "did you mean 'table'?",
    ),
    (
        after_begin("a", "split", table="load.table", train="load.table"),
        "unknown argument",
        "task a: train is an output of shop.steps:split, and outputs are not given",
        'others read it as "a.train"',
    ),
    (
        after_begin("a", "split"),
        "missing input",
        "task a: shop.steps:split needs table, and it is not given",
        'table="TASK.OUTPUT", an artifact of the kind table',
    ),
    (
        after_begin("a", "say"),
        "missing input",
        "task a: shop.steps:say needs text, and it is not given",
        "text=..., of the type str",
    ),
    (
        after_begin("a", "split", table="laod.table"),
        "unknown task",
        "task a: table is 'laod.table', and there is no task 'laod'",
        "did you mean 'load.table'?",
    ),
    (
        after_begin("a", "split", table="/data/a.csv"),
        "unknown task",
        "task a: table is '/data/a.csv', and there is no task '/data/a'",
        'p.artifact("NAME", uri="/data/a.csv") is one that is there already',
    ),
    (
        after_begin("a", "split", table="load.tabel"),
        "unknown output",
        "task a: table is 'load.tabel', and task load has no output 'tabel'",
        "did you mean 'load.table'?",
    ),
    (
        after_begin("a", "split", table="load"),
        "unknown output",
        "task a: table is 'load', which is a task; \"TASK.OUTPUT\" is wanted",
        "there are: load.table, load.rows, load.until",
    ),
    (
        after_begin("a", "plan", after=["laod"]),
        "unknown task",
        "task a runs after 'laod', and there is no such task",
        "did you mean 'load'?",
    ),
    (
        task("a", "load", rows=Param("row")),
        "unknown parameter",
        "task a: rows is Param('row'), and the pipeline has no such parameter",
        "did you mean 'rows'?",
    ),
    (
        task("a", "load", uncounted=["rowz"]),
        "unknown argument",
        "task a: uncounted names 'rowz', and shop.steps:load has no such parameter",
        "did you mean 'rows'?",
    ),
    (
        task("a", "say", text=datetime.date(2024, 1, 1)),
        "unserializable default",
        "task a: text is datetime.date(2024, 1, 1), a date, which no pipeline can hold",
        "texts, numbers, true and false, None, lists and objects of them can be",
    ),
    (task("a", "load", rows="many"), "type mismatch", "task a: rows is 'many'; int is wanted", ""),
    (task("a", "load", rows=1.5), "type mismatch", "task a: rows is 1.5; int is wanted", ""),
    (task("a", "load", rows=None), "type mismatch", "task a: rows is None; int is wanted", ""),
    (
        after_begin("a", "load", rows="load.rows"),
        "type mismatch",
        "task a: rows is 'load.rows'; int is wanted",
        'Value("load.rows") is what that task found',
    ),
    (
        after_begin("a", "load", rows=Value("load.until")),
        "type mismatch",
        "task a: rows wants int, and Value('load.until') is str",
        "",
    ),
    (
        after_begin("a", "load", rows=Value("load.table")),
        "type mismatch",
        "task a: rows wants int, and Value('load.table') is an artifact of the kind table",
        "In[...] takes an artifact",
    ),
    (
        after_begin("a", "deploy", model="load.table"),
        "type mismatch",
        "task a: model wants an artifact of the kind model, and Value('load.table') is an artifact of the kind table",
        "",
    ),
    (
        after_begin("a", "deploy", model="load.rows"),
        "type mismatch",
        "task a: model wants an artifact of the kind model, and Value('load.rows') is int",
        '"TASK.OUTPUT" names one',
    ),
    (
        after_begin("a", "deploy", model=5),
        "type mismatch",
        "task a: model wants an artifact of the kind model, and 5 is a constant",
        '"TASK.OUTPUT" names one',
    ),
    (
        after_begin("a", "best", models="fit.model"),
        "type mismatch",
        "task a: models wants a list of artifacts of the kind model, and Value('fit.model') is an artifact of the kind "
        "model",
        "Collected(...) of a task in a loop is one",
    ),
    (
        task("a", "old", x=1),
        "unsupported annotation",
        "step shop.steps:old: -> dict[str, Any] does not say which outputs it has",
        "return a NamedTuple or TypedDict class with a field for each",
    ),
    (
        task("a", "frame", x=1),
        "unsupported annotation",
        "step shop.steps:frame: x is pd.DataFrame, which no pipeline can pass on",
        "str, int, float, bool, list, dict, In[KIND] and Out[KIND] are allowed",
    ),
    (
        task("a", "dated"),
        "unserializable default",
        "step shop.steps:dated: the default of day is str(date.today()), which no pipeline can hold",
        "a literal of text, numbers, true and false, lists and objects can be; it is read, not run",
    ),
    (
        task("a", "untyped", x=1),
        "unsupported annotation",
        "step shop.steps:untyped: x has no type",
        "str, int, float, bool, list, dict, In[KIND] and Out[KIND] are allowed",
    ),
    (
        task("a", "kind", x="a.b"),
        "unsupported annotation",
        "step shop.steps:kind: x is In[Modle]; a kind is Table, Model, Metrics or File",
        "did you mean Model?",
    ),
    (
        task("a", "maybe"),
        "unsupported annotation",
        "step shop.steps:maybe: x is In[Model] | None; an artifact is always there",
        "write it without None",
    ),
    (
        task("a", "many"),
        "unsupported annotation",
        "step shop.steps:many: *x has no names that a pipeline could give",
        "",
    ),
    (task("a", "default"), "type mismatch", "step shop.steps:default: x is int, and its default is 'a'", ""),
    (
        task("a", "none"),
        "unsupported annotation",
        "step shop.steps:none: -> str | None may be None, which no pipeline can pass on",
        "a type of text, number or list, or a NamedTuple or TypedDict class; artifacts are arguments: Out[...]",
    ),
    (
        task("a", "option"),
        "unknown option",
        "step shop.steps:option: @step has no option retry; did you mean retries?",
        "",
    ),
    (
        task("a", "computed"),
        "unknown option",
        "step shop.steps:computed: option retries of @step is 2 + int('3'); it is read without importing the module",
        "write a literal",
    ),
    (
        task("a", "outs"),
        "unsupported annotation",
        "step shop.steps:outs: x is Out[list[Model]]; a step leaves one artifact under each name",
        "str, int, float, bool, list, dict, In[KIND] and Out[KIND] are allowed",
    ),
    (
        task("a", "pair"),
        "unsupported annotation",
        "step shop.steps:pair: the output value b is Model, which no pipeline can pass on",
        "str, int, float, bool, list, dict, In[KIND] and Out[KIND] are allowed",
    ),
    (
        task("a", "later"),
        "unsupported annotation",
        "step shop.steps:later: it is async; a step is a plain function",
        "",
    ),
    (
        task("a", "late", retries=-1),
        "odd option",
        "task a: retries is -1; at least 0 is wanted",
        "",
    ),
    (task("a", "late", timeout_seconds=0), "odd option", "task a: timeout_seconds is 0; more than 0 is wanted", ""),
    (
        task("a", "late", memory="4 gigs"),
        "odd option",
        'task a: memory is \'4 gigs\'; a number of bytes as "4G" or "512Mi"',
        "",
    ),
    (
        task("a", "late", cpu="two"),
        "odd option",
        'task a: cpu is \'two\'; a number of cores as "2", or "500m" for half of one',
        "",
    ),
    (
        task("a", "late", accelerators=1),
        "odd option",
        "task a: accelerators without accelerator, which names their type",
        "",
    ),
    (
        task("a", "send", text="x", cache=True),
        "side effect",
        "task a: cache=True, and shop.steps:send has a side effect: it always runs",
        "",
    ),
    (
        after_begin("a", "late", text=Status()),
        "exit task",
        "task a: text is Status(), and the task only runs if all before it has succeeded",
        "on_exit(...), or ignore_failure=True",
    ),
    (
        after_begin("a", "say", text=Value("load.until"), ignore_failure=True),
        "ignored failure",
        "task a: text comes from another task and has no default, though the task runs if that one failed",
        "give the argument a default in the step, or use after=[...] instead",
    ),
    (
        after_begin("a", "say", text=Item("region")),
        "outside its loop",
        "task a: text is Item('region'), and there is no such loop",
        "there are: none",
    ),
    (
        after_begin("a", "best", models=Collected("fit.model")),
        "outside its loop",
        "task a: models is Collected('fit.model'), which is made in no loop",
        'Value("fit.model") is what one task found',
    ),
    (
        after_begin("a", "deploy", model=FirstOf("fit.model", "split.train")),
        "no alternatives",
        "task a: model is FirstOf('fit.model', 'split.train'): they are not in the branches of one when() and its "
        "otherwise()",
        "",
    ),
]


def marked(finding: Finding) -> bool:
    return "# here" in linecache.getline(finding.file, finding.line)


@pytest.mark.parametrize(("write", "rule", "message", "hint"), WRONG, ids=[message[:60] for _, _, message, _ in WRONG])
def test_a_mistake_is_told(source: Path, write: Case, rule: str, message: str, hint: str) -> None:
    found = errors(source, write, rows=5)
    mine = [(f.rule, f.message.replace(source.name, "src0"), f.hint) for f in found]
    assert (rule, message, hint) in mine
    told = found[mine.index((rule, message, hint))]
    assert marked(told)
    assert str(told) == f"{shown_file(told.file)}:{told.line}: {told.message}"


def test_names_that_a_service_cannot_tell_apart(source: Path) -> None:
    def write(p: Pipeline) -> None:
        p.task("fit_all", "shop.steps:plan")
        p.task("fit-all", "shop.steps:plan")
        p.task("fit_all", "shop.steps:plan")
        with p.each("r", over=[1]):
            p.task("a", "shop.steps:plan")
        with p.each("r", over=[1]):
            p.task("b", "shop.steps:plan")

    found = errors(source, write)
    where = found[0].file.rpartition("/")[2]
    assert {f.rule for f in found} == {"duplicate name"}
    lines = [f.message.rpartition("/")[0] for f in found]
    assert len(lines) == 3
    assert found[0].message.startswith(
        "tasks fit_all and fit-all have one name to a pipeline service; the first is at "
    )
    assert found[1].message.startswith("two tasks are named fit_all; the first is at ")
    assert found[2].message.startswith('each("r") has the name of each("r") at ')
    assert f"{where}:{found[0].line - 1}" in found[0].message


def test_a_circle_is_told_by_its_names(source: Path) -> None:
    def write(p: Pipeline) -> None:
        p.task("a", "shop.steps:say", text=Value("c.output"))
        p.task("b", "shop.steps:say", text=Value("a.output"))
        p.task("c", "shop.steps:say", text="x", after=["b"])

    (found,) = errors(source, write)
    assert found.rule == "circle"
    assert found.message == "these wait for each other: a -> c -> b -> a"


def test_a_circle_through_a_block_is_one(source: Path) -> None:
    def write(p: Pipeline) -> None:
        with p.each("r", over=["a"]):
            p.task("inner", "shop.steps:say", text="x")
            p.task("last", "shop.steps:load", rows=1, after=["outer"])
        p.task("outer", "shop.steps:fit", train="split.train", names=Collected("inner.output"))
        p.task("load", "shop.steps:load")
        p.task("split", "shop.steps:split", table="load.table")

    assert [f.message for f in errors(source, write)] == ['these wait for each other: outer -> each("r") -> outer']


def test_what_is_read_out_of_blocks(source: Path) -> None:
    def write(p: Pipeline) -> None:
        begin(p)
        with p.when(Value("load.rows") > 3, name="many"):
            p.task("deploy", "shop.steps:deploy", model="fit.model")
        with p.each("region", over=["a", "b"]):
            p.task("fit_one", "shop.steps:fit", train="split.train", names=Item("region"))
            p.task("inside", "shop.steps:best", models=Collected("fit_one.model"))
        p.task("use", "shop.steps:say", text=Value("deploy.output"))
        p.task("use_one", "shop.steps:deploy", model="fit_one.model")
        p.task("waits", "shop.steps:plan", after=["deploy"])
        p.task("item", "shop.steps:say", text=Item("region"))

    assert [(f.rule, f.message, f.hint) for f in errors(source, write)] == [
        ("type mismatch", "task fit_one: names wants list, and Item('region') is str", ""),
        (
            "outside its loop",
            "task inside: models is Collected('fit_one.model'), which is read within each(\"region\") itself",
            'Value("fit_one.model") is what one task found',
        ),
        (
            "outside its condition",
            "task use: text is 'deploy.output', which is only there if when(name=\"many\") holds",
            'FirstOf("deploy.output", ...) with its otherwise()',
        ),
        (
            "outside its loop",
            "task use_one: model is 'fit_one.model', which there is once for each item of each(\"region\")",
            'Collected("fit_one.model") is the list of them',
        ),
        (
            "outside its block",
            'task waits runs after deploy, which is within when(name="many")',
            "put both into the block, or wait for none",
        ),
        (
            "outside its loop",
            "task item: text is Item('region'), outside of each(\"region\")",
            "an item is only there within its loop",
        ),
    ]


def test_chains(source: Path) -> None:
    def write(p: Pipeline) -> None:
        p.task("load", "shop.steps:load")
        with p.otherwise():
            p.task("a", "shop.steps:plan")
        with p.when(Value("load.rows") > 1):
            p.task("b", "shop.steps:plan")
        p.task("between", "shop.steps:plan")
        with p.otherwise(name="rest"):
            p.task("c", "shop.steps:plan")
        with p.when(Value("load.rows") > 1, name="more"):
            p.task("d", "shop.steps:say", text="x")
        with p.otherwise(Value("load.rows") > 0):
            p.task("e", "shop.steps:say", text="x")
        p.task("f", "shop.steps:say", text=FirstOf("d.output", "e.output"))
        with p.when(Value("load.rows") > 9, name="empty"):
            pass

    assert [(f.rule, f.message) for f in errors(source, write)] == [
        (
            "otherwise without when",
            "an otherwise() does not follow a when(), or an otherwise() with a condition, of its own block",
        ),
        (
            "otherwise without when",
            'otherwise(name="rest") does not follow a when(), or an otherwise() with a condition, of its own block',
        ),
        (
            "no alternatives",
            "task f: text is FirstOf('d.output', 'e.output'): no otherwise() without a condition is there, so that "
            "none of them may be",
        ),
        ("empty block", 'when(name="empty") has no task in it'),
    ]


def test_alternatives_leave_out_no_branch_and_are_of_one_type(source: Path) -> None:
    def write(p: Pipeline) -> None:
        begin(p)
        with p.when(Value("load.rows") > 1, name="more"):
            p.task("d", "shop.steps:say", text="x")
        with p.otherwise(Value("load.rows") > 0, name="some"):
            p.task("e", "shop.steps:say", text="x")
        with p.otherwise():
            p.task("g", "shop.steps:plan")
        p.task("f", "shop.steps:say", text=FirstOf("d.output", "g.output"))
        p.task("h", "shop.steps:say", text=FirstOf("d.output", "e.output", "g.output"))

    assert [f.message for f in errors(source, write)] == [
        "task f: text is FirstOf('d.output', 'g.output'): nothing of otherwise(name=\"some\") is among them",
        "task h: text is FirstOf('d.output', 'e.output', 'g.output'): they are of different types: list, str",
    ]


def test_conditions(source: Path) -> None:
    def write(p: Pipeline) -> None:
        p.task("load", "shop.steps:load")
        p.task("plan", "shop.steps:plan")
        for number, asked in enumerate(
            (
                Value("load.rows") > "3",
                Value("plan.output") == "x",
                Value("load.table") == "x",
                Param("on") > True,
                Value("load.rows") == None,  # noqa: E711
                (Value("load.rows") > 1) | ~(Value("load.until") == 3),
                Param("on"),
            )
        ):
            with p.when(asked, name=f"c{number}"):
                p.task(f"t{number}", "shop.steps:plan")

    assert [f.message for f in errors(source, write, on=True)] == [
        "the condition of when(name=\"c0\"): Value('load.rows') > '3' compares int with str",
        "the condition of when(name=\"c1\"): Value('plan.output') == 'x' compares list; texts, numbers, true and false "
        "can be compared",
        "the condition of when(name=\"c2\"): Value('load.table') == 'x' compares an artifact of the kind table; texts, "
        "numbers, true and false can be compared",
        "the condition of when(name=\"c3\"): Param('on') > True compares bool; == and != can",
        "the condition of when(name=\"c4\"): Value('load.rows') == None compares None; texts, numbers, true and false "
        "can be compared",
        "the condition of when(name=\"c5\"): Value('load.until') == 3 compares str with int",
    ]


def test_loops_go_over_lists(source: Path) -> None:
    def write(p: Pipeline) -> None:
        p.task("load", "shop.steps:load")
        for number, over in enumerate((Value("load.rows"), [], "abc", Value("load.table"))):
            with p.each(f"r{number}", over=over, at_once=0 if number == 1 else None):
                p.task(f"t{number}", "shop.steps:plan")

    assert [f.message for f in errors(source, write)] == [
        "each(\"r0\") goes over Value('load.rows'), which is int; a list is wanted",
        'each("r1") goes over an empty list',
        "each(\"r2\") goes over 'abc', which is str; a list is wanted",
        "each(\"r3\") goes over Value('load.table'), which is an artifact of the kind table; a list is wanted",
        'each("r1"): at_once is 0; at least 1 is wanted',
    ]


def test_the_end(source: Path) -> None:
    def write(p: Pipeline) -> None:
        p.task("load", "shop.steps:load")
        p.on_exit("tell", "shop.steps:tell", status=Status(), text=Value("load.until"))
        p.on_exit("again", "shop.steps:say", text="x")
        p.task("reads", "shop.steps:say", text=Value("again.output"))

    assert [(f.rule, f.message) for f in errors(source, write)] == [
        ("exit task", "task tell: text is 'load.until', which is not there if that task failed"),
        ("exit task", "task again is a second on_exit(); a pipeline has one, and tell is it"),
        ("exit task", "task reads: text is 'again.output', of a task that runs when all others have ended"),
    ]


def test_parameters_of_the_pipeline(source: Path) -> None:
    found = errors(source, task("a", "plan"), day=datetime.date, at=datetime.date(2024, 1, 1), x=None, **{"a-b": 1})
    assert sorted((f.message, f.hint) for f in found) == [
        (
            "the default of the pipeline's parameter at is datetime.date(2024, 1, 1), which no pipeline can hold",
            "texts, numbers, true and false, None, lists and objects of them can be",
        ),
        (
            "the pipeline's parameter day is of the type date",
            "str, int, float, bool, list, dict are allowed, or a default value of one of them",
        ),
        ("the pipeline's parameter is named 'a-b'; letters, digits and _ are allowed, with a letter first", ""),
        (
            "the pipeline's parameter x has the default None, which is of no type",
            'give a value of its type, as "" or 0',
        ),
    ]


def test_what_nobody_reads_is_a_warning(source: Path) -> None:
    found = find(source, begin, rows=5)
    assert {f.severity for f in found} == {"warning"}
    assert [(f.rule, f.message) for f in found] == [
        ("unused parameter", "nobody reads the pipeline's parameter rows"),
        ("unused output", "nobody reads load.rows, and it is no output of the pipeline"),
        ("unused output", "nobody reads load.until, and it is no output of the pipeline"),
        ("unused output", "nobody reads fit.model, and it is no output of the pipeline"),
        ("unused output", "nobody reads fit.output, and it is no output of the pipeline"),
    ]


def test_retries_of_a_side_effect_are_a_warning(source: Path) -> None:
    (found,) = find(source, task("a", "send", text="x", retries=1))
    assert (found.severity, found.message) == (
        "warning",
        "task a: shop.steps:send has a side effect, which may be had again with each retry",
    )


def test_all_errors_are_in_one(source: Path) -> None:
    pipeline = Pipeline("nightly")
    pipeline.task("a", "shop.steps:load", rows="x")
    pipeline.task("b", "shop.steps:lod")
    definition = linked(Definition.read(pipeline.definition()), source)
    with pytest.raises(GraphError) as told:
        require_sound(definition, read_interfaces(definition, source))
    first, second, third = told.value.fact.splitlines()
    assert told.value.exit_code == 2
    assert first == "pipeline nightly has 2 errors:"
    assert second.endswith(": task a: rows is 'x'; int is wanted")
    assert third.endswith(": no function lod in shop.steps; did you mean 'shop.steps:load'?")


def test_every_rule_has_a_line_that_says_what_it_finds() -> None:
    assert len(set(RULES)) == len(RULES)
    assert all((rule.__doc__ or "").startswith("Find ") for rule in RULES)
