"""Each transformer that is compiled: its output is the original's, to the bound that it states."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA, IncrementalPCA, TruncatedSVD
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import RFE, SelectFromModel, SelectKBest, SelectPercentile, VarianceThreshold
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
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
from sklearn.tree import DecisionTreeClassifier

from trilho_runtime.compiled.compile import compile_model
from trilho_runtime.compiled.node import Cast, Chain
from trilho_runtime.compiled.plan import Compiled
from trilho_runtime.schema.field import RowError
from trilho_runtime.schema.signature import Signature

pytestmark = pytest.mark.filterwarnings("ignore")
ROWS = 400
BITS, CLOSE = "bit-equal", "1e-12"
CHANCE = np.random.default_rng(11)
NUMBERS = pd.DataFrame(
    {
        "small": CHANCE.normal(size=ROWS),
        "large": CHANCE.normal(size=ROWS) * 1e6 + 3e5,
        "positive": CHANCE.lognormal(size=ROWS),
        "whole": CHANCE.integers(-5, 6, ROWS),
    }
)
HOLES = NUMBERS.mask(CHANCE.random(NUMBERS.shape) < 0.2)
SINGLE = NUMBERS.astype(np.float32)
TEXTS = pd.DataFrame(
    {
        "tree": CHANCE.choice(["ash", "birch", "cedar", "elm", "fir"], ROWS, p=[0.5, 0.3, 0.1, 0.06, 0.04]),
        "yes": CHANCE.choice(["n", "y"], ROWS),
    }
)
GAPS = TEXTS.mask(CHANCE.random(TEXTS.shape) < 0.2)
LABELS = (NUMBERS["small"] + CHANCE.normal(size=ROWS) > 0).astype(int)


def compiled(transformer: Any, table: pd.DataFrame, labels: Any = LABELS) -> tuple[Compiled, Any]:
    """Compile a transformer before a tree, and give both models."""
    model = make_pipeline(transformer, DecisionTreeClassifier(max_depth=3)).fit(table, labels)
    return compile_model(model, table, Signature.infer(table)), model


def output(made: Compiled, table: pd.DataFrame) -> Any:
    """Give what the compiled transformer gives, before the tree."""
    return transformed(made, Signature.infer(table).arrays(table))


def transformed(made: Compiled, columns: dict[str, Any]) -> Any:
    """Give what runs before the tree, and before the conversion to what the tree takes."""
    assert isinstance(made.program, Chain)
    stages = made.program.stages[:-1]
    return Chain(stages[:-1] if isinstance(stages[-1], Cast) else stages)([columns[name] for name in made.fields])


def dense(found: Any) -> Any:
    return found.toarray() if hasattr(found, "toarray") else np.asarray(found)


NUMERIC = {
    "standard": (StandardScaler(), BITS),
    "mean only": (StandardScaler(with_std=False), BITS),
    "min-max": (MinMaxScaler((-1, 2), clip=True), BITS),
    "max-abs": (MaxAbsScaler(), BITS),
    "robust": (RobustScaler(quantile_range=(10, 90)), BITS),
    "l1": (Normalizer("l1"), CLOSE),
    "l2": (Normalizer("l2"), CLOSE),
    "max": (Normalizer("max"), CLOSE),
    "binarizer": (Binarizer(threshold=0.5), BITS),
    "bins": (KBinsDiscretizer(5, encode="ordinal", quantile_method="averaged_inverted_cdf"), BITS),
    "bins apart": (KBinsDiscretizer(5, encode="onehot-dense", strategy="uniform"), BITS),
    "yeo-johnson": (PowerTransformer(), CLOSE),
    "yeo-johnson only": (PowerTransformer(standardize=False), CLOSE),
    "quantiles": (QuantileTransformer(n_quantiles=100), CLOSE),
    "normal quantiles": (QuantileTransformer(n_quantiles=100, output_distribution="normal"), CLOSE),
    "squares": (PolynomialFeatures(2), BITS),
    "cubes": (PolynomialFeatures((2, 3), include_bias=False), BITS),
    "interactions": (PolynomialFeatures(3, interaction_only=True), BITS),
    "variance": (VarianceThreshold(2.0), BITS),
    "best": (SelectKBest(k=2), BITS),
    "percentile": (SelectPercentile(percentile=50), BITS),
    "eliminated": (RFE(LogisticRegression(), n_features_to_select=2), BITS),
    "from a model": (SelectFromModel(RandomForestClassifier(5, random_state=0)), BITS),
    "components": (PCA(2), CLOSE),
    "whitened": (PCA(3, whiten=True), CLOSE),
    "in parts": (IncrementalPCA(2), CLOSE),
    "singular": (TruncatedSVD(2, random_state=0), CLOSE),
    "identity": (FunctionTransformer(), BITS),
    "absolute": (FunctionTransformer(np.abs), BITS),
    "tanh": (FunctionTransformer(np.tanh, validate=True), CLOSE),
    "exp": (make_pipeline(MinMaxScaler(), FunctionTransformer(np.exp)), CLOSE),
}


SUMS = ("components", "whitened", "in parts", "singular")


@pytest.mark.parametrize("name", NUMERIC)
@pytest.mark.parametrize("table", [NUMBERS, SINGLE], ids=["float64", "float32"])
def test_a_transformer_of_numbers(name: str, table: pd.DataFrame) -> None:
    transformer, bound = NUMERIC[name]
    made, model = compiled(transformer, table)
    if table is SINGLE and name in SUMS:
        assert made.stages[0]["why"] == "sums of float32 are not the same to 1e-12 in one row and in many"
        return
    assert made.path == "compiled", made.why
    assert {stage["bound"] for stage in made.stages[:-1]} <= {BITS, bound}
    expected = dense(model[0].transform(table))
    found = output(made, table)
    found = np.column_stack(found) if isinstance(found, list) else found
    assert found.dtype == expected.dtype
    if bound == BITS:
        np.testing.assert_array_equal(found, expected)
    else:
        assert np.abs(found - expected).max() <= 1e-12 * max(1.0, np.abs(expected).max())
    columns = {name: column[:1] for name, column in Signature.infer(table).arrays(table).items()}
    np.testing.assert_array_equal(made.predict(columns), model.predict_proba(table.iloc[:1])[:, 1])


def test_box_cox_refuses_what_is_not_positive_and_names_it() -> None:
    made, model = compiled(PowerTransformer("box-cox"), NUMBERS[["positive"]])
    np.testing.assert_allclose(
        output(made, NUMBERS[["positive"]]), model[0].transform(NUMBERS[["positive"]]), rtol=1e-12
    )
    with pytest.raises(RowError, match="row 1: positive is -3; Box-Cox takes positive numbers only") as refused:
        made.predict({"positive": np.array([2.0, -3.0])})
    assert (refused.value.field, refused.value.row) == ("positive", 1)


@pytest.mark.parametrize("strategy", ["mean", "median", "most_frequent", "constant"])
@pytest.mark.parametrize("indicator", [False, True])
def test_an_imputer_of_numbers(strategy: str, indicator: bool) -> None:
    made, model = compiled(SimpleImputer(strategy=strategy, add_indicator=indicator), HOLES)
    expected = model[0].transform(HOLES)
    np.testing.assert_array_equal(output(made, HOLES), expected)
    assert made.stages[0]["bound"] == BITS
    assert expected.shape[1] == (8 if indicator else 4)


def test_an_imputer_leaves_out_a_column_that_was_empty() -> None:
    table = HOLES.assign(nothing=np.nan)
    made, model = compiled(SimpleImputer(), table)
    np.testing.assert_array_equal(output(made, table), model[0].transform(table))
    assert output(made, table).shape[1] == 4


def test_an_imputer_of_a_marked_integer() -> None:
    table = NUMBERS[["whole"]]
    made, model = compiled(SimpleImputer(missing_values=0, strategy="most_frequent"), table)
    expected = model[0].transform(table)
    np.testing.assert_array_equal(output(made, table), expected)
    assert output(made, table).dtype == expected.dtype == np.int64


def test_a_missing_indicator_refuses_a_null_where_none_was() -> None:
    table = HOLES.assign(small=NUMBERS["small"])
    made, model = compiled(MissingIndicator(), table)
    np.testing.assert_array_equal(output(made, table), model[0].transform(table))
    columns = {name: column[:1] for name, column in Signature.infer(table).arrays(table).items()}
    with pytest.raises(RowError, match="row 0: small is null, which MissingIndicator refuses"):
        made.predict({**columns, "small": np.array([np.nan])})


ENCODERS = {
    "one-hot": OneHotEncoder(handle_unknown="ignore"),
    "dense": OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32),
    "first dropped": OneHotEncoder(handle_unknown="ignore", drop="first"),
    "of two dropped": OneHotEncoder(handle_unknown="ignore", drop="if_binary"),
    "named dropped": OneHotEncoder(handle_unknown="ignore", drop=["cedar", "y"]),
    "rare": OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=0.15),
    "rare and first dropped": OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=0.15, drop="first"),
    "rare, ignored": OneHotEncoder(handle_unknown="ignore", max_categories=3),
    "warned": OneHotEncoder(handle_unknown="warn", max_categories=3),
    "ordinal": OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
    "unknown is NaN": OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan),
    "missing": OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-7),
    "integers": OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2, dtype=np.int64
    ),
    "rare ordinal": OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, min_frequency=0.15),
    "target": TargetEncoder(random_state=0),
}


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("table", [TEXTS, GAPS], ids=["whole", "gaps"])
@pytest.mark.parametrize("kind", ["str", "object", "category"])
def test_an_encoder(name: str, table: pd.DataFrame, kind: str) -> None:
    table = table.astype(kind)
    made, model = compiled(ENCODERS[name], table)
    assert made.path == "compiled", made.why
    asked = table.copy()
    if kind != "category":
        asked.loc[[3, 5], "tree"] = "oak"
        asked.loc[7, "yes"] = "?"
    expected = dense(model[0].transform(asked))
    columns = Signature.infer(table).arrays(asked)
    np.testing.assert_array_equal(transformed(made, columns), expected)
    for row in (3, 4, 7):
        single = transformed(made, {name: column[row : row + 1] for name, column in columns.items()})
        np.testing.assert_array_equal(single, expected[row : row + 1])


def test_a_target_encoder_of_three_classes() -> None:
    labels = np.array(["a", "b", "c"])[CHANCE.integers(0, 3, ROWS)]
    made, model = compiled(TargetEncoder(random_state=0), TEXTS, labels)
    np.testing.assert_array_equal(output(made, TEXTS), model[0].transform(TEXTS))
    assert output(made, TEXTS).shape == (ROWS, 6)


def test_an_encoder_of_numbers_and_booleans() -> None:
    table = pd.DataFrame({"n": HOLES["whole"], "i": NUMBERS["whole"], "b": NUMBERS["small"] > 0})
    made, model = compiled(OneHotEncoder(handle_unknown="ignore"), table)
    np.testing.assert_array_equal(output(made, table), dense(model[0].transform(table)))
    assert output(made, table).sum() == 3 * ROWS


@pytest.mark.parametrize("encoder", [OneHotEncoder(), OrdinalEncoder()], ids=["one-hot", "ordinal"])
def test_an_unseen_category_is_refused_by_name(encoder: Any) -> None:
    made, _ = compiled(encoder, TEXTS)
    with pytest.raises(
        RowError, match='row 1: tree is "oak", a category the model was not trained on; it knows'
    ) as many:
        made.predict({"tree": np.array(["ash", "oak"], object), "yes": np.array(["y", "n"], object)})
    assert (many.value.field, many.value.row) == ("tree", 1)
    with pytest.raises(RowError, match='row 0: yes is "no", a category'):
        made.predict({"tree": np.array(["ash"], object), "yes": np.array(["no"], object)})


@pytest.mark.parametrize("marker", [np.nan, None], ids=["nan", "none"])
@pytest.mark.parametrize("kind", ["str", "object"])
def test_an_imputer_of_texts_fills_in_what_its_marker_is(marker: Any, kind: str) -> None:
    table = GAPS.astype(object).where(GAPS.notna(), marker if kind == "object" else None).astype(kind)
    imputer = SimpleImputer(missing_values=marker, strategy="constant", fill_value="?")
    try:
        model = make_pipeline(imputer, OneHotEncoder(), DecisionTreeClassifier()).fit(table, LABELS)
    except ValueError:
        assert (marker, kind) == (None, "str")
        return
    made = compile_model(model, table, Signature.infer(table))
    assert made.path == "compiled", made.why
    np.testing.assert_array_equal(output(made, table), dense(model[:-1].transform(table)))


def test_stages_fall_back_one_by_one_and_say_why() -> None:
    halved = FunctionTransformer(half)
    columns = ColumnTransformer([("halved", halved, ["small"]), ("scaled", StandardScaler(), ["large", "whole"])])
    made, model = compiled(columns, NUMBERS)
    assert made.path == "partly"
    paths = {stage["name"]: stage["path"] for stage in made.stages}
    assert paths["columntransformer.halved"] == "original"
    assert paths["columntransformer.scaled"] == "compiled"
    assert "half is not known; only numpy's own are compiled" in made.why
    assert {"pandas", "sklearn"} <= set(made.needs)
    np.testing.assert_array_equal(output(made, NUMBERS), model[0].transform(NUMBERS))


def half(table: Any) -> Any:
    return table / 2


class Twice(StandardScaler):  # type: ignore[misc]
    """A class of the user's own, which inherits from one that is known."""

    def transform(self, X: Any, copy: Any = None) -> Any:
        return super().transform(X, copy) * 2


def test_a_class_that_inherits_from_a_known_one_is_not_taken_for_it() -> None:
    made, model = compiled(Twice(), NUMBERS)
    assert made.stages[0]["path"] == "original"
    assert "Twice is not among the transformers that are compiled" in made.why
    np.testing.assert_array_equal(output(made, NUMBERS), model[0].transform(NUMBERS))


def test_nan_is_refused_where_the_original_refuses_it() -> None:
    made, _ = compiled(make_pipeline(SimpleImputer(), StandardScaler()), HOLES)
    assert np.isfinite(made.predict({n: np.array([np.nan]) for n in HOLES})).all()
    bare, _ = compiled(PCA(2), NUMBERS)
    columns = {n: np.array([1.0]) if n != "whole" else np.array([1]) for n in NUMBERS}
    assert len(bare.predict(columns)) == 1
    with pytest.raises(ValueError):
        bare.predict({**columns, "large": np.array([1e305])})
