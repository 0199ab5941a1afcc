from __future__ import annotations

import json
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trilho_runtime.schema.signature import Field, RowError, Signature, parse_time

FIELDS = Signature(
    (
        Field("n", "number", False),
        Field("maybe", "number", True),
        Field("i", "integer", False),
        Field("small", "integer", False, "int8"),
        Field("b", "boolean", False),
        Field("s", "string", True),
        Field("t", "timestamp", False),
    )
)
GOOD: dict[str, Any] = {"n": 1.5, "maybe": None, "i": 3, "small": -4, "b": True, "s": "a", "t": "2024-01-01T00:00:00"}


def refused(**changed: Any) -> RowError:
    with pytest.raises(RowError) as caught:
        FIELDS.columns([GOOD, {**GOOD, **changed}])
    return caught.value


def test_instances_are_objects_arrays_or_bare_values() -> None:
    pair = Signature((Field("x", "number", False), Field("c", "string", True)))
    assert pair.rows_of([{"x": 1, "extra": 2}, [2, "a"]]) == [{"x": 1, "extra": 2}, {"x": 2, "c": "a"}]
    assert Signature(pair.fields[:1]).rows_of([3, [4], {"x": 5}, None]) == [{"x": v} for v in (3, 4, 5, None)]
    assert pair.rows_of([]) == []


@pytest.mark.parametrize(
    ("instance", "says"),
    [
        ([1], "row 1 is an array of 1 values; wanted 2, in the order x, c"),
        ([1, "a", 2], "row 1 is an array of 3 values; wanted 2"),
        ([], "row 1 is an array of 0 values"),
        (3, "row 1 is 3, an integer; wanted an object of fields, or an array of 2 values"),
        (None, "row 1 is null; wanted an object"),
        ("ab", 'row 1 is "ab", a string'),
    ],
)
def test_an_instance_of_another_shape_is_named(instance: object, says: str) -> None:
    pair = Signature((Field("x", "number", False), Field("c", "string", True)))
    with pytest.raises(RowError) as caught:
        pair.rows_of([[1, "a"], instance])
    assert str(caught.value).startswith(says)
    assert caught.value.row == 1


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (Field("x", "number", False), Field("x", "number", False), []),
        (Field("x", "number", False), Field("x", "number", True), []),
        (Field("x", "integer", False), Field("x", "number", False), []),
        (Field("x", "number", False, "", 0, 9), Field("x", "number", False, "float32", 5, 6), []),
        (Field("x", "integer", False, "int8"), Field("x", "integer", False, "Int16"), []),
        (Field("gone", "number", False), Field("x", "number", True), []),
        (Field("gone", "number", False), Field("x", "number", False), ["x is new and may not be null"]),
        (Field("x", "number", True), Field("x", "number", False), ["x may no longer be null"]),
        (Field("x", "number", False), Field("x", "integer", False), ["x was of type number and is of type integer"]),
        (Field("x", "boolean", False), Field("x", "number", False), ["x was of type boolean and is of type number"]),
        (Field("x", "integer", False), Field("x", "string", False), ["x was of type integer and is of type string"]),
        (
            Field("x", "integer", True),
            Field("x", "integer", False, "uint8"),
            ["x held int64 and holds uint8, which has fewer values", "x may no longer be null"],
        ),
    ],
)
def test_what_breaks_for_callers_of_an_older_signature_is_said(old: Field, new: Field, says: list[str]) -> None:
    assert Signature((new,)).breaks(Signature((old,))) == says


def test_an_integer_that_may_be_null_is_a_float_that_holds_it_exactly() -> None:
    maybe = Signature((Field("i", "integer", True, "Int64"),))
    column = maybe.columns([{"i": None}, {"i": 2**53}, {}])["i"]
    assert (column.dtype.name, column[1]) == ("float64", 2**53)
    assert np.isnan(column[[0, 2]]).all()
    for value in (2**53 + 1, 1.5, "1", True):
        with pytest.raises(RowError, match="row 0: i is "):
            maybe.columns([{"i": value}])


def test_no_rows_are_empty_columns_of_the_right_types() -> None:
    dtypes = {name: column.dtype for name, column in FIELDS.columns([]).items()}
    assert dtypes == {name: column.dtype for name, column in FIELDS.columns([GOOD]).items()}


def test_a_number_beyond_its_type_is_named() -> None:
    with pytest.raises(RowError, match="row 1: x is 1e"):
        Signature((Field("x", "number", False, "float32"),)).columns([{"x": 1.0}, {"x": 1e39}])


