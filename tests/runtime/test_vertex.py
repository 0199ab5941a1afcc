"""The contract of Vertex AI's custom containers, in process and with Google's own client."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.aiplatform_v1.services.prediction_service import PredictionServiceClient
from google.cloud.aiplatform_v1.services.prediction_service.transports.rest import PredictionServiceRestTransport
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Value
from tests.runtime.protocol_server import ANSWER, ROW, Plane
from tests.runtime.serving import ANSWER as WHOLE_ANSWER
from tests.runtime.serving import ROW as WHOLE_ROW
from tests.runtime.serving import Launcher, call, until

from trilho_runtime.model.outputs import Outputs
from trilho_runtime.prediction.entries import Telling
from trilho_runtime.prediction.job import Outcome
from trilho_runtime.protocols.plane import check_size, told_headers
from trilho_runtime.protocols.vertex import Platform, Vertex, read_entries, read_parameters, read_past, read_rows
from trilho_runtime.web.http import HttpError

SERVER = "tests.runtime.protocol_server"
ENDPOINT = "projects/1/locations/us-central1/endpoints/2"
ENVIRONMENT = {
    "AIP_HTTP_PORT": "0",
    "AIP_MODE": "PREDICTION",
    "AIP_HEALTH_ROUTE": "/v1/endpoints/2/deployedModels/3",
    "AIP_PREDICT_ROUTE": f"/v1/{ENDPOINT}:predict",
    "AIP_STORAGE_URI": "gs://bucket/model",
    "AIP_ENDPOINT_ID": "2",
    "AIP_DEPLOYED_MODEL_ID": "3",
}


@pytest.fixture(scope="module")
def launch_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    launcher = Launcher(tmp_path_factory.mktemp("vertex"), Path(sys.executable))
    yield launcher
    launcher.end()


@pytest.fixture(scope="module")
def address(launch_here: Launcher) -> str:
    env = {**os.environ, **ENVIRONMENT}
    return launch_here.run(Path(sys.executable), SERVER, env=env).wait_until_ready()


def test_what_vertex_says_in_the_environment_is_read() -> None:
    platform = Platform.read({**ENVIRONMENT, "AIP_HTTP_PORT": "8080"})
    assert platform is not None
    assert (platform.host, platform.port) == ("0.0.0.0", 8080)
    assert platform.health_route == "/v1/endpoints/2/deployedModels/3"
    assert (platform.storage_uri, platform.endpoint, platform.deployed_model) == ("gs://bucket/model", "2", "3")
    assert Platform.read({"AIP_PREDICT_ROUTE": "/predict"}) is None


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("AIP_HTTP_PORT", "http", "AIP_HTTP_PORT is 'http'; allowed: a port"),
        ("AIP_HTTP_PORT", "65536", "allowed: a port"),
        ("AIP_HTTP_PORT", "9" * 5000, "allowed: a port"),
        ("AIP_HTTP_PORT", "-1", "allowed: a port"),
        ("AIP_HEALTH_ROUTE", "/health/*", "allowed: a path"),
        ("AIP_PREDICT_ROUTE", "/pre dict", "allowed: a path"),
        ("AIP_PREDICT_ROUTE", "/predict?x=1", "allowed: a path"),
        ("AIP_PREDICT_ROUTE", "/labels", "where labels are taken"),
        ("AIP_HTTP_PORT", "٣", "allowed: a port"),
        ("AIP_PREDICT_ROUTE", "predict", "AIP_PREDICT_ROUTE is 'predict'; allowed: a path that begins with /"),
    ],
)
def test_an_environment_that_cannot_be_is_one_clear_error(name: str, value: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Platform.read({**ENVIRONMENT, name: value})


@pytest.mark.parametrize(
    ("instances", "rows"),
    [
        ([{"a": 1}], [{"a": 1}]),
        ([[1, "x"], {"a": 2}], [{"a": 1, "b": "x"}, {"a": 2}]),
        ([], []),
    ],
)
def test_instances_are_objects_or_arrays_in_the_signatures_order(instances: Any, rows: Any) -> None:
    assert read_rows({"instances": instances}, ("a", "b")) == rows


def test_a_model_of_one_field_takes_bare_values() -> None:
    given = [1.5, None, "x", [2], {"a": 3}]
    assert [row["a"] for row in read_rows({"instances": given}, ("a",))] == [1.5, None, "x", 2, 3]


@pytest.mark.parametrize(
    ("payload", "says", "row"),
    [
        (None, "wanted", None),
        ({"instances": {"a": 1}}, "wanted", None),
        ({"instances": [{"a": 1}, 3]}, "row 1 is 3, an integer; wanted an object of fields", 1),
        ({"instances": [None]}, "row 0 is null; wanted", 0),
        ({"instances": [[1]]}, "row 0 has 1 values; wanted 2, in the order a, b", 0),
        ({"instances": ["x" * 99]}, '"xxx', 0),
    ],
)
def test_instances_of_another_shape_are_422(payload: Any, says: str, row: int | None) -> None:
    with pytest.raises(HttpError) as raised:
        read_rows(payload, ("a", "b"))
    answer = raised.value.answer
    assert (answer.status, answer.payload.get("row")) == (422, row)
    assert says in answer.payload["error"]
    assert len(answer.payload["error"]) < 200


def test_parameters_are_an_object_and_those_we_know_are_checked() -> None:
    assert read_parameters({}) == read_parameters({"parameters": None}) == {}
    known = read_parameters({"parameters": {"entries": "full", "past": [{}], "sampling": 3}})
    assert (read_entries(known), read_past(known)) == ("full", [{}])
    for wrong in ({"entries": "all"}, {"entries": ["full"]}):
        with pytest.raises(HttpError, match="allowed: plain, full"):
            read_entries(wrong)
    with pytest.raises(HttpError, match="wanted"):
        read_past({"past": 3})
    with pytest.raises(HttpError, match="wanted"):
        read_parameters({"parameters": [1]})


def test_rows_and_their_fields_are_bounded() -> None:
    names = frozenset({"a"})
    check_size([{"a": 1, **dict.fromkeys(map(str, range(999)))}], names, 1)
    for rows, status in (([], 422), ([{}, {}], 413), ([dict.fromkeys(map(str, range(1002)))], 413)):
        with pytest.raises(HttpError) as raised:
            check_size(rows, names, 1)
        assert raised.value.answer.status == status


def test_what_a_router_counts_stands_in_the_headers() -> None:
    outcome = Outcome(["a.0", "a.1"], [1.0, 2.0], 3, logged=False)
    told = dict(told_headers(outcome, [{"x": 1}, {"x": 1, "y": 2, "z": 3}], frozenset({"x"})))
    assert told == {"x-trilho-rows": "2", "x-trilho-extra-fields": "2", "x-trilho-logged": "0"}


@pytest.mark.parametrize(
    ("kind", "classes", "score", "plain", "full"),
    [
        ("value", (), 2.5, 2.5, {"score": 2.5}),
        ("probability", (0, 1), 0.75, {"0": 0.25, "1": 0.75}, {"score": 0.75, "probabilities": {"0": 0.25, "1": 0.75}}),
        (
            "probabilities",
            (False, True),
            [0.25, 0.75],
            {"false": 0.25, "true": 0.75},
            {"score": 0.75, "label": True, "probabilities": {"false": 0.25, "true": 0.75}},
        ),
        ("class", ("cat", "dog"), 1.0, "dog", {"score": "dog"}),
        ("class", (3, 7), 7.0, 7, {"score": 7}),
    ],
)
def test_each_kind_of_output_is_told_plain_and_full(kind: Any, classes: Any, score: Any, plain: Any, full: Any) -> None:
    telling = Telling(Outputs(kind, classes))
    assert telling.plain([score]) == [plain]
    (entry,) = telling.full(Outcome(["a.0"], [score], 3, ["ok"], "d2"))
    assert entry == {"id": "a.0", **full, "decision": "ok", "version": 3, "decision_version": "d2"}
    assert telling.full(Outcome(["a.0"], [score], 3)) == [{"id": "a.0", **full, "version": 3}]


def predict(plane: Plane, payload: Any, **options: Any) -> Any:
    """Ask a plane in this process."""

    class Scope:
        headers = {"x-trilho-shadow": "1", "x-trilho-identity": "0" * 24}  # noqa: RUF012

    class Given:
        scope, id, rows, version = Scope, "r", 0, None

        async def body(self) -> bytes:
            return json.dumps(payload).encode()

    return json.loads(asyncio.run(Vertex(plane, **options).predict(Given())).payload)  # type: ignore[arg-type]


def test_the_plane_gets_a_job_and_its_outcome_is_the_answer() -> None:
    plane = Plane(history=True)
    answer = predict(plane, {"instances": [ROW], "parameters": {"past": [{"x": 1}]}})
    assert answer == {"predictions": [ANSWER], "ids": [f"{'0' * 24}.0"], "model": "tiny", "version": 3}
    (job,) = plane.jobs
    assert (job.identity, job.rows, job.past, job.entries, job.shadow) == ("0" * 24, [ROW], [{"x": 1}], None, True)


def test_entries_are_full_when_asked_set_or_decided() -> None:
    assert predict(Plane(), {"instances": [ROW]}, entries="full")["predictions"][0]["score"] == ANSWER
    asked = {"instances": [ROW], "parameters": {"entries": "full"}}
    assert predict(Plane(), asked)["predictions"][0]["id"] == f"{'0' * 24}.0"
    plain = {"instances": [ROW], "parameters": {"entries": "plain"}}
    assert predict(Plane(), plain, entries="full")["predictions"] == [ANSWER]
    decided = predict(Plane(decides=True), plain)
    assert decided["predictions"][0]["decision"] is True
    assert decided["decision_version"] == "d1"


def test_health_is_503_until_the_model_is_warm(launch_here: Launcher) -> None:
    env = {**os.environ, **ENVIRONMENT}
    cold = launch_here.run(Path(sys.executable), SERVER, "--cold", 1.0, env=env).wait_until_bound()
    route = ENVIRONMENT["AIP_HEALTH_ROUTE"]
    early = call(cold, route)
    assert (early.status, early.headers["retry-after"]) == (503, "1")
    assert call(cold, ENVIRONMENT["AIP_PREDICT_ROUTE"], {"instances": [ROW]}).status == 503
    until(lambda: call(cold, route).status == 200, what="warm")
    assert call(cold, ENVIRONMENT["AIP_PREDICT_ROUTE"], {"instances": [ROW]}).json["predictions"] == [ANSWER]


def test_googles_client_reads_the_predictions(address: str) -> None:
    host = address.removeprefix("http://")
    nobody: Any = AnonymousCredentials  # untyped
    transport = PredictionServiceRestTransport(host=host, credentials=nobody(), url_scheme="http")
    client = PredictionServiceClient(transport=transport)
    both: list[Any] = [ROW, list(ROW.values())]
    instances = [json_format.ParseDict(value, Value()) for value in both]
    parameters = json_format.ParseDict({"entries": "plain"}, Value())
    answer: Any = client.predict(endpoint=ENDPOINT, instances=instances, parameters=parameters)
    assert list(answer.predictions) == [ANSWER, ANSWER]
    full = json_format.ParseDict({"entries": "full"}, Value())
    answer = client.predict(endpoint=ENDPOINT, instances=instances[:1], parameters=full)
    assert dict(answer.predictions[0])["score"] == ANSWER


def test_a_raw_prediction_may_be_tensors(address: str) -> None:
    tensor = {"name": "all", "shape": [1, 6], "datatype": "FP64", "data": [1.5, 2, None, None, None, None]}
    refused = call(address, ENVIRONMENT["AIP_PREDICT_ROUTE"], {"inputs": [tensor]})
    assert (refused.status, refused.json["field"]) == (400, "flag")
    inputs = [
        {"name": "x", "shape": [1], "datatype": "FP64", "data": [1.5]},
        {"name": "count", "shape": [1], "datatype": "INT64", "data": [2]},
        {"name": "flag", "shape": [1], "datatype": "BOOL", "data": [True]},
    ]
    raw = call(address, ENVIRONMENT["AIP_PREDICT_ROUTE"], {"id": "7", "inputs": inputs})
    assert (raw.status, raw.json["id"], raw.json["outputs"][0]["data"]) == (200, "7", [ANSWER])
    for body in (b"[]", b"3", b'"text"', b"{}"):
        answer = call(address, ENVIRONMENT["AIP_PREDICT_ROUTE"], body)
        assert (answer.status, answer.headers["content-type"]) == (422, "application/json")


def test_a_server_on_vertex_says_who_asks_its_callers(launch_here: Launcher) -> None:
    env = {**os.environ, **ENVIRONMENT}
    running = launch_here.run(Path(sys.executable), SERVER, "--host", "0.0.0.0", env=env)
    running.wait_until_ready()
    assert "Vertex AI does so before a request gets to this container" in running.errors.read_text()


def test_the_prediction_server_is_a_custom_container(launch: Launcher, package: Path) -> None:
    env = {**os.environ, **ENVIRONMENT}
    running = launch.run(launch.python, "trilho_runtime.server", package, env=env)
    address = running.wait_until_bound()
    route = ENVIRONMENT["AIP_HEALTH_ROUTE"]
    until(lambda: call(address, route).status == 200, what="warm")
    rows = [WHOLE_ROW, list(WHOLE_ROW.values())]
    answer = call(address, ENVIRONMENT["AIP_PREDICT_ROUTE"], {"instances": rows, "parameters": {"entries": "full"}})
    assert [entry["score"] for entry in answer.json["predictions"]] == [WHOLE_ANSWER] * 2
    assert [entry["id"] for entry in answer.json["predictions"]] == answer.json["ids"]
    assert "Vertex AI does so" in running.errors.read_text()
