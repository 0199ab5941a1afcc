"""Boosters asked through their C libraries against their Python packages."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
import xgboost
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from tests.runtime.compiled.originals import (
    around,
    check_same,
    compared,
    loaded,
    read_again,
    refusal,
    scores,
    table,
    target,
)

from trilho_runtime.compiled import BIT_EQUAL, NotCompiled, boosters, library
from trilho_runtime.compiled.estimators import compile_estimator

XGB = {"n_estimators": 15, "max_depth": 4, "n_jobs": 1}
LGB = {"n_estimators": 15, "verbosity": -1, "n_jobs": 1}


def fitted(package: str, seed: int = 1, kind: str = "two", missing: float = 0.1, **settings: Any) -> tuple[Any, Any]:
    """Give a fitted booster and its matrix."""
    matrix = table(seed, missing=missing)
    models = {
        ("xgboost", True): xgboost.XGBRegressor, ("xgboost", False): xgboost.XGBClassifier,
        ("lightgbm", True): lightgbm.LGBMRegressor, ("lightgbm", False): lightgbm.LGBMClassifier,
    }  # fmt: skip
    common = XGB if package == "xgboost" else LGB
    model = models[package, kind in ("value", "positive")](**{**common, **settings})
    return model.fit(matrix, target(matrix, kind)), matrix


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["two", "codes", "value"])
@pytest.mark.parametrize("package", ["xgboost", "lightgbm"])
def test_answers_are_equal_in_every_bit(package: str, kind: str, seed: int, tmp_path: Path) -> None:
    model, matrix = fitted(package, seed, kind)
    found = compared(model, matrix, tmp_path)
    assert found.exact == BIT_EQUAL
    check_same(found, model, np.full((3, 6), np.nan))


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("two", {"booster": "dart", "rate_drop": 0.3}),
        ("two", {"objective": "binary:hinge"}),
        ("two", {"objective": "binary:logitraw"}),
        ("codes", {"objective": "multi:softmax"}),
        ("codes", {"booster": "dart", "rate_drop": 0.3}),
        ("value", {"base_score": 3.5}),
        ("value", {"objective": "reg:absoluteerror"}),
        ("value", {"objective": "reg:pseudohubererror"}),
        ("positive", {"objective": "count:poisson"}),
        ("positive", {"objective": "reg:tweedie"}),
        ("positive", {"objective": "reg:gamma"}),
        ("two", {"missing": 0.0}),
        ("value", {"missing": -1.0, "tree_method": "exact"}),
        ("value", {"grow_policy": "lossguide", "max_leaves": 20, "max_depth": 0}),
    ],
)
def test_kinds_of_xgboost(kind: str, settings: dict[str, Any], tmp_path: Path) -> None:
    model, matrix = fitted("xgboost", 2, kind, **settings)
    compared(model, matrix, tmp_path)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("words", {}),
        ("flags", {}),
        ("numbers", {"objective": "multiclassova"}),
        ("two", {"boosting_type": "dart"}),
        ("words", {"boosting_type": "rf", "bagging_freq": 1, "bagging_fraction": 0.7}),
        ("value", {"linear_tree": True}),
        ("value", {"zero_as_missing": True}),
        ("value", {"objective": "quantile"}),
        ("positive", {"objective": "tweedie"}),
        ("positive", {"objective": "poisson"}),
    ],
)
def test_kinds_of_lightgbm(kind: str, settings: dict[str, Any], tmp_path: Path) -> None:
    model, matrix = fitted("lightgbm", 3, kind, **settings)
    compared(model, matrix, tmp_path)


def test_categories_that_lightgbm_knows_as_numbers(tmp_path: Path) -> None:
    matrix = table(4, missing=0.05)
    matrix[:, 2] = np.abs(np.nan_to_num(matrix[:, 2]))
    model = lightgbm.LGBMRegressor(**LGB, min_data_per_group=5, cat_smooth=1)
    model.fit(matrix, target(matrix, "value"), categorical_feature=[2])
    found = compared(model, matrix, tmp_path)
    asked = matrix[:30].copy()
    asked[:10, 2], asked[10:20, 2], asked[20:, 2] = 77, -3, 2.7
    check_same(found, model, asked)


@pytest.mark.parametrize("model", [xgboost.XGBRFClassifier(n_estimators=9), xgboost.XGBRFRegressor(n_estimators=9)])
def test_random_forests_of_xgboost(model: Any, tmp_path: Path) -> None:
    matrix = table(5, missing=0.1)
    compared(model.fit(matrix, target(matrix, "two")), matrix, tmp_path)


@pytest.mark.parametrize("kind", ["two", "codes", "value"])
def test_only_the_rounds_up_to_the_best_one_answer(kind: str, tmp_path: Path) -> None:
    matrix, other = table(6), table(7)
    shuffled = np.random.default_rng(0).permutation(target(other, kind))
    value = kind == "value"
    model: Any = (xgboost.XGBRegressor if value else xgboost.XGBClassifier)(
        **{**XGB, "n_estimators": 60}, early_stopping_rounds=5
    )
    model.fit(matrix, target(matrix, kind), eval_set=[(other, shuffled)], verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    compared(model, matrix, tmp_path / "xgboost")
    model = (lightgbm.LGBMRegressor if value else lightgbm.LGBMClassifier)(**{**LGB, "n_estimators": 60})
    stop = lightgbm.early_stopping(5, verbose=False)
    model.fit(matrix, target(matrix, kind), eval_set=[(other, shuffled)], callbacks=[stop])
    assert 0 < model.best_iteration_ < 60
    compared(model, matrix, tmp_path / "lightgbm")


def test_rankers(tmp_path: Path) -> None:
    matrix = table(8)
    grades = target(matrix, "codes")
    model: Any = xgboost.XGBRanker(**XGB).fit(matrix, grades, qid=np.arange(400) // 20)
    compared(model, matrix, tmp_path / "xgboost")
    model = lightgbm.LGBMRanker(**LGB).fit(matrix, grades, group=[20] * 20)
    compared(model, matrix, tmp_path / "lightgbm")


@pytest.mark.parametrize("kind", ["two", "codes", "value"])
def test_bare_boosters(kind: str) -> None:
    model, matrix = fitted("xgboost", 9, kind)
    booster = model.get_booster()
    found = compile_estimator(booster, sparse=False)
    np.testing.assert_array_equal(found(matrix), booster.predict(xgboost.DMatrix(matrix)).astype(np.float64))
    wanted = {"two": ("probability", (0, 1)), "codes": ("probabilities", (0, 1, 2)), "value": ("value", ())}[kind]
    assert found.outputs == wanted
    model, matrix = fitted("lightgbm", 9, kind)
    found = compile_estimator(model.booster_, sparse=False)
    np.testing.assert_array_equal(found(matrix), model.booster_.predict(matrix))
    assert found.outputs == wanted


@pytest.mark.parametrize("package", ["xgboost", "lightgbm"])
def test_values_at_thresholds_and_beside_them(package: str) -> None:
    model, matrix = fitted(package, 10, "value", missing=0)
    found = compile_estimator(model, sparse=False)
    if package == "xgboost":
        frame = model.get_booster().trees_to_dataframe().query("Feature != 'Leaf'")
        features, at = frame["Feature"].str[1:].astype(int).to_numpy(), frame["Split"].to_numpy(np.float64)
    else:
        frame = model.booster_.trees_to_dataframe().dropna(subset=["threshold"])
        features = frame["split_feature"].str.split("_").str[1].astype(int).to_numpy()
        at = frame["threshold"].to_numpy(np.float64)
    for value in around(at):
        asked = matrix[np.arange(len(at)) % len(matrix)]
        asked[np.arange(len(at)), features] = value
        check_same(found, model, asked)


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e300, -1e39, 5e-324, 3.4028235e38])
@pytest.mark.parametrize("package", ["xgboost", "lightgbm"])
def test_extremes(package: str, value: float) -> None:
    model, _ = fitted(package, 11, "value")
    found = compile_estimator(model, sparse=False)
    asked = np.zeros((2, 6))
    asked[1, 0] = value
    assert refusal(found, asked) == refusal(model.predict, asked) == ""
    check_same(found, model, asked)


@pytest.mark.parametrize("settings", [{}, {"missing": -1.0}, {"missing": 0.0}])
def test_zeros_of_a_sparse_matrix_are_missing_to_xgboost(settings: dict[str, Any], tmp_path: Path) -> None:
    from scipy.sparse import csr_matrix

    matrix = table(12)
    matrix[np.abs(matrix) < 0.7] = 0
    matrix[::7, 1] = -1
    matrix[::11, 4] = np.nan
    model: Any = xgboost.XGBRegressor(**XGB, **settings).fit(csr_matrix(matrix), target(matrix, "value"))
    found = compared(model, matrix, tmp_path, sparse=True)
    if settings.get("missing") != 0:
        dense = compile_estimator(model, sparse=False)(matrix)
        assert np.abs(dense - found(matrix)).max() > 1e-3


def test_zeros_of_a_sparse_matrix_are_zeros_to_lightgbm(tmp_path: Path) -> None:
    from scipy.sparse import csr_matrix

    matrix = table(13)
    matrix[np.abs(matrix) < 0.7] = 0
    matrix[::11, 4] = np.nan
    model: Any = lightgbm.LGBMRegressor(**LGB).fit(csr_matrix(matrix), target(matrix, "value"))
    compared(model, matrix, tmp_path, sparse=True)


@pytest.mark.parametrize("package", ["xgboost", "lightgbm"])
def test_another_width_is_refused(package: str) -> None:
    model, matrix = fitted(package, 14)
    found = compile_estimator(model, sparse=False)
    for asked in (matrix[:, :5], np.column_stack([matrix, matrix]), matrix[0]):
        with pytest.raises(ValueError, match="the model takes 6 columns"):
            found(asked)


@pytest.mark.parametrize("package", ["xgboost", "lightgbm"])
def test_threads_ask_at_once(package: str) -> None:
    model, matrix = fitted(package, 15, "codes")
    found, wanted = compile_estimator(model, sparse=False), scores(model, matrix)
    wrong: list[str] = []

    def ask(start: int) -> None:
        for turn in range(150):
            row = (start * 31 + turn) % 390
            size = 1 if turn % 3 else 10 + turn % 30
            if not np.array_equal(found(matrix[row : row + size]), wanted[row : row + size]):
                wrong.append(f"{start}: {row}, {size}")

    threads = [threading.Thread(target=ask, args=(start,)) for start in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def resident_mb() -> float:
    """Give how much memory this process holds now."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("package", ["xgboost", "lightgbm"])
