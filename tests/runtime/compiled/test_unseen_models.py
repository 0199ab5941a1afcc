"""Whole models as teams have them, packed and then asked by the data plane, against the fitted originals."""

from __future__ import annotations

import asyncio
import importlib
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import ElasticNet, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)
from sklearn.svm import SVC
from tests.runtime.compiled.originals import scores

from trilho_runtime import package
from trilho_runtime.prediction.job import Job
from trilho_runtime.serving.loaded import load_model
from trilho_runtime.serving.predict import PredictionApp
from trilho_runtime.web.http import HttpError

team = importlib.import_module("team")  # at the top, as in a project of its own; it lies beside this file
pytestmark = pytest.mark.filterwarnings("ignore")
ROWS, ASKED = 300, 60
CHANCE = np.random.default_rng(11)
TABLE = pd.DataFrame(
    {
        "age": CHANCE.normal(45, 15, ROWS).round(1),
        "income": CHANCE.lognormal(8, 1, ROWS).round(2),
        "visits": CHANCE.integers(0, 30, ROWS),
        "member": CHANCE.random(ROWS) < 0.5,
        "city": CHANCE.choice(["São Paulo", "Recife", "Rio", "Belém"], ROWS, p=[0.55, 0.25, 0.17, 0.03]),
        "plan": CHANCE.choice(["basic", "gold", "plus"], ROWS),
        "at": pd.Timestamp("2026-01-01") + pd.to_timedelta(CHANCE.integers(0, 86400 * 300, ROWS), unit="s"),
    }
)
TABLE.loc[CHANCE.random(ROWS) < 0.1, ["age", "income"]] = np.nan
TABLE.loc[CHANCE.random(ROWS) < 0.1, "plan"] = None
VALUE = (
    TABLE["visits"] / 10 - TABLE["age"].fillna(45) / 40 + (TABLE["plan"] == "gold") + CHANCE.normal(0, 0.3, ROWS)
).to_numpy()
TWO = (np.median(VALUE) < VALUE).astype(np.int64)
WORDS = np.array(["alto", "médio", "bajo"])[np.digitize(VALUE, np.quantile(VALUE, [0.3, 0.7]))]
NUMBERS, TEXTS = ["age", "income", "visits"], ["city", "plan"]
MIXED = TABLE[NUMBERS + TEXTS]


class Made(NamedTuple):
    """A fitted model, a table of its rows, what it is expected to be served by, and its features function."""

    model: Any
    table: pd.DataFrame
    path: str
    features: Callable[[pd.DataFrame], pd.DataFrame] | None = None


def columns(texts: Any, numbers: Any = None, **rest: Any) -> ColumnTransformer:
    """Give transformers of the numbers and of the texts."""
    usual = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    return ColumnTransformer([("n", numbers or usual, NUMBERS), ("t", texts, TEXTS)], **rest)


def one_hot(**options: Any) -> OneHotEncoder:
    return OneHotEncoder(**{"handle_unknown": "ignore", **options})


def indicators_beside_a_boolean() -> Made:
    table = TABLE[[*NUMBERS, *TEXTS, "member"]]
    numbers = make_pipeline(SimpleImputer(add_indicator=True), RobustScaler())
    return Made(make_pipeline(columns(one_hot(), numbers, remainder="passthrough"), Ridge()).fit(table, VALUE), table,
                "compiled")  # fmt: skip


def target_encoder_of_three_words() -> Made:
    steps = columns(TargetEncoder(random_state=0)), RandomForestClassifier(10, random_state=0)
    return Made(make_pipeline(*steps).fit(MIXED, WORDS), MIXED, "compiled")


def ordinal_with_unknowns_and_boolean_targets() -> Made:
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2)
    return Made(make_pipeline(columns(codes), ExtraTreesClassifier(10, random_state=0)).fit(MIXED, TWO > 0), MIXED,
                "compiled")  # fmt: skip


def infrequent_categories_before_a_kernel() -> Made:
    rare = one_hot(handle_unknown="infrequent_if_exist", min_frequency=20, sparse_output=False)
    return Made(make_pipeline(columns(rare), SVC()).fit(MIXED, WORDS), MIXED, "partly")


def transformers_of_the_team() -> Made:
    inner = ColumnTransformer(
        [("n", SimpleImputer(), make_column_selector(dtype_include="number")), ("f", team.Frequency(), TEXTS)]
    )
    model = make_pipeline(team.Ratio(), inner, lightgbm.LGBMRegressor(n_estimators=20, verbosity=-1, n_jobs=1))
    return Made(model.fit(MIXED, VALUE), MIXED, "partly")


def root_of_the_target() -> Made:
    inner = make_pipeline(columns(one_hot()), ElasticNet(alpha=0.01))
    model = TransformedTargetRegressor(inner, func=np.sqrt, inverse_func=np.square)
    return Made(model.fit(MIXED, np.abs(VALUE)), MIXED, "compiled")


def categories_by_dtype() -> Made:
    table = MIXED.astype({"city": "category", "plan": "category"})
    model = HistGradientBoostingClassifier(max_iter=10, categorical_features="from_dtype")
    return Made(model.fit(table, WORDS), table, "compiled")


def odd_names_before_sparse_trees() -> Made:
    names = ["idade do cliente", 'renda "líquida"', "instances", "cidade/UF é", "it's\tplan"]
    table = MIXED.set_axis(names, axis=1)
    steps = ColumnTransformer([("n", "passthrough", names[:3]), ("t", one_hot(), names[3:])], sparse_threshold=1.0)
    return Made(make_pipeline(steps, xgboost.XGBRegressor(n_estimators=20, n_jobs=1)).fit(table, VALUE), table,
                "compiled")  # fmt: skip


