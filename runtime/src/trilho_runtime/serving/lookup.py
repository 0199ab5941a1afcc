"""The past of the rows that are asked, looked up: what the store has and the package has not, put after what it has.

A store that is not there, or cannot be read, never fails a request: the package's own past answers then, which is
counted and said.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.history import History, Key, keys_of
from trilho_runtime.model.predictor import Predictor
from trilho_runtime.schema.signature import RowError
from trilho_runtime.serving.online import PastRows, SqlitePast, StoreError
from trilho_runtime.web.http import note

SAID_SECONDS = 60.0
AGAIN_SECONDS = 1.0  # after which a store that could not be opened is tried again

Columns = Mapping[str, NDArray[Any]]


@dataclass
class Lookup:
    """Completes a model's past from a store; any thread may ask.

    `open_store` gives the store; it is asked again when what it gave has failed.
    """

    open_store: Callable[[], PastRows]
    looked: int = 0
    failed: int = 0
    why: str = ""
    _store: PastRows | None = None
    _next: float = 0.0
    _said: float = -SAID_SECONDS
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def in_file(cls, path: Path) -> Lookup:
        """Look up past rows in a SQLite file."""
        return cls(lambda: SqlitePast(path))

    def complete(self, predictor: Predictor, asked: Columns) -> Predictor:
        """Give the predictor with the rows that the store has since its package was made, for the rows asked."""
        history = predictor.history
        if history is None or not len(asked[history.time]):
            return predictor
        spans = spans_of(history, asked)
        try:
            found = self._look(history, spans)
            completed = predictor.renewed(found, asked) if found else predictor
        except (sqlite3.Error, StoreError, OSError, ValueError, TypeError, KeyError, RowError) as error:
            self._fail(len(spans), error)
            return predictor
        with self._lock:
            self.looked += len(spans)
            self.why = ""
        return completed

    def to_json(self) -> dict[str, Any]:
        """Say how the store stands, for `GET /`; both numbers are of entities."""
        told = {"state": "failed" if self.why else "read", "asked": {"looked_up": self.looked, "failed": self.failed}}
        return {**told, "why": self.why} if self.why else told

    def _look(self, history: History, spans: Mapping[Key, tuple[Any, Any]]) -> list[dict[str, Any]]:
        store = self._opened()
        found: list[dict[str, Any]] = []
        for key, (first, last) in spans.items():
            newest = history.newest(key)
            after = "" if newest is None else spelled(newest)
            found += store.past(key, spelled(first), history.rows, after=after, until=spelled(last))
        return found

    def _opened(self) -> PastRows:
        with self._lock:
            if self._store is None:
                if time.monotonic() < self._next:
                    raise StoreError(self.why)
                self._next = time.monotonic() + AGAIN_SECONDS
                self._store = self.open_store()
            return self._store

    def _fail(self, entities: int, error: Exception) -> None:
        with self._lock:
            if isinstance(error, (sqlite3.Error, StoreError, OSError)):  # else it is one row that is wrong
                self._store = None
            self.failed += entities
            self.why = str(error) if isinstance(error, StoreError) else f"{type(error).__name__}: {error}"
            if time.monotonic() - self._said >= SAID_SECONDS:
                self._said = time.monotonic()
                note(f"history: {self.why}; rows are answered with the past that the package has")


def spans_of(history: History, asked: Columns) -> dict[Key, tuple[Any, Any]]:
    """Give the earliest and the latest time that is asked of each entity.

    >>> days = np.array(["2024-01-03", "2024-01-01"], "datetime64[us]")
    >>> kept = History.fit({"day": days[:0]}, np.zeros(0), target="y", time="day", entity=[], rows=1)
    >>> [spelled(time) for time in spans_of(kept, {"day": days})[()]]
    ['2024-01-01T00:00:00', '2024-01-03T00:00:00']
    """
    moments = asked[history.time]
    found: dict[Key, tuple[Any, Any]] = {}
    for key, moment in zip(keys_of(asked, history.entity, len(moments)), moments, strict=True):
        if not np.isnat(moment):
            first, last = found.get(key, (moment, moment))
            found[key] = (min(first, moment), max(last, moment))
    return found


def spelled(moment: Any) -> str:
    """Give a time as the store has it.

    >>> spelled(np.datetime64("2024-01-02", "us"))
    '2024-01-02T00:00:00'
    """
    return str(moment.astype("datetime64[us]").item().isoformat())
