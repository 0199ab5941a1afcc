"""What `package` makes of models and samples of every kind; runs where pandas, scikit-learn and the boosters are."""

from __future__ import annotations

import hashlib
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pd: Any = pytest.importorskip("pandas", reason="runs in tests/notebooks/.venv: see test_cases.py")
pytest.importorskip("sklearn")
pytest.importorskip("xgboost")
pytest.importorskip("lightgbm")
pytest.importorskip("skops")

import lightgbm  # noqa: E402
import xgboost  # noqa: E402
from sklearn.compose import make_column_transformer  # noqa: E402
from sklearn.dummy import DummyClassifier, DummyRegressor  # noqa: E402
from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: E402
from sklearn.impute import SimpleImputer  # noqa: E402
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge  # noqa: E402
from sklearn.multioutput import MultiOutputClassifier  # noqa: E402
from sklearn.pipeline import Pipeline, make_pipeline  # noqa: E402
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler  # noqa: E402
from sklearn.svm import LinearSVC  # noqa: E402
from tests.runtime.case_fixtures import Write  # noqa: E402

import trilho_runtime  # noqa: E402
from trilho_runtime.model import packing  # noqa: E402
from trilho_runtime.model.estimator import is_safe  # noqa: E402
from trilho_runtime.model.manifest import PackageError  # noqa: E402
from trilho_runtime.model.validation import measures  # noqa: E402
from trilho_runtime.package import Package, open_package  # noqa: E402
from trilho_runtime.schema.signature import Signature  # noqa: E402
from trilho_runtime.serving.loaded import load_model  # noqa: E402

N = 120
MODULE = """
import numpy as np
import {helper}
from sklearn.base import BaseEstimator, TransformerMixin


def double(frame):
    return frame["x"].to_numpy() * {helper}.FACTOR


def shares(frame):
    low = np.clip(frame["x"].to_numpy(), 0, 1)
    return np.column_stack([low / 2, low / 2, 1 - low])


def words(frame):
    return np.where(frame["x"] > 0, "up", "down")


def two(frame):
    return np.ones((len(frame), 2))


def centred(frame):
    return frame["x"].to_numpy() - frame["x"].mean()


def build(frame):
    made = frame[["x"]] * 2
    made["long"] = frame["name"].str.len()
    return made


def decide(score):
    return score > 0.5


class Constant:
    def predict(self, frame):
        return np.full(len(frame), 7.0)


class Clip(BaseEstimator, TransformerMixin):
    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return np.clip(np.asarray(X, float), -1, 1)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """A module of the user's, which imports another one beside it."""
    name = "m" + hashlib.sha256(request.node.name.encode()).hexdigest()[:8]
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / f"{name}_help.py").write_text("FACTOR = 3\n")
    (folder / f"{name}.py").write_text(MODULE.replace("{helper}", f"{name}_help"))
    (folder / "unrelated.py").write_text("")
    monkeypatch.syspath_prepend(folder)
    return __import__(name)


def rows(**columns: Any) -> Any:
    rng = np.random.default_rng(3)
    usual = {"x": rng.normal(size=N), "k": rng.integers(0, 5, N), "c": rng.choice(["red", "blue", "green"], N)}
    return pd.DataFrame(usual | columns)


def labels(*values: Any) -> Any:
    return np.array(values)[np.random.default_rng(4).integers(0, len(values), N)]


def pipeline(last: Any) -> Pipeline:
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    return make_pipeline(
        make_column_transformer((numbers, ["x", "k"]), (OneHotEncoder(handle_unknown="ignore"), ["c"])), last
    )


def answers(package: Package, asked: list[dict[str, Any]], **options: Any) -> Any:
    return np.asarray(package.load(**options).predict(asked))


