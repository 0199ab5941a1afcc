"""The log's index: which lines are sealed, which segments hold them, and which label belongs to which prediction.

Everything that must hold together is in this one SQLite file, so that one transaction moves the offsets, lists the
segment and joins the labels: a line counts exactly once, whatever is killed when.
"""

from __future__ import annotations

import math
import sqlite3
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from trilho_runtime.signature import parse_time

SCHEMA = """
CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, offset INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS segments (
  name TEXT PRIMARY KEY, rows INTEGER NOT NULL, first REAL NOT NULL, last REAL NOT NULL);
CREATE TABLE IF NOT EXISTS predictions (
  row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, key TEXT, time REAL NOT NULL, version INTEGER NOT NULL,
  prediction REAL NOT NULL, labelled INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS predictions_by_time ON predictions (time);
CREATE INDEX IF NOT EXISTS predictions_by_key ON predictions (key) WHERE key IS NOT NULL;
CREATE INDEX IF NOT EXISTS predictions_without_label ON predictions (time) WHERE labelled = 0;
CREATE TABLE IF NOT EXISTS truths (ref TEXT PRIMARY KEY, value REAL NOT NULL, met INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS labels (seq INTEGER PRIMARY KEY, row INTEGER NOT NULL UNIQUE, value REAL NOT NULL);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID
"""
Line = dict[str, Any]


def time_of(value: object) -> datetime | None:
    """Read an ISO 8601 time as servers do, as a naive one in UTC; None for anything else."""
    try:
        return parse_time(value) if isinstance(value, str) else None
    except (ValueError, OverflowError):  # overflow: in UTC it is before the year 1 or after 9999
        return None


def seconds_of(value: object) -> float | None:
    """Read an ISO 8601 time as seconds since 1970 UTC, a time without zone as UTC; None for anything else.

    >>> seconds_of("1970-01-02T00:00:00"), seconds_of("1970-01-01T00:00:00-03:00"), seconds_of(7)
    (86400.0, 10800.0, None)
    """
    moment = time_of(value)
    return None if moment is None else moment.replace(tzinfo=UTC).timestamp()


def number_of(value: object) -> float | None:
    """Read a finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


class Index:
    """What one transaction of sealing changes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.counted: Counter[str] = Counter()

    def add_prediction(self, line: Line, time: float, key: str | None) -> int | None:
        """Index a prediction and give its row; None when its id is known, as after a retried request."""
        done = self._connection.execute(
            "INSERT OR IGNORE INTO predictions (id, key, time, version, prediction) VALUES (?, ?, ?, ?, ?)",
            (line["id"], key, time, line["n"], line["y"]),
        )
        if not done.rowcount:
            self.counted["duplicates"] += 1
            return None
        self.counted["served"] += 1
        return done.lastrowid

    def meet(self, predictions: Iterable[tuple[int, str, str | None]]) -> None:
        """Give labels that came first to the predictions (row, id, key) that they were waiting for."""
        if not self._connection.execute("SELECT 1 FROM truths LIMIT 1").fetchone():
            return
        for row, id_, key in predictions:
            for ref in (f"id:{id_}", f"key:{key}"):
                found = self._connection.execute("SELECT value, met FROM truths WHERE ref = ?", (ref,)).fetchone()
                if found and self._label(row, found[0]) and not found[1]:
                    self._connection.execute("UPDATE truths SET met = 1 WHERE ref = ?", (ref,))
                    self.counted["unknown"] -= 1

    def add_label(self, ref: str, query: str, name: str | None, value: float) -> None:
        """Keep a label and give it to the predictions that `query` finds by `name`; the first label counts."""
        rows = self._connection.execute(query, (name,)).fetchall()
        done = self._connection.execute("INSERT OR IGNORE INTO truths VALUES (?, ?, ?)", (ref, value, bool(rows)))
        if not done.rowcount:
            self.counted["repeated"] += 1
            return
        given = [self._label(row, value) for (row,) in rows]
        if not given:
            self.counted["unknown"] += 1
        elif not any(given):
            self.counted["repeated"] += 1

    def _label(self, row: int, value: float) -> bool:
        done = self._connection.execute("INSERT OR IGNORE INTO labels (row, value) VALUES (?, ?)", (row, value))
        if done.rowcount:
            self._connection.execute("UPDATE predictions SET labelled = 1 WHERE row = ?", (row,))
            self.counted["labelled"] += 1
        return bool(done.rowcount)

    def move(self, path: str, offset: int) -> None:
        """Note up to where a file is sealed."""
        self._connection.execute("INSERT OR REPLACE INTO files VALUES (?, ?)", (path, offset))

    def list_segment(self, name: str, rows: int, first: float, last: float) -> None:
        """List a segment: from here on it is read."""
        self._connection.execute("INSERT INTO segments VALUES (?, ?, ?, ?)", (name, rows, first, last))

    def count(self) -> None:
        """Add what was counted to the totals."""
        for name, n in self.counted.items():
            self._connection.execute(
                "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET n = n + excluded.n", (name, n)
            )
        self.counted.clear()
