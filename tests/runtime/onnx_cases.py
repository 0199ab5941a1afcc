"""What `onnx_export` makes of models of every kind; runs where pandas, the boosters and onnxruntime are."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pd: Any = pytest.importorskip("pandas", reason="runs in tests/notebooks/.venv: see test_cases.py")
for library in ("sklearn", "xgboost", "lightgbm", "onnx", "onnxruntime", "skl2onnx", "onnxmltools"):
    pytest.importorskip(library)

import lightgbm  # noqa: E402
import onnxruntime  # noqa: E402
import xgboost  # noqa: E402
from sklearn.compose import TransformedTargetRegressor, make_column_transformer  # noqa: E402
from sklearn.ensemble import (  # noqa: E402
    GradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    StackingRegressor,
)
from sklearn.impute import SimpleImputer  # noqa: E402
from sklearn.linear_model import LogisticRegression, Ridge  # noqa: E402
from sklearn.model_selection import GridSearchCV  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler  # noqa: E402
from sklearn.svm import LinearSVC  # noqa: E402
from tests.runtime.case_fixtures import Write  # noqa: E402

from trilho_runtime.formats import onnx_conversion, onnx_export, onnx_trees  # noqa: E402
from trilho_runtime.formats.onnx_export import ParityError, export, main  # noqa: E402
from trilho_runtime.formats.onnx_parity import _places, _values  # noqa: E402
from trilho_runtime.model import draft, packing  # noqa: E402
from trilho_runtime.model.manifest import PackageError  # noqa: E402
from trilho_runtime.package import open_package  # noqa: E402

N = 240
MODULE = """
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin


def build(frame):
    made = frame[["x", "k"]].copy()
    made["long"] = frame["c"].str.len()
    return made


def decide(score):
    return score > 0.5


class Clip(BaseEstimator, TransformerMixin):
    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return np.clip(np.asarray(X, float), -1, 1)
"""


@pytest.fixture
def write(write: Write, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a package of which nothing is compiled, and open it: ONNX is made of the estimator."""
    original = {"path": "original", "files": [], "stages": [], "needs": [], "why": "tried"}
    monkeypatch.setattr(draft, "compile_into", lambda folder, given: original)
    return write


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """A module of the user's."""
    name = "m" + hashlib.sha256(request.node.name.encode()).hexdigest()[:8]
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(folder)
    return __import__(name)


def rows() -> Any:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({
        "x": rng.normal(size=N), "k": rng.integers(0, 5, N), "b": rng.integers(0, 2, N) == 1,
        "c": rng.choice(["red", "blue", "green"], N), "d": rng.choice(np.array(["p", "q", None], object), N),
    })  # fmt: skip
    frame.loc[::7, "x"] = np.nan
    return frame


FRAME = rows()
VALUE = FRAME["k"] + 2 * (FRAME["c"] == "red") + np.random.default_rng(4).normal(size=N)
TWO, THREE = (VALUE > 2).astype(int), np.array(["low", "mid", "high"])[np.digitize(VALUE, [1, 3])]
NUMBERS = FRAME[["x", "k", "b"]]


def pre(sparse: float = 0.3) -> Any:
    numbers = make_pipeline(SimpleImputer(add_indicator=True), FunctionTransformer(np.square), StandardScaler())
    texts = make_pipeline(
        SimpleImputer(strategy="most_frequent"),
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
    )
    one_hot = OneHotEncoder(handle_unknown="ignore")
    parts = [(numbers, ["x", "k"]), (one_hot, ["c", "k", "d"]), (texts, ["d"]), ("passthrough", ["b"])]
    return make_column_transformer(*parts, sparse_threshold=sparse)


def light(**options: Any) -> Any:
    kind = options.pop("kind", lightgbm.LGBMRegressor)
    return kind(n_estimators=15, verbose=-1, n_jobs=1, **options)


