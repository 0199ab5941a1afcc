"""The operations of an OpenAPI document: what each route of a server takes and answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from trilho_runtime.prediction.entries import Telling
from trilho_runtime.protocols.inference import datatype_of
from trilho_runtime.protocols.inferred import described
from trilho_runtime.protocols.plane import MAX_ROWS, Model
from trilho_runtime.protocols.schemas import Schema, field_schema
from trilho_runtime.web.access import open_to_all

Route = tuple[str, str]
ANSWERS = {
    400: "The body is no JSON, nested too deep, or broken.",
    401: "No credentials, or wrong ones.",
    403: "An account that may not call.",
    404: "There is no such thing here.",
    405: "Another method is taken here.",
    408: "The body did not arrive in time.",
    413: "Too large a body, too many rows or too many fields.",
    415: "The body is compressed.",
    422: "A wrong row, with field and row where it can be said.",
    429: "More requests wait than can be answered soon; try again a little later.",
    503: "The model is loading, or the server cannot answer now; try again.",
    507: "The labels could not be written down.",
}
READING, WRITING = (401, 403, 503), (400, 401, 403, 408, 413, 415, 422, 429, 503)


@dataclass(frozen=True)
class Served:
    """How a server was started, as far as its callers can tell."""

    routes: Collection[Route]
    keys: bool = False
    tokens: bool = False
    open_paths: Collection[str] = field(default_factory=open_to_all)
    refuse_extra: bool = False
    max_rows: int = MAX_ROWS
    hidden: Collection[str] = ()


def operations_of(
    model: Model, version: int, decides: bool, telling: Telling, row: Mapping[str, Any], served: Served
) -> dict[Route, dict[str, Any]]:
    """Give the operations by method and path, those of the protocols in order."""
    predict = _predict(model, row, served)
    found: dict[Route, dict[str, Any]] = {}
    for method, path in sorted(served.routes, key=lambda route: (route[1], route[0])):
        if path.startswith("/v2"):
            continue
        if method == "POST" and path == "/labels":
            found[method, path] = _labels(telling)
        elif method == "POST":
            found[method, path] = predict
        else:
            found[method, path] = _get(path)
    if any(path.startswith("/v2") for _, path in served.routes):
        found |= _inference(model, version, decides, telling, row, served)
    return found


def _predict(model: Model, row: Mapping[str, Any], served: Served) -> dict[str, Any]:
    past: Schema = {"type": ["array", "null"], "description": "Rows of before, with their targets.", "items": {}}
    if model.predictor.history is None:
        past["maxItems"] = 0
    parameters = {
        "type": ["object", "null"],
        "properties": {"entries": {"enum": ["plain", "full", None]}, "past": past},
    }
    instances = {
        "type": "array",
        "minItems": 1,
        "maxItems": served.max_rows,
        "items": {"$ref": "#/components/schemas/Instance"},
    }
    body = {
        "type": "object",
        "required": ["instances"],
        "properties": {"instances": instances, "parameters": parameters},
    }
    answer = {
        "type": "object",
        "required": ["predictions", "ids", "model", "version"],
        "properties": {
            "predictions": {"type": "array", "items": {"$ref": "#/components/schemas/Prediction"}},
            "ids": {"type": "array", "items": {"type": "string"}},
            "model": {"type": "string"},
            "version": {"type": "integer"},
        },
    }
    return _operation("Predict rows", answer, WRITING, body, {"instances": [row]})


def _labels(telling: Telling) -> dict[str, Any]:
    counts = ("accepted", "repeated", "refused")
    whole = {"labels": {"type": "array", "items": {"$ref": "#/components/schemas/Label"}}, "partial": {"const": False}}
    partial = {
        "labels": {"type": "array", "description": "Wrong ones are refused by row, the others are kept."},
        "partial": {"const": True},
    }
    body = {
        "anyOf": [
            {"type": "object", "required": ["labels"], "properties": whole},
            {"type": "object", "required": ["labels", "partial"], "properties": partial},
        ]
    }
    answer = {
        "type": "object",
        "required": list(counts),
        "properties": {name: {"type": "integer", "minimum": 0} for name in counts},
    }
    value = telling.classes[-1] if telling.classes else 1.0
    example = {"labels": [{"id": "0123456789abcdef01234567.0", "value": value}]}
    return _operation("Tell what turned out to be true", answer, (*WRITING, 507), body, example)


def _get(path: str) -> dict[str, Any]:
    texts = {"/metrics": "text/plain", "/docs": "text/html"}
    summary = {
        "/": "Which model this is",
        "/metrics": "Counters for Prometheus",
        "/docs": "This document as a page",
        "/openapi.json": "This document",
        "/profile": "What was served, as counts",
    }
    if path in texts:
        return _operation(summary[path], {"type": "string"}, READING, kind=texts[path])
    return _operation(summary.get(path, "Whether the model answers"), {"type": "object"}, READING)


def _operation(
    summary: str,
    answer: Schema,
    statuses: Collection[int],
    body: Schema | None = None,
    example: Any = None,
    kind: str = "application/json",
) -> dict[str, Any]:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    responses: dict[str, Any] = {"200": {"description": "Answered.", "content": {kind: {"schema": answer}}}}
    responses |= {str(status): {"description": ANSWERS[status], "content": error} for status in sorted(statuses)}
    operation: dict[str, Any] = {"summary": summary, "responses": responses}
    if body is not None:
        content = {"schema": body, **({"examples": {"one": {"value": example}}} if example is not None else {})}
        operation["requestBody"] = {"required": True, "content": {"application/json": content}}
    return operation


def _inference(
    model: Model, version: int, decides: bool, telling: Telling, row: Mapping[str, Any], served: Served
) -> dict[Route, dict[str, Any]]:
    name, anything = f"/v2/models/{model.package.manifest['name']}", {"type": "object"}
    found = {
        ("GET", "/v2"): _operation("Which server this is", anything, (401, 403)),
        ("GET", "/v2/health/live"): _operation("Whether the server lives", anything, ()),
        ("GET", "/v2/health/ready"): _operation("Whether the server is ready", anything, (503,)),
    }
    body, answer, example = _tensors(model, decides, telling, row, served)
    for start in (name, f"{name}/versions/{version}"):
        found["GET", start] = _operation("Inputs and outputs as tensors", anything, (*READING, 404))
        found["GET", f"{start}/ready"] = _operation("Whether the model is ready", anything, (*READING, 404))
        found["POST", f"{start}/infer"] = _operation("Infer from tensors", answer, (*WRITING, 404), body, example)
    return found


def _tensors(
    model: Model, decides: bool, telling: Telling, row: Mapping[str, Any], served: Served
) -> tuple[Schema, Schema, dict[str, Any]]:
    fields, signature = model.predictor.signature.fields, model.package.manifest["signature"]
    rows = {"type": "integer", "minimum": 1, "maximum": served.max_rows}
    shape = {"type": "array", "prefixItems": [rows, {"type": "integer", "minimum": 1}], "minItems": 1, "maxItems": 2}
    inputs = [
        {
            "type": "object",
            "required": ["name", "shape", "datatype", "data"],
            "properties": {
                "name": {"const": field.name},
                "datatype": {"const": datatype_of(field)},
                "shape": shape,
                "data": {"type": "array", "items": field_schema(told, field.name in served.hidden)},
            },
        }
        for field, told in zip(fields, signature, strict=True)
    ]
    outputs = [name for name, _, _ in described(telling, decides)]
    asked = {"type": "object", "required": ["name"], "properties": {"name": {"enum": outputs}}}
    body = {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "inputs": {"type": "array", "minItems": 1, "items": {"anyOf": inputs}},
            "outputs": {"type": "array", "items": asked},
        },
    }
    told = {
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "properties": {"name": {"enum": outputs}, "shape": {"type": "array"}, "data": {"type": "array"}},
    }
    answer = {
        "type": "object",
        "required": ["model_name", "model_version", "id", "outputs"],
        "properties": {"outputs": {"type": "array", "items": told}},
    }
    tensors = [{"name": f.name, "shape": [1], "datatype": datatype_of(f), "data": [row[f.name]]} for f in fields]
    return body, answer, {"inputs": tensors}
