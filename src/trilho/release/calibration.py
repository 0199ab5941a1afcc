"""Whether a model's probabilities are what happens: of the rows given 0.3, three in ten.

Rows of similar probability share a bin, ten of equal size. The calibration error is the root of the mean squared
distance, over rows, between what a bin's rows were given and what came true, with the part that chance adds taken off
(the plain estimate calls every model miscalibrated when rows are few). How far chance reaches is learnt by leaving out
blocks of days: what a bin is off by on one day is mostly what it is off by on the whole day. Both bounds are one-sided:
above the limit with `gate.confidence` fails, below it passes, and between them the rows cannot tell.

Measured on 400 planted worlds each, at 95%, with a limit of 0.05 (benchmarks/gate_rates.py): models that are off by
0.05 exactly fail in 4 to 5% and pass in 5 to 6%, from 400 rows to 5,000. Calibrated ones fail in 0.3% or less, and pass
in 21% of worlds of 400 rows, 55% of 1,000, 93% of 2,000 and 100% of 5,000; ones that are off by 0.1 fail in 61%, 95%,
100% and 100%. The others say `not enough data`. Where days share their luck the rates stay (4%, 7% and none). Errors
that cancel out inside a bin are not seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trilho.core.checks import Check, as_json, short
from trilho.release.compare import FEWEST_BLOCKS, Floats, Ints, Predictions, blockings, t_quantile

if TYPE_CHECKING:
    from trilho.config import Gate

NAME = "calibrated"
BINS, FEWEST_BINS, BIN_ROWS = 10, 5, 50
DRAWS, HALVINGS = 4000, 20
SEED = 20130315


@dataclass(frozen=True)
class Calibration:
    """How far a model's probabilities are off; `low` and `high` are one-sided bounds of the error."""

    error: float
    low: float
    high: float
    table: list[dict[str, Any]]


def calibration_check(rows: Predictions, gate: Gate) -> Check:
    """Hold the calibration error against `gate.calibration`."""
    limit = gate.calibration
    assert limit is not None
    known = np.isfinite(rows.value) & np.isfinite(rows.prediction)
    rows = rows.where(known)
    wrong = _not_two_classes(rows)
    if wrong:
        return Check(NAME, "fail", wrong)
    if len(rows.row) < gate.rows:
        return Check(NAME, "not enough data", f"{len(rows.row)} held-out rows, gate.rows asks for {gate.rows}")
    found = calibration(rows, gate.confidence)
    figures = {
        "error": as_json(found.error), "low": as_json(found.low), "high": as_json(found.high), "limit": limit,
        "table": found.table,
    }  # fmt: skip
    sure = f"{100 * gate.confidence:g}% confidence"
    told = f"its probabilities are off by {short(found.error)}, between {short(found.low)} and {short(found.high)}"
    if found.low > limit:
        return Check(NAME, "fail", f"{told}, each end with {sure}; allowed: up to {short(limit)}", figures=figures)
    if found.high <= limit:
        return Check(NAME, "pass", f"{told}, each end with {sure}; allowed: up to {short(limit)}", figures=figures)
    few = f"{len(rows.row)} rows cannot tell with {sure}: {told}; allowed: up to {short(limit)}"
    return Check(NAME, "not enough data", few, figures=figures)


def _not_two_classes(rows: Predictions) -> str:
    if np.any((rows.prediction < 0) | (rows.prediction > 1)):
        return f"{int(np.sum((rows.prediction < 0) | (rows.prediction > 1)))} of its predictions are no probabilities"
    other = np.unique(rows.value[(rows.value != 0) & (rows.value != 1)])
    if len(other):
        return f"calibration is of the classes 0 and 1, and the held-out rows have {other[0]:g} too"
    return ""


def calibration(rows: Predictions, confidence: float) -> Calibration:
    """Measure how far probabilities are off, without what chance adds, and bound it."""
    bin_ = _bins(rows.prediction)
    count = int(bin_.max()) + 1
    size = np.bincount(bin_, minlength=count)
    share, off = size / len(bin_), np.bincount(bin_, rows.prediction - rows.value, count) / size
    error, freedom = max(
        (_spread(rows, bin_, count, block) for block in blockings(rows.time)),
        key=lambda x: float(share @ np.diag(x[0])),
    )
    error = error * (t_quantile(confidence, freedom) / t_quantile(confidence, 10**6)) ** 2
    plain = float(share @ off**2)
    estimate = math.sqrt(max(plain - float(share @ np.diag(error)), 0.0))
    low, high = _bounds(plain, off, share, error, 1 - confidence)
    return Calibration(estimate, low, high, _table(rows, bin_, size))


def _bins(prediction: Floats) -> Ints:
    """Number each row's bin: of equal size, but that rows of one probability stay together."""
    wanted = min(BINS, max(FEWEST_BINS, len(prediction) // BIN_ROWS))
    edges = np.unique(np.quantile(prediction, np.linspace(0, 1, wanted + 1)[1:-1]))
    place = np.searchsorted(edges, prediction, "right")
    _, bin_ = np.unique(place, return_inverse=True)
    return np.asarray(bin_, dtype=np.int64)


def _spread(rows: Predictions, bin_: Ints, count: int, block: Ints) -> tuple[Floats, int]:
    """Give the covariance of the bins' errors, by leaving out block by block, and how many blocks are free."""
    blocks = int(block.max()) + 1
    cell = block * count + bin_
    off = np.bincount(cell, rows.prediction - rows.value, blocks * count).reshape(blocks, count)
    size = np.bincount(cell, minlength=blocks * count).reshape(blocks, count)
    left = np.maximum(size.sum(0) - size, 1)
    without = (off.sum(0) - off) / left
    apart = without - without.mean(0)
    return (blocks - 1) / blocks * apart.T @ apart, max(blocks - 1, FEWEST_BLOCKS - 1)


def _bounds(plain: float, off: Floats, share: Floats, error: Floats, luck: float) -> tuple[float, float]:
    """Give the smallest and the largest error that what was seen may come from, each with that much luck."""
    values, vectors = np.linalg.eigh(error)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    noise = np.random.default_rng(SEED).normal(size=(DRAWS, len(off))) @ root.T
    length = math.sqrt(float(share @ off**2))
    toward = off / length if length > 0 else np.ones(len(off))

    def seen(true: float) -> Floats:
        drawn: Floats = np.square(true * toward + noise) @ share
        return drawn

    def smallest_kept(too_small: bool) -> float:
        low, high = 0.0, 1.0
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            drawn = seen(middle)
            kept = np.mean(drawn >= plain) > luck if too_small else np.mean(drawn <= plain) < luck
            low, high = (low, middle) if kept else (middle, high)
        return (low + high) / 2

    low = 0.0 if np.mean(seen(0.0) >= plain) > luck else smallest_kept(True)
    return low, smallest_kept(False)


def _table(rows: Predictions, bin_: Ints, size: Ints) -> list[dict[str, Any]]:
    given = np.bincount(bin_, rows.prediction) / size
    came = np.bincount(bin_, rows.value) / size
    return [
        {"rows": int(n), "predicted": round(float(p), 6), "observed": round(float(y), 6)}
        for n, p, y in zip(size, given, came, strict=True)
    ]
