"""History as the watcher would have seen it: counts of each window, with and without what is planted, and losses."""

# ruff: noqa: S608

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trilho.core.ports import PredictionLog
from trilho.data.tables import name as quote
from trilho.errors import DataError, UsageError
from trilho.watch.comparison.counting import kind_of
from trilho.watch.comparison.source import Source
from trilho.watch.performance import losses
from trilho.watch.planting import Plant
from trilho_runtime.bins import as_numbers
from trilho_runtime.profile import PREDICTION, Profile, Reference

Array = NDArray[Any]
Floats = NDArray[np.float64]
Columns = Mapping[str, Array]
AT_ONCE = 500_000
LABEL = "_label"


@dataclass
class Replay:
    """What a history comes to in windows of one length, after a reference."""

    reference: Reference
    window: float
    plants: Sequence[Plant] = ()
    spreads: Mapping[str, float] = field(default_factory=dict)
    profiles: dict[int, Profile] = field(default_factory=dict)
    planted: dict[Plant, dict[int, Profile]] = field(default_factory=dict)
    times: list[Floats] = field(default_factory=list)
    losses: list[Floats] = field(default_factory=list)

    def add(self, columns: Columns, seconds: Floats) -> None:
        """Take in some rows, of whatever windows."""
        windows = np.floor(seconds / self.window).astype(np.int64)
        numbers, place = np.unique(windows, return_inverse=True)
        missing = np.full(len(seconds), None, object)
        for feature in self.reference.features:
            column = columns.get(feature.column, missing)
            self._count(self.profiles, feature, column, numbers, place)
            for plant in self.plants:
                if plant.column == feature.column:
                    changed = plant.into(column, seconds, self.spreads.get(plant.column, 1.0))
                    self._count(self.planted.setdefault(plant, {}), feature, changed, numbers, place)

    def add_losses(self, seconds: Floats, found: Floats) -> None:
        """Take in the losses of rows whose truth is known."""
        known = np.isfinite(found)
        self.times.append(seconds[known])
        self.losses.append(found[known])

    def _count(self, into: dict[int, Profile], feature: Any, column: Array, numbers: Any, place: Any) -> None:
        size = len(feature.labels)
        flat = np.bincount(place * size + feature.place(column), minlength=len(numbers) * size).reshape(-1, size)
        for number, counts in zip(numbers.tolist(), flat, strict=True):
            profile = into.setdefault(number, {})
            profile[feature.name] = profile.get(feature.name, 0) + counts

    @property
    def windows(self) -> list[int]:
        """Give the windows that have rows, in order."""
        return sorted(self.profiles)

    def with_plant(self, plant: Plant, window: int) -> Profile:
        """Give a window's counts with what is planted in it."""
        return {**self.profiles[window], **self.planted.get(plant, {}).get(window, {})}


class History(Protocol):
    """Rows with times, of which the earlier are the reference and the later are replayed."""

    @property
    def columns(self) -> Sequence[str]:
        """Give the columns that are watched."""

    def start(self) -> float:
        """Give the moment from which it is replayed."""

    def replay(self, window: float, plants: Sequence[Plant]) -> Replay:
        """Count it in windows of so many seconds."""

    def held_losses(self) -> Floats | None:
        """Give the losses before the replay, in order of time; None without predictions and labels."""

    @property
    def loss_bound(self) -> float | None:
        """Give the largest loss there can be, where there is one."""


