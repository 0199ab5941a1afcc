"""Which key a request has: the caller's x-trilho-key, else the value of a field of its first row.

The first row decides for the whole request: its rows are answered by one version, under one identity and in one log
line each, and to split them over versions would give the caller two answers in one. Who scores many customers in one
request and wants each to keep its version sends a request for each, or scores in a batch, by cohort.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

KEY_HEADER = "x-trilho-key"


class Key(NamedTuple):
    """The key that decides for a request, and how many different ones its rows have."""

    value: str | None = None
    different: int = 0


def key_of(body: bytes, field: str, fields: Sequence[str] = ()) -> Key:
    """Give the value of a field of a request's first row as text; None where it has none.

    Rows may be objects, arrays in the order of `fields`, or the tensors of the Open Inference Protocol.

    >>> key_of(b'{"instances": [{"customer": 7}, {"customer": 8}]}', "customer")
    Key(value='7', different=2)
    >>> key_of(b'{"instances": [[1.5, "a"]]}', "customer", ["x", "customer"]).value
    'a'
    """
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError:
        return Key()  # the version that is asked says what is wrong
    if not isinstance(payload, dict):
        return Key()
    keys = _of_instances(payload.get("instances"), field, fields) or _of_tensor(payload.get("inputs"), field)
    return Key(keys[0], len(set(keys))) if keys else Key()


def _of_instances(rows: Any, field: str, fields: Sequence[str]) -> list[str | None]:
    if not isinstance(rows, list):
        return []
    place = list(fields).index(field) if field in fields else None
    return [_text(_of_instance(row, field, place, len(fields) == 1)) for row in rows]


def _of_instance(row: Any, field: str, place: int | None, alone: bool) -> Any:
    if isinstance(row, Mapping):
        return row.get(field)
    if isinstance(row, list):
        return row[place] if place is not None and len(row) > place else None
    return row if place is not None and alone else None


def _of_tensor(inputs: Any, field: str) -> list[str | None]:
    named = inputs if isinstance(inputs, list) else []
    found = next((x for x in named if isinstance(x, Mapping) and x.get("name") == field), {})
    values = found.get("data")
    return [_text(value) for value in values] if isinstance(values, list) else []


def _text(value: Any) -> str | None:
    return None if value is None or isinstance(value, dict | list) else str(value)
