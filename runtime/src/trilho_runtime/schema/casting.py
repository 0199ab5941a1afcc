"""Columns of a table as the columns that a request's rows become: the same checks, a whole column at a time.

A batch of ten million rows cannot go through JSON rows. What a table holds is checked here as `Signature.columns`
checks rows, and refused in the same words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.schema.field import Field, RowError, parse_time
from trilho_runtime.schema.rows import shown, wanted
from trilho_runtime.schema.signature import Signature

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Given:
    """A column as it was read: its values, and which of them are null."""

    values: NDArray[Any]
    null: Mask

    @classmethod
    def of(cls, values: NDArray[Any], null: Mask | None = None) -> Given:
        """Take NaN, NaT and None for null besides what a mask names."""
        found = np.zeros(len(values), bool) if null is None else null.astype(bool)
        if values.dtype.kind == "f":
            found = found | np.isnan(values)
        elif values.dtype.kind == "M":
            found = found | np.isnat(values)
        elif values.dtype.kind == "O":
            found = found | np.array([value is None or value != value for value in values], bool)
        return cls(values, found)


def cast_columns(signature: Signature, given: Mapping[str, Given], rows: int) -> dict[str, NDArray[Any]]:
    """Check a table's columns and give those of the signature. Raises RowError for the first wrong value.

    >>> x = Signature((Field("x", "integer", False, "int8"),))
    >>> cast_columns(x, {"x": Given.of(np.array([1.0, 2.0]))}, 2)
    {'x': array([1, 2], dtype=int8)}
    >>> cast_columns(x, {"x": Given.of(np.array([1.0, 2.5]))}, 2)
    Traceback (most recent call last):
        ...
    trilho_runtime.schema.field.RowError: row 1: x is 2.5, a number; wanted an integer, -128 to 127
    """
    absent = Given(np.full(rows, None, object), np.ones(rows, bool))
    return {field.name: _cast(field, given.get(field.name, absent), field.name in given) for field in signature.fields}


def _cast(field: Field, column: Given, there: bool) -> NDArray[Any]:
    if column.null.any() and not field.nullable:
        row = int(np.flatnonzero(column.null)[0])
        what = "null" if there else "missing"
        raise RowError(f"row {row}: {field.name} is {what}; wanted {wanted(field)}", field.name, row)
    known = ~column.null
    if not known.any():
        return _empty(field, len(known))
    return CASTS[field.type](field, column, known)


def _empty(field: Field, rows: int) -> NDArray[Any]:
    nothing = {"f": np.nan, "M": np.datetime64("NaT")}.get(np.dtype(field.numpy).kind)
    return np.full(rows, nothing, field.numpy)


def _numbers(field: Field, column: Given, known: Mask) -> NDArray[Any]:
    if column.values.dtype.kind not in "iuf":
        _refuse(field, column, known)
    values = np.asarray(column.values, np.float64 if column.null.any() else None)
    wrong = known & ~np.isfinite(values)
    if wrong.any():
        _refuse(field, column, wrong)
    with np.errstate(over="ignore"):
        found = np.where(known, values, np.nan).astype(field.numpy) if column.null.any() else values.astype(field.numpy)
    over = known & ~np.isfinite(found)
    if over.any():
        _refuse(field, column, over)
    return found


def _integers(field: Field, column: Given, known: Mask) -> NDArray[Any]:
    values = column.values
    if values.dtype.kind not in "iuf":
        _refuse(field, column, known)
    limits = np.iinfo(field.whole)
    with np.errstate(invalid="ignore"):
        wrong = known & ((values < limits.min) | (values > limits.max))
        if values.dtype.kind == "f":
            wrong |= known & ((np.floor(values) != values) | (np.abs(values) > 2**53))
    if wrong.any():
        _refuse(field, column, wrong)
    filled = np.where(known, values, 0).astype(field.whole)
    if np.dtype(field.numpy).kind == "f":
        return np.where(known, filled, np.nan).astype(field.numpy)
    return filled


def _booleans(field: Field, column: Given, known: Mask) -> NDArray[Any]:
    if column.values.dtype.kind == "O":
        wrong = known & np.array([type(value) is not bool for value in column.values])
        if wrong.any():
            _refuse(field, column, wrong)
    elif column.values.dtype.kind != "b":
        _refuse(field, column, known)
    return _objects(column, known) if field.nullable else column.values.astype(bool)


def _strings(field: Field, column: Given, known: Mask) -> NDArray[Any]:
    if column.values.dtype.kind == "O":
        wrong = known & np.array([type(value) is not str for value in column.values])
        if not wrong.any():
            return _objects(column, known)
        _refuse(field, column, wrong)
    if column.values.dtype.kind != "U":
        _refuse(field, column, known)
    return _objects(column, known)


def _times(field: Field, column: Given, known: Mask) -> NDArray[Any]:
    if column.values.dtype.kind == "M":
        return np.where(known, column.values.astype("datetime64[us]"), np.datetime64("NaT", "us"))
    if column.values.dtype.kind not in "OU":
        _refuse(field, column, known)
    found = np.full(len(known), np.datetime64("NaT"), "datetime64[us]")
    for row in np.flatnonzero(known).tolist():
        try:
            found[row] = np.datetime64(parse_time(column.values[row]), "us")
        except (TypeError, ValueError, OverflowError, AttributeError):
            _refuse(field, column, np.arange(len(known)) == row)
    return found


def _objects(column: Given, known: Mask) -> NDArray[Any]:
    found = column.values.astype(object)
    if not known.all():
        found[~known] = None
    return found


def _refuse(field: Field, column: Given, wrong: Mask) -> NoReturn:
    row = int(np.flatnonzero(wrong)[0])
    value = column.values[row]
    value = value.item() if isinstance(value, np.generic) else value
    raise RowError(f"row {row}: {field.name} is {shown(value)}; wanted {wanted(field, value)}", field.name, row)


CASTS: dict[str, Callable[[Field, Given, Mask], NDArray[Any]]] = {
    "number": _numbers,
    "integer": _integers,
    "boolean": _booleans,
    "string": _strings,
    "timestamp": _times,
}
