"""Metrics that are to be expected of predictions, when for each row the chances of what may come true are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
SMALLEST = 1e-15
THRESHOLD = 0.5
OF_CHANCES = ("accuracy", "roc_auc", "brier", "log_loss", "f1", "precision", "recall")


class TwoClasses:
    """Rows with a score each; asked for a metric once a chance of class 1 is given for each."""

    def __init__(self, metric: str, scores: Floats, threshold: float = THRESHOLD) -> None:
        if metric not in OF_CHANCES:
            raise ValueError(f"metric {metric!r}; known: {', '.join(OF_CHANCES)}")
        self.metric, self.said = metric, scores >= threshold
        clipped = np.clip(scores, SMALLEST, 1 - SMALLEST)
        of_one, of_zero = {
            "log_loss": (-np.log(clipped), -np.log1p(-clipped)),
            "brier": ((1 - scores) ** 2, scores**2),
        }.get(metric, (self.said * 1.0, ~self.said * 1.0))
        self._one, self._zero = of_one, of_zero
        if metric == "roc_auc":
            self.order = np.argsort(scores, kind="stable")
            ranked = scores[self.order]
            self._ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))

    def of(self, chance: Floats, weight: Floats | None = None) -> float | None:
        """Give the metric; None where it is not defined. A label of 0 or 1 is a chance too, a row may have a weight."""
        if not len(chance):
            return None
        weight = np.ones(len(chance)) if weight is None else weight
        if self.metric == "roc_auc":
            return self._area(chance[self.order], weight[self.order])
        if self.metric in ("f1", "precision", "recall"):
            right, said = float((weight * chance)[self.said].sum()), float(weight[self.said].sum())
            ones = float(weight @ chance)
            over = {"f1": (said + ones) / 2, "precision": said, "recall": ones}[self.metric]
            return right / over if over > 0 else None
        total = float(weight.sum())
        return float(weight @ (chance * self._one + (1 - chance) * self._zero)) / total if total > 0 else None

    def _area(self, chance: Floats, weight: Floats) -> float | None:
        """Give the chance that a row of class 1 outranks one of class 0; a row is no pair with itself."""
        ones, zeros = (np.diff(x.cumsum()[self._ends], prepend=0.0) for x in (weight * chance, weight * (1 - chance)))
        own = np.diff((weight**2 * chance * (1 - chance)).cumsum()[self._ends], prepend=0.0)
        won = float((ones * (zeros.cumsum() - zeros / 2)).sum() - own.sum() / 2)
        pairs = float(ones.sum() * zeros.sum() - own.sum())
        return min(max(won / pairs, 0.0), 1.0) if pairs > 0 else None


class ManyClasses:
    """Rows with the shares of several classes; the AUC and the F1 are means over classes, each against the others."""

    def __init__(self, metric: str, shares: Floats) -> None:
        self.metric, self.said, self._shares = metric, shares.argmax(axis=1), shares
        self._each = [TwoClasses("roc_auc", one) for one in shares.T] if metric == "roc_auc" else []

    def of(self, chance: Floats) -> float | None:
        """Give the metric of rows with such chances, one for each class."""
        if not len(chance):
            return None
        if self.metric == "accuracy":
            return float(chance[np.arange(len(chance)), self.said].mean())
        if self.metric == "log_loss":
            return float(-(chance * np.log(np.clip(self._shares, SMALLEST, 1.0))).sum(axis=1).mean())
        if self.metric == "brier":
            apart = (self._shares**2).sum(axis=1, keepdims=True) - 2 * self._shares + 1
            return float((chance * apart).sum(axis=1).mean() / 2)
        if self.metric == "roc_auc":
            found = [one.of(column) for one, column in zip(self._each, chance.T, strict=True)]
        else:
            found = [self._of_class(k, chance[:, k]) for k in range(chance.shape[1])]
        known = [x for x in found if x is not None]
        return float(np.mean(known)) if known else None

    def _of_class(self, place: int, chance: Floats) -> float | None:
        said, right = self.said == place, float(chance[self.said == place].sum())
        over = {"f1": (said.sum() + chance.sum()) / 2, "precision": said.sum(), "recall": chance.sum()}[self.metric]
        return right / float(over) if over > 0 else None


Metric = Callable[[Floats], float | None]


def drawn(chance: Floats, rng: np.random.Generator) -> Floats:
    """Let the labels come true: one draw for each row, of two classes or of several."""
    if chance.ndim == 1:
        return (rng.random(len(chance)) < chance).astype(np.float64)
    reached = chance.cumsum(axis=1) / np.maximum(chance.sum(axis=1, keepdims=True), SMALLEST)
    place = (rng.random(len(chance))[:, None] > reached[:, :-1]).sum(axis=1)
    found: Floats = (place[:, None] == np.arange(chance.shape[1])).astype(np.float64)
    return found
