"""What is scored: a table of raw rows, frozen before the first of them is predicted.

The rows of one date are copied into a database on the disk, in their order, so that a source which changes meanwhile
changes nothing, a run that was killed goes on where it was, and memory is that of one part, whatever the table's size.
"""

from __future__ import annotations

import errno
import glob
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from datetime import date as Date  # noqa: N812  `date` is what everything here is about
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from trilho.data.tables import as_type, check_file, format_of, name, plain_type, scan, text, told_of
from trilho.errors import DataError, UsageError

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    from numpy.typing import NDArray

MARK = "{date}"
MEMORY, MORE_MEMORY = "400MB", "4GB"


class NoFiles(DataError):
    """A path names nothing."""


@dataclass(frozen=True)
class Field:
    """A raw field that the model wants, and its JSON type."""

    name: str
    type: str


TYPES = {"string": "VARCHAR", "timestamp": "TIMESTAMP"}


def files_of(table: str, folder: Path, date: Date) -> list[Path]:
    """Give the files that a table is of on a date, from the project's folder. Raises DataError when there is none.

    A table is a CSV or Parquet file, a folder of them or a glob; "{date}" in it stands for the date.
    """
    pattern = str(folder / table.replace(MARK, date.isoformat()))
    path = Path(pattern)
    if path.is_dir():
        found = sorted(x for x in path.rglob("*") if x.suffix.lower() in (".parquet", ".pq", ".csv") and x.is_file())
        found = [x for x in found if not any(part.startswith(".") for part in x.relative_to(path).parts)]
    else:
        found = [path] if path.exists() else sorted(Path(x) for x in glob.glob(pattern, recursive=True))  # noqa: PTH207
    if not found:
        raise NoFiles(f"--from {table}: no such file, folder or glob: {pattern}", hint="look at the path")
    kinds = {format_of(file) for file in found}
    if len(kinds) > 1:
        raise DataError(
            f"--from {table} names files of several kinds: {', '.join(sorted(kinds))}", hint="name one kind"
        )
    for file in found:
        check_file(file)
    return found


