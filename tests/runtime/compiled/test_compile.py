"""Whole models: how their parts are put together, kept in files, and proven."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from trilho_runtime.compiled import NotCompiled, load
from trilho_runtime.compiled.compile import compile_model
from trilho_runtime.compiled.original import scores_of
from trilho_runtime.compiled.plan import CHUNK_ROWS, Compiled
from trilho_runtime.compiled.prove import prove
from trilho_runtime.schema.field import RowError
from trilho_runtime.schema.signature import Signature

pytestmark = pytest.mark.filterwarnings("ignore")
ROWS = 500
CHANCE = np.random.default_rng(3)
TABLE = pd.DataFrame(
    {
        "n1": CHANCE.normal(size=ROWS),
        "n2": CHANCE.normal(size=ROWS) * 50 + 7,
        "count": CHANCE.integers(0, 5, ROWS),
        "flag": CHANCE.random(ROWS) < 0.4,
        "tree": CHANCE.choice(["ash", "birch", "elm"], ROWS),
        "at": pd.date_range("2026-01-01", periods=ROWS, freq="h"),
    }
)
TABLE.loc[CHANCE.random(ROWS) < 0.2, "n1"] = np.nan
TABLE.loc[CHANCE.random(ROWS) < 0.2, "tree"] = None
LABELS = (TABLE["n2"] + CHANCE.normal(size=ROWS) * 30 > 7).astype(int).to_numpy()
VALUES = np.exp(TABLE["n2"].to_numpy() / 100)
SIGNATURE = Signature.infer(TABLE)
NUMBERS = ["n1", "n2"]


def preprocessing(**given: Any) -> ColumnTransformer:
    scaled = make_pipeline(SimpleImputer(), StandardScaler())
    coded = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    return ColumnTransformer([("numbers", scaled, NUMBERS), ("texts", coded, ["tree"])], **given)


def proven(model: Any, table: pd.DataFrame = TABLE, **given: Any) -> Compiled:
    """Compile a model, prove it, and compare all rows' answers with the original's."""
    signature = Signature.infer(table)
    made = compile_model(model, table, signature, **given)
    prove(model, made, table, signature)
    columns = signature.arrays(table)
    expected = scores_of(model, signature.frame(columns))
    np.testing.assert_allclose(made.predict(columns), expected, rtol=1e-11, atol=1e-12)
    return made


PARTS = {
    "names": NUMBERS,
    "places": [0, 1],
    "negative places": [-6, 1],
    "slice": slice(0, 2),
    "slice of names": slice("n1", "n2"),
    "mask": [True, True, False, False, False, False],
    "function": make_column_selector(dtype_include="float64"),
}


@pytest.mark.parametrize("columns", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("remainder", ["drop", "passthrough"])
def test_columns_are_chosen_as_the_original_does(columns: Any, remainder: str) -> None:
    chosen = ColumnTransformer([("numbers", SimpleImputer(), columns)], remainder=remainder)
    table = TABLE.drop(columns=["tree", "at"] if remainder == "passthrough" else [])
    if isinstance(columns, list) and columns[0] is True:
        chosen.transformers = [("numbers", SimpleImputer(), columns[: table.shape[1]])]
    if columns == [-6, 1] and remainder == "passthrough":
        chosen.transformers = [("numbers", SimpleImputer(), [-4, 1])]
    model = make_pipeline(chosen, DecisionTreeClassifier(max_depth=4)).fit(table, LABELS)
    assert proven(model, table).path == "compiled"


def test_a_column_transformer_finds_columns_by_name_in_another_order() -> None:
    model = make_pipeline(preprocessing(), LogisticRegression()).fit(TABLE, LABELS)
    turned = TABLE[TABLE.columns[::-1]]
    made = compile_model(model, turned, Signature.infer(turned))
    np.testing.assert_allclose(made.predict(SIGNATURE.arrays(TABLE)), model.predict_proba(TABLE)[:, 1], rtol=1e-12)


MODELS: dict[str, Any] = {
    "nested": Pipeline([("outer", Pipeline([("inner", preprocessing()), ("same", "passthrough")])), ("end", Ridge())]),
    "union": make_pipeline(
        ColumnTransformer([("n", SimpleImputer(), NUMBERS)]),
        FeatureUnion([("scaled", MinMaxScaler()), ("dropped", "drop"), ("as they are", "passthrough")]),
        Ridge(),
    ),
    "frames": make_pipeline(
        ColumnTransformer([("n", SimpleImputer(), NUMBERS)], remainder="drop").set_output(transform="pandas"),
        ColumnTransformer([("s", StandardScaler(), ["n__n2"])], remainder="passthrough"),
        Ridge(),
    ),
    "weights": make_pipeline(preprocessing(transformer_weights={"numbers": 2.0, "texts": 0.3}), Ridge()),
    "search": GridSearchCV(make_pipeline(preprocessing(), Ridge()), {"ridge__alpha": [0.1, 1.0]}, cv=2),
    "log target": TransformedTargetRegressor(
        make_pipeline(preprocessing(), DecisionTreeRegressor(max_depth=3)), func=np.log1p, inverse_func=np.expm1
    ),
    "scaled target": TransformedTargetRegressor(make_pipeline(preprocessing(), Ridge()), transformer=StandardScaler()),
    "target at the end": make_pipeline(
        preprocessing(), TransformedTargetRegressor(Ridge(), func=np.sqrt, inverse_func=np.square)
    ),
    "no target": TransformedTargetRegressor(make_pipeline(preprocessing(), Ridge())),
}


@pytest.mark.parametrize("name", MODELS)
def test_parts_are_put_together(name: str) -> None:
    made = proven(MODELS[name].fit(TABLE, VALUES))
    assert (made.path, made.why, made.needs) == ("compiled", "every stage is array code", ())
    assert made.outputs.kind == "value"


def test_a_target_turned_back_by_a_function_of_the_users_own_falls_back_whole() -> None:
    inner = make_pipeline(preprocessing(), Ridge())
    model = TransformedTargetRegressor(inner, func=np.log1p, inverse_func=_back, check_inverse=False)
    with pytest.raises(NotCompiled, match="_back is not known; only numpy's own are compiled"):
        compile_model(model.fit(TABLE, VALUES), TABLE, SIGNATURE)


def _back(values: Any) -> Any:
    return np.expm1(values)


def test_three_classes_get_a_probability_each() -> None:
    labels = np.array(["a", "b", "c"])[CHANCE.integers(0, 3, ROWS)]
    made = proven(make_pipeline(preprocessing(), LogisticRegression()).fit(TABLE, labels))
    assert made.outputs == ("probabilities", ("a", "b", "c"))
    assert made.predict({name: column[:0] for name, column in SIGNATURE.arrays(TABLE).items()}).shape == (0, 3)


def test_an_estimator_that_falls_back_is_given_compiled_features() -> None:
    from sklearn.neighbors import KNeighborsClassifier

    made = proven(make_pipeline(preprocessing(), KNeighborsClassifier()).fit(TABLE, LABELS))
    assert made.path == "partly"
    assert [stage["path"] for stage in made.stages] == ["compiled"] * 4 + ["original"]
    assert made.stages[-1]["name"] == "kneighborsclassifier"


def test_zeros_of_a_sparse_matrix_are_absent_for_xgboost() -> None:
    xgboost = pytest.importorskip("xgboost")
    sparse = make_pipeline(preprocessing(sparse_threshold=1.0), xgboost.XGBClassifier(n_estimators=20, n_jobs=1))
    made = proven(sparse.fit(TABLE, LABELS))
    assert (made.path, made.needs) == ("compiled", ("xgboost",))


def test_a_model_of_an_array_takes_columns_by_their_place() -> None:
    table = TABLE[NUMBERS]
    model = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()).fit(table.to_numpy(), LABELS)
    assert proven(model, table).path == "compiled"


def test_a_table_that_no_signature_checks_may_hold_infinities() -> None:
    table = TABLE[NUMBERS]
    model = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()).fit(table, LABELS)
    made = proven(model, table, checked=False)
    columns = {"n1": np.array([1.0, np.inf]), "n2": np.array([np.nan, 2.0])}
    with pytest.raises(RowError, match="row 1: n1 is inf, which SimpleImputer refuses"):
        made.predict(columns)
    first = {name: column[:1] for name, column in columns.items()}
    np.testing.assert_allclose(made.predict(first), model.predict_proba(pd.DataFrame(first))[:, 1], rtol=1e-12)


def test_what_the_estimator_alone_refuses_is_refused() -> None:
    model = make_pipeline(ColumnTransformer([("n", "passthrough", NUMBERS)]), HistGradientBoostingClassifier())
    assert np.isfinite(proven(model.fit(TABLE, LABELS)).predict({**columns_of(1), "n1": np.array([np.nan])})).all()
    bare = make_pipeline(ColumnTransformer([("n", "passthrough", ["n2"])]), LogisticRegression()).fit(TABLE, LABELS)
    made = compile_model(bare, TABLE, SIGNATURE)
    with pytest.raises(ValueError, match="row 0: n2 is null, which LogisticRegression refuses"):
        made.predict({**columns_of(1), "n2": np.array([np.nan])})  # which the signature refuses before
    holes = make_pipeline(ColumnTransformer([("n", "passthrough", ["n2", "n1"])]), LogisticRegression())
    known = TABLE["n1"].notna()
    made = compile_model(holes.fit(TABLE[known], LABELS[known]), TABLE, SIGNATURE)
    with pytest.raises(RowError, match="row 0: n1 is null, which LogisticRegression refuses") as refused:
        made.predict({**columns_of(1), "n1": np.array([np.nan])})
    assert (refused.value.field, refused.value.row) == ("n1", 0)


def columns_of(count: int) -> dict[str, Any]:
    return {name: column[:count] for name, column in SIGNATURE.arrays(TABLE).items()}


def test_many_rows_are_answered_as_one_and_no_row_by_no_answer() -> None:
    made = proven(make_pipeline(preprocessing(), LogisticRegression()).fit(TABLE, LABELS))
    places = np.arange(100_000) % ROWS
    columns = {name: column[places] for name, column in SIGNATURE.arrays(TABLE).items()}
    found = made.predict(columns)
    assert found.shape == (100_000,)
    np.testing.assert_allclose(found, made.predict(SIGNATURE.arrays(TABLE))[places], rtol=1e-12)
    assert made.predict(columns_of(0)).shape == (0,)


def test_a_refused_row_is_named_by_its_place_in_the_whole_request() -> None:
    coded = ColumnTransformer([("codes", OrdinalEncoder(), ["tree"])])
    made = proven(make_pipeline(coded, SimpleImputer(), DecisionTreeClassifier()).fit(TABLE, LABELS))
    count = CHUNK_ROWS + 3
    columns = {name: np.resize(column, count) for name, column in SIGNATURE.arrays(TABLE).items()}
    columns["tree"][CHUNK_ROWS + 1] = "oak"
    with pytest.raises(RowError, match=f'^row {CHUNK_ROWS + 1}: tree is "oak"') as refused:
        made.predict(columns)
    assert (refused.value.field, refused.value.row) == ("tree", CHUNK_ROWS + 1)


def test_a_saved_model_is_the_same_bytes_and_the_same_answers(tmp_path: Path) -> None:
    model = make_pipeline(preprocessing(), DecisionTreeClassifier(max_depth=5, random_state=0)).fit(TABLE, LABELS)
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        files = proven(model).save(folder)
    assert files == ["compiled.json", "compiled.npz"]
    assert all((folders[0] / name).read_bytes() == (folders[1] / name).read_bytes() for name in files)
    again = load(folders[0], {}, original=_absent)
    columns = SIGNATURE.arrays(TABLE)
    np.testing.assert_array_equal(again.predict(columns), model.predict_proba(TABLE)[:, 1])
    assert again.told() == proven(model).told()
    assert again.told()["proven"]["largest_difference"] == 0.0


def _absent() -> Any:
    raise AssertionError("a full path asked for the original model")


def test_stages_that_fell_back_find_the_original_by_their_place(tmp_path: Path) -> None:
    guessed = ColumnTransformer([("guessed", KNNImputer(n_neighbors=2), NUMBERS), ("texts", OneHotEncoder(), ["tree"])])
    model = make_pipeline(guessed, SimpleImputer(), DecisionTreeClassifier(max_depth=4)).fit(TABLE, LABELS)
    proven(model).save(tmp_path)
    asked = []

    def original() -> Any:
        asked.append(1)
        return model

    again = load(tmp_path, {}, original=original)
    assert (again.path, asked) == ("partly", [])
    columns = SIGNATURE.arrays(TABLE)
    np.testing.assert_array_equal(again.predict(columns), model.predict_proba(TABLE)[:, 1])
    again.predict(columns_of(1))
    assert asked == [1]
    assert '"steps.0.1.transformers_.0.1"' in (tmp_path / "compiled.json").read_text()


def test_a_schema_of_another_version_is_refused(tmp_path: Path) -> None:
    proven(make_pipeline(preprocessing(), LogisticRegression()).fit(TABLE, LABELS)).save(tmp_path)
    told = json.loads((tmp_path / "compiled.json").read_text())
    (tmp_path / "compiled.json").write_text(json.dumps({**told, "schema": 2}))
    with pytest.raises(NotCompiled, match="has schema 2; this trilho-runtime reads 1"):
        load(tmp_path, {}, original=_absent)
    (tmp_path / "compiled.json").write_text("{")
    with pytest.raises(NotCompiled, match="cannot be read"):
        load(tmp_path, {}, original=_absent)


ALONE = """
import sys
from pathlib import Path
import numpy as np
from trilho_runtime.compiled import load
def original(): raise AssertionError("asked for the original")
model = load(Path(sys.argv[1]), {}, original=original)
one = {"n1": np.array([np.nan]), "n2": np.array([3.0]), "count": np.array([1]), "flag": np.array([True]),
       "tree": np.array(["elm"], object), "at": np.array(["2026-01-01"], "datetime64[us]")}
