"""Endpoints: models deployed as processes of this machine, and how the traffic is shared among them.

Replica counts, autoscaling, machine types and accelerators are checked for being given and then mean nothing: a
deployed model is one process. Refused: shared resources, automatic resources for a container, private endpoints' DNS,
explanations. A model whose container has no command here (its image's own would run it) is served where its artifact
is a trilho package or a scikit-learn model.joblib/model.pkl; else deploying it succeeds and predicting says why not.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from google.cloud import aiplatform_v1 as v1
from google.protobuf import empty_pb2

from trilho.pipeline.places import Place, Places
from trilho.testing.emulator.checks import Findings, invalid, masked
from trilho.testing.emulator.containers import Container, variables_of
from trilho.testing.emulator.crud import Crud
from trilho.testing.emulator.listing import merge
from trilho.testing.emulator.models import Models
from trilho.testing.emulator.resources import Resources, copied, new_id
from trilho.testing.emulator.rules import Refusal

NEW = "0"  # stands for the model that is being deployed in a traffic split
READY_SECONDS = 120.0  # where the model has no deployment_timeout of its own
ENDPOINT_ID = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?|[1-9][0-9]{0,8}")
DEPLOYED_ID = re.compile(r"[0-9]{1,10}")
BIGQUERY = re.compile(r"bq://[\w:-]+(?:\.\w+){0,2}")
CHANGEABLE = {"display_name", "description", "labels", "traffic_split", "predict_request_response_logging_config"}
MUTABLE = {
    "dedicated_resources.min_replica_count",
    "dedicated_resources.max_replica_count",
    "dedicated_resources.required_replica_count",
    "dedicated_resources.autoscaling_metric_specs",
    "disable_container_logging",
}
PACKAGE = "manifest.json"
PICKLES = ("model.joblib", "model.pkl")


class Endpoints:
    """The handlers of the endpoint service."""

    def __init__(
        self,
        resources: Resources,
        models: Models,
        places: Callable[[], Places],
        folder: Path,
        local: Callable[[str], Path | None],
    ) -> None:
        self.resources, self.models, self.places, self.folder, self.local = resources, models, places, folder, local
        self._crud = Crud(resources)
        self._lock = threading.RLock()
        self._containers: dict[tuple[str, str], Container | None] = {}
        self._starting: set[Container] = set()
        self._closed = False

    def handlers(self) -> Mapping[str, Callable[[Any, Any], Any]]:
        """Give the handlers by method; what is not here is CRUD."""
        return {
            "CreateEndpoint": self.create,
            "UpdateEndpoint": self.update,
            "UpdateEndpointLongRunning": self.update_later,
            "DeleteEndpoint": self.delete,
            "DeployModel": self.deploy,
            "UndeployModel": self.undeploy,
            "MutateDeployedModel": self.mutate,
        }

    def close(self) -> None:
        """End every container, also those that are not ready yet."""
        with self._lock:
            self._closed = True
            containers, self._containers = {*self._containers.values(), *self._starting}, {}
        with contextlib.ExitStack() as closing:
            for container in containers:
                if container is not None:
                    closing.callback(container.stop)

    def container(self, endpoint: str, deployed: str) -> Container | None:
        """Give the process of a deployed model; None where nothing here can serve it."""
        with self._lock:
            return self._containers.get((endpoint, deployed))

    def create(self, call: Any, request: v1.CreateEndpointRequest) -> Any:
        """Answer CreateEndpoint."""
        endpoint, findings = request.endpoint, Findings()
        findings.location(request.parent)
        findings.display_name("endpoint.display_name", endpoint.display_name)
        findings.labels("endpoint.labels", endpoint.labels)
        if request.endpoint_id and not ENDPOINT_ID.fullmatch(request.endpoint_id):
            findings.add("endpoint_id", f"{request.endpoint_id!r} does not match {ENDPOINT_ID.pattern}.")
        if endpoint.traffic_split:
            findings.add("endpoint.traffic_split", "Nothing is deployed yet that could get traffic.")
        _check_logging(endpoint, findings)
        findings.done()
        new = copied(endpoint)
        new.deployed_models = []
        name = f"{request.parent}/endpoints/{request.endpoint_id or new_id()}"
        if self.resources.find(name, v1.Endpoint) is not None:
            raise Refusal("ALREADY_EXISTS", f"Endpoint `{name}` already exists.")
        return call.later(name, lambda: self.resources.create(name, new))

    def update(self, _: Any, request: v1.UpdateEndpointRequest) -> v1.Endpoint:
        """Answer UpdateEndpoint."""
        paths = masked(request.update_mask, CHANGEABLE)
        with self.resources.lock:
            held = self.resources.get(request.endpoint.name, v1.Endpoint)
            findings = Findings()
            findings.labels("endpoint.labels", request.endpoint.labels)
            if "display_name" in paths:
                findings.display_name("endpoint.display_name", request.endpoint.display_name)
            _check_logging(request.endpoint, findings)
            findings.done()
            if "traffic_split" in paths:
                check_split(dict(request.endpoint.traffic_split), {deployed.id for deployed in held.deployed_models})
            updated: v1.Endpoint = self._crud.update(request.endpoint, paths)
            return updated

    def update_later(self, call: Any, request: v1.UpdateEndpointLongRunningRequest) -> Any:
        """Answer UpdateEndpointLongRunning, which only changes what UpdateEndpoint does not (client connections)."""
        self.resources.get(request.endpoint.name, v1.Endpoint)
        paths = ["client_connection_config"] if "client_connection_config" in request.endpoint else []
        return call.later(request.endpoint.name, lambda: self._crud.update(request.endpoint, paths))

    def delete(self, call: Any, request: v1.DeleteEndpointRequest) -> Any:
        """Answer DeleteEndpoint: nothing may be deployed there."""
        self._refuse_used(request.name)

        def remove() -> Any:
            with self.resources.lock:
                self._refuse_used(request.name)
                self.resources.remove(request.name, v1.Endpoint)
            return empty_pb2.Empty()

        return call.later(request.name, remove)

    def _refuse_used(self, name: str) -> None:
        if deployed := self.resources.get(name, v1.Endpoint).deployed_models:
            ids = ", ".join(one.id for one in deployed)
            raise Refusal("FAILED_PRECONDITION", f"Endpoint `{name}` has deployed models: {ids}. Undeploy them first.")

    def deploy(self, call: Any, request: v1.DeployModelRequest) -> Any:
        """Answer DeployModel: the operation is done when the container's health route says 200."""
        with self.resources.lock:
            endpoint = self.resources.get(request.endpoint, v1.Endpoint)
            model = self.models.resolve(request.deployed_model.model)
            deployed = self._checked(request.deployed_model, endpoint, model)
            split = {key: value for key, value in request.traffic_split.items() if value or key == NEW}
            if split:
                check_split(split, {NEW, *(one.id for one in endpoint.deployed_models)})
        return call.later(request.endpoint, lambda: self._deploy(request.endpoint, deployed, model, split))

    def _checked(self, given: v1.DeployedModel, endpoint: v1.Endpoint, model: v1.Model) -> v1.DeployedModel:
        findings = Findings()
        if "shared_resources" in given:
            raise Refusal("UNIMPLEMENTED", "trilho emulate does not have deployment resource pools.")
        if "automatic_resources" in given:
            findings.add("deployed_model.automatic_resources", f"Model `{model.name}` takes dedicated_resources only.")
        elif "dedicated_resources" not in given:
            findings.need("deployed_model.dedicated_resources", None)
        else:
            _check_machines(given.dedicated_resources, findings)
        if given.id and not DEPLOYED_ID.fullmatch(given.id):
            findings.add("deployed_model.id", f"{given.id!r} does not match {DEPLOYED_ID.pattern}.")
        findings.done()
        if not model.supported_deployment_resources_types:
            raise Refusal("FAILED_PRECONDITION", f"Model `{model.name}` has no container_spec: it cannot be deployed.")
        if any(one.id == given.id for one in endpoint.deployed_models):
            raise Refusal("ALREADY_EXISTS", f"DeployedModel {given.id} already exists at `{endpoint.name}`.")
        new = copied(given)
        new.id, new.model_version_id = given.id or new_id(), model.version_id
        new.model = f"{model.name}@{model.version_id}"
        new.display_name = given.display_name or model.display_name
        self.resources.stamp(new, "create_time")
        return new

    def _deploy(self, endpoint: str, deployed: v1.DeployedModel, model: v1.Model, split: dict[str, int]) -> Any:
        container = self._container(endpoint, deployed, model)
        if container is None:
            self._join(endpoint, deployed, split, None)
            return v1.DeployModelResponse(deployed_model=deployed)
        with self._lock:
            self._refuse_closed()
            self._starting.add(container)
        try:
            self._start(container, model)
            self._join(endpoint, deployed, split, container)
        except BaseException:
            container.stop()
            raise
        finally:
            with self._lock:
                self._starting.discard(container)
        return v1.DeployModelResponse(deployed_model=deployed)

    def _start(self, container: Container, model: v1.Model) -> None:
        container.start()
        limit: Any = model.container_spec.deployment_timeout
        seconds = limit.total_seconds() if "deployment_timeout" in model.container_spec else READY_SECONDS
        if (wrong := container.ready(seconds)) is not None:
            self._refuse_closed()
            raise Refusal("FAILED_PRECONDITION", wrong)

    def _refuse_closed(self) -> None:
        if self._closed:
            raise Refusal("CANCELLED", "The emulator is being stopped.")

    def _join(
        self, endpoint: str, deployed: v1.DeployedModel, split: dict[str, int], container: Container | None
    ) -> None:
        with self.resources.editing(endpoint, v1.Endpoint) as held, self._lock:
            self._refuse_closed()
            if any(one.id == deployed.id for one in held.deployed_models):  # by another who deployed it meanwhile
                raise Refusal("ALREADY_EXISTS", f"DeployedModel {deployed.id} already exists at `{endpoint}`.")
            if split:
                named = {deployed.id if key == NEW else key: value for key, value in split.items()}
                check_split(named, {deployed.id, *(one.id for one in held.deployed_models)})
                held.traffic_split = {key: value for key, value in named.items() if value}
            held.deployed_models.append(deployed)
            self._containers[endpoint, deployed.id] = container

    def undeploy(self, call: Any, request: v1.UndeployModelRequest) -> Any:
        """Answer UndeployModel: a model that gets traffic stays, but for the last one of an endpoint."""
        with self.resources.lock:
            endpoint = self.resources.get(request.endpoint, v1.Endpoint)
            self._left(endpoint, request)
        return call.later(request.endpoint, lambda: self._undeploy(request))

    def _undeploy(self, request: v1.UndeployModelRequest) -> v1.UndeployModelResponse:
        with self.resources.editing(request.endpoint, v1.Endpoint) as held:
            split = self._left(held, request)
            held.traffic_split = split
            held.deployed_models = [one for one in held.deployed_models if one.id != request.deployed_model_id]
        with self._lock:
            container = self._containers.pop((request.endpoint, request.deployed_model_id), None)
        if container is not None:
            container.stop()
        return v1.UndeployModelResponse()

    def _left(self, endpoint: v1.Endpoint, request: v1.UndeployModelRequest) -> dict[str, int]:
        """Give the traffic split that is left without a model, or refuse to take it away."""
        gone, others = request.deployed_model_id, {one.id for one in endpoint.deployed_models}
        if gone not in others:
            raise not_deployed(endpoint.name, gone)
        others.discard(gone)
        if not others:
            return {}
        split = {key: value for key, value in (request.traffic_split or endpoint.traffic_split).items() if value}
        if split.get(gone):
            fact = f"DeployedModel {gone} at `{endpoint.name}` gets {split[gone]}% of the traffic."
            raise Refusal("FAILED_PRECONDITION", f"{fact} Give its traffic to others before it is undeployed.")
        if request.traffic_split:
            check_split(split, others)
        return split

    def mutate(self, call: Any, request: v1.MutateDeployedModelRequest) -> Any:
        """Answer MutateDeployedModel: replica counts and autoscaling, which change nothing here but the record."""
        paths = masked(request.update_mask, MUTABLE, "of a deployed model cannot be changed.")
        endpoint = self.resources.get(request.endpoint, v1.Endpoint)
        if not any(one.id == request.deployed_model.id for one in endpoint.deployed_models):
            raise not_deployed(request.endpoint, request.deployed_model.id)

        def change() -> v1.MutateDeployedModelResponse:
            with self.resources.editing(request.endpoint, v1.Endpoint) as held:
                one = next((one for one in held.deployed_models if one.id == request.deployed_model.id), None)
                if one is None:
                    raise not_deployed(request.endpoint, request.deployed_model.id)
                merge(one, request.deployed_model, paths)
                findings = Findings()
                _check_machines(one.dedicated_resources, findings)
                findings.done()
                return v1.MutateDeployedModelResponse(deployed_model=one)

        return call.later(request.endpoint, change)

    def _container(self, endpoint: str, deployed: v1.DeployedModel, model: v1.Model) -> Container | None:
        spec, id_, places = model.container_spec, endpoint.rpartition("/")[2], self.places()
        artifact = self.local(model.artifact_uri) if model.artifact_uri else None
        place = places.of(spec.image_uri)
        words = [*spec.command, *(spec.args if spec.command else ())]
        if not words:
            place = place or places.own
            words = _server(artifact, place, model.version_id) or []
            if not words:
                return None
        route = f"/v1/endpoints/{id_}/deployedModels/{deployed.id}"
        known = {
            "AIP_DEPLOYED_MODEL_ID": deployed.id,
            "AIP_ENDPOINT_ID": id_,
            "AIP_FRAMEWORK": "CUSTOM_CONTAINER",
            "AIP_MACHINE_TYPE": deployed.dedicated_resources.machine_spec.machine_type,
            "AIP_MODE": "PREDICTION",
            "AIP_MODE_VERSION": "1.0.0",
            "AIP_MODEL_ID": model.name.rpartition("/")[2],
            "AIP_VERSION_NAME": model.version_id,
            "AIP_PROJECT_NUMBER": model.name.split("/")[1],
            "AIP_STORAGE_URI": str(artifact) if artifact is not None else "",
        }
        return Container(
            words,
            places=places,
            place=place,
            environment={**known, **variables_of(spec.env, known)},
            routes=(spec.health_route or route, spec.predict_route or f"{route}:predict"),
            log=self.folder / id_ / f"{deployed.id}.log",
            declared=spec.ports[0].container_port if spec.ports else 0,
        )


