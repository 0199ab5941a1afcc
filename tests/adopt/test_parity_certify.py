"""A project that repeats its notebook is certified; whatever is planted in it, or in the run, refuses that."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.adopt import parity_world
from tests.adopt.parity_world import NOTEBOOK_PYTHON, World, state

from trilho.adopt.environment import make_environment
from trilho.adopt.parity.certificate import STAGES, Certificate, read_certificate, verify, write_certificate
from trilho.adopt.parity.endpoint import ask_endpoint
from trilho.adopt.plan import Lag
from trilho.errors import DataError, Unreachable

EQUAL = dict.fromkeys(STAGES, "equal")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not NOTEBOOK_PYTHON.exists():
        pytest.skip("tests/notebooks/.venv is absent: make notebooks")
    return make_environment(tmp_path_factory.mktemp("environment"), str(NOTEBOOK_PYTHON))


@pytest.fixture(scope="module")
def rides(tmp_path_factory: pytest.TempPathFactory, python: Path) -> World:
    return parity_world.rides(tmp_path_factory.mktemp("rides"))


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory, python: Path) -> World:
    return parity_world.late(tmp_path_factory.mktemp("late"))


@pytest.fixture(scope="module")
def certificate(rides: World, python: Path) -> Certificate:
    return rides.certify(python)


@pytest.fixture
def source_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what follows the project's own functions: it takes seconds, and is another test's."""

    def refuse(*_: Any, **__: Any) -> None:
        raise DataError("not in this test")

    monkeypatch.setattr("trilho.adopt.parity.check.train_and_pack", refuse)


def array(file: Path, change: Callable[[Any], Any]) -> None:
    np.save(file, change(np.load(file)))


def test_awkward_columns_reach_the_endpoint_unchanged(certificate: Certificate) -> None:
    assert certificate.reasons() == []
    assert state(certificate) == EQUAL
    assert certificate.certified
    assert certificate.rows == 300
    assert certificate.max_difference == 0.0
    assert [(m.name, m.project == m.notebook) for m in certificate.metrics] == [("mae", True), ("r2", True)]
    assert (certificate.shipped.cell, certificate.evaluated and certificate.evaluated.cell) == (5, 3)


def test_state_a_booster_and_a_replayed_split_are_certified(late: World, python: Path) -> None:
    found = late.certify(python)
    assert found.reasons() == []
    assert state(found) == EQUAL
    assert found.rows == 300
    assert {stage.name: stage.rows for stage in found.stages}["features"] == 300


@pytest.mark.usefixtures("source_only")
@pytest.mark.parametrize("event", ["golden", "goldenb"])
def test_one_row_of_golden_is_enough_to_refuse(rides: World, python: Path, tmp_path: Path, event: str) -> None:
    spoiled = rides.copy(tmp_path)
    row = int(np.load(spoiled.scratch / "values" / "positionsb.npy")[41]) if event == "goldenb" else 41

    def change(values: Any) -> Any:
        values[41] += 1e-6
        return values

    array(spoiled.scratch / "values" / f"{event}.npy", change)
    found = spoiled.certify(python)
    fit = found.stages[2]
    assert not found.certified
    assert (fit.state, fit.rows, fit.reason) == ("different", 300, "1 of 300 rows differ")
    assert fit.first_difference is not None
    assert fit.first_difference["row"] == row
    assert fit.max_difference == pytest.approx(1e-6)


@pytest.mark.usefixtures("source_only")
def test_a_changed_metric_refuses(rides: World, python: Path) -> None:
    other = replace(rides.choice.metrics[0], value=rides.choice.metrics[0].value + 1e-7)
    found = rides.certify(python, choice=replace(rides.choice, metrics=(other, rides.choice.metrics[1])))
    assert found.stages[3].state == "different"
    assert found.stages[3].reason.startswith("mae is 5.83")
    assert not found.certified


@pytest.mark.usefixtures("source_only")
def test_a_swapped_model_refuses(rides: World, python: Path, tmp_path: Path) -> None:
    spoiled = rides.copy(tmp_path)
    spoiled.edit("src/rides/fit.py", "max_iter=20", "max_iter=21")
    found = spoiled.certify(python)
    assert state(found)["load"] == state(found)["features"] == "equal"
    assert state(found)["fit"] == state(found)["evaluate"] == "different"
    assert found.stages[2].reason == "300 of 300 rows differ"


