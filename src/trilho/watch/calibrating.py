"""Calibration: what a score says of the chance of class 1, learnt from held-out rows.

Three curves are tried, and the one that tells most of rows left out is taken: a beta curve, an isotonic one, and the
middle of both, which is mostly the best. They are fitted to a few hundred bins of scores, so that fitting a hundred
times, as the bootstrap does, takes no longer than looking at the rows once.

Kull, Silva Filho and Flach: Beyond sigmoids (beta calibration), 2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from trilho.watch.boosting import chance_of, folds

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Curve = Literal["beta", "isotonic", "middle"]
SCORE_BINS = 256
FOLDS = 5


@dataclass(frozen=True)
class Calibrated:
    """A curve from scores to chances: the weights of a beta curve, and the levels of an isotonic one at its points."""

    curve: Curve
    weights: Floats
    levels: Floats
    points: Floats

    def __call__(self, scores: Floats) -> Floats:
        """Give the chance of each score."""
        if self.curve == "beta":
            return chance_of(_design(scores) @ self.weights)
        steps: Floats = np.interp(scores, self.points, self.levels)
        return steps if self.curve == "isotonic" else (steps + chance_of(_design(scores) @ self.weights)) / 2


class Calibrator:
    """Held-out scores in bins, to which curves are fitted."""

    def __init__(self, scores: Floats, labels: Floats) -> None:
        """`labels` are 0 or 1."""
        ends = np.unique(np.quantile(scores, np.linspace(0, 1, SCORE_BINS + 1)[1:-1]))
        self.place = np.searchsorted(ends, scores)
        count, total = np.bincount(self.place), np.bincount(self.place, scores)
        self._used = count > 0
        self.points = total[self._used] / count[self._used]
        self.labels = labels

    def counts(self, weight: Floats) -> tuple[Floats, Floats]:
        """Give the rows in each bin and those of class 1 among them, each row counted `weight` times."""
        size = len(self._used)
        rows, ones = (np.bincount(self.place, x, minlength=size)[self._used] for x in (weight, weight * self.labels))
        return rows.astype(np.float64), ones.astype(np.float64)

    def choose(self) -> Curve:
        """Give the curve that says most of rows that it was not fitted to."""
        fold = folds(len(self.labels), FOLDS)
        lost = dict.fromkeys(get_args(Curve), 0.0)
        for k in range(FOLDS):
            known, unseen = self.counts((fold != k) * 1.0), self.counts((fold == k) * 1.0)
            for curve in lost:
                chance = np.clip(self.fit(curve, *known)(self.points), 1e-6, 1 - 1e-6)
                lost[curve] -= float(unseen[1] @ np.log(chance) + (unseen[0] - unseen[1]) @ np.log(1 - chance))
        return min(lost, key=lambda curve: lost[curve])

    def fit(self, curve: Curve, rows: Floats, ones: Floats) -> Calibrated:
        """Fit a curve to counts."""
        nothing = np.zeros(0)
        weights = nothing if curve == "isotonic" else _logistic(_design(self.points), rows, ones)
        levels = nothing if curve == "beta" else isotonic(rows, ones)
        return Calibrated(curve, weights, levels, self.points)


def _design(scores: Floats) -> Floats:
    scores = np.clip(scores, 1e-6, 1 - 1e-6)
    return np.stack([np.ones(len(scores)), np.log(scores), -np.log1p(-scores)], axis=1)


def _logistic(design: Floats, rows: Floats, ones: Floats) -> Floats:
    """Fit a logistic regression to counts by Newton's steps, with a slight pull to zero."""
    weights, pull = np.zeros(design.shape[1]), np.eye(design.shape[1]) * 1e-3
    for _ in range(25):
        chance = chance_of(design @ weights)
        slope = design.T @ (ones - rows * chance) - pull @ weights
        step = np.linalg.solve((design.T * (rows * chance * (1 - chance))) @ design + pull, slope)
        weights = weights + step * min(1.0, 4 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-8:
            break
    return np.asarray(weights)


def isotonic(rows: Floats, ones: Floats) -> Floats:
    """Give the rising curve through counted bins that is nearest; half a row of all is left to either class.

    >>> isotonic(np.array([10.0, 10, 10]), np.array([1.0, 6, 4])).tolist()
    [0.1, 0.5, 0.5]
    """
    pools: list[list[float]] = []  # rows, ones, bins
    for count, one in zip(rows.tolist(), ones.tolist(), strict=True):
        pools.append([count, one, 1])
        while len(pools) > 1 and pools[-2][1] * pools[-1][0] >= pools[-1][1] * pools[-2][0]:
            last = pools.pop()
            pools[-1] = [a + b for a, b in zip(pools[-1], last, strict=True)]
    least = 0.5 / max(float(rows.sum()), 1.0)
    levels = np.clip([one / count if count else 0.0 for count, one, _ in pools], least, 1 - least)
    return np.maximum.accumulate(np.repeat(levels, [int(bins) for _, _, bins in pools]))
