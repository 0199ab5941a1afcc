"""Model versions in Vertex AI's registry: one for each thing that is deployed, found again by its labels.

Such a unit is a container that serves a version or, where the traffic must do what Vertex AI's split cannot, several
versions, a process each: Vertex AI splits between deployed models and knows neither keys nor shadows. What a unit is
made of (image, packages, settings) names it, so that whoever uploads the same again finds it there.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from trilho.backends.gcp.cloud import CALL_SECONDS, Cloud, needed_extra
from trilho.backends.gcp.operations import Operations
from trilho.config import Serve
from trilho.core.ports import Split
from trilho.errors import UsageError

COMMAND = ("python", "-m", "trilho_runtime.container")
PREDICT, HEALTH, PORT = "/predict", "/health", 8080
MODEL_LABEL, VERSION_LABEL, UNIT_LABEL = "trilho-model", "trilho-version", "trilho-unit"
ROUTES, VERSION = "TRILHO_ROUTES", "TRILHO_VERSION"
LONGEST_ID = 63
DIGITS = 5  # of a deployed model's id that do not name the version


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a unit runs on; each replica holds all its versions."""

    type: str = "n1-standard-2"
    least_replicas: int = 1
    most_replicas: int = 1


@dataclass(frozen=True, kw_only=True)
class Unit:
    """What one deployed model holds: a version, or several behind their own router."""

    image: str
    artifact: str
    """The URI of the package; of several, of the one that has most of the traffic."""
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def split(self) -> Split:
        """Who answers inside."""
        if ROUTES not in self.env:
            return Split(shares={int(self.env[VERSION]): 100})
        told = json.loads(self.env[ROUTES])
        shadow = told.get("shadow") or {}
        return Split(
            shares={int(item["version"]): int(item["share"]) for item in told["versions"]},
            shadow=shadow.get("version"),
            shadow_share=shadow.get("share", 100),
            sticky=told.get("sticky"),
        )

    @property
    def alone(self) -> int | None:
        """The version, where it is one."""
        return None if ROUTES in self.env else int(self.env[VERSION])

    @property
    def digest(self) -> str:
        """A name for all that it is made of."""
        made_of = [self.image, self.artifact, sorted(self.env.items())]
        return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:32]

    def deployed_id(self, machine: Machine) -> str:
        """Name it on a machine, in at most ten digits, as Vertex AI wants: the same again for whoever deploys it.

        `version_of` reads the version out of it again, the newest where there are several.
        """
        on = f"{self.digest} {machine.type} {machine.least_replicas} {machine.most_replicas}"
        number = int(hashlib.sha256(on.encode()).hexdigest(), 16) % 10**DIGITS
        return f"{max(self.split.versions)}{number:0{DIGITS}d}"

    def __str__(self) -> str:
        """Give it in words."""
        *some, last = map(str, self.split.versions)
        return f"versions {', '.join(some)} and {last} in one container" if some else f"version {last}"


class VertexModels:
    """One model's versions in the registry."""

    def __init__(self, cloud: Cloud, model: str, operations: Operations) -> None:
        self.cloud, self.model, self._operations = cloud, model, operations
        self.id = resource_id(model)
        self._known: dict[str, Unit] = {}

    @cached_property
    def client(self) -> Any:
        """The client of the model registry."""
        with needed_extra():
            from google.cloud.aiplatform_v1.services.model_service import ModelServiceClient
        return ModelServiceClient(
            credentials=self.cloud.credentials, client_options={"api_endpoint": self.cloud.aiplatform_address}
        )

    @property
    def name(self) -> str:
        """The resource name that all its versions share."""
        return f"{self.cloud.parent}/models/{self.id}"

    def ensure(self, unit: Unit) -> str:
        """Give a unit's model version, name@number, uploaded where it was not.

        Of two who upload at once both get the older one: the other stays unused.
        """
        doing = f"uploading {unit} of {self.model} to the model registry"
        return self._find(unit) or self._upload(unit, doing)

    def unit_of(self, deployed: Any) -> Unit | None:
        """Say what a deployed model holds; None for one that trilho did not upload."""
        name = f"{deployed.model.partition('@')[0]}@{deployed.model_version_id}"
        if name not in self._known:
            model = self.cloud.call(f"looking at {name}", lambda: self._get(name))
            if model.labels.get(MODEL_LABEL) != self.id:
                return None
            self._known[name] = _unit(model)
        return self._known[name]

    def _find(self, unit: Unit) -> str | None:
        from google.api_core.exceptions import NotFound

        def look() -> list[Any]:
            try:
                return list(self.client.list_model_versions(name=self.name, retry=None, timeout=CALL_SECONDS))
            except NotFound:
                return []

        found = self.cloud.call(f"looking for {unit} of {self.model} in the model registry", look)
        numbers = [int(one.version_id) for one in found if one.labels.get(UNIT_LABEL) == unit.digest]
        return f"{self.name}@{min(numbers)}" if numbers else None

    def _upload(self, unit: Unit, doing: str) -> str:
        from google.api_core.exceptions import AlreadyExists

        message = message_of(unit, self.id, self.model)

        def upload() -> str:
            parent = {"parent_model": self.name} if self._exists() else {"model_id": self.id}
            asked = {"parent": self.cloud.parent, "model": message, **parent}
            return str(self.client.upload_model(request=asked, retry=None, timeout=CALL_SECONDS).operation.name)

        for _ in range(2):  # the second time where somebody made the model in between: this is its second version
            try:
                started = self.cloud.call(doing, lambda: _twice(AlreadyExists, upload))
                self._operations.finish(self.client, started, doing, raised=(AlreadyExists,))
                break
            except AlreadyExists:
                continue
        found = self._find(unit)
        if found is None:
            raise UsageError(f"{doing}: it is not there now: somebody deleted it", hint="try again")
        return found

    def _exists(self) -> bool:
        from google.api_core.exceptions import NotFound

        try:
            found = self._get(self.name)
        except NotFound:
            return False
        require_ours(found, self.id, self.name)
        return True

    def _get(self, name: str) -> Any:
        return self.client.get_model(name=name, retry=None, timeout=CALL_SECONDS)