def nullable_types() -> Made:
    table = pd.DataFrame({"age": TABLE["age"].astype("Float64"), "visits": TABLE["visits"].astype("Int64")})
    table.loc[3:9, "visits"] = pd.NA
    model = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler(), LogisticRegression())
    return Made(model.fit(table, TWO), table, "compiled")


def calendar_features() -> Made:
    table = TABLE[["at", "age", "visits"]]
    model = xgboost.XGBRegressor(n_estimators=20, n_jobs=1).fit(team.calendar(table), VALUE)
    return Made(model, table, "partly", team.calendar)


def a_class_that_wraps_another() -> Made:
    model = team.Balanced(make_pipeline(columns(one_hot()), LogisticRegression()))
    return Made(model.fit(MIXED, TWO), MIXED, "pandas")


def narrow_integers_that_wrap_around() -> Made:
    table = pd.DataFrame({"few": (TABLE["visits"] * 9 % 256).astype("uint8"), "some": TABLE["visits"].astype("int32")})
    return Made(make_pipeline(FunctionTransformer(np.square), Ridge()).fit(table, VALUE), table, "compiled")


MODELS = [
    indicators_beside_a_boolean, target_encoder_of_three_words, ordinal_with_unknowns_and_boolean_targets,
    infrequent_categories_before_a_kernel, transformers_of_the_team, root_of_the_target, categories_by_dtype,
    odd_names_before_sparse_trees, nullable_types, calendar_features, a_class_that_wraps_another,
    narrow_integers_that_wrap_around,
]  # fmt: skip


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_what_is_served_is_what_the_original_says(make: Callable[[], Made], tmp_path: Path) -> None:
    made = make()
    written = package(made.model, sample=made.table, name="m", out=tmp_path / "m", features=made.features)
    asked = unusual(made.table.sample(ASKED, random_state=2).reset_index(drop=True))
    found = served(Path(written), [rows_of(asked), *([row] for row in rows_of(asked))])
    given = made.features(asked) if made.features else asked
    wanted = scores(made.model, given)
    assert written.path == made.path
    np.testing.assert_allclose(np.array(found[0]), wanted, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(np.concatenate([np.array(one) for one in found[1:]]), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("encoder", [OneHotEncoder(), OrdinalEncoder()], ids=lambda encoder: type(encoder).__name__)
def test_a_category_that_the_model_refuses_is_the_callers_mistake(encoder: Any, tmp_path: Path) -> None:
    table = TABLE[["city", "visits"]]
    model = make_pipeline(ColumnTransformer([("t", encoder, ["city"])], remainder="passthrough"), Ridge())
    written = package(model.fit(table, VALUE), sample=table, name="m", out=tmp_path / "m")
    good = {"city": "Rio", "visits": 3}
    answered, refused = served(Path(written), [[good], [good, {"city": "Mars", "visits": 3}]])
    np.testing.assert_allclose(answered, model.predict(pd.DataFrame([good])), rtol=1e-9)
    assert isinstance(refused, HttpError)
    assert refused.answer.status == 422
    assert (refused.answer.payload["field"], refused.answer.payload["row"]) == ("city", 1)


def unusual(table: pd.DataFrame) -> pd.DataFrame:
    """Give rows with what is far from the usual: texts never seen, extreme numbers, and nulls where they may be."""
    made = table.copy()
    for place, name in enumerate(table.columns):
        rows = made.index[place :: 2 * len(table.columns)]
        kind = table[name].dtype
        if isinstance(kind, pd.CategoricalDtype) or kind in ("bool", "datetime64[us]", "datetime64[ns]"):
            continue
        odd = extremes(kind)
        for turn, row in enumerate(rows):
            made.loc[row, name] = odd[turn % len(odd)]
    nullable = [name for name in table.columns if table[name].isna().any()]
    made.loc[made.index[-1], nullable] = None
    return made


def extremes(kind: Any) -> list[Any]:
    """Give values of a type that a model seldom sees."""
    if pd.api.types.is_integer_dtype(kind):
        return [255, 0, 200] if kind == "uint8" else [50_000, -5, 0]
    return [1e12, -3.5, 0.001] if pd.api.types.is_float_dtype(kind) else ["Ünseen", "", "nan"]


def rows_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Give a table's rows as JSON has them."""
    return [{str(name): value_of(value) for name, value in row.items()} for row in table.to_dict("records")]


def value_of(value: Any) -> Any:
    """Give a cell as JSON has it."""
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return None
    return value.isoformat() if isinstance(value, pd.Timestamp) else value


def served(folder: Path, requests: list[list[dict[str, Any]]]) -> list[Any]:
    """Ask a package's data plane, and give the scores or the error of each request."""
    plane = PredictionApp(1)
    paths = list(sys.path)
    here = sys.modules.pop(team.__name__)  # what serves has the package's code only
    try:
        plane.model = load_model(folder)
        return asyncio.run(ask(plane, requests))
    finally:
        sys.modules[team.__name__], sys.path[:] = here, paths


async def ask(plane: PredictionApp, requests: list[list[dict[str, Any]]]) -> list[Any]:
    """Ask for several requests at once."""
    jobs = [Job(f"{place:024x}", rows) for place, rows in enumerate(requests)]
    found = await asyncio.gather(*(plane.answer(job) for job in jobs), return_exceptions=True)
    return [getattr(outcome, "scores", outcome) for outcome in found]
