"""A quick way to check rows: what is plainly right is gathered at once, all else is left to the signature.

Most rows are right, and a request of one row would pay thirty times over for checks made column by column. A reader
picks a row's values in one call and checks the types of all of them together. Whatever it is not sure of (another
type, a null where none may be, a number out of range) it hands to `Signature.columns`, so that what a wrong row is
told, and what an unusual one becomes, is decided in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.schema.rows import READERS
from trilho_runtime.schema.signature import Field, Row, RowError, Signature

NoneType = type(None)
Columns = dict[str, NDArray[Any]]
Table = list[tuple[Any, ...]]
DOUBLE = 8  # bytes
KINDS: dict[str, frozenset[type]] = {
    "number": frozenset({int, float}),
    "integer": frozenset({int}),
    "boolean": frozenset({bool}),
    "string": frozenset({str}),
}


class Doubt(Exception):
    """Rows that are not plainly right."""


UNSURE = (Doubt, RowError, KeyError, TypeError, AttributeError, OverflowError, ValueError)


class Reader:
    """Checks rows as `Signature.columns` does, and finds the same; it is quick where they are plainly right.

    >>> reader = Reader(Signature((Field("x", "number", False), Field("c", "string", True))))
    >>> reader.columns([{"x": 1, "c": "a"}, {"x": 2.5}])
    {'x': array([1. , 2.5]), 'c': array(['a', None], dtype=object)}
    """

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self._gathered = [_Gathered(fields) for fields in _alike(signature.fields)]
        self._times = [field for field in signature.fields if field.type == "timestamp"]
        self._order: Columns = dict.fromkeys((field.name for field in signature.fields), np.empty(0))

    def columns(self, rows: Sequence[Row]) -> Columns:
        """Check rows of JSON values and give them by column. Raises RowError for the first wrong value."""
        if set(map(type, rows)) != {dict}:
            return self.signature.columns(rows)
        try:
            found = self._order.copy()  # in the order of the training table
            for gathered in self._gathered:
                found.update(gathered.read(rows))
            for field in self._times:
                found[field.name] = READERS["timestamp"](field, [row.get(field.name) for row in rows], rows)
        except UNSURE:
            return self.signature.columns(rows)
        return found


class _Gathered:
    """Fields whose columns are of one type, read as one array."""

    def __init__(self, fields: Sequence[Field]) -> None:
        first = fields[0]
        self._names = tuple(field.name for field in fields)
        self._pick = _picker(self._names)
        self._kinds = KINDS[first.type]
        self._dtype = np.dtype(first.numpy)
        self._filled = [place for place, field in enumerate(fields) if not field.nullable]
        self._range = first.limits if first.type == "integer" else None
        self._narrow = first.type == "number" and self._dtype.itemsize < DOUBLE
        self._finite = first.type == "number"

    def read(self, rows: Sequence[Row]) -> Iterable[tuple[str, NDArray[Any]]]:
        """Give each field's column. Raises Doubt, or what goes wrong, for rows that are not plainly right."""
        try:
            table: Table = [self._pick(row) for row in rows]
        except KeyError:
            table = [tuple(map(row.get, self._names)) for row in rows]
        kinds = set(map(type, chain.from_iterable(table)))
        nulls = 0
        if NoneType in kinds:
            kinds.discard(NoneType)
            nulls = self._count_nulls(table)
        if not kinds <= self._kinds:
            raise Doubt
        matrix = self._matrix(table)
        if self._finite and np.count_nonzero(np.isfinite(matrix)) != matrix.size - nulls:
            raise Doubt
        if self._range is not None:
            self._check_range(table)
        return zip(self._names, np.ascontiguousarray(matrix.T), strict=True)

    def _matrix(self, table: Table) -> NDArray[Any]:
        """Give the rows as an array; of numbers None becomes NaN, and what is beyond a narrow type infinite."""
        if not self._narrow:
            return np.array(table, self._dtype)
        with np.errstate(over="ignore"):
            return np.array(table, self._dtype)

    def _count_nulls(self, table: Table) -> int:
        if any(values[place] is None for values in table for place in self._filled):
            raise Doubt
        return sum(values.count(None) for values in table)

    def _check_range(self, table: Table) -> None:
        assert self._range is not None
        low, high = self._range
        if not all(low <= value <= high for values in table for value in values if value is not None):
            raise Doubt


def _alike(fields: Iterable[Field]) -> list[list[Field]]:
    """Put fields together that can be read as one array."""
    found: dict[tuple[Any, ...], list[Field]] = {}
    for field in fields:
        if field.type != "timestamp":
            whole = (field.whole, field.nullable) if field.type == "integer" else ()
            found.setdefault((field.type, field.numpy, *whole), []).append(field)
    return list(found.values())


def _picker(names: tuple[str, ...]) -> Callable[[Row], tuple[Any, ...]]:
    if len(names) > 1:
        return itemgetter(*names)
    (name,) = names
    return lambda row: (row[name],)
