"""The rule that splits a table: the newest rows judge, the rows before them train. It moves with the data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import duckdb

from trilho.config import parse_duration
from trilho.core.records import DatasetVersioned
from trilho.data.tables import database, name, text
from trilho.data.version import Dataset
from trilho.errors import NotYet
from trilho.pipeline.graph import Work, versioned

SHARE = 0.2  # held out where there is no time column


@dataclass(frozen=True)
class Candidate:
    """A history to train on: all rows before the held-out ones, or those from `since` on."""

    name: str  # "all" or "window"
    since: str | None  # ISO 8601


def candidates(history: str, holdout: timedelta, dataset: Dataset, first: DatasetVersioned | None) -> list[Candidate]:
    """Say which histories to train on.

    "auto" tries all of it and as much time as the first dataset version spanned, once there is more than that.
    """
    everything = Candidate("all", None)
    if history == "all" or dataset.first is None or dataset.last is None:
        return [everything]
    cut = datetime.fromisoformat(dataset.last) - holdout
    length = _span(dataset, first) if history == "auto" else parse_duration(history)
    since = cut - length
    if history != "auto":
        return [Candidate("window", since.isoformat())]
    more = since > datetime.fromisoformat(dataset.first)
    return [everything, Candidate("window", since.isoformat())] if more else [everything]


def _span(dataset: Dataset, first: DatasetVersioned | None) -> timedelta:
    start, end = dataset.baseline_first or dataset.first, dataset.baseline_last or dataset.last
    if first is not None and first.first and first.last:
        start, end = first.first, first.last
    return datetime.fromisoformat(str(end)) - datetime.fromisoformat(str(start))


@versioned(1)
def split(work: Work) -> None:
    """Write the held-out rows and each candidate's training rows. Raises NotYet when one of them is empty."""
    time, seconds = work.parameters["time"], work.parameters["holdout_seconds"]
    with database() as connection:
        connection.execute(f"CREATE VIEW t AS SELECT * FROM read_parquet({text(work.inputs['table'])})")  # noqa: S608
        cut = _cut_by_time(connection, time, seconds) if time else _cut_by_share(connection)
        held = _write(connection, work, "holdout", f"NOT ({cut})")
        if held == 0:
            raise NotYet("no rows can be held out", hint="more data is needed, or another train.holdout")
        for candidate, since in work.parameters["candidates"].items():
            where = cut if since is None else f"{cut} AND {name(time)} >= TIMESTAMP {text(since)}"
            rows = _write(connection, work, f"train-{candidate}", where)
            if rows == 0:
                raise NotYet(
                    f"the newest {seconds / 86400:g} days hold all of the rows; nothing is left to train on",
                    hint="make train.holdout shorter, or wait for more data",
                )
            work.values[f"rows-{candidate}"] = rows
            work.say(f"{candidate}: {rows} rows train, {held} are held out")
        work.values |= {"holdout_rows": held, "train_until": _until(connection, time, cut)}


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


def _write(connection: duckdb.DuckDBPyConnection, work: Work, output: str, where: str) -> int:
    table = f"read_parquet({text(work.inputs['table'])}, file_row_number = true)"
    query = f"SELECT * EXCLUDE (file_row_number) FROM {table} WHERE {where} ORDER BY file_row_number"  # noqa: S608
    done = connection.execute(f"COPY ({query}) TO {text(work.outputs[output])} (FORMAT parquet)").fetchone()
    return int(done[0]) if done else 0


def _until(connection: duckdb.DuckDBPyConnection, time: str, cut: str) -> str | None:
    if not time:
        return None
    row = connection.execute(f"SELECT max({name(time)}) FROM t WHERE {cut}").fetchone()  # noqa: S608
    return row[0].isoformat() if row and row[0] is not None else None
