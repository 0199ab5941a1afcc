"""Packages as MLflow opens them; runs where mlflow and the models' libraries are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pd: Any = pytest.importorskip("pandas", reason="runs in tests/notebooks/.venv: see test_cases.py")
pytest.importorskip("mlflow")

import mlflow.pyfunc  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.models import Model  # noqa: E402
from sklearn.compose import make_column_transformer  # noqa: E402
from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: E402
from sklearn.linear_model import LogisticRegression, Ridge  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import OneHotEncoder, StandardScaler  # noqa: E402
from tests.runtime.case_fixtures import Write  # noqa: E402

from trilho_runtime.mlflow_flavor import mlmodel_text, write_model  # noqa: E402
from trilho_runtime.model.manifest import PackageError  # noqa: E402
from trilho_runtime.model.outputs import Outputs  # noqa: E402
from trilho_runtime.schema.field import RowError  # noqa: E402
from trilho_runtime.schema.signature import Field, Signature  # noqa: E402

N = 120
RNG = np.random.default_rng(3)
FRAME = pd.DataFrame({
    "x": RNG.normal(size=N), "k": RNG.integers(0, 5, N), "b": RNG.integers(0, 2, N) == 1,
    "c": RNG.choice(["red", "blue", "ciência 🚲"], N), "n": pd.array([1, None, 3] * (N // 3), "Int64"),
})  # fmt: skip
VALUE = FRAME["k"] + (FRAME["c"] == "red") * 2.0


def pre() -> Any:
    return make_column_transformer((StandardScaler(), ["x", "k"]), (OneHotEncoder(handle_unknown="ignore"), ["c"]))


def opened(folder: Path) -> Any:
    return mlflow.pyfunc.load_model(str(folder), suppress_warnings=True)


def test_every_package_opens_and_predicts_the_same(write: Write) -> None:
    frame = FRAME[["x", "k", "c", "b"]]
    two, three = (VALUE > 2).astype(int), np.array(["lo", "mid", "hi"])[np.digitize(VALUE, [1, 3])]
    for place, (estimator, truth) in enumerate([(Ridge(), VALUE), (LogisticRegression(), two),
                                                (LogisticRegression(), three)]):  # fmt: skip
        package = write(make_pipeline(pre(), estimator).fit(frame, truth), frame, out=f"p{place}")
        model, expected = opened(package.folder), package.load().predict_frame(frame)
        found = model.predict(frame)
        assert np.array_equal(np.asarray(found), expected)
        assert len(np.unique(expected)) > 2
        if place == 2:
            assert list(found.columns) == ["hi", "lo", "mid"]
        rows = package.sample()[0]
        as_columns = {name: [row[name] for row in rows] for name in frame.columns}
        assert np.array_equal(np.asarray(model.predict(as_columns)), package.load().predict(rows))
        assert model.metadata.metadata["trilho_name"] == "tried"


def test_its_schema_is_the_signature(write: Write) -> None:
    model = HistGradientBoostingClassifier(max_iter=3).fit(FRAME[["x", "k", "b", "n"]], VALUE > 2)
    package = write(model, FRAME[["x", "k", "b", "n"]])
    schema = Model.load(str(package.folder / "MLmodel")).signature
    told = [(one.name, str(one.type), one.required) for one in schema.inputs]
    assert told == [
        ("x", "DataType.double", True), ("k", "DataType.long", True), ("b", "DataType.boolean", True),
        ("n", "DataType.double", False),
    ]  # fmt: skip
    found = opened(package.folder).predict(FRAME[["x", "k", "b", "n"]].astype({"n": float}))
    assert np.array_equal(np.asarray(found), package.load().predict_frame(FRAME[["x", "k", "b", "n"]]))
    with pytest.raises(MlflowException, match="missing inputs"):
        opened(package.folder).predict(FRAME[["x"]])


def test_what_the_model_itself_takes(write: Write) -> None:
    frame = FRAME[["x", "k", "c", "b"]]
    package = write(make_pipeline(pre(), Ridge()).fit(frame, VALUE), frame)
    model = opened(package.folder)._model_impl
    rows = package.sample()[0][:3]
    expected = package.load().predict(rows)
    as_objects = pd.DataFrame(rows).astype(object)
    for given in (rows, pd.DataFrame(rows), as_objects, [list(row.values()) for row in rows],
                  {name: [row[name] for row in rows] for name in frame.columns}):  # fmt: skip
        assert model.predict(given).tolist() == expected
    assert model.predict(rows[0]).tolist() == expected[:1]
    assert model.predict(pd.DataFrame(rows).assign(more=1)).tolist() == expected
    wrong: list[tuple[str, Any, str]] = [
        ("k", "3", "k is"),
        ("c", 4, "c is"),
        ("k", 2.5, "k is 2.5"),
        ("x", None, "x is null"),
    ]
    for name, value, says in wrong:
        with pytest.raises(RowError, match=says):
            model.predict(pd.DataFrame([{**rows[0], name: value}]))


def test_a_package_that_was_changed_is_refused_by_name_before_it_is_read(write: Write) -> None:
    frame = FRAME[["x", "k", "c", "b"]]
    package = write(make_pipeline(pre(), Ridge()).fit(frame, VALUE), frame)
    estimator = package.folder / package.manifest["estimator"]["file"]
    estimator.write_bytes(b"not it")
    with pytest.raises(PackageError, match=rf"{estimator.name}: its digest is"):
        opened(package.folder)


def test_what_mlflow_writes_into_a_folder_from_its_registry_does_not_matter(write: Write) -> None:
    frame = FRAME[["x", "k", "c", "b"]]
    package = write(make_pipeline(pre(), Ridge()).fit(frame, VALUE), frame)
    (package.folder / "registered_model_meta").write_text("model_name: tried\nmodel_version: '1'\n")
    found = opened(package.folder).predict(frame)
    (package.folder / "registered_model_meta").unlink()
    assert np.array_equal(found, package.load().predict_frame(frame))
    (package.folder / "other").write_text("1")
    with pytest.raises(PackageError, match="other is not in the manifest"):
        opened(package.folder)


def test_a_folder_of_mlflow_holds_the_package_and_its_environment(write: Write, tmp_path: Path) -> None:
    frame = FRAME[["x", "k", "c", "b"]]
    package = write(make_pipeline(pre(), Ridge()).fit(frame, VALUE), frame)
    out = tmp_path / "model"
    out.mkdir()
    write_model(package.folder, out, {"trilho_version": 3})
    assert sorted(path.name for path in out.iterdir()) == [
        "MLmodel", "package", "python_env.yaml", "requirements.txt"]  # fmt: skip
    model = opened(out)
    assert np.array_equal(model.predict(frame), package.load().predict_frame(frame))
    assert model.metadata.metadata["trilho_version"] == 3
    assert len(model.metadata.metadata["trilho_digest"]) == 64
    assert "scikit-learn==" in (out / "requirements.txt").read_text()
    assert mlflow.pyfunc.get_model_dependencies(str(out)) == str(out / "requirements.txt")


def test_names_of_any_kind_survive_the_yaml(tmp_path: Path) -> None:
    names = ["ação", "🚲 #1: x", "- a", 'q"uo\\te', "tab\there", "\x85\u2028\ufeff", "null", "'"]
    signature = Signature(tuple(Field(name, "number", False) for name in names))
    text = mlmodel_text(signature, Outputs("value"), name="x", python="3.11.7")
    (tmp_path / "MLmodel").write_text(text, encoding="utf-8")
    assert [one.name for one in Model.load(str(tmp_path / "MLmodel")).signature.inputs] == names


def test_the_same_model_gives_the_same_file(write: Write) -> None:
    frame = FRAME[["x", "k", "c", "b"]]
    model = make_pipeline(pre(), Ridge()).fit(frame, VALUE)
    one, two = (write(model, frame, out=name).folder for name in ("one", "two"))
    assert (one / "MLmodel").read_bytes() == (two / "MLmodel").read_bytes()
    assert "MLmodel" in json.loads((one / "manifest.json").read_text())["files"]
