"""Array code of the stages that look values up: one-hot, ordinal and target encoders, imputers of texts.

A column's table is a dictionary from value to number; None stands for a null, whatever the original calls it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trilho_runtime.compiled.flow import values_of
from trilho_runtime.compiled.node import Array, Node
from trilho_runtime.schema.field import RowError

NOTHING = -1
REFUSED = -2


class _Table(dict[Any, int]):
    """A dictionary that gives one number for all that it does not hold."""

    def __init__(self, known: dict[Any, int], other: int) -> None:
        super().__init__(known)
        self.other = other

    def __missing__(self, _: Any) -> int:
        return self.other


@dataclass(eq=False)
class Codes(Node):
    """The number of each value, by the tables of the columns."""

    keys: tuple[tuple[Any, ...], ...]
    numbers: tuple[Array, ...]
    unknown: tuple[int, ...]
    fields: tuple[str, ...]

    def __post_init__(self) -> None:
        numbered = zip(self.keys, self.numbers, strict=True)
        known = [dict(zip(keys, numbers.tolist(), strict=True)) for keys, numbers in numbered]
        self._finds = [_Table(table, other).__getitem__ for table, other in zip(known, self.unknown, strict=True)]

    def one(self, x: Any) -> list[int]:
        """Find the numbers of one row. Raises RowError for a value that is refused."""
        values = x[0].tolist() if isinstance(x, np.ndarray) else [c[0] for c in x]
        found: list[int] = []
        for value, find in zip(values, self._finds, strict=True):
            number = find(value if value == value else None)
            if number == REFUSED:
                self._refuse(0, len(found), value)
            found.append(number)
        return found

    def many(self, x: Any) -> Array:
        """Find the numbers of all rows. Raises RowError for a value that is refused."""
        columns: Any = x.T if isinstance(x, np.ndarray) else x
        count = len(columns[0])
        found = np.empty((len(columns), count), np.intp)
        for place, (column, find) in enumerate(zip(columns, self._finds, strict=True)):
            values = values_of(column)
            found[place] = np.fromiter(map(find, values), np.intp, count)
            if self.unknown[place] == REFUSED and found[place].min(initial=0) == REFUSED:
                row = int(np.flatnonzero(found[place] == REFUSED)[0])
                self._refuse(row, place, values[row])
        return found.T

    def _refuse(self, row: int, place: int, value: Any) -> None:
        field = self.fields[place] or None
        shown = "null" if value is None or value != value else f'"{value}"' if isinstance(value, str) else str(value)
        known = [str(k) for k in self.keys[place][:5]]
        more = f" and {len(self.keys[place]) - 5} more" if len(self.keys[place]) > 5 else ""
        fact = f"row {row}: {field or f'column {place}'} is {shown}, a category the model was not trained on"
        raise RowError(f"{fact}; it knows {', '.join(known)}{more}", field, row)


@dataclass(eq=False)
class OneHot(Node):
    """A column for each category, one where a row has it."""

    codes: Codes
    width: int
    dtype: str

    def __call__(self, x: Any) -> Array:
        """Give a matrix of ones and zeros."""
        count = x.shape[0] if isinstance(x, np.ndarray) else len(x[0])
        found = np.zeros((count, self.width), self.dtype)
        if count == 1:
            row = found[0]
            for number in self.codes.one(x):
                if number >= 0:
                    row[number] = 1
            return found
        numbers = self.codes.many(x)
        for place in range(numbers.shape[1]):
            rows = np.flatnonzero(numbers[:, place] >= 0)
            found[rows, numbers[rows, place]] = 1
        return found


@dataclass(eq=False)
class Lookup(Node):
    """A number, or several, for each category."""

    codes: Codes
    values: Array  # a row for each of all columns' categories, and for what is unknown

    def __call__(self, x: Any) -> Array:
        """Give a matrix of the categories' numbers."""
        count = x.shape[0] if isinstance(x, np.ndarray) else len(x[0])
        numbers = self.codes.one(x) if count == 1 else self.codes.many(x)
        return self.values[numbers].reshape(count, -1)


@dataclass(eq=False)
class ImputeObjects(Node):
    """Missing values of any type replaced, in columns; then indicators of what was missing."""

    fills: tuple[Any, ...]
    missing: tuple[tuple[bool, Any, bool], ...]  # of each column: is null missing, which value is, is null refused
    kept: tuple[int, ...]
    indicated: tuple[int, ...]
    fields: tuple[str, ...]

    def __call__(self, x: Sequence[Any]) -> list[Any]:
        """Give the columns without what was missing."""
        columns = [values_of(c) for c in x]
        for place, (_, _, refused) in enumerate(self.missing):
            if refused and None in columns[place]:
                self._refuse(columns[place].index(None), place)
        found: list[Any] = []
        for place, fill in zip(self.kept, self.fills, strict=True):
            null, value, _ = self.missing[place]
            values = columns[place]
            if null and None in values:
                values = [fill if v is None else v for v in values]
            elif value is not None:
                values = [fill if v == value else v for v in values]
            found.append(values)
        return [*found, *(self._mask(columns[i], *self.missing[i][:2]) for i in self.indicated)]

    @staticmethod
    def _mask(values: list[Any], null: bool, value: Any) -> Array:
        if null:
            return np.array([v is None for v in values], bool)
        return np.array([value is not None and v == value for v in values], bool)

    def _refuse(self, row: int, place: int) -> None:
        field = self.fields[place] or None
        fact = f"row {row}: {field or f'column {place}'} is null"
        raise RowError(f"{fact}, which SimpleImputer refuses: it fills in another value", field, row)
