"""Estimators that are made of others: votes, bags, stacks and calibrated classifiers over compiled ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.compiled import BIT_EQUAL, CLOSE, NotCompiled
from trilho_runtime.compiled.evaluator import (
    Evaluator,
    Floats,
    Parts,
    Read,
    check_single,
    expit,
    joined,
    part_of,
)

Compile = Callable[[Any, bool], Evaluator]
Members = list[Evaluator] | None
Restore = Callable[[Mapping[str, Any], Mapping[str, NDArray[Any]], Read], Evaluator]


def _compile(estimator: Any, sparse: bool) -> Evaluator:
    from trilho_runtime.compiled.estimators import evaluator_of

    return evaluator_of(estimator, sparse)


def _members(spec: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], read: Read) -> list[Evaluator]:
    from trilho_runtime.compiled.estimators import restore_evaluator

    return [restore_evaluator(one, *part_of(key, arrays, read)) for key, one in spec["of"].items()]


def _parts(members: Sequence[Evaluator], spec: Mapping[str, Any]) -> Parts:
    from trilho_runtime.compiled.estimators import parts_of

    return joined({str(index): parts_of(member) for index, member in enumerate(members)}, spec)


@dataclass
class Slot(Evaluator):
    """A member that was asked before: its answers are one of those that are given instead of a matrix."""

    name: ClassVar[str] = "slot"
    place: int

    def __call__(self, matrix: Any) -> NDArray[Any]:
        """Give the member's answers."""
        return np.asarray(matrix[self.place])

    def margins(self, matrix: Any) -> NDArray[Any]:
        """Give the member's answers, which are of its decision function."""
        return self(matrix)


@dataclass
class Vote(Evaluator):
    """The mean of what several estimators say, with weights."""

    name: ClassVar[str] = "vote"
    members: list[Evaluator]
    weights: list[float] | None
    classes: bool
    exact: str = CLOSE

    def __call__(self, matrix: Floats) -> NDArray[Any]:
        """Give the weighted mean of the members' answers."""
        found = np.asarray([member(matrix) for member in self.members])
        if self.classes:
            return np.asarray(np.average(found, axis=0, weights=self.weights))
        return np.asarray(np.average(found.T, axis=1, weights=self.weights))

    def parts(self) -> Parts:
        """Give the members' parts under their places."""
        return _parts(self.members, {"weights": self.weights, "classes": self.classes, "exact": self.exact})

    @classmethod
    def restore(cls, spec: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], read: Read) -> Evaluator:
        """Make the vote out of its parts."""
        return cls(_members(spec, arrays, read), spec["weights"], spec["classes"], spec["exact"])


@dataclass
class Bag(Evaluator):
    """The mean of estimators that each saw some columns and some classes."""

    name: ClassVar[str] = "bag"
    members: list[Evaluator]
    columns: list[NDArray[np.intp]]
    seen: list[NDArray[np.intp]]  # the classes that each member knows; without classes an empty array
    classes: int  # 0 for values
    exact: str = BIT_EQUAL

    def __call__(self, matrix: Floats) -> NDArray[Any]:
        """Give the mean of the members' answers."""
        total = np.zeros((len(matrix), self.classes) if self.classes else len(matrix))
        for member, columns, seen in zip(self.members, self.columns, self.seen, strict=True):
            found = member(np.ascontiguousarray(matrix[:, columns]))
            if self.classes:
                total[:, seen] += found
            else:
                total += found
        return total / len(self.members)

    def parts(self) -> Parts:
        """Give the members' parts under their places, and their columns and classes."""
        made = _parts(self.members, {"classes": self.classes, "exact": self.exact})
        columns = {f"columns.{index}": one for index, one in enumerate(self.columns)}
        seen = {f"seen.{index}": one for index, one in enumerate(self.seen)}
        return Parts(made.spec, made.arrays | columns | seen, made.files)

    @classmethod
    def restore(cls, spec: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], read: Read) -> Evaluator:
        """Make the bag out of its parts."""
        members = _members(spec, arrays, read)
        columns, seen = ([arrays[f"{name}.{i}"] for i in range(len(members))] for name in ("columns", "seen"))
        return cls(members, columns, seen, spec["classes"], spec["exact"])


