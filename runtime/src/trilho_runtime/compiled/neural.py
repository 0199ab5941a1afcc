"""scikit-learn's multi-layer perceptrons: a matrix product and an activation for each layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.compiled import CLOSE, NotCompiled
from trilho_runtime.compiled.evaluator import Evaluator, Floats, Parts, Read, check_finite, expit, softmax, two_columns

ACTIVATIONS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "identity": lambda values: values,
    "logistic": expit,
    "tanh": np.tanh,
    "relu": lambda values: np.maximum(values, 0),
    "softmax": softmax,
    "exp": np.exp,
}


@dataclass
class Perceptron(Evaluator):
    """Layers of weights, each followed by an activation."""

    name: ClassVar[str] = "perceptron"
    weights: list[Floats]
    offsets: list[Floats]
    hidden: str
    last: str
    classes: bool
    exact: str = CLOSE

    def __call__(self, matrix: Floats) -> NDArray[Any]:
        """Give values, or the probability of each class."""
        check_finite(matrix)
        found: NDArray[Any] = matrix
        names = [self.hidden] * (len(self.weights) - 1) + [self.last]
        for weight, offset, name in zip(self.weights, self.offsets, names, strict=True):
            found = ACTIVATIONS[name](found @ weight + offset)
        if found.shape[1] > 1:
            return found
        return two_columns(found[:, 0]) if self.classes else found[:, 0]

    def parts(self) -> Parts:
        """Give each layer's arrays under a name."""
        arrays = {f"weight.{layer}": one for layer, one in enumerate(self.weights)}
        arrays |= {f"offset.{layer}": one for layer, one in enumerate(self.offsets)}
        spec = {"hidden": self.hidden, "last": self.last, "classes": self.classes, "exact": self.exact}
        return Parts(spec, arrays, {})

    @classmethod
    def restore(cls, spec: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], read: Read) -> Evaluator:
        """Make the network out of its parts."""
        layers = range(len(arrays) // 2)
        weights, offsets = [arrays[f"weight.{i}"] for i in layers], [arrays[f"offset.{i}"] for i in layers]
        return cls(weights, offsets, **spec)


def compile_perceptron(estimator: Any, sparse: bool) -> Perceptron:
    """Compile a multi-layer perceptron. Raises NotCompiled for many labels or outputs at once."""
    classes = hasattr(estimator, "classes_")
    several = estimator.n_outputs_ > 1
    if several and (not classes or estimator.out_activation_ != "softmax"):
        raise NotCompiled(f"{type(estimator).__name__} predicts {estimator.n_outputs_} outputs")
    weights = [np.asarray(one) for one in estimator.coefs_]
    if any(one.dtype != np.float64 for one in weights):
        raise NotCompiled(f"{type(estimator).__name__} was fitted to {weights[0].dtype}, not to float64")
    offsets = [np.asarray(one) for one in estimator.intercepts_]
    return Perceptron(weights, offsets, estimator.activation, estimator.out_activation_, classes)
