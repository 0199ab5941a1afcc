"""The online store: past rows that came to be known after a model was packaged, looked up by entity.

A package with a history carries the past up to its training. What was served since, and whose truth has arrived, is
kept here by the platform, so that a row asked today finds yesterday's. The server reads, one query for each entity
asked; it never writes.

A store is anything with `past`: on this machine SQLite; an entity's rows by time are also what a row key of
ENTITY#TIME gives in Bigtable, and what a feature view by entity gives in Feast.
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
  PRIMARY KEY (entity, time, id)) WITHOUT ROWID
"""

Row = Mapping[str, Any]


class StoreError(Exception):
    """An online store is not there, or is of another model."""


class PastRows(Protocol):
    """Gives the newest past rows of an entity."""

    def past(self, entity: Sequence[Any], before: str, rows: int) -> list[dict[str, Any]]:
        """Give an entity's newest rows before a time (ISO 8601, UTC), oldest first, each with its target."""


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
        if writable:
            path.parent.mkdir(parents=True, exist_ok=True)
            with self._connection() as connection:
                connection.executescript(f"PRAGMA journal_mode=WAL; {LAYOUT}")
                connection.execute("INSERT OR IGNORE INTO about VALUES ('schema', ?)", (str(SCHEMA),))
        self._check()

    def past(self, entity: Sequence[Any], before: str, rows: int) -> list[dict[str, Any]]:
        """Give an entity's newest rows before a time (ISO 8601, UTC), oldest first, each with its target."""
        found = self._connection().execute(
            "SELECT row FROM past WHERE entity = ? AND time < ? ORDER BY time DESC, id DESC LIMIT ?",
            (entity_text(entity), before, rows),
        )
        return [orjson.loads(text) for (text,) in reversed(found.fetchall())]

    def put(self, rows: Iterable[tuple[Sequence[Any], str, str, Row]]) -> int:
        """Keep rows, each with its entity, time and id; one that is known is replaced, as a corrected truth is."""
        told = [(entity_text(entity), time, id_, orjson.dumps(row).decode()) for entity, time, id_, row in rows]
        with self._connection() as connection:
            connection.executemany("INSERT OR REPLACE INTO past VALUES (?, ?, ?, ?)", told)
        return len(told)

    def trim(self, rows: int) -> int:
        """Forget all but the newest rows of each entity; give how many went."""
        with self._connection() as connection:
            done = connection.execute(
                "DELETE FROM past WHERE (entity, time, id) IN (SELECT entity, time, id FROM (SELECT entity, time, id,"
                " row_number() OVER (PARTITION BY entity ORDER BY time DESC, id DESC) AS place FROM past)"
                " WHERE place > ?)",
                (rows,),
            )
        return done.rowcount

    def until(self) -> str | None:
        """Give the time of the newest row."""
        found = self._connection().execute("SELECT max(time) FROM past").fetchone()
        return None if found is None or found[0] is None else str(found[0])

    def mark(self, name: str, value: str | None = None) -> str | None:
        """Keep a note of the writer's beside the rows, such as up to where it has read; or give it."""
        with self._connection() as connection:
            if value is not None:
                connection.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (name, value))
            found = connection.execute("SELECT value FROM about WHERE name = ?", (name,)).fetchone()
        return None if found is None else str(found[0])

    def _check(self) -> None:
        try:
            found = self.mark("schema") if self._writable else self._schema()
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: {error}") from None
        if found != str(SCHEMA):
            raise StoreError(f"{self.path}: schema {found!r}; this trilho-runtime reads {SCHEMA}")

    def _schema(self) -> str | None:
        found = self._connection().execute("SELECT value FROM about WHERE name = 'schema'").fetchone()
        return None if found is None else str(found[0])

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            memory = str(self.path) == ":memory:"
            place = str(self.path) if self._writable or memory else f"file:{self.path}?mode=ro"
            connection = sqlite3.connect(place, timeout=5.0, uri=not self._writable)
            self._local.connection = connection
        return connection


def entity_text(entity: Sequence[Any]) -> str:
    """Give an entity's key as one text; whole floats count as integers, as JSON writes either.

    >>> entity_text(["a", 1.0]), entity_text([])
    ('["a",1]', '[]')
    """
    plain = [int(v) if isinstance(v, float) and v.is_integer() else v for v in entity]
    return orjson.dumps(plain).decode()
