"""The quick reader finds what the signature finds: the same columns, or the same error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trilho_runtime.schema.reading import Reader
from trilho_runtime.schema.signature import Field, RowError, Signature

FIELDS = (
    Field("x", "number", False),
    Field("gap", "number", True),
    Field("single", "number", True, "float32"),
    Field("count", "integer", False),
    Field("small", "integer", False, "int8"),
    Field("maybe", "integer", True, "Int8"),
    Field("flag", "boolean", False),
    Field("perhaps", "boolean", True),
    Field("text", "string", False),
    Field("word", "string", True),
    Field("at", "timestamp", True),
)
RIGHT: dict[str, st.SearchStrategy[Any]] = {
    "number": st.one_of(st.floats(-1e6, 1e6), st.integers(-(10**6), 10**6)),
    "integer": st.integers(-128, 127),
    "boolean": st.booleans(),
    "string": st.text(max_size=5),
    "timestamp": st.sampled_from(["2024-01-01", "2024-02-01T08:00:00+02:00", "2024-03-01 05:00:00.25Z"]),
}
ODD = st.one_of(
    st.none(), st.booleans(), st.floats(), st.integers(),
    st.sampled_from([10**400, -(2**63), 2**63, 1e300, 3.0, 2**53]),
    st.text(max_size=3), st.just("2024-13-01"), st.lists(st.integers(), max_size=2), st.just({}),
)  # fmt: skip


@st.composite
def rows(draw: st.DrawFn) -> tuple[Signature, list[Any]]:
    """Rows of some of the fields: mostly right, a few with something odd in them."""
    fields = draw(st.lists(st.sampled_from(FIELDS), min_size=1, max_size=len(FIELDS), unique=True))
    made: list[Any] = []
    for _ in range(draw(st.integers(0, 4))):
        row = {}
        for field in fields:
            right = RIGHT[field.type] if not field.nullable else st.one_of(st.none(), RIGHT[field.type])
            if draw(st.integers(0, 19)):
                row[field.name] = draw(ODD if not draw(st.integers(0, 24)) else right)
        if not draw(st.integers(0, 9)):
            row["other"] = draw(ODD)
        made.append(draw(ODD) if not draw(st.integers(0, 29)) else row)
    return Signature(tuple(fields)), made


def told(read: Any, rows: list[Any]) -> Any:
    """The columns that a reader finds, or the error that it raises."""
    with np.errstate(over="ignore"):
        try:
            return read(rows)
        except RowError as error:
            return (str(error), error.field, error.row)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(rows())
def test_it_finds_what_the_signature_finds(case: tuple[Signature, list[Any]]) -> None:
    signature, given_rows = case
    expected, found = told(signature.columns, given_rows), told(Reader(signature).columns, given_rows)
    if isinstance(expected, tuple):
        assert found == expected
        return
    assert list(found) == list(expected)
    for name, column in expected.items():
        assert found[name].dtype == column.dtype, name
        np.testing.assert_array_equal(found[name], column)


def test_right_rows_are_not_left_to_the_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Reader(Signature(FIELDS))
    row = {
        "x": 1.5, "single": None, "count": 2**62, "small": -128, "maybe": None, "flag": True, "perhaps": None,
        "text": "a", "word": None, "at": "2024-01-01",
    }  # fmt: skip

    def refuse(*_: object) -> Any:
        raise AssertionError("the slow way")

    monkeypatch.setattr(Signature, "columns", refuse)
    found = reader.columns([row, {**row, "gap": 3, "maybe": 7, "word": "b"}])
    plain = ("x", "count", "small", "flag", "perhaps", "text", "word")
    assert {name: found[name].tolist() for name in plain} == {
        "x": [1.5, 1.5], "count": [2**62, 2**62], "small": [-128, -128], "flag": [True, True],
        "perhaps": [None, None], "text": ["a", "a"], "word": [None, "b"],
    }  # fmt: skip
    np.testing.assert_array_equal(found["gap"], [np.nan, 3.0])
    np.testing.assert_array_equal(found["maybe"], [np.nan, 7.0])


def test_no_value_of_one_row_is_anothers() -> None:
    reader = Reader(Signature((Field("a", "number", False), Field("b", "number", False))))
    found = reader.columns([{"b": 2 * n + 1, "a": 2 * n} for n in range(50)])
    assert (found["a"].tolist(), found["b"].tolist()) == (
        [2.0 * n for n in range(50)],
        [2.0 * n + 1 for n in range(50)],
    )


@pytest.mark.parametrize("value", [128, -129, 2**53 + 1, True, "1", 1.5, 7.0, None])
@pytest.mark.parametrize("field", [Field("n", "integer", True, "Int8"), Field("n", "integer", False, "int8")])
def test_an_integer_that_does_not_fit_is_told_as_the_signature_tells_it(field: Field, value: Any) -> None:
    signature, given_rows = Signature((field,)), [{"n": 1}, {"n": value}]
    expected, found = told(signature.columns, given_rows), told(Reader(signature).columns, given_rows)
    if isinstance(expected, tuple):
        assert found == expected
    else:
        np.testing.assert_array_equal(found["n"], expected["n"])
