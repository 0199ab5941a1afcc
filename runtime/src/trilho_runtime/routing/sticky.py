"""Which key a request has: the caller's x-trilho-key, else the value of a field of its first row.

The first row decides for the whole request: its rows are answered by one version, under one identity and in one log
line each, and to split them over versions would give the caller two answers in one. Who scores many customers in one
request and wants each to keep its version sends a request for each, or scores in a batch, by cohort.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

KEY_HEADER = "x-trilho-key"


def key_of(body: bytes, field: str, fields: Sequence[str] = ()) -> str | None:
    """Give the value of a field of a request's first row as text; None where it has none.

    Rows may be objects, arrays in the order of `fields`, or the tensors of the Open Inference Protocol.

    >>> key_of(b'{"instances": [{"customer": 7}, {"customer": 8}]}', "customer")
    '7'
    >>> key_of(b'{"instances": [[1.5, "a"]]}', "customer", ["x", "customer"])
    'a'
    """
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None  # the version that is asked says what is wrong
    if not isinstance(payload, dict):
        return None
    value = _of_instance(_first(payload.get("instances")), field, fields)
    if value is None:
        value = _of_tensor(payload.get("inputs"), field)
    return None if value is None or isinstance(value, dict | list) else str(value)


def _of_instance(row: Any, field: str, fields: Sequence[str]) -> Any:
    if isinstance(row, Mapping):
        return row.get(field)
    if isinstance(row, list) and field in fields and len(row) > (at := list(fields).index(field)):
        return row[at]
    return row if list(fields) == [field] and not isinstance(row, list) else None


def _of_tensor(inputs: Any, field: str) -> Any:
    named = inputs if isinstance(inputs, list) else []
    found = next((x for x in named if isinstance(x, Mapping) and x.get("name") == field), None)
    return _first(found.get("data")) if found is not None else None


def _first(values: Any) -> Any:
    return values[0] if isinstance(values, list) and values else None
