"""How objects and buckets look in an answer, and how a PATCH changes them."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote

from trilho.testing.emulator.storage.index import Stored


def object_resource(record: Stored, base: str) -> dict[str, Any]:
    """Give an object as the JSON API shows it."""
    path = f"b/{record.bucket}/o/{quote(record.name, safe='')}"
    generation = str(record.generation)
    return record.document | {
        "kind": "storage#object", "id": f"{record.bucket}/{record.name}/{generation}",
        "selfLink": f"{base}/storage/v1/{path}",
        "mediaLink": f"{base}/download/storage/v1/{path}?generation={generation}&alt=media",
        "name": record.name, "bucket": record.bucket, "generation": generation,
        "etag": _etag(record.generation, record.metageneration),
    }  # fmt: skip


def bucket_resource(document: dict[str, Any], base: str) -> dict[str, Any]:
    """Give a bucket as the JSON API shows it."""
    etag = _etag(0, int(document["metageneration"]))
    return document | {"kind": "storage#bucket", "selfLink": f"{base}/storage/v1/b/{document['name']}", "etag": etag}


def merged(document: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """Apply a PATCH: objects are merged, null removes.

    >>> merged({"a": 1, "metadata": {"x": "1", "y": "2"}}, {"a": None, "metadata": {"x": None}})
    {'metadata': {'y': '2'}}
    """
    result = dict(document)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def _etag(generation: int, metageneration: int) -> str:
    return base64.b64encode(f"{generation}/{metageneration}".encode()).decode()
