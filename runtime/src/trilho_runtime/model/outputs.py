"""Outputs: what a model's predictions are, and how an estimator, a class or a function is asked for them.

Every model answers in floats: one a row, or for a classifier of any other classes than 0 and 1 a probability for each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.steps.function import StepError

Kind = Literal["value", "probability", "probabilities", "class"]
Task = Literal["classification", "regression"]
Floats = NDArray[np.float64]
ZERO_ONE = (0, 1)


class OutputsError(ValueError):
    """A model answers in a form that cannot be served; `hint` says what would be."""

    def __init__(self, fact: str, hint: str) -> None:
        super().__init__(fact)
        self.hint = hint


@dataclass(frozen=True)
class Outputs:
    """What a prediction is.

    "value": a number; "probability": that of class 1, of the classes 0 and 1; "probabilities": one for each class;
    "class": the class itself where classes are numbers, else its place among them.
    """

    kind: Kind
    classes: tuple[Any, ...] = ()

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> Outputs:
        """Read a manifest's outputs; before schema 2 the task says it all.

        >>> Outputs.from_manifest({"task": "classification"})
        Outputs(kind='probability', classes=(0, 1))
        """
        told = manifest.get("outputs")
        if told:
            if told["kind"] not in get_args(Kind):
                raise ValueError(f"outputs of kind {told['kind']!r}")
            return cls(told["kind"], tuple(told["classes"]))
        return of_task(manifest["task"])

    def to_json(self) -> dict[str, Any]:
        """Give the outputs as they stand in a manifest."""
        return {"kind": self.kind, "classes": list(self.classes)}

    @property
    def task(self) -> Task:
        """Give the task that such predictions are of."""
        return "regression" if self.kind == "value" else "classification"

    @property
    def numeric(self) -> bool:
        """Say whether a class is predicted as its own number."""
        return all(type(label) in (int, float) for label in self.classes)

    def scores(self, model: Any, given: Any, last: int | None = None) -> Floats:
        """Ask a model for the predictions of a table's rows, or of the last so many. Raises StepError for no number."""
        if self.kind in ("probability", "probabilities"):
            found = self._probabilities(model, given)
        else:
            found = ask(model, given)
            found = self.places(found) if self.kind == "class" else np.asarray(found, dtype=np.float64)
            found = found.reshape(-1)
        name = type(model).__name__
        if len(found) != len(given):
            raise StepError(f"{name} gave {len(found)} predictions for {len(given)} rows")
        found = found if last is None else found[len(found) - last :]
        finite = np.isfinite(found)
        if not finite.all():
            row = int(np.argwhere(~finite)[0][0])
            raise StepError(f"{name} predicted {found[row]} for row {row}")
        return found

    def places(self, labels: Any) -> Floats:
        """Give predicted classes as numbers. Raises StepError for a class that the model did not have."""
        labels = np.asarray(labels).reshape(-1).tolist()
        if self.numeric:
            return np.array(labels, np.float64)
        place = {label: number for number, label in enumerate(self.classes)}
        unknown = next((label for label in labels if label not in place), None)
        if unknown is not None:
            raise StepError(f"the class {unknown!r} is none of {', '.join(map(repr, self.classes))}")
        return np.array([place[label] for label in labels], np.float64)

    def _probabilities(self, model: Any, given: Any) -> Floats:
        found = np.asarray(ask_probabilities(model, given), dtype=np.float64)
        if self.kind == "probability":
            if found.ndim == 1:
                return found
            return found[:, list(getattr(model, "classes_", ZERO_ONE)).index(1)]
        if found.ndim == 1 and len(self.classes) == 2:
            return np.column_stack([1 - found, found])
        if found.ndim != 2 or found.shape[1] != len(self.classes):
            raise StepError(f"{type(model).__name__} gave {found.shape} probabilities of {len(self.classes)} classes")
        return found


def of_task(task: str) -> Outputs:
    """Give what a project's model predicts: a number, or the probability of class 1."""
    return Outputs("probability", ZERO_ONE) if task == "classification" else Outputs("value")


