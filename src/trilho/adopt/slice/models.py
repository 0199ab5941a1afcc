"""The supervised models that a notebook fitted: objects, their fits, and what they are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from trilho.adopt.slice.history import History
from trilho.adopt.trace import Fit, Object, Predict

ASKED = {"predict", "predict_proba", "decision_function", "predict_log_proba", "score", "inplace_predict"}
PREDICTORS = re.compile(
    r"(Classifier|Regressor|Regression|RegressionCV|SV[CR]|Ridge|RidgeCV|Lasso|LassoCV|ElasticNet|ElasticNetCV|Lars"
    r"|NB|Booster|SearchCV|Perceptron|DiscriminantAnalysis|GLM|OLS|Logit|Probit|Poisson|ResultsWrapper|Results"
    r"|CalibratedClassifierCV|ClassifierCV|SGD\w+|CatBoost\w*|RLS|RANSAC\w+|NearestCentroid|IsotonicRegression)$"
)
NOT_MODELS = re.compile(r"sklearn\.(feature_selection|preprocessing|impute|decomposition|cluster|manifold|random_proj)")


@dataclass(frozen=True)
class Candidate:
    """An object that was fitted to features and a target."""

    object: int
    type: str  # full name of its class
    fits: tuple[Fit, ...]
    names: tuple[str, ...] = ()
    parts: tuple[int, ...] = ()  # objects inside it
    parameters: Mapping[str, str] | None = None  # None of an object that did not live to the end

    @property
    def last(self) -> Fit:
        """The fit that made it what it is."""
        return self.fits[-1]

    @property
    def name(self) -> str:
        """What to call it: the notebook's name, or its class's."""
        return self.names[0] if self.names else self.type.rpartition(".")[2]

    def fit_before(self, order: int) -> Fit | None:
        """Give its last fit before a moment."""
        return max((fit for fit in self.fits if fit.order < order), key=lambda fit: fit.order, default=None)


class Models:
    """The candidates of a run, and which of them an object belongs to."""

    def __init__(self, history: History) -> None:
        self.history = history
        fits: dict[int, list[Fit]] = {}
        for fit in sorted(history.trace.fits, key=lambda fit: fit.order):
            if fit.y is not None or (fit.function.startswith("statsmodels.") and ".tsa." not in fit.function):
                fits.setdefault(fit.object, []).append(fit)
        asked = {p.object for p in history.trace.predicts if p.method in ASKED} | {
            g.object for g in history.trace.golden
        }
        found = [self._candidate(id_, tuple(own)) for id_, own in fits.items()]
        self.candidates: dict[int, Candidate] = {c.object: c for c in found if _is_model(c.type, c.object in asked)}

    def owner(self, object_: int) -> Candidate | None:
        """Give the candidate that an object is, or is a part of: a search's best estimator is the search's."""
        if object_ in self.candidates:
            return self.candidates[object_]
        holders = [c for c in self.candidates.values() if object_ in c.parts]
        if holders:
            return min(holders, key=lambda c: len(c.parts))
        return self._loaded(object_)

    def is_alive(self, candidate: Candidate) -> bool:
        """Say whether an object was there when the notebook ended."""
        return candidate.object in self.history.objects

    def outermost(self, objects: Iterable[int]) -> list[Candidate]:
        """Give the candidates among some objects, without those that are parts of others."""
        found = {c.object: c for c in (self.owner(o) for o in objects) if c is not None}
        inner = {part for c in found.values() for part in c.parts}
        return [c for c in found.values() if c.object not in inner or c.object in c.parts]

    def kin(self, one: Candidate, other: Candidate) -> bool:
        """Say whether two are the same kind of model: of one class, and for a pipeline of the same parts."""
        return self._shape(one) == self._shape(other)

    def likeness(self, one: Candidate, other: Candidate) -> float:
        """Give the share of their parameters that is equal."""
        first, second = one.parameters or {}, other.parameters or {}
        keys = set(first) | set(second)
        return sum(first.get(key) == second.get(key) for key in keys) / len(keys) if keys else 0.5

    def _shape(self, candidate: Candidate) -> tuple[str, ...]:
        parts = [self.history.objects[p].type for p in candidate.parts if p in self.history.objects]
        steps = re.findall(r"\b([A-Z]\w+)\(", (candidate.parameters or {}).get("steps", ""))
        return (candidate.type, *(sorted(set(steps)) or sorted(parts)))

    def _candidate(self, id_: int, fits: tuple[Fit, ...]) -> Candidate:
        seen: Object | None = self.history.objects.get(id_)
        if seen is not None:
            return Candidate(id_, seen.type, fits, tuple(seen.names), tuple(seen.parts), seen.parameters)
        return Candidate(id_, fits[-1].function.rpartition(".")[0], fits)

    def _loaded(self, object_: int) -> Candidate | None:
        """Give what a model without a fit of its own was read back from: the one of its class and parameters."""
        seen = self.history.objects.get(object_)
        same = [
            c for c in self.candidates.values()
            if seen is not None and c.type == seen.type and (c.parameters or {}) == seen.parameters
        ]  # fmt: skip
        return same[-1] if len(same) == 1 else None


def held_out(predict: Predict, fit: Fit) -> bool:
    """Say whether a model was asked about other rows than it was fitted to."""
    if predict.X is None or fit.X is None:
        return True
    first, second = predict.X.value, fit.X.value
    if first.digest and first.digest == second.digest:
        return False
    return predict.X.source != fit.X.source or (first.rows, first.digest) != (second.rows, second.digest)


def _is_model(type_: str, asked: bool) -> bool:
    return not NOT_MODELS.match(type_) and (asked or PREDICTORS.search(type_) is not None)
