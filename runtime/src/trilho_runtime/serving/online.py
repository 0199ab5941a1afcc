"""The online store: past rows that came to be known after a model was packaged, looked up by entity.

A package with a history carries the past up to its training. What was served since, and whose truth has arrived, is
kept here by the platform, so that a row asked today finds yesterday's. The server reads, one lookup for each entity
asked; it never writes. On this machine the store is one SQLite file.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import orjson

SCHEMA = 1
LAYOUT = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS past (
  entity TEXT NOT NULL, time TEXT NOT NULL, id TEXT NOT NULL, row TEXT NOT NULL,
  PRIMARY KEY (entity, time, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS past_by_id ON past (id)
"""
READ_SECONDS, WRITE_SECONDS = 1.0, 30.0

Row = Mapping[str, Any]


class StoreError(Exception):
    """An online store is not there, or is of another kind."""


class PastRows(Protocol):
    """Gives the past rows of an entity; all that a store of any kind has to do for a server.

    In Bigtable, whose row key is ENTITY#TIME, it is two reads of a range of keys: backwards from ENTITY#before, as many
    as `rows`, and from ENTITY#before to ENTITY#until. In Feast an entity's rows are a feature view by entity, whose
    newest value is one list feature: it is one `get_online_features` for the entity, cut to the times here.
    """

    def past(self, entity: Sequence[Any], before: str, rows: int, *, after: str, until: str) -> list[dict[str, Any]]:
        """Give an entity's rows, oldest first, each with its target; times are ISO 8601, in UTC, without a zone.

        They are the newest `rows` ones before a time, and all from then on that are earlier than `until`: several rows
        of one entity are asked at once, and the earliest of them needs its whole past too. What is not later than
        `after` is left out: the package has it.
        """


class SqlitePast:
    """Past rows in one SQLite file; any number of readers beside one writer.

    >>> store = SqlitePast(Path(":memory:"), writable=True)
    >>> store.put([(["a"], "2024-01-02T00:00:00", "r1", {"shop": "a", "sales": 7.0})])
    1
    >>> store.past(["a"], "2024-01-03T00:00:00", 5)
    [{'shop': 'a', 'sales': 7.0}]
    """

    def __init__(self, path: Path, *, writable: bool = False) -> None:
        self.path = path
        self._writable = writable
        self._local = threading.local()
        try:
            if writable:
                self._make()
            self._check()
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{self.path}: {error}") from None

    def past(
        self, entity: Sequence[Any], before: str, rows: int, *, after: str = "", until: str = ""
    ) -> list[dict[str, Any]]:
        """Give the newest `rows` rows before a time, and those from then on until another, oldest first."""
        key, until = entity_text(entity), until or before
        found = self._connection().execute(
            "SELECT row FROM (SELECT * FROM (SELECT time, id, row FROM past WHERE entity = ? AND time < ? AND time > ?"
            " ORDER BY time DESC, id DESC LIMIT ?) UNION ALL"
            " SELECT time, id, row FROM past WHERE entity = ? AND time >= ? AND time < ? AND time > ?)"
            " ORDER BY time, id",
            (key, before, after, rows, key, before, until, after),
        )
        return [orjson.loads(text) for (text,) in found]

    def put(self, rows: Iterable[tuple[Sequence[Any], str, str, Row]]) -> int:
        """Keep rows, each with its entity, time and id; one that is known is replaced, as a corrected truth is."""
        told = [(entity_text(entity), time, id_, orjson.dumps(row).decode()) for entity, time, id_, row in rows]
        with self._connection() as connection:
            connection.executemany("DELETE FROM past WHERE id = ?", [(id_,) for _, _, id_, _ in told])
            connection.executemany("INSERT OR REPLACE INTO past VALUES (?, ?, ?, ?)", told)
        return len(told)

    def trim(self, rows: int, entities: Iterable[Sequence[Any]]) -> int:
        """Forget all but the newest rows of entities; give how many went."""
        keys = [(entity_text(entity),) * 2 + (rows,) for entity in entities]
        with self._connection() as connection:
            done = connection.executemany(
                "DELETE FROM past WHERE entity = ? AND (time, id) <="
                " (SELECT time, id FROM past WHERE entity = ? ORDER BY time DESC, id DESC LIMIT 1 OFFSET ?)",
                keys,
            )
        return done.rowcount

    def expire(self, before: str) -> int:
        """Forget the rows before a time; give how many went."""
        with self._connection() as connection:
            return connection.execute("DELETE FROM past WHERE time < ?", (before,)).rowcount

    def forget(self, field: str, value: Any) -> int:
        """Forget the rows whose field has a value, such as a person's number; give how many went."""
        listed = orjson.dumps(value).decode()
        self._connection().execute("PRAGMA secure_delete=ON")
        with self._connection() as connection:
            found = connection.execute("SELECT entity, time, id, row FROM past").fetchall()
            gone = [key for *key, row in found if orjson.dumps(orjson.loads(row).get(field)).decode() == listed]
            connection.executemany("DELETE FROM past WHERE entity = ? AND time = ? AND id = ?", gone)
        self._connection().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return len(gone)

    def until(self) -> str | None:
        """Give the time of the newest row."""
        return self.extent()[0]

    def extent(self) -> tuple[str | None, int, int]:
        """Give the time of the newest row, how many entities there are, and how many rows."""
        found = self._connection().execute("SELECT max(time), count(DISTINCT entity), count(*) FROM past").fetchone()
        return found[0], int(found[1]), int(found[2])

    def mark(self, name: str, value: str | None = None) -> str | None:
        """Keep a note of the writer's beside the rows, such as up to where it has read; or give it."""
        connection = self._connection()
        if value is not None:
            with connection:
                connection.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (name, value))
        found = connection.execute("SELECT value FROM about WHERE name = ?", (name,)).fetchone()
        return None if found is None else str(found[0])

    def close(self) -> None:
        """Close this thread's connection; the next use opens it again."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            del self._local.connection

    def _make(self) -> None:
        if str(self.path) != ":memory:":
            self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = self._connection()
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(LAYOUT)
        with connection:
            connection.execute("INSERT OR IGNORE INTO about VALUES ('schema', ?)", (str(SCHEMA),))

    def _check(self) -> None:
        found = self.mark("schema")
        if found != str(SCHEMA):
            raise StoreError(f"{self.path}: schema {found!r}; this trilho-runtime reads {SCHEMA}")

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if self._writable or str(self.path) == ":memory:":
            if connection is None:
                connection = self._local.connection = sqlite3.connect(self.path, timeout=WRITE_SECONDS)
            return connection
        file = self.path.stat()  # another one is in its place once it was restored or made anew
        if connection is None or self._local.file != (file.st_dev, file.st_ino):
            self.close()
            place = f"{self.path.resolve().as_uri()}?mode=ro"
            connection = sqlite3.connect(place, timeout=READ_SECONDS, uri=True)
            self._local.connection, self._local.file = connection, (file.st_dev, file.st_ino)
        return connection


def entity_text(entity: Sequence[Any]) -> str:
    """Give an entity's key as one text; whole floats count as integers, as JSON writes either.

    >>> entity_text(["a", 1.0]), entity_text([])
    ('["a",1]', '[]')
    """
    plain = [int(v) if isinstance(v, float) and v.is_integer() else v for v in entity]
    return orjson.dumps(plain).decode()