@dataclass
class Stack(Evaluator):
    """A last estimator over what others say; the last of the members is it."""

    name: ClassVar[str] = "stack"
    members: list[Evaluator]
    methods: list[str]  # how each of the others is asked
    classes: int
    passes: bool  # whether the last one sees the columns too
    exact: str = CLOSE

    def __call__(self, matrix: Floats) -> NDArray[Any]:
        """Give what the last one says."""
        said = [self._said(one, how, matrix) for one, how in zip(self.members[:-1], self.methods, strict=True)]
        return self.members[-1](np.ascontiguousarray(np.hstack([*said, matrix] if self.passes else said)))

    def _said(self, member: Evaluator, how: str, matrix: Floats) -> NDArray[Any]:
        found = member.margins(matrix) if how == "decision_function" else member(matrix)
        if found.ndim == 1:
            return found[:, None]
        return found[:, 1:] if how == "predict_proba" and self.classes == 2 else found

    def parts(self) -> Parts:
        """Give the members' parts under their places."""
        spec = {"methods": self.methods, "classes": self.classes, "passes": self.passes, "exact": self.exact}
        return _parts(self.members, spec)

    @classmethod
    def restore(cls, spec: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], read: Read) -> Evaluator:
        """Make the stack out of its parts."""
        own = {name: spec[name] for name in ("methods", "classes", "passes", "exact")}
        return cls(_members(spec, arrays, read), **own)


@dataclass
class Calibrated(Evaluator):
    """Classifiers whose margins or probabilities are mapped to probabilities, and the mean of them."""

    name: ClassVar[str] = "calibrated"
    members: list[Evaluator]
    curves: list[list[Curve]]
    places: list[list[int]]  # the class of each curve
    asks_margins: bool
    classes: int
    exact: str = CLOSE

    def __call__(self, matrix: Floats) -> NDArray[Any]:
        """Give the mean of the calibrated probabilities."""
        each = zip(self.members, self.curves, self.places, strict=True)
        made = [self._calibrated(self._asked(member, matrix), curves, places) for member, curves, places in each]
        total = np.zeros_like(made[0])
        for one in made:
            total += one
        return total / len(self.members)

    def _asked(self, member: Evaluator, matrix: Floats) -> NDArray[Any]:
        found = member.margins(matrix) if self.asks_margins else member(matrix)
        if found.ndim == 1:
            return found[:, None]
        return found if self.asks_margins or self.classes > 2 else found[:, 1:]

    def _calibrated(self, found: NDArray[Any], curves: list[Curve], places: list[int]) -> Floats:
        made = np.zeros((len(found), self.classes))
        for curve, place, column in zip(curves, places, found.T, strict=True):
            made[:, place] = curve(column)
        if self.classes == 2:
            made[:, 0] = 1 - made[:, 1]
        else:
            sums = made.sum(axis=1, keepdims=True)
            made = np.divide(made, sums, out=np.full_like(made, 1 / self.classes), where=sums != 0)
        made[(made > 1) & (made <= 1 + 1e-5)] = 1
        return made

    def parts(self) -> Parts:
        """Give the members' parts under their places, and the curves."""
        spec = {"places": self.places, "asks_margins": self.asks_margins, "classes": self.classes}
        made = _parts(self.members, {**spec, "exact": self.exact})
        arrays = {
            f"curve.{member}.{index}.{name}": value
            for member, curves in enumerate(self.curves)
            for index, curve in enumerate(curves)
            for name, value in curve.arrays().items()
        }
        return Parts(made.spec, made.arrays | arrays, made.files)

    @classmethod
    def restore(cls, spec: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], read: Read) -> Evaluator:
        """Make the calibrated classifier out of its parts."""
        places = spec["places"]
        curves = [
            [curve_of(part_of(f"curve.{member}.{index}", arrays, read)[0]) for index in range(len(own))]
            for member, own in enumerate(places)
        ]
        members = _members(spec, arrays, read)
        return cls(members, curves, places, spec["asks_margins"], spec["classes"], spec["exact"])


@dataclass
class Sigmoid:
    """A logistic curve."""

    slope: NDArray[Any]
    offset: NDArray[Any]

    def __call__(self, values: NDArray[Any]) -> Floats:
        """Give the probability at each value."""
        return expit(-(self.slope * values + self.offset))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Give the curve's numbers."""
        return {"slope": self.slope, "offset": self.offset}


@dataclass
class Isotonic:
    """A curve of straight pieces that never falls, flat outside its ends."""

    at: NDArray[Any]
    value: NDArray[Any]

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """Give the probability at each value."""
        kept = np.clip(values.astype(self.at.dtype), self.at[0], self.at[-1])
        if len(self.at) == 1 or self.at.dtype == self.value.dtype == np.float64:
            return np.asarray(np.interp(kept, self.at, self.value), kept.dtype)
        high = np.searchsorted(self.at, kept).clip(1, len(self.at) - 1)  # in single precision, as the original
        low = high - 1
        slope = (self.value[high] - self.value[low]) / (self.at[high] - self.at[low])
        return np.asarray(slope * (kept - self.at[low]) + self.value[low], kept.dtype)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Give the curve's corners."""
        return {"at": self.at, "value": self.value}


Curve = Sigmoid | Isotonic


