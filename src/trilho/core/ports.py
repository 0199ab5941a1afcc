"""What a backend provides. A port is added together with its second real implementation, not before, but for those
that keep a stage from knowing a backend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trilho.core.journal import Head, Record
from trilho.core.readings import LabelStatus, Reading
from trilho.core.records import Payload

Columns = Mapping[str, NDArray[Any]]


class Journal(Protocol):
    """An append-only, hash-chained list of records; one appender at a time, any number of readers."""

    def append(self, *payloads: Payload, actor: str | None = None, expect: int | None = None) -> Sequence[Record]:
        """Add the payloads in one transaction, all or none, and give them back as records.

        With `expect` the append happens only if the head is still at that position; otherwise `Conflict` is raised
        and nothing is written: the way for two deciders to agree without a lock of their own.
        """

    def read_from(self, seq: int = 1) -> Iterator[Record]:
        """Give the records from a position on, in order."""

    def head(self) -> Head:
        """Give the newest record's position and hash."""


class Conflict(Exception):
    """Somebody appended between the reading and the deciding; read again and decide again."""


class ArtifactStore(Protocol):
    """Files and folders named by the digest of their content; immutable once put."""

    def put(self, source: Path) -> str:
        """Keep a copy of a file or folder and give its digest; atomic, and free when it is already there."""

    def path(self, digest: str) -> Path:
        """Give where an artifact lies. Raises DataError when it is not there."""

    def has(self, digest: str) -> bool:
        """Say whether an artifact is there."""

    def use(self, digest: str) -> bool:
        """Say whether an artifact is there, and keep what frees old artifacts away from it as if it were new."""


@dataclass(frozen=True)
class Labelled:
    """Predictions whose labels arrived after a cursor, in order of arrival."""

    cursor: int
    time: NDArray[np.float64]  # event time, seconds since 1970 UTC
    version: NDArray[np.int64]
    prediction: NDArray[np.float64]
    value: NDArray[np.float64]


class PredictionLog(Protocol):
    """One model's served rows and their labels."""

    def seal(self) -> int:
        """Move complete new lines of predictions and labels into the log; give how many were moved."""

    def extent(self) -> tuple[datetime, datetime] | None:
        """Give the event times of the oldest and the newest served row."""

    def rows(self, start: datetime, end: datetime) -> Columns:
        """Give the rows with start <= event time < end: raw fields, and `_id`, `_time`, `_version`, `_prediction`,
        `_value` (NaN where no label has come), `_row` (numbered as they arrived)."""

    def newest(self) -> int:
        """Give the number of the row that arrived last; 0 without any."""

    def late(self, after: int, before: datetime) -> Columns:
        """Give the rows that arrived after a row, of an event time before a moment: as `rows`, without `_value`."""

    def labelled(self, after: int) -> Labelled:
        """Give the predictions that were labelled after a cursor (0 at first)."""

    def labels(self) -> LabelStatus:
        """Say how far labels have arrived."""


class WatchStore(Protocol):
    """Readings and the detectors' memory; what a restarted watcher goes on from."""

    def save(self, model: str, readings: Sequence[Reading], memory: bytes) -> None:
        """Keep readings (replacing those of the same window) and the detectors' memory in one transaction."""

    def memory(self, model: str) -> bytes | None:
        """Give the memory that was last saved."""

    def readings(self, model: str, since: str | None = None, until: str | None = None) -> list[Reading]:
        """Give a model's readings, oldest first; of windows that start at `since` or later, and before `until`."""
