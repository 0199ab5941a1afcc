"""What a table of rows must be able to do to be profiled, and tables that are arrays in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.bins import as_seconds, as_texts
from trilho_runtime.profile import Feature, Profile

Array = NDArray[Any]


@dataclass(frozen=True)
class Window:
    """How rows fall into windows: by the seconds of a column of times."""

    time: str
    seconds: float


@dataclass(frozen=True)
class Counted:
    """A table's counts and rows: of the whole under None, and of the windows that were asked for by their numbers."""

    profiles: Mapping[int | None, Profile]
    rows: Mapping[int | None, int]


class Table(Protocol):
    """Rows that can be counted, and of which some can be fetched."""

    @property
    def names(self) -> Sequence[str]:
        """Give the columns' names."""

    def size(self) -> int:
        """Give the number of rows."""

    def sample(self, names: Sequence[str], most: int) -> dict[str, Array]:
        """Fetch columns of all rows, or of about `most` that a seed chooses; the same ones each time."""

    def windows(self, window: Window) -> dict[int, int]:
        """Give the rows of each window, by its number."""

    def largest(self, key: str, window: Window | None) -> int:
        """Give the most rows that one key has, in one window."""

    def count(self, features: Sequence[Feature], window: Window | None = None, kept: Collection[int] = ()) -> Counted:
        """Count all rows in the features' bins, and those of some windows."""


class ArrayTable:
    """Columns that are arrays already."""

    def __init__(self, columns: Mapping[str, Array]) -> None:
        self._columns = {str(name): as_array(column) for name, column in columns.items()}
        self.names = tuple(self._columns)

    def size(self) -> int:
        """Give the number of rows."""
        return len(next(iter(self._columns.values()))) if self._columns else 0

    def sample(self, names: Sequence[str], most: int) -> dict[str, Array]:
        """Give the columns, or `most` of their rows."""
        rows = chosen(self.size(), most)
        return {name: self._columns[name] if rows is None else self._columns[name][rows] for name in names}

    def windows(self, window: Window) -> dict[int, int]:
        """Give the rows of each window."""
        numbers, sizes = np.unique(window_numbers(self._columns[window.time], window.seconds), return_counts=True)
        return dict(zip(numbers.tolist(), sizes.tolist(), strict=True))

    def largest(self, key: str, window: Window | None) -> int:
        """Give the most rows that one key has, in one window."""
        numbers = window_numbers(self._columns[window.time], window.seconds) if window is not None else None
        return largest_cluster(self._columns[key], numbers)

    def count(self, features: Sequence[Feature], window: Window | None = None, kept: Collection[int] = ()) -> Counted:
        """Count the rows as the runtime does."""
        profiles: dict[int | None, Profile] = {None: self._profile(features, slice(None))}
        rows: dict[int | None, int] = {None: self.size()}
        if window is not None:
            numbers = window_numbers(self._columns[window.time], window.seconds)
            for number in kept:
                there = np.flatnonzero(numbers == number)
                profiles[number], rows[number] = self._profile(features, there), len(there)
        return Counted(profiles, rows)

    def _profile(self, features: Sequence[Feature], rows: Any) -> Profile:
        nulls = np.full(self.size(), None, object)
        return {one.name: one.count(self._columns.get(one.column, nulls)[rows]) for one in features}


def chosen(size: int, most: int) -> NDArray[np.int64] | None:
    """Choose rows by a seed, in order; None for all of them."""
    if size <= most:
        return None
    return np.sort(np.random.default_rng(0).choice(size, most, replace=False)).astype(np.int64)


def largest_cluster(keys: Array, windows: NDArray[np.int64] | None) -> int:
    """Give the most rows that one key has, in one window.

    >>> largest_cluster(np.array(["a", "a", "b", None], object), None)
    2
    """
    texts = as_texts(keys)
    placed = [0] * len(texts) if windows is None else windows.tolist()
    held = Counter((text, window) for text, window in zip(texts, placed, strict=True) if text is not None)
    return max(held.values(), default=1)


def window_numbers(time: Array, seconds: float) -> NDArray[np.int64]:
    """Give the number of each row's window; a row without a time is of 1970."""
    filled = np.ma.filled(time, np.datetime64("NaT") if time.dtype.kind == "M" else np.nan)
    known = np.nan_to_num(moments(filled), nan=0.0, posinf=0.0, neginf=0.0)
    return np.floor(known / seconds).astype(np.int64)


def moments(time: Array) -> NDArray[np.float64]:
    """Give times as seconds since 1970, NaN where there is none."""
    if time.dtype.kind == "O":
        time = np.array(time, "datetime64[us]")
    known: NDArray[np.float64] = as_seconds(time)
    return np.where(np.isnat(time), np.nan, known) if time.dtype.kind == "M" else known


def as_array(column: Any) -> Array:
    """Give a column as an array: what is one already, a list, or a column of a frame, its times in UTC.

    >>> as_array([1, None]).tolist()
    [1, None]
    """
    if isinstance(column, np.ndarray):
        return column
    if getattr(getattr(column, "dtype", None), "tz", None) is not None:
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
    if hasattr(column, "to_numpy"):
        return _of_frame(column)
    items = list(column)
    if any(item is None or isinstance(item, str) for item in items):
        out = np.empty(len(items), object)
        out[:] = items
        return out
    return np.asarray(items)


def _of_frame(column: Any) -> Array:
    """Give a frame's column; of a type that knows nulls, null and NaN stay apart."""
    kind = str(column.dtype)
    if kind.startswith(("Int", "UInt", "Float")) or (kind == "boolean"):
        nulls = column.isna().to_numpy()
        plain = "bool" if kind == "boolean" else "float64"
        values = column.to_numpy(dtype=plain, na_value=False if kind == "boolean" else np.nan)
        return np.ma.masked_array(values, mask=nulls)
    array: Array = column.to_numpy()
    return array
