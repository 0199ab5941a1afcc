"""What a step takes and gives is read from its text; nothing of the project is imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from trilho.pipeline.definition.interface import MISSING, Input, Parameter, read_step

STEPS = """
raise RuntimeError("a step's module must not be imported to be read")

import typing as t
from typing import Any, Dict, List, Optional, Union
import trilho_runtime.step as rail
from trilho_runtime.step import In as Read, Out, step as mark
from . import kinds
from .kinds import RATE, Names, Found

if t.TYPE_CHECKING:
    import pandas as pd

SHARE = 0.25

@mark(retries=2, cpu="2", uncounted=("where",), side_effect=True)
def everything(
    table: Read[rail.Table],
    models: "Read[list[rail.Model]]",
    others: list[Read[rail.Model]],
    any_file: Read,
    out: Out["rail.Metrics"],
    text: str,
    names: Names,
    old: List[str],
    options: Optional[Dict[str, Any]] = None,
    count: "int | None" = 3,
    flag: bool = False,
    *,
    rate: Union[float, None] = RATE,
    share: float = SHARE,
    where: str = kinds.WHERE,
) -> Found: ...

@rail.step
def nothing() -> None: ...

@rail.step
def one() -> "list[int]": ...
"""
KINDS = """
from typing import List, NamedTuple, TypedDict
RATE = -0.5
WHERE = "here"
Names = List[str]

class Base(TypedDict):
    rows: int

class Found(Base, total=False):
    by_day: dict[str, float]
    label: str

class Pair(NamedTuple):
    rows: int
    until: str = ""
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    package = tmp_path / "src" / "shop"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from .steps import everything\n")
    (package / "steps.py").write_text(STEPS)
    (package / "kinds.py").write_text(KINDS)
    return package.parent


def test_every_form_of_a_type_is_read(source: Path) -> None:
    found = read_step(source, "shop.steps:everything")
    assert found.problems == ()
    assert found.inputs == {
        "table": Input("table"),
        "models": Input("model", is_list=True),
        "others": Input("model", is_list=True),
        "any_file": Input("file"),
    }
    assert found.outputs == {"out": "metrics"}
    assert found.parameters == {
        "text": Parameter("str", False, MISSING),
        "names": Parameter("list", False, MISSING),
        "old": Parameter("list", False, MISSING),
        "options": Parameter("dict", True, None),
        "count": Parameter("int", True, 3),
        "flag": Parameter("bool", False, False),
        "rate": Parameter("float", True, -0.5),
        "share": Parameter("float", False, 0.25),
        "where": Parameter("str", False, "here"),
    }
    assert found.values == {"rows": "int", "by_day": "dict", "label": "str"}
    assert found.options == {"retries": 2, "cpu": "2", "uncounted": ("where",), "side_effect": True}
    assert (Path(found.file).name, found.line) == ("steps.py", 17)
    assert [name for name, parameter in found.parameters.items() if parameter.required] == ["text", "names", "old"]


def test_output_values_are_none_one_or_several(source: Path) -> None:
    assert read_step(source, "shop.steps:nothing").values == {}
    assert read_step(source, "shop.steps:one").values == {"output": "list"}


def test_a_step_is_found_where_it_is_imported_from(source: Path) -> None:
    found = read_step(source, "shop:everything")
    assert (Path(found.file).name, found.values["rows"]) == ("steps.py", "int")


def test_a_changed_file_is_read_again(source: Path) -> None:
    assert read_step(source, "shop.steps:one").values == {"output": "list"}
    steps = source / "shop" / "steps.py"
    steps.write_text(STEPS.replace('-> "list[int]"', "-> kinds.Pair"))
    assert read_step(source, "shop.steps:one").values == {"rows": "int", "until": "str"}


@pytest.mark.parametrize(
    ("reference", "message", "hint"),
    [
        ("shop.steps:evrything", "no function evrything in shop.steps", "did you mean 'shop.steps:everything'?"),
        ("shop.steps:SHARE", "shop.steps:SHARE is no function", ""),
        ("shop.step:one", "no module shop.step in src/", "did you mean 'shop.steps:one'?"),
        ("everything", "'everything' names no function", 'a step is named "package.module:function"'),
        ("__main__:one", "__main__:one cannot be imported", "define it at the top of a module"),
        (
            "shop.steps:f.<locals>.g",
            "shop.steps:f.<locals>.g cannot be imported",
            "define it at the top of a module",
        ),
        (
            "trilho.train.nosteps:fit",
            "no module trilho.train.nosteps in src/",
            "did you mean 'trilho.train.steps:fit'?",
        ),
    ],
)
def test_a_step_that_is_not_there_is_told(source: Path, reference: str, message: str, hint: str) -> None:
    found = read_step(source, reference)
    assert not found.found
    assert [(problem.rule, problem.message, problem.hint) for problem in found.problems] == [
        ("unknown step", message, hint)
    ]


def test_a_module_that_is_no_python_is_told(source: Path) -> None:
    (source / "shop" / "steps.py").write_text("def one(:\n")
    (problem,) = read_step(source, "shop.steps:one").problems
    assert problem.message.startswith("shop.steps is not valid Python: ")


def test_steps_of_ours_are_read_from_where_they_are() -> None:
    found = read_step(None, "trilho_runtime.fit:fit")
    assert (found.inputs, found.outputs) == ({"table": Input("table")}, {"model": "model"})
    assert read_step(None, "trilho.train.steps:split").problems == ()


def test_without_a_source_folder_no_step_is_known() -> None:
    assert read_step(None, "shop.steps:one").problems[0].message == "no source folder is known to hold shop.steps:one"
