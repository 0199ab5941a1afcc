"""A metric of rows that come some at a time: exact while they are few, in constant memory when they are millions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trilho.watch.performance import METRICS, Measure, Z, accuracy_of, losses, mean_of, measure

Floats = NDArray[np.float64]
EXACT_ROWS = 500_000
BINS = 2**18


class Measuring:
    """Adds up predictions and the values that came true.

    Up to EXACT_ROWS are kept and measured as they are. Beyond, a mean loss is added up, which is as exact; the AUC
    takes probabilities of the same 262,144th for equal.
    """

    def __init__(self, metric: str) -> None:
        if metric not in METRICS:
            raise ValueError(f"metric {metric!r}; known: {', '.join(METRICS)}")
        self.metric = metric
        self._kept: list[tuple[Floats, Floats]] = []
        self._rows = 0
        self._sums: _Sums | _Ranks | None = None

    def add(self, prediction: Floats, value: Floats) -> None:
        """Take in rows; those without a value say nothing."""
        prediction, value = np.asarray(prediction, np.float64), np.asarray(value, np.float64)
        known = np.isfinite(prediction) & np.isfinite(value)
        if known.any():
            self._kept.append((prediction[known], value[known]))
            self._rows += int(known.sum())
        if self._rows > EXACT_ROWS:
            self._fold()

    def result(self) -> Measure:
        """Give the metric, its interval and how many rows had a value."""
        if self._sums is None:
            empty = np.zeros(0)
            prediction, value = (np.concatenate([empty, *column]) for column in zip(*self._kept, strict=True)) if (
                self._kept) else (empty, empty)  # fmt: skip
            return measure(self.metric, prediction, value)
        self._fold()
        return self._sums.result()

    def _fold(self) -> None:
        if self._sums is None:
            self._sums = _Ranks() if self.metric == "roc_auc" else _Sums(self.metric)
        for prediction, value in self._kept:
            self._sums.add(prediction, value)
        self._kept, self._rows = [], 0


class _Sums:
    """A mean, its spread, and how many were right."""

    def __init__(self, metric: str) -> None:
        self._metric = metric
        self._rows, self._right, self._mean, self._spread = 0, 0, 0.0, 0.0

    def add(self, prediction: Floats, value: Floats) -> None:
        """Add rows up, each group by its distance from the mean, so that nothing is lost to large numbers."""
        if self._metric == "accuracy":
            self._right += int(((prediction >= 0.5) == (value >= 0.5)).sum())
            self._rows += len(value)
            return
        lost = losses(self._metric, prediction, value)
        rows, mean = self._rows + len(lost), float(lost.mean())
        apart = mean - self._mean
        self._spread += float(((lost - mean) ** 2).sum()) + apart**2 * self._rows * len(lost) / rows
        self._mean += apart * len(lost) / rows
        self._rows = rows

    def result(self) -> Measure:
        """Give the metric."""
        if self._metric == "accuracy":
            return accuracy_of(self._right, self._rows)
        return mean_of(self._metric, self._mean, (self._spread / (self._rows - 1) / self._rows) ** 0.5, self._rows)


class _Ranks:
    """How many of each class had which probability."""

    def __init__(self) -> None:
        self._positive, self._negative = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)

    def add(self, prediction: Floats, value: Floats) -> None:
        """Count rows."""
        place = (np.clip(prediction, 0, 1) * (BINS - 1)).round().astype(np.int64)
        yes = value >= 0.5
        self._positive += np.bincount(place[yes], minlength=BINS)
        self._negative += np.bincount(place[~yes], minlength=BINS)

    def result(self) -> Measure:
        """Give the AUC with DeLong's variance, as `measure` does it, of counted rows."""
        positive, negative = self._positive.astype(np.float64), self._negative.astype(np.float64)
        p, n = float(positive.sum()), float(negative.sum())
        if not p or not n:
            return Measure(None, None, None, int(p + n))
        won = (np.cumsum(negative) - negative / 2) / n
        lost = 1 - (np.cumsum(positive) - positive / 2) / p
        area = float((won * positive).sum() / p)
        variance = sum(_variance(share, count) for share, count in ((won, positive), (lost, negative)))
        half = Z * variance**0.5
        return Measure(area, max(area - half, 0.0), min(area + half, 1.0), int(p + n))


def _variance(share: Floats, count: Floats) -> float:
    """Give the variance of a mean of counted values."""
    rows = float(count.sum())
    mean = float((share * count).sum() / rows)
    return float((count * (share - mean) ** 2).sum() / (rows - 1) / rows) if rows > 1 else 0.25