def check_split(split: Mapping[str, int], known: set[str]) -> None:
    """Refuse a traffic split that is not 100 in all, or names what is not deployed; an empty one is no traffic."""
    if unknown := sorted(set(split) - known):
        raise invalid("traffic_split", f"There is no deployed model {', '.join(unknown)} at the endpoint.")
    if any(value < 0 for value in split.values()):
        raise invalid("traffic_split", "A share of the traffic must not be negative.")
    if split and sum(split.values()) != 100:
        raise invalid("traffic_split", f"The shares of the traffic must add up to 100, not {sum(split.values())}.")


def _check_logging(endpoint: v1.Endpoint, findings: Findings) -> None:
    """Find what is wrong with where requests and answers are to be logged; they are not, here."""
    if "predict_request_response_logging_config" not in endpoint:
        return
    given, field = endpoint.predict_request_response_logging_config, "endpoint.predict_request_response_logging_config"
    if given.enabled and not 0 < given.sampling_rate <= 1:
        findings.add(f"{field}.sampling_rate", f"More than 0 and at most 1 is required, not {given.sampling_rate:g}.")
    uri = given.bigquery_destination.output_uri
    if given.enabled and not BIGQUERY.fullmatch(uri):
        findings.add(f"{field}.bigquery_destination.output_uri", f"{uri!r} does not match {BIGQUERY.pattern}.")


