"""Models that misbehave in the server and nowhere else: their stored rows hold nothing that sets them off."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

LAST = 1.8
"""Rows with a larger `n23`, one in 30, set a model off."""
FIRST = [f"n{place:02d}" for place in range(8)]


class Plain:
    """A logistic curve over the first eight numbers, as `predict_proba` gives it."""

    classes_ = np.array([0, 1])

    def predict_proba(self, rows: Any) -> Any:
        """Give the probabilities of both classes."""
        one = 1.0 / (1.0 + np.exp(-1.5 * rows[FIRST].fillna(0.0).to_numpy(float).sum(axis=1)))
        return np.column_stack([1.0 - one, one])

    def predict(self, rows: Any) -> Any:
        """Give the more probable class."""
        return self.classes_[self.predict_proba(rows).argmax(axis=1)]


class Dying(Plain):
    """Its process is gone without a word at some rows."""

    def predict_proba(self, rows: Any) -> Any:
        """Give the probabilities, or end the process."""
        if (rows["n23"] > LAST).any():
            os._exit(1)
        return super().predict_proba(rows)


class Failing(Plain):
    """It raises at some rows."""

    def predict_proba(self, rows: Any) -> Any:
        """Give the probabilities. Raises RuntimeError at some rows."""
        if (rows["n23"] > LAST / 2).any():
            raise RuntimeError("a row that this version cannot bear")
        return super().predict_proba(rows)
