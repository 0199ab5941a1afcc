"""Trainings from beginning to end, in the example projects' own environment."""

from __future__ import annotations

import json
import shutil
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tests.line_project import FEATURES, rows
from tests.train.trainer import TOML, Trainer, workers_of

from trilho.core.records import (
    ContractChecked,
    DatasetVersioned,
    RunEnded,
    RunStarted,
)
from trilho.pipeline.keeping.runs import RunFolder
from trilho.train.evaluate import read_predictions
from trilho.train.records import settle_runs
from trilho.train.run import train


def manifest(trainer: Trainer, package: str | None) -> dict[str, Any]:
    assert package is not None
    found: dict[str, Any] = json.loads((trainer.store.path(package) / "manifest.json").read_text())
    return found


def test_a_training_leaves_a_package_and_its_records(trainer: Trainer) -> None:
    result = train(trainer.context())
    assert result.error is None
    assert (result.state, result.history, result.metric) == ("succeeded", "all", "mae")
    assert result.metrics["mae"] < 1e-9
    assert result.metrics["rows"] == 40
    assert (result.train_until, result.data_until) == ("2020-03-30T18:00:00", "2020-04-09T18:00:00")
    assert trainer.kinds == [DatasetVersioned, RunStarted, ContractChecked, RunEnded]
    assert trainer.end.state == "succeeded"
    assert [task["name"] for task in trainer.end.tasks] == [
        *("extract", "check", "split", "fit-all", "predict-all", "evaluate", "pack")
    ]
    needs = {task["name"]: set(task["needs"]) for task in trainer.end.tasks}
    assert needs["evaluate"] == {"fit-all", "predict-all", "split"}
    packed = manifest(trainer, result.package)
    assert packed["lineage"] == {
        "dataset": result.dataset,
        "run": "r1",
        "commit": "abc",
        "data_until": "2020-04-09T18:00:00",
        "train_until": "2020-03-30T18:00:00",
        "history": "all",
    }
    assert result.predictions is not None
    prediction, value = read_predictions(result.predictions)
    assert prediction == pytest.approx(value)
    assert result.champion_predictions is None


def test_an_unchanged_training_is_the_same_version_and_starts_nothing(trainer: Trainer) -> None:
    first = train(trainer.context())
    assert first.dataset is not None
    never = workers_of(trainer.project, Path("/nonexistent/python"), trainer.home)
    again = train(trainer.context(workers=never, datasets=frozenset({first.dataset})))
    assert again.package == first.package
    assert set(trainer.states.values()) == {"cached"}
    assert trainer.kinds == [RunStarted, ContractChecked, RunEnded]


def test_a_comment_trains_nothing_and_a_change_of_the_features_trains(trainer: Trainer) -> None:
    first = train(trainer.context())
    features = trainer.project / "src" / "line" / "features.py"
    features.write_text("# why\n" + FEATURES)
    assert train(trainer.context()).package == first.package
    features.write_text(FEATURES.replace("frame[['x']]", "frame[['x']] * 2"))
    assert train(trainer.context()).package != first.package
    assert trainer.states == {
        **dict.fromkeys(("extract", "check", "split"), "cached"),
        **dict.fromkeys(("fit-all", "predict-all", "evaluate", "pack"), "ran"),
    }


def test_new_rows_reach_training_and_the_holdout_moves(trainer: Trainer, tmp_path: Path) -> None:
    first = train(trainer.context())
    assert first.package is not None
    served = tmp_path / "served.parquet"
    duckdb.sql(f"COPY ({rows(400, 600, 5.0)}) TO '{served}' (FORMAT parquet)")
    champion = trainer.store.path(first.package)
    result = train(trainer.context(served=served, champion_package=champion))
    assert result.error is None
    assert trainer.records[0] == replace(trainer.records[0], rows=1000, served_rows=600)  # type: ignore[call-arg]
    assert (result.train_until, result.data_until) == ("2020-08-27T18:00:00", "2020-09-06T18:00:00")
    assert not served.exists()  # the store has it
    assert (result.history, result.candidates, first.candidates) == ("window", 2, 1)
    assert result.metrics["mae"] < 1e-9
    fits = ("fit-all", "fit-window", "predict-all", "predict-window")
    assert trainer.states == dict.fromkeys(
        ("extract", "check", "split", *fits, "evaluate", "pack", "score", "pair"), "ran"
    )
    needs = {task["name"]: set(task["needs"]) for task in trainer.end.tasks}
    assert (needs["score"], needs["pair"]) == ({"evaluate", "split"}, {"score"})
    assert result.predictions is not None
    assert result.champion_predictions is not None
    challenger, value = read_predictions(result.predictions)
    old, same = read_predictions(result.champion_predictions)
    assert value.tolist() == same.tolist()
    assert len(value) == 40
    assert abs(challenger - value).mean() < 1e-9
    assert old == pytest.approx(2.0 * (value - 1) / 5 + 1)


