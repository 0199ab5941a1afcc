"""Rows that a batch scored, taken into the log of what was served: from then on they are labelled, watched, kept and
forgotten as rows that were asked for one by one.

A date of a table of scores is there once: its rows have ids that come from the date and its rows, so that what is
taken again after a kill changes nothing. Where the date's rows have changed, those from before leave with their index;
labels that came by key find the new ones.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trilho.data.labels import key_text
from trilho.data.tables import database, name, text
from trilho.serve.columns import PROBABILITY, TOLD
from trilho.serve.index import Index
from trilho.serve.intake import DAY_SECONDS, day_text
from trilho.serve.partitions import Part, Partitions
from trilho.serve.truth import label_columns, stored, truth_of
from trilho_runtime.prediction.mask import Mask

if TYPE_CHECKING:
    import duckdb

ROWS_AT_ONCE = 50_000
NO_MASK = Mask()
Columns = dict[str, NDArray[Any]]
LEAVING = {
    "labels wait again by id": "UPDATE truths SET met = 0 WHERE met = 1 AND ref IN ("
    "SELECT 'id:' || id FROM predictions WHERE id >= ? AND id < ?)",
    "labels wait again by key": "UPDATE truths SET met = 0 WHERE met = 1 AND ref IN ("
    "SELECT 'key:' || key FROM predictions p WHERE id >= ? AND id < ? AND key IS NOT NULL AND NOT EXISTS ("
    "SELECT 1 FROM predictions o WHERE o.key = p.key AND NOT (o.id >= ? AND o.id < ?)))",
    "labels": "DELETE FROM labels WHERE row IN (SELECT row FROM predictions WHERE id >= ? AND id < ?)",
    "corrections": "DELETE FROM corrections WHERE row IN (SELECT row FROM predictions WHERE id >= ? AND id < ?)",
    "rows": "DELETE FROM predictions WHERE id >= ? AND id < ?",
}


@dataclass(frozen=True, kw_only=True)
class ScoredDate:
    """One date of a table of scores, as it is served."""

    table: str
    date: str
    identity: str
    """What its rows' ids begin with; other rows have another one."""
    files: Sequence[tuple[Path, float, float]]
    """Each file, and the places of the cohort whose rows it serves: from, up to."""
    fields: Sequence[str]
    """The raw fields that the model knows: of the table's other columns nothing is kept."""


