"""The code of a team's own that some of the models in test_unseen_models.py hold."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin


class Ratio(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Adds one column divided by another, and what was usual where that is unknown."""

    def fit(self, table: pd.DataFrame, y: Any = None) -> Ratio:
        self.usual_ = float((table["income"] / table["age"]).median())
        return self

    def transform(self, table: pd.DataFrame) -> pd.DataFrame:
        ratio = (table["income"] / table["age"]).fillna(self.usual_)
        return table.assign(ratio=ratio)


class Frequency(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Replaces a text by how often it was seen."""

    def fit(self, table: pd.DataFrame, y: Any = None) -> Frequency:
        self.seen_ = {name: table[name].value_counts(normalize=True).to_dict() for name in table.columns}
        return self

    def transform(self, table: pd.DataFrame) -> NDArray[np.float64]:
        columns = [table[name].map(self.seen_[name]).astype(float).fillna(0.0) for name in table.columns]
        return np.column_stack([column.to_numpy() for column in columns])


class Balanced:
    """Fits its model to as many rows of one class as of the other; no scikit-learn class."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def fit(self, table: pd.DataFrame, y: NDArray[Any]) -> Balanced:
        few, many = sorted((np.flatnonzero(y == label) for label in np.unique(y)), key=len)
        rows = np.concatenate([few, np.random.default_rng(0).choice(many, len(few), replace=False)])
        self.inner.fit(table.iloc[rows], y[rows])
        return self

    @property
    def classes_(self) -> NDArray[Any]:
        return np.asarray(self.inner.classes_)

    def predict(self, table: pd.DataFrame) -> NDArray[Any]:
        return np.asarray(self.inner.predict(table))

    def predict_proba(self, table: pd.DataFrame) -> NDArray[np.float64]:
        return np.asarray(self.inner.predict_proba(table), np.float64)


def calendar(table: pd.DataFrame) -> pd.DataFrame:
    """Make features of a time and two numbers."""
    at = table["at"].dt
    parts = pd.DataFrame({"hour": at.hour, "day": at.dayofweek, "month": at.month}, dtype="float64")
    return cast(pd.DataFrame, parts.assign(age=table["age"], visits=table["visits"].astype("float64")))
