"""Readings and the detectors' memory in a SQLite file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from trilho.core.database import Database
from trilho.core.readings import Reading, decode_reading, encode_reading

SCHEMA = """
CREATE TABLE IF NOT EXISTS readings (
  model TEXT NOT NULL, window_start TEXT NOT NULL, version INTEGER NOT NULL, body TEXT NOT NULL,
  PRIMARY KEY (model, window_start, version)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS memory (model TEXT PRIMARY KEY, body BLOB NOT NULL)
"""


class LocalWatchStore:
    """The WatchStore port on a SQLite file; other tables may live in the same file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database = Database(path, SCHEMA, what="the watcher's store")

    def save(self, model: str, readings: Sequence[Reading], memory: bytes) -> None:
        """Keep readings (replacing those of the same window and version) and the memory in one transaction."""
        rows = [(model, x.window_start, x.version, json.dumps(encode_reading(x))) for x in readings]
        with self._database.write() as connection:
            connection.executemany("INSERT OR REPLACE INTO readings VALUES (?, ?, ?, ?)", rows)
            connection.execute("INSERT OR REPLACE INTO memory VALUES (?, ?)", (model, memory))

    def memory(self, model: str) -> bytes | None:
        """Give the memory that was last saved."""
        found = self._database.read("SELECT body FROM memory WHERE model = ?", (model,))
        return bytes(found[0][0]) if found else None

    def readings(self, model: str, since: str | None = None) -> list[Reading]:
        """Give a model's readings, oldest window first; with `since`, those of windows that start then or later."""
        rows = self._database.read(
            "SELECT body FROM readings WHERE model = ? AND window_start >= ? ORDER BY window_start, version",
            (model, since or ""),
        )
        return [decode_reading(json.loads(body)) for (body,) in rows]

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        self._database.close()
