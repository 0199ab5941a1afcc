"""Fitted estimators as array code: which classes are known, and what a compiled one answers.

A compiled estimator needs none of the libraries that fitted it, except a booster's own C library.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.compiled import NotCompiled
from trilho_runtime.compiled.evaluator import Evaluator, Floats, Parts, Read
from trilho_runtime.compiled.linear import narrowed

HERE = "trilho_runtime.compiled"
SCHEMA = 1
CHUNK_ROWS = 1 << 16
EVALUATORS = {
    "forest": "trees:Forest",
    "boosted": "trees:Boosted",
    "histogram": "histogram:Histogram",
    "linear": "linear:Linear",
    "gaussian": "linear:Gaussian",
    "linear bayes": "linear:LinearBayes",
    "constant": "linear:Constant",
    "perceptron": "neural:Perceptron",
    "vote": "composed:Vote",
    "bag": "composed:Bag",
    "stack": "composed:Stack",
    "calibrated": "composed:Calibrated",
    "started": "started:Started",
    "slot": "composed:Slot",
    "xgboost": "boosters:XGBoost",
    "lightgbm": "boosters:LightGBM",
}
_KNOWN = {
    "trees:compile_forest": """DecisionTreeClassifier DecisionTreeRegressor ExtraTreeClassifier ExtraTreeRegressor
        RandomForestClassifier RandomForestRegressor ExtraTreesClassifier ExtraTreesRegressor""",
    "started:compile_started": "GradientBoostingClassifier GradientBoostingRegressor",
    "histogram:compile_histogram": "HistGradientBoostingClassifier HistGradientBoostingRegressor",
    "linear:compile_regression": """LinearRegression Ridge RidgeCV Lasso LassoCV ElasticNet ElasticNetCV Lars LarsCV
        LassoLars LassoLarsCV LassoLarsIC OrthogonalMatchingPursuit OrthogonalMatchingPursuitCV BayesianRidge
        ARDRegression HuberRegressor TheilSenRegressor QuantileRegressor SGDRegressor PassiveAggressiveRegressor
        LinearSVR""",
    "linear:compile_generalized": "PoissonRegressor GammaRegressor TweedieRegressor",
    "linear:compile_logistic": "LogisticRegression LogisticRegressionCV",
    "linear:compile_discriminant": "LinearDiscriminantAnalysis",
    "linear:compile_gradient_descent": "SGDClassifier",
    "linear:compile_separator": """RidgeClassifier RidgeClassifierCV LinearSVC Perceptron
        PassiveAggressiveClassifier""",
    "linear:compile_gaussian": "GaussianNB",
    "linear:compile_bernoulli": "BernoulliNB",
    "linear:compile_multinomial": "MultinomialNB",
    "linear:compile_dummy": "DummyClassifier DummyRegressor",
    "neural:compile_perceptron": "MLPClassifier MLPRegressor",
    "composed:compile_vote": "VotingClassifier VotingRegressor",
    "composed:compile_bag": "BaggingClassifier BaggingRegressor",
    "composed:compile_stack": "StackingClassifier StackingRegressor",
    "composed:compile_calibrated": "CalibratedClassifierCV",
}
_BARE = {  # boosters without their estimator, as a package holds them
    "boosters:compile_xgboost": "BareXGBoost BareXGBoostClasses BareXGBoostProbabilities",
    "boosters:compile_lightgbm": "BareLightGBM BareLightGBMProbabilities",
}
_BOOSTERS = {
    "boosters:compile_xgboost": "XGBClassifier XGBRegressor XGBRFClassifier XGBRFRegressor XGBRanker Booster",
    "boosters:compile_lightgbm": "LGBMClassifier LGBMRegressor LGBMRanker Booster",
}
COMPILERS = {f"sklearn.{name}": where for where, names in _KNOWN.items() for name in names.split()} | {
    f"{where.rpartition('_')[2]}.{name}": where for where, names in _BOOSTERS.items() for name in names.split()
}
COMPILERS |= {f"trilho_runtime.{name}": where for where, names in _BARE.items() for name in names.split()}


class Outputs(NamedTuple):
    """What scores mean: `kind` is value, probability (of class 1), probabilities or class."""

    kind: str
    classes: tuple[Any, ...] = ()


class CompiledEstimator:
    """A fitted estimator as array code.

    Scores are (rows,) values, probabilities of class 1 or numbers of classes, or (rows, classes) probabilities.
    """

    def __init__(self, evaluator: Evaluator, outputs: Outputs, width: int | None) -> None:
        self.evaluator, self.outputs, self.width = evaluator, outputs, width
        self.exact = evaluator.exact
        self._numbers = np.array(_numbers_of(outputs.classes), np.float64)

    def __call__(self, matrix: NDArray[Any]) -> Floats:
        """Give the scores of a matrix's rows. Raises ValueError for another width, and what the original refuses."""
        if matrix.ndim != 2 or (self.width is not None and matrix.shape[1] != self.width):
            raise ValueError(f"the matrix has the shape {matrix.shape}; the model takes {self.width} columns")
        if not len(matrix):
            return np.zeros((0, len(self.outputs.classes)) if self.outputs.kind == "probabilities" else 0)
        starts = range(0, len(matrix), CHUNK_ROWS)
        parts = [self._scores(matrix[start : start + CHUNK_ROWS]) for start in starts]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _scores(self, matrix: NDArray[Any]) -> Floats:
        return self.scored(self.evaluator(np.ascontiguousarray(matrix, np.float64)))

    def scored(self, found: NDArray[Any]) -> Floats:
        """Give an evaluator's answers as scores."""
        if self.outputs.kind == "class":
            return self._numbers.take(found)
        if self.outputs.kind == "probability":
            found = found[:, 1]
        return np.ascontiguousarray(found, np.float64)

    def asked(self, matrix: NDArray[Any], how: str) -> NDArray[Any]:
        """Give what a method of the original says: all probabilities, values, or the decision function."""
        given = np.ascontiguousarray(matrix, np.float64)
        return self.evaluator.margins(given) if how == "decision_function" else self.evaluator(given)

    def to_parts(self) -> Parts:
        """Give the JSON object, the arrays and the files that `load_estimator` reads."""
        made = parts_of(self.evaluator)
        kind, classes = self.outputs
        about = {"schema": SCHEMA, "outputs": {"kind": kind, "classes": list(classes)}, "width": self.width}
        return Parts({**about, "estimator": made.spec}, made.arrays, made.files)