@pytest.mark.usefixtures("source_only")
def test_a_feature_of_another_type_or_value_is_named(rides: World, python: Path, tmp_path: Path) -> None:
    spoiled = rides.copy(tmp_path)
    spoiled.edit("src/rides/features.py", ".fillna(2)", ".fillna(3)")
    features = spoiled.certify(python).stages[1]
    assert features.state == "different"
    assert features.first_difference == {"row": 15, "column": "seats", "notebook": 2.0, "project": 3.0}
    spoiled.edit("src/rides/features.py", ".fillna(3)", ".fillna(2)")
    spoiled.edit("src/rides/features.py", '.astype("int8")', "")
    assert spoiled.certify(python).stages[1].reason.startswith("accented is bool, int8 in the notebook")


@pytest.mark.usefixtures("source_only")
def test_data_that_is_read_otherwise_is_found(
    rides: World, python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiled = rides.copy(tmp_path)
    monkeypatch.chdir(tmp_path)
    spoiled = replace(spoiled, project=Path("project"), scratch=Path("scratch"))  # as --into DIR is typed
    spoiled.edit("src/rides/load.py", "return pd", "df = pd")
    spoiled.edit("src/rides/load.py", '"category"})', '"category"})\n    df.loc[7, "rides"] += 1\n    return df')
    load = spoiled.certify(python).stages[0]
    assert (load.state, load.first_difference and load.first_difference["column"]) == ("different", "rides")


@pytest.mark.usefixtures("source_only")
def test_an_unseeded_model_is_named_as_such(rides: World, python: Path, tmp_path: Path) -> None:
    spoiled = rides.copy(tmp_path)
    spoiled.edit("src/rides/fit.py", "sklearn.ensemble import HistGradientBoostingRegressor",
                 "sklearn.ensemble import ExtraTreesRegressor as HistGradientBoostingRegressor")  # fmt: skip
    spoiled.edit("src/rides/fit.py", "max_iter=20, random_state=0).fit(X, y)",
                 "5, max_features=0.5, min_samples_leaf=20, bootstrap=True).fit(X.fillna(0), y)")  # fmt: skip
    spoiled.edit("src/rides/features.py", 'df["temp"].astype("float32")', 'df["temp"].fillna(0)')
    fit = spoiled.certify(python).stages[2]
    assert fit.state == "different"
    assert fit.reason.startswith("unseeded randomness in cell 5: two fits to the same rows differ")


@pytest.mark.usefixtures("source_only")
def test_predictions_that_are_no_numbers_are_not_certified(rides: World, python: Path, tmp_path: Path) -> None:
    spoiled = rides.copy(tmp_path)
    spoiled.edit("src/rides/fit.py", "import pandas as pd", "import numpy as np\nimport pandas as pd")
    spoiled.edit("src/rides/fit.py", "def fit(", "class Odd(HistGradientBoostingRegressor):\n"
                 "    def predict(self, X):\n        return np.where(X['hour'] == 0, np.nan, super().predict(X))\n\n\n"
                 "def fit(")  # fmt: skip
    spoiled.edit("src/rides/fit.py", "return HistGradientBoostingRegressor(", "return Odd(")
    array(spoiled.scratch / "values" / "golden.npy", lambda values: values * np.nan)
    found = spoiled.certify(python)
    assert found.stages[2].state == "not compared"
    assert "predicted nan for row 0" in found.stages[2].reason
    assert not found.certified


def test_a_model_that_looks_at_other_rows_is_refused(rides: World, python: Path, tmp_path: Path) -> None:
    spoiled = rides.copy(tmp_path)
    spoiled.edit("src/rides/features.py", ".fillna(2)", ".fillna(df['seats'].median() * 0 + len(df) // 300 * 2)")
    found = spoiled.certify(python)
    assert state(found)["features"] == "different"  # the 75 rows that were asked about alone
    assert state(found)["pipeline"] == "not compared"
    assert found.stages[4].reason.startswith("step pack failed: row 3 of the sample is predicted ")
    assert found.stages[6].reason == "the pipeline made no package"


def test_a_batch_model_is_certified_without_an_endpoint(rides: World, python: Path, tmp_path: Path) -> None:
    spoiled = rides.copy(tmp_path)
    spoiled.edit("src/rides/features.py", ".fillna(2)", ".fillna(len(df) // 300 * 2)")
    lag = Lag(2, 1, 3, "df.groupby('place')['rides'].shift(1)", "shift", "rides", "place")
    found = spoiled.certify(python, choice=replace(spoiled.choice, lags=(lag,)))
    assert state(found) == {**EQUAL, "http": "not compared"}
    assert found.stages[6].reason == "batch only: it has no endpoint"
    assert found.certified
    assert found.batch_only
    assert found.lags == ("df.groupby('place')['rides'].shift(1)",)


@pytest.mark.usefixtures("source_only")
def test_what_a_notebook_does_to_its_predictions_must_be_done_in_serving(
    rides: World, python: Path, tmp_path: Path
) -> None:
    spoiled = rides.copy(tmp_path)
    array(spoiled.scratch / "values" / "measured.npy", lambda values: np.maximum(values - 3, 0))
    assert spoiled.certify(python).stages[2].state == "different"
    spoiled.edit("src/rides/fit.py", "def fit(", "class Model:\n    def __init__(self, inner):\n"
                 "        self.inner = inner\n\n    def predict(self, X):\n"
                 "        return (self.inner.predict(X) - 3).clip(0)\n\n\ndef fit(")  # fmt: skip
    spoiled.edit("src/rides/fit.py", "return HistGradientBoostingRegressor(max_iter=20, random_state=0).fit(X, y)",
                 "return Model(HistGradientBoostingRegressor(max_iter=20, random_state=0).fit(X, y))")  # fmt: skip
    fit = spoiled.certify(python).stages[2]
    assert (fit.state, fit.rows) == ("equal", 300)
    assert "both were compared" in fit.reason


@pytest.mark.usefixtures("source_only")
def test_another_version_of_a_library_stands_against_it(rides: World, python: Path) -> None:
    trace = replace(rides.trace, libraries={"pandas": "0.1", "numpy": "0"})
    found = rides.certify(python, trace=trace)
    assert found.problems[0].startswith("pandas is ")
    assert found.problems[0].endswith("in the project's environment, 0.1 in the notebook's")
    assert not found.certified


@pytest.mark.usefixtures("source_only")
def test_what_was_not_kept_is_not_claimed(rides: World, python: Path) -> None:
    trace = replace(rides.trace, golden=[], reads=[replace(rides.trace.reads[0], arguments={"parse_dates": "DATES"})])
    found = rides.certify(python, trace=trace)
    assert state(found)["load"] == state(found)["fit"] == "not compared"
    assert found.stages[0].reason.endswith("and the read can't be repeated")
    assert not found.certified


@pytest.mark.usefixtures("source_only")
def test_a_project_whose_code_fails_or_dies_says_how(rides: World, python: Path, tmp_path: Path) -> None:
    spoiled = rides.copy(tmp_path)
    spoiled.edit("src/rides/features.py", '"hour":', '"hour": df["gone"], "more":')
    assert spoiled.certify(python).stages[1].reason == "features raised KeyError: 'gone'"
    spoiled.edit("src/rides/load.py", "import pandas as pd", "import os\n\nos._exit(9)")
    found = spoiled.certify(python)
    assert {stage.state for stage in found.stages} == {"not compared"}
    assert found.stages[0].reason == "its process ended with exit code 9: it said nothing"


def test_a_certificate_is_read_again_and_goes_stale(certificate: Certificate, rides: World, tmp_path: Path) -> None:
    project = rides.copy(tmp_path).project
    data = [project / "data" / "data.csv"]
    file, page = write_certificate(project, certificate)
    assert read_certificate(project) == certificate
    assert str(verify(project)) == "valid"
    told = json.loads(file.read_text())
    assert told["metric"] == {
        "name": "mae",
        "notebook": told["metric"]["project"],
        "project": told["metric"]["project"],
    }
    assert "Yes. Certified." in page.read_text()

    source = project / "src" / "rides" / "fit.py"
    source.write_text("# a comment\n" + source.read_text())
    assert str(verify(project)) == "valid"
    source.write_text(source.read_text().replace("max_iter=20", "max_iter=30"))
    data[0].write_text(data[0].read_text() + "\n")
    assert str(verify(project)) == "stale: code and data changed since the certificate was made"

    file.write_text(json.dumps({**told, "rows": 3000}))
    with pytest.raises(DataError, match="it was changed after it was written"):
        read_certificate(project)


def test_a_server_that_does_not_come_up_or_refuses_a_row_is_told(
    certificate: Certificate, rides: World, python: Path, tmp_path: Path
) -> None:
    with pytest.raises(Unreachable, match="the prediction server ended with exit code"):
        ask_endpoint(tmp_path / "none", "ab", [{}], python=python, folder=tmp_path, task="regression")
