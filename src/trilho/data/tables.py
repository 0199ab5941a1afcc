"""Files as tables: CSV and Parquet read by DuckDB, their troubles told in the file's own terms."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trilho.errors import DataError

if TYPE_CHECKING:
    import duckdb

DELIMITERS = ",;\t|"
TYPES = {
    "BOOLEAN": "BOOLEAN",
    "VARCHAR": "VARCHAR",
    "UUID": "VARCHAR",
    "TIME": "VARCHAR",
    "DATE": "TIMESTAMP",
    "FLOAT": "DOUBLE",
    "DOUBLE": "DOUBLE",
    "UBIGINT": "DOUBLE",
    "HUGEINT": "DOUBLE",
    "UHUGEINT": "DOUBLE",
}


@dataclass(frozen=True)
class Column:
    """A column and its type: BIGINT, DOUBLE, BOOLEAN, VARCHAR or TIMESTAMP."""

    name: str
    type: str


@contextmanager
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    """Open an empty database in memory; times with a zone are read as UTC."""
    import duckdb  # here: a training of which nothing changed reads no table

    with duckdb.connect(":memory:") as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET enable_progress_bar = false")
        yield connection


def name(column: str) -> str:
    """Quote a column's name for SQL.

    >>> print(name('a "b" c'))
    "a ""b"" c"
    """
    return '"' + column.replace('"', '""') + '"'


def text(value: str | Path) -> str:
    """Quote a text for SQL."""
    return "'" + str(value).replace("'", "''") + "'"


def format_of(file: Path) -> str:
    """Tell a file's format by its name."""
    if file.suffix.lower() in (".parquet", ".pq"):
        return "parquet"
    if file.suffix.lower() in (".csv", ".tsv", ".txt"):
        return "csv"
    raise DataError(f"{file}: {file.suffix or 'no suffix'} is not a kind of table", hint="give .csv or .parquet files")


def check_file(file: Path) -> None:
    """Raise DataError for a file that is missing, no file, or empty."""
    if not file.exists():
        raise DataError(f"{file}: no such file", hint="put it there, or change data.source in trilho.toml")
    if not file.is_file():
        raise DataError(f"{file} is a folder, not a file", hint='a folder is named with a pattern: "data/*.parquet"')
    if file.stat().st_size == 0:
        raise DataError(f"{file} is empty: 0 bytes", hint="get the file again from where it comes from")


def scan(kept: Path, format_: str, *, files: Sequence[Path] = (), texts: Collection[str] = ()) -> str:
    """Give the SQL that reads a file, or `files` that are alike; columns named in `texts` are read as texts.

    A CSV's delimiter is the one its header has most of, and of its texts only "true" and "false" are booleans: a
    column of "yes" and "no" is one of texts, as callers will send it.
    """
    if format_ == "parquet":
        return f"read_parquet({text(kept)})"
    with kept.open("rb") as handle:
        header = handle.readline(1 << 20).decode("utf-8", errors="replace")
    delimiter = text(delimiter_of(header))
    listed = f"[{', '.join(map(text, files))}]" if files else text(kept)
    options = f"{listed}, delim = {delimiter}, header = true, quote = '\"', escape = '\"', strict_mode = true"
    named = [column for column in texts if column in header_of(header)]
    typed = ", ".join(f"{text(column)}: 'VARCHAR'" for column in dict.fromkeys([*_no_booleans(options), *named]))
    types = f", types = {{{typed}}}" if typed else ""
    return f"read_csv({options}, sample_size = -1{types})"


def _no_booleans(options: str) -> list[str]:
    """Give the columns of a CSV that DuckDB takes for booleans by other words than true and false."""
    import duckdb

    with database() as connection:
        try:
            query = f"DESCRIBE SELECT * FROM read_csv({options}, sample_size = -1)"  # noqa: S608
            rows = connection.execute(query).fetchall()
            columns = [row[0] for row in rows if row[1] == "BOOLEAN"]
            other = [f"bool_or(lower({name(column)}) NOT IN ('true', 'false'))" for column in columns]
            query = f"SELECT {', '.join(other)} FROM read_csv({options}, all_varchar = true)"  # noqa: S608
            found = connection.execute(query).fetchone() if other else None
        except duckdb.Error:  # the reader proper will say it
            return []
    return [column for column, odd in zip(columns, found or (), strict=True) if odd]


