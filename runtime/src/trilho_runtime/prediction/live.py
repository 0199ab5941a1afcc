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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from trilho_runtime.bins import count_numbers
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
Push = Callable[[Sequence[tuple[str, bytes]]], None]  # takes files elsewhere; raises where it cannot


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

    `time` is the field that holds a row's own time. With neither folder nor `pushes` the counts are given by `to_json`
    alone.
    """

    def __init__(
        self,
        reference: Reference,
        *,
        model: str,
        version: int,
        time: str | None = None,
        folder: Path | None = None,
        pushes: Sequence[Push] = (),
    ) -> None:
        self._features = [_Placing(feature) for feature in reference.features]
        self._model, self._version, self._time = model, version, time
        self._folder, self._pushes = folder, pushes
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
        """Write and push the hours that have changed; what cannot be is said once a minute, and done the next time."""
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
        """Write files, each whole or not at all, and push them."""
        for name, text in files if self._folder is not None else ():
            assert self._folder is not None
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                part = self._folder / f".{name}.part"
                part.write_bytes(text)
                part.replace(self._folder / name)
            except OSError as error:
                self._again(name)
                self._say(f"{self._folder}: {error.strerror or error}: the live profile is not published")
        for push in self._pushes if files else ():
            try:
                push(files)
            except Exception as error:  # noqa: BLE001  whatever it was, predictions go on
                for name, _ in files:
                    self._again(name)
                self._say(f"{type(error).__name__}: {error}: the live profile is not pushed")

    def _fold(self) -> None:
        """Count what is pending; what cannot be counted is left out, since its rows are answered and logged."""
        pending, self._pending = self._pending, Pending()
        if not pending.rows:
            return
        try:
            self._count(pending)
        except Exception as error:  # noqa: BLE001  it is no fault of those who ask
            self._shed(pending, error)

    def _shed(self, pending: Pending, error: Exception) -> None:
        """Leave out what cannot be counted, and count the rest: each request's rows by themselves."""
        if len(pending.columns) > 1:
            for columns, scores in zip(pending.columns, pending.scores, strict=True):
                self._pending = Pending([columns], [scores], len(scores))
                self._fold()
            return
        self.lost += pending.rows
        why = f"{type(error).__name__}: {error}"
        self._say(f"{why}: rows are answered and not in the live profile, {self.lost} until now")

    def _count(self, pending: Pending) -> None:
        """Count rows, all of their features or none."""
        hours, place = self._placed(pending)
        counted = []
        for placing in self._features:
            values = _column(pending, placing.column)
            if values is None:
                values = np.full(pending.rows, None, object)
            counted.append(placing.count(values) if place is None else placing.count_by(values, place, len(hours)))
        for placing, counts in zip(self._features, counted, strict=True):
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
        self.name, self.column, self.size = feature.name, feature.column, len(feature.labels)
        self._feature = feature
        self._unseen = self.size - 2
        self._bins: dict[str | None, int] = dict(feature.values.items())
        self._bins[None] = self.size - 1

    def count(self, column: NDArray[Any]) -> NDArray[np.int64]:
        """Count values by their bins, as one row of counts."""
        if len(self._feature.edges):
            return count_numbers(*self._feature.numbers(column), self._feature.edges)[None]
        values = Counter(column.tolist()) if column.dtype == object and not self._feature.part else {}
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
    return replace(found, features=(*found.features, *held.features))
