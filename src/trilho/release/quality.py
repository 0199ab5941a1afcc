"""The losses of a rollout's versions on labelled rows, counted in bins as labels come.

Only rows count that were answered since the rollout's present part began: both versions met the same days then. What
was counted can be counted again from the log, so that nothing but the first row's number is kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trilho.core.classes import TOLD, Classes
from trilho.core.files import write_whole
from trilho.core.ports import Columns, Gathered, Labelled
from trilho.core.projection import ModelState, Rollout
from trilho.core.readings import ShadowStats, VersionStats
from trilho.release.betting import BINS

Floats = NDArray[np.float64]
EVER = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
ERRORS_OF_SCALE = {"mae": 4.0, "rmse": 3.0}  # so many of the champion's own errors are as wrong as can be


def scale_of(state: ModelState, rollout: Rollout, classify: bool) -> float | None:
    """Give the error that counts as a loss of 1: for a probability 1, else some times the champion's usual one.

    >>> scale_of(ModelState("m"), Rollout("o1", 2, 1, [100], "t", "ana", ""), True)
    1.0
    """
    champion = state.versions.get(rollout.champion) if rollout.champion is not None else None
    if classify:
        return 1.0
    known = champion.metrics if champion is not None else {}
    return next((times * known[name] for name, times in ERRORS_OF_SCALE.items() if known.get(name, 0) > 0), None)


def losses(prediction: Floats, value: Floats, scale: float, classify: bool) -> Floats:
    """Give losses from 0 to 1: the squared error of a probability, the share of the scale of any other error.

    >>> losses(np.array([3.0, 9.0]), np.array([2.0, 2.0]), 4.0, False).tolist()
    [0.25, 1.0]
    """
    error = np.minimum(np.abs(prediction - value) / scale, 1.0)
    return np.asarray(error**2 if classify else error, np.float64)


def counted(values: Floats, low: float = 0.0) -> list[int]:
    """Count losses from `low` to 1 in bins of equal width.

    >>> sum(counted(np.array([0.0, 1.0, 0.5]))), counted(np.array([1.0]))[-1], len(counted(np.array([0.0]), -1.0))
    (3, 1, 100)
    """
    bins = round(BINS * (1 - low))
    places = np.clip(((values - low) * BINS).astype(np.int64), 0, bins - 1)
    return [int(n) for n in np.bincount(places, minlength=bins)]


class Log(Protocol):
    """What is needed of the prediction log."""

    def newest(self) -> int:
        """Give the number of the row that arrived last; 0 without any."""

    def labelled(self, after: int) -> Labelled:
        """Give the predictions that were labelled after a cursor (0 at first)."""

    def shadow_rows(self, start: datetime, end: datetime) -> Columns:
        """Give what versions answered unseen: `_version`, `_prediction`, `_champion`, `_champion_version`, `_value`,
        and the classes that both told."""

    def gather(
        self,
        start: datetime,
        end: datetime,
        begin: Callable[[], Gathered],
        *,
        after: int = 0,
        fields: Collection[str] | None = None,
    ) -> Gathered:
        """Show the rows that arrived after a row to what adds them up."""


class Quality:
    """Counts one model's losses; `update` is called again and again, `of` gives what was counted."""

    def __init__(
        self,
        log: Log,
        memory: Path,
        classify: bool,
        is_measured: Callable[[int], bool] = lambda _: True,
        classes: Callable[[int], Classes | None] = lambda _: None,
    ) -> None:
        """`classes` gives those of a version that names the class it predicts."""
        self._log, self._memory, self._classify, self._is_measured = log, memory, classify, is_measured
        self._classes = classes
        self._mark, self._first, self._cursor = "", 0, 0
        self._versions: dict[int, list[int]] = {}
        self._pairs: list[int] = []

    def update(self, state: ModelState) -> None:
        """Count the labels that came since the last look, of the rollout under way."""
        rollout = state.rollout
        scale = scale_of(state, rollout, self._classify) if rollout is not None else None
        if rollout is None or rollout.champion is None or scale is None:
            return
        if not (self._is_measured(rollout.version) and self._is_measured(rollout.champion)):
            return
        self._begin(f"{rollout.id} {rollout.share} {rollout.share_since}")
        found = self._log.labelled(self._cursor)
        named = {number: known for number in (rollout.version, rollout.champion) if (known := self._classes(number))}
        if rollout.in_shadow and found.cursor != self._cursor:
            self._pairs = self._compared(rollout.version, rollout.champion, scale, named)
        if len(named) == 2:
            self._count_classes(named, anew=found.cursor != self._cursor)
            self._cursor = found.cursor
            return
        self._cursor = found.cursor
        if found.row is None:
            return  # a log that cannot say which rows are new compares nothing
        new = found.row > self._first
        if found.value.dtype.kind == "O":
            return  # texts and numbers do not compare: the versions differ in what they predict
        loss = losses(found.prediction, found.value, scale, self._classify)
        for number in (rollout.version, rollout.champion):
            self._versions[number] = _plus(self._versions.get(number), counted(loss[new & (found.version == number)]))

    def _count_classes(self, named: Mapping[int, Classes], *, anew: bool) -> None:
        """Count the losses of versions that name classes, all of them again where labels have come."""
        if anew or not self._versions:
            begin = lambda: ClassLosses(named)  # noqa: E731
            self._versions = self._log.gather(*EVER, begin, after=self._first, fields=TOLD).versions

    def _compared(self, version: int, champion: int, scale: float, named: Mapping[int, Classes]) -> list[int]:
        """Count by how much more a version lost unseen than the champion did on the same rows."""
        rows = self._log.shadow_rows(*EVER)
        if len(named) == 2:
            return _compared_classes(rows, version, champion, named)
        value, theirs = (np.asarray(rows[name], np.float64) for name in ("_value", "_champion"))
        both = (np.asarray(rows["_version"]) == version) & (np.asarray(rows["_champion_version"]) == champion)
        known = both & np.isfinite(value) & np.isfinite(theirs)
        ours = np.asarray(rows["_prediction"], np.float64)[known]
        more = losses(ours, value[known], scale, self._classify)
        return counted(more - losses(theirs[known], value[known], scale, self._classify), -1.0)

    def add_to(self, stats: Mapping[int, VersionStats]) -> dict[int, VersionStats]:
        """Give counts of traffic together with what was counted here."""
        numbers = {*stats, *self._versions}
        return {n: replace(stats.get(n, VersionStats()), losses=self._versions.get(n, [])) for n in sorted(numbers)}

    def add_to_shadow(self, stats: ShadowStats) -> ShadowStats:
        """Give a shadow's counts together with what was counted here."""
        return replace(stats, losses=self._pairs)

    def _begin(self, mark: str) -> None:
        """Count anew where another part of the rollout has begun, or this process has."""
        if mark == self._mark:
            return
        self._mark, self._cursor, self._versions, self._pairs = mark, 0, {}, []
        known = _read(self._memory)
        if known.get("mark") == mark:
            self._first = int(known["first"])
            return
        self._first = self._log.newest()
        with suppress(OSError):  # then a restart counts from its own time on
            write_whole(self._memory, json.dumps({"schema": 1, "mark": mark, "first": self._first}))


