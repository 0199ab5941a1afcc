"""The rules together: a sound pipeline, names, parameters, warnings, and how errors are told."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from tests.pipeline.rules.nightly import begin, errors, find, task

from trilho.pipeline.definition.document import Definition, linked, read_interfaces
from trilho.pipeline.rules.check import RULES, GraphError, require_sound
from trilho_runtime.pipeline import Collected, FirstOf, Param, Pipeline, Status, Value
from trilho_runtime.step import Model


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
