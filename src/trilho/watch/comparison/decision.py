"""Whether two samples differ, decided on their counts: a test of chance, and a floor below which nobody cares.

*Chance*: Pearson's statistic of the 2 x K table, whose tail is that of a gamma variable with the mean and the variance
that the statistic has over all ways to deal the rows out to the two samples. A chi-square's tail is right for tables
with many rows in each cell only; this one keeps its level from 1,000 rows and 1,000 values upwards. Neighbouring cells
are pooled until each sample can be expected to have `FEWEST` rows in them. Over many columns, Benjamini and Hochberg's
step-up keeps the share of false ones among those that are flagged, on average, at or below the stated rate.

*Size*: with many rows every difference is significant, also one of no consequence. The distance is a total variation:
the largest change in the share of any set of values. The set is chosen on one half of the rows and measured on the
other, and the other way round, since a set that is chosen and measured on the same rows shows a distance where there
is none.

Rows count as independent. Where many rows come from one customer, compare a table of customers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from trilho.watch.comparison.gamma import gamma_tail

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
RATE = 0.05
FLOOR = 0.02
FEWEST = 5.0
LEVEL = 0.95
TOGETHER = 1 / math.pi  # how both ways round go together where there is no distance; less where there is one
Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)


@dataclass(frozen=True)
class Decision:
    """What was found of one column. `p` is that of chance alone, or in strict mode that of a distance below the floor;
    `q` the smallest rate of false discoveries at which the column would be flagged."""

    drifted: bool
    distance: float
    low: float
    high: float
    p: float
    q: float


@dataclass(frozen=True)
class Size:
    """How far two samples lie apart: the cross-fitted total variation, its interval, and the strict test's p."""

    distance: float
    low: float
    high: float
    over_floor: float


def decide(
    pairs: Sequence[tuple[Ints, Ints]], *, rate: float = RATE, floor: float = FLOOR, strict: bool = False
) -> list[Decision]:
    """Decide for each pair of counts whether it drifted: beyond chance at the rate, and at least by the floor.

    `strict` tests that the distance is over the floor, instead of testing that there is one and looking at its size.

    >>> same, other = np.array([500, 500]), np.array([650, 350])
    >>> [x.drifted for x in decide([(same, same), (same, other)])]
    [False, True]
    """
    sizes = [measure(a, b, floor) for a, b in pairs]
    p = [size.over_floor if strict else chance(a, b) for size, (a, b) in zip(sizes, pairs, strict=True)]
    return [
        Decision(bool(q <= rate and size.distance >= floor), size.distance, size.low, size.high, one, q)
        for size, one, q in zip(sizes, p, discovery_rates(p), strict=True)
    ]


def discovery_rates(p: Sequence[float]) -> list[float]:
    """Give for each p the smallest false-discovery rate at which it is a discovery (Benjamini and Hochberg).

    >>> [round(q, 3) for q in discovery_rates([0.01, 0.04, 0.03, 0.5])]
    [0.04, 0.053, 0.053, 0.5]
    """
    values = np.asarray(p, np.float64)
    order = np.argsort(-values, kind="stable")
    ranks = len(values) - np.arange(len(values))
    out = np.empty(len(values))
    out[order] = np.minimum.accumulate(np.minimum(values[order] * len(values) / ranks, 1.0)) if len(values) else 0.0
    return [float(q) for q in out]


def chance(a: Ints, b: Ints) -> float:
    """Give the probability that dealing out the same rows by chance would differ at least as much."""
    a, b = pooled(np.asarray(a, np.int64), np.asarray(b, np.int64))
    statistic, mean, variance = moments(a, b)
    if not mean > 0 or not variance > 0:
        return 1.0
    return gamma_tail(mean * mean / variance, statistic * mean / variance)


def pooled(a: Ints, b: Ints, fewest: float = FEWEST) -> tuple[Ints, Ints]:
    """Join neighbouring cells until the smaller sample is expected to have `fewest` rows in each.

    Only the cells' totals are looked at, so that what is pooled does not depend on how the samples differ.
    """
    total = a + b
    there = total > 0
    a, b, total = a[there], b[there], total[there]
    if not len(total) or not a.sum() or not b.sum():
        return a[:0], b[:0]
    need = fewest / (min(int(a.sum()), int(b.sum())) / int(total.sum()))
    group, at, held = np.zeros(len(total), np.int64), 0, 0
    for i, size in enumerate(total.tolist()):
        group[i] = at
        held += size
        if held >= need:
            at, held = at + 1, 0
    if held and at:  # the last cells hold too little for one of their own
        group = np.minimum(group, at - 1)
    count = int(group[-1]) + 1
    joined = [np.bincount(group, weights=x, minlength=count) for x in (a, b)]
    return np.rint(joined[0]).astype(np.int64), np.rint(joined[1]).astype(np.int64)