@dataclass
class TableHistory:
    """A table's history. `since` divides it; by default that is half of its time."""

    source: Source
    time: str
    prediction: str | None = None
    label: str | None = None
    ignore: Collection[str] = ()
    since: float | None = None
    _binary: bool | None = None

    def __post_init__(self) -> None:
        for name in (self.time, self.prediction, self.label):
            if name is not None and name not in self.source.types:
                known = ", ".join(list(self.source.types)[:12])
                raise UsageError(f"the table has no column {name}; there are: {known}", hint="name one of them")
        first, last, rows = self.source.ask(
            f"SELECT MIN({self._seconds}), MAX({self._seconds}), COUNT(*) FROM {self.source.table} WHERE {self._known}"
        )[0]
        if not rows:
            raise DataError(f"no row has a time in {self.time}", hint="--time names the column of times")
        self.first, self.last, self.rows = float(first), float(last), int(rows)
        if self.since is None:
            self.since = (self.first + self.last) / 2
        if not self.first < self.since <= self.last:
            ends = " to ".join(datetime.fromtimestamp(x, UTC).strftime("%Y-%m-%d") for x in (self.first, self.last))
            raise UsageError(f"the replay cannot begin there: the table covers {ends}", hint="--since DATE within that")

    @property
    def columns(self) -> Sequence[str]:
        """Give the columns that are watched."""
        hidden = {self.time, self.prediction, self.label, *self.ignore}
        return [name for name, type_ in self.source.types.items() if name not in hidden and kind_of(type_)]

    def start(self) -> float:
        """Give the moment from which it is replayed."""
        assert self.since is not None
        return self.since

    def replay(self, window: float, plants: Sequence[Plant]) -> Replay:
        """Fit the reference on what was before, and count what came after."""
        before, seconds = self._read(self.first, self.start())
        before.pop(LABEL, None)
        reference = Reference.fit(before, seconds, window)
        spreads = {plant.column: _spread(before[plant.column]) for plant in plants if plant.column in before}
        made = Replay(reference, window, plants, spreads)
        for start, end in self._chunks():
            columns, seconds = self._read(start, end)
            made.add(columns, seconds)
            if self.prediction and self.label:
                made.add_losses(seconds, self._losses(columns))
        return made

    def held_losses(self) -> Floats | None:
        """Give the losses before the replay, in order of time."""
        if not (self.prediction and self.label):
            return None
        columns, seconds = self._read(self.first, self.start())
        found = self._losses(columns)[np.argsort(seconds, kind="stable")]
        return found[np.isfinite(found)]

    @property
    def loss_bound(self) -> float | None:
        """Give 1 for probabilities, and nothing for other numbers."""
        return 1.0 if self._is_binary() else None

    def _losses(self, columns: Columns) -> Floats:
        assert self.label is not None
        prediction, value = (as_numbers(columns[x])[0] for x in (PREDICTION, LABEL))
        return losses("brier" if self._is_binary() else "mae", prediction, value)

    def _is_binary(self) -> bool:
        if self._binary is None:
            label, prediction = (f"TRY_CAST({quote(x or '')} AS DOUBLE)" for x in (self.label, self.prediction))
            asked = f"BOOL_AND({label} IN (0, 1)), MIN({prediction}) >= 0 AND MAX({prediction}) <= 1"
            self._binary = all(self.source.ask(f"SELECT {asked} FROM {self.source.table}")[0])
        return self._binary

    @property
    def _seconds(self) -> str:
        kind = kind_of(self.source.types[self.time])
        if kind == "number":
            return f"CAST({quote(self.time)} AS DOUBLE)"
        return f"EPOCH(TRY_CAST({quote(self.time)} AS TIMESTAMP))"

    @property
    def _known(self) -> str:
        return f"{self._seconds} IS NOT NULL AND ISFINITE({self._seconds})"

    def _chunks(self) -> Iterator[tuple[float, float]]:
        """Give stretches of the replay with about AT_ONCE rows each."""
        count = max(1, -(-self.rows // AT_ONCE))
        ends = np.linspace(self.start(), self.last, count + 1)
        for i in range(count):
            yield float(ends[i]), float(ends[i + 1]) if i < count - 1 else float("inf")

    def _read(self, start: float, end: float) -> tuple[dict[str, Array], Floats]:
        listed = [f"{_fetched(name, self.source.types[name])} AS {quote(name)}" for name in self.columns]
        listed += [f"TRY_CAST({quote(self.prediction)} AS DOUBLE) AS {quote(PREDICTION)}"] if self.prediction else []
        listed += [f"TRY_CAST({quote(self.label)} AS DOUBLE) AS {quote(LABEL)}"] if self.label else []
        until = f" AND {self._seconds} < {end!r}" if np.isfinite(end) else ""
        found = self.source.arrays(
            f"SELECT {', '.join([*listed, f'{self._seconds} AS _seconds'])} FROM {self.source.table} "
            f"WHERE {self._known} AND {self._seconds} >= {start!r}{until}"
        )
        seconds = np.asarray(found.pop("_seconds"), np.float64)
        return found, seconds


def _fetched(name: str, type_: str) -> str:
    kind = kind_of(type_)
    if kind == "number":
        return f"CAST({quote(name)} AS DOUBLE)"
    if kind == "timestamp":
        return f"CAST({quote(name)} AS TIMESTAMP)"
    return quote(name) if kind == "boolean" else f"CAST({quote(name)} AS VARCHAR)"


def _spread(column: Array) -> float:
    values = as_numbers(column)[0]
    finite = values[np.isfinite(values)]
    return float(finite.std()) if len(finite) else 1.0


@dataclass
class LogHistory:
    """What a project has served, against the reference that its champion was released with."""

    log: PredictionLog
    reference: Reference
    metric: str  # of the loss: "brier" or "mae"
    held: Floats | None = None  # losses of held-out rows
    since: float | None = None

    @property
    def columns(self) -> Sequence[str]:
        """Give the columns that are watched."""
        return list(dict.fromkeys(feature.column for feature in self.reference.features))

    def start(self) -> float:
        """Give the moment from which it is replayed: that of the first row served, or a later one."""
        extent = self.log.extent()
        if extent is None:
            raise DataError("nothing was served yet", hint="give a table: trilho watch backtest TABLE --time COLUMN")
        return max(extent[0].timestamp(), self.since if self.since is not None else -np.inf)

    def replay(self, window: float, plants: Sequence[Plant]) -> Replay:
        """Count what was served."""
        extent = self.log.extent()
        assert extent is not None
        spreads = {plant.column: self._spread(plant.column) for plant in plants}
        begin: Callable[[], _Rows] = lambda: _Rows(Replay(self.reference, window, plants, spreads), self.metric)  # noqa: E731
        start = datetime.fromtimestamp(self.start(), UTC)
        after = datetime.fromtimestamp(extent[1].timestamp() + 1, UTC)
        return self.log.gather(start, after, begin, fields=self.columns).replay

    def held_losses(self) -> Floats | None:
        """Give the losses of the rows that were held out at training."""
        return self.held

    @property
    def loss_bound(self) -> float | None:
        """Give 1 for probabilities, and nothing for other numbers."""
        return 1.0 if self.metric == "brier" else None

    def _spread(self, column: str) -> float:
        """Give a column's standard deviation as its bins show it: between the 16th and the 84th percentile."""
        feature = next((x for x in self.reference.features if x.column == column and len(x.edges)), None)
        if feature is None:
            return 1.0
        below = np.cumsum(feature.counts[: len(feature.edges)]) / max(int(feature.counts[: feature.ordered].sum()), 1)
        low, high = np.interp([0.1587, 0.8413], below, feature.edges)
        return float(high - low) / 2 or 1.0


@dataclass
class _Rows:
    """What the log shows its rows to."""

    replay: Replay
    metric: str

    def add(self, rows: Columns) -> None:
        """Take in some rows."""
        seconds = np.asarray(rows["_time"], np.float64)
        self.replay.add({**rows, PREDICTION: np.asarray(rows["_prediction"])}, seconds)
        if "_value" in rows:
            prediction, value = (as_numbers(np.asarray(rows[x]))[0] for x in ("_prediction", "_value"))
            self.replay.add_losses(seconds, losses(self.metric, prediction, value))


def without(history: LogHistory, ignore: Collection[str]) -> LogHistory:
    """Give the history without some columns."""
    return replace(history, reference=history.reference.without(ignore))
