"""What the loops make of bad luck: told to stop, alerts sent twice over, a clock that is wrong."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from trilho.cli.retrain import carried_out
from trilho.config import Settings
from trilho.core import records as r
from trilho.core.files import write_whole
from trilho.core.lease import Lease
from trilho.loops import RetrainLoop, WatchLoop
from trilho.pipeline.execution.execute import Stopped
from trilho.project import Project, TrainOutcome

TRIGGER = r.TriggerFired(model="bike", trigger="retraining-1", cause="drift", incident=None, data_time=None)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    settings = Settings.model_validate(
        {
            "model": {"name": "bike", "task": "regression", "target": "y", "time": "ts", "key": "id"},
            "data": {"source": "data.csv"},
            "steps": {"features": "bike.features:build", "train": "bike.train:fit"},
            "watch": {"alerts": ["slack"]},
        }
    )
    return Project(tmp_path, settings)


def test_a_retraining_that_is_told_to_stop_stays_open(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[threading.Event | None] = []

    def train(*, stop: threading.Event | None = None, **_: object) -> TrainOutcome:
        told.append(stop)
        raise Stopped("run r1 was told to stop")

    monkeypatch.setattr(project, "train", train)
    project.record(TRIGGER)
    stop = threading.Event()
    loop = RetrainLoop(project, stop=stop)
    assert loop.once() is None
    assert told == [stop]
    assert project.state().retraining is not None
    other = RetrainLoop(project)  # the lease is free again
    assert other.once() is None


def test_an_alert_that_was_sent_and_recorded_before_a_crash_is_recorded_once(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = r.AlertSent(model="bike", alert="i:opened:slack", incident="i", channel="slack", attempts=1)
    project.record(sent)
    loop = WatchLoop(project)
    monkeypatch.setattr(loop.outbox, "deliver", lambda *_: [sent])
    loop.deliver()
    assert [record.type for record in project.journal.read_from(1)] == ["alert.sent"]


def test_a_clock_ahead_does_not_move_the_time_by_which_cooldowns_pass(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    assert project.data_time() is None
    monkeypatch.setattr(project.log, "extent", lambda: (now, now + timedelta(days=365_000)))
    newest = project.data_time()
    assert newest is not None
    assert now <= newest <= datetime.now(UTC)


def test_a_platform_carries_out_what_it_runs_and_no_other(project: Project) -> None:
    assert not carried_out(project)
    write_whole(project.home / "platform.json", '{"schema": 1, "pid": 1, "models": ["bike"]}')
    assert not carried_out(project)  # what a killed platform left
    lease = Lease(project.home / "platform.lease", "the platform is run")
    lease.take()
    assert carried_out(project)
    write_whole(project.home / "platform.json", '{"schema": 1, "pid": 1, "models": ["flights"]}')
    assert not carried_out(project)
