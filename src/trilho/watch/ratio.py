"""How much more often the like of each held-out row is served today: by trees that tell both apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trilho.watch.boosting import Rows, cross_fit, folds

Floats = NDArray[np.float64]
Bins = NDArray[np.uint8]
LARGEST = 50.0
SCORE_BINS = 32


class ScoreBins:
    """Bins of the model's score or prediction, which trees take for one more column."""

    def __init__(self, scores: Floats) -> None:
        self._ends = np.unique(np.quantile(scores, np.linspace(0, 1, SCORE_BINS + 1)[1:-1]))

    def beside(self, scores: Floats, bins: Bins) -> Bins:
        """Put the score's bin before the others."""
        return np.column_stack([np.searchsorted(self._ends, scores).astype(np.uint8), bins])


def density_ratio(held: Bins, served: Bins, ordered: Sequence[bool]) -> Floats:
    """Give each held-out row's ratio, by trees that never saw the row; 1 on average."""
    bins = np.concatenate([held, served])
    origin = np.repeat([0.0, 1.0], [len(held), len(served)])
    weight = np.repeat([1.0, len(held) / len(served)], [len(held), len(served)])
    fold = np.concatenate([folds(len(held)), folds(len(served))])
    found = cross_fit("logistic", Rows(bins, origin, np.zeros(len(bins)), weight), ordered, fold)
    ratio = np.exp(np.clip(found.unseen[: len(held)], -np.log(LARGEST), np.log(LARGEST)))
    return np.asarray(ratio / ratio.mean())
