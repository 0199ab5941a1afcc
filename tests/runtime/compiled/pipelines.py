"""Random fitted pipelines: tables of mixed types, and transformers and estimators drawn by a seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.base import is_regressor
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import SelectKBest, SelectPercentile, VarianceThreshold, f_classif
from sklearn.impute import KNNImputer, MissingIndicator, SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline, make_union
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from trilho_runtime.schema.signature import Signature

ROWS = 240
TEXTS = ("ash", "birch", "cedar", "damson", "elm", "fir", "ginkgo", "", "A B", "maçã")
Chance = np.random.Generator


class Case(NamedTuple):
    """A fitted model, the table that it was fitted to, and its signature."""

    model: Any
    table: pd.DataFrame
    signature: Signature


def draw(chance: Chance, choices: Sequence[Any]) -> Any:
    """Give one of several."""
    return choices[int(chance.integers(len(choices)))]


def random_table(chance: Chance, rows: int = ROWS) -> pd.DataFrame:
    """Give a table of numbers of several types, booleans, texts and a time; some have nulls."""
    data: dict[str, Any] = {}
    for place in range(int(chance.integers(2, 6))):
        values = chance.normal(size=rows) * 10.0 ** chance.integers(-3, 5) + chance.normal()
        values[chance.random(rows) < draw(chance, (0.0, 0.0, 0.1, 0.4))] = np.nan
        data[f"number{place}"] = values
    if chance.random() < 0.4:
        data["single"] = chance.normal(size=rows).astype(np.float32)
    for place in range(int(chance.integers(0, 3))):
        data[f"count{place}"] = chance.integers(-3, 9, rows).astype(draw(chance, ("int64", "int64", "int32", "int8")))
    if chance.random() < 0.5:
        data["flag"] = chance.random(rows) < 0.3
    for place in range(int(chance.integers(1, 4))):
        data[f"text{place}"] = _texts(chance, rows)
    data["moment"] = pd.date_range("2026-01-01", periods=rows, freq="h")
    return pd.DataFrame(data)


def _texts(chance: Chance, rows: int) -> Any:
    weights = chance.dirichlet(np.ones(len(TEXTS)) * 0.7)
    values = chance.choice(np.array(TEXTS, object), rows, p=weights)
    kind = draw(chance, ("str", "str", "object", "category", "string"))
    nulls = chance.random(rows) < draw(chance, (0.0, 0.1, 0.3))
    series = pd.Series(values, dtype=object)
    if kind == "string" or not nulls.any():
        return series.astype("str" if kind == "string" else kind)
    series[nulls] = None if kind != "object" or chance.random() < 0.5 else np.nan
    return series.astype(kind)


def random_case(seed: int) -> Case:
    """Give a fitted random pipeline; what cannot be fitted is drawn again."""
    for attempt in range(20):
        try:
            return _case(np.random.default_rng((seed, attempt)))
        except ValueError:
            continue
    raise RuntimeError(f"seed {seed} gives no pipeline that can be fitted")


def _case(chance: Chance) -> Case:
    table = random_table(chance)
    labels = chance.integers(0, 2, len(table))
    if chance.random() < 0.25:
        labels = np.array(["no", "perhaps", "yes"], object)[chance.integers(0, 3, len(table))]
    model = make_pipeline(_columns(chance, table), *_after(chance), _estimator(chance))
    objects = any(str(dtype) == "object" for dtype in table.dtypes)
    if chance.random() < 0.2 and not objects:  # pandas makes texts of objects, but not of a single None
        model[0].set_output(transform="pandas")
    target = chance.normal(size=len(table)) if is_regressor(model) else labels
    return Case(model.fit(table, target), table, Signature.infer(table))


def _columns(chance: Chance, table: pd.DataFrame) -> ColumnTransformer:
    numbers = [n for n in table if n.startswith(("number", "single"))]
    counts = [n for n in table if n.startswith("count")]
    texts = [n for n in table if n.startswith("text")]
    parts: list[Any] = [("numbers", _of_numbers(chance), _chosen(chance, table, numbers))]
    parts += [("texts", _of_texts(chance), texts)]
    if counts:
        parts.append(("counts", _of_counts(chance), counts))
    if "flag" in table and chance.random() < 0.6:
        parts.append(
            ("flag", draw(chance, ("passthrough", OrdinalEncoder(), OneHotEncoder(drop="if_binary"))), ["flag"])
        )
    order = chance.permutation(len(parts))
    threshold = float(draw(chance, (0.0, 0.3, 1.0)))
    return ColumnTransformer([parts[i] for i in order], sparse_threshold=threshold)


def _chosen(chance: Chance, table: pd.DataFrame, names: list[str]) -> Any:
    """Choose columns by name, place, slice, mask or a function."""
    places = [table.columns.get_loc(n) for n in names]
    way = int(chance.integers(5))
    if way == 1:
        return places
    if way == 2 and places == list(range(places[0], places[-1] + 1)):
        return slice(places[0], places[-1] + 1)
    if way == 3:
        return np.isin(np.arange(len(table.columns)), places)
    return make_column_selector("number|single") if way == 4 else names


def _of_numbers(chance: Chance) -> Any:
    strategy = draw(chance, ("mean", "median", "most_frequent", "constant"))
    imputer = SimpleImputer(strategy=strategy, add_indicator=bool(chance.random() < 0.3))
    if chance.random() < 0.08:
        imputer = KNNImputer(n_neighbors=2)
    scaler: Callable[[], Any] = draw(
        chance,
        (
            StandardScaler,
            lambda: StandardScaler(with_mean=False),
            lambda: MinMaxScaler(clip=True),
            MaxAbsScaler,
            RobustScaler,
            Normalizer,
            Binarizer,
            PowerTransformer,
            lambda: QuantileTransformer(n_quantiles=50, output_distribution=draw(chance, ("uniform", "normal"))),
            lambda: KBinsDiscretizer(4, encode="ordinal", quantile_method="averaged_inverted_cdf"),
            lambda: KBinsDiscretizer(3, encode="onehot", quantile_method="averaged_inverted_cdf"),
            lambda: PolynomialFeatures(2, interaction_only=bool(chance.random() < 0.5)),
            lambda: PolynomialFeatures(3, include_bias=False),
            lambda: FunctionTransformer(draw(chance, (np.abs, np.cbrt, np.tanh, np.square, None))),
            lambda: FunctionTransformer(_halved),
            lambda: make_union(StandardScaler(), MissingIndicator(features="all")),
            lambda: FeatureUnion([("as they are", "passthrough"), ("main", PCA(1))]),
        ),
    )
    return make_pipeline(imputer, scaler())


def _halved(values: Any) -> Any:
    """A function of the user's own, which is not compiled."""
    return values / 2


