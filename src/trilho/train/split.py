"""The rule that splits a table: the newest rows judge, the rows before them train. It moves with the data."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trilho.config import parse_duration
from trilho.core.records import DatasetVersioned
from trilho.data.tables import database, name, text
from trilho.data.version import Dataset
from trilho.errors import NotYet

if TYPE_CHECKING:
    import duckdb

SHARE = 0.2  # held out where there is no time column


def candidates(history: str, time: str | None) -> tuple[str, ...]:
    """Name the histories that are trained on: "all" of it, a "window" of it, or both.

    >>> candidates("auto", "ts"), candidates("latest 365 days", "ts"), candidates("auto", None)
    (('all', 'window'), ('window',), ('all',))
    """
    if history == "all" or time is None:
        return ("all",)
    return ("all", "window") if history == "auto" else ("window",)


def window_start(history: str, holdout: timedelta, dataset: Dataset, first: DatasetVersioned | None) -> str:
    """Say from which moment on the window trains, ISO 8601; "" where it is all of the history.

    "auto" takes as much time as the first dataset version spanned, once there is more than that.
    """
    if history == "all" or dataset.first is None or dataset.last is None:
        return ""
    cut = datetime.fromisoformat(dataset.last) - holdout
    if history != "auto":
        return (cut - parse_duration(history)).isoformat()
    since = cut - _span(dataset, first)
    return since.isoformat() if since > datetime.fromisoformat(dataset.first) else ""


def _span(dataset: Dataset, first: DatasetVersioned | None) -> timedelta:
    start, end = dataset.baseline_first or dataset.first, dataset.baseline_last or dataset.last
    if first is not None and first.first and first.last:
        start, end = first.first, first.last
    return datetime.fromisoformat(str(end)) - datetime.fromisoformat(str(start))


def split(
    table: Path, holdout: Path, targets: Mapping[str, tuple[Path, str]], time: str, holdout_seconds: float
) -> tuple[dict[str, int], int, str]:
    """Write the held-out rows, and for each candidate its training rows from a moment on ("": all of them).

    Give the rows of each, the number held out, and the newest time that trains ("" without a time). Raises NotYet
    when a side is empty.
    """
    with database() as connection:
        connection.execute(f"CREATE VIEW t AS SELECT * FROM read_parquet({text(table)})")  # noqa: S608
        cut = _cut_by_time(connection, time, holdout_seconds) if time else _cut_by_share(connection)
        held, found = _write(connection, table, holdout, f"NOT ({cut})"), {}
        if held == 0:
            raise NotYet("no rows can be held out", hint="more data is needed, or another train.holdout")
        for candidate, (out, since) in targets.items():
            where = f"{cut} AND {name(time)} >= TIMESTAMP {text(since)}" if since else cut
            found[candidate] = _write(connection, table, out, where)
            if found[candidate] == 0:
                raise NotYet(
                    f"the newest {holdout_seconds / 86400:g} days hold all of the rows; nothing is left to train on",
                    hint="make train.holdout shorter, or wait for more data",
                )
        return found, held, _until(connection, time, cut)


def _cut_by_time(connection: duckdb.DuckDBPyConnection, time: str, seconds: float) -> str:
    query = f"SELECT max({name(time)}) FROM t"  # noqa: S608
    newest: Any = (connection.execute(query).fetchone() or (None,))[0]
    if newest is None:
        return "true"
    return f"{name(time)} <= TIMESTAMP {text((newest - timedelta(seconds=seconds)).isoformat())}"


def _cut_by_share(connection: duckdb.DuckDBPyConnection) -> str:
    rows = (connection.execute("SELECT count(*) FROM t").fetchone() or (0,))[0]
    held = max(1, round(rows * SHARE)) if rows else 0
    return f"file_row_number < {rows - held}"


def _write(connection: duckdb.DuckDBPyConnection, table: Path, out: Path, where: str) -> int:
    rows = f"read_parquet({text(table)}, file_row_number = true)"
    query = f"SELECT * EXCLUDE (file_row_number) FROM {rows} WHERE {where} ORDER BY file_row_number"  # noqa: S608
    done = connection.execute(f"COPY ({query}) TO {text(out)} (FORMAT parquet)").fetchone()
    return int(done[0]) if done else 0


def _until(connection: duckdb.DuckDBPyConnection, time: str, cut: str) -> str:
    if not time:
        return ""
    row = connection.execute(f"SELECT max({name(time)}) FROM t WHERE {cut}").fetchone()  # noqa: S608
    return str(row[0].isoformat()) if row and row[0] is not None else ""
