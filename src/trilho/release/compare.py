"""Two models on the same rows: a metric of each, and how far their difference may be chance.

Whole blocks of rows are drawn again, with replacement, both models always on the same draw. Rows of one day share
weather, crowds and outages, and so do days that follow each other: where time is known, blocks of one, two, four and
eight days are tried, and the widest bounds count. Single rows would take one lucky day for many proofs. Every metric
here is a function of sums over blocks (or, for the area under the ROC curve, over pairs of blocks), so that a
resample costs one row of a matrix product, whatever the number of rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trilho.core.metrics import HIGHER_IS_BETTER

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RESAMPLES = 2000
MOST_BLOCKS = 120
FEWEST_BLOCKS = 5
DAYS_TRIED = (1, 2, 4, 8)
LONGER_WHILE_BLOCKS = 8
DAY_SECONDS = 86400.0


@dataclass(frozen=True)
class Predictions:
    """What one model said of held-out rows, and what came true; `time` in seconds, NaN where unknown."""

    row: Ints
    time: Floats
    prediction: Floats
    value: Floats

    @classmethod
    def read(cls, path: Path | str) -> Predictions:
        """Read the Parquet file that a `predict` step leaves."""
        import duckdb

        unknown = "CAST('nan' AS DOUBLE)"
        query = (
            f"SELECT CAST(row AS BIGINT) AS row, coalesce(epoch(time), {unknown}) AS time, "  # noqa: S608
            f"coalesce(CAST(prediction AS DOUBLE), {unknown}) AS prediction, "
            f"coalesce(CAST(value AS DOUBLE), {unknown}) AS value FROM read_parquet(?)"
        )
        with duckdb.connect() as connection:
            columns: dict[str, NDArray[Any]] = connection.execute(query, [str(path)]).fetchnumpy()
        floats = (np.asarray(columns[name], dtype=np.float64) for name in ("time", "prediction", "value"))
        return cls(np.asarray(columns["row"], dtype=np.int64), *floats)

    def where(self, keep: NDArray[np.bool_]) -> Predictions:
        """Give the rows that a mask keeps."""
        return Predictions(self.row[keep], self.time[keep], self.prediction[keep], self.value[keep])


@dataclass(frozen=True)
class Comparison:
    """Both models' metric, and by how much the first is better: `low` and `high` are one-sided bounds."""

    challenger: float
    champion: float
    improvement: float
    low: float
    high: float
    rows: int
    blocks: int


def compare(challenger: Predictions, champion: Predictions, metric: str, confidence: float) -> Comparison:
    """Bound by how much the challenger is better, each bound with the given confidence.

    Positive is better for errors and scores alike. Bounds are NaN where no resample has the metric, as with the
    area under the curve when only one class is there.
    """
    first, *longer = [_compare(challenger, champion, metric, confidence, x) for x in blockings(challenger.time)]
    known = [first, *(x for x in longer if math.isfinite(x.low))]
    widest = max(known, key=lambda x: x.high - x.low) if len(known) > 1 else first
    return replace(widest, low=min(x.low for x in known), high=max(x.high for x in known))


def _compare(challenger: Predictions, champion: Predictions, metric: str, confidence: float, block: Ints) -> Comparison:
    count = int(block.max()) + 1
    weights = np.vstack([np.ones((1, count)), _draws(count)])  # the first row is the sample itself
    first, second = (metric_of(metric)(p.prediction, p.value, block, weights) for p in (challenger, champion))
    sign = 1.0 if metric in HIGHER_IS_BETTER else -1.0
    gain = sign * (first - second)
    low, high = _bounds(gain[1:], confidence, count)
    return Comparison(float(first[0]), float(second[0]), float(gain[0]), low, high, len(block), count)


