"""The log's index: which lines are sealed, which segments hold them, and which label belongs to which prediction.

Everything that must hold together is in this one SQLite file, so that one transaction moves the offsets, lists the
segments and joins the labels: a line counts exactly once, whatever is killed when.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trilho.core.database import Database
from trilho_runtime.schema.signature import parse_time

VERSION = 5
SCHEMA = """
CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, offset INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS segments (
  name TEXT PRIMARY KEY, rows INTEGER NOT NULL, first REAL NOT NULL, last REAL NOT NULL,
  kind TEXT NOT NULL DEFAULT 'segments', day TEXT, bytes INTEGER, digest TEXT, served REAL, sealed REAL);
CREATE INDEX IF NOT EXISTS segments_by_day ON segments (kind, day);
CREATE TABLE IF NOT EXISTS days (
  kind TEXT NOT NULL, day TEXT NOT NULL, generation INTEGER NOT NULL, PRIMARY KEY (kind, day)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS moves (place TEXT PRIMARY KEY, draft TEXT NOT NULL, link TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS retired (folder TEXT PRIMARY KEY, link TEXT NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS marks (name TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS predictions (
  row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, key TEXT, time REAL NOT NULL, version INTEGER NOT NULL,
  prediction REAL NOT NULL, labelled INTEGER NOT NULL DEFAULT 0, told REAL);
CREATE INDEX IF NOT EXISTS predictions_by_time ON predictions (time);
CREATE INDEX IF NOT EXISTS predictions_by_key ON predictions (key) WHERE key IS NOT NULL;
CREATE INDEX IF NOT EXISTS predictions_without_label ON predictions (time) WHERE labelled = 0;
CREATE TABLE IF NOT EXISTS attempts (row INTEGER PRIMARY KEY, n INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS truths (
  ref TEXT PRIMARY KEY, value REAL NOT NULL, met INTEGER NOT NULL, at REAL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS labels (seq INTEGER PRIMARY KEY, row INTEGER NOT NULL UNIQUE, value REAL NOT NULL);
CREATE TABLE IF NOT EXISTS corrections (seq INTEGER PRIMARY KEY, row INTEGER NOT NULL, value REAL NOT NULL);
CREATE INDEX IF NOT EXISTS corrections_by_row ON corrections (row);
CREATE TABLE IF NOT EXISTS scored (
  place TEXT NOT NULL, date TEXT NOT NULL, identity TEXT NOT NULL, whole INTEGER NOT NULL,
  PRIMARY KEY (place, date)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID
"""
ADDED = {
    "segments": (
        "kind TEXT NOT NULL DEFAULT 'segments'", "day TEXT", "bytes INTEGER", "digest TEXT", "served REAL",
        "sealed REAL",
    ),
    "truths": ("at REAL",),
    "predictions": ("told REAL",),
}  # fmt: skip
CACHE_KIB = 65536
AT_ONCE = 500  # values in one IN (...)
Line = dict[str, Any]


def open_index(path: Path) -> Database:
    """Give the index's database; one that an older version wrote gets the columns that were added since."""
    if path.exists():
        _add_columns(path)
    elif path.parent.is_dir():
        with closing(sqlite3.connect(path, timeout=30)) as connection:
            connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
            connection.execute("PRAGMA journal_mode=WAL")
    return Database(path, SCHEMA, what="the prediction log", version=VERSION, durable=False)


def _add_columns(path: Path) -> None:
    try:
        with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as connection:
            if not 0 < connection.execute("PRAGMA user_version").fetchone()[0] < VERSION:
                return
            connection.execute("BEGIN IMMEDIATE")
            for table, columns in ADDED.items():
                known = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
                for column in columns:
                    if column.partition(" ")[0] not in known:
                        connection.execute(f"ALTER TABLE {table} ADD COLUMN {column}")
            connection.execute("COMMIT")
    except sqlite3.DatabaseError:
        return  # what is wrong with the file is said where it is opened to be used


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
        self.connection = connection
        self.counted: Counter[str] = Counter()
        self.given: list[tuple[int, float | bytes]] = []
        """The labels (row, value) that found their prediction."""
        connection.execute(
            f"PRAGMA cache_size=-{CACHE_KIB}"
        )  # the ids arrive in no order: their index is written all over

    def next_number(self, name: str, query: str) -> int:
        """Give the first number that was never used, even if rows with larger ones were deleted."""
        found = self.connection.execute(query).fetchone()[0] or 0
        mark = self.connection.execute("SELECT n FROM marks WHERE name = ?", (name,)).fetchone()
        return max(int(found), mark[0] if mark else 0) + 1

    def mark(self, name: str, number: int) -> None:
        """Keep a number from being used again."""
        self.connection.execute(
            "INSERT INTO marks VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET n = max(n, excluded.n)", (name, number)
        )

    def next_row(self) -> int:
        """Give the number of the next prediction's row."""
        return self.next_number("row", "SELECT max(row) FROM predictions")

    def add_predictions(
        self, rows: Sequence[tuple[int, str, str | None, float, int, float]], told: Sequence[float | bytes | None] = ()
    ) -> set[int] | None:
        """Index predictions (row, id, key, time, version, prediction), whose rows are numbered on from `next_row`.

        `told` are the classes that were predicted, where they are named. Give the rows that were new; None where all
        were. An id that is known, as after a retried request, counts once.
        """
        if not rows:
            return None
        before = self.connection.total_changes
        self.connection.executemany(
            "INSERT OR IGNORE INTO predictions (row, id, key, time, version, prediction) VALUES (?, ?, ?, ?, ?, ?)",
            rows,
        )
        new = self.connection.total_changes - before
        named = [(class_, row[0]) for class_, row in zip(told, rows, strict=False) if class_ is not None]
        self.connection.executemany("UPDATE predictions SET told = ? WHERE row = ?", named)
        self.counted["served"] += new
        if new == len(rows):
            return None
        self.counted["duplicates"] += len(rows) - new
        query = "SELECT row FROM predictions WHERE row BETWEEN ? AND ?"
        return {row for (row,) in self.connection.execute(query, (rows[0][0], rows[-1][0]))}

    def earlier(self, attempts: Mapping[str, int]) -> dict[str, tuple[int, float]]:
        """Give the rows (number, event time) that are there of an earlier attempt than those, by their ids."""
        query = (
            "SELECT p.id, p.row, p.time, coalesce(a.n, 0) FROM predictions p LEFT JOIN attempts a ON a.row = p.row"
            " WHERE p.id IN (SELECT value FROM json_each(?))"
        )
        found = self.connection.execute(query, (json.dumps(list(attempts)),))
        return {id_: (row, time) for id_, row, time, attempt in found if attempt < attempts[id_]}

    def replace_predictions(
        self, rows: Sequence[tuple[int, str, str | None, float, int, float]], told: Sequence[float | bytes | None] = ()
    ) -> None:
        """Let rows be what later attempts said of them; their numbers, ids and labels stay."""
        classes = told or [None] * len(rows)
        self.connection.executemany(
            "UPDATE predictions SET key = ?, time = ?, version = ?, prediction = ?, told = ? WHERE row = ?",
            [(*row[2:], class_, row[0]) for row, class_ in zip(rows, classes, strict=True)],
        )
        self.counted["duplicates"] += len(rows)

    def note_attempts(self, attempts: Iterable[tuple[int, int]]) -> None:
        """Keep which attempt (row, number) rows are of; those of a first one are not noted."""
        self.connection.executemany("INSERT OR REPLACE INTO attempts VALUES (?, ?)", attempts)

    def meet(self, predictions: Iterable[tuple[int, str, str | None]]) -> None:
        """Give labels that came first to the predictions (row, id, key) that they were waiting for."""
        if not self.connection.execute("SELECT 1 FROM truths LIMIT 1").fetchone():
            return
        refs: dict[str, list[int]] = {}
        for row, id_, key in predictions:
            refs.setdefault(f"id:{id_}", []).append(row)
            if key is not None:
                refs.setdefault(f"key:{key}", []).append(row)
        for ref, value, met in self._truths(list(refs)):
            gave = [self._label(row, value) for row in refs[ref]]
            if any(gave) and not met:
                self.connection.execute("UPDATE truths SET met = 1 WHERE ref = ?", (ref,))
                self.counted["unknown"] -= 1

    def _truths(self, refs: list[str]) -> list[tuple[str, float | bytes, int]]:
        """Give the labels of some refs; those by id before those by key."""
        found: list[tuple[str, float | bytes, int]] = []
        for start in range(0, len(refs), AT_ONCE):
            part = refs[start : start + AT_ONCE]
            marks = ",".join("?" * len(part))
            found += self.connection.execute(f"SELECT ref, value, met FROM truths WHERE ref IN ({marks})", part)  # noqa: S608
        return sorted(found)

    def add_label(self, ref: str, query: str, name: str | None, value: float | bytes, at: float | None = None) -> None:
        """Keep a label and give it to the predictions that `query` finds by `name`.

        The first label counts; a later one that differs is kept beside it, for those who want the truth as it is known
        now.
        """
        rows = self.connection.execute(query, (name,)).fetchall()
        done = self.connection.execute("INSERT OR IGNORE INTO truths VALUES (?, ?, ?, ?)", (ref, value, bool(rows), at))
        if not done.rowcount:
            self.counted["repeated"] += 1
            self._correct([row for (row,) in rows], value)
            return
        given = [self._label(row, value) for (row,) in rows]
        if not given:
            self.counted["unknown"] += 1
        elif not any(given):
            self.counted["repeated"] += 1
            self._correct([row for (row,) in rows], value)

    def _correct(self, rows: list[int], value: float | bytes) -> None:
        """Keep a later label of rows where it is not what is known of them by now."""
        query = (
            "SELECT coalesce((SELECT value FROM corrections WHERE row = ?1 ORDER BY seq DESC LIMIT 1),"
            " (SELECT value FROM labels WHERE row = ?1))"
        )
        differing = [row for row in rows if self.connection.execute(query, (row,)).fetchone()[0] != value]
        if not differing:
            return
        first = self.next_number("correction", "SELECT max(seq) FROM corrections")
        told = [(first + at, row, value) for at, row in enumerate(differing)]
        self.connection.executemany("INSERT INTO corrections VALUES (?, ?, ?)", told)
        self.counted["corrected"] += len(differing)

    def _label(self, row: int, value: float | bytes) -> bool:
        done = self.connection.execute("UPDATE predictions SET labelled = 1 WHERE row = ? AND labelled = 0", (row,))
        if done.rowcount:
            if not self.given:
                self._seq = self.next_number("seq", "SELECT max(seq) FROM labels")
            self.connection.execute("INSERT INTO labels VALUES (?, ?, ?)", (self._seq + len(self.given), row, value))
            self.given.append((row, value))
            self.counted["labelled"] += 1
        return bool(done.rowcount)

    def move(self, path: str, offset: int) -> None:
        """Note up to where a file is sealed."""
        self.connection.execute("INSERT OR REPLACE INTO files VALUES (?, ?)", (path, offset))

    def count(self) -> None:
        """Add what was counted to the totals."""
        for name, n in self.counted.items():
            self.connection.execute(
                "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET n = n + excluded.n", (name, n)
            )
        self.counted.clear()
