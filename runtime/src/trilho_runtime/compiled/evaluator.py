"""What a compiled estimator is made of: an evaluator, and the parts that it is written to files as.

An evaluator holds numbers only. Its parts are one JSON object, named arrays and named files, so that a package can be
read without unpickling anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.compiled import BIT_EQUAL, NotCompiled

Floats = NDArray[np.float64]
Read = Callable[[str], bytes]  # gives a part's file by its name


class Parts(NamedTuple):
    """What an evaluator is written to files as."""

    spec: dict[str, Any]
    arrays: dict[str, NDArray[Any]]
    files: dict[str, bytes]


class Evaluator:
    """The array code of one fitted estimator: a matrix in; values, probabilities or classes' indices out.

    A classifier gives probabilities of shape (rows, classes), or where it has none the index of the class it says. A
    subclass that is a dataclass of arrays and JSON values needs no `parts` and `restore` of its own.
    """

    name: ClassVar[str]
    exact: str = BIT_EQUAL

    def __call__(self, matrix: Floats) -> NDArray[Any]:
        """Evaluate a C-contiguous matrix of at least one row."""
        raise NotImplementedError

    def margins(self, matrix: Floats) -> NDArray[Any]:
        """Give what the original's `decision_function` gives. Raises NotCompiled where that is not known."""
        raise NotCompiled(f"{self.name} has no compiled decision function")

    def parts(self) -> Parts:
        """Give what `restore` makes the same evaluator of."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        arrays = {name: value for name, value in given.items() if isinstance(value, np.ndarray)}
        return Parts({name: value for name, value in given.items() if name not in arrays}, arrays, {})

    @classmethod
    def restore(cls, spec: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], read: Read) -> Evaluator:
        """Make the evaluator that gave these parts."""
        return cls(**spec, **arrays)


def joined(parts: Mapping[str, Parts], spec: Mapping[str, Any]) -> Parts:
    """Give the parts of an evaluator that is made of others, each under a name.

    >>> joined({"0": Parts({"scale": 2}, {"coef": np.ones(1)}, {})}, {"kind": "vote"}).arrays
    {'0.coef': array([1.])}
    """
    arrays = {f"{key}.{name}": value for key, part in parts.items() for name, value in part.arrays.items()}
    files = {f"{key}.{name}": value for key, part in parts.items() for name, value in part.files.items()}
    return Parts({**spec, "of": {key: part.spec for key, part in parts.items()}}, arrays, files)


def part_of(key: str, arrays: Mapping[str, NDArray[Any]], read: Read) -> tuple[dict[str, NDArray[Any]], Read]:
    """Give the arrays and the files of one of the evaluators that parts were joined of."""
    start = f"{key}."
    own = {name[len(start) :]: value for name, value in arrays.items() if name.startswith(start)}
    return own, lambda name: read(start + name)


def check_finite(matrix: NDArray[Any], allow_nan: bool = False) -> None:
    """Raise ValueError where scikit-learn refuses a value too: infinite, too large for its type, or unknown."""
    wrong = np.isinf(matrix) if allow_nan else ~np.isfinite(matrix)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        allowed = "finite or NaN" if allow_nan else "finite"
        raise ValueError(f"column {column} of the model's input is {matrix[row, column]}; it must be {allowed}")


def expit(values: Floats) -> Floats:
    """Give the logistic function of each value.

    >>> expit(np.array([-800.0, 0.0, 800.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-values)))


def softmax(values: NDArray[Any]) -> NDArray[Any]:
    """Give each row as probabilities that add up to 1.

    >>> softmax(np.array([[1.0, 1.0]])).tolist()
    [[0.5, 0.5]]
    """
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def two_columns(one: NDArray[Any]) -> NDArray[Any]:
    """Give the probabilities of both classes from those of class 1."""
    return np.column_stack([1 - one, one])


def check_single(estimator: Any) -> None:
    """Raise NotCompiled for an estimator of more than one output."""
    if getattr(estimator, "n_outputs_", 1) != 1 or isinstance(getattr(estimator, "classes_", None), list):
        raise NotCompiled(f"{type(estimator).__name__} predicts more than one output")
