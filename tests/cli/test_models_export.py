"""`trilho models export`: a version's package, an ONNX file, a model of MLflow."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from trilho.core import records as r
from trilho_runtime.package import open_package

if TYPE_CHECKING:
    from tests.cli.conftest import Made, Verb

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / "tests" / "notebooks" / ".venv" / "bin" / "python"
pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="tests/notebooks/.venv is absent")
MODEL = """
import sys, numpy as np, pandas as pd, trilho_runtime, lightgbm
rng = np.random.default_rng(0)
frame = pd.DataFrame({"x": rng.normal(size=200), "k": rng.integers(0, 5, 200)})
model = lightgbm.LGBMRegressor(n_estimators=5, n_jobs=1, verbose=-1).fit(frame, frame["x"] + frame["k"])
trilho_runtime.package(model, frame, name="bikes", out=sys.argv[1])
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of a booster over two numbers."""
    out = tmp_path_factory.mktemp("packed") / "package"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "runtime" / "src"), "OMP_NUM_THREADS": "1"}
    subprocess.run([str(PYTHON), "-c", MODEL, str(out)], check=True, env=environment, capture_output=True)
    return out


@pytest.fixture
def exported(made: Made, package: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """A project whose version 1 is that package, and whose interpreter has the model's libraries."""
    digest = made.store.put(package)
    made.version(1)
    made.journal.append(
        r.VersionPackaged(model="bikes", version=2, run="run-1", dataset="d" * 64, package=digest, metric="mae",
                          metrics={"mae": 1.0}, commit=None, commit_time=None, data_until=None)
    )  # fmt: skip
    monkeypatch.setenv("TRILHO_PYTHON", str(PYTHON))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "runtime" / "src"))
    return made


def test_the_package_itself(trilho: Verb, exported: Made, package: Path) -> None:
    found = trilho("models", "export", "2", "--to", "out/there", "--json").json
    copy = exported.folder / "out" / "there"
    assert (found["package"], found["next"]) == ("out/there", "trilho serve out/there")
    assert open_package(copy).manifest == open_package(package).manifest
    assert [path.name for path in copy.parent.iterdir()] == ["there"]
    again = trilho("models", "export", "2", "--to", "out/there")
    assert (again.code, again.err.splitlines()[0]) == (2, "out/there is there already; nothing in it is replaced")


def test_a_model_of_mlflow(trilho: Verb, exported: Made) -> None:
    said = trilho("models", "export", "2", "--mlflow", "model")
    assert "mlflow.pyfunc.load_model('model')" in said.out
    text = (exported.folder / "model" / "MLmodel").read_text()
    assert '"trilho_version": 2' in text
    assert 'data: "package"' in text
    open_package(exported.folder / "model" / "package")


def test_an_onnx_file(trilho: Verb, exported: Made, package: Path) -> None:
    said = trilho("models", "export", "2", "--onnx", "edge")
    assert said.code == 0, said.err
    assert "at the edges" in said.out
    assert "A decision is not in the file" in said.out
    about = json.loads((exported.folder / "edge" / "onnx.json").read_text())
    assert [one["name"] for one in about["inputs"]] == ["x", "k"]
    assert about["parity"]["beyond_tolerance"] == 0
    assert about["digest"] == exported.store.put(package)


def test_a_conversion_that_answers_otherwise_ends_with_3(
    trilho: Verb, exported: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho warning >&2\necho '3 of 9 rows differ' >&2\necho 'Hint: serve it' >&2\nexit 3\n")
    python.chmod(0o755)
    said = trilho("models", "export", "2", "--onnx", "edge", "--python", str(python))
    assert (said.code, said.err) == (3, "3 of 9 rows differ\nHint: serve it\n")
    python.write_text("#!/bin/sh\necho 'No module named trilho_runtime' >&2\nexit 1\n")
    said = trilho("models", "export", "2", "--onnx", "edge", "--python", str(python))
    assert said.code == 1
    assert said.err.splitlines() == [
        f"{python} cannot convert it: No module named trilho_runtime",
        f"Hint: {python} -m pip install trilho-runtime",
    ]
    said = trilho("models", "export", "2", "--onnx", "edge", "--python", "nowhere")
    assert (said.code, said.err.splitlines()[0]) == (2, "nowhere does not run: No such file or directory")


def test_what_cannot_be_meant(trilho: Verb, exported: Made) -> None:
    said = trilho("models", "export", "2")
    assert (said.code, said.err.splitlines()[1]) == (2, "Hint: trilho models export 2 --to out")
    assert trilho("models", "export", "2", "--to", "a", "--onnx", "b").code == 2
    assert trilho("models", "export", "2", "--to", "a", "--python", "b").code == 2
    assert trilho("models", "export", "9", "--to", "a").code == 2
    assert trilho("models", "export", "1", "--to", "a").code == 1  # it is no package
    assert not (exported.folder / "a").exists()


def test_a_changed_package_is_not_exported(trilho: Verb, exported: Made, package: Path) -> None:
    stored = exported.store.path(exported.store.put(package)) / "sample.json"
    stored.chmod(0o644)
    stored.write_text("{}")
    for way in ("--to", "--mlflow"):
        said = trilho("models", "export", "2", way, "a")
        assert said.code == 1
        assert "sample.json: its digest is" in said.err
        assert not (exported.folder / "a").exists()
