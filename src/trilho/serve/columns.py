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


def to_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, NDArray[Any]]:
    """Turn rows into typed columns; a field that is absent or null is masked.

    >>> sorted((name, str(column.dtype)) for name, column in to_columns([{"a": 1, "b": "x"}, {"a": 2.5}]).items())
    [('a', 'float64'), ('b', 'object')]
    """
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: _column([row.get(name) for row in rows]) for name in names if name not in META}
    return {name: column for name, column in columns.items() if column is not None}


def _column(values: list[Any]) -> NDArray[Any] | None:
    kinds = {type(value) for value in values} - {type(None)}
    if not kinds:
        return None
    missing = [value is None for value in values]
    if kinds == {bool}:
        return np.ma.masked_array(np.array([bool(value) for value in values]), mask=missing)
    if kinds <= {int, float}:
        whole = kinds == {int} and all(value is None or -(2**63) <= value < 2**63 for value in values)
        filled = [0 if value is None else value for value in values]
        return np.ma.masked_array(np.array(filled, dtype=np.int64 if whole else np.float64), mask=missing)
    column = np.empty(len(values), dtype=object)
    column[:] = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
    return column


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
        self.copy("SELECT * FROM batch ORDER BY _time, _row", path, batch=columns)

    def copy(self, query: str, path: Path, **tables: Mapping[str, NDArray[Any]]) -> None:
        """Write a query's rows to a Parquet file; `tables` are columns that the query names."""
        import duckdb  # here: most commands never touch a segment

        draft = path.with_name(f".{uuid.uuid4().hex}.draft")
        try:
            self._run(f"COPY ({query}) TO {quoted(draft)} (FORMAT parquet)", tables)
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
            self._connection = duckdb.connect(":memory:")
        for name, columns in tables.items():
            self._connection.register(name, dict(columns))
        try:
            return self._connection.execute(query)
        finally:
            for name in tables:
                self._connection.unregister(name)


def union(paths: Iterable[Path]) -> str:
    """Give the SQL for several Parquet files as one table, columns matched by name."""
    return f"read_parquet([{', '.join(quoted(path) for path in paths)}], union_by_name=true)"


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
