"""Estimators that are made of whole pipelines: which ones they ask, and what is made of the answers."""

from __future__ import annotations

from typing import Any, NamedTuple

from trilho_runtime.compiled import NotCompiled
from trilho_runtime.compiled.composed import Members, Slot, compile_calibrated, compile_stack, compile_vote, thawed
from trilho_runtime.compiled.estimators import CompiledEstimator, outputs_of

PIPELINES = ("Pipeline", "ColumnTransformer", "TransformedTargetRegressor", "GridSearchCV", "RandomizedSearchCV")
ENSEMBLES = {
    **dict.fromkeys(("sklearn.VotingClassifier", "sklearn.VotingRegressor"), compile_vote),
    **dict.fromkeys(("sklearn.StackingClassifier", "sklearn.StackingRegressor"), compile_stack),
    "sklearn.CalibratedClassifierCV": compile_calibrated,
}


class Member(NamedTuple):
    """One of the pipelines: itself, its place in the ensemble, its name, and the method by which it is asked."""

    fitted: Any
    at: str
    label: str
    how: str


def holds_pipelines(model: Any, kind: str) -> bool:
    """Say whether an ensemble is made of models that take tables, and so must be compiled one by one."""
    return kind in ENSEMBLES and any(_is_whole(fitted) for fitted in _fitted(model))


def _is_whole(fitted: Any) -> bool:
    name = type(fitted).__qualname__
    kind = f"{type(fitted).__module__.partition('.')[0]}.{name}"
    return name in PIPELINES or (kind in ENSEMBLES and holds_pipelines(fitted, kind))


def _fitted(model: Any) -> list[Any]:
    if hasattr(model, "calibrated_classifiers_"):
        return [thawed(one.estimator) for one in model.calibrated_classifiers_]
    return list(model.estimators_)


def members_of(model: Any) -> list[Member]:
    """Give an ensemble's pipelines. Raises NotCompiled where one is asked for classes."""
    fitted = _fitted(model)
    if hasattr(model, "calibrated_classifiers_"):
        how = "decision_function" if hasattr(fitted[0], "decision_function") else "predict_proba"
        frozen = [one.estimator is not inner for one, inner in zip(model.calibrated_classifiers_, fitted, strict=True)]
        tails = ["estimator.estimator" if cold else "estimator" for cold in frozen]
        return [
            Member(one, f"calibrated_classifiers_.{i}.{tail}", str(i), how)
            for i, (one, tail) in enumerate(zip(fitted, tails, strict=True))
        ]
    usual = "predict_proba" if hasattr(model, "classes_") else "predict"
    methods = list(getattr(model, "stack_method_", [usual] * len(fitted)))
    labels = [name for name, one in model.estimators if not isinstance(one, str)]
    if any(how == "predict" and hasattr(one, "classes_") for one, how in zip(fitted, methods, strict=True)):
        raise NotCompiled(f"{type(model).__name__} asks its members for classes")
    rows = enumerate(zip(fitted, labels, methods, strict=True))
    return [Member(one, f"estimators_.{i}", label, how) for i, (one, label, how) in rows]


def compile_mixer(model: Any, count: int) -> CompiledEstimator:
    """Give what an ensemble makes of so many members' answers, which are given instead of a matrix."""
    kind = f"sklearn.{type(model).__qualname__}"
    slots: Members = [Slot(place) for place in range(count)]
    evaluator = ENSEMBLES[kind](model, False, slots)
    return CompiledEstimator(evaluator, outputs_of(model, evaluator), None)
