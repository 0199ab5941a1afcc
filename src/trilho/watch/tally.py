"""What the rows of a window come to: counts of its features, and how good its predictions were, some rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trilho.core.classes import TOLD, Classes
from trilho.core.ports import Columns
from trilho.watch.held import Kept, Served, place
from trilho.watch.measuring import Measuring
from trilho.watch.performance import Measure
from trilho_runtime.profile import PREDICTION, Feature, Profile


class Tally:
    """The rows of one window, added up."""

    def __init__(
        self,
        features: Sequence[Feature],
        version: int,
        metric: str,
        classes: Classes | None = None,
        placed: Sequence[str] | None = None,
    ) -> None:
        """`classes` are those of a version that names the class it predicts; `placed` the features by which an even
        part of its rows is kept, so that the metric can be estimated before labels come."""
        self._placed, self._kept = placed, Kept()
        self._features, self._version, self._metric, self._classes = features, version, metric, classes
        self._measuring = Measuring(metric)
        self.profile: Profile = {one.name: np.zeros(len(one.labels), np.int64) for one in features}
        self.rows, self.own = 0, 0

    def add(self, rows: Columns) -> None:
        """Take in some rows; predictions and their truth are counted for the version's own."""
        own = np.asarray(rows["_version"]) == self._version
        self.rows, self.own = self.rows + len(own), self.own + int(own.sum())
        prediction = np.asarray(rows["_prediction"])[own]
        nulls = np.full(len(own), None, object)
        for one in self._features:
            column = prediction if one.name == PREDICTION else rows.get(one.column, nulls)
            self.profile[one.name] += one.count(column)
        if self._placed is not None and self._classes is None:
            self._keep(rows, own)
        if self._classes is None:
            self._measuring.add(prediction, numbers(np.asarray(rows["_value"])[own]))
        elif "_class" in rows:
            told = {name: np.asarray(rows[name])[own] for name in (*TOLD, "_value") if name in rows}
            self._measuring.add(*self._classes.measured(self._metric, told))

    def _keep(self, rows: Columns, own: NDArray[np.bool_]) -> None:
        assert self._placed is not None
        chosen = np.flatnonzero(own)
        columns = {name: column[chosen] for name, column in rows.items()}
        bins = place(self._features, self._placed, columns)
        self._kept.add(Served(np.asarray(columns["_prediction"], np.float64), bins))

    def served(self) -> Served:
        """Give the rows that were kept."""
        return self._kept.rows()

    def measure(self) -> Measure:
        """Give the metric of the version's own rows whose truth has come."""
        return self._measuring.result()


def numbers(values: NDArray[Any]) -> NDArray[np.float64]:
    """Give labels as numbers, NaN for those that are none: the labels of another version's classes."""
    if values.dtype.kind != "O":
        return np.asarray(values, np.float64)
    return np.array([x if type(x) in (int, float) else np.nan for x in values.tolist()], np.float64)


class Tallies:
    """Tallies by window, of the rows that had arrived when the look began: for the next one the others are late."""

    def __init__(self, window: float, arrived: int | None, begin: Callable[[], Tally]) -> None:
        self._window, self._arrived, self._begin = window, arrived, begin
        self.found: dict[int, Tally] = {}

    def add(self, rows: Columns) -> None:
        """Take in some rows, of whatever windows."""
        windows = np.floor_divide(np.asarray(rows["_time"], np.float64), self._window).astype(np.int64)
        there = np.ones(len(windows), bool) if self._arrived is None else np.asarray(rows["_row"]) <= self._arrived
        for number in np.unique(windows[there]).tolist():
            picked = there & (windows == number)
            part = rows if picked.all() else {name: column[picked] for name, column in rows.items()}
            self.found.setdefault(number, self._begin()).add(part)


class Spans:
    """Tallies of spans that may differ in length."""

    def __init__(self, tallies: Sequence[tuple[float, float, Tally]]) -> None:
        self.tallies = tallies

    def add(self, rows: Columns) -> None:
        """Take in some rows; a row counts in each span that its time lies in."""
        time = np.asarray(rows["_time"], np.float64)
        for start, end, tally in self.tallies:
            within = (time >= start) & (time < end)
            if within.any():
                tally.add({name: column[within] for name, column in rows.items()})
