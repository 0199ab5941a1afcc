"""Which key a request has."""

from __future__ import annotations

import json

import pytest

from trilho_runtime.routing.sticky import key_of


def key(payload: object, *fields: str) -> str | None:
    return key_of(json.dumps(payload).encode(), "customer", fields)


def test_the_first_row_decides() -> None:
    assert key({"instances": [{"customer": "b", "x": 1}, {"customer": "a"}]}) == "b"
    assert key({"instances": [{"customer": 7}]}) == key({"instances": [{"customer": "7"}]}) == "7"


def test_rows_may_be_arrays_bare_values_or_tensors() -> None:
    assert key({"instances": [[1.5, "b"]]}, "x", "customer") == "b"
    assert key({"instances": ["b", "c"]}, "customer") == "b"
    tensors = [{"name": "x", "data": [1.0]}, {"name": "customer", "shape": [2], "data": ["b", "c"]}]
    assert key({"inputs": tensors}) == "b"


@pytest.mark.parametrize(
    "payload",
    [
        {},
        [],
        {"instances": []},
        {"instances": [{"x": 1}]},
        {"instances": [{"customer": None}]},
        {"instances": [{"customer": {"a": 1}}]},
        {"instances": [[1.5]]},
        {"instances": 3},
        {"inputs": [{"name": "customer"}]},
    ],
)
def test_a_request_without_the_field_has_no_key(payload: object) -> None:
    assert key(payload) is None
    assert key_of(b"{", "customer") is None
