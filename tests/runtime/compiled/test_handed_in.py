"""Pipelines as data scientists hand them in: what was compiled of each answers as the original, or is refused as it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import (
    BaggingRegressor,
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_selection import SelectKBest, VarianceThreshold, f_classif
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import ElasticNet, LogisticRegression, PoissonRegressor, Ridge, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)
from sklearn.svm import LinearSVC

from trilho_runtime.compiled import load
from trilho_runtime.compiled.compile import compile_model
from trilho_runtime.compiled.original import scores_of
from trilho_runtime.compiled.prove import prove
from trilho_runtime.schema.signature import Signature

pytestmark = pytest.mark.filterwarnings("ignore")
ROWS = 300
CHANCE = np.random.default_rng(23)
TABLE = pd.DataFrame(
    {
        "age": CHANCE.normal(45, 15, ROWS).round(1),
        "income": CHANCE.lognormal(8, 1, ROWS).round(2),
        "visits": CHANCE.integers(0, 30, ROWS),
        "member": CHANCE.random(ROWS) < 0.5,
        "city": CHANCE.choice(["São Paulo", "Recife", "Rio", "Belém"], ROWS, p=[0.55, 0.25, 0.17, 0.03]),
        "plan": CHANCE.choice(["basic", "gold", "plus"], ROWS),
        "note": CHANCE.choice(["ok", "a longer note", "", "médio"], ROWS),
    }
)
TABLE.loc[CHANCE.random(ROWS) < 0.1, "age"] = np.nan
TABLE.loc[CHANCE.random(ROWS) < 0.1, "plan"] = None
VALUE = (TABLE["visits"] / 10 - TABLE["age"].fillna(45) / 40 + (TABLE["plan"] == "gold")).to_numpy() + CHANCE.normal(
    0, 0.3, ROWS
)
TWO = (np.median(VALUE) < VALUE).astype(np.int64)
WORDS = np.array(["alto", "médio", "bajo"])[np.digitize(VALUE, np.quantile(VALUE, [0.3, 0.7]))]
NUMBERS, TEXTS = ["age", "income", "visits"], ["city", "plan"]
CATEGORIES = TABLE[[*NUMBERS, "member", *TEXTS]].astype(dict.fromkeys(TEXTS, "category")).assign(
    rank=pd.Categorical(CHANCE.choice([3, 7, 9], ROWS), ordered=True)
)  # fmt: skip
GAPS = CATEGORIES.copy()
GAPS.loc[4:20, ["city", "rank"]] = None
SINGLES = TABLE[["income", "visits"]].astype("float32")


def numbers(*steps: Any) -> Any:
    return make_pipeline(SimpleImputer(strategy="median"), *steps)


def both(of_numbers: Any = None, of_texts: Any = None, **rest: Any) -> ColumnTransformer:
    usual = numbers(StandardScaler()) if of_numbers is None else of_numbers
    texts = OneHotEncoder(handle_unknown="ignore") if of_texts is None else of_texts
    return ColumnTransformer([("n", usual, NUMBERS), ("t", texts, TEXTS)], **rest)


def boosted(**options: Any) -> Any:
    return xgboost.XGBClassifier(n_estimators=15, max_depth=4, n_jobs=1, **options)


def light(kind: Any, **options: Any) -> Any:
    return kind(n_estimators=15, verbosity=-1, n_jobs=1, min_child_samples=5, **options)


def tree(**options: Any) -> Any:
    return RandomForestClassifier(8, max_depth=5, random_state=0, **options)


def length(table: pd.DataFrame) -> Any:
    return table.apply(lambda column: column.str.len()).to_numpy(np.float64)


def passed() -> Any:
    kept = ColumnTransformer(
        [("n", SimpleImputer(), ["age"]), ("c", "passthrough", TEXTS)], verbose_feature_names_out=False
    )
    return kept.set_output(transform="pandas")


Case = tuple[Any, pd.DataFrame, Any, str]
CODES = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2)
HIST = partial(HistGradientBoostingClassifier, max_iter=15, min_samples_leaf=5)
CASES: dict[str, Callable[[], Case]] = {
    "xgboost of categories": lambda: (boosted(enable_categorical=True), GAPS, TWO, "compiled"),
    "xgboost regression of categories": lambda: (
        xgboost.XGBRegressor(n_estimators=15, enable_categorical=True, max_cat_to_onehot=1, n_jobs=1),
        GAPS,
        VALUE,
        "compiled",
    ),
    "lightgbm of categories": lambda: (light(lightgbm.LGBMClassifier), GAPS, WORDS, "compiled"),
    "lightgbm regression of categories": lambda: (light(lightgbm.LGBMRegressor), GAPS, VALUE, "compiled"),
    "histogram of categories": lambda: (HIST(categorical_features="from_dtype"), GAPS, WORDS, "compiled"),
    "histogram of texts by name": lambda: (
        HistGradientBoostingRegressor(max_iter=15, categorical_features=["city"]),
        TABLE[[*NUMBERS, "city"]],
        VALUE,
        "compiled",
    ),
    "histogram of full categories": lambda: (HIST(), CATEGORIES, TWO, "compiled"),
    "categories behind a passing transformer": lambda: (
        make_pipeline(passed(), light(lightgbm.LGBMRegressor)),
        GAPS[[*NUMBERS, *TEXTS]],
        VALUE,
        "compiled",
    ),
    "one-hot of categories": lambda: (make_pipeline(both(), LogisticRegression()), GAPS, TWO, "compiled"),
    "ridge of categories": lambda: (
        make_pipeline(ColumnTransformer([("o", CODES, ["city", "rank"])], remainder="drop"), Ridge()),
        GAPS,
        VALUE,
        "compiled",
    ),
    "calibrated pipelines": lambda: (
        CalibratedClassifierCV(make_pipeline(both(), LogisticRegression()), cv=2),
        TABLE,
        TWO,
        "compiled",
    ),
    "calibrated isotonic of three": lambda: (
        CalibratedClassifierCV(make_pipeline(both(), tree()), cv=2, method="isotonic"),
        TABLE,
        WORDS,
        "compiled",
    ),
    "calibrated frozen": lambda: (
        CalibratedClassifierCV(FrozenEstimator(make_pipeline(both(sparse_threshold=0), GaussianNB()).fit(TABLE, TWO))),
        TABLE,
        TWO,
        "compiled",
    ),
    "calibrated margins": lambda: (
        CalibratedClassifierCV(make_pipeline(both(), LinearSVC(random_state=0)), cv=2),
        TABLE,
        WORDS,
        "compiled",
    ),
    "vote of pipelines": lambda: (
        VotingClassifier(
            [
                ("l", make_pipeline(both(), LogisticRegression())),
                ("t", make_pipeline(both(of_texts=CODES), tree())),
                ("x", make_pipeline(both(), boosted())),
            ],
            voting="soft",
            weights=[1, 2, 3],
        ),
        TABLE,
        WORDS,
        "compiled",
    ),
    "vote of regressions": lambda: (
        VotingRegressor(
            [
                ("r", make_pipeline(both(), Ridge())),
                ("g", make_pipeline(both(of_texts=TargetEncoder(random_state=0)), light(lightgbm.LGBMRegressor))),
            ]
        ),
        TABLE,
        VALUE,
        "compiled",
    ),
    "vote within a vote": lambda: (
        VotingRegressor(
            [
                ("r", make_pipeline(both(), Ridge())),
                (
                    "v",
                    VotingRegressor(
                        [
                            ("e", make_pipeline(both(), ElasticNet(0.01))),
                            ("x", make_pipeline(both(), xgboost.XGBRegressor(n_estimators=9, n_jobs=1))),
                        ]
                    ),
                ),
            ]
        ),
        TABLE,
        VALUE,
        "compiled",
    ),
    "stack of pipelines": lambda: (
        StackingClassifier(
            [
                ("l", make_pipeline(both(), LogisticRegression())),
                ("t", make_pipeline(both(), tree())),
                ("s", make_pipeline(both(), LinearSVC(random_state=0))),
            ],
            cv=2,
        ),
        TABLE,
        TWO,
        "compiled",
    ),
    "stack of regressions": lambda: (
        StackingRegressor(
            [
                ("r", make_pipeline(both(), Ridge())),
                ("l", TransformedTargetRegressor(make_pipeline(both(), Ridge()), transformer=StandardScaler())),
            ],
            RandomForestRegressor(5, random_state=0),
            cv=2,
        ),
        TABLE,
        VALUE,
        "compiled",
    ),
    "vote with a member of the team's": lambda: (
        VotingClassifier(
            [
                ("l", make_pipeline(both(), LogisticRegression())),
                ("n", make_pipeline(ColumnTransformer([("len", FunctionTransformer(length), ["note"])]), tree())),
            ],
            voting="soft",
        ),
        TABLE,
        TWO,
        "partly",
    ),
    "search over a calibrated model": lambda: (
        GridSearchCV(
            CalibratedClassifierCV(make_pipeline(both(), SGDClassifier(random_state=0)), cv=2), {"cv": [2]}, cv=2
        ),
        TABLE,
        TWO,
        "compiled",
    ),
    "started from a logistic model": lambda: (
        make_pipeline(both(), GradientBoostingClassifier(n_estimators=9, init=LogisticRegression())),
        TABLE,
        WORDS,
        "compiled",
    ),
    "started from a forest": lambda: (
        make_pipeline(both(), GradientBoostingRegressor(n_estimators=9, init=RandomForestRegressor(5, random_state=0))),
        TABLE,
        VALUE,
        "compiled",
    ),
    "products of one-hot columns": lambda: (
        make_pipeline(both(sparse_threshold=1.0), PolynomialFeatures(3), Ridge(10)),
        TABLE,
        VALUE,
        "compiled",
    ),
    "clipped, rounded and filled": lambda: (
        make_pipeline(
            ColumnTransformer(
                [
                    ("c", FunctionTransformer(np.clip, kw_args={"a_min": 0, "a_max": 20}), ["visits", "income"]),
                    ("r", FunctionTransformer(partial(np.round, decimals=-1)), ["income"]),
                    ("f", FunctionTransformer(np.nan_to_num, kw_args={"nan": -1.0}), ["age"]),
                ]
            ),
            tree(),
        ),
        TABLE,
        TWO,
        "compiled",
    ),
    "ridge of single precision": lambda: (
        make_pipeline(StandardScaler(), Ridge()),
        SINGLES,
        VALUE.astype("f4"),
        "compiled",
    ),
    "logistic of single precision": lambda: (
        make_pipeline(StandardScaler(), LogisticRegression()),
        SINGLES,
        WORDS,
        "compiled",
    ),
    "bins and a network": lambda: (
        make_pipeline(
            both(numbers(KBinsDiscretizer(4, quantile_method="averaged_inverted_cdf"))),
            MLPClassifier((8,), max_iter=40, random_state=0),
        ),
        TABLE,
        WORDS,
        "compiled",
    ),
    "quantiles and extra trees": lambda: (
        make_pipeline(
            both(numbers(QuantileTransformer(n_quantiles=50, output_distribution="normal"))),
            ExtraTreesClassifier(8, random_state=0),
        ),
        TABLE,
        TWO,
        "compiled",
    ),
    "powers and the best columns": lambda: (
        make_pipeline(both(numbers(PowerTransformer())), SelectKBest(f_classif, k=4), LogisticRegression()),
        TABLE,
        WORDS,
        "compiled",
    ),
    "components of all": lambda: (
        make_pipeline(both(sparse_threshold=0), PCA(4, random_state=0), LogisticRegression()),
        TABLE,
        TWO,
        "compiled",
    ),
    "components of the sparse": lambda: (
        make_pipeline(both(sparse_threshold=1.0), TruncatedSVD(3, random_state=0), tree()),
        TABLE,
        WORDS,
        "compiled",
    ),
    "a transformer for each column": lambda: (
        make_pipeline(
            ColumnTransformer(
                [(name, numbers(StandardScaler()), [name]) for name in reversed(NUMBERS)]
                + [("m", "passthrough", ["member"])]
                + [(f"{name} again", numbers(MinMaxScaler()), [name]) for name in NUMBERS]
            ),
            Ridge(),
        ),
        TABLE,
        VALUE,
        "compiled",
    ),
    "length of a text": lambda: (
        make_pipeline(
            ColumnTransformer([("len", FunctionTransformer(length), ["note"]), ("n", numbers(), NUMBERS)]), Ridge()
        ),
        TABLE,
        VALUE,
        "partly",
    ),
    "union of ways": lambda: (
        make_pipeline(
            ColumnTransformer(
                [
                    (
                        "n",
                        make_union(
                            numbers(StandardScaler()),
                            numbers(
                                MinMaxScaler(),
                                KBinsDiscretizer(3, encode="ordinal", quantile_method="averaged_inverted_cdf"),
                            ),
                        ),
                        NUMBERS,
                    )
                ]
            ),
            VarianceThreshold(),
            PoissonRegressor(),
        ),
        TABLE,
        np.abs(VALUE),
        "compiled",
    ),
    "bags behind robust scales": lambda: (
        make_pipeline(both(numbers(RobustScaler())), BaggingRegressor(n_estimators=4, random_state=0)),
        TABLE,
        VALUE,
        "compiled",
    ),
    "target encoder of a flag": lambda: (
        make_pipeline(
            ColumnTransformer(
                [("t", TargetEncoder(random_state=0), ["city", "plan", "note"]), ("b", "passthrough", ["member"])]
            ),
            light(lightgbm.LGBMClassifier),
        ),
        TABLE,
        WORDS,
        "compiled",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_was_compiled_answers_as_the_original(name: str, tmp_path: Path) -> None:
    model, table, target, path = CASES[name]()
    model.fit(table, target)
    signature = Signature.infer(table)
    made = compile_model(model, table, signature)
    single = any(stage.get("bound") == "2e-06" for stage in made.stages)
    limit = 2e-6 if single else 1e-9
    prove(model, made, table, signature, limit)
    assert made.path == path, made.why
    made.save(tmp_path)
    again = load(tmp_path, made.told(), original=lambda: model)
    columns = signature.columns(unusual(signature, table))
    wanted = scores_of(model, signature.frame(columns))
    np.testing.assert_allclose(again.predict(columns), wanted, rtol=limit, atol=limit * np.abs(wanted).max())
    alone = [again.predict({key: column[i : i + 1] for key, column in columns.items()}) for i in range(25)]
    np.testing.assert_allclose(np.concatenate(alone), wanted[:25], rtol=limit, atol=limit * np.abs(wanted).max())


def unusual(signature: Signature, table: pd.DataFrame) -> list[dict[str, Any]]:
    """Give rows of the table, mixed anew, with texts never seen, large numbers, and nulls where they may be."""
    chance = np.random.default_rng(4)
    rows = signature.rows(table.iloc[chance.integers(0, len(table), 120)])
    made = []
    for row in rows:
        other = dict(row)
        for field in signature.fields:
            other[field.name] = rows[int(chance.integers(len(rows)))][field.name]
            lot = chance.random()
            if field.nullable and lot < 0.15:
                other[field.name] = None
            elif field.type == "string" and lot < 0.3:
                other[field.name] = str(chance.choice(["never seen", "", "rio", "RIO ", "nan"]))
            elif field.levels is not None and lot < 0.3:
                other[field.name] = 8
            elif field.type == "number" and lot < 0.3:
                other[field.name] = float(chance.choice([0.0, -3.5, 1e6, 123.25]))
            elif field.type == "integer" and field.levels is None and lot < 0.3:
                other[field.name] = int(chance.choice([0, -5, 99_999]))
        made.append(other)
    return made