def columns_of(connection: duckdb.DuckDBPyConnection, source: str, file: Path) -> list[Column]:
    """Give a table's columns in the few types that models know. Raises DataError for one that is none of them."""
    with told_of(file):
        rows = connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()  # noqa: S608
    columns = [Column(row[0], plain_type(row[1])) for row in rows]
    for column, row in zip(columns, rows, strict=True):
        if not column.type:
            raise DataError(
                f"{file}: column {column.name} is {row[1]}; numbers, texts, booleans and times can be learnt from",
                hint="leave the column out of the file",
            )
    return columns


def plain_type(type_: str) -> str:
    """Reduce a type of DuckDB's to one of a column's, or to nothing where none fits.

    >>> plain_type("DECIMAL(9,2)"), plain_type("UINTEGER"), plain_type("INTEGER[]")
    ('DOUBLE', 'BIGINT', '')
    """
    if type_.endswith("]"):
        return ""
    if type_.startswith("TIMESTAMP"):
        return "TIMESTAMP"
    if type_.startswith("DECIMAL"):
        return "DOUBLE"
    if type_.startswith("ENUM"):
        return "VARCHAR"
    if type_ in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"):
        return "BIGINT"
    return TYPES.get(type_, "")


def as_type(expression: str, type_: str, cast: str = "CAST") -> str:
    """Give the SQL that reads a value as a column's type; a time with a zone, also in a text, is one in UTC.

    A second cast would not do: DuckDB's CSV reader takes it for the type to read, and leaves the zone out.

    >>> as_type("t", "TIMESTAMP", "TRY_CAST")
    "(TRY_CAST(t AS TIMESTAMPTZ) AT TIME ZONE 'UTC')"
    """
    if type_ == "TIMESTAMP":
        return f"({cast}({expression} AS TIMESTAMPTZ) AT TIME ZONE 'UTC')"
    return f"{cast}({expression} AS {type_})"


@contextmanager
def told_of(file: Path) -> Iterator[None]:
    """Turn DuckDB's errors into a DataError that names the file and, for a CSV, the line."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        words = str(error)
        if "magic bytes" in words or "too small to be a Parquet" in words:
            fact = "is not a whole Parquet file: its end is missing"
        elif format_of(file) == "csv":
            fact = _odd_line(file) or f"cannot be read as CSV: {_first(words)}"
        else:
            fact = f"cannot be read: {_first(words)}"
        raise DataError(f"{file}: {fact}", hint="it may be truncated: get it again from where it comes from") from None


def _first(words: str) -> str:
    return re.sub(r"^[A-Z][\w ]* Error: ", "", words.strip()).splitlines()[0]


def _odd_line(file: Path) -> str | None:
    """Say which line of a CSV first differs from its header, or that the file is no text."""
    try:
        with file.open(encoding="utf-8", newline="") as handle:
            rows = csv.reader(handle, delimiter=delimiter_of(handle.readline()), strict=True)
            handle.seek(0)
            width = len(next(rows))
            for row in rows:
                if len(row) not in (0, width):
                    return f"line {rows.line_num} has {len(row)} fields, the header {width}"
    except UnicodeDecodeError:
        return "it is not UTF-8 text"
    except (csv.Error, StopIteration) as error:
        return f"it is not a CSV file: {error}"
    return "its lines end in two ways, LF and CRLF; write them in one" if _ends_mixed(file) else None


def _ends_mixed(file: Path) -> bool:
    with file.open("rb") as handle:
        ends = {line.endswith(b"\r\n") for line in handle if line.endswith(b"\n")}
    return len(ends) > 1


def header_of(line: str) -> list[str]:
    """Give the columns that a CSV's first line names.

    >>> header_of('id,"weight, net"')
    ['id', 'weight, net']
    """
    return next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter_of(line)), [])


def delimiter_of(header: str) -> str:
    """Tell a CSV's delimiter: the one its header has most of.

    >>> delimiter_of("id;name;weight, net")
    ';'
    """
    return max(DELIMITERS, key=header.count)
