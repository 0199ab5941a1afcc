"""New rows reach training: what was served and labelled since is in the next version, down to its predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import EXAMPLES
from tests.line.rig import Verbs, change, label, later_rows, predict, query, serving, until

from trilho.loops import WatchLoop
from trilho.project import Project

MEAN = '''"""A model that says what the mean of its training rows was."""

import pandas as pd
from sklearn.dummy import DummyRegressor


def fit(X: pd.DataFrame, y: pd.Series) -> DummyRegressor:
    """Fit the mean."""
    return DummyRegressor(strategy="mean").fit(X, y)
'''
OFFSET = 3000.0  # served labels are far from the baseline's, so that a mean cannot be right by chance


def test_new_rows_reach_training(bike_project: Path) -> None:
    """Serve 80 days to a model that predicts the mean of what it was fitted on, label them all but one, train again."""
    (bike_project / "src" / "bike_demand" / "train.py").write_text(MEAN)
    change(bike_project / "trilho.toml", 'history = "auto"', 'history = "all"')
    project = Project.open(bike_project)
    baseline = bike_project / "data" / "baseline.csv"
    assert project.train().version == 1
    project.release(1, force=True, why="the mean is what this test needs")
    rows, values = later_rows(EXAMPLES / "bike-demand" / "later" / "2012.parquet", "rides", "2012-01-01", "2012-03-21")
    shifted = [value + OFFSET for value in values]
    with serving(project) as address:
        answered = predict(address, rows)
        (first,) = {prediction for _, prediction, _ in answered}
        assert first == pytest.approx(mean(baseline, "2011-11-02"), rel=1e-9)
        label(address, [(id_, value) for (id_, _, _), value in zip(answered, shifted, strict=True)][:-1])
        watch = WatchLoop(project)
        watch.once()  # reads what was served, as the platform does
        watch.stop()
        n = len(rows) - 1
        status = project.labels()
        assert (status.served, status.labelled) == (len(rows), n)

        second = project.train()
        assert second.version == 2
        state = project.state()
        one, two = (state.datasets[state.versions[number].dataset] for number in (1, 2))
        assert (one.served_rows, two.served_rows, two.rows - one.rows) == (0, n, n)
        assert (one.last, two.last) == ("2011-12-31T23:00:00", rows[-2]["ts"])
        assert [state.versions[number].data_until for number in (1, 2)] == [one.last, two.last]
        # The holdout is a rule, the newest 60 days: it has moved on by as much as the data has.
        before, after = (lineage(project, number) for number in (1, 2))
        assert (before["train_until"], after["train_until"]) == ("2011-11-01T23:00:00", "2012-01-20T22:00:00")
        assert second.metrics["rows"] == 60 * 24

        # What the endpoint says after a release is the mean over baseline and served rows up to there: it saw them.
        project.release(2, force=True, why="the mean is what this test needs")
        for move in ("next", "next"):
            project.move_rollout(move)
        said = answer_of(address, rows[0], version=2)
    known = sum(value for row, value in zip(rows, shifted, strict=True) if row["ts"] <= after["train_until"])
    new = sum(row["ts"] <= after["train_until"] for row in rows)
    old = query(f"SELECT sum(rides), count(*) FROM '{baseline}'")[0]
    assert new == 20 * 24 - 1
    assert said == pytest.approx((old[0] + known) / (old[1] + new), rel=1e-9)
    shown = Verbs(bike_project)("data", "--json").json["datasets"]
    assert [x["served_rows"] for x in shown] == [0, n]


def mean(baseline: Path, before: str) -> float:
    return float(query(f"SELECT avg(rides) FROM '{baseline}' WHERE ts < TIMESTAMP '{before}'")[0][0])


def lineage(project: Project, version: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project.package(version) / "manifest.json").read_text())["lineage"]
    return found


def answer_of(address: str, row: dict[str, Any], version: int) -> float:
    """Give what a version says, once it is the one that answers."""

    def look() -> list[float]:
        _, prediction, by = predict(address, [row])[0]
        return [prediction] if by == version else []

    return until(look, f"version {version} answers")[0]
