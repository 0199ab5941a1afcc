from __future__ import annotations

import json
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trilho_runtime.signature import Field, RowError, Signature, parse_time

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
from trilho_runtime.signature import Signature
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


@pytest.mark.parametrize("column", ["pd.array([1, None], dtype='Int64')", "[None, None]", "[[1], [2]]", "[b'a', b'b']"])
def test_a_column_that_json_cannot_carry_is_refused(project_python: Path, column: str) -> None:
    code = f"""
import pandas as pd
from trilho_runtime.signature import Signature
try: Signature.infer(pd.DataFrame({{"odd": {column}}}))
except TypeError as error: print(error)
"""
    done = subprocess.run([str(project_python), "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("column odd has type "), done.stderr
