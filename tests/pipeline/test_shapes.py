"""Documents that are wrong in shape or size, placeholders that stand for nothing: named before anything runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from trilho.errors import UsageError
from trilho.pipeline.execution.execute import check_placeholders
from trilho.pipeline.ir.reader import ComponentInput, Input, IrError, parse, read
from trilho.pipeline.places import Places
from trilho.pipeline.workers.workers import Workers
from trilho.pipelines import parameters_of


def document(**container: Any) -> dict[str, Any]:
    """A pipeline of one loop over a container."""
    return {
        "schemaVersion": "2.1.0",
        "pipelineInfo": {"name": "p"},
        "deploymentSpec": {"executors": {"exec": {"container": {"image": "x", "command": ["true"], **container}}}},
        "components": {
            "comp": {
                "executorLabel": "exec",
                "inputDefinitions": {"parameters": {"n": {"parameterType": "STRUCT"}, "m": {"parameterType": "LIST"}}},
                "outputDefinitions": {"artifacts": {"model": {"artifactType": {"schemaTitle": "system.Model"}}}},
            }
        },
        "root": {"dag": {"tasks": {"t": {"componentRef": {"name": "comp"}, "inputs": {"parameters": {}}}}}},
    }


def task(found: dict[str, Any]) -> dict[str, Any]:
    held: dict[str, Any] = found["root"]["dag"]["tasks"]["t"]
    return held


def with_constant(value: Any) -> dict[str, Any]:
    found = document()
    task(found)["inputs"]["parameters"]["n"] = {"runtimeValue": {"constant": value}}
    return found


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"dependentTasks": 5}, "root: task t: dependentTasks is a number, and a list is wanted"),
        ({"dependentTasks": [None]}, "root: task t: dependentTasks holds empty, and text is wanted"),
        ({"triggerPolicy": {"condition": 5}}, "root: task t: condition is a number, and text is wanted"),
        ({"retryPolicy": {"maxRetryCount": "many"}}, "maxRetryCount is 'many', and a whole number from 0 on is wanted"),
        ({"retryPolicy": {"maxRetryCount": 1, "backoffFactor": "x"}}, "backoffFactor is 'x', and a number from 0 on"),
        ({"iteratorPolicy": {"parallelismLimit": -1}}, "parallelismLimit is -1, and a whole number from 0 on"),
        ({"parameterIterator": {"itemInput": "n", "items": {"raw": 5}}}, "raw is a number, and text is wanted"),
    ],
)
def test_a_task_of_the_wrong_shape_is_told_by_place(change: dict[str, Any], fact: str) -> None:
    found = document()
    task(found).update(change)
    with pytest.raises(IrError) as caught:
        read(found)
    assert fact in caught.value.fact


@pytest.mark.parametrize("words", [None, 5, True, "sh", [["sh"]]])
def test_a_command_that_is_no_list_of_texts_is_told(words: Any) -> None:
    with pytest.raises(IrError, match="executor exec: command"):
        read(document(command=words))


def test_an_executor_of_an_unknown_kind_is_told() -> None:
    found = document()
    found["deploymentSpec"]["executors"]["exec"] = {"wasm": {}}
    with pytest.raises(IrError, match="executor exec is of kind 'wasm'; known are container, importer"):
        read(found)


def test_aliases_that_stand_for_billions_of_values_are_not_followed() -> None:
    value: Any = ["x"] * 10
    for _ in range(12):
        value = {"k": [value] * 10}
    with pytest.raises(IrError, match=r"its aliases make 1[0-9]{13} values"):
        read(with_constant(value))


def test_what_holds_itself_or_is_nested_too_deep_is_told() -> None:
    circle: dict[str, Any] = {}
    circle["k"] = circle
    with pytest.raises(IrError, match="or holds itself"):
        read(with_constant(circle))
    with pytest.raises(IrError, match="nested deeper than 200 levels"):
        parse("a: " + "[" * 300 + "]" * 300)
    with pytest.raises(IrError, match="nested"):
        parse('{"a":' * 100_000 + "1" + "}" * 100_000)


def test_a_long_list_of_small_values_is_read() -> None:
    assert read(with_constant([1] * 1_500_000)).name == "p"


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("{{$.nonsense}}", "task t: {{$.nonsense}} stands for nothing here"),
        ("{{$.inputs.parameters['z']}}", "task t: {{$.inputs.parameters['z']}}: there is no z"),
        ('{{$.outputs.artifacts["z"].uri}}', 'task t: {{$.outputs.artifacts["z"].uri}}: there is no z'),
        ('{"IfPresent": 5}', "task t: IfPresent holds 5, which is no map"),
        ('{"Concat": 5}', "task t: 5 is neither text nor Concat nor IfPresent"),
    ],
)
def test_a_placeholder_that_stands_for_nothing_is_told_before_anything_runs(text: str, fact: str) -> None:
    with pytest.raises(IrError) as caught:
        check_placeholders(read(document(args=[text])))
    assert caught.value.fact == fact


def test_placeholders_that_will_stand_for_something_pass() -> None:
    texts = ["{{$}}", "{{$.inputs.parameters['n']}}", "{{$.outputs.artifacts['model'].metadata['any']}}"]
    texts += ["{{$.pipeline_job_name}}", "{{$.pipeline_task_uuid}}", "{{$.outputs.artifacts['model'].path}}"]
    check_placeholders(read(document(args=texts, env=[{"name": "A", "value": "{{$.pipeline_root}}"}])))


def test_a_chain_of_conditions_on_a_field_of_an_item_takes_it_as_the_chain_was_given_it() -> None:
    field = "pipelinechannel--loop-item-param-1-subvar-n"
    found = document()
    selected = {"componentInputParameter": "pipelinechannel--loop-item-param-1",
                "parameterExpressionSelector": 'parseJson(string_value)["n"]'}  # fmt: skip
    inner = {"componentRef": {"name": "comp"}, "inputs": {"parameters": {field: selected}}}
    takes = {"parameters": {field: {"parameterType": "STRUCT"}}}
    found["components"]["comp"]["inputDefinitions"] = takes
    found["components"]["chain"] = {"dag": {"tasks": {"branch": inner}}, "inputDefinitions": takes}
    task(found).update({"componentRef": {"name": "chain"}})
    task(found)["inputs"]["parameters"][field] = {"runtimeValue": {"constant": json.loads('{"a": 1}')}}
    dag = read(found).components["chain"].dag
    assert dag is not None
    assert dag.tasks["branch"].parameters[field] == Input(ComponentInput(field), None)


@pytest.mark.parametrize("settings", [{"secretAsEnv": 5}, {"pvcMount": [5]}, {"secretAsEnv": [{"keyToEnv": 5}]}])
def test_a_second_document_of_the_wrong_shape_is_told(settings: dict[str, Any], tmp_path: Path) -> None:
    second = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {"exec": settings}}}}}
    python = Path(sys.executable)
    places = Places(python=python, source=None, folder=tmp_path, platform=python)
    with Workers(places, tmp_path) as workers, pytest.raises(IrError, match="the second document: "):
        workers.check(read(document(), second), {})


@pytest.mark.parametrize("text", ['{"a": NaN}', '{"a": Infinity}', "[" * 100_000])
def test_a_parameter_that_is_no_json_is_told(text: str) -> None:
    found = document()
    found["root"]["inputDefinitions"] = {"parameters": {"n": {"parameterType": "STRUCT"}}}
    with pytest.raises(UsageError, match="an object as JSON is wanted"):
        parameters_of(read(found), [f"n={text}"])