@contextmanager
def open_database(path: Path, memory: str = MEMORY) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database on the disk, with little memory; times with a zone are read as UTC."""
    import duckdb

    path.parent.mkdir(parents=True, exist_ok=True)
    remove_database(path)  # what a killed process left
    connection = duckdb.connect(str(path))
    with connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET enable_progress_bar = false")
        connection.execute(f"SET memory_limit = '{memory}'")
        connection.execute(f"SET temp_directory = {text(path.with_suffix('.tmp'))}")
        yield connection


class TooLarge(Exception):
    """Rows of thousands of columns, or of very long texts, do not fit into the little memory."""


@contextmanager
def _kept_apart() -> Iterator[None]:
    """Keep a want of memory, or of room on the disk, apart from what is wrong with a file."""
    import duckdb

    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise TooLarge(str(error).splitlines()[0]) from error
    except duckdb.IOException as error:
        if os.strerror(errno.ENOSPC) in str(error):  # of the disk that is written, not of the file that is read
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise


def remove_database(path: Path) -> None:
    """Remove a database and what lies beside it."""
    for left in (path, path.with_name(f"{path.name}.wal"), path.with_suffix(".tmp")):
        shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


def freeze(
    connection: duckdb.DuckDBPyConnection,
    files: Sequence[Path],
    fields: Sequence[Field],
    only: tuple[str, Date] | None = None,
    zone: str = "UTC",
) -> int:
    """Copy the files' rows into the table `t`, in their order, and give their number.

    `only` names a column of times and the date whose rows are taken, a date of `zone`. Fields get the types that the
    model knows; other columns stay as they are. Raises DataError in the file's own terms.
    """
    with told_of(files[0]):
        source = _scan(files, fields)
        types = {row[0]: str(row[1]) for row in connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}  # noqa: S608
    wanted = {field.name: field.type for field in fields}
    chosen = ", ".join(_typed(column, kind, wanted.get(column), files[0]) for column, kind in types.items())
    where = f"WHERE {_on_date(*only, types.get(only[0], ''), zone)}" if only is not None else ""
    if only is not None and only[0] not in types:
        raise UsageError(
            f"--at with a table that has no column {only[0]}; it has {', '.join(types)}",
            hint=f'put "{MARK}" in the path of --from, or say --whole to score all of its rows',
        )
    with told_of(files[0]), _kept_apart():
        query = f"CREATE TABLE t AS SELECT {chosen} FROM {source} {where}"  # noqa: S608
        connection.execute(query)
    found = connection.execute("SELECT count(*) FROM t").fetchone()
    return int(found[0]) if found else 0


def bounds_of(date: Date, zone: str) -> tuple[datetime, datetime]:
    """Give the moments, in UTC and without saying so, at which a date of a zone begins and ends.

    >>> [str(moment) for moment in bounds_of(Date(2026, 1, 31), "America/Sao_Paulo")]
    ['2026-01-31 03:00:00', '2026-02-01 03:00:00']
    """
    first, last = (
        datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)) for day in (date, date + timedelta(days=1))
    )
    return first.astimezone(UTC).replace(tzinfo=None), last.astimezone(UTC).replace(tzinfo=None)


def _on_date(column: str, date: Date, kind: str, zone: str) -> str:
    """Give the SQL that holds for a row of a date. A column of dates has no zone: it is compared as it is."""
    if kind == "DATE":
        return f"{name(column)} = DATE '{date.isoformat()}'"
    start, end = bounds_of(date, zone)
    as_time = as_type(name(column), "TIMESTAMP")
    return f"{as_time} >= TIMESTAMP '{start}' AND {as_time} < TIMESTAMP '{end}'"


def digest(connection: duckdb.DuckDBPyConnection) -> str:
    """Give a digest of the table's rows and columns; equal rows give an equal one."""
    import duckdb

    columns = [row[0] for row in connection.execute("DESCRIBE t").fetchall()]
    listed = ", ".join(map(name, columns))
    found = connection.execute(f"SELECT count(*), bit_xor(hash(rowid, {listed})) FROM t").fetchone()  # noqa: S608
    return f"{duckdb.__version__}:{','.join(columns)}:{found}"


def extent(connection: duckdb.DuckDBPyConnection, files: Sequence[Path], column: str) -> str:
    """Say which dates a table has, for an error about one that it has not."""
    found = connection.execute(
        f"SELECT min(CAST({name(column)} AS DATE)), max(CAST({name(column)} AS DATE)) FROM {_scan(files, ())}"  # noqa: S608
    ).fetchone()
    return f"its {column} goes from {found[0]} to {found[1]}" if found and found[0] else f"its {column} is always null"


def part(
    connection: duckdb.DuckDBPyConnection, columns: Sequence[str], start: int, stop: int
) -> Mapping[str, NDArray[Any] | np.ma.MaskedArray[Any, Any]]:
    """Give columns of the table's rows from `start` up to `stop`."""
    listed = ", ".join(map(name, columns)) or "rowid"
    query = f"SELECT {listed} FROM t WHERE rowid >= {start} AND rowid < {stop} ORDER BY rowid"  # noqa: S608
    with _kept_apart():
        return connection.execute(query).fetchnumpy()


def _scan(files: Sequence[Path], fields: Sequence[Field]) -> str:
    listed = f"[{', '.join(text(file) for file in files)}]"
    if format_of(files[0]) == "parquet":
        return f"read_parquet({listed}, union_by_name = true, hive_partitioning = false)"
    texts = [field.name for field in fields if field.type == "string"]
    return scan(files[0], "csv", files=files, texts=texts)


def _typed(column: str, kind: str, wanted: str | None, file: Path) -> str:
    """Give the SQL that reads a column: a field as one of the types that requests have, any other as it is."""
    plain = plain_type(kind)
    if wanted is None:
        return name(column)
    if not plain:
        raise DataError(
            f"{file}: {column} is {kind}; the model wants a {wanted}", hint="cast the column where the table is made"
        )
    return f"{as_type(name(column), plain)} AS {name(column)}"
