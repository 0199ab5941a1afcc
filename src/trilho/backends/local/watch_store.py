"""Readings and the detectors' memory in a SQLite file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from trilho.core.database import Database
from trilho.core.readings import Reading, decode_reading, encode_reading

SCHEMA = """
CREATE TABLE IF NOT EXISTS windows (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, model TEXT NOT NULL, window_start TEXT NOT NULL, version INTEGER NOT NULL,
  body TEXT NOT NULL, UNIQUE (model, window_start, version));
CREATE INDEX IF NOT EXISTS windows_by_change ON windows (model, seq);
CREATE TABLE IF NOT EXISTS memory (model TEXT PRIMARY KEY, body BLOB NOT NULL)
"""
# A file of version 1 kept its readings in a table without the numbers that say what has changed.
BROUGHT_UP = """
CREATE TABLE IF NOT EXISTS readings (model, window_start, version, body);
INSERT INTO windows (model, window_start, version, body) SELECT model, window_start, version, body FROM readings;
DROP TABLE readings
"""


class LocalWatchStore:
    """The WatchStore port on a SQLite file; other tables may live in the same file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database = Database(path, f"{SCHEMA};{BROUGHT_UP}", what="the watcher's store", version=2)

    def save(self, model: str, readings: Sequence[Reading], memory: bytes) -> None:
        """Keep readings (replacing those of the same window and version) and the memory in one transaction."""
        rows = [(model, x.window_start, x.version, json.dumps(encode_reading(x))) for x in readings]
        with self._database.write() as connection:
            fields = "(model, window_start, version, body)"
            connection.executemany(f"INSERT OR REPLACE INTO windows {fields} VALUES (?, ?, ?, ?)", rows)  # noqa: S608
            connection.execute("INSERT OR REPLACE INTO memory VALUES (?, ?)", (model, memory))

    def memory(self, model: str) -> bytes | None:
        """Give the memory that was last saved."""
        found = self._database.read("SELECT body FROM memory WHERE model = ?", (model,))
        return bytes(found[0][0]) if found else None

    def mark(self, model: str) -> int:
        """Give a number that grows whenever one of the model's readings is saved; 0 without any."""
        found = self._database.read("SELECT max(seq) FROM windows WHERE model = ?", (model,))
        return int(found[0][0] or 0) if found else 0

    def readings(
        self,
        model: str,
        since: str | None = None,
        until: str | None = None,
        last: int | None = None,
        after: int = 0,
    ) -> list[Reading]:
        """Give a model's readings, oldest window first.

        `since` and `until` leave those of windows that start then or later, and before; `after` those saved after a
        mark; `last` the newest so many of them.
        """
        rows = self._database.read(
            "SELECT body FROM windows WHERE model = ? AND window_start >= ? AND (? IS NULL OR window_start < ?)"
            " AND seq > ? ORDER BY window_start DESC, version DESC LIMIT ?",
            (model, since or "", until, until, after, -1 if last is None else last),
        )
        return [decode_reading(json.loads(body)) for (body,) in reversed(rows)]

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        self._database.close()
