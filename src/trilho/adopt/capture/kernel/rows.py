"""Knows whose rows a value has: for each index and array that was seen, positions in a table that was read.

Labels alone mislead: after `sort_values().reset_index()` they are 0 to n again, in another order. So a new index is
looked up in the labels of what the expression was made of, and only without those in the tables' own.
"""

from __future__ import annotations

import sys
import weakref
from typing import Any, Callable, Iterable

SAMPLE = 2000  # rows that are kept of a table, to tell whether others are its rows


class Rows:
    """Positions in one table, in the order of one index or array."""

    __slots__ = ("how", "index", "positions", "read")

    def __init__(self, read: int, how: str, positions: Any, index: Any = None) -> None:
        self.read = read
        self.how = how
        self.positions = positions  # int64 array, None for 0..n
        self.index = index  # labels in which subsets are looked up

    def as_json(self) -> dict[str, Any] | None:
        """Give it as the trace has it; None for the part of stacked tables that is of another one."""
        if self.positions is not None and len(self.positions) and self.positions.max() < 0:
            return None
        return {"read": self.read, "how": self.how}


class RowBook:
    """Remembers rows by the identity of indexes and arrays."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[Any, Rows]] = {}
        self.reads: dict[int, tuple[Any, int]] = {}  # read -> its table, rows
        self.lengths: dict[int, int] = {}  # rows -> read

    def add_read(self, read: int, table: Any) -> None:
        """Take a table that was just read as the origin of its rows."""
        count = count_rows(table)
        if count is None:
            return
        index = index_of(table)
        self.reads[read] = (snapshot(table), count)
        if count > 1:
            self.lengths.setdefault(count, read)
        self._remember(index if index is not None else table, Rows(read, "all", None, index))

    def kept(self) -> list[tuple[Any, Rows]]:
        """Give what is known of living indexes and arrays."""
        return [(held(), rows) for held, rows in list(self.known.values()) if held() is not None]

    def restore(self, kept: list[tuple[Any, Rows]]) -> None:
        """Take up what a checkpoint kept."""
        for thing, rows in kept:
            self._remember(thing, rows)

    def of(self, value: Any, parents: Iterable[Any] = ()) -> Rows | None:
        """Give a value's rows, with `parents` the rows of what it was made of."""
        index = index_of(value)
        thing = index if index is not None else value
        found = self._recall(thing)
        if found is not None:
            return found
        if index is not None:
            found = self._by_labels(index, [rows for rows in parents if rows is not None])
            found = found or self._by_content(value, index)
        else:
            found = self._by_length(value)
        if found is not None:
            self._remember(thing, found)
        return found

    def inherit(self, value: Any, rows: Rows | None) -> None:
        """Note that a value has these rows, one for one, whatever its labels."""
        index = index_of(value)
        thing = index if index is not None else value
        known = self._recall(thing)
        if rows is not None and (known is None or known.how == "length"):
            self._remember(thing, Rows(rows.read, rows.how, rows.positions, index))

    def replace(self, value: Any, rows: Rows) -> None:
        """Put rows that are known in place of what was guessed from the length."""
        index = index_of(value)
        self._remember(index if index is not None else value, Rows(rows.read, rows.how, rows.positions, index))

    def take(self, rows: Rows, order: Any) -> Rows:
        """Give the rows at the places `order` of these."""
        np = sys.modules["numpy"]
        order = np.asarray(order, dtype="int64")
        positions = order if rows.positions is None else rows.positions[order]
        return Rows(rows.read, how_of(positions, self.reads[rows.read][1]), positions)

    def positions(self, rows: Rows, count: int) -> Any:
        """Give positions as an array, None where they are not known for all rows."""
        np = sys.modules["numpy"]
        if rows.how == "length":
            return None
        positions = np.arange(count, dtype="int64") if rows.positions is None else rows.positions
        return positions if len(positions) == count and not (positions < 0).any() else None

    def _by_labels(self, index: Any, parents: list[Rows]) -> Rows | None:
        for rows in parents:
            if rows.index is None or index.names != rows.index.names:
                continue
            found = _lookup(index, rows.index)
            if found is not None:
                taken = self.take(rows, found)
                same = len(found) == len(rows.index) and taken.how == rows.how
                return Rows(taken.read, taken.how, rows.positions if same else taken.positions, index)
        return None

    def _by_content(self, value: Any, index: Any) -> Rows | None:
        """Trust a table's labels when a column that both have says the same."""
        for read in sorted(self.reads, reverse=True):
            table, count = self.reads[read]
            labels = table.index if table is not None else None
            if labels is None or index.names != labels.names:
                continue
            found = _lookup(index, labels)
            fresh = type(index).__name__ == "RangeIndex" and len(index) < count
            if found is not None and len(found) > 1 and same_content(value, table, found, 2 if fresh else 1):
                return Rows(read, how_of(found, count), found, index)
        return None

    def _by_length(self, value: Any) -> Rows | None:
        count = count_rows(value)
        read = self.lengths.get(count) if count is not None else None
        return Rows(read, "length", None) if read is not None else None

    def _recall(self, thing: Any) -> Rows | None:
        held = self.known.get(id(thing))
        return held[1] if held is not None and held[0]() is thing else None

    def _remember(self, thing: Any, rows: Rows) -> None:
        try:
            self.known[id(thing)] = (weakref.ref(thing, self._forgetter(id(thing))), rows)
        except TypeError:
            return

    def _forgetter(self, key: int) -> Callable[[Any], None]:
        def forget(_: Any) -> None:
            held = self.known.get(key)
            if held is not None and held[0]() is None:
                del self.known[key]

        return forget