def moments(a: Ints, b: Ints) -> tuple[float, float, float]:
    """Give Pearson's statistic of a 2 x K table without empty cells, and its mean and variance over all dealings.

    The moments are exact (Dawson, 1954). With many rows the variance comes to
    2(K-1) + (1/(pq) - 6)(sum 1/t - (K^2 + 2K - 2)/N), t the cells' totals, p and q the samples' shares. No raw moment
    is formed, for those of millions of rows cancel.
    """
    cells, n, m = len(a), float(a.sum()), float(b.sum())
    rows = n + m
    if cells < 2 or n == 0 or m == 0 or rows < 4:
        return 0.0, 0.0, 0.0
    total = (a + b).astype(np.float64)
    p, q = n / rows, m / rows
    statistic = float((((a - total * p) ** 2) / total).sum()) / (p * q)
    mean = (cells - 1) * rows / (rows - 1)
    sides = (rows - 2) / (rows - 1), (rows - cells) * (cells - 1) / (rows - 1)
    uneven = (1 / (p * q) - 4) / (rows - 2), (rows * float((1 / total).sum()) - cells * cells) / (rows - 2)
    variance = 2 * rows / (rows - 3) * (sides[0] - uneven[0]) * (sides[1] - uneven[1])
    return statistic, mean, variance + rows * rows / (rows - 1) * uneven[0] * uneven[1]


def measure(a: Ints, b: Ints, floor: float = FLOOR) -> Size:
    """Measure how far apart two samples lie, and test whether that is more than the floor.

    The halves are drawn with a seed made from the counts: the same tables give the same answer anywhere, always.
    """
    a, b = np.asarray(a, np.int64), np.asarray(b, np.int64)
    if a.sum() == 0 or b.sum() == 0:
        return Size(0.0, 0.0, 1.0, 1.0)
    draw = np.random.default_rng(seed_of(a, b))
    first = _half(draw, a), _half(draw, b)
    second = a - first[0], b - first[1]
    there = _across(first, second)
    back = _across(second, first)
    known = [x for x in (there, back) if x is not None]
    if not known:
        return Size(0.0, 0.0, 1.0, 1.0)
    distance = max(sum(x[0] for x in known) / len(known), 0.0)
    both = 2 * TOGETHER * math.sqrt(known[0][1] * known[1][1]) if len(known) == 2 else 0.0
    error = math.sqrt(sum(x[1] for x in known) + both) / len(known)
    most = max(distance, _whole(a, b))
    low, high = max(distance - Z * error, 0.0), min(most + Z * error, 1.0)
    return Size(distance, low, high, _over(there or known[0], floor))


def seed_of(a: Ints, b: Ints) -> int:
    """Give a seed that is the counts' own."""
    return int.from_bytes(hashlib.sha256(a.astype("<i8").tobytes() + b"|" + b.astype("<i8").tobytes()).digest()[:8])


def _half(draw: np.random.Generator, counts: Ints) -> Ints:
    return np.asarray(draw.multivariate_hypergeometric(counts, int(counts.sum()) // 2, method="marginals"), np.int64)


def _across(choose: tuple[Ints, Ints], look: tuple[Ints, Ints]) -> tuple[float, float] | None:
    """Choose the values that grew on one half; give by how much they did on the other, and that number's variance."""
    if any(x.sum() == 0 for x in (*choose, *look)):
        return None
    grew = choose[1] / choose[1].sum() > choose[0] / choose[0].sum()
    n, m = float(look[0].sum()), float(look[1].sum())
    before, after = float(look[0][grew].sum()) / n, float(look[1][grew].sum()) / m
    return after - before, _variance(before, n) + _variance(after, m)


def _variance(share: float, rows: float) -> float:
    """Give a share's variance, from a share that is never 0 or 1 (Agresti and Coull)."""
    rows += 4
    share = (share * (rows - 4) + 2) / rows
    return share * (1 - share) / rows


def _whole(a: Ints, b: Ints) -> float:
    """Give the total variation on all rows, less what chance alone would show: a set chosen on half of the rows can
    miss some of the distance, so the interval reaches up to here and beyond."""
    n, m = float(a.sum()), float(b.sum())
    before, after = a / n, b / m
    seen = 0.5 * float(np.abs(after - before).sum())
    share = (a + b) / (n + m)
    expected = 0.5 * float(np.sqrt(2 / math.pi * share * (1 - share) * (1 / n + 1 / m)).sum())
    return math.sqrt(max(seen**2 - expected**2, 0.0))


def _over(held: tuple[float, float], floor: float) -> float:
    """Give the probability of such a change on the held-out half, or a larger one, if the distance were the floor."""
    change, variance = held
    return NormalDist().cdf(-(change - floor) / math.sqrt(variance))
