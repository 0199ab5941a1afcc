"""`kill -9` of the platform in the middle of a retraining: the next one carries it to its end."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import EXAMPLES
from tests.line.rig import Verbs, later_rows, marked, predict, until, up

from trilho.core.processes import alive
from trilho.project import Project

POOR = '''"""A model that is soon to be better."""

import pandas as pd
from sklearn.dummy import DummyRegressor


def fit(X: pd.DataFrame, y: pd.Series) -> DummyRegressor:
    """Fit the median, which beats no constant by much."""
    return DummyRegressor(strategy="quantile", quantile=0.6).fit(X, y)
'''
SLOW = '''"""A model that is better, and whose training can be held."""

import os
import time
from pathlib import Path

import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor

FOLDER = Path({folder!r})


def fit(X: pd.DataFrame, y: pd.Series) -> HistGradientBoostingRegressor:
    """Say that the fit has begun, and wait until it may go on."""
    with (FOLDER / "begun").open("a") as began:
        print(os.getpid(), file=began, flush=True)
    while not (FOLDER / "go").exists():
        time.sleep(0.02)
    return HistGradientBoostingRegressor(random_state=0).fit(X, y)
'''


def test_a_killed_platforms_retraining_is_carried_on(bike_project: Path) -> None:
    trilho, project = Verbs(bike_project), Project.open(bike_project)
    train, held = bike_project / "src" / "bike_demand" / "train.py", bike_project.parent / "held"
    held.mkdir()
    train.write_text(POOR)
    assert project.train().version == 1
    assert trilho("release", "1", "--force", "--why", "something must serve").code == 0
    train.write_text(SLOW.format(folder=str(held)))
    rows, _ = later_rows(EXAMPLES / "bike-demand" / "later" / "2012.parquet", "rides", "2012-01-01", "2012-01-02")

    with up(bike_project, "first-up") as first:
        assert {version for _, _, version in predict(first.endpoint, rows)} == {1}
        asked = trilho("retrain")
        assert (asked.code, asked.next) == (0, "trilho retrain list")
        until(lambda: (held / "begun").exists(), "the fit begins")
        assert len(marked("first-up")) >= 5  # platform, router, server, the steps' server, the fit
        first.kill()
        until(lambda: not marked("first-up"), "all that it started ends with it", 20)
    waiting = project.state()
    assert waiting.retraining is not None
    assert (waiting.champion, list(waiting.versions), waiting.rollout) == (1, [1], None)
    assert project.journal.verify(None).problem is None
    assert trilho("retrain", "list", "--json").json["retrainings"][0]["result"] is None

    (held / "go").touch()
    with up(bike_project, "second-up") as second:
        until(lambda: project.state().retrainings["retraining-1"].result, "the retraining ends", 90)
        state = project.state()
        ended = state.retrainings["retraining-1"]
        assert (ended.result, ended.version, ended.cause) == ("promoted", 2, "a person"), ended.note
        assert list(state.retrainings) == ["retraining-1"]  # the same one, not one more
        killed, finished = list(state.runs.values())[1:]
        assert (killed.state, killed.error) == ("failed", "its runner was stopped before it ended")
        assert finished.state == "succeeded"
        assert {x["name"]: x["state"] for x in finished.tasks}["split"] == "cached"  # only the unfinished is repeated
        assert len((held / "begun").read_text().split()) == 2

        def taken_over() -> bool:
            predict(second.endpoint, rows[:1])
            return project.state().champion == 2

        until(taken_over, "version 2 goes through its canary")
        until(lambda: {version for _, _, version in predict(second.endpoint, rows[:1])} == {2}, "version 2 answers")
        assert second.end() == 0
    assert marked("second-up") == {}
    proof = project.journal.verify(None)
    assert (proof.problem, proof.records) == (None, project.journal.head().seq)
    assert all(not alive(int(pid)) for pid in (held / "begun").read_text().split())
