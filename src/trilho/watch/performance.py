"""A metric with its interval, from predictions and the values that came true.

The intervals are 95%, for rows that do not depend on each other: a mean's by its standard error, the accuracy's by
Wilson, the AUC's by DeLong's variance. They are shown; decisions are made by the loss detector and the gate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Z = 1.959964
LARGEST = 1e30  # a model that answers with more is as wrong as can be, and sums of squares must stay numbers
MOST_SLICES = 50
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
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


def measure_slices(
    metric: str, prediction: Floats, value: Floats, columns: Mapping[str, NDArray[Any]], fewest: int = 30
) -> dict[str, Measure]:
    """Measure the rows of each value of some columns, by "column=value", those of most labelled rows first.

    Values of fewer labelled rows than `fewest` are left out, and of one column all but its 50 most frequent.

    >>> found = measure_slices("mae", np.ones(60), np.repeat([1.0, 3.0], 30), {"c": np.repeat(["a", "b"], 30)})
    >>> {name: one.value for name, one in found.items()}
    {'c=a': 0.0, 'c=b': 2.0}
    """
    prediction, value = np.asarray(prediction, np.float64), np.asarray(value, np.float64)
    known = np.isfinite(prediction) & np.isfinite(value)
    found: dict[str, Measure] = {}
    for name, column in columns.items():
        texts = np.array([str(x) for x in np.asarray(column)[known].tolist()], object)
        values, place, rows = np.unique(texts.astype(str), return_inverse=True, return_counts=True)
        for k in np.argsort(-rows, kind="stable")[:MOST_SLICES].tolist():
            if rows[k] >= fewest:
                found[f"{name}={values[k]}"] = measure(metric, prediction[known][place == k], value[known][place == k])
    return dict(sorted(found.items(), key=lambda item: -item[1].rows))


def measure_shares(metric: str, shares: Floats, known: NDArray[np.int64]) -> Measure:
    """Measure the probabilities of several classes against the places of those that came true; -1 is none of them.

    The AUC is the mean over classes, each against the others (Hand and Till's is over pairs); its interval takes their
    variances for dependent, so that it is rather too wide.

    >>> measure_shares("accuracy", np.array([[0.7, 0.3], [0.4, 0.6]]), np.array([0, 0])).value
    0.5
    """
    if metric not in ("accuracy", "log_loss", "brier", "roc_auc"):
        raise ValueError(f"metric {metric!r} of several classes; known: accuracy, log_loss, brier, roc_auc")
    rows = len(known)
    if not rows:
        return Measure(None, None, None, 0)
    if metric == "accuracy":
        return accuracy_of(int((shares.argmax(axis=1) == known).sum()), rows)
    if metric == "roc_auc":
        return _mean_area(shares, known)
    truth = known[:, None] == np.arange(shares.shape[1])
    if metric == "brier":
        lost = (((shares - truth) ** 2).sum(axis=1) + (known < 0)) / 2
    else:
        lost = -np.log(np.clip((shares * truth).sum(axis=1), 1e-15, 1.0))
    found = mean_of(metric, *_mean(np.asarray(lost)), rows)
    return found if rows > 1 else Measure(found.value, None, None, rows)


def _mean_area(shares: Floats, known: NDArray[np.int64]) -> Measure:
    each = [measure("roc_auc", column, (known == k) * 1.0) for k, column in enumerate(shares.T)]
    told = [(m.value, m.low, m.high) for m in each if m.value is not None and m.low is not None and m.high is not None]
    if not told:
        return Measure(None, None, None, len(known))
    value, low, high = (float(x) for x in np.mean(told, axis=0))
    return Measure(value, low, high, len(known))


def progress(served: int, labelled: int, until: str | None) -> str:
    """Say how far labels have come: what share of the rows, and up to when all of them.

    >>> progress(200, 184, "2026-10-23T00:00:00Z"), progress(5, 0, None), progress(1000, 999, None)
    ('labelled 92% to 23 Oct', 'no labels yet', 'labelled 99%')
    """
    if not served or not labelled:
        return "no labels yet" if served else "nothing served yet"
    share = "under 1%" if 100 * labelled < served else f"{100 * labelled // served}%"
    if until is None:
        return f"labelled {share}"
    day = datetime.fromisoformat(until)
    return f"labelled {share} to {day.day} {MONTHS[day.month - 1]}"


def against(found: Measure, minimum: float, higher: bool) -> Literal["met", "missed", "unsure"]:
    """Hold a metric against what is the least acceptable of it: it is missed when its whole interval is beyond.

    >>> against(Measure(0.7, 0.66, 0.74, 900), 0.75, higher=True)
    'missed'
    """
    if found.low is None or found.high is None:
        return "unsure"
    worst, best = (found.low, found.high) if higher else (-found.high, -found.low)
    least = minimum if higher else -minimum
    return "missed" if best < least else "met" if worst >= least else "unsure"
