"""A definition is read, linked, and asked of the project's interpreter only when its code has changed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from trilho.pipeline.definition.document import (
    Definition,
    GraphError,
    Place,
    load_definition,
    read_interfaces,
    references_in,
    values_in,
)
from trilho_runtime.pipeline import Param, Pipeline, Value
from trilho_runtime.step import Model

SHOP = """
import os
from trilho_runtime.pipeline import Pipeline, Value
from shop.names import NAME

def nightly():
    with open(os.environ["SHOP_ASKED"], "a") as file:
        file.write("asked\\n")
    p = Pipeline(NAME)
    p.task("load", "shop.steps:load")
    p.task("fit", "shop.steps:fit", table="load.table", name="load.table", rows=Value("load.output"))
    return p

def changed(standard):
    standard.task("more", "shop.steps:load")
    return standard

def broken():
    return 1 / 0

def talking():
    import atexit
    print("hello")
    atexit.register(print, "goodbye")
    return nightly()
"""
STEPS = """
from trilho_runtime.step import In, Model, Out, Table, step

@step
def load(table: Out[Table]) -> int: ...

@step
def fit(table: In[Table], model: Out[Model], name: str, rows: int) -> None: ...

@step
def use(model: In[Model]) -> None: ...
"""


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package = tmp_path / "src" / "shop"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "pipeline.py").write_text(SHOP)
    (package / "steps.py").write_text(STEPS)
    (package / "names.py").write_text("NAME = 'nightly'\n")
    monkeypatch.setenv("SHOP_ASKED", str(tmp_path / "asked"))
    return package.parent


def load(source: Path, reference: str | None = "shop.pipeline:nightly", standard: Pipeline | None = None) -> Definition:
    home = source.parent / "home"
    return load_definition(reference, standard, python=Path(sys.executable), source=source, home=home)


def asked(source: Path) -> int:
    return len((source.parent / "asked").read_text().splitlines())


def test_a_text_is_a_reference_where_an_artifact_is_wanted(source: Path) -> None:
    found = load(source)
    assert found.name == "nightly"
    assert found.tasks[1].arguments == {
        "table": {"ref": "load.table"},
        "name": {"const": "load.table"},
        "rows": {"ref": "load.output"},
    }
    assert found.tasks[1].at == Place(str(source / "shop" / "pipeline.py"), 11)
    assert list(read_interfaces(found, source)) == ["shop.steps:load", "shop.steps:fit"]


def test_the_project_is_asked_again_only_when_its_code_has_changed(source: Path) -> None:
    first = load(source)
    assert load(source) == first
    assert asked(source) == 1
    (source / "shop" / "steps.py").write_text(STEPS + "\n# a step is not what the pipeline is written with\n")
    assert load(source) == first
    assert asked(source) == 1
    (source / "shop" / "names.py").write_text("NAME = 'weekly'\n")
    assert load(source).name == "weekly"
    assert asked(source) == 2


def test_a_project_changes_the_standard_pipeline(source: Path) -> None:
    standard = Pipeline("train")
    standard.task("load", "shop.steps:load")
    assert [task.name for task in load(source, "shop.pipeline:changed", standard).tasks] == ["load", "more"]
    standard.task("later", "shop.steps:load")
    assert [task.name for task in load(source, "shop.pipeline:changed", standard).tasks] == ["load", "later", "more"]


def test_the_standard_pipeline_needs_no_process(source: Path) -> None:
    standard = Pipeline("train")
    standard.artifact("champion", uri=Param("uri"), kind=Model)
    standard.task("use", "shop.steps:use", model="champion")
    standard.output("model", "champion")
    found = load_definition(None, standard, python=Path("/nowhere"), source=source, home=source.parent / "home")
    assert found.tasks[0].import_ == {"uri": {"param": "uri"}, "kind": "model"}
    assert found.tasks[0].given() == {"uri": {"param": "uri"}}
    assert found.tasks[1].arguments == {"model": {"ref": "champion.artifact"}}
    assert found.outputs == {"model": {"ref": "champion.artifact"}}


def test_code_that_fails_is_told_and_asked_again(source: Path) -> None:
    for _ in range(2):
        with pytest.raises(GraphError) as told:
            load(source, "shop.pipeline:broken")
        assert told.value.exit_code == 2
        assert told.value.fact.startswith("shop.pipeline:broken fails: ")
        assert told.value.fact.endswith("pipeline.py:19: ZeroDivisionError: division by zero")


def test_what_the_code_prints_is_no_definition(source: Path) -> None:
    assert load(source, "shop.pipeline:talking").name == "nightly"


def test_an_interpreter_that_is_not_there_is_told(source: Path) -> None:
    with pytest.raises(Exception, match="/nowhere/python"):
        load_definition(
            "shop.pipeline:nightly", None, python=Path("/nowhere/python"), source=source, home=source.parent / "home"
        )


def test_a_definition_of_a_later_schema_is_refused() -> None:
    with pytest.raises(GraphError, match="a pipeline's definition has schema 9; this trilho reads 1"):
        Definition.read({"schema": 9})


def test_a_definition_holds_all_that_was_written() -> None:
    p = Pipeline("p")
    p.task("a", "shop.steps:load", after=["b"], retries=2, code=["*"], timeout_seconds=5.5, cpu=2)
    with p.when(Value("a.output") > 1, name="more"):
        p.task("b", "shop.steps:load")
    p.on_exit("c", "shop.steps:load")
    found = Definition.read(json.loads(json.dumps(p.definition())))
    task, group = found.tasks[0], found.groups[0]
    assert (task.after, task.retries, task.code, task.timeout_seconds, task.cpu) == (("b",), 2, ("*",), 5.5, 2)
    assert (task.cache, task.uncounted, task.ignore_failure) == (None, None, False)
    assert (group.name, group.kind, group.title) == ("more", "when", "more")
    assert [task.name for task in found.all_tasks()] == ["a", "b", "c"]
    assert found.steps() == ["shop.steps:load"]


def test_what_a_condition_reads_is_found() -> None:
    one: dict[str, Any] = {"op": "==", "left": {"ref": "a.x"}, "right": {"const": 1}}
    two: dict[str, Any] = {"op": "<", "left": {"param": "p"}, "right": {"first_of": ["b.x", "c.x"]}}
    condition = {"all": [one, {"not": {"any": [two]}}]}
    assert references_in(condition) == ["a.x", "b.x", "c.x"]
    assert list(values_in(condition)) == [one["left"], one["right"], two["left"], two["right"]]
