"""Loops whose items have no name or type of their own in KFP: each reads its own item, of the type that it has."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from trilho.backends.local.store import LocalStore
from trilho.pipeline.compile.compiler import compile_definition
from trilho.pipeline.definition.document import Definition, linked, read_interfaces
from trilho.pipeline.execution.execute import execute
from trilho.pipeline.ir.reader import read
from trilho.pipeline.places import Places
from trilho.pipeline.rules.check import require_sound
from trilho_runtime.pipeline import Collected, FirstOf, Item, Param, Pipeline, Status, Value

STEPS = """
from typing import NamedTuple
from trilho_runtime.step import step

class Plan(NamedTuple):
    sizes: list[int]
    names: list[str]

@step
def plan(n: int = 3) -> Plan:
    return Plan(list(range(n)), [f"r{i}" for i in range(n)])

@step
def add(a: int, b: int = 1) -> int:
    return a + b

@step
def say(text: str = "") -> str:
    return text

@step
def joined(parts: list, scores: list[float] = []) -> str:
    return repr(parts) + repr(scores)

@step
def tell(status: dict) -> None: ...
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    package = tmp_path / "src" / "shop"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "steps.py").write_text(STEPS)
    return package.parent


def document(pipeline: Pipeline, source: Path) -> dict[str, Any]:
    definition = linked(Definition.read(pipeline.definition()), source)
    interfaces = read_interfaces(definition, source)
    require_sound(definition, interfaces)
    found = compile_definition(definition, interfaces, image="trilho.local/shop")
    _taken_by_the_sdk(found)
    return found


def _taken_by_the_sdk(found: dict[str, Any]) -> None:
    from google.protobuf import json_format
    from kfp import components
    from kfp.pipeline_spec import pipeline_spec_pb2

    json_format.ParseDict(found, pipeline_spec_pb2.PipelineSpec())
    components.load_component_from_text(json.dumps(found))


def outputs(pipeline: Pipeline, source: Path, **parameters: Any) -> dict[str, Any]:
    home = source.parent / "home"
    python = Path(sys.executable)
    places = Places(python=python, source=source, folder=source.parent, platform=python)
    spec, store = read(document(pipeline, source)), LocalStore(home / "store")
    result = execute(spec, parameters, run_id="r1", home=home, store=store, places=places)
    assert result.state == "succeeded", result.error
    return dict(result.outputs)


def test_a_loop_within_a_loop_over_the_same_list_has_an_item_of_its_own(source: Path) -> None:
    p = Pipeline("p", parameters={"words": ["x", "y"]})
    p.task("plan", "shop.steps:plan")
    with p.each("i", over=Value("plan.sizes")), p.each("k", over=Value("plan.sizes")):
        p.task("add", "shop.steps:add", a=Item("i"), b=Item("k"))
    with p.each("v", over=Param("words")), p.each("w", over=Param("words")):
        p.task("say", "shop.steps:joined", parts=["-"])
        with p.when(Item("v") == Item("w")):
            p.task("same", "shop.steps:say", text=Item("v"))
        with p.otherwise():
            p.task("other", "shop.steps:say", text=Item("w"))
        p.task("which", "shop.steps:say", text=FirstOf("same.output", "other.output"))
    p.output("sums", Collected("add.output"))
    p.output("words", Collected("which.output"))
    found = outputs(p, source)
    assert found["sums"] == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]
    assert found["words"] == [["x", "y"], ["x", "y"]]


def test_an_item_is_of_the_type_that_its_list_declares_or_that_it_is_compared_with(source: Path) -> None:
    p = Pipeline("p", parameters={"least": 1, "more": [1, 2]})
    p.task("plan", "shop.steps:plan")
    with p.each("i", over=Value("plan.sizes")):
        with p.when(Item("i") >= Param("least")):
            p.task("yes", "shop.steps:say", text="yes")
        with p.otherwise():
            p.task("no", "shop.steps:say", text="no")
        p.task("which", "shop.steps:say", text=FirstOf("yes.output", "no.output"))
    with p.each("m", over=Param("more")), p.when(Item("m") > 1):
        p.task("large", "shop.steps:say")
    p.output("x", Collected("which.output"))
    assert outputs(p, source) == {"x": ["no", "yes", "yes"]}


def test_what_one_branch_or_the_other_made_passes_what_an_exit_task_follows(source: Path) -> None:
    p = Pipeline("p", parameters={"a": 1})
    with p.when(Param("a") == 1):
        p.task("x", "shop.steps:say", text="one")
    with p.otherwise():
        p.task("y", "shop.steps:say", text="other")
    p.on_exit("tell", "shop.steps:tell", status=Status())
    p.output("said", FirstOf("x.output", "y.output"))
    p.output("again", FirstOf("x.output", "y.output"))
    assert outputs(p, source, a=2) == {"said": "other", "again": "other"}


def test_whole_numbers_in_a_list_are_given_as_its_type_has_them(source: Path) -> None:
    p = Pipeline("p")
    p.task("j", "shop.steps:joined", parts=[1.0], scores=[1, 2.5])
    p.output("x", "j.output")
    assert outputs(p, source) == {"x": "[1][1.0, 2.5]"}
