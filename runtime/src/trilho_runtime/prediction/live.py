"""The live profile: what a server has been asked and has answered, as counts in its model's own bins.

Rows are counted many at a time, by the hour that they are of: of their own time where the model's rows have one, else
of the clock. A server rewrites a file for each hour every few seconds. Files of several servers and workers add up;
nothing in them is a row, and what they take up does not grow with the traffic.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from trilho_runtime.bins import as_numbers
from trilho_runtime.profile import PREDICTION, Feature, Reference
from trilho_runtime.web.http import note

SCHEMA = 1
PUBLISH_SECONDS = 5.0
HOURS = 48  # kept in memory; an hour that comes again after that begins another file
PARTS = 256  # requests, or
ROWS = 2048  # rows that are counted together
SAID_SECONDS = 60.0
HOUR = "datetime64[h]"
TEXTS = {str, type(None)}

Columns = Mapping[str, NDArray[Any]]
Counts = dict[str, NDArray[np.int64]]


@dataclass
class Hour:
    """What was counted of one hour, and the name of the file that says so."""

    name: str
    counts: Counts
    rows: int = 0
    changed: bool = False
    published: bool = False


@dataclass
class Pending:
    """Rows that wait to be counted, as they were asked."""

    columns: list[Columns] = field(default_factory=list)
    scores: list[NDArray[np.float64]] = field(default_factory=list)
    rows: int = 0


class LiveProfile:
    """Counts rows as they are served, and publishes the counts; any thread may add.

    `time` is the field that holds a row's own time. Without a folder the counts are given by `to_json` alone.
    """

    def __init__(
        self, reference: Reference, *, model: str, version: int, time: str | None = None, folder: Path | None = None
    ) -> None:
        self._features = [_Placing(feature) for feature in reference.features]
        self._model, self._version, self._time = model, version, time
        self._folder = folder
        self._pending = Pending()
        self._hours: OrderedDict[str, Hour] = OrderedDict()
        self._total = self._empty()
        self._started = 0
        self._said = -SAID_SECONDS
        self._lock = threading.Lock()
        self.rows = 0
        self.lost = 0

    def add(self, columns: Columns, scores: NDArray[np.float64]) -> None:
        """Take rows, and their predictions as the log has them; they are counted a little later."""
        with self._lock:
            pending = self._pending
            pending.columns.append(columns)
            pending.scores.append(scores)
            pending.rows += len(scores)
            if pending.rows >= ROWS or len(pending.columns) >= PARTS:
                self._fold()

    def to_json(self) -> dict[str, Any]:
        """Give everything counted since the start."""
        with self._lock:
            self._fold()
            return {**self._about(), "rows": self.rows, "counts": _listed(self._total)}

    def publish(self) -> None:
        """Write the hours that have changed; a folder that cannot be written is said once a minute."""
        self.write(self.news())

    def news(self) -> list[tuple[str, bytes]]:
        """Give the files that are to be written: what has changed since it was last asked."""
        with self._lock:
            self._fold()
            changed = [(hour, kept) for hour, kept in self._hours.items() if kept.changed]
            for _, kept in changed:
                kept.changed = False
            return [(kept.name, self._text(hour, kept)) for hour, kept in changed]

    def write(self, files: Sequence[tuple[str, bytes]]) -> None:
        """Write files, each whole or not at all."""
        if self._folder is None:
            return
        for name, text in files:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                part = self._folder / f".{name}.part"
                part.write_bytes(text)
                part.replace(self._folder / name)
            except OSError as error:
                self._again(name)
                self._say(f"{self._folder}: {error.strerror or error}: the live profile is not published")

    def _fold(self) -> None:
        """Count what is pending."""
        pending, self._pending = self._pending, Pending()
        if not pending.rows:
            return
        hours, place = self._placed(pending)
        for placing in self._features:
            values = _column(pending, placing.name)
            if values is None:
                values = np.full(pending.rows, None, object)
            counts = placing.count(values) if place is None else placing.count_by(values, place, len(hours))
            for hour, own in zip(hours, counts, strict=True):
                hour.counts[placing.name] += own
            self._total[placing.name] += counts.sum(0)
        rows = [pending.rows] if place is None else np.bincount(place, minlength=len(hours)).tolist()
        for hour, count in zip(hours, rows, strict=True):
            hour.rows += count
            hour.changed = True
        self.rows += pending.rows
        self._forget()

    def _placed(self, pending: Pending) -> tuple[list[Hour], NDArray[np.int64] | None]:
        """Give the hours that rows are of, and each row's place among them; None where it is one hour."""
        clock = np.datetime64(int(time.time()), "s").astype(HOUR)
        times = _column(pending, self._time) if self._time is not None else None
        if times is None or times.dtype.kind != "M":
            return [self._hour(clock)], None
        moments = times.astype(HOUR)
        moments = np.where(np.isnat(moments), clock, moments)
        found, place = np.unique(moments, return_inverse=True)
        hours = [self._hour(moment) for moment in found]
        return hours, (place if len(hours) > 1 else None)

    def _hour(self, moment: Any) -> Hour:
        text = str(moment)
        hour = self._hours.get(text)
        if hour is None:
            self._started = max(self._started + 1, time.time_ns() // 1_000_000)
            hour = self._hours[text] = Hour(f"{text}-{os.getpid()}-{self._started}.json", self._empty())
        self._hours.move_to_end(text)
        return hour

    def _forget(self) -> None:
        """Let the hours go that had no rows for the longest; what they hold is written first."""
        while len(self._hours) > HOURS:
            text, hour = self._hours.popitem(last=False)
            if hour.changed:
                self.write([(hour.name, self._text(text, hour))])

    def _again(self, name: str) -> None:
        for hour in self._hours.values():
            if hour.name == name:
                hour.changed = True

    def _text(self, text: str, hour: Hour) -> bytes:
        about = {**self._about(), "hour": text, "event_time": self._time is not None}
        return orjson.dumps({**about, "rows": hour.rows, "counts": _listed(hour.counts)})

    def _about(self) -> dict[str, Any]:
        return {"schema": SCHEMA, "model": self._model, "version": self._version}

    def _empty(self) -> Counts:
        return {placing.name: np.zeros(placing.size, np.int64) for placing in self._features}

    def _say(self, text: str) -> None:
        moment = time.monotonic()
        if moment - self._said >= SAID_SECONDS:
            self._said = moment
            note(text)


class _Placing:
    """A feature's bins, and a quick way to count values in them."""

    def __init__(self, feature: Feature) -> None:
        self.name, self.size = feature.name, len(feature.labels)
        self._feature = feature
        self._unseen = self.size - 2
        self._bins: dict[str | None, int] = dict(feature.values.items())
        self._bins[None] = self.size - 1

    def count(self, column: NDArray[Any]) -> NDArray[np.int64]:
        """Count values by their bins, as one row of counts."""
        if self._feature.kind == "number":
            return count_numbers(as_numbers(column), self._feature.edges)[None]
        values = Counter(column.tolist()) if column.dtype == object else {}
        if not values or not set(map(type, values)) <= TEXTS:
            return self._feature.count(column)[None]
        counts = np.zeros((1, self.size), np.int64)
        for value, times in values.items():
            counts[0, self._bins.get(value, self._unseen)] += times
        return counts

    def place(self, column: NDArray[Any]) -> NDArray[np.int64]:
        """Give the bin of each value."""
        return self._feature.place(column)

    def count_by(self, column: NDArray[Any], place: NDArray[np.int64], size: int) -> NDArray[np.int64]:
        """Count values by their bins for each of so many places that they are in."""
        flat = place * self.size + self.place(column)
        return np.bincount(flat, minlength=size * self.size).reshape(size, self.size)


def count_numbers(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Count numbers in the bins that `bins.place_numbers` puts them in: below, between the ends, above, null.

    Sorted once, they are counted by where the few ends fall among them.

    >>> count_numbers(np.array([0.0, 1.0, 1.5, 9.0, np.nan]), np.array([1.0, 2.0])).tolist()
    [1, 2, 1, 1]
    """
    ordered = np.sort(values)
    below = ordered.searchsorted(edges[:1])
    ends = ordered.searchsorted(edges[1:], side="right")
    known = ordered.searchsorted(np.nan)
    return np.diff(np.concatenate([below, ends, [known, len(ordered)]]), prepend=0)


def _column(pending: Pending, name: str) -> NDArray[Any] | None:
    if name == PREDICTION:
        return np.concatenate(pending.scores)
    if name not in pending.columns[0]:
        return None
    return np.concatenate([columns[name] for columns in pending.columns])


def _listed(counts: Counts) -> dict[str, list[int]]:
    return {name: values.tolist() for name, values in counts.items()}


def live_reference(reference: bytes, validation: Any, window_seconds: float | None = None) -> Reference:
    """Give what a package was trained on, with bins for its predictions, as the watcher has them.

    `validation` are the held-out rows' predictions and times, which the bins of predictions are taken from where the
    reference has none of its own.
    """
    found = Reference.from_json(reference)
    if validation is None or any(feature.name == PREDICTION for feature in found.features):
        return found
    predictions, moments = np.asarray(validation["prediction"], np.float64), np.asarray(validation["time"], np.float64)
    if predictions.ndim != 1 or not np.isfinite(predictions).any():
        return found
    timed = moments if np.isfinite(moments).all() else None
    held = Reference.fit({PREDICTION: predictions}, timed, window_seconds or found.window_seconds)
    return Reference((*found.features, *held.features), found.rows, found.window_seconds, found.windows, found.skipped)