class ClassLosses:
    """Counts the losses of versions that name classes, some rows at a time."""

    def __init__(self, named: Mapping[int, Classes]) -> None:
        self._named = named
        self.versions: dict[int, list[int]] = {number: counted(np.zeros(0)) for number in named}

    def add(self, rows: Columns) -> None:
        """Take in some rows; those without a label say nothing."""
        for number, classes in self._named.items():
            own = np.asarray(rows["_version"]) == number
            if own.any() and "_class" in rows:
                told = {name: np.asarray(rows[name])[own] for name in (*TOLD, "_value") if name in rows}
                lost = classes.losses(classes.shares(told["_class"], told.get("_probabilities")), told["_value"])
                self.versions[number] = _plus(self.versions[number], counted(lost[np.isfinite(lost)]))


def _compared_classes(rows: Columns, version: int, champion: int, named: Mapping[int, Classes]) -> list[int]:
    """Count by how much more a version of classes lost unseen than the champion on the same rows."""
    if "_class" not in rows or "_champion_class" not in rows:
        return counted(np.zeros(0), -1.0)
    both = (np.asarray(rows["_version"]) == version) & (np.asarray(rows["_champion_version"]) == champion)
    picked = {name: np.asarray(column)[both] for name, column in rows.items()}
    lost = [
        named[number].losses(named[number].shares(picked[f"{of}_class"], picked.get(f"{of}_probabilities")), value)
        for number, of, value in ((version, "", picked["_value"]), (champion, "_champion", picked["_value"]))
    ]
    more = lost[0] - lost[1]
    return counted(more[np.isfinite(more)], -1.0)


def _plus(one: list[int] | None, other: list[int]) -> list[int]:
    return [a + b for a, b in zip(one, other, strict=True)] if one else other


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