def test_memory_is_given_back(package: str, tmp_path: Path) -> None:
    model, matrix = fitted(package, 16, n_estimators=300)
    found = read_again(compile_estimator(model, sparse=False), tmp_path)
    size = sum(path.stat().st_size for path in tmp_path.iterdir()) / 2**20

    def work(loads: int, calls: int) -> None:
        for _ in range(loads):
            loaded(tmp_path)(matrix[:2])
        for _ in range(calls):
            found(matrix[:1])
            found(matrix[:40])

    work(10, 300)
    before = resident_mb()
    work(60, 3000)
    assert resident_mb() - before < max(6.0, 10 * size)


@pytest.mark.parametrize("kind", ["two", "codes", "value"])
@pytest.mark.parametrize("package", ["xgboost", "lightgbm"])
def test_the_package_answers_where_the_library_cannot(
    package: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, matrix = fitted(package, 17, kind)
    made = compile_estimator(model, sparse=False)

    def refuse(package: str) -> Any:
        raise NotCompiled(f"no C library of {package} is installed here")

    monkeypatch.setattr(boosters, "open_library", refuse)
    found = read_again(made, tmp_path)
    check_same(found, model, matrix)
    check_same(found, model, matrix[:1])
    (tmp_path / made.evaluator.file).write_bytes(b"nothing that a booster knows")  # type: ignore[attr-defined]
    with pytest.raises(NotCompiled, match="no C library of"):
        loaded(tmp_path)


@pytest.mark.parametrize("package", ["xgboost", "lightgbm"])
def test_a_file_that_is_no_model_is_refused(package: str, tmp_path: Path) -> None:
    model, _ = fitted(package, 18)
    made = compile_estimator(model, sparse=False)
    read_again(made, tmp_path)
    (tmp_path / made.evaluator.file).write_bytes(b"{nothing}")  # type: ignore[attr-defined]
    with pytest.raises(NotCompiled):
        loaded(tmp_path)


def test_a_library_without_what_is_needed_is_refused() -> None:
    opened = library.open_library("xgboost")
    with pytest.raises(NotCompiled, match="has no XGBoosterOfTomorrow: it is too old"):
        opened.find(("XGBoosterCreate", "XGBoosterOfTomorrow"))


def test_boosters_inside_others(tmp_path: Path) -> None:
    matrix = table(19, missing=0.1)
    for kind in ("two", "codes"):
        labels = target(matrix, kind)
        for method in ("sigmoid", "isotonic"):
            for model in (xgboost.XGBClassifier(**XGB), lightgbm.LGBMClassifier(**LGB)):
                fitted = CalibratedClassifierCV(model, method=method, cv=2).fit(matrix, labels)
                compared(fitted, matrix, tmp_path / kind / method / type(model).__name__)
        members = [("x", xgboost.XGBClassifier(**XGB)), ("l", lightgbm.LGBMClassifier(**LGB))]
        voted = VotingClassifier(members, voting="soft").fit(matrix, labels)
        compared(voted, matrix, tmp_path / kind / "vote")
        alone = VotingClassifier(members[:1], voting="soft", weights=[3]).fit(matrix, labels)
        compared(alone, matrix, tmp_path / kind / "alone")


def flat(wanted: Any, found: Any) -> tuple[Any, Any]:
    """Give the gradients of a loss of one's own."""
    return found - wanted, np.ones_like(found)


def test_what_is_not_compiled_says_why() -> None:
    import pandas as pd

    matrix, value = table(20), target(table(20), "value")
    frame = pd.DataFrame({"x": np.arange(90.0), "c": pd.Categorical(["a", "b", "c"] * 30)})
    for model, why in (
        (xgboost.XGBRegressor(booster="gblinear").fit(matrix, value), "gblinear is not compiled"),
        (xgboost.XGBRegressor(objective=flat, n_estimators=2).fit(matrix, value), "objective of the project's own"),
        (xgboost.XGBRegressor(n_estimators=2).fit(matrix, matrix[:, :2]), "more than one output"),
        (
            xgboost.XGBRegressor(n_estimators=2, enable_categorical=True).fit(frame, frame["x"]),
            "XGBoost model was fitted to columns of the category dtype",
        ),
        (lightgbm.LGBMRegressor(**LGB, objective=flat).fit(matrix, value), "objective of the project's own"),
        (lightgbm.LGBMRegressor(**LGB, pred_early_stop=True).fit(matrix, value), "predicts with pred_early_stop"),
        (
            lightgbm.LGBMRegressor(**LGB).fit(frame, frame["x"]),
            "LightGBM model was fitted to columns of the category dtype",
        ),
    ):
        with pytest.raises(NotCompiled, match=why):
            compile_estimator(model, sparse=False)