def not_deployed(endpoint: str, deployed: str) -> Refusal:
    """Say that nothing is deployed under an id."""
    return Refusal("NOT_FOUND", f"DeployedModel `{deployed}` not found at Endpoint `{endpoint}`.")


def _check_machines(given: v1.DedicatedResources, findings: Findings) -> None:
    field = "deployed_model.dedicated_resources"
    findings.need(f"{field}.machine_spec.machine_type", given.machine_spec.machine_type)
    if given.min_replica_count < 1:
        findings.add(f"{field}.min_replica_count", f"At least 1 is required, not {given.min_replica_count}.")
    if given.max_replica_count and given.max_replica_count < given.min_replica_count:
        fact = f"{given.max_replica_count} is less than min_replica_count, {given.min_replica_count}."
        findings.add(f"{field}.max_replica_count", fact)
    if bool(given.machine_spec.accelerator_type) != bool(given.machine_spec.accelerator_count):
        findings.add(f"{field}.machine_spec", "accelerator_type and accelerator_count go together.")


def _server(artifact: Path | None, place: Place, version: str) -> list[str] | None:
    """Give the command that serves an artifact whose container names none, None where nothing here can."""
    if artifact is None:
        return None
    if (artifact / PACKAGE).is_file():
        server = ["-m", "trilho_runtime.server", str(artifact), "--version", version, "--port", "$(AIP_HTTP_PORT)"]
        return [str(place.python), *server]
    if any((artifact / name).is_file() for name in PICKLES):
        return [str(place.python), str(Path(__file__).with_name("prebuilt")), str(artifact)]
    return None
