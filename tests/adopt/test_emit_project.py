"""Whole projects: their own tests pass, say no to a planted difference, and their settings are right."""

from __future__ import annotations

import json
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.adopt.emit_cases import NOTEBOOKS, PYTHON, Case, bikes, flights, part, whole

from trilho.adopt.emit.project import Emitted, emit
from trilho.config import Settings
from trilho.data.contract import Contract
from trilho.errors import TrilhoError

pytestmark = pytest.mark.skipif(not (PYTHON.exists() and NOTEBOOKS.exists()), reason="make notebooks")
PYPROJECT = '[tool.pytest.ini_options]\npythonpath = ["src"]\ntestpaths = ["tests"]\n'


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


def emitted(case: Case) -> Emitted:
    return emit("some-model", case.plan, case.choice, case.trace, case.notebook, case.scratch)


def written(project: Emitted, folder: Path) -> Path:
    for name, text in project.texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    for name, content in project.contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    for name, source in project.copies.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, folder / name)
    (folder / "pyproject.toml").write_text(PYPROJECT)
    return folder


def run_tests(folder: Path, *options: str) -> tuple[int, str]:
    command = [str(PYTHON), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=180, check=False)
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def flight_case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return flights(tmp_path_factory.mktemp("scratch"))


@pytest.fixture(scope="module")
def flight_project(flight_case: Case) -> Emitted:
    return emitted(flight_case)


