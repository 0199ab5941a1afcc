"""Seasons: a reference for each hour, weekday, or hour of each weekday, learnt from the reference's own windows.

A season is worth having where windows lie nearer to their season's shares than to the whole's by more than what fewer
rows cost in certainty. Both are in the tolerance: each window is compared with its season as the *other* windows tell
it, shrunk to the whole as far as chance explains. A feature takes seasons only if that lowers its tolerance, and no
season is taken of which there are fewer than three cycles. All times are UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trilho.watch.frame import Frame, Layout
from trilho.watch.projection import Floats
from trilho.watch.reference import ENOUGH_WINDOWS, Allowance, allowed, cluster_of, margin, variation
from trilho_runtime.bins import WEEKDAYS
from trilho_runtime.profile import Feature, Reference

Ints = NDArray[np.int64]
HOUR, DAY = 3600.0, 86400.0
CYCLES = 3
KEPT = 4  # frames of seasons that are kept ready: hundreds of models share a machine
Bucket = Callable[[Ints], Ints]  # of the windows' starts, in seconds


def _hour(seconds: Ints) -> Ints:
    return seconds // int(HOUR) % 24


def _weekday(seconds: Ints) -> Ints:
    return (seconds // int(DAY) + 3) % 7


def _hour_of_week(seconds: Ints) -> Ints:
    return _weekday(seconds) * 24 + _hour(seconds)


CYCLE = {"hour": DAY, "weekday": 7 * DAY, "weekday and hour": 7 * DAY}
BUCKETS: dict[str, Bucket] = {"hour": _hour, "weekday": _weekday, "weekday and hour": _hour_of_week}


def name_of(by: str, bucket: int) -> str:
    """Name a season.

    >>> name_of("hour", 3), name_of("weekday", 0), name_of("weekday and hour", 30)
    ('03:00', 'Monday', 'Tuesday 06:00')
    """
    if by == "hour":
        return f"{bucket:02}:00"
    return WEEKDAYS[bucket] if by == "weekday" else f"{WEEKDAYS[bucket // 24]} {bucket % 24:02}:00"


def seconds_of(when: datetime | float) -> int:
    """Give a time as seconds since 1970; one without a zone is UTC.

    >>> seconds_of(datetime(1970, 1, 2)), seconds_of(60.5)
    (86400, 60)
    """
    if isinstance(when, datetime):
        offset = when.utcoffset()
        naive = when.replace(tzinfo=None) - offset if offset is not None else when
        return int((naive - datetime(1970, 1, 1)).total_seconds() // 1)
    return int(when // 1)


@dataclass
class Seasons:
    """What each season of the reference expects, where that was worth having; `by` is empty where it was not."""

    by: str
    layout: Layout
    buckets: dict[int, dict[int, Allowance]] = field(default_factory=dict)  # season -> feature -> allowance
    whole: Sequence[Allowance] = ()
    notes: tuple[str, ...] = ()
    _frames: dict[int, Frame] = field(default_factory=dict)

    @classmethod
    def none(cls, layout: Layout, *notes: str) -> Seasons:
        """Give the seasons of a reference that shows none."""
        return cls("", layout, notes=notes)

    @classmethod
    def learn(cls, reference: Reference, whole: Sequence[Allowance], layout: Layout) -> Seasons:
        """Choose the seasons that lower the features' tolerances most, if any do."""
        starts = np.array(reference.block_windows, np.float64) * reference.window_seconds
        if len(starts) < ENOUGH_WINDOWS or reference.window_seconds > DAY:
            return cls.none(layout)
        found, best = cls.none(layout), 0.0
        for by in ("weekday",) if reference.window_seconds > HOUR else tuple(BUCKETS):
            ids = BUCKETS[by](starts.astype(np.int64))
            enough = _covered(ids, starts, CYCLE[by])
            if len(enough) < 2:
                continue
            made = _season(reference, whole, ids, enough)
            gain = sum(
                whole[i].tolerance - float(np.mean([a.tolerance for a in of.values()])) for i, of in made.items()
            )
            if made and gain > best:
                turned = {b: {i: of[b] for i, of in made.items()} for b in enough}
                found, best = cls(by, layout, turned, whole, _uncovered(by, enough)), gain
        return found

    @property
    def taken(self) -> NDArray[np.bool_]:
        """Say which features have seasons."""
        has = next(iter(self.buckets.values()), {})
        return np.array([i in has for i in range(len(self.layout.names))], bool)

    def frame(self, whole: Frame, when: datetime | float | None) -> tuple[Frame, tuple[str, ...]]:
        """Give what a window at some time is compared with, and what is to be said of it."""
        if not self.by:
            return whole, ()
        if when is None:
            return whole, (f"no time given: compared with the whole reference, not with its {self.by}",)
        bucket = int(BUCKETS[self.by](np.array([seconds_of(when)], np.int64))[0])
        if bucket not in self.buckets:
            return whole, (f"the reference does not cover {name_of(self.by, bucket)}: compared with all of it",)
        if bucket not in self._frames:
            if len(self._frames) >= KEPT:
                self._frames.pop(next(iter(self._frames)))
            own = self.buckets[bucket]
            self._frames[bucket] = Frame.of(self.layout, [own.get(i, a) for i, a in enumerate(self.whole)])
        return self._frames[bucket], ()


