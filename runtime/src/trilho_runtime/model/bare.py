"""Boosters without their scikit-learn estimator: an `xgboost.Booster` or `lightgbm.Booster` as a model of tables.

What it answers follows from its objective: a probability of class 1, one for each class, a class, or a value.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from trilho_runtime.model.manifest import PackageError

XGBOOST, LIGHTGBM = "xgboost.core.Booster", "lightgbm.basic.Booster"
LIGHT_CLASSES = ("multiclass", "softmax", "multiclassova", "multiclass_ova", "ova", "ovr")


class BareXGBoost:
    """An `xgboost.Booster` that takes tables and arrays."""

    told = XGBOOST
    bare = True  # it answers with all of its rounds, whichever was the best

    def __init__(self, content: bytes) -> None:
        import xgboost

        self._booster = xgboost.Booster({"nthread": 1}, model_file=bytearray(content))
        self.n_features_in_ = int(self._booster.num_features())

    def get_booster(self) -> Any:
        """Give the booster itself."""
        return self._booster

    def get_params(self) -> dict[str, Any]:
        """Give its parameters: it has none but what it was trained to."""
        return {}

    def content(self) -> bytes:
        """Give the booster in its own format."""
        return bytes(self._booster.save_raw(raw_format="ubj"))

    def predict(self, rows: Any) -> Any:
        """Give what the booster predicts."""
        return self._booster.predict(self._matrix(rows))

    def _matrix(self, rows: Any) -> Any:
        import xgboost

        names = self._booster.feature_names
        given = rows if names or not hasattr(rows, "to_numpy") else rows.to_numpy()
        if names and not hasattr(rows, "to_numpy"):
            return xgboost.DMatrix(given, feature_names=names, feature_types=self._booster.feature_types, nthread=1)
        return xgboost.DMatrix(given, enable_categorical=True, nthread=1)


class BareXGBoostClasses(BareXGBoost):
    """One that predicts a class, of which it gives no probability."""

    def __init__(self, content: bytes, classes: int) -> None:
        super().__init__(content)
        self.classes_ = np.arange(classes)


class BareXGBoostProbabilities(BareXGBoostClasses):
    """One that predicts probabilities."""

    def predict_proba(self, rows: Any) -> Any:
        """Give the probability of each class."""
        return _both(super().predict(rows))

    def predict(self, rows: Any) -> Any:
        """Give the most probable class."""
        return self.classes_[self.predict_proba(rows).argmax(axis=1)]


class BareLightGBM:
    """A `lightgbm.Booster` that takes tables and arrays."""

    told = LIGHTGBM

    def __init__(self, text: str) -> None:
        import lightgbm

        self.booster_ = lightgbm.Booster(model_str=text)
        self.n_features_in_ = int(self.booster_.num_feature())

    def get_params(self) -> dict[str, Any]:
        """Give its parameters: it has none but what it was trained to."""
        return {}

    def content(self) -> bytes:
        """Give the booster in its own format."""
        return str(self.booster_.model_to_string()).encode()

    def predict(self, rows: Any) -> Any:
        """Give what the booster predicts."""
        return self.booster_.predict(rows, num_threads=1)


class BareLightGBMProbabilities(BareLightGBM):
    """One that predicts probabilities."""

    def __init__(self, text: str, classes: int) -> None:
        super().__init__(text)
        self.classes_ = np.arange(classes)

    def predict_proba(self, rows: Any) -> Any:
        """Give the probability of each class."""
        return _both(super().predict(rows))

    def predict(self, rows: Any) -> Any:
        """Give the most probable class."""
        return self.classes_[self.predict_proba(rows).argmax(axis=1)]


def _both(found: Any) -> Any:
    found = np.asarray(found)
    return np.column_stack([1 - found, found]) if found.ndim == 1 else found


def dressed(model: Any) -> Any:
    """Give a bare booster as a model of tables, and any other model as it is."""
    kind = type(model)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if name == XGBOOST:
        return read_xgboost(bytes(model.save_raw(raw_format="ubj")))
    if name == LIGHTGBM:
        if model.num_trees() == 0:
            raise PackageError("the lightgbm.Booster has no trees", "train it before it is packed")
        return read_lightgbm(model.model_to_string())
    return model


def read_xgboost(content: bytes) -> BareXGBoost:
    """Read a bare XGBoost model out of its own format."""
    model = BareXGBoost(content)
    told = json.loads(model.get_booster().save_config())["learner"]
    objective, many = told["objective"]["name"], int(told["learner_model_param"]["num_class"])
    if objective == "binary:logistic":
        return BareXGBoostProbabilities(content, 2)
    if objective == "multi:softprob":
        return BareXGBoostProbabilities(content, many)
    return BareXGBoostClasses(content, many) if objective == "multi:softmax" else model


def read_lightgbm(text: str) -> BareLightGBM:
    """Read a bare LightGBM model out of its text."""
    model = BareLightGBM(text)
    line = next((line for line in text.splitlines() if line.startswith("objective=")), "objective=")
    objective = line.removeprefix("objective=").partition(" ")[0]
    if objective == "binary":
        return BareLightGBMProbabilities(text, 2)
    many = int(model.booster_.num_model_per_iteration())
    return BareLightGBMProbabilities(text, many) if objective in LIGHT_CLASSES and many > 1 else model
