"""The same methods over REST and over gRPC, on one port: what the SDK speaks once nobody tells it the project."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("google.cloud.aiplatform_v1")

import grpc
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform_v1 as v1
from google.cloud.aiplatform_v1.services.endpoint_service.transports.grpc import EndpointServiceGrpcTransport

from trilho.backends.local.store import LocalStore
from trilho.pipeline.places import Places
from trilho.testing.emulator.rules import Rules
from trilho.testing.emulator.serve import Emulator

PARENT = "projects/shop/locations/us-central1"


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    root, python = tmp_path_factory.mktemp("rest"), Path(sys.executable)
    places = Places(python=python, source=None, folder=root, platform=python)
    store, rules = LocalStore(root / "store"), Rules(["aiplatform.tensorboards.list"])
    with (
        Emulator(root, places=places, store=store, rules=rules, pubsub=False) as started,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("REQUESTS_CA_BUNDLE", started.environment["REQUESTS_CA_BUNDLE"])
        yield started


def rest(emulator: Emulator, name: str) -> Any:
    return getattr(v1, name)(
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
        transport="rest", client_options={"api_endpoint": emulator.aiplatform},
    )  # fmt: skip


def test_a_resource_from_its_creation_to_its_end(emulator: Emulator) -> None:
    client = rest(emulator, "EndpointServiceClient")
    made = client.create_endpoint(parent=PARENT, endpoint={"display_name": "a", "labels": {"x": "y"}}).result()
    other = client.create_endpoint(parent=PARENT, endpoint={"display_name": "b"}).result()
    assert sorted(one.display_name for one in client.list_endpoints(parent=PARENT)) == ["a", "b"]
    named = v1.ListEndpointsRequest(parent=PARENT, filter='display_name="a"', read_mask={"paths": ["display_name"]})
    assert [one.name for one in client.list_endpoints(named)] == [made.name]
    changed = client.update_endpoint(
        endpoint={"name": made.name, "display_name": "c"}, update_mask={"paths": ["display_name"]}
    )
    assert (changed.display_name, dict(changed.labels)) == ("c", {"x": "y"})
    for name in (made.name, other.name):
        client.delete_endpoint(name=name).result()
    with pytest.raises(exceptions.NotFound, match=f"Endpoint `{made.name}` not found"):
        client.get_endpoint(name=made.name)


def test_mistakes_are_told(emulator: Emulator) -> None:
    with pytest.raises(exceptions.BadRequest, match="display_name; Message: Required field is not set"):
        rest(emulator, "EndpointServiceClient").create_endpoint(parent=PARENT, endpoint={})
    with pytest.raises(exceptions.Forbidden, match=r"Permission 'aiplatform\.tensorboards\.list' denied") as caught:
        rest(emulator, "TensorboardServiceClient").list_tensorboards(parent=PARENT)
    assert caught.value.reason == "IAM_PERMISSION_DENIED"
    with pytest.raises(exceptions.NotFound, match=r"trilho emulate has no method GET /v1/.*/customJobs"):
        rest(emulator, "JobServiceClient").list_custom_jobs(parent=PARENT)


def test_a_custom_verb_is_not_a_part_of_a_name(emulator: Emulator) -> None:
    client = rest(emulator, "ModelServiceClient")
    model = client.upload_model(parent=PARENT, model={"display_name": "m"}).result().model
    client.upload_model({"parent": PARENT, "parent_model": model, "model": {"display_name": "m"}}).result()
    assert sorted(one.version_id for one in client.list_model_versions(name=model)) == ["1", "2"]
    assert client.get_model(name=f"{model}@2").version_id == "2"


def test_a_body_that_is_no_json_and_a_web_page_are_refused(emulator: Emulator) -> None:
    requests: Any = pytest.importorskip("requests")
    address = f"https://{emulator.aiplatform}/v1/{PARENT}/endpoints"
    answer = requests.post(address, b"{", timeout=10)
    assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert requests.post(address, b"{}", headers={"Origin": "https://example.org"}, timeout=10).status_code == 403
    answer = requests.post(address, json={"displayName": 1}, timeout=10)
    assert (answer.status_code, answer.json()["error"]["message"][:30]) == (400, "Invalid JSON payload received.")


def test_both_protocols_see_the_same(emulator: Emulator) -> None:
    authority = Path(emulator.environment["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"]).read_bytes()
    with grpc.secure_channel(emulator.aiplatform, grpc.ssl_channel_credentials(authority)) as channel:
        client: Any = v1.EndpointServiceClient(transport=EndpointServiceGrpcTransport(channel=channel))
        made = client.create_endpoint(parent=PARENT, endpoint={"display_name": "both"}).result()
        assert rest(emulator, "EndpointServiceClient").get_endpoint(name=made.name) == made
        client.delete_endpoint(name=made.name).result()


def test_the_sdk_without_a_project_runs_an_experiment(emulator: Emulator) -> None:
    from google.cloud import aiplatform

    anonymous: Any = AnonymousCredentials()  # type: ignore[no-untyped-call]
    aiplatform.init(project="shop", location="us-central1", api_endpoint=emulator.aiplatform, credentials=anonymous)
    config = aiplatform.initializer.global_config
    try:
        aiplatform.init(experiment="churn", experiment_tensorboard=False)
        assert config._api_transport == "rest"
        with aiplatform.start_run("one") as run:
            run.log_params({"rate": 0.1})
            run.log_metrics({"auc": 0.7})
        (found,) = aiplatform.ExperimentRun.list(experiment="churn")
        assert (found.name, found.get_params(), found.get_metrics()) == ("one", {"rate": 0.1}, {"auc": 0.7})
    finally:
        config._api_transport = None


def test_a_client_that_says_nothing_holds_up_nobody(emulator: Emulator) -> None:
    host, _, port = emulator.aiplatform.rpartition(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(5)]
    silent[0].sendall(b"\x16\x03\x01")
    assert list(rest(emulator, "ScheduleServiceClient").list_schedules(parent=PARENT)) == []
    for one in silent:
        one.close()