def test_a_pipeline_is_written_with_all_that_serving_needs(tmp_path: Path) -> None:
    frame, y = rows(), labels(0, 1)
    frame.loc[::9, "x"] = np.nan
    model = pipeline(LogisticRegression()).fit(frame, y)
    path = trilho_runtime.package(model, sample=frame, name="late", out=tmp_path / "late", y=y)
    assert path == tmp_path / "late"
    assert (path.rows_proven, path.format, path.path, path.signed_by) == (50, "skops", "compiled", None)
    assert "50 rows proven" in repr(path)
    package = open_package(path)
    manifest = package.manifest
    assert (manifest["schema"], manifest["task"], manifest["target"]) == (2, "classification", "prediction")
    assert manifest["outputs"] == {"kind": "probability", "classes": [0, 1]}
    assert manifest["estimator"]["file"] == "estimator.skops"
    x, k, c = manifest["signature"]
    assert (x["type"], x["nullable"], x["minimum"]) == ("number", True, frame["x"].min())
    assert k == {"name": "k", "type": "integer", "nullable": False, "minimum": 0, "maximum": 4}
    assert c["categories"] == ["blue", "green", "red"]
    assert manifest["compiled"]["path"] == "compiled"
    assert manifest["metrics"]["accuracy"] == (model.predict(frame) == y).mean()
    parts = {"estimator.skops", "lock.txt", "reference.json", "sample.json", "validation.npz"}
    assert parts <= set(manifest["files"])
    asked = [{"x": None, "k": 2, "c": "violet"}]
    expected = model.predict_proba(pd.DataFrame({"x": [np.nan], "k": [2], "c": ["violet"]}))[0, 1]
    for compiled in (True, False):
        assert answers(package, asked, compiled=compiled) == pytest.approx([expected], abs=1e-12)


def test_a_compiled_package_loads_without_what_fitted_it(tmp_path: Path) -> None:
    frame, y = rows(), labels(0, 1)
    model = pipeline(xgboost.XGBClassifier(n_estimators=5)).fit(frame, y)
    path = packing.package(model, frame, name="late", out=tmp_path / "late")
    code = """
import json, pickle, sys
def never(*given): raise AssertionError("unpickled")
pickle.loads = pickle.load = never
from trilho_runtime.package import open_package
package = open_package(sys.argv[1])
predictor = package.load()
package.prove(predictor)
rows, _ = package.sample()
heavy = sorted({"pandas", "sklearn", "scipy", "xgboost", "skops", "pyarrow", "cryptography"} & set(sys.modules))
print(json.dumps([predictor.path, predictor.fast, heavy, predictor.predict(rows[:3])]))
"""
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    told = json.loads(done.stdout or "null")
    assert told[:3] == ["compiled", True, []], done.stderr
    first = open_package(path).sample()[0][:3]
    assert told[3] == pytest.approx(model.predict_proba(pd.DataFrame(first))[:, 1].tolist(), abs=1e-9)


