"""Which of two versions loses less, as labels come: bets on means of bounded losses, valid at any time.

For each possible mean m a bettor wins when losses are larger than m, another when they are smaller; each capital is an
e-process while m is the truth, whatever the losses' distribution (Waudby-Smith and Ramdas, "Estimating means of
bounded random variables by betting", JRSS B 2024). The stakes are a fixed mixture, which makes the capital depend on
the counts of losses alone and not on their order. Two versions are told apart by the product of a capital of each at
the mean that explains both best; turned around, these tests are a confidence sequence (Howard, Ramdas, McAuliffe and
Sekhon, Annals of Statistics 2021) for the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BINS = 50  # of losses from 0 to 1; of differences from -1 to 1 twice as many
GRID = 200  # of means from 0 to 1
STAKES = np.array([0.02, 0.05, 0.1, 0.2, 0.35, 0.55, 0.75, 0.95])


def worse(losses: Sequence[int], champion: Sequence[int]) -> float:
    """Give the evidence that a version's mean loss is larger than the champion's.

    >>> low, high = [90] + [0] * 48 + [10], [30] + [0] * 48 + [70]
    >>> worse(high, low) > 1000, worse(low, high) < 1
    (True, True)
    """
    return _by_more_than(0, losses, champion)


def difference(losses: Sequence[int], champion: Sequence[int], risk: float) -> tuple[float, float]:
    """Give bounds that hold the difference of mean losses at all times, but for a risk.

    >>> low, high = difference([30] + [0] * 48 + [70], [90] + [0] * 48 + [10], 0.05)
    >>> 0 < low < 0.6 < high
    True
    """
    low = _furthest(losses, champion, 2 / risk)
    high = _furthest(champion, losses, 2 / risk)
    return low / GRID, -high / GRID


def worse_in_pairs(losses: Sequence[int]) -> float:
    """Give the evidence that differences of losses on the same rows, from -1 to 1, are above 0 in the mean.

    >>> worse_in_pairs([0] * 50 + [60] * 5 + [0] * 45) > 1000, worse_in_pairs([0] * 50 + [5] * 50) > 1e6
    (True, True)
    """
    if not any(losses):
        return 0.0
    middles = (np.arange(2 * BINS) + 0.5) / BINS - 1
    logs = np.log1p(STAKES[:, None] * middles) @ np.asarray(losses, np.float64)
    return _exp(_mixed(logs[:, None])[0])


def mean_of(losses: Sequence[int], bins: int = BINS) -> float | None:
    """Give the mean of losses that were counted in bins; None without any.

    >>> mean_of([1] + [0] * 49), mean_of([])
    (0.01, None)
    """
    count = sum(losses)
    return sum(n * (at + 0.5) / bins for at, n in enumerate(losses)) / count if count else None


def _furthest(losses: Sequence[int], champion: Sequence[int], threshold: float) -> int:
    """Give the largest step of the grid by more than which the losses are larger, as far as the evidence says."""
    low, high = -GRID, GRID
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _by_more_than(middle, losses, champion) >= threshold else (low, middle)
    return low


def _by_more_than(steps: int, losses: Sequence[int], champion: Sequence[int]) -> float:
    """Give the evidence that one mean is above another by more than so many steps of the grid.

    Between two points of the grid a capital is at least that at the point which is worse for it.
    """
    if not any(losses) or not any(champion):
        return 0.0
    above, below = _capital(losses, True), _capital(champion, False)
    points = np.arange(GRID)
    other = points + 1 + steps
    possible = other >= 0
    if not possible.any():
        return 0.0
    joint = above[np.minimum(other[possible], GRID)] + below[points[possible]]
    return _exp(float(joint.min()))


def _capital(losses: Sequence[int], above: bool) -> Floats:
    """Give the log of the capital against each mean of the grid, of a bettor on losses above it, or below."""
    return _mixed(_wins(above) @ np.asarray(losses, np.float64))


def _mixed(logs: Floats) -> Floats:
    top = logs.max(axis=0)
    return np.asarray(top + np.log(np.exp(logs - top).mean(axis=0)))


@cache
def _wins(above: bool) -> Floats:
    """Give what a stake makes of a loss, as a log: by stake, mean and bin."""
    middles, means = (np.arange(BINS) + 0.5) / BINS, np.arange(GRID + 1) / GRID
    gain = (middles - means[:, None]) * (1 if above else -1)
    return np.asarray(np.log1p(STAKES[:, None, None] * gain))


def _exp(log: float) -> float:
    return float(np.exp(min(log, 700.0)))