def _covered(ids: Ints, starts: Floats, cycle: float) -> list[int]:
    """Give the seasons that the reference holds in three cycles or more."""
    cycles = (starts // cycle).astype(np.int64)
    return [b for b in np.unique(ids).tolist() if len(np.unique(cycles[ids == b])) >= CYCLES]


def _uncovered(by: str, enough: list[int]) -> tuple[str, ...]:
    number = {"hour": 24, "weekday": 7}.get(by, 168)
    missing = [name_of(by, b) for b in range(number) if b not in enough]
    if not missing:
        return ()
    named = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
    return (f"the reference does not cover {named}: windows there are compared with all of it",)


def _season(
    reference: Reference, whole: Sequence[Allowance], ids: Ints, enough: list[int]
) -> dict[int, dict[int, Allowance]]:
    """Give the seasons' allowances of the features that they help."""
    made = {}
    for i, feature in enumerate(reference.features):
        if whole[i].learnt in ("rows", "windows") and len(feature.blocks) == len(ids):
            own = _allowances(feature, whole[i], ids, enough, len(reference.features), cluster_of(reference))
            if own and max(a.tolerance for a in own.values()) < whole[i].tolerance:
                made[i] = own
    return made


def _allowances(
    feature: Feature, whole: Allowance, ids: Ints, enough: list[int], features: int, cluster: float | None
) -> dict[int, Allowance]:
    used = np.isin(ids, enough) & (feature.blocks.sum(1) > 0)
    blocks, ids, q = feature.blocks[used].astype(np.float64), ids[used], whole.q
    totals = {b: blocks[ids == b].sum(0) for b in enough}
    many = features * len(enough)
    likely = min(float(t.sum()) for t in totals.values())
    if not len(blocks) or likely <= 0 or margin(q, likely * whole.kappa, many) >= whole.tolerance:
        return {}  # too few rows to tell a season apart
    deff = 1 / whole.kappa
    others = np.stack([totals[b] for b in ids.tolist()]) - blocks
    expected = shrunk(others, q, deff)
    found = variation(blocks, q, "auto", cluster, expected)
    return {b: allowed(feature, shrunk(t, q, deff), float(t.sum()), many, found) for b, t in totals.items()}


def shrunk(counts: NDArray[Any], q: Floats, deff: float) -> Floats:
    """Give a season's shares, moved towards the whole's as far as chance explains that they differ."""
    n = counts.sum(-1, keepdims=True)
    share = (counts + 1 / len(q)) / (n + 1)
    excess = n / deff * ((share - q) ** 2 / q).sum(-1, keepdims=True)
    kept = np.maximum(0.0, 1 - (len(q) - 1) / np.maximum(excess, 1e-9))
    return np.asarray(q + kept * (share - q))
