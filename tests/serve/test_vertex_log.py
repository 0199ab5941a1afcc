"""What Vertex AI logs, read as lines of ours, whatever form its payloads have."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from trilho.serve import vertex_log
from trilho.serve.segments import LocalPredictionLog
from trilho_runtime.prediction.mask import Mask

TIME = datetime(2024, 5, 1, 10, tzinfo=UTC)
TWO: list[dict[str, Any]] = [{"x": 1.5, "city": "Recife"}, {"x": 2, "city": None}]


def row(request: list[str], response: list[str], **more: Any) -> dict[str, Any]:
    return {
        "endpoint": "77", "deployed_model_id": "8123456789", "logging_time": TIME, "request_id": Decimal(4567),
        "request_payload": request, "response_payload": response, **more,
    }  # fmt: skip


def read(*rows: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    return vertex_log.read(rows, fields=["x", "city"], versions={"8123456789": 3}, **more)


@pytest.mark.parametrize(
    "request_payload",
    [
        [json.dumps({"instances": TWO, "parameters": {}})],
        [json.dumps(TWO)],
        [json.dumps(one) for one in TWO],
        [json.dumps({"instances": [list(one.values()) for one in TWO]})],
        [json.dumps([list(one.values()) for one in TWO])],
        [json.dumps(list(one.values())) for one in TWO],
    ],
)
@pytest.mark.parametrize(
    "response_payload",
    [['{"predictions": [0.25, 0.75], "model": "bike"}'], ["[0.25, 0.75]"], ["0.25", "0.75"], ["[0.25]", "[0.75]"],
     ['{"0": 0.75, "1": 0.25}', '{"0": 0.25, "1": 0.75}']],
)  # fmt: skip
def test_every_form_of_the_payloads_is_read_alike(request_payload: list[str], response_payload: list[str]) -> None:
    common = {"v": 2, "t": "2024-05-01T10:00:00+00:00", "n": 3}
    assert read(row(request_payload, response_payload)) == [
        {**common, "id": "4567.0", "x": TWO[0], "y": 0.25},
        {**common, "id": "4567.1", "x": TWO[1], "y": 0.75},
    ]


def test_full_entries_name_id_version_decision_and_classes() -> None:
    entries = [
        {"id": "ab.0", "score": 0.6, "version": 4, "decision": "offer", "decision_version": "2"},
        {"id": "ab.1", "score": 0.5, "probabilities": {"a": 0.2, "b": 0.5, "c": 0.3}, "version": 4},
    ]
    found = read(row([json.dumps({"instances": TWO})], [json.dumps({"predictions": entries})]))
    assert [(line["id"], line["n"], line["y"]) for line in found] == [("ab.0", 4, 0.6), ("ab.1", 4, 0.5)]
    assert (found[0]["d"], found[0]["dn"]) == ("offer", "2")
    assert (found[1]["c"], found[1]["p"]) == ("b", [0.2, 0.5, 0.3])


def test_the_probabilities_of_classes_are_read_from_plain_answers() -> None:
    (line,) = read(row([json.dumps(TWO[0])], ['{"red": 0.1, "blue": 0.9}']))
    assert (line["y"], line["c"], line["p"]) == (0.9, "blue", [0.1, 0.9])


def test_a_single_field_takes_bare_values() -> None:
    (line,) = vertex_log.read([row(["3.5"], ["1"])], fields=["x"], versions={"8123456789": 1})
    assert (line["x"], line["y"]) == ({"x": 3.5}, 1.0)


@pytest.mark.parametrize("time", ["2024-05-01 10:00:00 UTC", "2024-05-01T10:00:00Z", TIME, TIME.replace(tzinfo=None)])
@pytest.mark.parametrize("number", [4567, "4567", Decimal("4567"), "4567.000000000"])
def test_times_and_numbers_are_read_as_clients_and_exports_give_them(time: Any, number: Any) -> None:
    (line,) = read(row([json.dumps(TWO[0])], ["1"], logging_time=time, request_id=number))
    assert (line["id"], line["t"]) == ("4567.0", "2024-05-01T10:00:00+00:00")


@pytest.mark.parametrize(
    ("request_payload", "response_payload", "more"),
    [
        (["not JSON"], ["1"], {}),
        ([json.dumps({"instances": TWO})], ["[1.0]"], {}),
        (["[1, 2, 3]"], ["1"], {}),
        (["{}"], ['"an error"'], {}),
        (["{}"], ["1"], {"deployed_model_id": "another"}),
        (["{}"], ["1"], {"logging_time": None}),
        (None, None, {}),
    ],
)
def test_what_cannot_be_read_is_counted(tmp_path: Path, request_payload: Any, response_payload: Any, more: Any) -> None:
    log = LocalPredictionLog(tmp_path)
    lines = read(row(request_payload, response_payload, **more), row([json.dumps(TWO[0])], ["7"], request_id=1))
    vertex_log.append(tmp_path, lines)
    log.seal()
    assert log.counters() == {"served": 1, "torn": 1}
    assert log.rows(TIME, TIME + timedelta(days=1))["_id"].tolist() == ["1.0"]


def test_what_is_read_is_masked_as_a_server_would() -> None:
    mask = Mask.parse({"city": "hash", "x": "drop"}, "a secret")
    (line,) = read(row([json.dumps(TWO[0])], ["1"]), mask=mask)
    assert line["x"] == {"city": mask.hash("Recife")}
