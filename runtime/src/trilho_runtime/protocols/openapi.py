"""The OpenAPI document of a model's server, and a page to read: the routes that there are, the fields, an example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from trilho_runtime.prediction.entries import Telling
from trilho_runtime.protocols.operations import Route, Served, operations_of
from trilho_runtime.protocols.plane import Model, Plane
from trilho_runtime.protocols.schemas import ERROR, entry_schema, example_row, instance_schema, label_schema, row_schema
from trilho_runtime.web.http import Answer, Handler, Request

__all__ = ["OPENAPI", "OpenApi", "Served", "document_of"]

OPENAPI = "3.1.0"


class OpenApi:
    """Answers /openapi.json and /docs; both are made once, when first asked for."""

    def __init__(self, plane: Plane, served: Served) -> None:
        self._plane = plane
        self._served = served
        self._made: tuple[Model, dict[str, Any], bytes] | None = None

    def routes(self) -> dict[Route, Handler]:
        """Give the handlers by method and path."""
        return {("GET", "/openapi.json"): self.openapi, ("GET", "/docs"): self.docs}

    async def openapi(self, request: Request) -> Answer:
        """Give the document."""
        return Answer(200, self._document()[2])

    async def docs(self, request: Request) -> Answer:
        """Give the page, in Portuguese where ?lang=pt or the caller's own languages ask for it."""
        from trilho_runtime.protocols.docs import HEADERS, language_of, page

        scope = request.scope
        language = language_of(scope.query_string, scope.headers.get("accept-language", ""))
        address = f"{scope.scheme}://{scope.headers.get('host') or scope.server}"
        model, document, _ = self._document()
        text = page(document, model.package.manifest, self._served, address, language)
        return Answer(200, text.encode(), [*HEADERS, ("content-language", language)], "text/html; charset=utf-8")

    def _document(self) -> tuple[Model, dict[str, Any], bytes]:
        model = self._plane.ready()
        if self._made is None or self._made[0] is not model:
            made = document_of(model, self._plane.version, self._plane.decides, self._served)
            self._made = (model, made, orjson.dumps(made))
        return self._made


def document_of(model: Model, version: int, decides: bool, served: Served) -> dict[str, Any]:
    """Give the OpenAPI document of a model's server."""
    manifest, rows = model.package.manifest, model.package.sample()[0]
    signature, telling = manifest["signature"], Telling.of(manifest)
    row = example_row(signature, rows, served.hidden)
    schemas = {
        "Row": row_schema(signature, served.hidden, closed=served.refuse_extra),
        "Instance": instance_schema(signature, served.hidden),
        "Prediction": entry_schema(telling),
        "Label": label_schema(telling),
        "Error": ERROR,
    }
    paths: dict[str, dict[str, Any]] = {}
    for (method, path), operation in operations_of(model, version, decides, telling, row, served).items():
        opened = path in served.open_paths
        paths.setdefault(path, {})[method.lower()] = {**operation, **({"security": []} if opened else {})}
    return {
        "openapi": OPENAPI,
        "info": {"title": manifest["name"], "version": str(version), "description": _about(manifest)},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": _schemes(served)},
        "security": [{name: []} for name in _schemes(served)],
    }


def _about(manifest: Mapping[str, Any]) -> str:
    return f"Predictions of {manifest['name']}, a {manifest['task']} model, one for each row that is sent."


def _schemes(served: Served) -> dict[str, Any]:
    keys = {"key": {"type": "apiKey", "in": "header", "name": "x-api-key"}}
    tokens = {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "Google ID token"}}
    return {**(keys if served.keys else {}), **(tokens if served.tokens else {})}
