"""Which key a request has."""

from __future__ import annotations

import json

import pytest

from trilho_runtime.routing.sticky import Key, key_of


def key(payload: object, *fields: str) -> str | None:
    return key_of(json.dumps(payload).encode(), "customer", fields).value


def test_the_first_row_decides() -> None:
    assert key({"instances": [{"customer": "b", "x": 1}, {"customer": "a"}]}) == "b"
    assert key({"instances": [{"customer": 7}]}) == key({"instances": [{"customer": "7"}]}) == "7"


def test_rows_may_be_arrays_bare_values_or_tensors() -> None:
    assert key({"instances": [[1.5, "b"]]}, "x", "customer") == "b"
    assert key({"instances": ["b", "c"]}, "customer") == "b"
    tensors = [{"name": "x", "data": [1.0]}, {"name": "customer", "shape": [2], "data": ["b", "c"]}]
    assert key({"inputs": tensors}) == "b"


def test_different_keys_of_a_request_are_counted() -> None:
    def different(payload: object, *fields: str) -> int:
        return key_of(json.dumps(payload).encode(), "customer", fields).different

    assert different({"instances": [{"customer": "b"}, {"customer": "a"}, {"customer": "b"}]}) == 2
    assert different({"instances": [{"customer": 7}, {"customer": "7"}]}) == 1
    assert different({"instances": [{"customer": "b"}, {"x": 1}]}) == 2
    assert different({"instances": [[1.5, "b"], [1.5, "c"]]}, "x", "customer") == 2
    assert different({"inputs": [{"name": "customer", "data": ["b", "c", "d"]}]}) == 3


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
    assert key_of(b"{", "customer") == Key(None, 0)
