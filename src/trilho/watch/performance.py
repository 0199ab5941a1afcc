"""A metric with its interval, from predictions and the values that came true.

The intervals are 95%, for rows that do not depend on each other: a mean's by its standard error, the accuracy's by
Wilson, the AUC's by DeLong's variance. They are shown; decisions are made by the loss detector and the gate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Z = 1.959964
LARGEST = 1e30  # a model that answers with more is as wrong as can be, and sums of squares must stay numbers
METRICS = ("mae", "rmse", "roc_auc", "brier", "log_loss", "accuracy")


@dataclass(frozen=True)
class Measure:
    """A metric on some rows; `value` is None where it is not defined (no rows; an AUC of one class), and the interval
    where there is only one."""

    value: float | None
    low: float | None
    high: float | None
    rows: int


def measure(metric: str, prediction: Floats, value: Floats) -> Measure:
    """Measure predictions; for classification these are probabilities of class 1 and values 0 or 1.

    >>> measure("mae", np.array([1.0, 2.0]), np.array([2.0, 4.0])).value
    1.5
    """
    if metric not in METRICS:
        raise ValueError(f"metric {metric!r}; known: {', '.join(METRICS)}")
    prediction, value = np.asarray(prediction, np.float64), np.asarray(value, np.float64)
    known = np.isfinite(prediction) & np.isfinite(value)
    prediction, value = prediction[known], value[known]
    rows = len(value)
    if rows == 0:
        return Measure(None, None, None, 0)
    found = _measure(metric, prediction, value)
    return found if rows > 1 else Measure(found.value, None, None, rows)


def _measure(metric: str, prediction: Floats, value: Floats) -> Measure:
    rows = len(value)
    if metric == "roc_auc":
        return _roc_auc(prediction, value)
    if metric == "accuracy":
        return _accuracy(prediction, value)
    return mean_of(metric, *_mean(losses(metric, prediction, value)), rows)


def mean_of(metric: str, mean: float, error: float, rows: int) -> Measure:
    """Give a metric whose losses have a mean, and that mean a standard error."""
    if metric == "rmse":
        return Measure(mean**0.5, max(mean - Z * error, 0.0) ** 0.5, (mean + Z * error) ** 0.5, rows)
    return Measure(mean, max(mean - Z * error, 0.0), mean + Z * error, rows)


def losses(metric: str, prediction: Floats, value: Floats) -> Floats:
    """Give each row's loss; the metric (for rmse, its square) is their mean."""
    prediction, value = np.clip(prediction, -LARGEST, LARGEST), np.clip(value, -LARGEST, LARGEST)
    if metric == "mae":
        return np.abs(value - prediction)
    if metric == "log_loss":
        p = np.clip(prediction, 1e-15, 1 - 1e-15)
        return np.asarray(-(value * np.log(p) + (1 - value) * np.log(1 - p)))
    return np.asarray((value - prediction) ** 2)


def _mean(x: Floats) -> tuple[float, float]:
    return float(x.mean()), float(x.std(ddof=1)) / len(x) ** 0.5 if len(x) > 1 else 0.0


def _accuracy(prediction: Floats, value: Floats) -> Measure:
    return accuracy_of(int(((prediction >= 0.5) == (value >= 0.5)).sum()), len(value))


def accuracy_of(rights: int, n: int) -> Measure:
    """Give the accuracy of so many right ones among so many, with Wilson's interval."""
    right = rights / n
    middle = (right + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * (right * (1 - right) / n + Z**2 / (4 * n**2)) ** 0.5
    return Measure(right, min(middle - half, right), max(middle + half, right), n)


def _roc_auc(prediction: Floats, value: Floats) -> Measure:
    """Rank, then DeLong: the variance of each row's share of pairs won, over both classes."""
    positive, negative = np.sort(prediction[value >= 0.5]), np.sort(prediction[value < 0.5])
    if not len(positive) or not len(negative):
        return Measure(None, None, None, len(value))
    won = _below(negative, positive) / len(negative)
    lost = 1 - _below(positive, negative) / len(positive)
    area = float(won.mean())
    variance = sum(float(x.var(ddof=1)) / len(x) if len(x) > 1 else 0.25 for x in (won, lost))
    half = Z * variance**0.5
    return Measure(area, max(area - half, 0.0), min(area + half, 1.0), len(value))


def _below(among: Floats, values: Floats) -> Floats:
    """Count for each value how many lie below it; equal ones count half."""
    return np.asarray((np.searchsorted(among, values, "left") + np.searchsorted(among, values, "right")) / 2)