def curve_of(arrays: Mapping[str, NDArray[Any]]) -> Curve:
    """Make a curve out of its arrays."""
    return Sigmoid(**arrays) if "slope" in arrays else Isotonic(**arrays)


def compile_vote(estimator: Any, sparse: bool, members: Members = None) -> Vote:
    """Compile a vote over regressions, or over classifiers' probabilities. Raises NotCompiled for a count of votes."""
    check_single(estimator)
    if getattr(estimator, "voting", "soft") != "soft":
        raise NotCompiled(f"{type(estimator).__name__} counts votes; only voting='soft' is compiled")
    members = members or [_compile(one, sparse) for one in estimator.estimators_]
    weights = estimator._weights_not_none
    return Vote(members, None if weights is None else [float(one) for one in weights], hasattr(estimator, "classes_"))


def compile_bag(estimator: Any, sparse: bool) -> Bag:
    """Compile a bag over compiled estimators."""
    check_single(estimator)
    classes = len(estimator.classes_) if hasattr(estimator, "classes_") else 0
    fitted = estimator.estimators_
    if classes and not all(hasattr(one, "predict_proba") for one in fitted):
        raise NotCompiled(f"{type(estimator).__name__} counts votes of classifiers without probabilities")
    members = [_compile(one, sparse) for one in fitted]
    columns = [np.asarray(one, np.intp) for one in estimator.estimators_features_]
    known = [np.asarray(one.classes_ if classes else [], np.intp) for one in fitted]
    steady = not estimator.n_jobs and all(one.exact == BIT_EQUAL for one in members)
    return Bag(members, columns, known, classes, BIT_EQUAL if steady else CLOSE)


def compile_stack(estimator: Any, sparse: bool, members: Members = None) -> Stack:
    """Compile a stack over compiled estimators. Raises NotCompiled where a member is asked for what is not known."""
    check_single(estimator)
    classes, methods = len(getattr(estimator, "classes_", ())), list(estimator.stack_method_)
    if (sparse or members) and estimator.passthrough:
        what = "a table" if members else "a sparse matrix"
        raise NotCompiled(f"{type(estimator).__name__} passes {what} through")
    members = members or [_compile(one, sparse) for one in estimator.estimators_]
    _check_margins([one for one, how in zip(members, methods, strict=True) if how == "decision_function"], estimator)
    asked = zip(estimator.estimators_, methods, strict=True)
    if any(how == "predict" and hasattr(one, "predict_proba") for one, how in asked):
        raise NotCompiled(f"{type(estimator).__name__} asks its members for classes")
    last = _compile(estimator.final_estimator_, False)
    if classes and not hasattr(estimator.final_estimator_, "predict_proba"):
        raise NotCompiled(f"{type(estimator.final_estimator_).__name__}, the last of a stack, has no probabilities")
    return Stack([*members, last], methods, classes, bool(estimator.passthrough))


def compile_calibrated(estimator: Any, sparse: bool, members: Members = None) -> Calibrated:
    """Compile a calibrated classifier. Raises NotCompiled for a curve that is not known here."""
    check_single(estimator)
    fitted = estimator.calibrated_classifiers_
    inner = [thawed(one.estimator) for one in fitted]
    asks = hasattr(inner[0], "decision_function")
    members = members or [_compile(one, sparse) for one in inner]
    if asks:
        _check_margins(members, estimator)
    labels = list(estimator.classes_)
    places = [_places(one, member, labels) for one, member in zip(fitted, inner, strict=True)]
    curves = [[_curve(one) for one in each.calibrators] for each in fitted]
    return Calibrated(members, curves, places, asks, len(labels))


def _check_margins(members: Sequence[Evaluator], estimator: Any) -> None:
    for member in members:
        if type(member).margins is Evaluator.margins:
            raise NotCompiled(f"{type(estimator).__name__} asks for a decision function that is not compiled")


def _places(fitted: Any, inner: Any, labels: list[Any]) -> list[int]:
    if fitted.method not in ("sigmoid", "isotonic"):
        raise NotCompiled(f"calibration by {fitted.method} is not compiled")
    return [1] if len(labels) == 2 else [labels.index(label) for label in inner.classes_]


def thawed(estimator: Any) -> Any:
    """Give the estimator itself out of one that is frozen."""
    return estimator.estimator if type(estimator).__name__ == "FrozenEstimator" else estimator


def _curve(calibrator: Any) -> Curve:
    name = type(calibrator).__name__
    if name == "_SigmoidCalibration":
        return Sigmoid(np.asarray(calibrator.a_), np.asarray(calibrator.b_))
    if name != "IsotonicRegression" or calibrator.out_of_bounds != "clip":
        raise NotCompiled(f"the calibration curve {name} is not known here")
    return Isotonic(np.asarray(calibrator.X_thresholds_), np.asarray(calibrator.y_thresholds_))