def _twice(kind: type[Exception], call: Callable[[], str]) -> str:
    """Make a call, and once more where it failed in a way that its next look at things avoids."""
    try:
        return call()
    except kind:
        return call()


def single(version: int, artifact: str, image: str, settings: Serve, name: str) -> Unit:
    """Give the unit that serves one version."""
    return Unit(image=image, artifact=artifact, env={VERSION: str(version), **environment(settings, name)})


def together(split: Split, artifacts: Mapping[int, str], image: str, settings: Serve, name: str) -> Unit:
    """Give the unit that serves several versions, a process each behind a router, as a split says."""
    champion = max(split.shares, key=lambda version: split.shares[version])
    routes: dict[str, Any] = {
        "model": name,
        "champion": champion,
        "versions": [
            {"version": version, "share": share, "package": artifacts[version]}
            for version, share in sorted(split.shares.items())
        ],
    }
    if split.sticky:
        routes["sticky"] = split.sticky
    if split.shadow is not None:
        routes["shadow"] = {
            "version": split.shadow,
            "share": split.shadow_share,
            "package": artifacts[split.shadow],
        }
    env = {ROUTES: json.dumps(routes, sort_keys=True), **environment(settings, name)}
    return Unit(image=image, artifact=artifacts[champion], env=env)


def environment(settings: Serve, name: str) -> dict[str, str]:
    """Give the settings of [serve] as the container takes them; what is the default is left out.

    Who calls is Vertex AI's to ask, and its log is Vertex AI's or the topic: the container's own disk dies with it.

    >>> environment(Serve(workers=2), "bikes")
    {'TRILHO_NAME': 'bikes', 'TRILHO_OPEN': '1', 'TRILHO_WORKERS': '2'}
    """
    default = Serve()
    told = {
        "TRILHO_WORKERS": str(settings.workers) if settings.workers != default.workers else "",
        "TRILHO_ENTRIES": settings.entries if settings.entries != default.entries else "",
        "TRILHO_EXTRA_FIELDS": settings.extra_fields if settings.extra_fields != default.extra_fields else "",
        "TRILHO_MAX_ROWS": str(settings.max_rows) if settings.max_rows != default.max_rows else "",
        "TRILHO_TOPIC": settings.topic or "",
        "TRILHO_MASK": json.dumps(settings.mask, sort_keys=True) if settings.mask and settings.topic else "",
    }
    return {"TRILHO_NAME": name, "TRILHO_OPEN": "1", **{key: value for key, value in told.items() if value}}


def message_of(unit: Unit, label: str, name: str) -> Any:
    """Give the Model message of a unit: the image with its command, routes and variables, and where the package is."""
    with needed_extra():
        from google.cloud.aiplatform_v1.types import EnvVar, Model, ModelContainerSpec, Port

    version = unit.alone
    return Model(
        display_name=name,
        version_description=str(unit),
        version_aliases=[f"v{version}"] if version is not None else [],
        artifact_uri=unit.artifact,
        container_spec=ModelContainerSpec(
            image_uri=unit.image,
            command=list(COMMAND),
            env=[EnvVar(name=key, value=value) for key, value in sorted(unit.env.items())],
            ports=[Port(container_port=PORT)],
            predict_route=PREDICT,
            health_route=HEALTH,
        ),
        labels={
            MODEL_LABEL: label,
            VERSION_LABEL: "-".join(map(str, unit.split.versions)),
            UNIT_LABEL: unit.digest,
        },
    )


def _unit(model: Any) -> Unit:
    spec = model.container_spec
    env = {str(pair.name): str(pair.value) for pair in spec.env}
    return Unit(image=spec.image_uri, artifact=model.artifact_uri, env=env)


def version_of(deployed_id: str) -> int:
    """Give the version that the id of a deployed model names.

    >>> version_of("1200345")
    12
    """
    return int(deployed_id[:-DIGITS])


def resource_id(model: str) -> str:
    """Give the id under which Vertex AI has a model and its endpoint, which is its label too.

    >>> resource_id("bike-demand"), resource_id("2nd Model_x")
    ('bike-demand', 'm-2nd-model-x')
    """
    plain = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")
    return (plain if plain[:1].isalpha() else f"m-{plain}")[:LONGEST_ID].rstrip("-")


def require_ours(found: Any, label: str, name: str) -> None:
    """Refuse a model or an endpoint that somebody else made. Raises UsageError."""
    if found.labels.get(MODEL_LABEL) != label:
        raise UsageError(
            f"{name} exists, and trilho did not make it (its label {MODEL_LABEL} is not {label})",
            hint="rename the model in trilho.toml, or delete what is there",
        )
