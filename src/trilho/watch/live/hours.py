"""What the reference holds of each hour: the shares expected in it, and how far hours of its kind lie apart.

Only hours that the reference covers in three cycles are compared with: the same hour of the week where it covers three
weeks of it, else the same hour of the day where it covers three days. A reference without times, or with windows longer
than an hour, says nothing of hours.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trilho.watch.frame import Frame, Layout
from trilho.watch.live.ledger import HOUR
from trilho.watch.projection import Floats
from trilho.watch.reference import (
    EDGE,
    ENOUGH_WINDOWS,
    FLOOR,
    Allowance,
    Variation,
    cluster_of,
    margin,
    shares_of,
    variation,
)  # fmt: skip
from trilho.watch.seasons import BUCKETS, CYCLE, CYCLES, name_of, shrunk
from trilho_runtime.profile import Feature, Reference

Ints = NDArray[np.int64]
Z = 2.576  # of a normal deviate: its size is beyond that once in a hundred
FRAMES = 2  # that are kept ready
Bucket = tuple[str, int]  # "weekday and hour" or "hour", and which
_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True)
class _Known:
    """What is known of one feature beside its buckets' counts."""

    whole: Floats
    found: Variation
    again: float  # known rows that come back are no drift
    most: Floats  # the special bins' largest and smallest shares in the reference's windows
    least: Floats


class HourReference:
    """Expected shares by hour, made when an hour is asked for; memory does not depend on the reference's windows."""

    def __init__(self, reference: Reference, tolerance: float | Literal["auto"] = "auto") -> None:
        self.features = tuple(replace(f, blocks=np.zeros((0, len(f.labels)), np.int64), values={})
                              for f in reference.features)  # fmt: skip
        self.layout = Layout.of(reference.features)
        self.open = np.zeros(len(self.features), bool)
        self.enough = True
        self._frames: OrderedDict[Bucket, Frame] = OrderedDict()
        self._totals: dict[Bucket, list[NDArray[np.uint32]]] = {}
        self._known: list[_Known] = []
        self.why = _unfit(reference)
        if not self.why:
            self._learn(reference, tolerance)

    @property
    def buckets(self) -> list[Bucket]:
        """Give the hours that the reference covers."""
        return list(self._totals)

    def bucket(self, hour: float) -> Bucket | None:
        """Give what the hour that begins then is compared with; None where the reference does not cover it."""
        start = np.array([int(hour)], np.int64)
        for by in ("weekday and hour", "hour"):
            found = (by, int(BUCKETS[by](start)[0]))
            if found in self._totals:
                return found
        return None

    def frame(self, bucket: Bucket) -> Frame:
        """Give the shares expected in a bucket and what may happen around them."""
        if bucket not in self._frames:
            while len(self._frames) >= FRAMES:
                self._frames.popitem(last=False)
            shares = [self._allowance(i, bucket) for i in range(len(self.features))]
            self._frames[bucket] = Frame.of(self.layout, shares)
        self._frames.move_to_end(bucket)
        return self._frames[bucket]

    def _learn(self, reference: Reference, tolerance: float | Literal["auto"]) -> None:
        starts = (np.array(reference.block_windows, np.float64) * reference.window_seconds).astype(np.int64)
        buckets = _of_blocks(starts)
        covered = np.array([b is not None for b in buckets], bool)
        if not covered.any():
            self.why = f"the reference holds no hour {CYCLES} times"
            return
        self.enough = int(covered.sum()) >= ENOUGH_WINDOWS
        names = sorted({b for b in buckets if b is not None} | {("hour", h) for h in _cycled("hour", starts)})
        place = {(by, number): BUCKETS[by](starts) == number for by, number in names}
        self._totals = {b: [] for b in names}
        for i, feature in enumerate(reference.features):
            blocks = feature.blocks if len(feature.blocks) == len(starts) else None
            self.open[i] = blocks is not None and bool(blocks.any())
            for b in names:
                total = np.zeros(len(feature.labels)) if blocks is None else blocks[place[b]].sum(0)
                self._totals[b].append(np.minimum(total, 2**32 - 1).astype(np.uint32))
            own = [b if blocks is not None else None for b in buckets]
            self._known.append(self._know(feature, i, own, tolerance, cluster_of(reference)))

    def _know(
        self, feature: Feature, i: int, buckets: Sequence[Bucket | None], tolerance: float | Literal["auto"],
        cluster: float | None,
    ) -> _Known:  # fmt: skip
        whole = shares_of(feature.counts)
        used = [k for k, b in enumerate(buckets) if b is not None and feature.blocks[k].any()]
        blocks = feature.blocks[used].astype(np.float64)
        expected = None
        if used:
            first = variation(blocks, whole, tolerance, cluster)
            others = (self._totals[buckets[k]][i] - row for k, row in zip(used, blocks, strict=True))  # type: ignore[index]
            expected = np.array([shrunk(other, whole, 1 / first.kappa) for other in others])
        found = variation(blocks, whole, tolerance, cluster, expected)
        n = max(float(feature.counts.sum()), 1.0)
        again = 0.5 * float(np.abs(feature.counts - feature.inside).sum()) / n
        shares = (blocks / np.maximum(blocks.sum(1, keepdims=True), 1))[:, list(feature.special)]
        most, least = shares.max(0, initial=0.0), shares.min(0, initial=1.0)
        return _Known(whole, replace(found, natural=found.natural + hidden(found, blocks)), again, most, least)

    def _allowance(self, i: int, bucket: Bucket) -> Allowance:
        known, counts = self._known[i], self._totals[bucket][i].astype(np.float64)
        found, special = known.found, list(self.features[i].special)
        q = shrunk(counts, known.whole, 1 / found.kappa) if counts.any() else known.whole
        effective = max(float(counts.sum()) * found.kappa, 1.0)
        many = len(self.features) * len(self._totals)
        within = min(found.natural + known.again + margin(q, effective, many), 1.0)
        more, held = FLOOR + 3 / effective, q[special]
        most = np.minimum(np.maximum(known.most, held) + more, held + within)
        least = np.maximum(np.maximum(np.minimum(known.least, held) - more, held - within), 0.0)
        return Allowance(q, within, found.kappa, found.cap, np.inf, most, least, effective, found.learnt)


