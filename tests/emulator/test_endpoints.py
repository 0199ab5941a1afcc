"""Endpoints, driven by the SDK: real containers, a canary and its rollback, and what is refused."""

from __future__ import annotations

import json
import os
import pickle
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("google.cloud.aiplatform")

from google.api import httpbody_pb2
from google.api_core import exceptions
from google.protobuf import field_mask_pb2

PARENT = "projects/shop/locations/southamerica-east1"
IMAGE = "southamerica-east1-docker.pkg.dev/shop/images/churn@sha256:0"
SERVER = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200 if self.path == os.environ["AIP_HEALTH_ROUTE"] else 404, b"{}")
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        asked = json.loads(body) if self.headers["Content-Type"] == "application/json" else {"raw": body.decode()}
        rows = asked.get("instances", [])
        if self.path != os.environ["AIP_PREDICT_ROUTE"]:
            return self.answer(404, b"no such route")
        if rows == ["crash"]:
            os._exit(7)
        if rows == ["wrong"]:
            return self.answer(400, b"row 0: wrong")
        if rows == ["broken"]:
            return self.answer(500, b"it broke")
        if rows == ["text"]:
            return self.answer(200, b"hello")
        known = {key: value for key, value in os.environ.items() if key.startswith("AIP_")}
        found = {"version": sys.argv[1], "rows": len(rows), "asked": asked, "env": known}
        found["mine"] = os.environ.get("MINE")
        self.answer(200, json.dumps({"predictions": [found], "metadata": {"of": "churn"}}).encode())
    def answer(self, code, body):
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass

print("version", sys.argv[1], "listens", flush=True)
HTTPServer(("127.0.0.1", int(os.environ["AIP_HTTP_PORT"])), Handler).serve_forever()
"""
MACHINE = {"machine_type": "n1-standard-2", "min_replica_count": 1, "max_replica_count": 3}
RESOURCES = {"machine_spec": {"machine_type": "n1-standard-2"}, "min_replica_count": 1}


class Half:
    """A model that is pickled; its predict halves."""

    def predict(self, rows: list[list[float]]) -> list[float]:
        return [row[0] / 2 for row in rows]


@pytest.fixture(scope="module")
def sdk(emulated: Any) -> Any:
    emulated.put("gs://models/churn/server.py", SERVER)
    return emulated.init()


@pytest.fixture(scope="module")
def predictions(emulated: Any) -> Any:
    return emulated.client("PredictionServiceClient")


@pytest.fixture(scope="module")
def endpoints(emulated: Any) -> Any:
    return emulated.client("EndpointServiceClient")


def upload(sdk: Any, version: str, **more: Any) -> Any:
    return sdk.Model.upload(
        **{
            "display_name": "churn",
            "artifact_uri": "gs://models/churn",
            "serving_container_image_uri": IMAGE,
            "serving_container_command": ["python", "$(AIP_STORAGE_URI)/server.py"],
            "serving_container_args": [version],
            "serving_container_predict_route": "/predict",
            "serving_container_health_route": "/health",
            "serving_container_environment_variables": {"MINE": "$(AIP_MODE)/$(NO)"},
            **more,
        }
    )


@pytest.fixture
def endpoint(sdk: Any) -> Iterator[Any]:
    made = sdk.Endpoint.create(display_name="churn")
    yield made
    made.delete(force=True)


def served(endpoint: Any, calls: int) -> Counter[str]:
    return Counter(endpoint.predict(instances=[{"a": 1}]).predictions[0]["version"] for _ in range(calls))


def test_a_canary_is_rolled_back(emulated: Any, sdk: Any, endpoint: Any) -> None:
    first = upload(sdk, "one")
    second = upload(sdk, "two", parent_model=first.resource_name, is_default_version=False)
    first.deploy(endpoint=endpoint, traffic_percentage=100, deployed_model_display_name="v1", **MACHINE)
    (one,) = endpoint.list_models()
    assert (one.display_name, one.model_version_id, endpoint.traffic_split) == ("v1", "1", {one.id: 100})
    assert served(endpoint, 5) == {"one": 5}
    second.deploy(endpoint=endpoint, traffic_split={"0": 10, one.id: 90}, **MACHINE)
    two = next(deployed for deployed in endpoint.list_models() if deployed.id != one.id)
    assert endpoint.traffic_split == {one.id: 90, two.id: 10}
    counts = served(endpoint, 200)
    assert counts.total() == 200
    assert 8 <= counts["two"] <= 34  # 20 expected; the draws are seeded, so this is always the same
    endpoint.update(traffic_split={one.id: 100})
    assert served(endpoint, 20) == {"one": 20}
    endpoint.undeploy(deployed_model_id=two.id)
    assert [deployed.id for deployed in endpoint.list_models()] == [one.id]
    assert served(endpoint, 3) == {"one": 3}
    assert emulated.vertex.endpoints.container(endpoint.resource_name, two.id) is None


def test_a_container_is_told_what_vertex_ai_tells_it(emulated: Any, sdk: Any, endpoint: Any) -> None:
    model = upload(sdk, "env")
    model.deploy(endpoint=endpoint, **MACHINE)
    answer = endpoint.predict(instances=[{"a": 1}, {"a": 2.5}], parameters={"top": 3})
    (said,) = answer.predictions
    (deployed,) = endpoint.list_models()
    assert said["rows"] == 2
    assert said["asked"] == {"instances": [{"a": 1}, {"a": 2.5}], "parameters": {"top": 3}}
    assert said["mine"] == "PREDICTION/$(NO)"
    assert {key: said["env"][key] for key in ("AIP_HEALTH_ROUTE", "AIP_PREDICT_ROUTE", "AIP_VERSION_NAME")} == {
        "AIP_HEALTH_ROUTE": "/health",
        "AIP_PREDICT_ROUTE": "/predict",
        "AIP_VERSION_NAME": "1",
    }
    assert said["env"]["AIP_STORAGE_URI"] == str(emulated.file("gs://models/churn"))
    assert said["env"]["AIP_ENDPOINT_ID"] == endpoint.name
    assert (answer.deployed_model_id, answer.model_version_id) == (deployed.id, "1")
    assert answer.model_resource_name == model.resource_name
    assert answer.metadata == {"of": "churn"}


def test_routes_that_are_not_given_are_vertex_ais_own(sdk: Any, endpoint: Any) -> None:
    model = upload(sdk, "own", serving_container_predict_route=None, serving_container_health_route=None)
    model.deploy(endpoint=endpoint, **MACHINE)
    (deployed,) = endpoint.list_models()
    said = endpoint.predict(instances=[1]).predictions[0]["env"]
    assert said["AIP_PREDICT_ROUTE"] == f"/v1/endpoints/{endpoint.name}/deployedModels/{deployed.id}:predict"


def test_a_raw_prediction_passes_as_it_is(predictions: Any, sdk: Any, endpoint: Any) -> None:
    upload(sdk, "raw").deploy(endpoint=endpoint, **MACHINE)
    body = httpbody_pb2.HttpBody(data=b"a,b\n1,2\n", content_type="text/csv")
    answer = predictions.raw_predict(endpoint=endpoint.resource_name, http_body=body)
    assert answer.content_type == "application/json"
    assert json.loads(answer.data)["predictions"][0]["asked"] == {"raw": "a,b\n1,2\n"}


def test_what_a_container_says_comes_back(predictions: Any, sdk: Any, endpoint: Any) -> None:
    upload(sdk, "errors").deploy(endpoint=endpoint, **MACHINE)
    for row, kind, message in (
        ("wrong", exceptions.InvalidArgument, "row 0: wrong"),
        ("broken", exceptions.InternalServerError, "it broke"),
        ("text", exceptions.InternalServerError, "did not answer with JSON that has predictions: b'hello'"),
    ):
        with pytest.raises(kind, match=message):
            predictions.predict(endpoint=endpoint.resource_name, instances=[row])
    with pytest.raises(exceptions.InvalidArgument, match=r"exceeds 1\.500MB limit"):
        endpoint.predict(instances=["x" * 1_600_000])
    for _ in range(2):
        with pytest.raises(exceptions.ServiceUnavailable, match="does not answer"):
            predictions.predict(endpoint=endpoint.resource_name, instances=["crash"])


def test_a_pickled_model_is_served_without_a_command(emulated: Any, sdk: Any, endpoint: Any) -> None:
    source = Path(__file__).read_text()
    module = "class Half:" + source.partition("class Half:")[2].partition("\n\n\n")[0]
    emulated.put("gs://models/half/half.py", module)
    folder = emulated.file("gs://models/half")
    sys.path.insert(0, str(folder))
    try:
        import half  # type: ignore[import-not-found]

        (folder / "model.pkl").write_bytes(pickle.dumps(half.Half()))
    finally:
        sys.path.remove(str(folder))
    model = upload(
        sdk,
        "",
        artifact_uri="gs://models/half",
        serving_container_command=None,
        serving_container_args=None,
        serving_container_environment_variables={"PYTHONPATH": "$(AIP_STORAGE_URI)"},
    )
    model.deploy(endpoint=endpoint, **MACHINE)
    assert endpoint.predict(instances=[[4], [5]]).predictions == [2.0, 2.5]


def test_an_image_that_cannot_run_here_is_deployed_and_says_so(emulated: Any, sdk: Any, endpoint: Any) -> None:
    emulated.put("gs://models/other/weights.bin", "?")
    model = upload(
        sdk, "", artifact_uri="gs://models/other", serving_container_command=None, serving_container_args=None
    )
    model.deploy(endpoint=endpoint, **MACHINE)
    with pytest.raises(
        exceptions.FailedPrecondition, match=f"{model.resource_name}@1: trilho emulate cannot run image"
    ):
        endpoint.predict(instances=[1])


def test_a_container_that_ends_or_never_gets_ready_fails_the_deployment(sdk: Any, endpoint: Any) -> None:
    ends = upload(sdk, "", serving_container_command=["python", "-c", "print('no such file'); raise SystemExit(3)"])
    with pytest.raises(exceptions.FailedPrecondition, match=r"(?s)exited unexpectedly \(exit 3\).*no such file"):
        ends.deploy(endpoint=endpoint, **MACHINE)
    sleeps = upload(
        sdk,
        "",
        serving_container_command=["sleep", "60"],
        serving_container_deployment_timeout=1,
        serving_container_args=None,
    )
    with pytest.raises(exceptions.FailedPrecondition, match=r"never became ready: GET /health on port \d+"):
        sleeps.deploy(endpoint=endpoint, **MACHINE)
    assert endpoint.list_models() == []


def test_a_deployment_is_refused(endpoints: Any, sdk: Any, endpoint: Any) -> None:
    model = upload(sdk, "refused")
    good = {"model": model.resource_name, "dedicated_resources": RESOURCES}

    def deploy(split: dict[str, int] | None = None, **changes: Any) -> None:
        deployed = {key: value for key, value in {**good, **changes}.items() if value is not None}
        endpoints.deploy_model(
            endpoint=endpoint.resource_name, deployed_model=deployed, traffic_split=split or {}
        ).result()

    wrong = exceptions.InvalidArgument
    cases: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (wrong, "must add up to 100, not 90", {"split": {"0": 90}}),
        (wrong, "no deployed model 123 at the endpoint", {"split": {"0": 10, "123": 90}}),
        (wrong, "must not be negative", {"split": {"0": -1}}),
        (wrong, "dedicated_resources; Message: Required field", {"dedicated_resources": None}),
        (wrong, "machine_type; Message: Required field", {"dedicated_resources": {"min_replica_count": 1}}),
        (wrong, "min_replica_count", {"dedicated_resources": {**RESOURCES, "min_replica_count": 0}}),
        (
            wrong,
            "max_replica_count",
            {"dedicated_resources": {**RESOURCES, "min_replica_count": 2, "max_replica_count": 1}},
        ),
        (wrong, "dedicated_resources only", {"dedicated_resources": None, "automatic_resources": {}}),
        (wrong, "does not match", {"id": "x1"}),
        (exceptions.NotFound, "@9` not found", {"model": f"{model.resource_name}@9"}),
        (exceptions.NotFound, "@best` not found", {"model": f"{model.resource_name}@best"}),
    ]
    for kind, message, changes in cases:
        with pytest.raises(kind, match=message):
            deploy(**changes)
    assert endpoint.list_models() == []
    missing = f"{endpoint.resource_name}0"
    with pytest.raises(exceptions.NotFound, match=f"Endpoint `{missing}` not found"):
        endpoints.deploy_model(endpoint=missing, deployed_model=good)


def test_what_is_used_stays(endpoints: Any, sdk: Any, endpoint: Any) -> None:
    model = upload(sdk, "used")
    for _ in range(2):
        model.deploy(endpoint=endpoint, traffic_percentage=100 if not endpoint.traffic_split else 0, **MACHINE)
    name, (busy, idle) = (
        endpoint.resource_name,
        sorted(endpoint.list_models(), key=lambda one: one.id not in endpoint.traffic_split),
    )
    with pytest.raises(exceptions.FailedPrecondition, match="gets 100% of the traffic"):
        endpoints.undeploy_model(endpoint=name, deployed_model_id=busy.id)
    with pytest.raises(exceptions.InvalidArgument, match="not 40"):
        endpoints.undeploy_model(endpoint=name, deployed_model_id=busy.id, traffic_split={idle.id: 40})
    with pytest.raises(exceptions.FailedPrecondition, match=f"deployed as .* at {name}"):
        sdk.Model(model.resource_name).delete()
    with pytest.raises(exceptions.FailedPrecondition, match=f"Endpoint `{name}` has deployed models"):
        endpoints.delete_endpoint(name=name)
    assert {ref.deployed_model_id for ref in sdk.Model(model.resource_name).gca_resource.deployed_models} == {
        busy.id,
        idle.id,
    }
    endpoints.undeploy_model(endpoint=name, deployed_model_id=busy.id, traffic_split={idle.id: 100}).result()
    assert dict(endpoints.get_endpoint(name=name).traffic_split) == {idle.id: 100}
    endpoints.undeploy_model(endpoint=name, deployed_model_id=idle.id).result()
    assert dict(endpoints.get_endpoint(name=name).traffic_split) == {}
    with pytest.raises(exceptions.NotFound, match=f"DeployedModel `{idle.id}` not found"):
        endpoints.undeploy_model(endpoint=name, deployed_model_id=idle.id)
    with pytest.raises(exceptions.FailedPrecondition, match=f"Endpoint {name} doesn't have traffic_split"):
        endpoint.predict(instances=[1])


def test_replica_counts_are_kept_and_nothing_else_of_a_deployed_model_changes(
    endpoints: Any, sdk: Any, endpoint: Any
) -> None:
    upload(sdk, "mutate").deploy(endpoint=endpoint, **MACHINE)
    (deployed,) = endpoint.list_models()
    deployed.dedicated_resources.max_replica_count = 5
    paths = field_mask_pb2.FieldMask(paths=["dedicated_resources.max_replica_count"])
    asked = {"endpoint": endpoint.resource_name, "deployed_model": deployed, "update_mask": paths}
    endpoints.mutate_deployed_model(asked).result()
    assert endpoint.list_models()[0].dedicated_resources.max_replica_count == 5
    asked["update_mask"] = field_mask_pb2.FieldMask(paths=["model"])
    with pytest.raises(exceptions.InvalidArgument, match="model of a deployed model cannot be changed"):
        endpoints.mutate_deployed_model(asked)


def test_containers_end_with_what_they_started(emulated: Any, sdk: Any) -> None:
    endpoint = sdk.Endpoint.create(display_name="short")
    upload(sdk, "short").deploy(endpoint=endpoint, **MACHINE)
    (deployed,) = endpoint.list_models()
    container = emulated.vertex.endpoints.container(endpoint.resource_name, deployed.id)
    assert "version short listens" in container.said()
    keeper = container._keeper.pid
    assert keeper is not None
    assert Path(f"/proc/{keeper}").exists() or sys.platform != "linux"
    endpoint.delete(force=True)
    with pytest.raises(ProcessLookupError):
        os.kill(keeper, 0)
    with pytest.raises(OSError):
        container.request("GET", "/health")


def test_a_container_that_is_getting_ready_ends_with_the_emulator(tmp_path: Path) -> None:
    from google.cloud import aiplatform_v1 as v1

    from trilho.pipeline.places import Places
    from trilho.testing.emulator.endpoints import Endpoints
    from trilho.testing.emulator.models import Models
    from trilho.testing.emulator.resources import Resources
    from trilho.testing.emulator.rules import Refusal

    python, resources = Path(sys.executable), Resources()
    places = Places(python=python, source=None, folder=tmp_path, platform=python)
    endpoints = Endpoints(resources, Models(resources), lambda: places, tmp_path, lambda _uri: None)
    began = tmp_path / "began"
    command = ["sh", "-c", f"echo $$$$ > {began}.new; mv {began}.new {began}; exec sleep 600"]
    model = v1.Model(name=f"{PARENT}/models/m", version_id="1", container_spec={"image_uri": IMAGE, "command": command})
    with ThreadPoolExecutor() as pool:
        deploying = pool.submit(endpoints._deploy, f"{PARENT}/endpoints/1", v1.DeployedModel(id="7"), model, {})
        end = time.monotonic() + 60
        while not began.exists() and not deploying.done() and time.monotonic() < end:
            time.sleep(0.02)
        endpoints.close()
        with pytest.raises(Refusal, match="being stopped"):
            deploying.result(60)
    with pytest.raises(ProcessLookupError):
        os.kill(int(began.read_text()), 0)
    with pytest.raises(Refusal, match="being stopped"):
        endpoints._deploy(f"{PARENT}/endpoints/1", v1.DeployedModel(id="8"), model, {})


def test_a_server_with_a_port_of_its_own_is_found(emulated: Any, sdk: Any) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    fixed = SERVER.replace('int(os.environ["AIP_HTTP_PORT"])', str(port))
    model = sdk.Model.upload(
        display_name="fixed",
        serving_container_image_uri=IMAGE,
        serving_container_command=[sys.executable, "-c", fixed, "1"],
        serving_container_ports=[port],
    )
    endpoint = model.deploy(machine_type="n1-standard-2")
    assert endpoint.predict([1]).predictions[0]["version"] == "1"
    endpoint.delete(force=True)
