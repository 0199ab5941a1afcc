"""The generic server, spoken to by Google's generated clients over TLS."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

pytest.importorskip("google.cloud.aiplatform_v1")

from google.api_core import exceptions
from google.cloud import aiplatform_v1 as v1
from google.longrunning import operations_pb2
from google.protobuf import field_mask_pb2

from trilho.testing.emulator.operations import Operations
from trilho.testing.emulator.proxy import Proxy
from trilho.testing.emulator.resources import Resources
from trilho.testing.emulator.rpc import RpcServer, discover, transport_of
from trilho.testing.emulator.rules import Failure, Refusal


@pytest.fixture(scope="module")
def features(emulated: Any) -> Any:
    """A service that has no handler of its own."""
    return emulated.client("FeatureRegistryServiceClient")


@pytest.fixture(autouse=True)
def _no_rules(emulated: Any) -> Any:
    yield
    emulated.rules.deny.clear()
    emulated.rules.failures.clear()
    emulated.operations.delay_seconds = 0.0


def group(features: Any, parent: str, id_: str, **labels: str) -> Any:
    asked = v1.FeatureGroup(labels=labels, description=f"group {id_}")
    return features.create_feature_group(parent=parent, feature_group=asked, feature_group_id=id_).result()


def test_methods_are_those_of_the_client() -> None:
    methods = {method.name: method for method in discover(transport_of("pipeline_service"))}
    assert methods["CreatePipelineJob"].path == "/google.cloud.aiplatform.v1.PipelineService/CreatePipelineJob"
    assert methods["CreatePipelineJob"].request is v1.CreatePipelineJobRequest
    assert methods["CreatePipelineJob"].response is v1.PipelineJob
    assert methods["DeletePipelineJob"].response is operations_pb2.Operation
    assert "GetOperation" not in methods


def test_a_handler_of_a_method_that_is_not_there_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="CreatePipelinJob"):
        RpcServer(Resources()).add(transport_of("pipeline_service"), {"CreatePipelinJob": lambda call, request: None})


def test_a_resource_from_its_creation_to_its_end(emulated: Any, features: Any) -> None:
    made = group(features, emulated.parent, "life", team="a")
    assert made.name == f"{emulated.parent}/featureGroups/life"
    assert made.create_time == made.update_time
    feature = features.create_feature(parent=made.name, feature=v1.Feature(), feature_id="age").result()
    assert feature.name == f"{made.name}/features/age"
    made.description, made.labels["team"] = "new", "b"
    mask = field_mask_pb2.FieldMask(paths=["description"])
    changed = features.update_feature_group(feature_group=made, update_mask=mask).result()
    assert (changed.description, changed.labels["team"]) == ("new", "a")
    assert changed.etag != made.etag
    assert features.get_feature_group(name=made.name) == changed
    features.delete_feature_group(name=made.name).result()
    for name, get in ((made.name, features.get_feature_group), (feature.name, features.get_feature)):
        with pytest.raises(exceptions.NotFound, match=name):
            get(name=name)


def test_what_is_not_there_or_there_already_is_said_with_its_full_name(emulated: Any, features: Any) -> None:
    made = group(features, emulated.parent, "twice")
    with pytest.raises(exceptions.AlreadyExists, match=f"FeatureGroup `{made.name}` already exists"):
        group(features, emulated.parent, "twice")
    missing = f"{emulated.parent}/featureGroups/none"
    with pytest.raises(exceptions.NotFound, match=f"FeatureGroup `{missing}` not found"):
        features.get_feature_group(name=missing)
    with pytest.raises(exceptions.NotFound, match=missing):
        features.delete_feature_group(name=missing)
    with pytest.raises(exceptions.NotFound, match=missing):
        features.update_feature_group(feature_group=v1.FeatureGroup(name=missing))


def test_an_etag_that_is_not_the_present_one_is_refused(emulated: Any, features: Any) -> None:
    made = group(features, emulated.parent, "etag")
    features.update_feature_group(feature_group=v1.FeatureGroup(name=made.name, description="by another")).result()
    made.description = "by me"
    operation = features.update_feature_group(feature_group=made)
    with pytest.raises(exceptions.Aborted, match="has changed"):
        operation.result()


def test_lists_are_filtered_ordered_and_paged(emulated: Any, features: Any) -> None:
    parent = "projects/lists/locations/here"
    for id_, tier in (("b", "gold"), ("a", "gold"), ("d", "tin"), ("c", "gold")):
        group(features, parent, id_, tier=tier)

    def names(**asked: Any) -> list[str]:
        found = features.list_feature_groups(request={"parent": parent, **asked})
        return [one.name.rpartition("/")[2] for one in found]

    assert names() == ["b", "a", "d", "c"]
    assert names(order_by="name desc") == ["d", "c", "b", "a"]
    assert names(filter="labels.tier=gold", order_by="name") == ["a", "b", "c"]
    assert names(filter="labels.tier=gold", order_by="name", page_size=1) == ["a", "b", "c"]
    assert names(filter='NOT labels.tier="gold" OR description="group a"') == ["a", "d"]
    first = features.list_feature_groups(request={"parent": parent, "page_size": 3}).pages
    assert [len(page.feature_groups) for page in first] == [3, 1]
    for wrong in ({"filter": "nothing=1"}, {"order_by": "nothing"}, {"page_token": "x"}, {"page_size": -1}):
        with pytest.raises(exceptions.InvalidArgument):
            names(**wrong)


def test_an_operation_with_a_delay_is_unfinished_at_first(emulated: Any, features: Any) -> None:
    emulated.operations.delay_seconds = 0.2
    operation = features.create_feature_group(
        parent=emulated.parent, feature_group=v1.FeatureGroup(), feature_group_id="late"
    )
    assert not operation.operation.done
    name = operation.operation.name
    assert name.startswith(f"{emulated.parent}/featureGroups/late/operations/")
    with pytest.raises(exceptions.NotFound):
        features.get_feature_group(name=f"{emulated.parent}/featureGroups/late")
    ended = features.wait_operation(operations_pb2.WaitOperationRequest(name=name))  # the client leaves it serialized
    assert operations_pb2.Operation.FromString(ended).done
    assert operation.result().name.endswith("/late")
    assert [
        one.name for one in features.list_operations({"name": f"{emulated.parent}/featureGroups/late"}).operations
    ] == [name]
    features.delete_operation({"name": name})
    with pytest.raises(exceptions.NotFound, match=name):
        features.get_operation({"name": name})


def test_an_operation_that_is_cancelled_before_it_began_does_nothing(emulated: Any, features: Any) -> None:
    emulated.operations.delay_seconds = 30.0
    operation = features.create_feature_group(
        parent=emulated.parent, feature_group=v1.FeatureGroup(), feature_group_id="never"
    )
    features.cancel_operation({"name": operation.operation.name})
    with pytest.raises(exceptions.Cancelled):
        operation.result()
    with pytest.raises(exceptions.NotFound):
        features.get_feature_group(name=f"{emulated.parent}/featureGroups/never")


def test_work_that_is_quick_is_done_when_it_is_answered_and_slow_work_is_not() -> None:
    operations, go = Operations(), threading.Event()
    quick = operations.start("a", lambda: operations_pb2.Operation(name="result"))
    slow = operations.start("b", lambda: go.wait(30) and None)
    assert (quick.done, slow.done) == (True, False)
    go.set()
    wait = operations_pb2.WaitOperationRequest(name=slow.name)
    assert operations.wait(None, wait).done


def test_a_bug_in_the_work_ends_the_operation() -> None:
    def broken() -> None:
        raise KeyError("x")

    ended = Operations().start("a", broken)
    assert (ended.done, ended.error.code) == (True, 13)
    assert "KeyError" in ended.error.message


def test_a_rule_denies_with_a_reason_that_clients_read(emulated: Any, features: Any) -> None:
    emulated.rules.deny.append("aiplatform.featureGroups.list")
    with pytest.raises(exceptions.PermissionDenied) as caught:
        features.list_feature_groups(parent=emulated.parent)
    assert caught.value.message == (
        "Permission 'aiplatform.featureGroups.list' denied on resource "
        f"'//aiplatform.googleapis.com/{emulated.parent}' (or it may not exist)."
    )
    assert caught.value.reason == "IAM_PERMISSION_DENIED"
    assert caught.value.domain == "aiplatform.googleapis.com"
    assert caught.value.metadata == {"permission": "aiplatform.featureGroups.list", "resource": emulated.parent}


def test_an_injected_failure_is_met_once(emulated: Any, features: Any) -> None:
    emulated.rules.failures.append(Failure("ListFeatureGroups", "UNAVAILABLE", 1))
    with pytest.raises(exceptions.ServiceUnavailable, match="currently unavailable"):
        features.list_feature_groups(parent=emulated.parent)
    features.list_feature_groups(parent=emulated.parent)


def test_what_is_not_emulated_is_refused_by_name(emulated: Any, features: Any) -> None:
    models = emulated.client("ModelServiceClient")
    with pytest.raises(exceptions.MethodNotImplemented, match=r"v1\.ModelService/ExportModel"):
        models.export_model(name=f"{emulated.parent}/models/1", output_config={})
    with pytest.raises(exceptions.MethodNotImplemented, match=r"JobService/ListCustomJobs"):
        emulated.client("JobServiceClient").list_custom_jobs(parent=emulated.parent)


def test_who_is_not_let_in_is_unauthenticated(identity: tuple[bytes, bytes]) -> None:
    import grpc
    from google.auth.credentials import AnonymousCredentials

    def authenticate(headers: Any) -> None:
        if headers.get("authorization") != "Bearer good":
            raise Refusal("UNAUTHENTICATED", "Request had invalid authentication credentials.")

    server, transport = RpcServer(Resources(), authenticate=authenticate), transport_of("feature_registry_service")
    server.add(transport)
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        made = transport(channel=channel, credentials=AnonymousCredentials())  # type: ignore[no-untyped-call]
        client = v1.FeatureRegistryServiceClient(transport=made)
        with pytest.raises(exceptions.Unauthenticated, match="invalid authentication"):
            client.list_feature_groups(parent="projects/p/locations/l")
        good = [("authorization", "Bearer good")]
        assert list(client.list_feature_groups(parent="projects/p/locations/l", metadata=good)) == []
    server.stop()


def test_many_calls_at_once_lose_nothing(emulated: Any, features: Any) -> None:
    parent = "projects/many/locations/here"

    def work(number: int) -> None:
        for each in range(5):
            group(features, parent, f"g{number}-{each}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(features.list_feature_groups(parent=parent))) == 40


def test_clients_need_no_endpoint(emulated: Any) -> None:
    """Through the proxy a client's own host, with its region, is the emulator."""
    from google.auth import credentials

    anonymous = credentials.AnonymousCredentials()  # type: ignore[no-untyped-call]
    for host in ("aiplatform.googleapis.com", "southamerica-east1-aiplatform.googleapis.com"):
        client = v1.FeatureRegistryServiceClient(credentials=anonymous, client_options={"api_endpoint": host})
        with pytest.raises(exceptions.NotFound, match="featureGroups/absent` not found"):
            client.get_feature_group(name=f"{emulated.parent}/featureGroups/absent")


def test_the_proxy_lets_others_through_and_knows_connect_only() -> None:
    def ask(head: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", int(proxy.address.rpartition(":")[2])), timeout=10) as connection:
            connection.sendall(head)
            connection.settimeout(10)
            answer = b""
            while piece := connection.recv(100):
                answer += piece
            return answer

    def greet() -> None:
        with listener.accept()[0] as connection:
            connection.sendall(connection.recv(100).upper())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=greet, daemon=True).start()
        proxy = Proxy(1)
        proxy.start()
        port = listener.getsockname()[1]
        assert ask(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\nhello" % port).endswith(
            b"established\r\n\r\nHELLO"
        )
        assert ask(b"GET http://127.0.0.1/ HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 405 ")
        assert ask(b"CONNECT x.googleapis.com:443 HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 502 ")
        proxy.stop()
