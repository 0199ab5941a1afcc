"""Boosters without an estimator, and models of single precision: packed, opened and asked as a server does."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from trilho_runtime import package
from trilho_runtime.compiled.estimators import compile_estimator
from trilho_runtime.model import packing
from trilho_runtime.model.precision import are_same
from trilho_runtime.model.proof import prove
from trilho_runtime.package import Package, first_difference, open_package

pytestmark = pytest.mark.filterwarnings("ignore")
CHANCE = np.random.default_rng(6)
TABLE = pd.DataFrame({"a": CHANCE.normal(size=200), "b": CHANCE.normal(5, 2, 200)})
TABLE.loc[3:9, "a"] = np.nan
KINDS = TABLE.assign(c=pd.Categorical(CHANCE.choice(["x", "é", "z"], 200)))
VALUE = TABLE["a"].fillna(0).to_numpy() + (KINDS["c"] == "é").to_numpy()
TWO, THREE = (VALUE > 0.3).astype(int), np.digitize(VALUE, [0, 0.8])
XGB = {"nthread": 1, "max_depth": 3}
LGB = {"verbosity": -1, "num_threads": 1, "min_data_in_leaf": 5}
CLASSES = {"num_class": 3}


@pytest.fixture(autouse=True)
def _proven_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof runs here, so that it takes no process of its own."""
    monkeypatch.setattr(packing, "prove_apart", lambda folder, own: prove(open_package(folder, ())))


def packed(model: Any, sample: Any, folder: Path) -> tuple[Package, dict[str, Any]]:
    """Pack a model, and give the package and its manifest."""
    written = package(model, sample=sample, name="m", out=folder / "m")
    return open_package(Path(written)), json.loads((Path(written) / "manifest.json").read_text())


@pytest.mark.parametrize(
    ("objective", "truth", "kind", "classes"),
    [
        ({"objective": "binary:logistic"}, TWO, "probability", [0, 1]),
        ({"objective": "multi:softprob", **CLASSES}, THREE, "probabilities", [0, 1, 2]),
        ({"objective": "multi:softmax", **CLASSES}, THREE, "class", [0, 1, 2]),
        ({"objective": "reg:squarederror"}, VALUE, "value", []),
        ({"objective": "binary:logitraw"}, TWO, "value", []),
    ],
    ids=lambda value: value.get("objective") if isinstance(value, dict) else "",
)
def test_an_xgboost_booster_is_packed_as_it_is(
    objective: Any, truth: Any, kind: str, classes: list[int], tmp_path: Path
) -> None:
    booster = xgboost.train({**XGB, **objective}, xgboost.DMatrix(KINDS, truth, enable_categorical=True), 8)
    opened, manifest = packed(booster, KINDS, tmp_path)
    told = manifest["estimator"]
    assert (told["file"], told["format"], told["class"]) == ("estimator.ubj", "xgboost", "xgboost.core.Booster")
    assert manifest["outputs"] == {"kind": kind, "classes": classes}
    assert (manifest["compiled"]["path"], manifest["compiled"]["needs"]) == ("compiled", ["xgboost"])
    expected = booster.predict(xgboost.DMatrix(KINDS, enable_categorical=True))
    for compiled in (True, False):
        found = opened.load(compiled=compiled).predict(opened.signature.rows(KINDS))
        np.testing.assert_array_equal(np.array(found), expected.astype(float))


@pytest.mark.parametrize(
    ("objective", "truth", "kind"),
    [
        ({"objective": "binary"}, TWO, "probability"),
        ({"objective": "multiclass", **CLASSES}, THREE, "probabilities"),
        ({"objective": "regression"}, VALUE, "value"),
    ],
    ids=["binary", "multiclass", "regression"],
)
def test_a_lightgbm_booster_is_packed_as_it_is(objective: Any, truth: Any, kind: str, tmp_path: Path) -> None:
    booster = lightgbm.train({**LGB, **objective}, lightgbm.Dataset(KINDS, truth), 8)
    opened, manifest = packed(booster, KINDS, tmp_path)
    told = manifest["estimator"]
    assert (told["file"], told["format"], told["class"]) == ("estimator.txt", "lightgbm", "lightgbm.basic.Booster")
    assert manifest["outputs"]["kind"] == kind
    assert (manifest["compiled"]["path"], manifest["compiled"]["needs"]) == ("compiled", ["lightgbm"])
    for compiled in (True, False):
        found = opened.load(compiled=compiled).predict(opened.signature.rows(KINDS))
        np.testing.assert_array_equal(np.array(found), booster.predict(KINDS))


def test_threads_ask_one_booster_without_each_others_rows() -> None:
    matrix = CHANCE.normal(size=(200, 6))
    model = xgboost.XGBRegressor(n_estimators=20, n_jobs=1).fit(matrix, matrix[:, 0])
    made, wanted = compile_estimator(model, sparse=False), model.predict(matrix).astype(np.float64)

    def asked(seed: int) -> bool:
        chance = np.random.default_rng(seed)
        picks = (chance.integers(0, 200, int(count)) for count in chance.choice([1, 1, 2, 40], 200))
        return all(np.array_equal(made(matrix[rows]), wanted[rows]) for rows in picks)

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(asked, range(12))) == [True] * 12


def test_a_booster_of_an_array_answers_with_all_of_its_rounds(tmp_path: Path) -> None:
    array = TABLE.to_numpy()
    matrix, other = xgboost.DMatrix(array, TWO), xgboost.DMatrix(array, 1 - TWO)
    options: Any = {"evals": [(other, "other")], "early_stopping_rounds": 3, "verbose_eval": False}
    booster = xgboost.train({**XGB, "objective": "binary:logistic"}, matrix, 20, **options)
    assert booster.best_iteration < booster.num_boosted_rounds() - 1
    opened, _ = packed(booster, array, tmp_path)
    named = pd.DataFrame(array, columns=["f0", "f1"])
    found = opened.load().predict(opened.signature.rows(named))
    np.testing.assert_array_equal(np.array(found), booster.predict(matrix).astype(float))


@pytest.mark.parametrize("last", [Ridge(), LogisticRegression()], ids=["ridge", "logistic"])
def test_a_model_of_single_precision_is_compiled_and_its_package_says_so(last: Any, tmp_path: Path) -> None:
    table = TABLE[["b"]].assign(d=CHANCE.normal(size=200)).astype("float32")
    truth = TWO if isinstance(last, LogisticRegression) else VALUE.astype("float32")
    model = make_pipeline(StandardScaler(), last).fit(table, truth)
    opened, manifest = packed(model, table, tmp_path)
    assert (manifest["precision"], manifest["compiled"]["path"]) == ("single", "compiled")
    assert manifest["compiled"]["stages"][-1]["bound"] == "2e-06"
    opened.prove(opened.load())
    wanted = model.predict_proba(table)[:, 1] if isinstance(last, LogisticRegression) else model.predict(table)
    np.testing.assert_allclose(opened.load().predict(opened.signature.rows(table)), wanted, rtol=2e-6, atol=1e-6)


def test_a_model_of_double_precision_is_held_to_the_usual_rule(tmp_path: Path) -> None:
    table = TABLE[["b"]]
    _, manifest = packed(Ridge().fit(table, VALUE), table, tmp_path)
    assert "precision" not in manifest
    assert (are_same([1.0], [1.0 + 1e-7], 1e-9), are_same([1.0], [1.0 + 1e-7], 2e-6)) == (False, True)
    assert first_difference([1e-8, 2e-8], [1e-8, 2.1e-8], 2e-6) == 1  # small answers are no rounding
