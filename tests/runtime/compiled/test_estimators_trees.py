"""Compiled trees, forests and boosted trees against scikit-learn's."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor
from tests.runtime.compiled.originals import (
    Floats,
    around,
    check_same,
    compared,
    read_again,
    refusal,
    scores,
    table,
    target,
)

from trilho_runtime.compiled import BIT_EQUAL, CLOSE, NotCompiled
from trilho_runtime.compiled.estimators import compile_estimator
from trilho_runtime.compiled.trees import Trees, compile_forest, sum_of_trees, tree_of

CLASSIFIERS = (DecisionTreeClassifier, ExtraTreeClassifier, RandomForestClassifier, ExtraTreesClassifier)
REGRESSORS = (DecisionTreeRegressor, ExtraTreeRegressor, RandomForestRegressor, ExtraTreesRegressor)


def made(kind: Any, seed: int, **settings: Any) -> Any:
    """Give a model with few trees."""
    many = {"n_estimators": 12} if "n_estimators" in kind().get_params() else {}
    return kind(random_state=seed, **{**many, **settings})


@pytest.mark.parametrize("kind", ["two", "pair", "words", "numbers", "flags"])
@pytest.mark.parametrize("model", CLASSIFIERS)
def test_classes_of_any_label(model: Any, kind: str, tmp_path: Path) -> None:
    matrix = table(1)
    fitted = made(model, 1, max_depth=5).fit(matrix, target(matrix, kind))
    found = compared(fitted, matrix, tmp_path)
    assert found.exact == BIT_EQUAL
    assert list(found.outputs.classes) == fitted.classes_.tolist()
    assert found.outputs.kind == ("probability" if kind == "two" else "probabilities")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("model", REGRESSORS)
def test_values_of_trees_that_are_as_deep_as_they_want(model: Any, seed: int, tmp_path: Path) -> None:
    matrix = table(seed)
    found = compared(made(model, seed).fit(matrix, target(matrix, "value")), matrix, tmp_path)
    assert found.exact == BIT_EQUAL
    check_same(found, made(model, seed).fit(matrix, target(matrix, "value")), table(seed + 50))


@pytest.mark.parametrize("model", [*CLASSIFIERS[::2], *REGRESSORS])
def test_missing_values_go_where_they_went(model: Any, tmp_path: Path) -> None:
    matrix = table(3, missing=0.2)
    fitted = made(model, 3).fit(matrix, target(matrix, "two"))
    compared(fitted, matrix, tmp_path)
    check_same(compile_estimator(fitted, sparse=False), fitted, np.full((2, 6), np.nan))


@pytest.mark.parametrize(
    "model", [RandomForestRegressor, ExtraTreesRegressor, GradientBoostingRegressor, HistGradientBoostingRegressor]
)
def test_values_at_thresholds_and_beside_them(model: Any, tmp_path: Path) -> None:
    matrix = table(4)
    settings = {"max_iter": 12} if model is HistGradientBoostingRegressor else {}
    fitted = made(model, 4, **settings).fit(matrix, target(matrix, "value"))
    found = compile_estimator(fitted, sparse=False)
    trees = found.evaluator.trees  # type: ignore[attr-defined]
    inner = np.flatnonzero(np.isfinite(trees.threshold))[:300]
    for value in around(trees.threshold[inner]):
        asked = matrix[np.arange(len(inner)) % len(matrix)]
        asked[np.arange(len(inner)), trees.feature[inner]] = value
        check_same(found, fitted, asked)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39, -1e300, 5e-324, 3.4028235e38, -0.0])
@pytest.mark.parametrize("model", [RandomForestRegressor, GradientBoostingRegressor, HistGradientBoostingRegressor])
def test_extremes_are_answered_or_refused_alike(model: Any, value: float) -> None:
    matrix = table(5)
    fitted = made(model, 5).fit(matrix, target(matrix, "value"))
    found = compile_estimator(fitted, sparse=False)
    asked = np.zeros((3, 6))
    asked[1, 2] = value
    refused = refusal(fitted.predict, asked)
    assert refusal(found, asked) == refused
    if not refused:
        np.testing.assert_array_equal(found(asked), fitted.predict(asked))


def test_a_refusal_names_the_column_and_the_value() -> None:
    matrix = table(5)
    found = compile_estimator(RandomForestRegressor(2).fit(matrix, matrix[:, 0]), sparse=False)
    asked = np.zeros((2, 6))
    asked[1, 4] = -1e300
    with pytest.raises(ValueError, match="column 4 of the model's input is -inf; it must be finite or NaN"):
        found(asked)


@pytest.mark.parametrize("kind", ["two", "words", "flags"])
@pytest.mark.parametrize("loss", ["log_loss", "exponential"])
def test_boosted_classes(kind: str, loss: str, tmp_path: Path) -> None:
    if loss == "exponential" and kind == "words":
        loss, kind = "log_loss", "numbers"
    matrix = table(6)
    fitted = made(GradientBoostingClassifier, 6, loss=loss).fit(matrix, target(matrix, kind))
    assert compared(fitted, matrix, tmp_path).exact == CLOSE


@pytest.mark.parametrize("settings", [{}, {"init": "zero"}, {"loss": "huber"}, {"loss": "quantile", "subsample": 0.5}])
def test_boosted_values_are_equal_in_every_bit_here(settings: dict[str, Any], tmp_path: Path) -> None:
    matrix = table(7)
    fitted = made(GradientBoostingRegressor, 7, **settings).fit(matrix, target(matrix, "value"))
    found = compared(fitted, matrix, tmp_path)
    np.testing.assert_allclose(found(matrix), fitted.predict(matrix), rtol=1e-15)


@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize("kind", ["two", "words", "value"])
def test_histograms(kind: str, missing: float, tmp_path: Path) -> None:
    matrix = table(8, missing=missing)
    model = HistGradientBoostingRegressor if kind == "value" else HistGradientBoostingClassifier
    fitted = model(max_iter=15, max_leaf_nodes=9, random_state=8).fit(matrix, target(matrix, kind))
    assert compared(fitted, matrix, tmp_path).exact == (BIT_EQUAL if kind == "value" else CLOSE)


def test_histograms_with_a_logarithmic_link(tmp_path: Path) -> None:
    matrix = table(9)
    fitted = HistGradientBoostingRegressor(loss="poisson", max_iter=10).fit(matrix, target(matrix, "positive"))
    assert compared(fitted, matrix, tmp_path).exact == CLOSE


@pytest.mark.parametrize("labels", [[0, 1, 2, 3, 4, 5], [-7, 3, 50, 255, 256, 900]])
def test_categories_of_histograms(labels: list[int], tmp_path: Path) -> None:
    rng = np.random.default_rng(10)
    matrix = table(10, rows=1500, missing=0.05)
    matrix[:, 3] = rng.choice(labels, 1500)
    matrix[:, 5] = rng.integers(0, 40, 1500)
    matrix[rng.random(1500) < 0.1, 3] = np.nan
    value = np.nan_to_num(matrix[:, 0]) + 3 * np.isin(matrix[:, 3], labels[::2]) + (matrix[:, 5] % 3)
    model = HistGradientBoostingRegressor(max_iter=20, categorical_features=[5, 3], random_state=0)
    fitted = model.fit(matrix, value)
    found = compared(fitted, matrix, tmp_path)
    assert found.exact == BIT_EQUAL
    for strange in (np.nan, -1.0, -7.5, 2.5, 6.0, 41.0, 255.0, 256.0, 1e9, -1e300):
        asked = matrix[:40].copy()
        asked[:20, 3], asked[20:, 5] = strange, strange
        check_same(found, fitted, asked)
    for column in range(6):
        asked = matrix[:2].copy()
        asked[1, column] = np.inf
        assert refusal(found, asked) == refusal(fitted.predict, asked)


def test_a_tree_of_one_leaf(tmp_path: Path) -> None:
    matrix = table(11)
    fitted = DecisionTreeRegressor().fit(matrix, np.full(len(matrix), 2.5))
    found = compared(fitted, matrix, tmp_path)
    assert found(matrix[:3]).tolist() == [2.5, 2.5, 2.5]
    assert found.evaluator.trees.depth == 0  # type: ignore[attr-defined]


def test_many_trees_over_more_rows_than_are_walked_together() -> None:
    matrix = table(12, rows=900)
    fitted = RandomForestClassifier(300, max_depth=4, random_state=0).fit(matrix, target(matrix, "words"))
    found = compile_estimator(fitted, sparse=False)
    assert len(found.evaluator.trees.chunks(900)) > 3  # type: ignore[attr-defined]
    check_same(found, fitted, matrix)


@pytest.mark.parametrize("model", [DecisionTreeClassifier, RandomForestRegressor, GradientBoostingClassifier])
def test_sparse_zeros_are_zeros_to_trees(model: Any, tmp_path: Path) -> None:
    from scipy.sparse import csr_matrix

    matrix = table(13)
    matrix[np.abs(matrix) < 0.7] = 0
    fitted = made(model, 13).fit(csr_matrix(matrix), target(matrix, "two"))
    found = compared(fitted, matrix, tmp_path, sparse=True)
    asked = np.zeros((1, 6))
    asked[0, 0] = np.nan
    assert refusal(fitted.predict, csr_matrix(asked)) == refusal(found, asked) == "ValueError"


def test_rows_that_lie_by_columns_are_answered_alike() -> None:
    matrix = table(14)
    fitted = RandomForestRegressor(5, random_state=0).fit(matrix, target(matrix, "value"))
    found = compile_estimator(fitted, sparse=False)
    np.testing.assert_array_equal(found(np.asfortranarray(matrix)), found(matrix))
    np.testing.assert_array_equal(found(matrix[::2]), found(matrix)[::2])


def test_a_forest_that_adds_up_in_threads_states_a_bound() -> None:
    matrix = table(15)
    fitted = RandomForestRegressor(5, n_jobs=2, random_state=0).fit(matrix, target(matrix, "value"))
    assert compile_estimator(fitted, sparse=False).exact == CLOSE


def test_counts_of_older_versions_are_made_fractions() -> None:
    matrix = table(16)
    fitted = DecisionTreeClassifier(max_depth=3, random_state=0).fit(matrix, target(matrix, "words"))

    class Counts:
        """A tree whose leaves hold counts."""

        def __init__(self, tree: Any) -> None:
            for name in ("children_left", "children_right", "feature", "threshold", "missing_go_to_left"):
                setattr(self, name, getattr(tree, name))
            self.value = tree.value * tree.weighted_n_node_samples[:, None, None]

    older = copy(fitted)
    older.tree_ = Counts(fitted.tree_)
    found = compile_forest(older, sparse=False)(matrix)
    np.testing.assert_allclose(found, fitted.predict_proba(matrix), rtol=1e-14)


@pytest.mark.parametrize("init", [Ridge(), DummyRegressor()], ids=["ridge", "dummy"])
def test_boosting_on_top_of_a_model_is_compiled_with_it(init: Any, tmp_path: Path) -> None:
    matrix = table(17)
    model = GradientBoostingRegressor(init=init, n_estimators=2).fit(matrix, target(matrix, "value"))
    made = read_again(compile_estimator(model, sparse=False), tmp_path)
    limit = 2e-6 if made.exact == "2e-06" else 1e-12  # init is fitted to the single precision that trees see
    np.testing.assert_allclose(made(matrix), scores(model, matrix), rtol=limit, atol=limit)


def test_boosting_on_top_of_an_unknown_model_is_not_compiled() -> None:
    matrix = table(17)
    model = GradientBoostingRegressor(init=KNeighborsRegressor(), n_estimators=2).fit(matrix, target(matrix, "value"))
    with pytest.raises(NotCompiled, match="KNeighborsRegressor is not among the estimators"):
        compile_estimator(model, sparse=False)


def test_several_outputs_are_not_compiled() -> None:
    matrix = table(18)
    fitted = RandomForestRegressor(2).fit(matrix, matrix[:, :2])
    with pytest.raises(NotCompiled, match="RandomForestRegressor predicts more than one output"):
        compile_estimator(fitted, sparse=False)


def test_texts_as_categories_are_not_compiled() -> None:
    import pandas as pd

    frame = pd.DataFrame({"x": np.arange(90.0), "c": pd.Categorical(["a", "b", "c"] * 30)})
    model = HistGradientBoostingRegressor(max_iter=3, categorical_features="from_dtype")
    with pytest.raises(NotCompiled, match="categories are texts, and it is given an array"):
        compile_estimator(model.fit(frame, np.arange(90.0)), sparse=False)


def test_trees_are_added_one_after_the_other() -> None:
    values = np.random.default_rng(0).normal(size=(3000, 5)) * 10.0 ** np.arange(-2, 3)
    wanted = np.zeros(5)
    for row in values:
        wanted += row
    np.testing.assert_array_equal(sum_of_trees(values), wanted)
    alone: Floats = values[:, :1]
    np.testing.assert_array_equal(sum_of_trees(alone), wanted[:1])


def test_siblings_lie_next_to_each_other() -> None:
    matrix = table(19)
    fitted = made(RandomForestRegressor, 19, max_leaf_nodes=20).fit(matrix, target(matrix, "value"))
    trees = Trees.of(tree_of(one.tree_) for one in fitted.estimators_)
    inner = trees.child != np.arange(len(trees.child))
    assert np.array_equal(
        np.sort(np.concatenate([trees.child[inner], trees.child[inner] + 1])), np.arange(12, len(inner))
    )
    np.testing.assert_array_equal(
        trees.value[trees.leaves(matrix)][:, :, 0].mean(axis=0).round(9), scores(fitted, matrix).round(9)
    )
