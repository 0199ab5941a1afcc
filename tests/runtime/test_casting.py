"""A table's columns are checked as a request's rows are: the same arrays, or the same words of refusal."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trilho_runtime.schema.casting import Given, cast_columns
from trilho_runtime.schema.signature import Field, RowError, Signature
from trilho_runtime.serving.exchange import read_part, write_part

VALUES: dict[str, list[Any]] = {
    "number": [0.5, -3.25, 1e300, 7.0, 0.0],
    "integer": [3, -2, 0, 2**40, 127],
    "boolean": [True, False],
    "string": ["a", "", "é", "a b"],
    "timestamp": ["2024-01-02T03:04:05", "1999-12-31T00:00:00", "2024-01-02T03:04:05.123456"],
}


def arrays(values: list[Any], kind: str) -> Given:
    """Give values as DuckDB gives a column: an array of one type, and what of it is null."""
    null = np.array([value is None for value in values])
    if kind in ("string", "boolean") and (kind == "string" or null.any()):
        column = np.empty(len(values), object)
        column[:] = values
        return Given.of(column)
    fill = {"number": 0.0, "integer": 0, "boolean": False, "timestamp": "1970-01-01"}[kind]
    dtype = {"number": "float64", "integer": "int64", "boolean": "bool", "timestamp": "datetime64[us]"}[kind]
    return Given.of(np.array([fill if value is None else value for value in values], dtype), null)


@pytest.mark.parametrize("seed", range(60))
def test_columns_become_what_rows_become(seed: int) -> None:
    chance = random.Random(seed)
    fields, given, count = [], {}, chance.randint(1, 6)
    for place in range(chance.randint(1, 5)):
        kind = chance.choice(sorted(VALUES))
        nullable = chance.random() < 0.5
        values = [None if nullable and chance.random() < 0.4 else chance.choice(VALUES[kind]) for _ in range(count)]
        dtype = chance.choice(["", "float32"]) if kind == "number" and 1e300 not in values else ""
        fields.append(Field(f"f{place}", kind, nullable, dtype))  # type: ignore[arg-type]
        given[f"f{place}"] = values
    signature = Signature(tuple(fields))
    rows = [{name: values[row] for name, values in given.items()} for row in range(count)]
    wanted = signature.columns(rows)
    found = cast_columns(signature, {f.name: arrays(given[f.name], f.type) for f in fields}, count)
    assert found.keys() == wanted.keys()
    for name, column in wanted.items():
        assert found[name].dtype == column.dtype
        np.testing.assert_array_equal(found[name], column)


@pytest.mark.parametrize(
    ("field", "column", "message"),
    [
        (Field("x", "number", False), np.array(["1", "2"], object), 'row 0: x is "1", a string; wanted a number'),
        (Field("x", "number", False), np.array([1.0, np.nan]), "row 1: x is null; wanted a number"),
        (Field("x", "number", False), np.array([1.0, np.inf]), "row 1: x is inf, a number; wanted a number"),
        (Field("x", "number", False), np.array([True, False]), "row 0: x is true, a boolean; wanted a number"),
        (Field("x", "integer", False), np.array([1.0, 2.5]), "row 1: x is 2.5, a number; wanted an integer"),
        (Field("x", "integer", False, "int8"), np.array([1, 300]), "row 1: x is 300, an integer; wanted an integer"),
        (Field("x", "boolean", False), np.array([0, 1]), "row 0: x is 0, an integer; wanted true or false"),
        (Field("x", "string", True), np.array([7, 8]), "row 0: x is 7, an integer; wanted a string"),
        (Field("x", "timestamp", True), np.array(["soon", None], object), 'row 0: x is "soon", a string; wanted an'),
    ],
)  # fmt: skip
def test_what_no_request_may_hold_is_refused_by_row(field: Field, column: Any, message: str) -> None:
    with pytest.raises(RowError) as refused:
        cast_columns(Signature((field,)), {"x": Given.of(column)}, 2)
    assert str(refused.value).startswith(message)
    assert refused.value.field == "x"


def test_a_column_that_is_not_there_is_null_where_it_may_be() -> None:
    found = cast_columns(Signature((Field("x", "number", True), Field("c", "string", True))), {}, 2)
    assert np.isnan(found["x"]).all()
    assert found["c"].tolist() == [None, None]
    with pytest.raises(RowError, match="row 0: x is missing"):
        cast_columns(Signature((Field("x", "number", False),)), {}, 2)


def test_a_part_crosses_unchanged(tmp_path: Path) -> None:
    times = np.ma.masked_array(np.array(["2024-01-01", "2024-01-02"], "datetime64[us]"), mask=[False, True])
    texts = np.ma.masked_array(np.array(["a", "x"], object), mask=[False, True])
    columns = {"t": times, "c": texts, "n": np.array([1, 2]), "b": np.array([True, False])}
    write_part(tmp_path / "part", columns, 2)
    found, rows = read_part(tmp_path / "part")
    assert rows == 2
    assert {name: given.null.tolist() for name, given in found.items()} == {
        "t": [False, True], "c": [False, True], "n": [False, False], "b": [False, False],
    }  # fmt: skip
    assert found["n"].values.tolist() == [1, 2]
    assert found["c"].values.tolist() == ["a", None]
