"""The documented rules of ids, of the log of requests and of two who deploy at once, at an emulated endpoint."""

from __future__ import annotations

import threading
from typing import Any

import pytest

pytest.importorskip("google.cloud.aiplatform_v1")

from google.api_core import exceptions
from google.protobuf import field_mask_pb2

IMAGE = "southamerica-east1-docker.pkg.dev/shop/images/churn@sha256:0"
RESOURCES = {"machine_spec": {"machine_type": "n1-standard-2"}, "min_replica_count": 1}


@pytest.fixture(scope="module")
def endpoints(emulated: Any) -> Any:
    return emulated.client("EndpointServiceClient")


@pytest.fixture(scope="module")
def model(emulated: Any) -> str:
    client = emulated.client("ModelServiceClient")
    command = ["python", "-m", "http.server", "--bind", "127.0.0.1", "$(AIP_HTTP_PORT)"]
    spec = {"image_uri": IMAGE, "command": command, "health_route": "/"}
    asked = {"parent": emulated.parent, "model": {"display_name": "churn", "container_spec": spec}}
    return str(client.upload_model(request=asked).result().model)


@pytest.mark.parametrize(
    ("id_", "good"),
    [
        ("bikes", True), ("b", True), ("12345", True), ("a-1", True),
        ("bikes-", False), ("0123", False), ("1234567890", False), ("1a", False), ("Bikes", False), ("x" * 64, False),
    ],
)  # fmt: skip
def test_the_ids_of_endpoints(emulated: Any, endpoints: Any, id_: str, good: bool) -> None:
    asked = {"parent": emulated.parent, "endpoint": {"display_name": "x"}, "endpoint_id": id_}
    if not good:
        with pytest.raises(exceptions.InvalidArgument, match="endpoint_id"):
            endpoints.create_endpoint(request=asked)
        return
    made = endpoints.create_endpoint(request=asked).result()
    assert made.name == f"{emulated.parent}/endpoints/{id_}"
    endpoints.delete_endpoint(name=made.name).result()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"sampling_rate": 0.0, "bigquery_destination": {"output_uri": "bq://shop"}}, "sampling_rate"),
        ({"sampling_rate": 1.5, "bigquery_destination": {"output_uri": "bq://shop"}}, "sampling_rate"),
        ({"sampling_rate": 1.0, "bigquery_destination": {"output_uri": "gs://shop"}}, "output_uri"),
        ({"sampling_rate": 1.0}, "output_uri"),
    ],
)
def test_the_log_of_requests_is_checked(emulated: Any, endpoints: Any, config: dict[str, Any], message: str) -> None:
    field = "predict_request_response_logging_config"
    wrong = {field: {"enabled": True, **config}}
    with pytest.raises(exceptions.InvalidArgument, match=message):
        endpoints.create_endpoint(parent=emulated.parent, endpoint={"display_name": "logged", **wrong})
    good = {field: {"enabled": True, "sampling_rate": 0.5, "bigquery_destination": {"output_uri": "bq://shop.a.b"}}}
    made = endpoints.create_endpoint(parent=emulated.parent, endpoint={"display_name": "logged", **good}).result()
    assert made.predict_request_response_logging_config.sampling_rate == 0.5
    with pytest.raises(exceptions.InvalidArgument, match=message):
        endpoints.update_endpoint(
            endpoint={"name": made.name, **wrong}, update_mask=field_mask_pb2.FieldMask(paths=[field])
        )
    endpoints.delete_endpoint(name=made.name).result()


def test_a_model_that_two_deploy_at_once_is_deployed_once(emulated: Any, endpoints: Any, model: str) -> None:
    made = endpoints.create_endpoint(parent=emulated.parent, endpoint={"display_name": "twice"}).result()
    deployed = {"id": "1234567890", "model": model, "dedicated_resources": RESOURCES}
    ends: list[str] = []

    def deploy() -> None:
        try:
            endpoints.deploy_model(endpoint=made.name, deployed_model=deployed).result()
            ends.append("deployed")
        except exceptions.GoogleAPICallError as error:
            ends.append(type(error).__name__)

    threads = [threading.Thread(target=deploy) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(ends) == ["AlreadyExists", "deployed"]
    assert [one.id for one in endpoints.get_endpoint(name=made.name).deployed_models] == ["1234567890"]
    with pytest.raises(exceptions.InvalidArgument, match="does not match"):
        endpoints.deploy_model(endpoint=made.name, deployed_model={**deployed, "id": "12345678901"})
    endpoints.undeploy_model(endpoint=made.name, deployed_model_id="1234567890").result()
    endpoints.delete_endpoint(name=made.name).result()


def test_a_change_on_an_older_etag_is_aborted(emulated: Any, endpoints: Any) -> None:
    made = endpoints.create_endpoint(parent=emulated.parent, endpoint={"display_name": "etag"}).result()
    mask = field_mask_pb2.FieldMask(paths=["display_name"])
    endpoints.update_endpoint(endpoint={"name": made.name, "display_name": "one", "etag": made.etag}, update_mask=mask)
    with pytest.raises(exceptions.Aborted, match="has changed"):
        endpoints.update_endpoint(
            endpoint={"name": made.name, "display_name": "two", "etag": made.etag}, update_mask=mask
        )
    assert endpoints.get_endpoint(name=made.name).display_name == "one"
    endpoints.delete_endpoint(name=made.name).result()
