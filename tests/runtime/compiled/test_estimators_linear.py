"""Compiled linear models, networks, naive Bayes, baselines and what is made of others, against scikit-learn's."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.ensemble as ensemble
import sklearn.linear_model as linear
import sklearn.naive_bayes as bayes
import sklearn.svm as svm
from sklearn.calibration import CalibratedClassifierCV
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.tree import DecisionTreeClassifier
from tests.runtime.compiled.originals import check_close, check_same, compared, refusal, scores, table, target

from trilho_runtime.compiled import BIT_EQUAL, CLOSE, NotCompiled
from trilho_runtime.compiled.composed import Isotonic, Sigmoid
from trilho_runtime.compiled.estimators import compile_estimator

REGRESSIONS = [
    "LinearRegression",
    "Ridge",
    "RidgeCV",
    "Lasso",
    "LassoCV",
    "ElasticNet",
    "ElasticNetCV",
    "Lars",
    "LassoLars",
    "BayesianRidge",
    "OrthogonalMatchingPursuit",
    "ARDRegression",
    "HuberRegressor",
    "TheilSenRegressor",
    "QuantileRegressor",
    "SGDRegressor",
]
CLASSIFIERS = [
    "LogisticRegression",
    "LogisticRegressionCV",
    "SGDClassifier",
    "RidgeClassifier",
    "RidgeClassifierCV",
    "Perceptron",
]
LABELS = ("two", "pair", "words", "numbers", "flags")


@pytest.fixture(autouse=True)
def _no_overflow() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", category=RuntimeWarning, module="trilho_runtime")
        yield


@pytest.mark.parametrize("name", REGRESSIONS)
def test_regressions(name: str, tmp_path: Path) -> None:
    matrix = table(1)
    fitted = getattr(linear, name)().fit(matrix, target(matrix, "value"))
    found = compared(fitted, matrix, tmp_path)
    assert (found.exact, found.outputs.kind) == (CLOSE, "value")


@pytest.mark.parametrize("model", [svm.LinearSVR(), linear.LinearRegression(fit_intercept=False)])
def test_other_regressions(model: Any, tmp_path: Path) -> None:
    matrix = table(2)
    compared(model.fit(matrix, target(matrix, "value")), matrix, tmp_path)


@pytest.mark.parametrize(
    "model",
    [
        linear.PoissonRegressor(),
        linear.GammaRegressor(),
        linear.TweedieRegressor(power=1.5),
        linear.TweedieRegressor(power=0, link="identity"),
    ],
)
def test_generalized_models(model: Any, tmp_path: Path) -> None:
    matrix = table(3)
    compared(model.fit(matrix, target(matrix, "positive")), matrix, tmp_path)


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers(name: str, kind: str, tmp_path: Path) -> None:
    matrix = table(4)
    fitted = getattr(linear, name)().fit(matrix, target(matrix, kind))
    found = compared(fitted, matrix, tmp_path)
    asked = matrix * 1e3  # probabilities of 0 and 1
    check_same(found, fitted, asked)


@pytest.mark.parametrize("kind", ["two", "words"])
@pytest.mark.parametrize(
    "model",
    [
        linear.SGDClassifier(loss="log_loss"),
        linear.SGDClassifier(loss="modified_huber"),
        svm.LinearSVC(),
        LinearDiscriminantAnalysis(),
        bayes.GaussianNB(),
        bayes.BernoulliNB(),
        bayes.BernoulliNB(binarize=0.3),
        DummyClassifier(),
        DummyClassifier(strategy="uniform"),
        MLPClassifier((7, 5), max_iter=30, random_state=0),
        MLPClassifier((4,), activation="logistic", max_iter=30, random_state=0),
        MLPClassifier((4,), activation="tanh", max_iter=30, random_state=0),
    ],
)
def test_other_classifiers(model: Any, kind: str, tmp_path: Path) -> None:
    matrix = table(5)
    compared(model.fit(matrix, target(matrix, kind)), matrix, tmp_path)


@pytest.mark.parametrize("kind", ["two", "words"])
def test_counts(kind: str, tmp_path: Path) -> None:
    matrix = np.abs(table(6))
    compared(bayes.MultinomialNB().fit(matrix, target(matrix, kind)), matrix, tmp_path)


@pytest.mark.parametrize("name", ["identity", "relu", "tanh", "logistic"])
def test_networks_of_values(name: str, tmp_path: Path) -> None:
    matrix = table(7)
    model = MLPRegressor(hidden_layer_sizes=(6, 4), activation=name, max_iter=30, random_state=0)
    compared(model.fit(matrix, target(matrix, "value")), matrix, tmp_path)


def test_classes_without_probabilities_are_numbers_or_places() -> None:
    matrix = table(8)
    for kind, wanted in (("numbers", {2.0, 5.0, 9.0}), ("words", {0.0, 1.0, 2.0}), ("flags", {0.0, 1.0})):
        found = compile_estimator(linear.RidgeClassifier().fit(matrix, target(matrix, kind)), sparse=False)
        assert found.outputs.kind == "class"
        assert set(found(matrix).tolist()) == wanted


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300, 5e-324])
@pytest.mark.parametrize(
    "model", [linear.Ridge(), MLPRegressor(hidden_layer_sizes=(3,), max_iter=20), DummyRegressor()]
)
def test_extremes_are_answered_or_refused_alike(model: Any, value: float) -> None:
    matrix = table(9)
    fitted = model.fit(matrix, target(matrix, "value"))
    found = compile_estimator(fitted, sparse=False)
    asked = np.zeros((2, 6))
    asked[1, 3] = value
    refused = refusal(fitted.predict, asked)
    assert refusal(found, asked) == refused
    if not refused:
        check_close(found(asked), fitted.predict(asked), CLOSE)


@pytest.mark.parametrize("model", [linear.Ridge(), linear.LogisticRegression(), MLPClassifier((3,), max_iter=20)])
def test_sparse_matrices(model: Any, tmp_path: Path) -> None:
    from scipy.sparse import csr_matrix

    matrix = table(10)
    matrix[np.abs(matrix) < 0.7] = 0
    compared(model.fit(csr_matrix(matrix), target(matrix, "two")), matrix, tmp_path, sparse=True)


def voters() -> list[tuple[str, Any]]:
    """Give three unlike classifiers."""
    forest = ensemble.RandomForestClassifier(5, random_state=0)
    return [("a", linear.LogisticRegression()), ("b", forest), ("c", bayes.GaussianNB())]


@pytest.mark.parametrize("kind", ["two", "words"])
@pytest.mark.parametrize("weights", [None, [1, 2, 0.5]])
def test_votes_over_probabilities(weights: Any, kind: str, tmp_path: Path) -> None:
    matrix = table(11)
    model = ensemble.VotingClassifier(voters(), voting="soft", weights=weights)
    compared(model.fit(matrix, target(matrix, kind)), matrix, tmp_path)


@pytest.mark.parametrize("weights", [None, [1, 3]])
def test_votes_over_values(weights: Any, tmp_path: Path) -> None:
    matrix = table(12)
    members = [("a", linear.Ridge()), ("b", ensemble.RandomForestRegressor(5, random_state=0))]
    compared(ensemble.VotingRegressor(members, weights=weights).fit(matrix, target(matrix, "value")), matrix, tmp_path)


@pytest.mark.parametrize("kind", ["two", "words"])
@pytest.mark.parametrize("settings", [{}, {"max_features": 0.5}, {"max_samples": 6}])
def test_bags(settings: dict[str, Any], kind: str, tmp_path: Path) -> None:
    matrix = table(13)
    model = ensemble.BaggingClassifier(DecisionTreeClassifier(), 7, random_state=1, **settings)
    found = compared(model.fit(matrix, target(matrix, kind)), matrix, tmp_path)
    assert found.exact == BIT_EQUAL


def test_bags_of_values(tmp_path: Path) -> None:
    matrix = table(14)
    model = ensemble.BaggingRegressor(linear.Ridge(), 5, max_features=4, random_state=0)
    assert compared(model.fit(matrix, target(matrix, "value")), matrix, tmp_path).exact == CLOSE


@pytest.mark.parametrize("passes", [False, True])
@pytest.mark.parametrize("kind", ["two", "words"])
def test_stacks_of_classifiers(kind: str, passes: bool, tmp_path: Path) -> None:
    matrix = table(24)
    members = [*voters(), ("d", svm.LinearSVC()), ("e", ensemble.GradientBoostingClassifier(n_estimators=3))]
    model = ensemble.StackingClassifier(members, cv=2, passthrough=passes)
    compared(model.fit(matrix, target(matrix, kind)), matrix, tmp_path)


def test_stacks_of_values(tmp_path: Path) -> None:
    matrix = table(25)
    members = [("a", linear.Ridge()), ("b", ensemble.RandomForestRegressor(5, random_state=0))]
    last = ensemble.RandomForestRegressor(5, random_state=0)
    compared(ensemble.StackingRegressor(members, last, cv=2).fit(matrix, target(matrix, "value")), matrix, tmp_path)


@pytest.mark.parametrize("kind", ["two", "words"])
@pytest.mark.parametrize("settings", [{"cv": 3}, {"cv": 3, "ensemble": False}])
@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
@pytest.mark.parametrize(
    "model",
    [
        svm.LinearSVC(),
        ensemble.RandomForestClassifier(5, random_state=0),
        ensemble.HistGradientBoostingClassifier(max_iter=5),
        ensemble.GradientBoostingClassifier(n_estimators=5),
    ],
)
def test_calibrated_classifiers(model: Any, method: str, settings: dict[str, Any], kind: str, tmp_path: Path) -> None:
    matrix = table(15)
    fitted = CalibratedClassifierCV(model, method=method, **settings).fit(matrix, target(matrix, kind))
    found = compared(fitted, matrix, tmp_path)
    check_same(found, fitted, table(16) * 3)


def test_a_model_that_was_calibrated_after_it_was_fitted(tmp_path: Path) -> None:
    from sklearn.frozen import FrozenEstimator

    matrix = table(17)
    inner = linear.LogisticRegression().fit(matrix, target(matrix, "two"))
    fitted = CalibratedClassifierCV(FrozenEstimator(inner)).fit(matrix, target(matrix, "two"))
    compared(fitted, matrix, tmp_path)


def test_an_isotonic_curve_of_one_corner_is_flat() -> None:
    curve = Isotonic(np.array([2.0]), np.array([0.25]))
    assert curve(np.array([-1.0, 2.0, 9.0])).tolist() == [0.25, 0.25, 0.25]
    assert Sigmoid(np.array(1.0), np.array(0.0))(np.array([0.0, 1e9])).tolist() == [0.5, 0.0]


Subclass: Any = type("Subclass", (linear.Ridge,), {"__doc__": "An estimator of the project's own."})


@pytest.mark.parametrize(
    ("model", "kind", "why"),
    [
        (Subclass(), "value", "Subclass is not among the estimators that are compiled"),
        (KNeighborsClassifier(), "two", "KNeighborsClassifier is not among"),
        (DummyClassifier(strategy="stratified"), "two", "draws its answers at random"),
        (ensemble.VotingClassifier(voters()), "two", "counts votes"),
        (ensemble.VotingClassifier([("a", KNeighborsClassifier())], voting="soft"), "two", "KNeighborsClassifier"),
        (CalibratedClassifierCV(svm.LinearSVC(), method="temperature", cv=2), "two", "temperature is not compiled"),
        (ensemble.BaggingClassifier(svm.LinearSVC(), 2), "two", "counts votes of classifiers"),
        (CalibratedClassifierCV(KNeighborsClassifier(), cv=2), "two", "KNeighborsClassifier is not among"),
        (ensemble.StackingClassifier(voters(), svm.LinearSVC()), "two", "the last of a stack, has no probabilities"),
        (ensemble.StackingClassifier(voters(), stack_method="predict"), "two", "asks its members for classes"),
    ],
)
def test_what_is_not_compiled_says_why(model: Any, kind: str, why: str) -> None:
    matrix = table(18)
    with pytest.raises(NotCompiled, match=why):
        compile_estimator(model.fit(matrix, target(matrix, kind)), sparse=False)


def test_several_outputs_are_not_compiled() -> None:
    matrix = table(19)
    many = matrix[:, :2]
    labels = (many > 0).astype(int)
    small: dict[str, Any] = {"hidden_layer_sizes": (3,), "max_iter": 5}
    regressions = [(model, many) for model in (linear.Ridge(), MLPRegressor(**small), DummyRegressor())]
    classifiers = [(model, labels) for model in (linear.RidgeClassifier(), MLPClassifier(**small))]
    for model, wanted in regressions + classifiers:
        with pytest.raises(NotCompiled):
            compile_estimator(model.fit(matrix, wanted), sparse=False)
    column = linear.Ridge().fit(matrix, many[:, :1])
    assert compile_estimator(column, sparse=False)(matrix).shape == (len(matrix),)


def test_a_method_that_was_replaced_is_not_compiled() -> None:
    matrix = table(20)
    fitted = linear.Ridge().fit(matrix, target(matrix, "value"))
    fitted.predict = lambda given: np.zeros(len(given))
    with pytest.raises(NotCompiled, match="Ridge has a predict of its own"):
        compile_estimator(fitted, sparse=False)


def test_classes_that_json_cannot_hold_are_not_compiled() -> None:
    matrix = table(21)
    days = np.array(["2026-01-01", "2026-01-02"], "datetime64[D]")[target(matrix, "two")]
    with pytest.raises(NotCompiled, match="classes that are date"):
        compile_estimator(DecisionTreeClassifier().fit(matrix, days), sparse=False)


@pytest.mark.parametrize("many", [["ovr"], ["multinomial"]])
def test_what_older_versions_called_multi_class(many: list[str]) -> None:
    matrix = table(22)
    fitted = linear.LogisticRegression().fit(matrix, target(matrix, "words"))
    fitted.multi_class = many[0]
    found = compile_estimator(fitted, sparse=False)(matrix)
    margins = fitted.decision_function(matrix)
    powers = np.exp(margins) if many == ["multinomial"] else 1 / (1 + np.exp(-margins))
    np.testing.assert_allclose(found, powers / powers.sum(axis=1, keepdims=True), rtol=1e-12)


def test_a_million_rows_are_answered_in_parts() -> None:
    matrix = table(23)
    fitted = linear.LogisticRegression().fit(matrix, target(matrix, "words"))
    many = np.tile(matrix, (2500, 1))
    found = compile_estimator(fitted, sparse=False)(many)
    assert found.shape == (1_000_000, 3)
    check_close(found[-400:], scores(fitted, matrix), CLOSE)
