"""Columns of the tables that a notebook read, out of their frozen copies: enough to date a split and to know a key."""

from __future__ import annotations

import ast
import csv
import gzip
import io
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np

from trilho.adopt.slice.history import History, called_name, calls_in
from trilho.adopt.trace import Read

SHAPES = ("%Y-%m-%d %H:%M:%S", "%m/%d/%Y", "%d/%m/%Y", "%m/%d/%Y %H:%M", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M:%S",
          "%d/%m/%Y %H:%M:%S", "%Y%m%d", "%Y-%m", "%d-%m-%Y", "%d.%m.%Y", "%Y/%m/%d", "%Y/%m/%d %H:%M:%S")  # fmt: skip


def column_values(scratch: Path, read: Read, column: str) -> list[object]:
    """Give a column's values as they lie in the frozen copy; nothing where that cannot be read here."""
    path = scratch / read.file
    if not read.file or not path.is_file():
        return []
    try:
        if path.name.endswith((".parquet", ".pq")):
            return _of_parquet(path, column)
        return list(_of_csv(path, read, column)) if read.kind == "csv" else []
    except (OSError, ValueError, csv.Error, UnicodeError, LookupError):
        return []


def table_columns(history: History, read: Read) -> list[str]:
    """Give a table's columns as the notebook calls them: renamed where a statement renames all that was read."""
    columns = list(read.value.columns or [])
    for statement in history.notebook.statements:
        did = history.did.get(statement.id)
        if did is None or statement.id < read.statement or not _renames(statement.node):
            continue
        for name in [*did.writes, *did.mutates]:
            value = did.values.get(name)
            if value is not None and value.kind == "frame" and len(value.columns or []) == len(columns):
                columns = list(value.columns or [])
    return columns


def _renames(node: ast.stmt) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else []
    if any(isinstance(target, ast.Attribute) and target.attr == "columns" for target in targets):
        return True
    return any(called_name(call) in ("rename", "set_axis", "clean_names", "add_prefix") for call in calls_in(node))


def is_key(values: list[object]) -> bool:
    """Say whether values name their rows: all there, all different.

    >>> is_key(["a", "b"]), is_key(["a", "a"]), is_key([]), is_key(["a", ""])
    (True, False, False, False)
    """
    return len(values) > 1 and len(set(values)) == len(values) and not {"", None, "nan", "NaN", "NA"} & set(values)


def times_of(values: list[object], shape: str = "", *, day_first: bool = False) -> list[datetime]:
    """Read values as times; nothing where one is none.

    >>> times_of(["31/12/2012", "01/02/2013"])[1]
    datetime.datetime(2013, 2, 1, 0, 0)
    """
    told = [value for value in values if value not in (None, "", "NaT", "nan")]
    if all(isinstance(value, datetime) for value in told):
        return [value.replace(tzinfo=None) for value in told if isinstance(value, datetime)]
    texts = [str(value).strip() for value in told]
    shapes = [shape] if shape and shape != "mixed" else ["", *sorted(SHAPES, key=lambda s: day_first and s[:2] == "%m")]
    for one in shapes:
        try:
            return [
                (datetime.strptime(t, one) if one else datetime.fromisoformat(t)).replace(tzinfo=None) for t in texts
            ]
        except ValueError:
            continue
    return []


def kept_values(scratch: Path, file: str) -> list[object]:
    """Give the values of a series or array that the trace kept; nothing where it is of another kind."""
    path = scratch / file
    try:
        if path.suffix == ".npy":
            return list(np.load(path, allow_pickle=False).reshape(-1).tolist())
        return _last_column(path) if path.suffix == ".parquet" else []
    except (OSError, ValueError):
        return []


def _last_column(path: Path) -> list[object]:
    import duckdb

    try:
        with duckdb.connect() as connection:
            return [row[-1] for row in connection.execute("SELECT * FROM read_parquet(?)", [str(path)]).fetchall()]
    except duckdb.Error:
        return []


def _of_parquet(path: Path, column: str) -> list[object]:
    import duckdb

    name = column.replace('"', '""')
    try:
        with duckdb.connect() as connection:
            rows = connection.execute(f'SELECT "{name}" FROM read_parquet(?)', [str(path)]).fetchall()  # noqa: S608
    except duckdb.Error:
        return []
    return [row[0] for row in rows]


def _of_csv(path: Path, read: Read, column: str) -> Iterator[str]:
    separator = _literal(read, "sep") or _literal(read, "delimiter") or ("\t" if "read_table" in read.function else ",")
    encoding = _literal(read, "encoding") or "utf-8-sig"
    with path.open("rb") as raw, gzip.open(raw) if raw.peek(2)[:2] == b"\x1f\x8b" else raw as binary:
        handle = io.TextIOWrapper(binary, encoding=encoding, newline="")
        if not isinstance(separator, str) or len(separator) > 1:
            separator = csv.Sniffer().sniff(handle.read(20_000), ",;\t|").delimiter
            handle.seek(0)
        rows = csv.reader(handle, delimiter=separator, quotechar=str(_literal(read, "quotechar") or '"'))
        header = next((row for row in rows if column in [_clean(name) for name in row]), None)
        if header is None:
            return
        at = [_clean(name) for name in header].index(column)
        yield from (row[at] for row in rows if len(row) > at)


def _clean(name: str) -> str:
    return name.strip().lstrip("\ufeff")


def _literal(read: Read, name: str) -> str:
    text = read.arguments.get(name, "")
    try:
        return str(ast.literal_eval(text)) if text and re.match(r"['\"]", text) else ""
    except (ValueError, SyntaxError):
        return ""
