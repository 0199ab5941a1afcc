"""Stages that fell back: the original fitted object, found by its place in the model, on a table of its columns."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.compiled.flow import Flow, Unlike, original_of, runtime_of
from trilho_runtime.compiled.node import Node

Floats = NDArray[np.float64]
SCORES = "scores"


def located(model: Any, place: str) -> Any:
    """Give the object at a place in a model, such as "steps.0.1": a number is a position, a name an attribute.

    >>> located({"a": 1}.items(), ""), located(slice(1, 2), "stop")
    (dict_items([('a', 1)]), 2)
    """
    for part in filter(None, place.split(".")):
        model = model[int(part)] if part.isdigit() else getattr(model, part)
    return model


class Loaded:
    """The original model, unpickled when it is first asked for."""

    def __init__(self, original: Callable[[], Any]) -> None:
        self._original = original
        self._model: Any = None

    def __call__(self, place: str) -> Any:
        """Give the original object at a place."""
        if self._model is None:
            self._model = self._original()
        return located(self._model, place)


@dataclass(eq=False)
class Original(Node):
    """A transformer that fell back."""

    place: str
    before: Flow
    after: Flow

    def __post_init__(self) -> None:
        self.loaded: Loaded | None = None
        self._stage: Any = None

    @property
    def stage(self) -> Any:
        """Give the original object."""
        if self._stage is None:
            if self.loaded is None:
                raise RuntimeError(f"{self.place} was not told where the original model is")
            self._stage = self.loaded(self.place)
        return self._stage

    def __call__(self, x: Any) -> Any:
        """Transform with the original. Raises Unlike where it gives another kind of table than it gave before."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return runtime_of(self.stage.transform(original_of(x, self.before)), self.after)


@dataclass(eq=False)
class OriginalEstimator(Original):
    """An estimator that fell back, or the whole model; inside another one it is asked by a method."""

    how: str = SCORES

    def __call__(self, x: Any) -> NDArray[Any]:
        """Give the original's answers."""
        return answers_of(self.stage, original_of(x, self.before), self.how)


def answers_of(estimator: Any, table: Any, how: str) -> NDArray[Any]:
    """Give what a method of an estimator says of a table, or its scores."""
    if how == SCORES:
        return scores_of(estimator, table)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(getattr(estimator, how)(table))


def scores_of(estimator: Any, table: Any) -> Floats:
    """Give an estimator's scores of a table, in the one shape that all of the runtime agrees on.

    Values and probabilities of class 1 are (rows,), other probabilities (rows, classes); a class without
    probabilities is itself where classes are numbers, else its place among them.
    """
    from trilho_runtime.compiled.estimators import outputs_of

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kind, classes = outputs_of(estimator)
        if kind == "value":
            return _single(np.asarray(estimator.predict(table), np.float64))
        if kind == "class":
            found = np.asarray(estimator.predict(table)).tolist()
            numbers = all(isinstance(c, int | float) for c in classes)
            return np.array([c if numbers else classes.index(c) for c in found], np.float64)
        chances = np.asarray(estimator.predict_proba(table), np.float64)
    return np.ascontiguousarray(chances[:, 1]) if kind == "probability" else chances


def _single(found: Floats) -> Floats:
    if found.ndim == 2 and found.shape[1] == 1:
        return found[:, 0]
    if found.ndim != 1:
        raise Unlike(f"a prediction of shape {found.shape}; one number a row is wanted")
    return found