def ask(model: Any, given: Any) -> Any:
    """Call what predicts: the `predict` of an estimator or a class, or a function itself."""
    return model.predict(given) if hasattr(model, "predict") else model(given)


def ask_probabilities(model: Any, given: Any) -> Any:
    """Call what gives probabilities: `predict_proba`, or a function itself."""
    return model.predict_proba(given) if hasattr(model, "predict_proba") else ask(model, given)


def outputs_of(model: Any, given: Any, task: str | None = None, labels: Sequence[Any] | None = None) -> Outputs:
    """Find out what a fitted model predicts, by asking it for the predictions of some rows.

    `task` and `labels` (the classes, in the order of the probabilities) say it where the model cannot. Raises
    OutputsError for predictions of several targets.

    >>> outputs_of(lambda rows: np.array(["a", "b"]), [1, 2])
    Outputs(kind='class', classes=('a', 'b'))
    """
    if task not in (None, "classification", "regression"):
        raise OutputsError(f"task is {task!r}; allowed: classification, regression", "leave task out to have it found")
    known = labels if labels is not None else getattr(model, "classes_", None)
    classes = None if known is None else _labels(known)
    if hasattr(model, "predict_proba") and task != "regression":
        return _of_probabilities(model.predict_proba(given), classes)
    found = np.asarray(ask(model, given))
    found = found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found
    if found.ndim == 2 and task == "classification":
        return _of_probabilities(found, classes)
    if found.ndim != 1:
        raise OutputsError(
            f"the model predicts {found.shape} values for {len(given)} rows; one value a row can be served",
            'package one model for each target, or say task="classification" where they are probabilities',
        )
    if task == "classification" and classes is None and found.dtype.kind == "f" and _are_shares(found):
        return Outputs("probability", ZERO_ONE)
    if task == "regression" or (task is None and found.dtype.kind in "iuf" and not _classifies(model)):
        return Outputs("value")
    return Outputs("class", classes if classes is not None else _labels(np.unique(found)))


def _of_probabilities(found: Any, classes: tuple[Any, ...] | None) -> Outputs:
    if isinstance(found, list) and found and np.ndim(found[0]) == 2:
        raise OutputsError(
            f"the model predicts {len(found)} targets at once; one can be served", "package one model for each target"
        )
    found = np.asarray(found)
    width = 2 if found.ndim == 1 else found.shape[1]
    classes = tuple(range(width)) if classes is None else classes
    if len(classes) != width or found.ndim > 2:
        raise OutputsError(
            f"the model gives {width} probabilities a row and has {len(classes)} classes", "say labels=[...], one each"
        )
    if list(classes) == [0, 1] and not any(isinstance(label, bool) for label in classes):
        return Outputs("probability", ZERO_ONE)
    return Outputs("probabilities", classes)


def _labels(values: Any) -> tuple[Any, ...]:
    """Give classes as JSON values. Raises OutputsError for what JSON cannot carry."""
    if isinstance(values, list) and values and isinstance(values[0], np.ndarray):
        raise OutputsError(
            f"the model predicts {len(values)} targets at once; one can be served", "package one model for each target"
        )
    found = [value.item() if isinstance(value, np.generic) else value for value in values]
    wrong = next((v for v in found if type(v) not in (str, bool, int, float) or v != v), None)
    if wrong is not None or not found:
        fact = f"the class {wrong!r} is of type {type(wrong).__name__}; allowed: texts, numbers, booleans"
        raise OutputsError(fact if found else "the model has no classes", "fit it to labels of such a type")
    return tuple(found)


def _are_shares(found: NDArray[Any]) -> bool:
    return bool(((found >= 0) & (found <= 1)).all())


def _classifies(model: Any) -> bool:
    """Say whether a model calls itself a classifier, as scikit-learn's do."""
    if getattr(model, "_estimator_type", None) == "classifier" or hasattr(model, "classes_"):
        return True
    tags = getattr(model, "__sklearn_tags__", None)
    try:
        return tags is not None and tags().estimator_type == "classifier"
    except Exception:  # noqa: BLE001  a class of the user's that has no tags of its own
        return False
