"""Linear models, and the naive Bayes models that are linear or quadratic in what they see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.compiled import CLOSE, SINGLE, NotCompiled
from trilho_runtime.compiled.evaluator import (
    Evaluator,
    Floats,
    check_finite,
    check_single,
    expit,
    softmax,
    two_columns,
)


@dataclass
class Linear(Evaluator):
    """A weighted sum of the columns, and what is made of it.

    BLAS may add in another order for one row than for many, so the bound is relative to the largest term.
    """

    name: ClassVar[str] = "linear"
    coef: Floats  # (columns,), or one row for each class
    intercept: Floats
    link: str
    exact: str = CLOSE
    single: bool = False  # whether sums are made in single precision

    def __call__(self, matrix: Floats) -> NDArray[Any]:
        """Give values, probabilities or the index of the class."""
        return np.asarray(LINKS[self.link](self.margins(matrix)))

    def margins(self, matrix: Floats) -> NDArray[Any]:
        """Give the weighted sums."""
        if self.single:
            with np.errstate(over="ignore"):
                matrix = matrix.astype(np.float32)
        check_finite(matrix)
        found = matrix @ self.coef.T + self.intercept
        return found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found


def one_against_rest(margins: Floats) -> Floats:
    """Give probabilities of one logistic model for each class, or of one for two classes.

    >>> one_against_rest(np.zeros((1, 4))).tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """
    found = expit(margins)
    return np.asarray(two_columns(found) if found.ndim == 1 else _shares(found))


def modified_huber(margins: Floats) -> Floats:
    """Give the probabilities that the modified Huber loss says: margins cut at -1 and 1."""
    found = (np.clip(margins, -1, 1) + 1) / 2
    return np.asarray(two_columns(found) if found.ndim == 1 else _shares(found))


def _shares(found: Floats) -> Floats:
    sums = found.sum(axis=1)
    nothing = sums == 0
    if nothing.any():
        found[nothing], sums[nothing] = 1, found.shape[1]
    return np.asarray(found / sums[:, None])


def _two_softmax(margins: Floats) -> NDArray[Any]:
    return softmax(np.column_stack([-margins, margins]) if margins.ndim == 1 else margins)


def _said(margins: Floats) -> NDArray[np.intp]:
    """Give the index of the class."""
    return (margins > 0).astype(np.intp) if margins.ndim == 1 else np.argmax(margins, axis=1)


LINKS: dict[str, Callable[[Any], NDArray[Any]]] = {
    "identity": lambda margins: margins,
    "log": np.exp,
    "one against rest": one_against_rest,
    "modified huber": modified_huber,
    "softmax": _two_softmax,
    "class": _said,
}


@dataclass
class Gaussian(Evaluator):
    """Naive Bayes with a normal distribution of each column in each class."""

    name: ClassVar[str] = "gaussian"
    mean: Floats
    variance: Floats
    prior: Floats
    exact: str = CLOSE

    def __call__(self, matrix: Floats) -> Floats:
        """Give the probability of each class."""
        check_finite(matrix)
        known = np.log(self.prior) - 0.5 * np.log(2 * np.pi * self.variance).sum(axis=1)
        away = [
            ((matrix - mean) ** 2 / spread).sum(axis=1) for mean, spread in zip(self.mean, self.variance, strict=True)
        ]
        return _of_logs(known - 0.5 * np.column_stack(away))


@dataclass
class LinearBayes(Evaluator):
    """Naive Bayes whose log likelihood is linear in the columns, or in whether they are above a threshold."""

    name: ClassVar[str] = "linear bayes"
    weight: Floats
    offset: Floats
    threshold: float | None
    exact: str = CLOSE

    def __call__(self, matrix: Floats) -> Floats:
        """Give the probability of each class."""
        check_finite(matrix)
        seen = matrix if self.threshold is None else (matrix > self.threshold).astype(np.float64)
        return _of_logs(seen @ self.weight.T + self.offset)


def _of_logs(logs: Floats) -> Floats:
    high = logs.max(axis=1, keepdims=True)
    return np.asarray(np.exp(logs - high - np.log(np.exp(logs - high).sum(axis=1, keepdims=True))))


def compile_regression(estimator: Any, sparse: bool) -> Linear:
    """Compile a linear regression. Raises NotCompiled for more than one output."""
    coef = np.asarray(estimator.coef_, np.float64)
    if coef.ndim == 2 and len(coef) > 1:
        raise NotCompiled(f"{type(estimator).__name__} predicts {len(coef)} outputs")
    return Linear(coef, _intercept(estimator), "identity")


def compile_generalized(estimator: Any, sparse: bool) -> Linear:
    """Compile a generalized linear model: Poisson, gamma or Tweedie."""
    loss = getattr(estimator, "_base_loss", None)
    name = type(getattr(loss, "link", None)).__name__
    if name not in ("IdentityLink", "LogLink"):
        raise NotCompiled(f"the link function of {type(estimator).__name__}, {name}, is not known here")
    return Linear(
        np.asarray(estimator.coef_, np.float64), _intercept(estimator), "log" if name == "LogLink" else "identity"
    )


def compile_logistic(estimator: Any, sparse: bool) -> Linear:
    """Compile a logistic regression: one against the rest, or all classes together."""
    return _classifier(estimator, "one against rest" if _against_rest(estimator) else "softmax")


def _against_rest(estimator: Any) -> bool:
    """Say whether probabilities are made one class against the rest, as scikit-learn decides it in each version."""
    many = len(estimator.classes_) > 2
    how = getattr(estimator, "multi_class", "auto")
    if how in ("auto", "deprecated", "warn"):
        older = hasattr(estimator, "multi_class")  # liblinear with many classes is refused since 1.8
        return not many or (older and estimator.solver == "liblinear")
    return bool(how == "ovr")


def compile_discriminant(estimator: Any, sparse: bool) -> Linear:
    """Compile a linear discriminant analysis."""
    return _classifier(estimator, "one against rest" if len(estimator.classes_) == 2 else "softmax")


def compile_gradient_descent(estimator: Any, sparse: bool) -> Linear:
    """Compile a classifier that was fitted by stochastic gradient descent."""
    links = {"log_loss": "one against rest", "log": "one against rest", "modified_huber": "modified huber"}
    return _classifier(estimator, links.get(estimator.loss, "class"))


def compile_separator(estimator: Any, sparse: bool) -> Linear:
    """Compile a linear classifier that says a class and no probability."""
    return _classifier(estimator, "class")


def _classifier(estimator: Any, link: str) -> Linear:
    check_single(estimator)
    binarizer = getattr(estimator, "_label_binarizer", None)
    if binarizer is not None and str(binarizer.y_type_).startswith("multilabel"):
        raise NotCompiled(f"{type(estimator).__name__} predicts many labels at once")
    return Linear(np.asarray(estimator.coef_, np.float64), _intercept(estimator), link)


def narrowed(evaluator: Evaluator, estimator: Any) -> Evaluator:
    """Give a linear model that is asked in single precision, and was fitted in it, as one that adds up in it too."""
    coef = np.asarray(getattr(estimator, "coef_", 0.0))
    if not isinstance(evaluator, Linear) or coef.dtype != np.float32:
        return evaluator
    intercept = np.atleast_1d(np.asarray(estimator.intercept_))
    if isinstance(estimator.intercept_, int | float) and not isinstance(estimator.intercept_, np.generic):
        intercept = intercept.astype(np.float32)  # a plain number takes the type of what it is added to
    coef = coef.reshape(evaluator.coef.shape)
    return Linear(coef, intercept, evaluator.link, SINGLE, single=True)


def _intercept(estimator: Any) -> Floats:
    return np.atleast_1d(np.asarray(estimator.intercept_, np.float64))


def compile_gaussian(estimator: Any, sparse: bool) -> Gaussian:
    """Compile a Gaussian naive Bayes model."""
    if sparse:
        raise NotCompiled(f"{type(estimator).__name__} takes no sparse matrix")
    return Gaussian(estimator.theta_, estimator.var_, estimator.class_prior_)


def compile_bernoulli(estimator: Any, sparse: bool) -> LinearBayes:
    """Compile a Bernoulli naive Bayes model."""
    absent = np.log(1 - np.exp(estimator.feature_log_prob_))
    offset = estimator.class_log_prior_ + absent.sum(axis=1)
    threshold = None if estimator.binarize is None else float(estimator.binarize)
    return LinearBayes(estimator.feature_log_prob_ - absent, offset, threshold)


def compile_multinomial(estimator: Any, sparse: bool) -> LinearBayes:
    """Compile a multinomial naive Bayes model."""
    return LinearBayes(estimator.feature_log_prob_, estimator.class_log_prior_, None)


@dataclass
class Constant(Evaluator):
    """The same answer for every row."""

    name: ClassVar[str] = "constant"
    answer: NDArray[Any]

    def __call__(self, matrix: Floats) -> NDArray[Any]:
        """Repeat the answer."""
        return np.repeat(self.answer, len(matrix), axis=0)


def compile_dummy(estimator: Any, sparse: bool) -> Constant:
    """Compile a baseline. Raises NotCompiled for one that draws its answers."""
    check_single(estimator)
    if estimator.strategy == "stratified":
        raise NotCompiled(f"{type(estimator).__name__} draws its answers at random")
    row = np.zeros((1, getattr(estimator, "n_features_in_", None) or 1))
    found = estimator.predict_proba(row) if hasattr(estimator, "classes_") else estimator.predict(row)
    return Constant(np.asarray(found, np.float64))
