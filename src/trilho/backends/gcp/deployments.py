"""A model's endpoint as a resource of Vertex AI: made, deployed to, its traffic split set, each as often as needed.

Whatever is asked for twice, or by two at once, happens once: a unit's id at the endpoint follows from what it is made
of, the endpoint's own id from the model, and a traffic split is set on the condition (an etag) that nobody changed the
endpoint in between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, TypeVar

from trilho.backends.gcp.cloud import CALL_SECONDS, Cloud, needed_extra
from trilho.backends.gcp.logs import last_words
from trilho.backends.gcp.models import MODEL_LABEL, Machine, Unit, VertexModels, require_ours, resource_id
from trilho.backends.gcp.operations import Operations
from trilho.errors import ConfigError, NotYet, Refused, TrilhoError, Unreachable

T = TypeVar("T")
POSITION_LABEL = "trilho-position"
TRIES = 8  # at a change that others' changes came before
LOGGING = "predict_request_response_logging_config"


class Deployments:
    """What is deployed at one model's endpoint, in the units of `models`."""

    def __init__(self, cloud: Cloud, model: str, *, machine: Machine, log: str | None, operations: Operations) -> None:
        self.cloud, self.model, self.machine, self.log = cloud, model, machine, log
        self.operations = operations
        self.models = VertexModels(cloud, model, operations)
        self.id = resource_id(model)

    @property
    def name(self) -> str:
        """The endpoint's resource name."""
        return f"{self.cloud.parent}/endpoints/{self.id}"

    @cached_property
    def client(self) -> Any:
        """The client of the endpoint service."""
        with needed_extra():
            from google.cloud.aiplatform_v1.services.endpoint_service import EndpointServiceClient
        return EndpointServiceClient(
            credentials=self.cloud.credentials, client_options={"api_endpoint": self.cloud.aiplatform_address}
        )

    def found(self) -> Any | None:
        """Give the endpoint; None where there is none. Raises UsageError for one that somebody else made."""
        from google.api_core.exceptions import NotFound as Absent

        def look() -> Any | None:
            try:
                found = self._get()
            except Absent:
                return None
            require_ours(found, self.id, self.name)
            return found

        return self.cloud.call(f"looking at {self.name}", look)

    def _get(self) -> Any:
        return self.client.get_endpoint(name=self.name, retry=None, timeout=CALL_SECONDS)

    def ensure(self) -> Any:
        """Give the endpoint, made where there was none, with its log of requests as it should be."""
        found = self.found()
        if found is None:
            self._create()
            found = self.found()
        if found is not None and _log_of(found) != (self.log or ""):
            found = self._set_log(found)
        return found

    def _create(self) -> None:
        from google.api_core.exceptions import AlreadyExists
        from google.cloud.aiplatform_v1.types import Endpoint

        doing = f"creating the endpoint {self.name}"
        more = {LOGGING: self._logging()} if self.log else {}
        endpoint = Endpoint(display_name=self.model, labels={MODEL_LABEL: self.id}, **more)

        def create() -> str | None:
            asked = {"parent": self.cloud.parent, "endpoint": endpoint, "endpoint_id": self.id}
            try:
                return str(self.client.create_endpoint(request=asked, retry=None, timeout=CALL_SECONDS).operation.name)
            except AlreadyExists:
                return None

        started = self.cloud.call(doing, create)
        if started is not None:
            try:
                self.operations.finish(self.client, started, doing, raised=(AlreadyExists,))
            except AlreadyExists:
                return

    def _logging(self) -> Any:
        from google.cloud.aiplatform_v1.types import BigQueryDestination, PredictRequestResponseLoggingConfig

        if not self.log:
            return PredictRequestResponseLoggingConfig()
        return PredictRequestResponseLoggingConfig(
            enabled=True, sampling_rate=1.0, bigquery_destination=BigQueryDestination(output_uri=self.log)
        )

    def _set_log(self, held: Any) -> Any:
        from google.cloud.aiplatform_v1.types import Endpoint
        from google.protobuf import field_mask_pb2

        new = Endpoint({"name": self.name, "etag": held.etag, LOGGING: self._logging()})
        mask = field_mask_pb2.FieldMask(paths=[LOGGING])

        def change() -> Any:
            new.etag = self._get().etag
            return self.client.update_endpoint(endpoint=new, update_mask=mask, retry=None, timeout=CALL_SECONDS)

        return self.cloud.call(f"setting the log of {self.name}", lambda: self._undisturbed(change))

    def units(self, endpoint: Any) -> dict[str, Unit]:
        """Give what is deployed by its id, oldest first; what trilho did not deploy is left out."""
        found = {}
        for deployed in sorted(endpoint.deployed_models, key=lambda one: one.create_time):
            if (unit := self.models.unit_of(deployed)) is not None:
                found[str(deployed.id)] = unit
        return found

    def deploy(self, unit: Unit) -> str:
        """Deploy a unit without traffic, or go on waiting for it; give its id at the endpoint."""
        id_, doing = unit.deployed_id(self.machine), f"deploying {unit} of {self.model} on {self.machine.type}"
        endpoint = self.ensure()
        if not _holds(endpoint, id_):
            started = self.operations.under_way().get(id_)
            if started is None or not self.operations.known(self.client, started):
                started = self._start(unit, id_, doing)
            if started is not None:
                self.operations.keep(id_, started)
                self._finish_or_forget(started, id_, doing)
            self._until_there(id_, doing)
        self.operations.forget(id_)
        return id_

    def _finish_or_forget(self, started: str, id_: str, doing: str) -> None:
        try:
            self._finish(started, id_, doing)
        except NotYet:
            raise
        except TrilhoError:
            self.operations.forget(id_)
            raise

    def _until_there(self, id_: str, doing: str) -> None:
        """Wait until a unit is deployed: where another deployer began first, this is its operation's end."""

        def look() -> Any | None:
            found = self.found()
            return found if found is not None and _holds(found, id_) else None

        self.operations.until(look, doing, f"deployed model {id_}, by another deployer")

    def _start(self, unit: Unit, id_: str, doing: str) -> str | None:
        """Begin a deployment; give the operation's name, None where somebody else has done it."""
        from google.api_core import exceptions

        model = self.models.ensure(unit)
        self.cloud.say(f"{doing}: this takes Vertex AI 3 to 15 minutes")
        asked = {"endpoint": self.name, "deployed_model": self._message(unit, model, id_)}

        def deploy() -> str | None:
            try:
                return str(self.client.deploy_model(request=asked, retry=None, timeout=CALL_SECONDS).operation.name)
            except exceptions.AlreadyExists:
                return None
            except exceptions.ResourceExhausted as error:  # a quota of machines; a try in a second changes nothing
                raise self.cloud.explain(error, doing) from error

        return self.cloud.call(doing, lambda: self._undisturbed(deploy))

    def _message(self, unit: Unit, model: str, id_: str) -> Any:
        from google.cloud.aiplatform_v1.types import DedicatedResources, DeployedModel, MachineSpec

        if unit.alone is None and self.cloud.service_account is None:
            raise ConfigError(
                f"{unit} of {self.model}: its container fetches the packages from the bucket, as no account that may",
                hint="environments.NAME.service_account, an account with roles/storage.objectViewer on the bucket",
            )
        return DeployedModel(
            id=id_,
            model=model,
            display_name=f"{self.model} {unit}"[:128],
            service_account=self.cloud.service_account or "",
            dedicated_resources=DedicatedResources(
                machine_spec=MachineSpec(machine_type=self.machine.type),
                min_replica_count=self.machine.least_replicas,
                max_replica_count=self.machine.most_replicas,
            ),
        )

    def _finish(self, started: str, id_: str, doing: str) -> None:
        from google.api_core import exceptions

        told = (exceptions.AlreadyExists, exceptions.FailedPrecondition, exceptions.InvalidArgument)
        try:
            self.operations.finish(self.client, started, doing, raised=told)
        except exceptions.AlreadyExists:  # another deployer was first, with the same
            pass
        except (exceptions.FailedPrecondition, exceptions.InvalidArgument) as error:
            fact, _, words = (error.message or "").partition("\n")
            words = words.strip() or last_words(self.cloud, self.id, id_)
            raise TrilhoError(
                f"{doing}: {fact}" + (f"\n{words}" if words else ""),
                hint="correct what its server says, or look at it on this machine: trilho serve PACKAGE",
            ) from error

    def undeploy(self, id_: str, doing: str) -> None:
        """Take what is deployed under an id away; nothing where it is gone."""
        from google.api_core import exceptions

        def undeploy() -> str | None:
            try:
                return str(
                    self.client.undeploy_model(
                        endpoint=self.name, deployed_model_id=id_, retry=None, timeout=CALL_SECONDS
                    ).operation.name
                )
            except exceptions.NotFound:
                return None

        started = self.cloud.call(doing, lambda: self._undisturbed(undeploy))
        if started is not None:
            try:
                self.operations.finish(self.client, started, doing, raised=(exceptions.NotFound,))
            except exceptions.NotFound:
                return

    def share(self, shares: Mapping[str, int], position: int | None, doing: str) -> None:
        """Set the traffic split, by the deployed models' ids. Raises Refused where a later decision is followed."""
        from google.cloud.aiplatform_v1.types import Endpoint
        from google.protobuf import field_mask_pb2

        def change() -> None:
            held = self._get()
            before = int(held.labels.get(POSITION_LABEL, "0") or 0)
            if position is not None and position < before:
                raise Refused(
                    f"{self.name} follows a decision of the journal's record {before}; this one is of {position}",
                    hint="look again what serves: trilho rollout",
                )
            labels = {**held.labels, **({} if position is None else {POSITION_LABEL: str(position)})}
            if dict(held.traffic_split) == dict(shares) and labels == dict(held.labels):
                return
            new = Endpoint(name=self.name, etag=held.etag, traffic_split=dict(shares), labels=labels)
            mask = field_mask_pb2.FieldMask(paths=["traffic_split", "labels"])
            self.client.update_endpoint(endpoint=new, update_mask=mask, retry=None, timeout=CALL_SECONDS)

        self.cloud.call(doing, lambda: self._undisturbed(change))

    def _undisturbed(self, call: Callable[[], T]) -> T:
        """Make a call again where another deployer's change came in between; it looks at things anew."""
        from google.api_core.exceptions import Aborted

        for _ in range(TRIES):
            try:
                return call()
            except Aborted as error:
                said = error.message
        raise Unreachable(
            f"{self.name} was changed by others {TRIES} times in a row: {said}", hint="let them finish, then try again"
        )


def _holds(endpoint: Any, id_: str) -> bool:
    return any(one.id == id_ for one in endpoint.deployed_models)


def _log_of(endpoint: Any) -> str:
    """Give where an endpoint's requests are logged; nothing where they are not."""
    config = getattr(endpoint, LOGGING)
    return str(config.bigquery_destination.output_uri) if config.enabled else ""
