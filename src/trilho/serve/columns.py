"""Raw rows as columns: from what was received, through Parquet, to arrays. The values decide the types.

A field is boolean, integer, number or text as JSON had it; a field of several kinds becomes text. A segment lacks a
field that none of its rows had; several segments are read as the union of their fields.
"""

from __future__ import annotations

import errno
import json
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trilho.errors import DataError

if TYPE_CHECKING:
    import duckdb

META = ("_row", "_id", "_time", "_version", "_prediction")
TOLD = ("_served", "_class", "_probabilities", "_decision", "_decision_version")
OWN = frozenset((*META, *TOLD, "_value", "_label"))
ROWS_AT_ONCE = 20_480  # in a row group: as many are in memory while a file is written
PROBABILITY = "_probability_of_"


def to_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, NDArray[Any]]:
    """Turn rows into typed columns; a field that is absent or null is masked. Fields named as the log's own are left
    out.

    >>> sorted((name, str(column.dtype)) for name, column in to_columns([{"a": 1, "b": "x"}, {"a": 2.5}]).items())
    [('a', 'float64'), ('b', 'object')]
    """
    names: dict[str, None] = {}
    shapes: set[tuple[str, ...]] = set()
    for row in rows:
        shape = tuple(row)
        if shape not in shapes:  # nearly all rows have the same fields
            shapes.add(shape)
            names.update(dict.fromkeys(shape))
    columns = {name: to_column([row.get(name) for row in rows]) for name in names if name not in OWN}
    return {name: column for name, column in columns.items() if column is not None}


def to_column(values: list[Any]) -> NDArray[Any] | None:
    """Turn values into one typed column; None where all of them are null."""
    kinds = set(map(type, values))
    some_missing = type(None) in kinds
    kinds.discard(type(None))
    if not kinds:
        return None
    if kinds == {bool}:
        return _numbers(values, bool, some_missing)
    if kinds <= {int, float}:
        whole = kinds == {int} and all(value is None or -(2**63) <= value < 2**63 for value in values)
        return _numbers(values, np.int64 if whole else np.float64, some_missing)
    column = np.empty(len(values), dtype=object)
    column[:] = values if kinds == {str} else [_text(value) for value in values]
    return column


def _numbers(values: list[Any], dtype: Any, some_missing: bool) -> NDArray[Any]:
    if not some_missing:
        return np.array(values, dtype)
    filled = np.array([0 if value is None else value for value in values], dtype)
    return np.ma.masked_array(filled, mask=[value is None for value in values])


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)


def plain(column: NDArray[Any]) -> NDArray[Any]:
    """Turn a masked column into an ordinary one: NaN for a missing number, None for anything else."""
    if not isinstance(column, np.ma.MaskedArray):
        return column
    missing = np.ma.getmaskarray(column)
    data = np.asarray(column.data)
    if not missing.any():
        return data
    result = data.astype(np.float64 if data.dtype.kind in "iuf" else object)
    result[missing] = np.nan if data.dtype.kind in "iuf" else None
    return result


class Tables:
    """One DuckDB connection, for writing and reading Parquet files; not for several threads at once."""

    def __init__(self) -> None:
        self._connection: duckdb.DuckDBPyConnection | None = None

    def write(self, columns: Mapping[str, NDArray[Any]], path: Path) -> None:
        """Write columns to a Parquet file; the file is there whole, on the disk, or not at all."""
        chances = ", ".join(name for name in columns if name.startswith(PROBABILITY))
        chosen = "*"
        if chances:
            listed = f"list_filter([{chances}], lambda one: one IS NOT NULL)"
            chosen = f"* EXCLUDE ({chances}), CASE WHEN {PROBABILITY}0 IS NOT NULL THEN {listed} END AS _probabilities"
        order = "_time, _row" if "_time" in columns else "_row"
        self.copy(f"SELECT {chosen} FROM batch ORDER BY {order}", path, batch=columns)  # noqa: S608

    def copy(self, query: str, path: Path, **tables: Mapping[str, NDArray[Any]]) -> None:
        """Write a query's rows to a Parquet file; `tables` are columns that the query names."""
        import duckdb  # here: most commands never touch a segment

        draft = path.with_name(f".{uuid.uuid4().hex}.draft")
        try:
            self._run(f"COPY ({query}) TO {quoted(draft)} (FORMAT parquet, ROW_GROUP_SIZE {ROWS_AT_ONCE})", tables)
            handle = os.open(draft, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)
            draft.replace(path)
        except (duckdb.Error, OSError) as error:
            fact = f"{path} cannot be written: {_first_line(error)}"
            raise DataError(fact, hint="look for a full disk; nothing was lost, the next pass repeats it") from error
        finally:
            draft.unlink(missing_ok=True)

    def fetch(self, query: str) -> dict[str, NDArray[Any]]:
        """Give a query's columns. Raises DataError when a file that it names is gone or damaged."""
        import duckdb

        try:
            found = self._run(query, {}).fetchnumpy()
        except duckdb.Error as error:
            fact = f"served rows cannot be read: {_first_line(error)}"
            raise DataError(fact, hint="a segment of the log is gone or damaged: restore it") from error
        return {name: plain(column) for name, column in found.items()}

    def _run(self, query: str, tables: Mapping[str, Mapping[str, NDArray[Any]]]) -> duckdb.DuckDBPyConnection:
        import duckdb

        if self._connection is None:
            self._connection = duckdb.connect(":memory:", config={"threads": 1})
        for name, columns in tables.items():
            self._connection.register(name, dict(columns))
        try:
            return self._connection.execute(query)
        finally:
            for name in tables:
                self._connection.unregister(name)


def union(paths: Iterable[Path]) -> str:
    """Give the SQL for several Parquet files as one table, columns matched by name.

    The folders' names are left out of it: a field of the rows may be called `day` too.
    """
    return f"read_parquet([{', '.join(quoted(path) for path in paths)}], union_by_name=true, hive_partitioning=false)"


def named(column: str) -> str:
    """Quote a column's name for SQL.

    >>> named('a"b')
    '"a""b"'
    """
    return '"' + column.replace('"', '""') + '"'


def quoted(path: Path | str) -> str:
    """Quote a text for SQL.

    >>> quoted("it's")
    "'it''s'"
    """
    return "'" + str(path).replace("'", "''") + "'"


def _first_line(error: Exception) -> str:
    text = str(error).splitlines()[0]
    full = os.strerror(errno.ENOSPC)
    return full if full in text else text