@pytest.fixture(scope="module")
def flight_folder(flight_project: Emitted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(flight_project, tmp_path_factory.mktemp("project"))


def test_the_model_projects_own_tests_pass(flight_folder: Path) -> None:
    code, said = run_tests(flight_folder)
    assert code == 0, said
    assert "failed" not in said


@pytest.mark.parametrize("make", [bikes, whole])
def test_other_projects_own_tests_pass(make: object, tmp_path: Path) -> None:
    case = make(tmp_path / "scratch")  # type: ignore[operator]
    folder = written(emitted(case), tmp_path / "project")
    code, said = run_tests(folder)
    assert code == 0, said


def test_changed_code_fails_the_projects_tests(flight_project: Emitted, tmp_path: Path) -> None:
    folder = written(flight_project, tmp_path)
    features = folder / "src" / "flight_delay" / "features.py"
    features.write_text(features.read_text().replace("np.log1p", "np.log"))
    fit = folder / "src" / "flight_delay" / "fit.py"
    fit.write_text(fit.read_text().replace("eta=0.08", "eta=0.09"))
    code, said = run_tests(folder, "tests/test_features.py", "tests/test_fit.py")
    assert code == 1
    assert "test_the_sample_is_equal" in said
    assert "test_predictions_are_the_notebooks" in said


def test_a_changed_row_fails_the_projects_tests(flight_project: Emitted, tmp_path: Path) -> None:
    folder = written(flight_project, tmp_path)
    data = folder / "data" / "baseline.csv"
    lines = data.read_text().splitlines()
    lines[5] = lines[5].replace("JFK", "LGA").replace("EWR", "LGA")
    data.write_text("\n".join(lines) + "\n")
    code, said = run_tests(folder, "tests/test_load.py")
    assert code == 1
    assert "test_every_row_is_equal" in said


def test_golden_data_is_the_notebooks_own(flight_project: Emitted, flight_case: Case) -> None:
    golden = json.loads(flight_project.texts["tests/golden/golden.json"])
    assert golden["rows"] == 16000
    assert len(golden["positions"]) == len(golden["predictions"]) == 200
    assert golden["positions"] == sorted(golden["positions"])
    assert max(golden["positions"]) < 12_900  # the rows of the fit: the first 80% of the time
    assert golden["metrics"] == {"roc_auc": pytest.approx(0.6837132281316969, abs=1e-15)}
    assert golden["unseen"] == ["carrier", "origin", "dest"]
    assert "temp" in golden["missing"]
    assert set(golden["state"]) == {"CARRIER_MAP", "DEST_RATE", "GLOBAL_RATE", "MEDIANS"}


def test_settings_and_contract_are_valid(flight_project: Emitted) -> None:
    settings = Settings.model_validate(tomllib.loads(flight_project.texts["trilho.toml"]))
    assert (settings.model.name, settings.model.time, settings.model.key) == ("some-model", "ts", "event_id")
    assert settings.steps.load == "flight_delay.load:load"
    assert settings.steps.features is None
    assert settings.steps.decide == "flight_delay.decide:decide"
    assert settings.train.holdout.days == 12  # a fifth of 59 days
    assert settings.gate.metric == "roc_auc"
    contract = Contract.model_validate(tomllib.loads(flight_project.texts["contract.toml"]))
    assert contract.table.unique == ["event_id"]
    assert contract.columns["origin"].values == ["EWR", "JFK", "LGA"]
    assert contract.columns["temp"].nullable
    assert not contract.columns["late_departure"].nullable


def test_the_lock_pins_what_live_code_needs(flight_project: Emitted) -> None:
    lines = flight_project.texts["requirements.lock"].splitlines()[1:]
    assert all("==" in line for line in lines)
    names = {line.partition("==")[0] for line in lines}
    assert {"xgboost-cpu", "scikit-learn", "scipy", "pandas", "pyarrow", "granian", "orjson"} <= names
    assert not {"matplotlib", "seaborn", "trilho-runtime"} & names


def test_the_readme_tells_the_story(flight_project: Emitted) -> None:
    text = "\n".join(body for _, body in flight_project.story)
    assert "`bst` of the notebook `notebooks/02_flight_delay_xgb.ipynb`: saved at the end" in text
    assert "roc_auc 0.683713" in text
    assert "- cell 6: a plot" in text


def test_the_notebook_is_copied_and_not_changed(flight_project: Emitted, flight_case: Case) -> None:
    assert flight_project.copies["notebooks/02_flight_delay_xgb.ipynb"] == flight_case.notebook.path


def test_the_same_plan_gives_the_same_files(flight_project: Emitted, flight_case: Case) -> None:
    again = emitted(flight_case)
    assert again.texts == flight_project.texts
    assert again.contents == flight_project.contents


def test_a_predict_command_writes_predictions(flight_folder: Path, tmp_path: Path) -> None:
    fit = """
import pickle, sys
from pathlib import Path
from flight_delay.fit import fit
from flight_delay.load import load
table = load(Path("data/baseline.csv"))
target = table.pop("late_departure")
Path(sys.argv[1]).write_bytes(pickle.dumps(fit(table, target)))
"""
    environment = {"PYTHONPATH": "src", "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    model, out = tmp_path / "model.pkl", tmp_path / "out.csv"
    subprocess.run([str(PYTHON), "-c", fit, str(model)], cwd=flight_folder, env=environment, check=True, timeout=60)
    command = [str(PYTHON), "-m", "flight_delay.predict", str(model), "data/baseline.csv", str(out)]
    subprocess.run(command, cwd=flight_folder, env=environment, check=True, timeout=60)
    lines = out.read_text().splitlines()
    assert lines[0] == "prediction"
    golden = json.loads((flight_folder / "tests" / "golden" / "golden.json").read_text())
    first = golden["positions"][0]
    assert float(lines[1 + first]) == pytest.approx(golden["predictions"][0], rel=1e-6)


def test_code_that_fails_on_the_data_is_an_error_with_its_place(flight_case: Case) -> None:
    load = replace(flight_case.plan.load, parts=(part('raw = pd.read_csv(path)["nothing"]', 1),))
    with pytest.raises(TrilhoError, match=r"failed on the notebook's data: KeyError: 'nothing' \(.*load.py"):
        emitted(replace(flight_case, plan=replace(flight_case.plan, load=load)))
