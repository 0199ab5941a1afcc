"""Concept drift: a detector on the losses of labelled rows, with a promise about false alarms.

A loss is bet against what is allowed: 1 + lambda (loss/allowed - 1) is expected to be at most 1 as long as the loss's
mean is at most `allowed`. The bets' product is restarted all the time (Shiryaev-Roberts) and mixed over several
lambdas. The promise: with 95% over the held-out rows that `allowed` was learnt from, while the mean of the clipped
loss is at most `allowed`, at most T/A false alarms are expected in labelled rows of weights that sum to T. A row weighs
what it brings of event time (`trilho.watch.pace`), so that the promise is one in time however much is served.

Podkopaev and Ramdas: Tracking the risk of a deployed model, arXiv 2110.06177. Shin, Ramdas and Rinaldo: E-detectors,
arXiv 2203.03532.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
FEWEST = 40
MISS = 0.05
BETS = 12
BLOCK = 64


@dataclass(frozen=True)
class Limit:
    """What losses may be: the mean of the loss clipped at `clip`, and the share beyond `clip` (None: it is bounded).

    `kappa` is the evidence one row counts for (rows of one day fail together), `expected` the mean that was measured,
    `variance` that of loss/allowed, which the sizes of the bets follow.
    """

    allowed: float
    clip: float
    beyond: float | None
    kappa: float
    expected: float
    variance: float


def allowed_loss(losses: Floats, degradation: float = 0.1, bound: float | None = None) -> Limit | None:
    """Learn the limit from held-out losses in order of time; None when they are too few to say anything.

    `bound` is the largest possible loss, where there is one; without it losses are clipped at twice their .99 quantile.
    """
    losses = losses[np.isfinite(losses)]
    if len(losses) < FEWEST or not losses.max() > 0:
        return None
    kappa = 1 / design_effect(losses)
    clip, beyond = bound, None
    if clip is None:
        clip = 2 * float(np.quantile(losses, 0.99)) or float(losses.max())
        beyond = min(rate_bound(float(np.mean(losses > clip)), len(losses) * kappa) * (1 + degradation), 0.95)
    clipped = np.minimum(losses, clip)
    allowed = min(mean_bound(clipped, kappa), clip) * (1 + degradation)
    variance = float(np.var(clipped / allowed)) or 1.0
    return Limit(allowed, clip, beyond, kappa, float(np.mean(losses)), variance)


class LossDetector:
    """Watch the losses of labelled rows in the order in which labels come.

    `average_run_length` is A, in labelled rows of weight 1.
    """

    def __init__(self, limit: Limit, average_run_length: float) -> None:
        self.limit = limit
        self.threshold = float(average_run_length)
        self._mean_bets = np.minimum(np.geomspace(0.3, 3, BETS) / max(limit.variance, 0.3), 0.9)
        odds = 0.0 if limit.beyond is None else limit.beyond / (1 - limit.beyond)
        self._rate_bets = np.zeros(0) if limit.beyond is None else np.minimum(np.geomspace(0.3, 3, BETS) * odds, 0.9)
        self.m = np.zeros(len(self._mean_bets) + len(self._rate_bets))
        self.peak = 0.0  # the evidence at the last alarm

    @property
    def evidence(self) -> float:
        """Give the evidence so far; it alarms at the threshold."""
        return float(self.m.mean())

    def update_many(self, losses: Floats, weights: Floats | None = None) -> int | None:
        """Take in losses; give the position of the first alarm, if there was one. After an alarm it starts again."""
        factors = self._factors(losses)
        weights = np.ones(len(losses)) if weights is None else weights
        first, at = None, 0
        while at < len(factors):
            path = self._path(factors[at : at + BLOCK], weights[at : at + BLOCK])
            over = np.flatnonzero(path.mean(1) >= self.threshold)
            if len(over):
                first = at + int(over[0]) if first is None else first
                self.peak = float(path[over[0]].mean())
                self.m = np.zeros_like(self.m)
                at += int(over[0]) + 1
            else:
                self.m = path[-1]
                at += len(path)
        return first

    def state(self) -> dict[str, Any]:
        """Give what a restarted detector goes on from, as JSON values."""
        return {"schema": 1, "m": self.m.tolist()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        if state["schema"] != 1 or len(state["m"]) != len(self.m):
            raise ValueError("the loss detector's memory belongs to another limit")
        self.m = np.array(state["m"], np.float64)

    def _factors(self, losses: Floats) -> Floats:
        losses = np.where(np.isnan(losses), np.inf, losses)
        limit = self.limit
        ratio = np.minimum(losses, limit.clip)[:, None] / limit.allowed - 1
        factors = 1 + self._mean_bets * ratio
        if limit.beyond is not None:
            outside = (losses > limit.clip)[:, None] / limit.beyond - 1
            factors = np.concatenate([factors, 1 + self._rate_bets * outside], axis=1)
        return np.asarray(factors**limit.kappa)

    def _path(self, factors: Floats, weights: Floats) -> Floats:
        """Give M after each row: M = (M + weight) e, by cumulative products."""
        product = np.cumprod(factors, axis=0)
        before = np.concatenate([np.ones((1, factors.shape[1])), product[:-1]])
        return np.asarray(product * (self.m + np.cumsum(weights[:, None] / before, axis=0)))


def design_effect(losses: Floats) -> float:
    """Estimate how many rows count as one, from how much the means of neighbouring blocks of rows differ.

    Differences, so that a slow trend cancels; block sizes double while there are 16 blocks, the worst counts.

    >>> design_effect(np.repeat(np.random.default_rng(0).random(400), 8)) > 5
    True
    """
    variance, worst, size = float(np.var(losses)), 1.0, 2
    while variance > 0 and len(losses) // size >= 16:
        means = losses[: len(losses) // size * size].reshape(-1, size).mean(1)
        worst = max(worst, size * float(np.mean(np.diff(means) ** 2)) / 2 / variance)
        size *= 2
    return worst


def rate_bound(rate: float, n: float, miss: float = MISS) -> float:
    """Give an upper bound of a probability from its observed rate in n rows (Chernoff, valid for every n).

    >>> round(rate_bound(0.0, 300), 4)
    0.0099
    """
    low, high = rate, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if n * _divergence(rate, middle) >= np.log(1 / miss) else (middle, high)
    return high


def _divergence(p: float, q: float) -> float:
    one = p * np.log(p / q) if p > 0 else 0.0
    other = (1 - p) * np.log((1 - p) / (1 - q)) if p < 1 and q < 1 else (np.inf if p < 1 else 0.0)
    return float(one + other)


def mean_bound(values: Floats, kappa: float = 1.0, z: float = 1.645) -> float:
    """Give a 95% upper bound of the mean (Student's, corrected for skewness as by Johnson, 1978).

    Dependent values count `kappa` each. A bound by betting would be proven for every n, but half as wide again: on the
    bike rides it finds the drift of 2012 after ten weeks, this one after four.
    """
    n = max(len(values) * kappa, 2.0)
    mean, spread = float(values.mean()), float(values.std(ddof=1))
    if spread == 0:
        return mean
    skew = float(np.mean((values - mean) ** 3)) / spread**3
    return mean + z * spread / float(n**0.5) + max(skew, 0.0) * spread * (2 * z**2 + 1) / (6 * n)
