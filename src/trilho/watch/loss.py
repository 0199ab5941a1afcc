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
SHORTEST, LONGEST = 64, 4096
LARGEST_LOG = 300.0
BELOW = "a loss or a weight is below 0, the least that is allowed"


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
    """Watch the losses of labelled rows in the order in which labels come: 0 or 1, or numbers from 0 to `clip`.

    `average_run_length` is A: while the mean of the loss is at most `allowed`, at most T/A false alarms are expected in
    T rows. Without a `clip` losses are from 0 to 1, a larger one counts as `clip`, and one that is not known as the
    worst. `kappa` is the evidence that one row counts for where rows fail together, and `variance` that of
    loss/allowed, which the sizes of the bets follow. After an alarm it starts again, so that later losses count.

    >>> detector = LossDetector(allowed=0.1, average_run_length=10_000)
    >>> [detector.update(loss) for loss in (0, 1, 1, 1, 1, 1, 1, 1, 1)].index(True)
    8
    """

    def __init__(
        self,
        allowed: float = 0.1,
        average_run_length: float = 10_000,
        *,
        clip: float | None = None,
        kappa: float = 1.0,
        variance: float | None = None,
    ) -> None:
        clip = 1.0 if clip is None else clip
        if not 0 < allowed < clip < np.inf:
            raise ValueError(f"allowed is {allowed}; it must lie between 0 and {clip:g}, the largest loss (clip)")
        if not 0 < kappa <= 1:
            raise ValueError(f"kappa is {kappa}; it must be above 0, and 1 at most")
        widest = (clip - allowed) / allowed  # of all losses from 0 to clip: all or nothing
        self._begin(
            Limit(allowed, clip, None, kappa, allowed, widest if variance is None else variance), average_run_length
        )

    @classmethod
    def of(cls, limit: Limit, average_run_length: float) -> LossDetector:
        """Make the detector of a limit that was learnt from held-out losses."""
        made = cls.__new__(cls)
        made._begin(limit, average_run_length)
        return made

    def _begin(self, limit: Limit, average_run_length: float) -> None:
        if not 1 <= average_run_length < np.inf:
            raise ValueError(f"average_run_length is {average_run_length}; it must be 1 or more, in rows")
        self.limit, self.threshold = limit, float(average_run_length)
        mean_bets = np.minimum(np.geomspace(0.3, 3, BETS) / max(limit.variance, 0.3), 0.9)
        odds = 0.0 if limit.beyond is None else limit.beyond / (1 - limit.beyond)
        rate_bets = np.zeros(0) if limit.beyond is None else np.minimum(np.geomspace(0.3, 3, BETS) * odds, 0.9)
        self._bets = mean_bets, rate_bets
        self.m = np.zeros(len(mean_bets) + len(rate_bets))
        self.peak = 0.0  # the evidence at the last alarm
        extremes = self._factors(np.array([0.0, limit.clip, np.inf]))
        span = float(np.abs(np.log(extremes)).max())
        self._block = int(np.clip(LARGEST_LOG / max(span, 1e-9), 1, BLOCK))  # of products that stay numbers

    @property
    def evidence(self) -> float:
        """Give the evidence so far; it alarms at the threshold."""
        return float(self.m.mean())

    def update(self, loss: float) -> bool:
        """Take in one loss; say whether it raises an alarm."""
        if loss < 0:
            raise ValueError(BELOW)
        m = (self.m + 1) * self._factors(np.array([loss], np.float64))[:, 0]
        evidence = float(m.mean())
        if evidence < self.threshold:
            self.m = m
            return False
        self.peak, self.m = evidence, np.zeros_like(m)
        return True

    def update_many(self, losses: Any, weights: Any = None) -> int | None:
        """Take in losses; give the position of the first alarm, if there was one.

        The losses after an alarm are taken in too, by a detector that has started again: what it then knows is what
        `update` would have left, one loss at a time. `weights` are what each row brings of event time, from 0 to 1.
        """
        losses = np.asarray(losses, np.float64).reshape(-1)
        weights = np.ones(len(losses)) if weights is None else np.asarray(weights, np.float64).reshape(-1)
        if len(weights) != len(losses):
            raise ValueError(f"{len(weights)} weights for {len(losses)} losses; there must be one for each")
        if len(losses) and (np.fmin.reduce(losses) < 0 or not weights.min() >= 0):
            raise ValueError(BELOW)
        first, at, size = None, 0, SHORTEST
        while at < len(losses):
            found = self._take(losses[at : at + size], weights[at : at + size])
            if found is None:
                at, size = at + size, min(2 * size, LONGEST)
            else:
                first = at + found if first is None else first
                at, size = at + found + 1, SHORTEST
        return first

    def state(self) -> dict[str, Any]:
        """Give what a restarted detector goes on from, as JSON values."""
        return {"schema": 1, "m": self.m.tolist(), "peak": self.peak}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        if state["schema"] != 1 or len(state["m"]) != len(self.m):
            raise ValueError("the loss detector's memory belongs to another limit")
        self.m, self.peak = np.array(state["m"], np.float64), float(state.get("peak", 0.0))

    def _factors(self, losses: Floats) -> Floats:
        """Give what each loss multiplies each bet by: a row for each bet."""
        losses = np.where(np.isnan(losses), np.inf, losses)
        limit, (mean_bets, rate_bets) = self.limit, self._bets
        factors = 1 + mean_bets[:, None] * (np.minimum(losses, limit.clip) / limit.allowed - 1)
        if limit.beyond is not None:
            outside = (losses > limit.clip) / limit.beyond - 1
            factors = np.concatenate([factors, 1 + rate_bets[:, None] * outside])
        return np.asarray(factors if limit.kappa == 1 else factors**limit.kappa)

    def _take(self, losses: Floats, weights: Floats) -> int | None:
        """Take in losses up to the first alarm, and give its position: M = (M + weight) e, by products of blocks."""
        count = -(-len(losses) // self._block)
        short = count * self._block - len(losses)
        factors = np.pad(self._factors(losses), ((0, 0), (0, short)), constant_values=1.0)
        product = np.cumprod(factors.reshape(len(self.m), count, -1), axis=2)
        added = np.pad(weights, (0, short)).reshape(count, -1) * factors.reshape(product.shape) / product
        np.cumsum(added, axis=2, out=added)
        begin = np.empty((len(self.m), count))
        m = self.m
        for k in range(count):
            begin[:, k] = m
            m = product[:, k, -1] * (m + added[:, k, -1])
        added += begin[:, :, None]
        added *= product
        evidence = added.mean(axis=0).reshape(-1)[: len(losses)]
        over = np.flatnonzero(evidence >= self.threshold)
        if not len(over):
            self.m = m
            return None
        self.peak, self.m = float(evidence[over[0]]), np.zeros_like(self.m)
        return int(over[0])


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