def test_a_manifests_field_that_is_none_is_refused() -> None:
    for wrong in ({"name": "x", "type": "date", "nullable": False}, {"type": "number"}, "x"):
        with pytest.raises(ValueError, match="is no field"):
            Signature.from_json([wrong])  # type: ignore[list-item]


def test_good_rows_become_columns_of_the_right_types() -> None:
    columns = FIELDS.columns([GOOD, {**GOOD, "n": 2, "i": 4.0, "s": None}])
    assert {name: column.dtype.str[1:] for name, column in columns.items()} == {
        "n": "f8",
        "maybe": "f8",
        "i": "i8",
        "small": "i1",
        "b": "b1",
        "s": "O",
        "t": "M8[us]",
    }
    assert columns["n"].tolist() == [1.5, 2.0]
    assert columns["i"].tolist() == [3, 4]
    assert np.isnan(columns["maybe"]).all()
    assert columns["s"].tolist() == ["a", None]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", "1"),
        ("n", True),
        ("n", None),
        ("n", [1]),
        ("n", float("nan")),
        ("n", float("inf")),
        ("n", 10**400),
        ("maybe", float("inf")),
        ("i", 1.5),
        ("i", "1"),
        ("i", False),
        ("i", 2**63),
        ("i", 1e300),
        ("i", None),
        ("small", 128),
        ("b", 1),
        ("b", "true"),
        ("s", 1),
        ("s", {}),
        ("t", "yesterday"),
        ("t", 1700000000),
        ("t", None),
        ("t", "2024-13-01"),
        ("t", "0001-01-01T00:00:00+14:00"),
    ],
)
def test_a_wrong_value_is_named_by_field_and_row(field: str, value: object) -> None:
    error = refused(**{field: value})
    assert (error.field, error.row) == (field, 1)
    assert f"row 1: {field} is " in str(error)
    assert len(str(error)) < 200


def test_a_missing_field_is_null_where_null_is_allowed_and_named_where_not() -> None:
    less = {k: v for k, v in GOOD.items() if k not in ("maybe", "s")}
    assert np.isnan(FIELDS.columns([less])["maybe"][0])
    without = {k: v for k, v in GOOD.items() if k != "n"}
    with pytest.raises(RowError, match="row 0: n is missing; wanted a number"):
        FIELDS.columns([without])


def test_a_row_that_is_no_object_is_named() -> None:
    with pytest.raises(RowError, match=r"row 1 is \[1\], a list") as caught:
        FIELDS.columns([GOOD, [1]])  # type: ignore[list-item]
    assert caught.value.row == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2024-01-02T03:04:05Z", datetime(2024, 1, 2, 3, 4, 5)),
        ("2024-01-02T03:04:05.123456789Z", datetime(2024, 1, 2, 3, 4, 5, 123456)),
        ("2024-01-02 03:04:05.1+02:00", datetime(2024, 1, 2, 1, 4, 5, 100000)),
        ("2024-01-02", datetime(2024, 1, 2)),
    ],
)
def test_times_become_naive_utc(text: str, value: datetime) -> None:
    assert parse_time(text) == value


def test_a_signature_survives_its_manifest() -> None:
    assert Signature.from_json(json.loads(json.dumps(FIELDS.to_json()))) == FIELDS


def test_a_served_row_has_the_types_of_a_training_row(project_python: Path, made: Path) -> None:
    code = """
import sys, orjson, pandas as pd
from trilho_runtime.schema.signature import Signature
raw = pd.read_parquet(sys.argv[1]).drop(columns="y")
signature = Signature.infer(raw)
rows = orjson.loads(orjson.dumps(signature.rows(raw)))
back = signature.frame(signature.columns(rows))
pd.testing.assert_frame_equal(raw, back)
one = signature.frame(signature.columns(rows[1:2]))
assert (one.dtypes == raw.dtypes).all(), (one.dtypes, raw.dtypes)
print(",".join(f"{f.type}{'?' if f.nullable else ''}" for f in signature.fields))
"""
    command = [str(project_python), "-c", code, str(made / "train.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "string,timestamp,number,integer,string?,boolean,number?\n", done.stderr


@pytest.mark.parametrize(
    "column", ["pd.array([1, 2], dtype='int64[pyarrow]')", "[None, None]", "[[1], [2]]", "[b'a', b'b']"]
)
def test_a_column_that_json_cannot_carry_is_refused(project_python: Path, column: str) -> None:
    code = f"""
import pandas as pd
from trilho_runtime.schema.signature import Signature
try: Signature.infer(pd.DataFrame({{"odd": {column}}}))
except TypeError as error: print(error)
"""
    done = subprocess.run([str(project_python), "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("column odd has type "), done.stderr