def compile_estimator(estimator: Any, *, sparse: bool, coded: bool = False, single: bool = False) -> CompiledEstimator:
    """Give array code for a fitted estimator, or raise NotCompiled with the reason.

    `sparse` says that the estimator is given a sparse matrix in the original, in which zeros are absent; `coded` that
    its own categories are given as their places, `single` that its numbers are of single precision.
    """
    evaluator = evaluator_of(estimator, sparse, coded)
    if single:
        evaluator = narrowed(evaluator, estimator)
    width = _width(estimator)
    outputs = outputs_of(estimator, evaluator)
    strange = [label for label in outputs.classes if not isinstance(label, str | int | float)]
    if strange:
        raise NotCompiled(f"{type(estimator).__name__} has classes that are {type(strange[0]).__name__}")
    return CompiledEstimator(evaluator, outputs, width)


def load_estimator(
    spec: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], folder: Path | None = None, start: str = ""
) -> CompiledEstimator:
    """Read a compiled estimator back out of its parts; `start` is what its files' names start with.

    Raises NotCompiled where it cannot run here.
    """
    if spec.get("schema") != SCHEMA:
        raise NotCompiled(f"the compiled estimator has schema {spec.get('schema')!r}; {SCHEMA} is known here")
    kind, classes = spec["outputs"]["kind"], spec["outputs"]["classes"]

    def read(name: str) -> bytes:
        if folder is None:
            raise NotCompiled(f"the compiled estimator has a file {name}, and no folder to read it from")
        return (folder / f"{start}{name}").read_bytes()

    evaluator = restore_evaluator(spec["estimator"], arrays, read)
    return CompiledEstimator(evaluator, Outputs(kind, tuple(classes)), spec["width"])


def outputs_of(estimator: Any, evaluator: Evaluator | None = None) -> Outputs:
    """Say what scores of a fitted estimator mean, in the original as in what was compiled of it."""
    labels = getattr(estimator, "classes_", None)
    if labels is None:
        told = getattr(evaluator, "outputs", None)
        return Outputs(*told) if told is not None else Outputs("value")
    classes = tuple(np.asarray(labels).tolist())
    if not hasattr(estimator, "predict_proba"):
        return Outputs("class", classes)
    return Outputs("probability" if is_zero_one(classes) else "probabilities", classes)


def is_zero_one(classes: tuple[Any, ...]) -> bool:
    """Say whether classes are the numbers 0 and 1, of which one probability says all.

    >>> is_zero_one((0, 1)), is_zero_one((False, True)), is_zero_one((1, 2))
    (True, False, False)
    """
    return classes == (0, 1) and not any(isinstance(one, bool) for one in classes)


def evaluator_of(estimator: Any, sparse: bool, coded: bool = False) -> Evaluator:
    """Compile an estimator, whether it stands alone or inside another one. Raises NotCompiled."""
    kind = type(estimator)
    where = COMPILERS.get(f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}")
    if where is None:
        raise NotCompiled(f"{kind.__module__}.{kind.__qualname__} is not among the estimators that are compiled")
    replaced = sorted(name for name in vars(estimator) if name in ("predict", "predict_proba", "decision_function"))
    if replaced:
        raise NotCompiled(f"{kind.__qualname__} has a {replaced[0]} of its own")
    made: Evaluator = _found(where)(estimator, sparse, **({"coded": True} if coded else {}))
    return made


def parts_of(evaluator: Evaluator) -> Parts:
    """Give an evaluator's parts with its name."""
    spec, arrays, files = evaluator.parts()
    return Parts({"name": evaluator.name, **spec}, arrays, files)


def restore_evaluator(spec: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], read: Read) -> Evaluator:
    """Make the evaluator that a part names. Raises NotCompiled for a name that is not known here."""
    own = dict(spec)
    name = own.pop("name", None)
    if name not in EVALUATORS:
        raise NotCompiled(f"the compiled estimator is a {name!r}; known here are {', '.join(EVALUATORS)}")
    made: Evaluator = _found(EVALUATORS[name]).restore(own, arrays, read)
    return made


def _found(where: str) -> Any:
    module, _, name = where.partition(":")
    return getattr(import_module(f"{HERE}.{module}"), name)


def _width(estimator: Any) -> int | None:
    told = getattr(estimator, "n_features_in_", None)
    if told is None and hasattr(estimator, "num_feature"):
        told = estimator.num_feature()
    if told is None and hasattr(estimator, "num_features"):
        told = estimator.num_features()
    if told is None and not type(estimator).__name__.startswith("Dummy"):  # which look at no column
        raise NotCompiled(f"{type(estimator).__name__} does not say how many columns it was fitted to")
    return None if told is None else int(told)


def _numbers_of(classes: tuple[Any, ...]) -> list[float]:
    """Give classes as numbers: themselves, or their places where they are no numbers."""
    if all(isinstance(one, int | float) for one in classes):
        return [float(one) for one in classes]
    return [float(place) for place in range(len(classes))]
