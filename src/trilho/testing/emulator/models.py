"""The model registry: versions under one name, aliases that move, and models that stay while something serves them.

A version's files are not copied when it is uploaded, as Vertex AI does: they are read where they lie, once something
is deployed, and may come later or never. Labels that are
set on a model without a version are set on every version. Not emulated: export, copies, evaluations that are computed,
explanations, checks of the container's image, which need not exist.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from google.cloud import aiplatform_v1 as v1
from google.protobuf import empty_pb2

from trilho.testing.emulator.checks import Findings, invalid, masked
from trilho.testing.emulator.crud import Crud
from trilho.testing.emulator.listing import merge
from trilho.testing.emulator.resources import Resources, copied, new_id, not_found
from trilho.testing.emulator.rules import Refusal

ALIAS = re.compile(
    r"[a-z][a-zA-Z0-9-]{0,126}[a-z0-9]"
)  # https://cloud.google.com/vertex-ai/docs/model-registry/model-alias
MODEL_ID = re.compile(r"[a-z_][a-z0-9_-]{0,62}")
DEFAULT = "default"
DEDICATED: Any = v1.Model.DeploymentResourcesType.DEDICATED_RESOURCES
OF_MODEL = {"display_name", "description", "labels"}
OF_VERSION = {"version_description", "labels"}


class Models:
    """The handlers of the model service."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self._crud = Crud(resources)
        self._lock = threading.RLock()
        self._models: dict[str, dict[str, v1.Model]] = {}  # by name, then by version id, oldest first
        self._uploads: Counter[str] = Counter()  # by name: the number of a deleted version is not given again

    def handlers(self) -> Mapping[str, Callable[[Any, Any], Any]]:
        """Give the handlers by method."""
        return {
            "UploadModel": self.upload,
            "GetModel": self.get,
            "ListModels": self.list_models,
            "ListModelVersions": self.list_versions,
            "UpdateModel": self.update,
            "DeleteModel": self.delete,
            "DeleteModelVersion": self.delete_version,
            "MergeVersionAliases": self.merge_aliases,
        }

    def resolve(self, name: str) -> v1.Model:
        """Give the version that a name means: name@2, name@alias, or the name's default. Raises Refusal NOT_FOUND."""
        plain, _, version = name.partition("@")
        with self._lock:
            for model in self._versions(plain).values():
                if version == model.version_id or (version or DEFAULT) in model.version_aliases:
                    return model
        raise not_found("Model", name)

    def upload(self, call: Any, request: v1.UploadModelRequest) -> Any:
        """Answer UploadModel: a new model, or a new version of `parent_model`."""
        self._check(request)
        parent = request.parent_model.partition("@")[0]
        name = parent or f"{request.parent}/models/{request.model_id or new_id()}"
        with self._lock:
            if parent:
                self._versions(parent)
            elif name in self._models:
                raise Refusal("ALREADY_EXISTS", f"Model `{name}` already exists.")
        return call.later(name, lambda: self._add(name, request, new=not parent))

    def get(self, _: Any, request: v1.GetModelRequest) -> v1.Model:
        """Answer GetModel."""
        return self._shown(self.resolve(request.name), versioned="@" in request.name)

    def list_models(self, call: Any, request: v1.ListModelsRequest) -> v1.ListModelsResponse:
        """Answer ListModels: the default version of each."""
        prefix = f"{request.parent}/models/"
        with self._lock:
            names = [name for name in self._models if name.startswith(prefix)]
            found = [self._shown(self.resolve(name)) for name in names]
        models, token = self._crud.listed(found, v1.Model, request, fields={"model": _id})
        return v1.ListModelsResponse(models=models, next_page_token=token)

    def list_versions(self, _: Any, request: v1.ListModelVersionsRequest) -> v1.ListModelVersionsResponse:
        """Answer ListModelVersions."""
        with self._lock:
            held = list(self._versions(request.name.partition("@")[0]).values())
            found = [self._shown(model, versioned=True) for model in held]
        models, token = self._crud.listed(found, v1.Model, request)
        return v1.ListModelVersionsResponse(models=models, next_page_token=token)

    def update(self, _: Any, request: v1.UpdateModelRequest) -> v1.Model:
        """Answer UpdateModel: of a version (name@2), or of the model (name, name@-)."""
        plain, _, version = request.model.name.partition("@")
        one = version not in ("", "-")
        allowed, kind = (OF_VERSION, "version") if one else (OF_MODEL, "model")
        paths = sorted(set(masked(request.update_mask, allowed, f"cannot be updated on a {kind}.")))
        findings = Findings()
        findings.labels("model.labels", request.model.labels)
        findings.done()
        with self._lock:
            meant = self.resolve(request.model.name if one else plain)
            for model in [meant] if one else list(self._versions(plain).values()):
                self._edit(plain, model, lambda new: merge(new, request.model, paths))
            return self._shown(self.resolve(request.model.name if one else plain), versioned=one)

    def merge_aliases(self, _: Any, request: v1.MergeVersionAliasesRequest) -> v1.Model:
        """Answer MergeVersionAliases: what is added is taken from the version that had it; `-alias` is taken away."""
        plain, _, version = request.name.partition("@")
        if not version:
            raise invalid("name", "A model version is required, such as models/123@1.")
        given = list(request.version_aliases)
        if not given:
            raise invalid("version_aliases", "Required field is not set.")
        added = {alias for alias in given if not alias.startswith("-")}
        removed = {alias[1:] for alias in given if alias.startswith("-")}
        check_aliases(added | removed)
        added, removed = added - removed, removed - added  # both at once cancel each other out
        with self._lock:
            model = self.resolve(request.name)
            if DEFAULT in removed and DEFAULT in model.version_aliases:
                raise invalid("version_aliases", "One version must be the default: give the alias to another instead.")
            self._give(plain, model.version_id, added, removed)
            return self._shown(self.resolve(f"{plain}@{model.version_id}"), versioned=True)

    def delete_version(self, call: Any, request: v1.DeleteModelVersionRequest) -> Any:
        """Answer DeleteModelVersion: neither the only version, nor one that is deployed."""
        plain, _, version = request.name.partition("@")
        if not version:
            raise invalid("name", "A model version is required, such as models/123@1.")
        with self._lock:
            model = self.resolve(request.name)
            if len(self._versions(plain)) == 1:
                hint = "Delete the model instead."
                raise Refusal("FAILED_PRECONDITION", f"The only version of Model `{plain}` cannot be deleted. {hint}")
            if DEFAULT in model.version_aliases:
                fact = f"The default version of Model `{plain}` cannot be deleted."
                raise Refusal("FAILED_PRECONDITION", f"{fact} Give the alias to another version first.")
            self._refuse_deployed(plain, model.version_id)
        return call.later(plain, lambda: self._models[plain].pop(model.version_id, None) and None)

    def delete(self, call: Any, request: v1.DeleteModelRequest) -> Any:
        """Answer DeleteModel: all versions, none of which may be deployed."""
        if "@" in request.name:
            raise invalid("name", "A model is deleted by its name without a version.")
        with self._lock:
            self._versions(request.name)
            self._refuse_deployed(request.name, None)
        return call.later(request.name, lambda: self._forget(request.name))

    def _forget(self, plain: str) -> Any:
        with self._lock:
            self._models.pop(plain, None)
            self._uploads.pop(plain, None)
        return empty_pb2.Empty()

    def _versions(self, plain: str) -> dict[str, v1.Model]:
        if plain not in self._models:
            raise not_found("Model", plain)
        return self._models[plain]

    def _check(self, request: v1.UploadModelRequest) -> None:
        model, findings = request.model, Findings()
        findings.location(request.parent)
        findings.display_name("model.display_name", model.display_name)
        findings.labels("model.labels", model.labels)
        if "container_spec" in model:
            findings.need("model.container_spec.image_uri", model.container_spec.image_uri)
        if request.model_id and not MODEL_ID.fullmatch(request.model_id):
            findings.add("model_id", f"{request.model_id!r} does not match {MODEL_ID.pattern}.")
        if request.model_id and request.parent_model:
            findings.add("model_id", "It must not be set when a version of an existing model is uploaded.")
        if model.artifact_uri and not model.artifact_uri.startswith("gs://"):
            findings.add("model.artifact_uri", f"{model.artifact_uri!r} is not a Cloud Storage URI.")
        findings.done()
        check_aliases(set(model.version_aliases))

    def _add(self, name: str, request: v1.UploadModelRequest, *, new: bool) -> v1.UploadModelResponse:
        with self._lock:
            if new and name in self._models:
                raise Refusal("ALREADY_EXISTS", f"Model `{name}` already exists.")
            versions = self._models.setdefault(name, {}) if new else self._versions(name)
            model = copied(request.model)
            self._uploads[name] += 1
            model.name, model.version_id = name, str(self._uploads[name])
            aliases = {*model.version_aliases, *([] if versions else [DEFAULT])}
            model.version_aliases = []
            if "container_spec" in model:
                model.supported_deployment_resources_types = [DEDICATED]
                model.supported_input_storage_formats = ["jsonl", "bigquery", "csv"]
                model.supported_output_storage_formats = ["jsonl", "bigquery"]
            self.resources.stamp(model, "create_time", "version_create_time", "version_update_time")
            if versions:
                model.create_time = next(iter(versions.values())).create_time
            versions[model.version_id] = model
            self._give(name, model.version_id, aliases, set())
        return v1.UploadModelResponse(model=name, model_version_id=model.version_id)

    def _give(self, plain: str, version: str, added: set[str], removed: set[str]) -> None:
        """Give aliases to a version; no other version keeps them."""
        for model in list(self._versions(plain).values()):
            have = list(model.version_aliases)
            if model.version_id == version:
                want = [alias for alias in have if alias not in removed]
                want += sorted(added - set(want))
            else:
                want = [alias for alias in have if alias not in added]
            if want != have:
                self._edit(plain, model, partial(_set_aliases, want))

    def _edit(self, plain: str, model: v1.Model, change: Callable[[v1.Model], object]) -> None:
        new = copied(model)
        change(new)
        self.resources.stamp(new, "version_update_time")
        self._models[plain][model.version_id] = new

    def _shown(self, model: v1.Model, *, versioned: bool = False) -> v1.Model:
        """Give a model as it is answered: with where it is deployed, and with its version in the name when asked so."""
        shown = copied(model)
        if versioned:
            shown.name = f"{model.name}@{model.version_id}"
        shown.deployed_models = [
            v1.DeployedModelRef(endpoint=endpoint, deployed_model_id=deployed.id)
            for endpoint, deployed in deployments(self.resources, model.name, model.version_id)
        ]
        return shown

    def _refuse_deployed(self, plain: str, version: str | None) -> None:
        for endpoint, deployed in deployments(self.resources, plain, version):
            where = f"it is deployed as {deployed.id} at {endpoint}"
            raise Refusal("FAILED_PRECONDITION", f"Model `{plain}` cannot be deleted: {where}. Undeploy it first.")


def deployments(resources: Resources, plain: str, version: str | None) -> list[tuple[str, v1.DeployedModel]]:
    """Give where a model, or one version of it, is deployed."""
    return [
        (endpoint.name, deployed)
        for endpoint in resources.every(v1.Endpoint)
        for deployed in endpoint.deployed_models
        if deployed.model.partition("@")[0] == plain and version in (None, deployed.model_version_id)
    ]


def _id(model: Any) -> str:
    return str(model.name.rpartition("/")[2])


def _set_aliases(aliases: list[str], model: v1.Model) -> None:
    model.version_aliases = aliases


def check_aliases(aliases: set[str]) -> None:
    """Refuse an alias that is not written as aliases are; a number would be a version."""
    for alias in sorted(aliases):
        if not ALIAS.fullmatch(alias):
            raise invalid("version_aliases", f"Alias {alias!r} does not match {ALIAS.pattern}.")
