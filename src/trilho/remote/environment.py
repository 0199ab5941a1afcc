"""Where pipelines run when they do not run here: an environment of trilho.toml, and the parts of its backend."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from trilho.config import FILE, Environment, Settings
from trilho.core.ports import ArtifactStore, RemoteFiles, Runner, Scheduler
from trilho.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from trilho.backends.gcp.cloud import Cloud

On = Literal["vertex", "kubeflow"]
BACKENDS: dict[On, Literal["gcp", "kubeflow"]] = {"vertex": "gcp", "kubeflow": "kubeflow"}
FOLDER = "file://"
OVERRIDES = {"project": "TRILHO_PROJECT", "region": "TRILHO_REGION", "bucket": "TRILHO_BUCKET", "image": "TRILHO_IMAGE"}
EMULATED_IMAGE = "trilho.local/"
"""How images begin that no registry has: they stand for the project as it is on this machine."""


@dataclass(frozen=True)
class Target:
    """An environment with what reaches it; parts are made when they are first used."""

    on: On
    name: str
    environment: Environment
    near: ArtifactStore
    """The store of this machine, which everything that is fetched is kept in."""
    model: str
    say: Callable[[str], None] = lambda _line: None

    @property
    def root(self) -> str:
        """The folder of this model's pipelines in the bucket: outputs, step records and manifests."""
        return f"{self.environment.bucket}/trilho/{self.model}"

    @property
    def store_root(self) -> str:
        """The folder of the artifacts that are uploaded."""
        return f"{self.root}/store"

    @cached_property
    def runner(self) -> Runner:
        """What runs pipelines there."""
        if self.on == "kubeflow":
            from trilho.backends.kubeflow.runner import KubeflowRunner

            return KubeflowRunner(self._endpoint)
        from trilho.backends.gcp.runner import VertexRunner

        return VertexRunner(self._cloud)

    @cached_property
    def scheduler(self) -> Scheduler:
        """What submits pipelines there at set times."""
        if self.on == "kubeflow":
            from trilho.backends.kubeflow.scheduler import KubeflowScheduler

            return KubeflowScheduler(self._endpoint)
        from trilho.backends.gcp.scheduler import VertexScheduler

        return VertexScheduler(self._cloud)

    @cached_property
    def files(self) -> RemoteFiles:
        """What steps left there."""
        if self.environment.bucket.startswith(FOLDER):
            from trilho.backends.local.files import FolderFiles

            return FolderFiles()
        from trilho.backends.gcp.objects import GcsFiles

        return GcsFiles(self._cloud)

    @cached_property
    def store(self) -> ArtifactStore:
        """The artifacts in the bucket."""
        if self.environment.bucket.startswith(FOLDER):
            from trilho.backends.local.store import LocalStore

            return LocalStore(Path(self.store_root.removeprefix(FOLDER)))
        from trilho.backends.gcp.objects import GcsFiles
        from trilho.backends.gcp.store import GcsStore

        return GcsStore(GcsFiles(self._cloud), self.store_root, self.near)

    def uri(self, digest: str) -> str:
        """Give where an artifact lies in the bucket."""
        return f"{self.store_root}/{digest[:2]}/{digest}"

    def place(self, run: str) -> str:
        """Name a run's job there, before it is submitted. Raises UsageError for an address that may not be kept."""
        if self.on == "vertex":
            return f"projects/{self.environment.project}/locations/{self.environment.region}/pipelineJobs/{run}"
        from trilho.backends.kubeflow.api import KubeflowApi

        return f"{KubeflowApi(self._endpoint).endpoint}#{run}"

    @property
    def emulated(self) -> bool:
        """Whether it is an emulator on this machine, which has the project itself for an image."""
        return bool(os.environ.get("TRILHO_AIPLATFORM" if self.on == "vertex" else "TRILHO_KUBEFLOW"))

    @property
    def _endpoint(self) -> str:
        return os.environ.get("TRILHO_KUBEFLOW") or self.environment.endpoint or ""

    @cached_property
    def _cloud(self) -> Cloud:
        from trilho.backends.gcp.cloud import Cloud, other_address

        return Cloud(
            project=self.environment.project or "",
            region=self.environment.region,
            bucket=self.environment.bucket.removeprefix("gs://").partition("/")[0],
            service_account=self.environment.service_account,
            aiplatform=other_address("TRILHO_AIPLATFORM"),
            logging=other_address("TRILHO_LOGGING"),
            say=self.say,
        )


