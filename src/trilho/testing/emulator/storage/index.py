"""What is known of each object and bucket beside its bytes: a SQLite file outside the buckets' folders."""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

TABLES = """
CREATE TABLE IF NOT EXISTS buckets (name TEXT PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS objects (
    bucket TEXT NOT NULL, name TEXT NOT NULL, generation INTEGER NOT NULL, live INTEGER NOT NULL,
    hidden INTEGER NOT NULL, stamp TEXT NOT NULL, document TEXT NOT NULL,
    PRIMARY KEY (bucket, name, generation)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS live ON objects (bucket, live, name);
"""
COLUMNS = "bucket, name, generation, live, hidden, stamp, document"


def now() -> str:
    """Give the time as Google's services write it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class Stored:
    """One generation of an object. `stamp` is the file's size, time and inode, by which a foreign write is seen."""

    bucket: str
    name: str
    generation: int
    live: bool = True
    hidden: bool = False
    stamp: str = ""
    document: dict[str, Any] = field(default_factory=dict)

    @property
    def metageneration(self) -> int:
        """The number of its metadata."""
        return int(self.document["metageneration"])

    @property
    def size(self) -> int:
        """Its bytes."""
        return int(self.document["size"])


class Index:
    """The records, in one SQLite file; the caller keeps the lock."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, check_same_thread=False)
        self._db.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; {TABLES}")
        newest = self._db.execute("SELECT max(generation) FROM objects").fetchone()[0]
        self._last = int(newest or 0)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def next_generation(self) -> int:
        """Give a number larger than any before: microseconds, as the real ones are."""
        self._last = max(self._last + 1, time.time_ns() // 1000)
        return self._last

    def bucket(self, name: str) -> dict[str, Any] | None:
        """Give a bucket's document."""
        row = self._db.execute("SELECT document FROM buckets WHERE name = ?", (name,)).fetchone()
        return json.loads(row[0]) if row else None

    def keep_bucket(self, document: dict[str, Any]) -> None:
        """Write a bucket's document."""
        with self._db:
            self._db.execute("REPLACE INTO buckets VALUES (?, ?)", (document["name"], json.dumps(document)))

    def drop_bucket(self, name: str) -> None:
        """Forget a bucket and its objects."""
        with self._db:
            self._db.execute("DELETE FROM objects WHERE bucket = ?", (name,))
            self._db.execute("DELETE FROM buckets WHERE name = ?", (name,))

    def live(self, bucket: str, name: str) -> Stored | None:
        """Give the present generation of an object."""
        found = self._select("bucket = ? AND name = ? AND live = 1", bucket, name)
        return found[0] if found else None

    def version(self, bucket: str, name: str, generation: int) -> Stored | None:
        """Give one generation of an object."""
        found = self._select("bucket = ? AND name = ? AND generation = ?", bucket, name, generation)
        return found[0] if found else None

    def below(self, bucket: str, prefix: str, *, versions: bool = False) -> list[Stored]:
        """Give the objects whose names begin with a prefix."""
        chosen = "bucket = ? AND substr(name, 1, ?) = ?" + ("" if versions else " AND live = 1")
        return self._select(chosen, bucket, len(prefix), prefix)

    def keep(self, *records: Stored, without: Stored | None = None) -> None:
        """Write records and forget one, all or none."""
        rows = [
            (at.bucket, at.name, at.generation, at.live, at.hidden, at.stamp, json.dumps(at.document)) for at in records
        ]
        with self._db:
            if without:
                self._forget(without)
            self._db.executemany(f"REPLACE INTO objects ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", rows)  # noqa: S608

    def drop(self, record: Stored) -> None:
        """Forget a record."""
        with self._db:
            self._forget(record)

    def _forget(self, record: Stored) -> None:
        key = (record.bucket, record.name, record.generation)
        self._db.execute("DELETE FROM objects WHERE bucket = ? AND name = ? AND generation = ?", key)

    def _select(self, chosen: str, *values: Any) -> list[Stored]:
        rows = self._db.execute(f"SELECT {COLUMNS} FROM objects WHERE {chosen}", values)  # noqa: S608  ours
        return [
            Stored(bucket, name, generation, bool(live), bool(hidden), stamp, json.loads(document))
            for bucket, name, generation, live, hidden, stamp, document in rows
        ]