TARGET = TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1)
MODELS: dict[str, tuple[Any, Any, Any, float]] = {  # the model, its rows, the truth, the largest difference allowed
    "xgboost": (make_pipeline(pre(), xgboost.XGBClassifier(n_estimators=15, max_depth=3)), FRAME, TWO, 1e-6),
    "xgboost, sparse": (make_pipeline(pre(1.0), xgboost.XGBRegressor(n_estimators=15)), FRAME, VALUE, 5e-6),
    "xgboost alone": (xgboost.XGBRegressor(n_estimators=15), NUMBERS, VALUE, 5e-6),
    "lightgbm": (make_pipeline(pre(), light(kind=lightgbm.LGBMClassifier)), FRAME, THREE, 1e-6),
    "lightgbm alone": (light(), NUMBERS, VALUE, 1e-6),
    "lightgbm, poisson": (light(objective="poisson"), NUMBERS, abs(VALUE), 1e-6),
    "histogram": (HistGradientBoostingRegressor(max_iter=15), NUMBERS, VALUE, 1e-6),
    "forest": (make_pipeline(pre(), RandomForestClassifier(8, random_state=0)), FRAME, THREE, 1e-6),
    "boosting": (make_pipeline(pre(), GradientBoostingClassifier(n_estimators=8)), FRAME, TWO, 1e-6),
    "logistic": (make_pipeline(pre(1.0), LogisticRegression()), FRAME, THREE, 1e-12),
    "target": (make_pipeline(pre(), TARGET), FRAME, abs(VALUE), 1e-10),
    "classes": (make_pipeline(pre(), LinearSVC()), FRAME, THREE, 0.0),
    "stacked": (make_pipeline(pre(), StackingRegressor([("a", Ridge()), ("b", Ridge(9))], cv=2)), FRAME, VALUE, 1e-5),
    "searched": (GridSearchCV(make_pipeline(pre(), Ridge()), {"ridge__alpha": [1, 2]}, cv=2), FRAME, VALUE, 1e-10),
    "texts": (make_pipeline(OneHotEncoder(handle_unknown="ignore"), Ridge()), FRAME[["c", "d"]], VALUE, 1e-10),
    "array": (make_pipeline(StandardScaler(), Ridge()), NUMBERS.fillna(0).to_numpy(float), VALUE, 1e-10),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_answers_in_onnx_as_its_package_does(write: Write, tmp_path: Path, name: str) -> None:
    model, frame, truth, most = MODELS[name]
    told = export(write(model.fit(frame, truth), frame), tmp_path / "out")
    parity = told["parity"]
    assert parity["beyond_tolerance"] == 0
    assert parity["largest_share"] <= most
    assert (parity["sample_rows"], parity["edge_rows"] > 5) == (50, True)
    trees = any(word in name for word in ("xgboost", "lightgbm", "histogram", "forest", "boosting"))
    assert (parity["threshold_rows"] > 10) == trees


def test_it_is_run_as_its_docstring_says(write: Write, tmp_path: Path) -> None:
    model = make_pipeline(pre(), LogisticRegression()).fit(FRAME, THREE)
    package = write(model, FRAME)
    export(package, tmp_path / "out")
    example = (onnx_export.__doc__ or "").split("Asked so:")[1].split("Exit codes")[0]
    lines = [line.removeprefix("    ") for line in example.strip("\n").splitlines()]
    code = "\n".join(lines).replace('{"age": 41, "city": "Recife"}', "ROW").replace('"out/', f'"{tmp_path}/out/')
    row = {"x": None, "k": 3, "b": True, "c": "red", "d": None}
    found: dict[str, Any] = {"ROW": row}
    exec(code, found)
    assert found["answer"][0] == pytest.approx(package.load().predict([row])[0], abs=1e-12)
    assert found["about"]["outputs"]["classes"] == ["high", "low", "mid"]


def test_what_is_written_beside_it(tmp_path: Path, own: Any) -> None:
    model = light().fit(own.build(FRAME), VALUE)
    package = packing.package(model, FRAME, name="tried", out=tmp_path / "made", features=own.build, decide=own.decide)
    command = [
        sys.executable,
        "-m",
        "trilho_runtime.formats.onnx_export",
        str(package),
        str(tmp_path / "deep" / "model.onnx"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    about = json.loads((tmp_path / "deep" / "model.json").read_text())
    assert sorted(p.name for p in (tmp_path / "deep").iterdir()) == ["model.json", "model.onnx"]
    assert [(one["name"], one["type"], one["null"]) for one in about["inputs"]] == [
        ("x", "double", "NaN"), ("k", "int64", None), ("long", "int64", None)]  # fmt: skip
    assert about["outputs"] == {"name": "prediction", "kind": "value", "classes": []}
    assert about["not_included"] == {
        "ignored": [], "features": f"{own.__name__}:build", "decision": f"{own.__name__}:decide"}  # fmt: skip
    assert f"{own.__name__}:build is not in the file: its inputs are the columns that function makes." in about["notes"]
    assert about["opset"] == {"ai.onnx": 19, "ai.onnx.ml": 3}
    assert about["parity"]["tolerance"] == {"relative": 1e-5, "absolute": 1e-6}
    assert {"onnx", "onnxruntime", "lightgbm"} <= set(about["libraries"])
    assert len(about["digest"]) == 64
    assert about["sha256"] == hashlib.sha256((tmp_path / "deep" / "model.onnx").read_bytes()).hexdigest()
    session = onnxruntime.InferenceSession(told["model"])
    assert [one.name for one in session.get_inputs()] == ["x", "k", "long"]


def test_the_same_package_gives_the_same_bytes(write: Write, tmp_path: Path) -> None:
    package = write(light().fit(NUMBERS, VALUE), NUMBERS)
    for name in ("one", "two"):
        export(package, tmp_path / name)
    for file in ("model.onnx", "onnx.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_thresholds_in_single_precision_are_found_and_nothing_is_written(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What every converter of LightGBM does: then rows next to a threshold fall on its other side."""
    package = write(light().fit(NUMBERS, VALUE), NUMBERS)
    exact = onnx_trees.add_trees

    def rounded(graph: Any, model: Any, matrix: str) -> Any:
        return exact(graph, model, graph.cast(graph.cast(matrix, "float32"), "float64"))

    monkeypatch.setattr(onnx_conversion, "add_trees", rounded)
    with pytest.raises(
        ParityError, match=r"\d+ of \d+ rows .* all of them next to thresholds of its trees: .* in ONNX"
    ):
        export(package, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert main([str(package.folder), str(tmp_path / "out")]) == 3


def test_what_has_no_form_in_onnx_is_named(write: Write, tmp_path: Path, own: Any) -> None:
    frame = FRAME[["x", "k"]].fillna(0)
    twice = pd.DataFrame({"c": ["a", "", None] * (N // 3)})
    cases: list[tuple[Any, Any, str]] = [
        (
            make_pipeline(own.Clip(), Ridge()),
            frame,
            rf"the stage clip \(Clip\): no converter knows {own.__name__}.Clip",
        ),
        (make_pipeline(FunctionTransformer(np.sign), Ridge()), frame, r"the stage functiontransformer .* numpy.*sign"),
        (make_pipeline(OneHotEncoder(), Ridge()), twice, r'the stage onehotencoder .* knows both null and ""'),
        (
            make_pipeline(make_column_transformer((own.Clip(), ["x"])), Ridge()),
            frame,
            r"columntransformer\.clip \(Clip",
        ),
    ]
    for model, rows_, says in cases:
        package = write(model.fit(rows_, VALUE), rows_)
        with pytest.raises(PackageError, match=says) as caught:
            export(package, tmp_path / "out")
        assert len(str(caught.value).splitlines()) == 2
        assert not (tmp_path / "out").exists()


def test_an_out_that_is_something_else_is_left_alone(write: Write, tmp_path: Path) -> None:
    package = write(Ridge().fit(NUMBERS.fillna(0), VALUE), NUMBERS.fillna(0))
    (tmp_path / "note.txt").write_text("mine")
    (tmp_path / "x.onnx").mkdir()
    for out, says in [(package.folder, "is a model package"), (tmp_path / "note.txt", "is no folder"),
                      (tmp_path / "x.onnx", "is a folder")]:  # fmt: skip
        with pytest.raises(PackageError, match=says):
            export(package, out)
    assert (tmp_path / "note.txt").read_text() == "mine"
    open_package(package.folder)


def test_missing_libraries_are_told_with_the_command(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package = write(Ridge().fit(NUMBERS.fillna(0), VALUE), NUMBERS.fillna(0))
    monkeypatch.setattr(onnx_export, "missing_libraries", lambda: ["skl2onnx"])
    assert main([str(package.folder), str(tmp_path / "out")]) == 1
    fact, hint = capsys.readouterr().err.splitlines()
    assert fact.endswith("not installed here: skl2onnx")
    assert hint == f"Hint: {sys.executable} -m pip install onnx onnxruntime skl2onnx onnxmltools"


def test_a_changed_package_is_not_converted(write: Write, tmp_path: Path) -> None:
    package = write(Ridge().fit(NUMBERS.fillna(0), VALUE), NUMBERS.fillna(0))
    (package.folder / "sample.json").write_text("{}")
    command = [sys.executable, "-m", "trilho_runtime.formats.onnx_export", str(package.folder), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "sample.json: its digest is" in done.stderr
    assert not (tmp_path / "out").exists()


def test_floats_are_numbered_in_their_order() -> None:
    for dtype in (np.float64, np.float32):
        values = np.array([-np.inf, -2.5, -1e-40, 0.0, 1e-40, 0.1, 3e38], dtype)
        places = _places(values)
        assert (np.diff(places) > 0).all()
        assert np.array_equal(_values(places, np.dtype(dtype)), values)
        after = np.nextafter(values[1:], dtype(np.inf))
        assert (_places(after) - places[1:]).tolist() == [1] * len(after)
