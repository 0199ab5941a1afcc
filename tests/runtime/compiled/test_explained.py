"""A row that is refused at prediction: the field is named, or the stage and what it made of the row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, PolynomialFeatures, StandardScaler

from trilho_runtime.compiled import NotCompiled
from trilho_runtime.compiled.compile import compile_model
from trilho_runtime.compiled.prove import prove
from trilho_runtime.schema.field import RowError
from trilho_runtime.schema.signature import Signature

pytestmark = pytest.mark.filterwarnings("ignore")
CHANCE = np.random.default_rng(2)
TABLE = pd.DataFrame({"size": CHANCE.uniform(1, 5, 200), "price": CHANCE.uniform(1, 9, 200)})
VALUE = CHANCE.normal(size=200)
LOGS = ColumnTransformer([("l", make_pipeline(FunctionTransformer(np.log), StandardScaler()), ["price"])],
                         remainder="passthrough")  # fmt: skip
REFUSED: list[tuple[Any, dict[str, float], str, str | None]] = [
    (
        [FunctionTransformer(np.sqrt)],
        {"price": -4.0},
        "row 1: price is -4.0, of which sqrt makes NaN, which Ridge refuses",
        "price",
    ),
    ([LOGS], {"price": 0.0}, "row 1: price is 0.0, of which log makes -inf, which", "price"),
    (
        [FunctionTransformer(np.exp)],
        {"size": 4000.0},
        "row 1: size is 4000.0, of which exp makes inf, which Ridge refuses",
        "size",
    ),
    (
        [StandardScaler(), PolynomialFeatures(3)],
        {"price": 1e200},
        "row 1: PolynomialFeatures makes inf in column 5, which Ridge refuses",
        None,
    ),
]


@pytest.mark.parametrize(("steps", "change", "said", "field"), REFUSED, ids=["sqrt", "log", "exp", "products"])
def test_what_a_stage_makes_of_a_field_is_said(steps: Any, change: Any, said: str, field: str | None) -> None:
    model = make_pipeline(*steps, Ridge()).fit(TABLE, VALUE)
    with pytest.raises(RowError) as refused:
        asked(model, change)
    assert str(refused.value).startswith(said)
    assert (refused.value.field, refused.value.row) == (field, 1)


def test_a_number_that_single_precision_does_not_hold_names_its_field() -> None:
    with pytest.raises(RowError, match=r"row 1: price is 1e\+39, which RandomForestRegressor refuses") as refused:
        asked(RandomForestRegressor(3, random_state=0).fit(TABLE, VALUE), {"price": 1e39})
    assert (refused.value.field, refused.value.row) == ("price", 1)


def test_what_is_said_names_the_category_dtype() -> None:
    table = TABLE.assign(kind=pd.Categorical(CHANCE.choice(["a", "b"], 200)))
    kept = ColumnTransformer([("k", "passthrough", ["kind"]), ("s", OneHotEncoder(), ["kind"])], remainder="drop")
    model = make_pipeline(kept, FunctionTransformer(coded), Ridge()).fit(table, VALUE)
    made = compile_model(model, table, Signature.infer(table))
    assert (made.path, [s["path"] for s in made.stages][-1]) == ("partly", "compiled")
    texts = HistGradientBoostingRegressor(max_iter=3, categorical_features=[2]).fit(table, VALUE)
    texts._preprocessor = None
    with pytest.raises(NotCompiled, match="kind is of the category dtype"):
        compile_model(texts, table, Signature.infer(table))


def coded(values: Any) -> Any:
    return np.asarray(values)[:, 1:].astype(np.float64)


def asked(model: Any, change: dict[str, float]) -> Any:
    """Ask a compiled model for a usual row and one that is changed."""
    signature = Signature.infer(TABLE)
    made = compile_model(model, TABLE, signature)
    prove(model, made, TABLE, signature)
    assert made.path == "compiled"
    rows = signature.rows(TABLE.iloc[:2])
    return made.predict(signature.columns([rows[0], {**rows[1], **change}]))