class ScoredIntake:
    """Takes dates of tables of scores into one log."""

    def __init__(self, partitions: Partitions, on: Sequence[str], mask: Mask = NO_MASK) -> None:
        self._partitions, self._database = partitions, partitions.database
        self._on, self._mask = on, mask

    def taken(self, table: str, date: str) -> str | None:
        """Give the identity of the rows that were taken of a date; None where it was not, or not wholly."""
        query = "SELECT identity FROM scored WHERE place = ? AND date = ? AND whole = 1"
        found = self._database.read(query, (table, date))
        return str(found[0][0]) if found else None

    def take(self, scored: ScoredDate) -> int:
        """Take a date; give how many rows are new in the log. The same rows again are none."""
        if self.taken(scored.table, scored.date) == scored.identity:
            return 0
        self._leave(scored)
        with self._database.write() as connection:
            values = (scored.table, scored.date, scored.identity)
            connection.execute("INSERT OR REPLACE INTO scored VALUES (?, ?, ?, 0)", values)
        new = sum(self._add(columns) for columns in _chunks(scored, self._mask))
        with self._database.write() as connection:
            self._partitions.settle(connection)
            connection.execute("UPDATE scored SET whole = 1 WHERE place = ? AND date = ?", values[:2])
        return new

    # ---- adding ----------------------------------------------------------------------------------------------------

    def _add(self, columns: Columns) -> int:
        """Add rows in one transaction: index, labels that waited, files; ids that are known already are passed by."""
        with self._database.write() as connection:
            self._partitions.settle(connection)
            index = Index(connection)
            first = index.next_row()
            rows = np.arange(first, first + len(columns["_id"]), dtype=np.int64)
            keys = self._keys(columns)
            given = list(
                zip(rows.tolist(), columns["_id"].tolist(), keys, columns["_time"].tolist(),
                    columns["_version"].tolist(), columns["_prediction"].tolist(), strict=True)
            )  # fmt: skip
            new = index.add_predictions(given, _told(columns))
            index.counted["duplicates"] = 0
            kept = np.ones(len(rows), bool) if new is None else np.isin(rows, list(new))
            index.meet(row[:3] for row, there in zip(given, kept.tolist(), strict=True) if there)
            self._write(connection, {"_row": rows, **columns}, kept)
            self._keep_labels(index)
            index.count()
        with self._database.write() as connection:
            self._partitions.settle(connection)
        return int(kept.sum())

    def _keys(self, columns: Columns) -> list[str | None]:
        on = [name for name in self._on if name in columns]
        if len(on) < len(self._on) or not on:
            return [None] * len(columns["_id"])
        lists = [_listed(columns[name]) for name in on]
        return [key_text(dict(zip(on, row, strict=True)), on) for row in zip(*lists, strict=True)]

    def _write(self, connection: sqlite3.Connection, columns: Columns, kept: NDArray[np.bool_]) -> None:
        days = np.floor_divide(columns["_time"], DAY_SECONDS).astype(np.int64)
        for day in np.unique(days[kept]).tolist():
            picked = kept & (days == day)
            part = {name: column[picked] for name, column in columns.items()}
            part = {name: column for name, column in part.items() if not _is_empty(column)}
            span = float(part["_time"].min()), float(part["_time"].max())
            served = float(part["_served"].max())
            number = int(part["_row"][0])
            self._partitions.add(connection, "segments", day_text(day), part, number=number, span=span, served=served)

    def _keep_labels(self, index: Index) -> None:
        if index.given:
            now = time.time()
            self._partitions.add(
                index.connection, "truths", day_text(int(now // DAY_SECONDS)), label_columns(index.given),
                number=index.given[0][0], span=(now, now), served=now,
            )  # fmt: skip

    # ---- leaving ---------------------------------------------------------------------------------------------------

    def _leave(self, scored: ScoredDate) -> None:
        """Take out the rows that the date had before, unless another table has the same ones."""
        query = "SELECT identity FROM scored WHERE place = ? AND date = ? AND identity <> ?"
        for (identity,) in self._database.read(query, (scored.table, scored.date, scored.identity)):
            others = "SELECT 1 FROM scored WHERE identity = ? AND NOT (place = ? AND date = ?)"
            if not self._database.read(others, (identity, scored.table, scored.date)):
                self._remove(f"{identity}.", f"{identity}/")  # "/" comes after "."

    def _remove(self, low: str, high: str) -> None:
        query = "SELECT min(time), max(time) FROM predictions WHERE id >= ? AND id < ?"
        first, last = self._database.read(query, (low, high))[0]
        if first is None:
            return
        where = "kind = 'segments' AND day IS NOT NULL AND last >= ? AND first <= ?"
        found = sorted(self._partitions.parts(where, (first, last)), key=lambda part: str(part.day))
        for day, group in groupby(found, lambda part: str(part.day)):
            self._remove_of_day(day, [part for part in group if self._holds(part, low, high)], low, high)
        self._forget(low, high)

    def _holds(self, part: Part, low: str, high: str) -> bool:
        query = f"SELECT count(*) AS n FROM {self._partitions.union([part])} WHERE {_between(low, high)}"  # noqa: S608
        return bool(self._partitions.tables.fetch(query)["n"][0])

    def _remove_of_day(self, day: str, parts: list[Part], low: str, high: str) -> None:
        if not parts:
            return
        with self._database.write() as connection:
            self._partitions.settle(connection, durably=True)
            queries = {
                f"SELECT * FROM {self._partitions.union([part])} WHERE NOT {_between(low, high)} ORDER BY _time, _row": [part]  # noqa: S608, E501
                for part in parts
            }  # fmt: skip
            self._partitions.replace(connection, "segments", day, queries, at=time.time())
        with self._database.write() as connection:
            self._partitions.settle(connection)

    def _forget(self, low: str, high: str) -> None:
        """Take rows out of the index; what was known of labels waits for the rows that come instead."""
        with self._database.write() as connection:
            index = Index(connection)
            index.mark("row", index.next_row() - 1)
            index.mark("seq", index.next_number("seq", "SELECT max(seq) FROM labels") - 1)
            index.mark("correction", index.next_number("correction", "SELECT max(seq) FROM corrections") - 1)
            span = (low, high)
            gone = {what: connection.execute(query, span * (query.count("?") // 2)).rowcount
                    for what, query in LEAVING.items()}  # fmt: skip
            index.counted["served"] -= gone["rows"]
            index.counted["labelled"] -= gone["labels"]
            index.counted["unknown"] += gone["labels wait again by id"] + gone["labels wait again by key"]
            index.count()


def _told(columns: Columns) -> list[float | bytes | None]:
    """Give the classes that were predicted, as the index holds them; none where the table names none."""
    if "_class" not in columns:
        return []
    found = map(truth_of, _listed(columns["_class"]))
    return [None if one is None else stored(one) for one in found]


def _between(low: str, high: str) -> str:
    return f"(_id >= {text(low)} AND _id < {text(high)})"


def _chunks(scored: ScoredDate, mask: Mask) -> Iterator[Columns]:
    """Read the served rows of a date, some at a time, as the log holds them."""
    with database() as connection:
        connection.execute("SET threads = 1")
        for file, low, high in scored.files:
            source = f"read_parquet({text(file)}, hive_partitioning = false, file_row_number = true)"
            described = connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()  # noqa: S608
            types = {row[0]: str(row[1]) for row in described}
            rows = connection.execute(f"SELECT count(*) FROM {source}").fetchall()[0][0]  # noqa: S608
            chosen = ", ".join(_selected(types, scored.fields, mask))
            for start in range(0, rows, ROWS_AT_ONCE):
                query = (
                    f"SELECT {chosen} FROM {source} WHERE file_row_number >= {start} AND file_row_number < "  # noqa: S608
                    f"{start + ROWS_AT_ONCE} AND _cohort >= {low!r} AND _cohort < {high!r} AND isfinite(_prediction)"
                    " ORDER BY file_row_number"
                )
                columns = _masked(_read(connection, query), mask)
                if len(columns["_id"]):
                    yield columns


def _selected(types: Mapping[str, str], fields: Sequence[str], mask: Mask) -> Iterator[str]:
    own = ("_id", "_time", "_version", "_prediction", *(column for column in TOLD if column in types))
    yield from own
    yield from (column for column in types if column.startswith(PROBABILITY))
    for field in fields:
        if field in types and mask.rules.get(field) != "drop" and field not in own:
            yield f"{_iso(name(field))} AS {name(field)}" if types[field].startswith("TIMESTAMP") else name(field)


def _iso(column: str) -> str:
    """Give the SQL of a time's text, as servers log it."""
    part = f"CASE WHEN {column} <> date_trunc('second', {column}) THEN strftime({column}, '.%f') ELSE '' END"
    return f"strftime({column}, '%Y-%m-%dT%H:%M:%S') || {part}"


def _read(connection: duckdb.DuckDBPyConnection, query: str) -> Columns:
    found: Columns = connection.execute(query).fetchnumpy()
    for column, values in found.items():
        if values.dtype.kind == "O":
            texts = np.asarray(np.ma.getdata(values)).copy()
            texts[np.ma.getmaskarray(values)] = None
            found[column] = texts
    kinds = {"_time": np.float64, "_version": np.int64, "_prediction": np.float64}
    return {**found, **{column: np.asarray(found[column], kind) for column, kind in kinds.items()}}


def _masked(columns: Columns, mask: Mask) -> Columns:
    for field, rule in mask.rules.items():
        if rule == "hash" and field in columns:
            hashed = np.empty(len(columns[field]), object)
            hashed[:] = [None if value is None else mask.hash(value) for value in _listed(columns[field])]
            columns[field] = hashed
    return columns


def _listed(column: NDArray[Any]) -> list[Any]:
    """Give a column's values as JSON has them, None for what is missing."""
    missing = np.ma.getmaskarray(column)
    values = np.asarray(np.ma.getdata(column)).tolist()
    return [None if gone or value != value else value for value, gone in zip(values, missing.tolist(), strict=True)]


def _is_empty(column: NDArray[Any]) -> bool:
    """Say whether a column has no value at all; the log leaves it out then, as it does for lines."""
    if np.ma.getmaskarray(column).all():
        return True
    return column.dtype.kind == "O" and all(value is None for value in column.tolist())
