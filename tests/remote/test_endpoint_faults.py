"""What goes wrong at an endpoint of Vertex AI: the real clients, against the emulator with its faults."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.remote.endpoints import Vertexes

from trilho.core.ports import ServedPackage, Split
from trilho.core.retry import Patience
from trilho.errors import ConfigError, NotYet, Refused, TrilhoError, Unreachable, UsageError
from trilho.testing.emulator.rules import Failure

if TYPE_CHECKING:
    from tests.remote.conftest import Google

    from trilho.testing.conformance_endpoint import Versions

pytest.importorskip("google.cloud.aiplatform_v1")


@pytest.fixture
def faults(google: Google) -> Iterator[list[Failure]]:
    """The failures that the emulator injects; none is left afterwards."""
    rules = google.emulator.rules
    yield rules.failures
    rules.failures.clear()
    rules.deny.clear()


def deployed(vertexes: Vertexes, model: str) -> list[str]:
    held = vertexes.endpoint(model).deployments.found()
    return [] if held is None else sorted(one.id for one in held.deployed_models)


def test_what_passes_is_tried_again(vertexes: Vertexes, versions: Versions, faults: list[Failure]) -> None:
    model = vertexes.new_model()
    methods = ("CreateEndpoint", "GetEndpoint", "UploadModel", "DeployModel", "GetOperation", "UpdateEndpoint")
    faults += [Failure(method, "UNAVAILABLE", 2) for method in methods]
    vertexes.endpoint(model).deploy(versions.served(1))
    vertexes.endpoint(model).route(Split(shares={1: 100}))
    assert [failure.left for failure in faults] == [0] * len(methods) or faults[4].left == 2  # done at once
    assert len(deployed(vertexes, model)) == 1
    assert versions.ask(vertexes.endpoint(model), 2) == {1: 2}
    assert any("trying again" in line for line in vertexes.said)


def test_a_missing_permission_is_named_with_the_role_that_has_it(
    google: Google, vertexes: Vertexes, versions: Versions, faults: list[Failure]
) -> None:
    google.emulator.rules.deny.append("aiplatform.endpoints.deploy")
    with pytest.raises(TrilhoError, match=r"lacks the permission aiplatform\.endpoints\.deploy") as caught:
        vertexes.endpoint(vertexes.new_model()).deploy(versions.served(1))
    assert "gcloud projects add-iam-policy-binding shop" in str(caught.value.hint)
    assert "--role=roles/aiplatform.user" in str(caught.value.hint)


def test_a_quota_of_machines_is_not_waited_for(vertexes: Vertexes, versions: Versions, faults: list[Failure]) -> None:
    faults.append(Failure("DeployModel", "RESOURCE_EXHAUSTED", None))
    model = vertexes.new_model()
    with pytest.raises(Unreachable, match=r"deploying version 1 .*: a quota or rate limit of project shop") as caught:
        vertexes.endpoint(model, cloud={"patience": Patience(seconds=300.0)}).deploy(versions.served(1))
    assert "https://console.cloud.google.com/iam-admin/quotas?project=shop" in str(caught.value.hint)
    assert deployed(vertexes, model) == []


def test_a_container_that_never_gets_ready_is_told_in_its_own_words(
    vertexes: Vertexes, versions: Versions, tmp_path: Path
) -> None:
    model, broken = vertexes.new_model(), tmp_path / "broken"
    vertexes.endpoint(model).deploy(versions.served(1))
    vertexes.endpoint(model).route(Split(shares={1: 100}))
    shutil.copytree(versions.packages[2], broken)
    manifest = json.loads((broken / "manifest.json").read_bytes())
    file = sorted(manifest["files"])[0]
    (broken / file).write_bytes(b"not what was packed")
    with pytest.raises(TrilhoError) as caught:
        vertexes.endpoint(model).deploy(ServedPackage(version=2, package=broken))
    fact, _, words = caught.value.fact.partition("\n")
    assert fact.startswith(f"deploying version 2 of {model} on n1-standard-2: Model server exited unexpectedly (exit ")
    assert file in words
    assert dict(vertexes.endpoint(model).status().versions) == {1: "ready"}
    assert versions.ask(vertexes.endpoint(model), 3) == {1: 3}
    with pytest.raises(TrilhoError, match="exited unexpectedly"):  # nothing of it is kept that a next try waits for
        vertexes.endpoint(model).deploy(ServedPackage(version=2, package=broken))


def test_a_deployment_goes_on_after_a_kill(vertexes: Vertexes, versions: Versions) -> None:
    model = vertexes.new_model()
    killed = vertexes.endpoint(model)

    class Killed(BaseException):
        pass

    def die(*_: Any, **__: Any) -> None:
        raise Killed

    with pytest.raises(Killed):
        _after_the_upload(killed, versions, die)
    status = vertexes.endpoint(model).status()
    assert dict(status.versions) == {1: "starting"} or dict(status.versions) == {1: "ready"}
    after = vertexes.endpoint(model)
    after.deployments.client.deploy_model = die
    after.deploy(versions.served(1))
    assert dict(after.status().versions) == {1: "ready"}
    assert len(deployed(vertexes, model)) == 1
    assert after.deployments.operations.under_way() == {}


def _after_the_upload(endpoint: Any, versions: Versions, die: Any) -> None:
    """Deploy with a process that is killed when it first looks how far the deployment is."""
    operations, finish = endpoint.deployments.operations, endpoint.deployments.operations.finish

    def watched(client: Any, name: str, doing: str, raised: Any = ()) -> None:
        if doing.startswith("deploying"):
            die()
        finish(client, name, doing, raised)

    object.__setattr__(operations, "finish", watched)
    endpoint.deploy(versions.served(1))


def test_what_takes_too_long_is_left_under_way(vertexes: Vertexes, versions: Versions) -> None:
    from trilho.backends.gcp.operations import Operations

    clock = iter(float(number) for number in range(0, 100_000, 1000))
    model = vertexes.new_model()
    hasty = vertexes.endpoint(model)
    operations = Operations(hasty.cloud, vertexes.folder / "operations.json", clock=lambda: next(clock), look_seconds=0)
    looks: list[bool] = []

    class Client:
        def get_operation(self, request: Any, **_: Any) -> Any:
            from google.longrunning import operations_pb2

            looks.append(True)
            return operations_pb2.Operation(name=request["name"])

    with pytest.raises(NotYet, match=r"deploying it: it is under way for 3000 s .* \(operations/7\)") as caught:
        operations.finish(Client(), "operations/7", "deploying it")
    assert "starts nothing twice" in str(caught.value.hint)
    assert vertexes.said == [f"deploying it: under way for {seconds} s" for seconds in (1000, 2000)]
    assert len(looks) == 3


def test_others_changes_in_between_are_seen(vertexes: Vertexes, versions: Versions, faults: list[Failure]) -> None:
    model = vertexes.new_model()
    endpoint = vertexes.endpoint(model)
    endpoint.deploy(versions.served(1))
    client, update, seen = endpoint.deployments.client, endpoint.deployments.client.update_endpoint, list[str]()

    def interfered(**given: Any) -> Any:
        if not seen:  # another decider, who knows more of the journal, comes between the look and the change
            vertexes.endpoint(model).route(Split(shares={1: 100}, position=9))
        seen.append(given["endpoint"].etag)
        return update(**given)

    client.update_endpoint = interfered
    with pytest.raises(Refused, match=r"follows a decision of the journal's record 9; this one is of 8"):
        endpoint.route(Split(shares={1: 100}, position=8))
    assert len(seen) == 1
    client.update_endpoint = update
    faults.append(Failure("UpdateEndpoint", "ABORTED", 3))
    endpoint.route(Split(shares={1: 100}, position=10))
    assert vertexes.endpoint(model).status().split == Split(shares={1: 100}, position=10)
    faults.append(Failure("UpdateEndpoint", "ABORTED", None))
    with pytest.raises(Unreachable, match="was changed by others 8 times in a row"):
        endpoint.route(Split(shares={1: 100}, position=11))


def test_what_the_split_cannot_do_is_refused_by_name(vertexes: Vertexes, versions: Versions) -> None:
    endpoint = vertexes.endpoint(vertexes.new_model())
    with pytest.raises(UsageError, match="traffic split cannot keep a key with its version: sticky is 'id'") as caught:
        endpoint.route(Split(shares={1: 50, 2: 50}, sticky="id"))
    assert "share one container" in str(caught.value.hint)
    assert "service_account" in str(caught.value.hint)
    with pytest.raises(UsageError, match="cannot ask a version unseen: a shadow of 20% is asked for"):
        endpoint.route(Split(shares={1: 100}, shadow=2, shadow_share=20))


def test_a_shared_container_needs_an_account_that_reads_the_bucket(vertexes: Vertexes, versions: Versions) -> None:
    model = vertexes.new_model()
    endpoint = vertexes.endpoint(model, inside=True, account=None)
    for version in (1, 2):
        endpoint.deploy(versions.served(version))
    with pytest.raises(ConfigError, match="versions 1 and 2 in one container") as caught:
        endpoint.route(Split(shares={1: 100}, shadow=2))
    assert "environments.NAME.service_account" in str(caught.value.hint)
    assert len(deployed(vertexes, model)) == 2


def test_what_somebody_else_made_is_left_alone(vertexes: Vertexes, versions: Versions) -> None:
    endpoint = vertexes.endpoint("of-others")
    client, parent = endpoint.deployments.client, endpoint.cloud.parent
    made = client.create_endpoint(parent=parent, endpoint={"display_name": "theirs"}, endpoint_id="of-others")
    made.result()
    with pytest.raises(UsageError, match="endpoints/of-others exists, and trilho did not make it"):
        endpoint.deploy(versions.served(1))
    model = {"display_name": "theirs", "container_spec": {"image_uri": "theirs"}}
    models = vertexes.endpoint("of-others-too").deployments.models
    models.client.upload_model(request={"parent": parent, "model": model, "model_id": "of-others-too"}).result()
    vertexes.made.add("of-others-too")
    with pytest.raises(UsageError, match="models/of-others-too exists, and trilho did not make it"):
        vertexes.endpoint("of-others-too").deploy(versions.served(1))


def test_requests_and_answers_are_logged_where_they_should_be(vertexes: Vertexes, versions: Versions) -> None:
    model = vertexes.new_model()
    vertexes.endpoint(model, log="bq://shop").deploy(versions.served(1))

    def told() -> tuple[bool, float, str]:
        held = vertexes.endpoint(model).deployments.found()
        assert held is not None
        found = held.predict_request_response_logging_config
        return found.enabled, found.sampling_rate, found.bigquery_destination.output_uri

    assert told() == (True, 1.0, "bq://shop")
    vertexes.endpoint(model, log="bq://shop.logs.bikes").deploy(versions.served(1))
    assert told() == (True, 1.0, "bq://shop.logs.bikes")
    vertexes.endpoint(model, log=None).deploy(versions.served(1))
    assert told() == (False, 0.0, "")


def test_another_machine_is_another_deployment_of_the_same_model(vertexes: Vertexes, versions: Versions) -> None:
    from trilho.backends.gcp.models import Machine

    model = vertexes.new_model()
    first = vertexes.endpoint(model)
    first.deploy(versions.served(1))
    first.route(Split(shares={1: 100}))
    larger = vertexes.endpoint(model, machine=Machine(type="n1-standard-8", most_replicas=3))
    larger.deploy(versions.served(1))
    assert len(deployed(vertexes, model)) == 2
    larger.route(Split(shares={1: 100}))
    larger.undeploy(1)
    held = larger.deployments.found()
    assert held is not None
    (left,) = held.deployed_models
    assert left.dedicated_resources.machine_spec.machine_type == "n1-standard-8"
    assert dict(held.traffic_split) == {left.id: 100}
    listed = list(larger.deployments.models.client.list_model_versions(name=larger.deployments.models.name))
    assert [(one.version_id, list(one.version_aliases)) for one in listed] == [("1", ["default", "v1"])]


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_googles_client_gets_predictions_by_the_split(vertexes: Vertexes, versions: Versions, transport: str) -> None:
    from google.cloud.aiplatform_v1 import PredictionServiceClient

    from trilho.backends.gcp.models import version_of

    model = vertexes.new_model()
    endpoint = vertexes.endpoint(model)
    for version in (1, 2):
        endpoint.deploy(versions.served(version))
    endpoint.route(Split(shares={1: 75, 2: 25}))
    address = {"api_endpoint": endpoint.cloud.aiplatform_address}
    client = PredictionServiceClient(
        credentials=endpoint.cloud.credentials, client_options=address, transport=transport
    )
    found: Counter[tuple[int, float]] = Counter()
    for _ in range(40):
        answer = client.predict(endpoint=endpoint.deployments.name, instances=[versions.row])
        found[version_of(answer.deployed_model_id), float(answer.predictions[0])] += 1  # type: ignore[arg-type]
    assert set(found) == {(1, versions.answers[1]), (2, versions.answers[2])}
    assert found[1, versions.answers[1]] > found[2, versions.answers[2]]


def test_the_container_s_last_words_come_from_cloud_logging_where_the_error_has_none(
    vertexes: Vertexes, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trilho.backends.gcp import logs

    entries = [{"jsonPayload": {"message": f"line {number}"}} for number in range(20, 0, -1)]  # the newest first
    asked: list[str] = []

    def page(_cloud: Any, chosen: str, _token: str) -> dict[str, Any]:
        asked.append(chosen)
        return {"entries": entries}

    monkeypatch.setattr(logs, "_page", page)
    words = logs.last_words(vertexes.cloud, "bikes", "30123", most=3)
    assert words.splitlines() == ["line 18", "line 19", "line 20"]
    assert asked == [logs.endpoint_filter("bikes", "30123")]

    def broken(*_: Any) -> dict[str, Any]:
        raise TrilhoError("no logs")

    monkeypatch.setattr(logs, "_page", broken)
    assert logs.last_words(vertexes.cloud, "bikes", "30123") == ""


def test_who_comes_second_waits_for_the_first(vertexes: Vertexes, versions: Versions, faults: list[Failure]) -> None:
    model = vertexes.new_model()
    vertexes.endpoint(model).deployments.ensure()
    faults.append(Failure("DeployModel", "ALREADY_EXISTS", 1))  # as of a deployment that is under way
    second = threading.Thread(target=lambda: vertexes.endpoint(model).deploy(versions.served(1)))
    second.start()
    end = time.monotonic() + 30
    while faults[0].left and time.monotonic() < end:
        time.sleep(0.01)
    assert second.is_alive()
    vertexes.endpoint(model).deploy(versions.served(1))
    second.join(30)
    assert not second.is_alive()
    assert len(deployed(vertexes, model)) == 1