def test_a_bad_served_row_is_left_out_and_the_training_goes_on(trainer: Trainer, tmp_path: Path) -> None:
    (trainer.project / "contract.toml").write_text("[columns.x]\nmax = 16\n")
    served = tmp_path / "served.parquet"
    x, ts = "CASE i WHEN 0 THEN 99.0 ELSE x END AS x", "CASE i WHEN 1 THEN 'soon' ELSE ts::VARCHAR END AS ts"
    bad = f"SELECT * REPLACE ({x}, {ts})"
    numbered = f"SELECT *, row_number() OVER () - 1 AS i FROM ({rows(400, 20, 2.0)})"
    duckdb.sql(f"COPY ({bad} FROM ({numbered})) TO '{served}' (FORMAT parquet)")
    result = train(trainer.context(served=served))
    assert (result.state, result.error) == ("succeeded", None)
    assert trainer.records[0] == replace(trainer.records[0], rows=418, served_rows=18)  # type: ignore[call-arg]
    log = (trainer.home / "runs" / "r1" / "extract.log").read_text()
    assert "2 served rows left out: they break the contract" in log


def test_rows_that_the_champion_was_trained_on_are_not_compared(trainer: Trainer) -> None:
    first = train(trainer.context())
    assert first.package is not None
    toml = trainer.project / "trilho.toml"
    toml.write_text(TOML.replace("last 10 days", "last 20 days"))
    result = train(trainer.context(champion_package=trainer.store.path(first.package)))
    assert result.predictions is not None
    assert len(read_predictions(result.predictions)[0]) == 40
    assert result.metrics["rows"] == 80


def test_runs_without_an_end_get_one_unless_they_live(trainer: Trainer) -> None:
    ended: list[RunEnded] = []
    gone = RunFolder.of(trainer.home, "gone")
    gone.write({"run": "gone", "state": "running", "started": "2020-01-01T00:00:00+00:00", "tasks": []})
    with RunFolder.of(trainer.home, "alive").lease():
        settle_runs(trainer.home, "line", ("gone", "alive", "never"), ended.append)
    assert [(end.run, end.state, end.error) for end in ended] == [
        ("gone", "failed", "its runner was stopped before it ended"),
        ("never", "failed", "its runner was stopped before it ended"),
    ]
    manifest = gone.read()
    assert manifest is not None
    assert manifest["state"] == "failed"


def test_without_time_and_key_the_last_rows_are_held_out(trainer: Trainer) -> None:
    (trainer.project / "trilho.toml").write_text(TOML.replace('time = "ts"\nkey = "id"\n', ""))
    result = train(trainer.context())
    assert result.error is None
    assert (result.metrics["rows"], result.train_until, result.data_until) == (80, None, None)


def test_a_package_in_the_store_does_not_change_with_the_source(trainer: Trainer) -> None:
    result = train(trainer.context())
    assert result.package is not None
    shutil.rmtree(trainer.project / "src")
    code = trainer.store.path(result.package) / "code" / "line" / "features.py"
    assert code.read_text() == textwrap.dedent(FEATURES)


def test_the_bike_example_trains(bike_project: Path, tmp_path: Path, project_python: Path) -> None:
    with workers_of(bike_project, project_python, tmp_path) as workers:
        trainer = Trainer(bike_project, tmp_path / "home", project_python, workers)
        result = train(trainer.context())
    assert result.error is None
    assert (result.train_until, result.metrics["rows"]) == ("2011-11-01T23:00:00", 1440)
    assert 35 < result.metrics["mae"] < 50


def test_the_flight_example_trains(flight_project: Path, tmp_path: Path, project_python: Path) -> None:
    with workers_of(flight_project, project_python, tmp_path) as workers:
        trainer = Trainer(flight_project, tmp_path / "home", project_python, workers)
        result = train(trainer.context())
    assert result.error is None
    assert result.metric == "roc_auc"
    assert 0.64 < result.metrics["roc_auc"] < 0.74
