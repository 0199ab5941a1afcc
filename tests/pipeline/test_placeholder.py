"""Placeholders in a container's texts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trilho.pipeline.ir.placeholder import Filling, PlaceholderError

REQUEST: dict[str, Any] = {
    "inputs": {
        "parameterValues": {"n": 3, "x": 1.0, "s": "it's {{$.inputs.parameters['n']}}", "list": [1, "a"], "yes": True},
        "artifacts": {"m": {"artifacts": [{"name": "m", "uri": "/m", "metadata": {"auc": 0.7}}, {"uri": "/m2"}]}},
    },
    "outputs": {
        "outputFile": "/out.json",
        "parameters": {"y": {"outputFile": "/y"}},
        "artifacts": {"data": {"artifacts": [{"name": "data", "uri": "/data", "metadata": {}}]}},
    },
}
FILLING = Filling(REQUEST, {"pipeline_job_name": "job", "pipeline_root": "gs://b/r"})


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("plain", "plain"),
        ("{{$.inputs.parameters['n']}}", "3"),
        ('{{$.inputs.parameters["x"]}}', "1"),
        ("a{{$.inputs.parameters['n']}}b{{$.inputs.parameters['yes']}}c", "a3btruec"),
        ("{{$.inputs.parameters['s']}}", "it's {{$.inputs.parameters['n']}}"),
        ("{{$.inputs.parameters['list']}}", '[1, "a"]'),
        ("{{$.inputs.artifacts['m'].uri}} {{$.inputs.artifacts['m'].path}}", "/m /m"),
        ("{{$.inputs.artifacts['m'][1].uri}}", "/m2"),
        ("{{$.inputs.artifacts['m'].metadata['auc']}}", "0.7"),
        ("{{$.outputs.artifacts['data'].path}}", "/data"),
        ("{{$.outputs.parameters['y'].output_file}}", "/y"),
        ("{{$.outputs.output_file}}", "/out.json"),
        ("{{$.pipeline_job_name}} {{$.pipeline_root}}/x", "job gs://b/r/x"),
        ("{{$.inputs.parameters['list'].json_escape[1]}}", '[1, \\"a\\"]'),
        ("{not a placeholder}", "{not a placeholder}"),
    ],
)
def test_what_placeholders_stand_for(text: str, filled: str) -> None:
    assert FILLING.text(text) == filled


def test_the_whole_request_can_be_had() -> None:
    assert json.loads(FILLING.text("{{$}}")) == REQUEST
    assert json.loads(json.loads('"' + FILLING.text("{{$.json_escape[1]}}") + '"')) == REQUEST


@pytest.mark.parametrize(
    ("words", "filled"),
    [
        (['{"Concat": ["--n=", "{{$.inputs.parameters[\'n\']}}"]}'], ["--n=3"]),
        (['{"IfPresent": {"InputName": "n", "Then": "yes", "Else": "no"}}'], ["yes"]),
        (['{"IfPresent": {"InputName": "z", "Then": "yes", "Else": ["a", "b"]}}'], ["a", "b"]),
        (["x", '{"IfPresent": {"InputName": "z", "Then": ["yes"]}}', "y"], ["x", "y"]),
        (['{"IfPresent": {"InputName": "m", "Then": ["--m", "{{$.inputs.artifacts[\'m\'].uri}}"]}}'], ["--m", "/m"]),
        (['{"Concat": ["a", {"IfPresent": {"InputName": "z", "Then": "b", "Else": "c"}}, "d"]}'], ["acd"]),
        (['{"Concat": ["a", {"Concat": ["b", "{{$.inputs.parameters[\'n\']}}"]}]}'], ["ab3"]),
        (['{"json": "of the user\'s"}'], ['{"json": "of the user\'s"}']),
        (['{"Concat": broken'], ['{"Concat": broken']),
    ],
)
def test_words_that_are_put_together_or_left_out(words: list[str], filled: list[str]) -> None:
    assert FILLING.words(words) == filled


def test_constants_are_filled_in_wherever_their_texts_are() -> None:
    given = {"a": ["{{$.inputs.parameters['n']}}!", "{{$.inputs.parameters['list']}}", 5], "b": None}
    assert FILLING.value(given) == {"a": ["3!", [1, "a"], 5], "b": None}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{{$.inputs.parameters['z']}}", "there is no z"),
        ("{{$.inputs.artifacts['m'][2].uri}}", "there are 2 artifacts"),
        ("{{$.outputs.artifacts['z'].uri}}", "there is no z"),
        ("{{$.something_else}}", "stands for nothing here"),
    ],
)
def test_a_placeholder_for_what_is_not_there_is_an_error(text: str, why: str) -> None:
    with pytest.raises(PlaceholderError) as caught:
        FILLING.text(text)
    assert why in str(caught.value)