print(repr(model.predict(one).tolist()[0]))
print(sorted({name.partition(".")[0] for name in sys.modules} & {"pandas", "sklearn", "scipy", "joblib", "pyarrow"}))
"""


def test_a_full_path_imports_neither_pandas_nor_scikit_learn(tmp_path: Path) -> None:
    model = make_pipeline(preprocessing(), LogisticRegression()).fit(TABLE, LABELS)
    made = proven(model)
    made.save(tmp_path)
    done = subprocess.run([sys.executable, "-c", ALONE, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    answer, imported = done.stdout.splitlines()
    row = {"n1": np.array([np.nan]), "n2": np.array([3.0]), "tree": np.array(["elm"], object)}
    assert float(answer) == made.predict({**columns_of(1), **row})[0]
    assert imported == "[]"


def test_a_stage_that_gives_another_type_than_before_is_answered_by_the_whole_original() -> None:
    typed = ColumnTransformer([("typed", FunctionTransformer(_by_its_rows), NUMBERS)])
    model = make_pipeline(typed, SimpleImputer(), DecisionTreeClassifier(max_depth=3)).fit(TABLE, LABELS)
    made = compile_model(model, TABLE, SIGNATURE)
    assert made.path == "partly"
    columns = columns_of(1)
    np.testing.assert_array_equal(made.predict(columns), model.predict_proba(TABLE.iloc[:1])[:, 1])


def _by_its_rows(table: Any) -> Any:
    return table.astype("float32") if len(table) == 1 else table


def test_a_proof_finds_an_answer_that_is_not_the_originals() -> None:
    model = make_pipeline(preprocessing(), LogisticRegression()).fit(TABLE, LABELS)
    made = compile_model(model, TABLE, SIGNATURE)
    proof = prove(model, made, TABLE, SIGNATURE)
    assert (proof.rows, proof.refused_rows) == (ROWS, 0)
    assert proof.edge_rows > 20
    assert proof.largest_difference <= 1e-12
    other = make_pipeline(preprocessing(), LogisticRegression(C=0.9)).fit(TABLE, LABELS)
    with pytest.raises(NotCompiled, match=r"rows asked together are answered .* away from the original"):
        prove(other, made, TABLE, SIGNATURE)


def test_a_proof_finds_an_answer_where_the_original_refuses() -> None:
    strict = make_pipeline(ColumnTransformer([("t", OneHotEncoder(), ["tree"])]), LogisticRegression())
    lenient = make_pipeline(
        ColumnTransformer([("t", OneHotEncoder(handle_unknown="ignore"), ["tree"])]), LogisticRegression()
    )
    strict.fit(TABLE, LABELS)
    made = compile_model(lenient.fit(TABLE, LABELS), TABLE, SIGNATURE)
    with pytest.raises(NotCompiled, match="where the original refuses the row"):
        prove(strict, made, TABLE, SIGNATURE)
    assert prove(strict, compile_model(strict, TABLE, SIGNATURE), TABLE, SIGNATURE).refused_rows >= 2


def test_a_model_of_which_no_stage_is_known_is_not_compiled() -> None:
    model = make_pipeline(FunctionTransformer(_by_its_rows), KNNImputer(), _Guess()).fit(TABLE[NUMBERS], LABELS)
    with pytest.raises(NotCompiled, match=r"functiontransformer .*knnimputer .*_guess "):
        compile_model(model, TABLE[NUMBERS], Signature.infer(TABLE[NUMBERS]))


class _Guess(LogisticRegression):  # type: ignore[misc]
    """A class of the user's own."""


def test_fields_of_pandas_own_types() -> None:
    table = TABLE.assign(
        n1=TABLE["n1"].astype("Float64"),
        count=TABLE["count"].astype("Int64").mask(TABLE["n2"] > 60),
        tree=TABLE["tree"].fillna("ash").astype("category"),
    )
    signature = Signature.infer(table)
    columns = ColumnTransformer(
        [
            ("n", make_pipeline(SimpleImputer(), StandardScaler()), ["n1", "n2", "count"]),
            ("t", OneHotEncoder(handle_unknown="ignore"), ["tree"]),
        ]
    )
    made = proven(make_pipeline(columns, LogisticRegression()).fit(table, LABELS), table)
    assert made.path == "compiled", made.why
    row = {**{n: c[:1] for n, c in signature.arrays(table).items()}, "tree": np.array(["never seen"], object)}
    assert np.isfinite(made.predict(row)).all()