def blockings(time: Floats, seed: int = 0) -> list[Ints]:
    """Number each row's block, in each of the ways that are worth trying.

    Where time is unknown: up to 120 groups drawn by lot. A holdout of fewer than five days is cut into five equal
    stretches instead, the fewest that show a spread at all.

    >>> [int(block.max()) + 1 for block in blockings(np.arange(60) * 86400.0)]
    [60, 30, 15, 8]
    """
    rows = len(time)
    if not np.all(np.isfinite(time)):
        return [np.random.default_rng(seed).permutation(rows) % min(rows, MOST_BLOCKS)]
    date = np.floor(time / DAY_SECONDS)
    days = np.unique(date)
    if len(days) < FEWEST_BLOCKS:
        rank = np.empty(rows, dtype=np.int64)
        rank[np.argsort(time, kind="stable")] = np.arange(rows)
        return [rank * min(FEWEST_BLOCKS, rows) // rows]
    day = np.searchsorted(days, date)
    shortest = -(-len(days) // MOST_BLOCKS)
    lengths = [n * shortest for n in DAYS_TRIED if n == 1 or -(-len(days) // (n * shortest)) >= LONGER_WHILE_BLOCKS]
    return [day // length for length in lengths]


@lru_cache(maxsize=4)
def _draws(blocks: int) -> Floats:
    """Count how often each block is drawn in each resample; seeded, so that a verdict can be repeated."""
    drawn = np.random.default_rng(20130315).integers(blocks, size=(RESAMPLES, blocks))
    flat = (drawn + np.arange(RESAMPLES)[:, None] * blocks).ravel()
    return np.bincount(flat, minlength=RESAMPLES * blocks).reshape(RESAMPLES, blocks).astype(np.float64)


def _bounds(gain: Floats, confidence: float, blocks: int) -> tuple[float, float]:
    """Take the percentiles that a t distribution asks for: plain ones are too narrow with few blocks."""
    known = gain[np.isfinite(gain)]
    if len(known) < 0.99 * len(gain) or blocks < 2:
        return float("nan"), float("nan")
    tail = NormalDist().cdf(-((blocks / (blocks - 1)) ** 0.5) * t_quantile(confidence, blocks - 1))
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(low), float(high)


def t_quantile(probability: float, freedom: int) -> float:
    """Give Student's t quantile by its expansion around the normal's; within 1% from 5 degrees of freedom on.

    >>> round(t_quantile(0.95, 9), 3)  # tables: 1.833
    1.833
    """
    z, n = NormalDist().inv_cdf(probability), max(freedom, 1)
    terms = (
        z,
        (z**3 + z) / (4 * n),
        (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2),
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3),
    )
    return sum(terms)


Resampled = Callable[[Floats, Floats, Ints, Floats], Floats]


def metric_of(metric: str) -> Resampled:
    """Give the function that measures a metric once for each row of weights over blocks."""
    if metric == "roc_auc":
        return _area
    loss = LOSSES[metric]

    def mean(prediction: Floats, value: Floats, block: Ints, weights: Floats) -> Floats:
        blocks = weights.shape[1]
        total = np.bincount(block, loss(prediction, value), blocks)
        means: Floats = weights @ total / (weights @ np.bincount(block, minlength=blocks))
        return np.sqrt(means) if metric == "rmse" else means

    return mean


def _log_loss(prediction: Floats, value: Floats) -> Floats:
    sure = np.clip(prediction, 1e-15, 1 - 1e-15)
    return -np.where(value == 1, np.log(sure), np.log1p(-sure))


LOSSES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "mae": lambda prediction, value: np.abs(prediction - value),
    "rmse": lambda prediction, value: np.square(prediction - value),
    "brier": lambda prediction, value: np.square(prediction - value),
    "log_loss": _log_loss,
    "accuracy": lambda prediction, value: ((prediction >= 0.5) == (value == 1)).astype(np.float64),
}


def _area(prediction: Floats, value: Floats, block: Ints, weights: Floats) -> Floats:
    """Give the area under the ROC curve of each resample, from the pairs won between each two blocks."""
    blocks = weights.shape[1]
    positive = value == 1
    order = np.argsort(prediction[positive], kind="stable")
    high, owner = prediction[positive][order], block[positive][order]
    won = np.zeros((blocks, blocks))
    for other in np.unique(block[~positive]):
        below = np.sort(prediction[~positive & (block == other)])
        wins = (np.searchsorted(below, high, "left") + np.searchsorted(below, high, "right")) / 2
        won[:, other] = np.bincount(owner, wins, blocks)
    pairs = (weights @ np.bincount(owner, minlength=blocks)) * (
        weights @ np.bincount(block[~positive], minlength=blocks)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        area: Floats = np.einsum("bk,bk->b", weights @ won, weights) / pairs
    return area
