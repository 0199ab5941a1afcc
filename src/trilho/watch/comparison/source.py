"""The two tables of a comparison, as DuckDB reads them: paths, patterns, folders, or what is in memory."""

# ruff: noqa: S608

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trilho.data.tables import text
from trilho.errors import DataError

if TYPE_CHECKING:
    import duckdb

MEMORY = "200MB"
PARQUET, CSV = (".parquet", ".pq"), (".csv", ".tsv", ".txt", ".csv.gz", ".csv.zst")
HINT = "give a .parquet or .csv file, a folder of them, or a pattern in quotes such as 'served/*.parquet'"


@dataclass(frozen=True)
class Source:
    """One of the two tables: what comes after FROM, its columns' types, and SQL for a row's place in its file."""

    connection: duckdb.DuckDBPyConnection
    table: str
    types: dict[str, str]
    position: str

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """Run SQL and give its rows. Raises DataError where the data cannot be read."""
        return list(answered(self.connection, sql).fetchall())

    def arrays(self, sql: str) -> dict[str, Any]:
        """Run SQL and give its columns as arrays."""
        return dict(answered(self.connection, sql).fetchnumpy())

    def rows(self) -> int:
        """Give the number of rows."""
        return int(self.ask(f"SELECT COUNT(*) FROM {self.table}")[0][0])


@contextmanager
def opened(*data: Any) -> Iterator[list[Source]]:
    """Open tables side by side in a database that keeps to little memory."""
    import duckdb

    with duckdb.connect(":memory:") as connection, tempfile.TemporaryDirectory(prefix="trilho-") as spill:
        for setting in (
            "TimeZone = 'UTC'",
            "enable_progress_bar = false",
            f"memory_limit = '{MEMORY}'",
            f"temp_directory = {text(spill)}",
        ):
            connection.execute(f"SET {setting}")
        yield [_source(connection, one, f"table_{place}") for place, one in enumerate(data)]


def answered(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.DuckDBPyConnection:
    """Run SQL. Raises DataError where the data cannot be read."""
    import duckdb

    try:
        return connection.execute(sql)
    except duckdb.Error as error:
        hint = "check the paths, and that every file has the same columns"
        raise DataError(f"the table cannot be read: {str(error).splitlines()[0]}", hint=hint) from error


def _source(connection: duckdb.DuckDBPyConnection, data: Any, name: str) -> Source:
    """Parquet is read where it lies; what has no places, or is slow to read again, is read into a table once."""
    if isinstance(data, (str, Path)):
        files, kind = files_of(str(data))
        listed = "[" + ", ".join(text(file) for file in files) + "]"
        if kind == "parquet":
            table = f"read_parquet({listed}, union_by_name = true, file_row_number = true)"
            return _described(connection, table, "file_row_number")
        answered(connection, f"CREATE TEMP TABLE {name} AS FROM read_csv({listed}, union_by_name = true)")
    else:
        connection.register(f"{name}_data", _held(data))
        answered(connection, f"CREATE TEMP TABLE {name} AS FROM {name}_data")
        connection.unregister(f"{name}_data")
    return _described(connection, name, "rowid")


def _held(data: Any) -> Any:
    """Give what is in memory as DuckDB registers it; a relation of another database comes as its arrays."""
    if hasattr(data, "fetchnumpy"):
        return dict(data.fetchnumpy())
    if isinstance(data, Mapping):
        import numpy as np

        return {
            str(name): column if np.ma.isMaskedArray(column) else np.asarray(column) for name, column in data.items()
        }
    return data


def _described(connection: duckdb.DuckDBPyConnection, table: str, position: str) -> Source:
    described = answered(connection, f"DESCRIBE SELECT * FROM {table}").fetchall()
    types = {str(row[0]): str(row[1]) for row in described if row[0] != "file_row_number"}
    return Source(connection, table, types, position)


def files_of(place: str) -> tuple[Sequence[str], str]:
    """Give the files that a path, folder or pattern names, and whether they are parquet or csv."""
    path = Path(place)
    if path.is_dir():
        found = sorted(str(x) for x in path.rglob("*") if x.is_file() and x.name.lower().endswith((*PARQUET, *CSV)))
    elif path.is_file():
        found = [str(path)]
    else:
        found = _matching(place)
    if not found:
        raise DataError(f"{place}: no such file, and no file matches it", hint=HINT)
    kinds = {_kind(file) for file in found}
    if len(kinds) > 1 or None in kinds:
        said = "is neither Parquet nor CSV" if None in kinds else "names Parquet and CSV files at once"
        raise DataError(f"{place} {said}", hint=HINT)
    return found, str(kinds.pop())


def _matching(pattern: str) -> list[str]:
    from glob import glob  # a pattern may be absolute, which those of pathlib may not

    return sorted(glob(pattern, recursive=True))  # noqa: PTH207


def _kind(file: str) -> str | None:
    name = file.lower()
    return "parquet" if name.endswith(PARQUET) else "csv" if name.endswith(CSV) else None
