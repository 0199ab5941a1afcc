"""JSON Schemas of what the server takes and gives, from a model's signature.

The range and the categories seen at training are told as examples and in words, not as `minimum` or `enum`: the server
answers rows beyond them, and a client made from the schema must not refuse what the server takes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from trilho_runtime.prediction.entries import Telling
from trilho_runtime.prediction.log import LARGEST_LABEL

Schema = dict[str, Any]
ERROR: Schema = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {"type": "string", "description": "What was received and what is allowed."},
        "field": {"type": "string", "description": "The field of the row that is wrong."},
        "row": {"type": "integer", "minimum": 0, "description": "Its row, counted from 0."},
    },
}
LABEL_NUMBER: Schema = {"type": "number", "minimum": -LARGEST_LABEL, "maximum": LARGEST_LABEL}
LABEL_ID: Schema = {"type": "string", "minLength": 1, "maxLength": 200}
LABEL_KEY: Schema = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": {"type": ["string", "integer"], "minimum": -(2**63), "maximum": 2**64 - 1},
}
EXAMPLES: Mapping[str, Any] = {
    "number": 1.5,
    "integer": 1,
    "boolean": True,
    "string": "text",
    "timestamp": "2026-01-31T12:00:00",
}


def field_schema(field: Mapping[str, Any], hidden: bool = False) -> Schema:
    """Give the schema of one field of the signature.

    >>> field_schema({"name": "x", "type": "number", "nullable": True, "minimum": 0.0, "maximum": 9.5})["description"]
    'Seen at training: 0.0 to 9.5.'
    """
    kind = field["type"]
    name = {"timestamp": "string"}.get(kind, kind)
    schema: Schema = {"type": [name, "null"] if field["nullable"] else name}
    if kind == "timestamp":
        schema["format"] = "date-time"
    if kind == "integer":
        limits = np.iinfo(field.get("dtype") or "int64")
        schema |= {"minimum": int(limits.min), "maximum": int(limits.max)}
    if kind == "number":
        largest = float(np.finfo(field.get("dtype") or "float64").max)
        schema |= {"minimum": -largest, "maximum": largest}
    seen = seen_at_training(field)
    if seen and not hidden:
        schema["description"] = f"Seen at training: {seen}."
    return schema


def seen_at_training(field: Mapping[str, Any], between: str = "to") -> str:
    """Give the range or the categories of a field in words, or nothing."""
    categories = field.get("categories")
    if categories:
        return ", ".join(map(str, categories))
    if field.get("minimum") is not None and field.get("maximum") is not None:
        return f"{field['minimum']} {between} {field['maximum']}"
    return ""


def row_schema(signature: Sequence[Mapping[str, Any]], hidden: Collection[str], *, closed: bool) -> Schema:
    """Give the schema of a row as an object of fields; `closed` where unknown fields are refused."""
    return {
        "type": "object",
        "required": [field["name"] for field in signature if not field["nullable"]],
        "properties": {field["name"]: field_schema(field, field["name"] in hidden) for field in signature},
        "additionalProperties": not closed,
    }


def instance_schema(signature: Sequence[Mapping[str, Any]], hidden: Collection[str]) -> Schema:
    """Give the schema of an instance: a row, its values in order, or the one value that there is."""
    values = [field_schema(field, field["name"] in hidden) for field in signature]
    size = len(values)
    array = {"type": "array", "prefixItems": values, "minItems": size, "maxItems": size}
    ways: list[Schema] = [{"$ref": "#/components/schemas/Row"}, array]
    return {"anyOf": ways + values if size == 1 else ways}


def label_schema(telling: Telling) -> Schema:
    """Give the schema of a label: a prediction's id or key, and one of the model's classes, or a number."""
    value: Schema = {"enum": list(telling.classes)} if telling.classes else LABEL_NUMBER
    by = {"id": {"id": LABEL_ID, "key": False}, "key": {"key": LABEL_KEY, "id": False}}
    return {
        "oneOf": [
            {"type": "object", "required": [name, "value"], "properties": {**named, "value": value}}
            for name, named in by.items()
        ]
    }


def entry_schema(telling: Telling) -> Schema:
    """Give the schema of a prediction, plain or full."""
    return {"anyOf": [_plain(telling), _full(telling)]}


def _plain(telling: Telling) -> Schema:
    if telling.kind == "value":
        return {"type": "number"}
    if telling.kind == "class":
        return {"enum": list(telling.classes)} if telling.classes else {"type": "number"}
    share = {"type": "number", "minimum": -1e-6, "maximum": 1.000001}
    return {
        "type": "object",
        "required": list(telling.labels),
        "properties": dict.fromkeys(telling.labels, share),
        "additionalProperties": False,
    }


def _full(telling: Telling) -> Schema:
    properties: Schema = {
        "id": {"type": "string"},
        "score": {} if telling.kind == "class" else {"type": "number"},
        "decision": {"type": ["boolean", "number", "string", "null"]},
        "version": {"type": "integer"},
        "decision_version": {"type": ["string", "integer"]},
    }
    if telling.kind == "probabilities":
        properties["label"] = {"enum": list(telling.classes)}
    if telling.kind in ("probability", "probabilities"):
        properties["probabilities"] = _plain(telling)
    return {"type": "object", "required": ["id", "score", "version"], "properties": properties}


def example_row(
    signature: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], hidden: Collection[str]
) -> dict[str, Any]:
    """Give a row to try: the package's first sample row, with made-up values in the fields that are to be hidden.

    >>> example_row([{"name": "x", "type": "number", "nullable": False}], [{"x": 2.0}], {"x"})
    {'x': 1.5}
    """
    first = rows[0] if rows else {}
    return {
        field["name"]: EXAMPLES[field["type"]] if field["name"] in hidden else first.get(field["name"], _made_up(field))
        for field in signature
    }


def _made_up(field: Mapping[str, Any]) -> Any:
    return (field.get("categories") or [EXAMPLES[field["type"]]])[0]
