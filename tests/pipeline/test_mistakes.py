"""Mistakes of a pipeline's author end in one line that names the place, whatever the code does when it is asked."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trilho.pipeline.definition import document as module
from trilho.pipeline.definition.document import Definition, GraphError, linked, load_definition, read_interfaces
from trilho.pipeline.rules.check import check
from trilho_runtime.pipeline import FirstOf, Item, Param, Pipeline, Status, Value

STEPS = """
from trilho_runtime.step import *
from typing import *
from .kinds import *

class Sizes(NamedTuple):
    rows: int

@step
def load(table: Out[Table], rows: Optional[int] = None) -> Sizes: ...

@step
def say(text: str = "", more: list = []) -> str: ...

@step
def number(n: int) -> int: ...

@step(2)
def odd() -> int: ...

@step
def named(rows: Rows) -> int: ...

Loop = Other
Other = Loop

@step
def endless(x: Loop) -> Other: ...
"""
WRITTEN = """from trilho_runtime.pipeline import *
def nightly():
    p = Pipeline("nightly")
    p.task("say", "shop.steps:say")
    {line}
    return p
"""


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "src" / "shop"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "kinds.py").write_text("Rows = int\n")
    (package / "steps.py").write_text(STEPS)
    return package.parent


def said(source: Path, text: str) -> str:
    (source / "shop" / "pipes.py").write_text(text)
    with pytest.raises(GraphError) as told:
        load_definition("shop.pipes:nightly", python=Path(sys.executable), source=source, home=source.parent / "home")
    return told.value.fact.removeprefix("shop.pipes:nightly fails: ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\n\ndef nightly(:\n", "src/shop/pipes.py:3: SyntaxError: invalid syntax"),
        ("import nothere\n", "src/shop/pipes.py:1: ModuleNotFoundError: No module named 'nothere'"),
        ("import sys\nsys.exit()\n", "src/shop/pipes.py:2: it called exit(None)"),
        ("import os\nos._exit(0)\n",
         "shop.pipes:nightly ended its process before it had said which pipeline it is"),
        ("async def nightly(): ...\n", "src/shop/pipes.py:1: shop.pipes:nightly returned <coroutine object nightly at"),
        (WRITTEN.format(line="raise ValueError('two\\nlines')"), "src/shop/pipes.py:5: ValueError: two lines"),
        (WRITTEN.format(line="raise RuntimeError"), "src/shop/pipes.py:5: RuntimeError"),
        (WRITTEN.format(line="raise KeyboardInterrupt"), "src/shop/pipes.py:5: KeyboardInterrupt"),
        ("import os\nos.write(2, b'\\xff')\n1 / 0\n", "src/shop/pipes.py:3: ZeroDivisionError: division by zero"),
        (WRITTEN.format(line="p.task(5, 'shop.steps:say')"),
         "src/shop/pipes.py:5: a task's name is 5; a text is wanted"),
        (WRITTEN.format(line="Pipeline(None)"), "src/shop/pipes.py:5: a pipeline's name is None; a text is wanted"),
        (WRITTEN.format(line="p.when(Param('x') == 1)"),
         "src/shop/pipes.py:5: this block is never opened; `with pipeline.when(...):`"),
        (WRITTEN.format(line="p.task('b', 'shop.steps:say', after=[5])"),
         "src/shop/pipes.py:5: task b: the option after is [5]; list or tuple of texts is wanted. For an argument of "
         "that name: arguments={'after': ...}"),
        (WRITTEN.format(line="p.task('b', 'shop.steps:say', backoff_seconds=float('nan'))"),
         "src/shop/pipes.py:5: task b: the option backoff_seconds is nan; int or float is wanted. For an argument of "
         "that name: arguments={'backoff_seconds': ...}"),
        (WRITTEN.format(line="p.output('x', Value(5))"),
         "src/shop/pipes.py:5: TypeError: 5 is no text; Value(\"TASK.OUTPUT\") is wanted"),
        (WRITTEN.format(line="p.each('r', over=[1], at_once='2')"),
         "src/shop/pipes.py:5: each('r'): at_once is '2'; int is wanted"),
    ],
)  # fmt: skip
def test_code_that_writes_no_pipeline_is_told_by_its_line(source: Path, text: str, words: str) -> None:
    assert said(source, text).startswith(words)


def test_code_that_does_not_end_is_told_where_it_is(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.5)
    text = WRITTEN.format(line="while True: pass")
    words = "src/shop/pipes.py:5: shop.pipes:nightly did not say within 0.5 seconds which pipeline it is"
    assert said(source, text) == words


def test_what_code_writes_to_every_channel_is_no_definition(source: Path) -> None:
    noise = "import os, sys, atexit\nos.write(1, b'raw')\nos.system('echo from a child')\natexit.register(print, 1)\n"
    (source / "shop" / "pipes.py").write_text(noise + WRITTEN.format(line="os.write(2, b'\\xff'); sys.stdout.close()"))
    found = load_definition("shop.pipes:nightly", python=Path(sys.executable), source=source, home=source / "home")
    assert found.name == "nightly"


def test_a_finding_names_the_line_as_the_file_is_now(source: Path) -> None:
    lines = []
    for text in (WRITTEN.format(line="pass"), "# one\n# two\n" + WRITTEN.format(line="pass")):
        (source / "shop" / "pipes.py").write_text(text)
        found = load_definition("shop.pipes:nightly", python=Path(sys.executable), source=source, home=source / "home")
        lines.append(found.tasks[0].at.line)
    assert lines == [4, 6]


def test_what_the_code_reads_makes_another_pipeline(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = "import os; p.name = open('name.txt').read() + os.environ.get('SHOP_END', '')"
    (source / "shop" / "pipes.py").write_text(WRITTEN.format(line=line))
    names = []
    for name, end in (("one", ""), ("two", ""), ("two", "-x"), ("two", "-x")):
        Path("name.txt").write_text(name)
        monkeypatch.setenv("SHOP_END", end)
        home = source.parent / "home"
        found = load_definition("shop.pipes:nightly", python=Path(sys.executable), source=source, home=home)
        names.append(found.name)
    assert names == ["one", "two", "two-x", "two-x"]


def findings(source: Path, write: Callable[[Pipeline], Any]) -> list[str]:
    pipeline = Pipeline("p", parameters={"x": 1})
    write(pipeline)
    definition = linked(Definition.read(pipeline.definition()), source)
    return [one.message for one in check(definition, read_interfaces(definition, source)) if one.severity == "error"]


def loop(over: Any, field: str = "") -> Callable[[Pipeline], Any]:
    def write(p: Pipeline) -> None:
        with p.each("r", over=over):
            p.task("n", "shop.steps:number", n=Item("r")[field] if field else Item("r"))

    return write


def out_of_a_branch(p: Pipeline) -> None:
    with p.when(Param("x") == 1):
        with p.when(Param("x") == 2):
            p.task("a", "shop.steps:say")
        with p.otherwise():
            p.task("b", "shop.steps:say")
    with p.otherwise():
        p.task("c", "shop.steps:say")
    p.output("x", FirstOf("a.output", "b.output"))


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda p: p.task("a", "shop.steps:odd"), ["step shop.steps:odd: @step is given 2 without a name"]),
        (lambda p: p.task("a", "shop.steps:load"), []),
        (lambda p: p.task("a", "shop.steps:named", rows=3), []),
        (
            lambda p: p.task("a", "shop.steps:endless"),
            [
                "step shop.steps:endless: x is Loop, which no pipeline can pass on",
                "step shop.steps:endless: -> Other cannot be passed on by a pipeline",
            ],
        ),
        (
            lambda p: p.task("a", "shop.steps:say", text="{{$.x}}"),
            ["task a: text is '{{$.x}}', and services fill in what stands after {{$"],
        ),
        (lambda p: p.task("a", "shop.steps:say", text="{{$.pipeline_job_name}} {{ x }} ${y}"), []),
        (
            lambda p: p.task("a", "shop.steps:say", text=Param("x") == 1),
            ["task a: text is a condition, which is asked by when() and is no value"],
        ),
        (loop([1, "a", None]), ['each("r") goes over items of different types: None, int, str']),
        (loop([None]), ['each("r") goes over None, which is of no type']),
        (loop([1, 2.5]), ["task n: n wants int, and Item('r') is float"]),
        (loop([{"a": 1}, {"b": 1}], "a"), ['each("r") goes over items whose a is not there in item 1, or None']),
        (loop([{"a": 1}, {"a": "b"}], "a"), ['each("r") goes over items whose a is of different types: int, str']),
        (
            out_of_a_branch,
            ["the pipeline's output x is FirstOf('a.output', 'b.output'): they are within a when(), and this is not"],
        ),
    ],
)
def test_a_pipeline_that_cannot_be_is_told(source: Path, write: Callable[[Pipeline], Any], words: list[str]) -> None:
    assert findings(source, write) == words


@pytest.mark.parametrize(("of", "shown"), [(Param("x"), "Param('x')"), (Status(), "Status()")])
def test_an_output_of_the_pipeline_is_one_of_a_task(source: Path, of: Any, shown: str) -> None:
    def write(p: Pipeline) -> None:
        p.task("a", "shop.steps:say")
        p.output("x", of)

    assert findings(source, write) == [f"the pipeline's output x is {shown}; an output of a task is wanted"]


def test_a_step_in_a_file_that_is_no_python_is_told_by_its_line(source: Path) -> None:
    (source / "shop" / "steps.py").write_text("x = 1\ndef say(:\n")
    (message,) = findings(source, lambda p: p.task("a", "shop.steps:say", text=Value("a.b")))[:1]
    assert message.endswith("shop.steps is not valid Python: src/shop/steps.py:2: invalid syntax")