def resolve(settings: Settings, on: str, name: str | None = None) -> tuple[On, str, Environment]:
    """Find the environment that `--on` and `--env` mean. Raises ConfigError or UsageError where there is none, or
    more than one and none was named."""
    if on not in BACKENDS:
        raise UsageError(f"--on is {on!r}; allowed: local, {', '.join(BACKENDS)}", hint="trilho train --help")
    place: On = on
    fitting = {key: one for key, one in settings.environments.items() if one.backend == BACKENDS[place]}
    fitting = fitting or _implied(place)
    if name is not None and name not in fitting:
        other = settings.environments.get(name)
        said = (
            f"its backend is {other.backend!r}" if other else f"there are: {', '.join(settings.environments) or 'none'}"
        )
        raise ConfigError(
            f"{FILE}: no environment {name!r} for {on}: {said}",
            hint=f'[environments.{name}] backend = "{BACKENDS[place]}"',
        )
    if not fitting:
        raise ConfigError(
            f'{FILE}: no [environments.NAME] has backend = "{BACKENDS[place]}", which {on} needs', hint=_example(place)
        )
    if name is None and len(fitting) > 1:
        raise UsageError(f"{FILE} has several environments for {on}: {', '.join(fitting)}", hint="add --env NAME")
    key = name or next(iter(fitting))
    return place, key, _overridden(fitting[key])


def _implied(on: On) -> dict[str, Environment]:
    """Give the environment that an emulator's variables describe, where trilho.toml has none."""
    project, bucket = os.environ.get("GOOGLE_CLOUD_PROJECT"), os.environ.get("TRILHO_BUCKET")
    if on == "vertex" and os.environ.get("TRILHO_AIPLATFORM") and project:
        return {"emulated": _checked({"backend": "gcp", "project": project, "bucket": bucket or f"{project}-trilho"})}
    endpoint = os.environ.get("TRILHO_KUBEFLOW")
    if on == "kubeflow" and endpoint and bucket:
        return {"emulated": _checked({"backend": "kubeflow", "endpoint": endpoint, "bucket": bucket})}
    return {}


def _overridden(environment: Environment) -> Environment:
    """Put what the process's environment says in place of what trilho.toml says."""
    given = {field: os.environ[name] for field, name in OVERRIDES.items() if os.environ.get(name)}
    return _checked({**environment.model_dump(), **given}) if given else environment


def _checked(values: Mapping[str, Any]) -> Environment:
    """Make an environment of what variables say. Raises ConfigError that names the variable."""
    try:
        return Environment.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        why = str(first["msg"]).removeprefix("Value error, ")
        name = next((OVERRIDES[str(key)] for key in first["loc"] if key in OVERRIDES), None)
        raise ConfigError(
            f"{name} is {first['input']!r}; allowed: {why}" if name else f"the environment is not whole: {why}",
            hint=f"correct {name}, or unset it" if name else f"correct {', '.join(OVERRIDES.values())}",
        ) from None


def _example(on: On) -> str:
    if on == "kubeflow":
        return '[environments.NAME] with backend = "kubeflow", endpoint = "https://HOST" and bucket = "gs://BUCKET"'
    return '[environments.NAME] with backend = "gcp", project = "PROJECT" and bucket = "gs://BUCKET"'


def image_of(target: Target) -> str | None:
    """Give the image that the steps run in; None for an emulator, where the project here stands for it.

    Raises ConfigError where a service would be given none that it can pull.
    """
    if target.environment.image is not None or target.emulated:
        return target.environment.image
    raise ConfigError(
        f"{FILE}: environments.{target.name}.image is missing: {target.on} runs every step in the project's image",
        hint='image = "REGISTRY/NAME@sha256:...", which docs/remote.md says how to build',
    )