def hidden(found: Variation, blocks: Floats) -> float:
    """Give how far all rows of a window may move together without the reference's windows showing it.

    Live traffic can be far more than the reference's was, and then shows what a reference of fewer rows could not: the
    .99 quantile, in total variation, of one direction's spread just under what its windows would have told from noise.

    >>> found = Variation(0.02, 1.0, np.inf, 400.0, "rows")
    >>> round(hidden(found, np.ones((260, 31))), 3)
    0.067
    """
    if found.learnt == "given" or not len(blocks):
        return 0.0
    excess = EDGE * (1 + (blocks.shape[1] / len(blocks)) ** 0.5) ** 2 - 1
    return float(0.5 * Z * (excess / max(found.rows * found.kappa, 1.0)) ** 0.5)


def words_of(bucket: Bucket) -> str:
    """Say which hours a bucket holds.

    >>> words_of(("hour", 3)), words_of(("weekday and hour", 30))
    ('hours from 03:00', 'hours from Tuesday 06:00')
    """
    return f"hours from {name_of(*bucket)}"


def _unfit(reference: Reference) -> str:
    """Say why a reference knows nothing of hours; "" where it does."""
    if not reference.features:
        return "nothing is watched"
    if not reference.block_windows:
        return "the reference has no times"
    if reference.window_seconds > HOUR or HOUR % reference.window_seconds:
        return f"the reference's windows last {reference.window_seconds:g} s, and not an hour or a part of one"
    return ""


def _cycled(by: str, starts: Ints) -> list[int]:
    """Give the buckets that are covered in enough cycles."""
    ids, cycles = BUCKETS[by](starts), starts // int(CYCLE[by])
    return [b for b in np.unique(ids).tolist() if len(np.unique(cycles[ids == b])) >= CYCLES]


def _of_blocks(starts: Ints) -> list[Bucket | None]:
    """Give the bucket of each of the reference's windows."""
    weekly, daily = set(_cycled("weekday and hour", starts)), set(_cycled("hour", starts))
    weeks, days = BUCKETS["weekday and hour"](starts).tolist(), BUCKETS["hour"](starts).tolist()
    return [
        ("weekday and hour", w) if w in weekly else ("hour", d) if d in daily else None
        for w, d in zip(weeks, days, strict=True)
    ]
