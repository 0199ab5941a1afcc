"""A model's endpoint on Vertex AI: versions are deployed models, and its traffic split is what shares are.

A version is deployed without traffic; shares are then one update of the endpoint, so that a step of a rollout, or its
rollback, takes seconds and no deployment. Vertex AI's split draws for each request: it keeps no key with its version
and asks nobody unseen. Where that is asked for, the versions share one container (`inside`): one more unit is deployed,
whose replicas hold all versions at once, and gets all the traffic; each further step of such a rollout deploys another,
while a rollback goes to the champion's own container, which stays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from trilho.backends.gcp.cloud import CALL_SECONDS, Cloud, needed_extra
from trilho.backends.gcp.deployments import POSITION_LABEL, Deployments
from trilho.backends.gcp.models import Machine, Unit, single, together, version_of
from trilho.backends.gcp.operations import Operations
from trilho.config import Serve
from trilho.core.capabilities import Capabilities
from trilho.core.ports import Answer, NotFound, Served, ServedPackage, ServedState, Split
from trilho.errors import NotYet, Refused, UsageError

PLACE = "Vertex AI's traffic split"


class Packages(Protocol):
    """The artifacts in the bucket, which have a URI each."""

    def put(self, source: Path) -> str:
        """Keep a copy and give its digest."""

    def uri(self, digest: str) -> str:
        """Give where it lies."""


class VertexEndpoint:
    """The Endpoint port on Vertex AI.

    `image` holds trilho-runtime and what the model needs; `log` is where Vertex AI writes requests and answers
    ("bq://PROJECT.DATASET.TABLE", or "bq://PROJECT" for a data set that it makes; None for nowhere); `kept` is a file
    of this machine that names what is under way.
    """

    def __init__(
        self,
        cloud: Cloud,
        packages: Packages,
        *,
        model: str,
        image: str,
        settings: Serve | None = None,
        machine: Machine | None = None,
        log: str | None = None,
        inside: bool = False,
        kept: Path | None = None,
        operations: Operations | None = None,
    ) -> None:
        self.cloud, self.packages, self.model, self.image = cloud, packages, model, image
        self.settings, self.inside = settings or Serve(), inside
        self.deployments = Deployments(
            cloud,
            model,
            machine=machine or Machine(),
            log=log,
            operations=operations or Operations(cloud, kept),
        )

    @property
    def capabilities(self) -> Capabilities:
        """What its traffic can be asked to do: all of it where versions may share a container."""
        return Capabilities(PLACE, mirror=self.inside, sticky=self.inside)

    @cached_property
    def predictions(self) -> Any:
        """The client of the prediction service."""
        with needed_extra():
            from google.cloud.aiplatform_v1.services.prediction_service import PredictionServiceClient
        return PredictionServiceClient(
            credentials=self.cloud.credentials, client_options={"api_endpoint": self.cloud.aiplatform_address}
        )

    def deploy(self, served: ServedPackage) -> None:
        """Upload a version's package and model, and deploy it without traffic; nothing where it is deployed."""
        uri = self.packages.uri(self.packages.put(served.package))
        self.deployments.deploy(single(served.version, uri, self.image, self.settings, self.model))

    def route(self, split: Split) -> None:
        """Give each version its share, in one update; what the split cannot do happens inside one container."""
        self._require(split)
        endpoint = self.deployments.found()
        units = self.deployments.units(endpoint) if endpoint is not None else {}
        missing = [str(one) for one in split.versions if one not in {unit.alone for unit in units.values()}]
        if missing:
            raise NotFound(
                f"version {', '.join(missing)} of {self.model} is not deployed at {self.deployments.name}",
                hint="deploy it first",
            )
        if (split.sticky is not None and len(split.shares) > 1) or split.shadow is not None:
            shares = {self._deploy_together(split, units): 100}
        else:
            newest = {unit.alone: id_ for id_, unit in units.items()}
            shares = {newest[version]: share for version, share in split.shares.items()}
        told = ", ".join(f"{share}% to version {version}" for version, share in sorted(split.shares.items()))
        self.deployments.share(shares, split.position, f"giving {told} of {self.model}")
        self._drop_containers_of_several(shares)

    def status(self) -> Served:
        """Say what is deployed, and who gets what."""
        endpoint = self.deployments.found()
        if endpoint is None:
            return Served(versions={})
        units = self.deployments.units(endpoint)
        states: dict[int, ServedState] = {
            version_of(key): "starting" for key in self.deployments.operations.under_way()
        }
        for deployed in endpoint.deployed_models:
            if deployed.id in units and (version := units[deployed.id].alone) is not None:
                states[version] = _state(deployed)
        return Served(
            versions=states,
            split=_split(units, endpoint),
            address=f"https://{self.cloud.aiplatform_address}/v1/{self.deployments.name}",
        )

    def predict(self, rows: Sequence[Any]) -> Answer:
        """Ask for predictions, as a caller would with `rawPredict`: the answer is the container's own."""
        from google.api import httpbody_pb2
        from google.api_core import exceptions

        doing = f"asking {self.deployments.name}"
        body = httpbody_pb2.HttpBody(
            data=json.dumps({"instances": list(rows)}).encode(), content_type="application/json"
        )

        def ask() -> bytes:
            try:
                return bytes(
                    self.predictions.raw_predict(
                        endpoint=self.deployments.name, http_body=body, retry=None, timeout=CALL_SECONDS
                    ).data
                )
            except (exceptions.FailedPrecondition, exceptions.NotFound) as error:
                raise NotYet(f"{doing}: {error.message}", hint="release a version first: trilho release") from None
            except exceptions.InvalidArgument as error:
                raise UsageError(f"{doing}: it refused the rows: {error.message}", hint="correct the rows") from None

        answer = json.loads(self.cloud.call(doing, ask))
        return Answer(predictions=answer["predictions"], version=int(answer["version"]))

    def undeploy(self, version: int) -> None:
        """Take a version's own container away. Raises Refused while it gets traffic."""
        endpoint = self.deployments.found()
        if endpoint is None:
            return
        own = [id_ for id_, unit in self.deployments.units(endpoint).items() if unit.alone == version]
        idle = [id_ for id_ in own if not endpoint.traffic_split.get(id_)]
        if own and not idle and len(endpoint.deployed_models) > 1:
            raise Refused(
                f"version {version} of {self.model} gets {endpoint.traffic_split[own[0]]}% of the traffic",
                hint="give its share to another version first",
            )
        for id_ in idle or own:
            self.deployments.undeploy(id_, f"undeploying version {version} of {self.model}")

    def _deploy_together(self, split: Split, units: Mapping[str, Unit]) -> str:
        artifacts = {unit.alone: unit.artifact for unit in units.values() if unit.alone is not None}
        unit = together(split, artifacts, self.image, self.settings, self.model)
        self.cloud.say(
            f"{unit}: each replica ({self.deployments.machine.type}) holds {len(split.versions)} versions and needs "
            "the memory of all of them; each step of this rollout deploys such a container anew"
        )
        return self.deployments.deploy(unit)

    def _drop_containers_of_several(self, shares: Mapping[str, int]) -> None:
        """Undeploy the units of earlier steps: no step and no rollback goes back to them."""
        for id_, unit in self.deployments.units(self.deployments.ensure()).items():
            if unit.alone is None and id_ not in shares:
                self.deployments.undeploy(id_, f"undeploying {unit} of {self.model}")

    def _require(self, split: Split) -> None:
        sticky = split.sticky if len(split.shares) > 1 else None
        try:
            self.capabilities.require(
                shadow=split.shadow_share if split.shadow is not None else 0, sticky=sticky, shares=True
            )
        except UsageError as error:
            raise UsageError(
                error.fact,
                hint="versions that share one container can, with the memory of all of them: set service_account in "
                "[environments.NAME], an account with roles/storage.objectViewer on the bucket",
            ) from None


def _state(deployed: Any) -> ServedState:
    status = deployed.status
    return "failed" if status and status.message and not status.available_replica_count else "ready"


def _split(units: Mapping[str, Unit], endpoint: Any) -> Split | None:
    """Say who gets what: what a container of several does inside counts as its own."""
    shares = {id_: int(share) for id_, share in endpoint.traffic_split.items() if share and id_ in units}
    position = endpoint.labels.get(POSITION_LABEL)
    place = int(position) if position else None
    if sum(shares.values()) != 100:
        return None
    if len(shares) == 1:
        inner = units[next(iter(shares))].split
        return Split(
            shares=inner.shares,
            shadow=inner.shadow,
            shadow_share=inner.shadow_share,
            sticky=inner.sticky,
            position=place,
        )
    return Split(shares={_version(units[id_]): share for id_, share in shares.items()}, position=place)


def _version(unit: Unit) -> int:
    return unit.alone if unit.alone is not None else max(unit.split.shares)