def _of_counts(chance: Chance) -> Any:
    return draw(
        chance,
        (
            "passthrough",
            StandardScaler(),
            OneHotEncoder(handle_unknown="ignore"),
            OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
            SimpleImputer(strategy="most_frequent", missing_values=0),
            Binarizer(threshold=1.5),
        ),
    )


def _of_texts(chance: Chance) -> Any:
    unknown = draw(chance, ("error", "ignore", "ignore", "infrequent_if_exist"))
    rare = draw(chance, ({}, {"min_frequency": 0.1}, {"max_categories": 4}))
    drop = draw(chance, (None, None, "first", "if_binary"))
    encoder = draw(
        chance,
        (
            OneHotEncoder(handle_unknown=unknown, drop=drop, sparse_output=bool(chance.random() < 0.6), **rare),
            OneHotEncoder(handle_unknown=unknown, dtype=np.float32),
            OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, **rare),
            OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-9, encoded_missing_value=-2),
            TargetEncoder(cv=2, random_state=0),
        ),
    )
    imputer = draw(
        chance,
        (
            "passthrough",
            SimpleImputer(strategy="most_frequent"),
            SimpleImputer(strategy="constant", fill_value="none"),
            SimpleImputer(strategy="constant", fill_value="none", missing_values=None, add_indicator=False),
        ),
    )
    return Pipeline([("impute", imputer), ("encode", encoder)])


def _after(chance: Chance) -> list[Any]:
    steps: tuple[list[Any], ...] = (
        [],
        [],
        [SimpleImputer(), VarianceThreshold()],
        [SimpleImputer(), SelectKBest(f_classif, k=2)],
        [SimpleImputer(), SelectPercentile(f_classif, percentile=70)],
        [SimpleImputer(), TruncatedSVD(2, random_state=0)],
        [SimpleImputer(), MaxAbsScaler()],
        ["passthrough"],
    )
    return list(draw(chance, steps))


def _estimator(chance: Chance) -> Any:
    if chance.random() < 0.5:
        return draw(
            chance, (DecisionTreeClassifier(max_depth=4), RandomForestClassifier(5, max_depth=4, random_state=0))
        )
    return draw(
        chance,
        (
            make_pipeline(SimpleImputer(), LogisticRegression(max_iter=50)),
            LogisticRegression(max_iter=50),
            make_pipeline(SimpleImputer(), Ridge()),
            DecisionTreeRegressor(max_depth=4),
        ),
    )


def asked_rows(case: Case, chance: Chance, count: int = 40) -> list[dict[str, Any]]:
    """Give rows as requests hold them: of the table, with nulls where they may be, unseen texts and large numbers."""
    rows = case.signature.rows(case.table.iloc[chance.integers(0, len(case.table), count)])
    return [{f.name: _value(f, row[f.name], chance) for f in case.signature.fields} for row in rows]


def _value(field: Any, value: Any, chance: Chance) -> Any:
    lot = chance.random()
    if lot > 0.15:
        return value
    if field.nullable and lot < 0.05:
        return None
    if field.type == "string":
        return draw(chance, ("never seen", "", "ash ", "ASH", *TEXTS))
    if field.type == "number":
        return float(np.float32(chance.normal() * 10.0 ** chance.integers(-8, 12)))
    return int(chance.integers(-100, 100)) if field.type == "integer" else value
