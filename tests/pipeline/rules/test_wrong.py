"""Each mistake in one task, by the exact words that it is told with, and the line that it points at."""

from __future__ import annotations

import datetime
import linecache
from pathlib import Path

import pytest
from tests.pipeline.rules.nightly import Case, after_begin, errors, task

from trilho.pipeline.rules.check import Finding
from trilho.pipeline.rules.reading import shown_file
from trilho_runtime.pipeline import Collected, FirstOf, Item, Param, Status, Value

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