def test_array_code_of_another_schema_is_not_used_and_that_is_said(
    write: Write, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    frame, y = rows(), labels(0, 1)
    package = write(pipeline(LogisticRegression()).fit(frame, y), frame)
    monkeypatch.setattr("trilho_runtime.compiled.plan.SCHEMA", 99)
    predictor = load_model(package.folder).predictor
    assert (predictor.path, predictor.fast, predictor.stages) == ("pandas", False, ())
    assert "has schema 1; this trilho-runtime reads 99" in predictor.why
    assert "it is served as it was fitted, which is slower" in capfd.readouterr().err


ESTIMATORS: list[tuple[Callable[[], Any], tuple[Any, ...], str, dict[str, Any]]] = [
    (lambda: xgboost.XGBClassifier(n_estimators=4), (0, 1), "xgboost", {"kind": "probability", "classes": [0, 1]}),
    (lambda: xgboost.XGBRegressor(n_estimators=4, missing=-1), (1.5, 2.5), "xgboost", {"kind": "value", "classes": []}),
    (
        lambda: xgboost.XGBClassifier(n_estimators=4),
        (0, 1, 2),
        "xgboost",
        {"kind": "probabilities", "classes": [0, 1, 2]},
    ),
    (
        lambda: lightgbm.LGBMClassifier(n_estimators=4, verbose=-1),
        ("no", "so", "yes"),
        "lightgbm",
        {"kind": "probabilities", "classes": ["no", "so", "yes"]},
    ),
    (
        lambda: lightgbm.LGBMRegressor(n_estimators=4, verbose=-1),
        (1.5, 2.0),
        "lightgbm",
        {"kind": "value", "classes": []},
    ),
    (LogisticRegression, (False, True), "skops", {"kind": "probabilities", "classes": [False, True]}),
    (LogisticRegression, (1, 2), "skops", {"kind": "probabilities", "classes": [1, 2]}),
    (LogisticRegression, (0.0, 1.0), "skops", {"kind": "probability", "classes": [0, 1]}),
    (LinearSVC, ("a", "b", "c"), "skops", {"kind": "class", "classes": ["a", "b", "c"]}),
    (LinearSVC, (3, 5), "skops", {"kind": "class", "classes": [3, 5]}),
    (LinearRegression, (0, 1, 5), "skops", {"kind": "value", "classes": []}),
]


@pytest.mark.parametrize(("make", "values", "form", "outputs"), ESTIMATORS)
def test_every_estimator_is_stored_safely_and_predicts_the_same(
    write: Write, make: Callable[[], Any], values: tuple[Any, ...], form: str, outputs: dict[str, Any]
) -> None:
    frame, y = rows()[["x", "k"]], labels(*values)
    model = make().fit(frame, y)
    package = write(model, frame, y=y)
    assert (package.manifest["estimator"]["format"], package.manifest["outputs"]) == (form, outputs)
    if outputs["kind"] == "value":
        expected = model.predict(frame)
    elif outputs["kind"] == "class":
        expected = model.predict(frame)
        expected = expected if values == (3, 5) else np.searchsorted(["a", "b", "c"], expected)
    else:
        expected = model.predict_proba(frame)
        expected = expected[:, 1] if outputs["kind"] == "probability" else expected
    asked = Signature.infer(frame).rows(frame)
    for compiled in (True, False):
        found = answers(package, asked, compiled=compiled)
        assert found.shape == expected.shape
        assert found == pytest.approx(np.asarray(expected, float), abs=1e-9)


@pytest.mark.parametrize(
    "last", [xgboost.XGBClassifier(n_estimators=3), lightgbm.LGBMClassifier(n_estimators=3, verbose=-1)]
)
def test_a_pipeline_that_ends_in_a_booster_is_held_by_skops(write: Write, last: Any) -> None:
    frame = rows()
    package = write(pipeline(last).fit(frame, labels(0, 1)), frame)
    told = package.manifest["estimator"]
    assert told["format"] == "skops"
    assert any(kind.startswith(type(last).__module__.partition(".")[0]) for kind in told["trusted"])
    assert all(map(is_safe, told["trusted"]))


def test_a_functions_code_goes_with_it(write: Write, own: Any) -> None:
    package = write(own.double, rows()[["x"]])
    told = package.manifest
    assert told["estimator"]["format"] == "pickle"
    assert told["estimator"]["class"] == f"{own.__name__}.double"
    assert "stored by reference" in told["estimator"]["why"]
    code = sorted(name for name in told["files"] if name.startswith("code/"))
    assert code == [f"code/{own.__name__}.py", f"code/{own.__name__}_help.py"]
    assert answers(package, [{"x": 2.0}]).tolist() == [6.0]


def test_a_class_with_predict_and_one_within_a_pipeline(write: Write, own: Any) -> None:
    package = write(own.Constant(), rows()[["x"]])
    assert answers(package, [{"x": 2.0}]).tolist() == [7.0]
    assert package.manifest["outputs"]["kind"] == "value"
    frame = rows()[["x", "k"]]
    model = make_pipeline(own.Clip(), Ridge()).fit(frame, labels(0.5, 1.5))
    clipped = write(model, frame, out="clipped")
    told = clipped.manifest["estimator"]
    assert (told["format"], told["trusted"]) == ("skops", [f"{own.__name__}.Clip"])
    assert clipped.manifest["compiled"]["path"] == "partly"
    assert answers(clipped, [{"x": 9.0, "k": 1}]) == pytest.approx(model.predict(pd.DataFrame({"x": [1.0], "k": [1]})))


def test_what_functions_return_says_what_they_predict(write: Write, own: Any) -> None:
    frame = rows()[["x"]]
    many = write(own.shares, frame, task="classification", labels=["a", "b", "c"], out="many")
    assert many.manifest["outputs"] == {"kind": "probabilities", "classes": ["a", "b", "c"]}
    assert answers(many, [{"x": 0.5}]).tolist() == [[0.25, 0.25, 0.5]]
    named = write(own.words, frame, out="named")
    assert named.manifest["outputs"] == {"kind": "class", "classes": ["down", "up"]}
    assert answers(named, [{"x": 0.5}, {"x": -1.0}]).tolist() == [1.0, 0.0]
    with pytest.raises(PackageError, match=r"predicts \(120, 2\) values for 120 rows") as caught:
        write(own.two, frame)
    assert "Hint: package one model for each target" in str(caught.value)
    with pytest.raises(PackageError, match="the model looks at other rows than the one it describes"):
        write(own.centred, frame)


LOAD = """
import json, sys
from trilho_runtime.package import open_package
predictor = open_package(sys.argv[1]).load()
print(json.dumps([predictor.path, predictor.why, predictor.predict(json.loads(sys.argv[2]))]))
"""


def test_features_of_the_projects_stay_its_code(tmp_path: Path, own: Any) -> None:
    frame = rows(name=["ab", "abcd"] * (N // 2))[["x", "name"]]
    y = labels(0, 1)
    model = LogisticRegression().fit(own.build(frame), y)
    out = tmp_path / "made"
    path = packing.package(model, frame, name="tried", out=out, features=own.build, decide=own.decide, y=y)
    manifest = open_package(path).manifest
    assert manifest["features"] == f"{own.__name__}:build"
    assert manifest["decision"]["reference"] == f"{own.__name__}:decide"
    assert manifest["decision"]["digest"] == manifest["files"][f"code/{own.__name__}.py"]
    assert [field["name"] for field in manifest["signature"]] == ["x", "name"]
    asked = json.dumps([frame.iloc[0].to_dict()])
    command = [sys.executable, "-c", LOAD, str(path), asked]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    way, why, found = json.loads(done.stdout or "[0, 0, 0]")
    assert way == "partly", done.stderr
    assert f"{own.__name__}:build makes the features with pandas" in why
    assert found == pytest.approx([model.predict_proba(own.build(frame.iloc[:1]))[0, 1]], abs=1e-12)


@pytest.mark.parametrize("first", [0, 1])
def test_the_same_inputs_give_the_same_bytes(write: Write, first: int) -> None:
    frame, y = rows(), labels(0, 1)
    last = [LogisticRegression(), xgboost.XGBClassifier(n_estimators=3)][first]
    model = pipeline(last).fit(frame, y)
    again = pickle.loads(pickle.dumps(model))
    one, two = write(model, frame, y=y, out="one"), write(again, frame.copy(), y=y, out="two")
    assert one.manifest == two.manifest
    assert (one.folder / "manifest.json").read_bytes() == (two.folder / "manifest.json").read_bytes()


def test_arrays_dicts_and_texts_are_samples_too(write: Write) -> None:
    frame, y = rows()[["x", "k"]], labels(0.5, 2.5)
    array = frame.to_numpy()
    model = Ridge().fit(array, y)
    package = write(model, array, out="array")
    assert [field.name for field in package.signature.fields] == ["f0", "f1"]
    assert answers(package, [{"f0": 1.0, "f1": 2}]) == pytest.approx(model.predict([[1.0, 2.0]]))
    assert answers(package, [{"f0": 1.0, "f1": 2}], compiled=False) == pytest.approx(model.predict([[1.0, 2.0]]))
    numbered = write(Ridge().fit(pd.DataFrame(array), y), pd.DataFrame(array), out="numbered")
    assert answers(numbered, [{"f0": 1.0, "f1": 2}]) == pytest.approx(model.predict([[1.0, 2.0]]))
    columns = write(Ridge().fit(frame, y), {"x": array[:, 0], "k": frame["k"].to_numpy()}, out="dict")
    assert [field.type for field in columns.signature.fields] == ["number", "integer"]
    pyarrow = pytest.importorskip("pyarrow")
    arrow = write(Ridge().fit(frame, y), pyarrow.Table.from_pandas(frame), out="arrow")
    assert arrow.manifest["files"] == columns.manifest["files"]
    texts = ["good and fine", "bad", "poor and bad", "fine"] * 10
    words = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, [1, 0, 0, 1] * 10)
    written = write(words, texts, out="texts")
    assert answers(written, [{"f0": "fine"}]) == pytest.approx(words.predict_proba(["fine"])[:, 1])


def test_odd_indexes_do_not_matter(write: Write) -> None:
    frame, y = rows()[["x"]], labels(0.0, 1.5)
    model = Ridge().fit(frame, y)
    odd = frame.set_axis(pd.MultiIndex.from_product([[0], [5] * N]), axis=0)
    assert write(model, odd, out="odd").manifest["files"] == write(model, frame, out="plain").manifest["files"]


DTYPES: dict[str, tuple[Any, str, Any, str]] = {
    "Int64": (lambda: pd.array([1, None, 3, 4] * 30, dtype="Int64"), "integer", None, "Int64"),
    "Int8": (lambda: pd.array([1, 2, 3, 4] * 30, dtype="Int8"), "integer", 3, "Int8"),
    "Float64": (lambda: pd.array([1.5, None, 3, 4] * 30, dtype="Float64"), "number", None, "Float64"),
    "boolean": (lambda: pd.array([True, None, False, True] * 30, dtype="boolean"), "boolean", None, "boolean"),
    "string": (lambda: pd.array(["a", None, "b", "c"] * 30, dtype="string"), "string", None, "string"),
    "object": (lambda: pd.Series(["a", None, "b", "c"] * 30, dtype=object), "string", None, "object"),
    "object, nan": (lambda: pd.Series(["a", np.nan, "b", "c"] * 30, dtype=object), "string", None, "object, nan"),
    "category": (lambda: pd.Categorical(["a", None, "b", "c"] * 30, ["c", "b", "a"]), "string", None, "category"),
    "ordered": (
        lambda: pd.Categorical(["a", "c", "b", "c"] * 30, ["c", "b", "a"], ordered=True),
        "string",
        "a",
        "ordered category",
    ),
    "numbers": (lambda: pd.Categorical([1, 2, None, 7] * 30, [7, 2, 1]), "integer", None, "category"),
    "float32": (lambda: np.array([1.5, np.nan, 3, 4] * 30, np.float32), "number", None, "float32"),
    "uint64": (lambda: np.array([1, 2**63, 3, 4] * 30, np.uint64), "integer", 2**63, "uint64"),
    "bool": (lambda: np.array([True, False] * 60), "boolean", True, ""),
    "datetime64[ns]": (
        lambda: pd.Series(pd.date_range("2024-01-01", periods=N, freq="h")).astype("datetime64[ns]"),
        "timestamp",
        "2024-01-01T05:00:00",
        "datetime64[ns]",
    ),
}


@pytest.mark.parametrize("name", DTYPES)
def test_a_served_column_has_the_type_of_the_training_column(name: str) -> None:
    make, kind, value, dtype = DTYPES[name]
    frame = pd.DataFrame({"c": make()})
    signature = Signature.infer(frame)
    (field,) = signature.fields
    assert (field.type, field.dtype, field.nullable) == (kind, dtype, bool(frame["c"].isna().any()))
    assert Signature.from_json(json.loads(json.dumps(signature.to_json()))) == signature
    asked = json.loads(json.dumps(signature.rows(frame)))
    columns = signature.columns(asked)
    assert columns["c"].dtype == np.dtype(field.numpy)
    pd.testing.assert_frame_equal(signature.frame(columns), frame)
    again = signature.arrays(frame)["c"]
    assert again.dtype == columns["c"].dtype
    assert [str(v) for v in again.tolist()] == [str(v) for v in columns["c"].tolist()]
    served = signature.frame(signature.columns([{"c": value}]))
    assert served["c"].dtype == frame["c"].dtype


def test_pandas_own_types_reach_the_model_as_they_were(write: Write) -> None:
    frame = pd.DataFrame({name: DTYPES[name][0]() for name in ("Int64", "string", "boolean", "category")})
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    model = make_pipeline(
        make_column_transformer((numbers, ["Int64"]), (encode, ["category"])), SimpleImputer(), LogisticRegression()
    ).fit(frame, labels(0, 1))
    package = write(model, frame)
    asked = [{"Int64": None, "string": None, "boolean": None, "category": "z"}]
    given = package.signature.frame(package.signature.columns(asked))
    assert answers(package, asked) == pytest.approx(model.predict_proba(given)[:, 1], abs=1e-12)


def test_a_category_reaches_the_booster_by_its_place(write: Write) -> None:
    frame = pd.DataFrame({"c": pd.Categorical(["a", "b", "c"] * 40, ["c", "b", "a"]), "x": np.arange(N) / 10})
    y = (frame["c"] == "a").astype(int)
    model = xgboost.XGBClassifier(n_estimators=5, enable_categorical=True).fit(frame, y)
    package = write(model, frame)
    for compiled in (True, False):
        found = answers(package, [{"c": "a", "x": 1.0}, {"c": "b", "x": 1.0}], compiled=compiled)
        assert found == pytest.approx(model.predict_proba(frame.iloc[[9, 10]].assign(x=1.0))[:, 1], abs=1e-6)
        assert found[0] > 0.5 > found[1]


def _zoned() -> Any:
    return rows(x=pd.date_range("2024-01-01", periods=N, tz="Europe/Lisbon"))


def _twice() -> Any:
    return rows().set_axis(["x", "k", "x"], axis=1)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "empty": (lambda: rows().iloc[:0], "the sample has 0 rows"),
    "no columns": (lambda: pd.DataFrame(index=range(3)), "the sample has 3 rows and 0 columns"),
    "twice": (_twice, "2 columns are named 'x'"),
    "tuples": (lambda: rows().set_axis([("a", 1), ("a", 2), ("b", 1)], axis=1), "a column is named"),
    "zone": (_zoned, "column x has times of the zone Europe/Lisbon"),
    "mixed": (lambda: rows(x=np.array([1, "a"] * 60, object)), "column x has type object (int, str)"),
    "nothing": (lambda: rows(x=np.array([None] * N, object)), "column x has type object (nothing but null)"),
    "lists": (lambda: rows(x=[[1]] * N), "column x has type object (list)"),
    "dates": (lambda: rows(x=pd.date_range("2024-01-01", periods=N).date), "column x has type object (date)"),
    "complex": (lambda: rows(x=np.ones(N) * 1j), "column x has type complex128"),
    "periods": (lambda: rows(x=pd.period_range("2024-01", periods=N, freq="D")), "column x has type period"),
    "infinite": (lambda: rows(x=np.full(N, np.inf)), "every row of the sample has an infinite number"),
    "target": (lambda: rows(prediction=np.ones(N)), "target is 'prediction', which is a column"),
    "no table": (lambda: 5, "the sample is int; wanted a DataFrame, an array or a dict"),
    "cube": (lambda: np.zeros((2, 2, 2)), "an array of 3 dimensions"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_sample_that_cannot_be_served_is_refused_in_two_lines(write: Write, tmp_path: Path, name: str) -> None:
    make, says = REFUSED[name]
    with pytest.raises(PackageError) as caught:
        write(DummyRegressor().fit(np.zeros((3, 1)), [1.0, 2.0, 3.0]), make())
    fact, hint = str(caught.value).split("\n")
    assert says in fact
    assert hint.startswith("Hint: ")
    assert list(tmp_path.iterdir()) == []


def test_one_row_and_constant_columns_are_enough(write: Write) -> None:
    frame = pd.DataFrame({"x": [1.0], "c": ["a"], "t": pd.to_datetime(["2024-01-01"])})
    package = write(DummyRegressor().fit(frame, [2.0]), frame)
    assert answers(package, [{"x": 5, "c": "b", "t": "2025-01-01"}]).tolist() == [2.0]
    assert open_package(package.folder).sample()[1] == [2.0]


def test_a_model_that_cannot_be_packed_is_refused_in_two_lines(write: Write, own: Any) -> None:
    frame = rows()[["x"]]
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (LinearRegression(), {}, "NotFittedError"),
        (object(), {}, "which has no predict"),
        (LinearRegression, {}, "is the class LinearRegression itself"),
        (lambda f: f["x"].to_numpy(), {}, "the model cannot be stored"),
        (own.double, {"features": lambda f: f}, "stands within another function"),
        (own.double, {"task": "ranking"}, "allowed: classification, regression"),
        (own.double, {"y": [1.0]}, "y has 1 values for 120 rows"),
        (own.double, {"y": ["a"] * N}, "y holds"),
        (own.double, {"time": "at"}, "the sample has no column at"),
        (own.double, {"time": "x"}, "the sample has no times in x, but float64"),
        (own.double, {"name": "a/b"}, "name is 'a/b'"),
        (own.double, {"code": "/nowhere"}, "the project's code is not in /nowhere"),
        (
            MultiOutputClassifier(LogisticRegression()).fit(frame, np.column_stack([labels(0, 1), labels(1, 0)])),
            {},
            "predicts 2 targets at once",
        ),
    ]
    for model, options, says in cases:
        with pytest.raises(PackageError) as caught:
            write(model, frame, **options)
        assert says in str(caught.value), says
        assert len(str(caught.value).split("\n")) <= 2


def test_a_class_of_a_notebook_is_told_where_to_go(tmp_path: Path) -> None:
    code = """
import sys, pandas as pd, trilho_runtime
class Own:
    def predict(self, frame): return frame["x"]
try: trilho_runtime.package(Own(), sample=pd.DataFrame({"x": [1.0]}), name="a", out=sys.argv[1])
except trilho_runtime.PackageError as error: print(error)
"""
    out = tmp_path / "out"
    done = subprocess.run([sys.executable, "-c", code, str(out)], capture_output=True, text=True, check=False)
    fact, hint = done.stdout.splitlines()
    assert fact == "the class Own is defined in __main__, a notebook or a script, which no server can import"
    assert hint == "Hint: put it in a module beside, such as model.py, import it from there, and fit again"
    assert not out.exists()


def test_an_estimator_without_a_safe_format_says_why(write: Write, own: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    frame, y = rows()[["x"]], labels(0.5, 1.5)
    model = make_pipeline(FunctionTransformer(own.build.__globals__["np"].vectorize(abs)), Ridge()).fit(frame, y)
    told = write(model, frame, out="odd").manifest["estimator"]
    assert told["format"] == "pickle"
    assert "not known to be safe" in told["why"] or "skops" in told["why"]
    monkeypatch.setitem(sys.modules, "skops", None)
    monkeypatch.setitem(sys.modules, "skops.io", None)
    told = write(Ridge().fit(frame, y), frame, out="bare").manifest["estimator"]
    assert told["why"] == "skops is not installed in the project's environment (pip install skops)"


def test_types_that_are_not_safe_are_not_made(write: Write) -> None:
    frame = rows()[["x"]]
    package = write(Ridge().fit(frame, labels(0.5, 1.5)), frame)
    folder = package.folder
    import skops.io

    evil = skops.io.dumps(FunctionTransformer(__import__("os").system))
    (folder / "estimator.skops").write_bytes(evil)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["estimator.skops"] = hashlib.sha256(evil).hexdigest()
    manifest["estimator"]["trusted"] = skops.io.get_untrusted_types(data=evil)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(PackageError, match=r"types that are not trusted: .*system"):
        open_package(folder).load(compiled=False)


def test_an_older_package_gives_way_and_nothing_else(write: Write, tmp_path: Path) -> None:
    frame = rows()[["x"]]
    first, second = (Ridge().fit(frame, labels(low, 9.0)) for low in (0.0, 5.0))
    write(first, frame)
    newer = write(second, frame)
    assert answers(newer, [{"x": 0.0}]) == pytest.approx(second.predict(pd.DataFrame({"x": [0.0]})))
    note = tmp_path / "made" / "note.txt"
    note.write_text("mine")
    with pytest.raises(PackageError, match=r"note\.txt is no part of the package there"):
        write(first, frame)
    other = tmp_path / "other"
    other.mkdir()
    (other / "data.csv").write_text("1")
    (tmp_path / "file").write_text("1")
    (tmp_path / "link").symlink_to(other)
    for name, says in [("other", "is no model package"), ("file", "is no folder"), ("link", "is no folder")]:
        with pytest.raises(PackageError, match=says):
            write(first, frame, out=name)
    assert (other / "data.csv").read_text() == "1"
    assert note.read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert write(first, frame, out="empty").folder == tmp_path / "empty"
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


def test_a_time_gives_the_reference_its_windows(write: Write) -> None:
    frame = rows(at=pd.date_range("2024-01-01", periods=N, freq="h"))
    model = DummyRegressor().fit(frame, labels(0.5, 1.5))
    package = write(model, frame, time="at", key="k")
    reference = json.loads((package.folder / "reference.json").read_text())
    assert reference["windows"] == 5
    assert sorted(feature["name"] for feature in reference["features"]) == ["c", "x"]
    assert (package.manifest["time"], package.manifest["key"]) == ("at", "k")


def test_truth_makes_metrics_and_what_the_watcher_compares(write: Write) -> None:
    frame, y = rows(), labels("lo", "mid", "hi")
    model = pipeline(DummyClassifier(strategy="prior")).fit(frame, y)
    package = write(model, frame, y=y)
    with np.load(package.folder / "validation.npz") as held:
        told = ["class", "known", "prediction", "time", "value"]
        assert sorted(held.files) == sorted([*told, "bins", "features", "schema", "shares"])
        assert held["value"].mean() == pytest.approx((model.predict(frame) == y).mean())
        assert held["prediction"][0] == pytest.approx(model.predict_proba(frame).max())
    assert package.manifest["metrics"]["accuracy"] == pytest.approx((model.predict(frame) == y).mean())
    assert write(model, frame, out="bare").manifest["metrics"] == {}
    assert write(model, frame, y=y, metrics={"auc": 0.5}, out="given").manifest["metrics"]["auc"] == 0.5
    assert measures.__module__ == "trilho_runtime.model.validation"


def test_a_key_in_the_environment_signs_what_is_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trilho_runtime.model.signing import write_keys

    public, name = write_keys(tmp_path / "key")
    monkeypatch.setenv("TRILHO_TRUSTED_KEYS", str(public))
    monkeypatch.setenv("TRILHO_SIGNING_KEY", (tmp_path / "key").read_text())
    frame = rows()[["x"]]
    model = Ridge().fit(frame, labels(0.5, 1.5))
    path = packing.package(model, frame, name="signed", out=tmp_path / "signed")
    assert (path.signed_by, open_package(path).signed_by) == (name, name)
    monkeypatch.setenv("TRILHO_SIGNING_KEY", str(tmp_path / "absent"))
    with pytest.raises(PackageError, match=r"absent: No such file"):
        packing.package(model, frame, name="signed", out=tmp_path / "unsigned")
    assert not (tmp_path / "unsigned").exists()