def index_of(value: Any) -> Any:
    """Give the pandas index that labels a value's rows, or None."""
    pd = sys.modules.get("pandas")
    if pd is None or not hasattr(pd, "DataFrame"):
        return None
    if isinstance(value, (pd.DataFrame, pd.Series)):
        return value.index
    return value if isinstance(value, pd.Index) else None


def count_rows(value: Any) -> int | None:
    """Give how many rows a table, array or list has."""
    if isinstance(value, (list, tuple)):
        return len(value)
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and shape and isinstance(shape[0], int):
        return shape[0]
    return None


def snapshot(table: Any) -> Any:
    """Give a table's content as it is now, without copying where copies are lazy."""
    pd = sys.modules.get("pandas")
    if pd is not None and isinstance(table, pd.DataFrame):
        if int(pd.__version__.split(".")[0]) >= 3:
            return table.copy(deep=False)
        return _Sampled(table.iloc[:: max(1, len(table) // SAMPLE)].copy(), table.index)
    return _Sampled(table.to_frame().copy(), table.index) if pd is not None and isinstance(table, pd.Series) else None


class _Sampled:
    """Every so-manieth row of a table that may change in place."""

    def __init__(self, rows: Any, index: Any) -> None:
        self.rows = rows
        self.index = index


def places(part: Any, whole: Any, key: Any) -> Any:
    """Give which rows of an array a part of it is: by the key it was taken with, or where it lies in memory."""
    np = sys.modules["numpy"]
    if key is not None and getattr(key, "ndim", 0) == 1 and key.dtype.kind in "biu":
        order = np.flatnonzero(key) if key.dtype.kind == "b" else np.asarray(key)
        return order if len(order) == len(part) else None
    here = layout(part) if getattr(part, "base", None) is not None else None
    address, step, count = whole
    if here is None or not len(part) or not step:
        return None
    order = (here[0] - address) // step + np.arange(len(part)) * (here[1] // step if len(part) > 1 else 1)
    return order if order.min() >= 0 and order.max() < count else None


def layout(array: Any) -> tuple[int, int, int] | None:
    """Give where an array's rows lie in memory: the first one's address, the step, and how many."""
    if not getattr(array, "ndim", 0) or not hasattr(array, "strides"):
        return None
    return array.__array_interface__["data"][0], array.strides[0], len(array)


def how_of(positions: Any, count: int) -> str:
    """Say how positions are those of a table with `count` rows."""
    np = sys.modules["numpy"]
    rising = len(positions) < 2 or bool(np.all(np.diff(positions) > 0))
    if rising and len(positions) == count:
        return "all"
    return "some" if rising else "reordered"


def same_content(value: Any, table: Any, found: Any, least: int) -> bool:
    """Say whether most columns that `value` shares with a table, and so many, have there what the table has."""
    pd = sys.modules["pandas"]
    if isinstance(value, pd.Index):
        return False
    shared = [value] if isinstance(value, pd.Series) else [value.iloc[:, i] for i in range(value.shape[1])]
    same = told = 0
    for column in shared:
        equal = _same_column(column, table, found)
        told += equal is not None
        same += equal is True
    return same >= least and same * 2 > told


def _same_column(column: Any, table: Any, found: Any) -> bool | None:
    np = sys.modules["numpy"]
    rows = table.rows if isinstance(table, _Sampled) else table
    if column.name not in rows.columns or rows[column.name].ndim > 1:
        return None
    theirs = rows[column.name]
    if isinstance(table, _Sampled):
        mine = np.flatnonzero(np.isin(found, table.index.get_indexer(rows.index)))
        ours, theirs = column.iloc[mine], theirs.reindex(table.index[found[mine]])
    else:
        ours, theirs = column, theirs.iloc[found]
    if len(ours) < 2 or ours.nunique() < 2:
        return None
    return _equal(ours, theirs)


def _equal(ours: Any, theirs: Any) -> bool:
    try:
        return bool(ours.reset_index(drop=True).equals(theirs.reset_index(drop=True)))
    except Exception:  # noqa: BLE001  types that can't be compared are not the same
        return False


def _lookup(index: Any, labels: Any) -> Any:
    """Give the place of each label of `index` in `labels`, or None where one is missing."""
    np = sys.modules["numpy"]
    if index is labels or (len(index) == len(labels) and index.equals(labels)):
        return np.arange(len(labels), dtype="int64")
    if not len(index) or not len(labels):
        return None
    if not labels.is_unique:
        return _lookup_repeated(index, labels)
    try:
        found = labels.get_indexer(index)
    except Exception:  # noqa: BLE001  labels of another kind
        return None
    return found if (found >= 0).all() else None


def _lookup_repeated(index: Any, labels: Any) -> Any:
    """Give the same of labels that repeat, where all rows of a label were taken, in their order."""
    np = sys.modules["numpy"]
    try:
        taken = labels.isin(index)
        return np.flatnonzero(taken) if labels[taken].equals(index) else None
    except Exception:  # noqa: BLE001  labels of another kind
        return None
