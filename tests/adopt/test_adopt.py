"""`trilho adopt` from end to end: real notebooks and messy ones, in their own environment, proven and refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tests.notebooks.corpus import PYTHON, expected, write_notebook

REAL = Path(__file__).parents[1] / "notebooks" / "real" / "notebooks"
WANTED = expected()
CERTIFIED = ("titanic", "credito", "reclamacoes", "sensors", "stores")
REFUSED = {
    "iris": (3, "3 classes"),
    "segments": (3, "KMeans"),
    "plots": (1, "trains nothing"),
    "rules": (1, "trains nothing"),
    "broken": (1, "NameError: name 'X_treino' is not defined"),
}
pytestmark = [
    pytest.mark.skipif(not PYTHON.exists(), reason="the notebooks' environment is not there: make notebooks"),
    pytest.mark.timeout(400),
]


@dataclass(frozen=True)
class Adopted:
    """What one call left."""

    code: int
    told: dict[str, Any]
    err: str
    folder: Path
    notebook: Path


def call(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "trilho", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=cwd)


def adopt(notebook: Path, into: Path) -> Adopted:
    done = call("adopt", notebook, "--into", into, "--python", PYTHON, "--json")
    told = json.loads(done.stdout.splitlines()[0]) if done.stdout else {}
    return Adopted(done.returncode, told, done.stderr, into, notebook)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("adopt")


@cache
def real(name: str, place: Path) -> Adopted:
    (notebook,) = REAL.glob(f"{name}*.ipynb")
    return adopt(notebook, place / name)


@pytest.mark.parametrize(
    ("name", "metric", "value", "form"),
    [
        ("01_bikeshare", "mae", 26.234658977586477, "features"),
        ("02_flight", "roc_auc", 0.6837132281316969, "model"),
    ],
)
def test_real_notebooks_are_certified(place: Path, name: str, metric: str, value: float, form: str) -> None:
    (path,) = REAL.glob(f"{name}*.ipynb")
    before = path.read_bytes()
    made = real(name, place)
    assert made.code == 0, made.err
    assert path.read_bytes() == before
    assert made.told["form"] == form
    assert made.told["fallback"] == []
    parity = made.told["parity"]
    assert parity["certified"] is True
    assert parity["metric"]["name"] == metric
    assert parity["metric"]["notebook"] == pytest.approx(value, rel=1e-6)  # other processors differ in the last digits
    assert parity["metric"]["project"] == parity["metric"]["notebook"]
    assert (parity["rows"], parity["max_difference"]) == (2000, 0)
    assert [step["name"] for step in made.told["steps"]] == ["load", "features", "fit", "predict", "evaluate"]
    kept = made.folder / "notebooks" / path.name
    assert kept.read_bytes() == before
    certificate = json.loads((made.folder / "parity.json").read_text(encoding="utf-8"))
    assert {stage["name"]: stage["state"] for stage in certificate["stages"]} == dict.fromkeys(
        ("load", "features", "fit", "evaluate", "pipeline", "package", "http"), "equal"
    )


def test_an_adopted_project_passes_its_own_tests_and_trains(place: Path) -> None:
    made = real("02_flight", place)
    tested = subprocess.run(
        ["make", "test"], cwd=made.folder, capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert " passed" in tested.stdout
    trained = call("-C", made.folder, "train", "--json")
    assert trained.returncode == 0, trained.stderr
    assert json.loads(trained.stdout)["version"] == 1


def test_what_is_left_out_is_said(place: Path) -> None:
    made = real("02_flight", place)
    assert [dropped["cell"] for dropped in made.told["dropped"]] == [6, 7, 8]
    rules = {(finding["rule"], finding["cell"]) for finding in made.told["findings"]}
    assert {("leakage", 2), ("mutable-global", 3), ("early-stopping-on-test", 4)} <= rules


@pytest.mark.parametrize("name", CERTIFIED)
def test_messy_notebooks_are_certified(place: Path, name: str) -> None:
    wanted = WANTED[name]
    made = adopt(write_notebook(place / "corpus", name), place / f"made-{name}")
    assert made.code == 0, made.err
    assert made.told["form"] in wanted["form"]
    parity = made.told["parity"]
    assert parity["metric"]["name"] == wanted["metric"]
    assert parity["metric"]["notebook"] == pytest.approx(wanted["metrics"][wanted["metric"]], rel=1e-6)
    assert parity["metric"]["project"] == pytest.approx(parity["metric"]["notebook"], rel=1e-9)
    assert parity["max_difference"] < 1e-9


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_a_project_gets_two_lines_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    code, words = REFUSED[name]
    made = adopt(write_notebook(tmp_path / "corpus", name), tmp_path / "project")
    assert made.code == code
    assert words in made.told["error"]
    fact, hint = made.err.strip().splitlines()[-2:]
    assert fact == made.told["error"]
    assert hint.startswith("Hint: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus"]


def test_a_forecast_runs_nothing(tmp_path: Path) -> None:
    notebook = write_notebook(tmp_path, "titanic")
    done = call("adopt", notebook, "--into", tmp_path / "project", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "data/passengers.csv" in done.stdout
    assert not (tmp_path / "project").exists()
