"""The methods on buckets, with the parts of IAM that a client asks a bucket for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trilho.testing.emulator.http import ApiError, Json, Request, Route
from trilho.testing.emulator.rules import Refusal, Rules
from trilho.testing.emulator.storage.conditions import require
from trilho.testing.emulator.storage.objects import Objects
from trilho.testing.emulator.storage.resources import bucket_resource, merged

FIXED = (
    "name",
    "id",
    "metageneration",
    "timeCreated",
    "updated",
    "location",
    "projectNumber",
    "kind",
    "selfLink",
    "etag",
)


@dataclass(frozen=True)
class _Numbers:
    metageneration: int
    generation: int = 0


class BucketMethods:
    """Create, get, list, change, delete; policy and permissions."""

    def __init__(self, objects: Objects, rules: Rules, project: str) -> None:
        self._objects, self._rules, self._project = objects, rules, project

    def routes(self) -> list[Route]:
        """Give the routes."""
        one = "/storage/v1/b/{bucket}"
        return [
            Route("POST", "/storage/v1/b", "storage.buckets.create", self._create),
            Route("GET", "/storage/v1/b", "storage.buckets.list", self._list),
            Route("GET", one, "storage.buckets.get", self._get),
            Route("PATCH", one, "storage.buckets.update", lambda request: self._change(request, whole=False)),
            Route("PUT", one, "storage.buckets.update", lambda request: self._change(request, whole=True)),
            Route("DELETE", one, "storage.buckets.delete", self._delete),
            Route("GET", one + "/iam", "storage.buckets.getIamPolicy", self._policy),
            Route("PUT", one + "/iam", "storage.buckets.setIamPolicy", self._set_policy),
            Route("GET", one + "/iam/testPermissions", "", self._permissions),
            Route("GET", "/storage/v1/projects/{project}/serviceAccount", "", self._account),
        ]

    def _create(self, request: Request) -> Json:
        given = {key: value for key, value in request.json().items() if key in ("name", "location") or key not in FIXED}
        if "location" in given:
            given["location"] = str(given["location"]).upper()
        return bucket_resource(self._objects.create_bucket(given), request.base)

    def _list(self, request: Request) -> Json:
        size, token = request.number("maxResults", 1000), request.first("pageToken")
        found = [at for at in self._objects.buckets(request.first("prefix")) if at["name"] > token]
        items = [bucket_resource(document, request.base) for document in found[:size]]
        more = {"nextPageToken": items[-1]["name"]} if items and len(found) > size else {}
        return {"kind": "storage#buckets", "items": items} | more

    def _get(self, request: Request) -> Json:
        document = self._objects.bucket(request.values["bucket"])
        require(request.first, _numbers(document), reading=True)
        return bucket_resource(document, request.base)

    def _change(self, request: Request, *, whole: bool) -> Json:
        given = {key: value for key, value in request.json().items() if key not in FIXED}

        def change(document: dict[str, Any]) -> dict[str, Any]:
            require(request.first, _numbers(document))
            if whole:
                return {key: value for key, value in document.items() if key in FIXED} | given
            return merged(document, given)

        return bucket_resource(self._objects.change_bucket(request.values["bucket"], change), request.base)

    def _delete(self, request: Request) -> None:
        bucket = request.values["bucket"]
        self._objects.delete_bucket(bucket, lambda document: require(request.first, _numbers(document)))

    def _policy(self, request: Request) -> Json:
        document = self._objects.bucket(request.values["bucket"])
        return document.get("trilhoPolicy") or {"kind": "storage#policy", "version": 1, "bindings": [], "etag": "CAE="}

    def _set_policy(self, request: Request) -> Json:
        policy = request.json() | {"kind": "storage#policy", "etag": "CAI="}
        self._objects.change_bucket(request.values["bucket"], lambda document: document | {"trilhoPolicy": policy})
        return policy

    def _permissions(self, request: Request) -> Json:
        bucket = request.values["bucket"]
        self._objects.bucket(bucket)
        asked = list(request.query.get("permissions", []))
        return {"kind": "storage#testIamPermissionsResponse",
                "permissions": [name for name in asked if self._is_allowed(name, bucket)]}  # fmt: skip

    def _is_allowed(self, permission: str, bucket: str) -> bool:
        try:
            self._rules.enter(permission, bucket)
        except Refusal:
            return False
        return True

    def _account(self, request: Request) -> Json:
        project = request.values["project"]
        if not project:
            raise ApiError(400, "A project is needed.")
        return {"kind": "storage#serviceAccount", "email_address": f"service-{project}@gs-project-accounts.local"}


def _numbers(document: dict[str, Any]) -> _Numbers:
    return _Numbers(int(document["metageneration"]))
