"""What starts a retraining, and what does not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from trilho.config import Settings
from trilho.core import records as r
from trilho.core.projection import Incident, ModelState, Retraining, Rollout
from trilho.errors import NotYet
from trilho.retrain.trigger import by_hand, decide

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NEWEST = datetime(2012, 7, 1, tzinfo=UTC)


def settings_of(**retrain: Any) -> Settings:
    return Settings.model_validate(
        {
            "model": {"name": "bikes", "task": "regression", "target": "count"},
            "data": {"source": "data.csv"},
            "steps": {"features": "bikes.features:build", "train": "bikes.train:fit"},
            "retrain": {"cooldown": "7 days", **retrain},
        }
    )


def alarm(kind: r.AlarmKind = "performance", name: str = "alarm-1", version: int = 1) -> r.AlarmRaised:
    return r.AlarmRaised(
        model="bikes",
        alarm=name,
        kind=kind,
        version=version,
        window_start="2012-06-18T00:00:00",
        window_end="2012-06-25T00:00:00",
        evidence=1e5,
        threshold=1e4,
        causes=[],
        summary="",
    )


def state_with(*alarms: r.AlarmRaised, last: Retraining | None = None, **more: Any) -> ModelState:
    """A state in which the alarms are recorded at 10:00, each with an open incident."""
    return ModelState(
        "bikes",
        champion=1,
        alarms={x.alarm: x for x in alarms},
        alarm_times={x.alarm: "2026-03-01T10:00:00+00:00" for x in alarms},
        incidents={f"of {x.alarm}": Incident(f"of {x.alarm}", x.kind, 1, "high", "", "t", [x.alarm]) for x in alarms},
        retrainings={last.id: last} if last else {},
        **more,
    )


def ended(started: str, data_time: str | None) -> Retraining:
    return Retraining("retraining-1", "drift", None, started, data_time, result="rejected", ended=started)


def test_a_new_alarm_fires() -> None:
    fired = decide(state_with(), settings_of(), [alarm()], NEWEST, NOW)
    assert fired == r.TriggerFired(
        model="bikes",
        trigger="retraining-1",
        cause="performance",
        incident=None,
        data_time="2012-07-01T00:00:00+00:00",
    )


def test_a_recorded_alarm_fires_with_its_incident() -> None:
    fired = decide(state_with(alarm("drift")), settings_of(), [], NEWEST, NOW)
    assert fired is not None
    assert (fired.cause, fired.incident) == ("drift", "of alarm-1")


def test_performance_names_the_cause_before_drift() -> None:
    fired = decide(state_with(alarm("drift"), alarm("performance", "alarm-2")), settings_of(), [], NEWEST, NOW)
    assert fired is not None
    assert (fired.cause, fired.incident) == ("performance", "of alarm-2")


def test_without_alarms_nothing_fires() -> None:
    assert decide(state_with(), settings_of(), [], NEWEST, NOW) is None


@pytest.mark.parametrize("off", ["drift", "performance"])
def test_a_cause_that_is_off_does_not_fire(off: r.AlarmKind) -> None:
    other: r.AlarmKind = "drift" if off == "performance" else "performance"
    settings = settings_of(**{off: False})
    assert decide(state_with(), settings, [alarm(off)], NEWEST, NOW) is None
    assert decide(state_with(), settings, [alarm(other)], NEWEST, NOW) is not None


def test_quality_alarms_are_for_people() -> None:
    assert decide(state_with(), settings_of(), [alarm("quality")], NEWEST, NOW) is None


def test_alarms_about_an_earlier_version_do_not_fire() -> None:
    assert decide(state_with(), settings_of(), [alarm(version=0)], NEWEST, NOW) is None


def test_a_closed_incident_is_answered() -> None:
    state = state_with(alarm())
    open_ = state.incidents["of alarm-1"]
    state.incidents["of alarm-1"] = replace(open_, closed="2026-03-01T11:00:00+00:00")
    assert decide(state, settings_of(), [], NEWEST, NOW) is None


def test_one_retraining_answers_the_alarms_before_it() -> None:
    last = ended("2026-03-01T11:00:00+00:00", "2012-01-01T00:00:00+00:00")
    assert decide(state_with(alarm(), last=last), settings_of(), [], NEWEST, NOW) is None


@pytest.mark.parametrize(("days", "fires"), [(6, False), (7, True)])
def test_cooldown_runs_in_the_datas_own_time_and_loses_no_alarm(days: int, fires: bool) -> None:
    last = ended("2026-03-01T09:00:00+00:00", "2012-06-01T00:00:00")  # three hours ago by the clock
    newest = datetime(2012, 6, 1) + timedelta(days=days)
    assert (decide(state_with(alarm(), last=last), settings_of(), [], newest, NOW) is not None) is fires


@pytest.mark.parametrize(("hours", "fires"), [(3, False), (24 * 8, True)])
def test_without_event_time_cooldown_runs_by_the_clock(hours: int, fires: bool) -> None:
    last = ended("2026-03-01T09:00:00+00:00", None)
    now = datetime(2026, 3, 1, 9, tzinfo=UTC) + timedelta(hours=hours)
    fired = decide(state_with(alarm(), last=last), settings_of(), [], None, now)
    assert (fired is not None) is fires
    if fired is not None:
        assert (fired.trigger, fired.data_time) == ("retraining-2", None)


def test_one_at_a_time() -> None:
    running = Retraining("retraining-1", "drift", None, "2026-01-01T00:00:00+00:00", None)
    assert decide(state_with(alarm(), last=running), settings_of(), [alarm()], NEWEST, NOW) is None


def test_none_during_a_rollout_and_none_before_a_release() -> None:
    way = {"rollout-1": Rollout("rollout-1", 2, 1, [10, 100], "t", "ana", "", share=10)}
    busy = state_with(alarm(), rollouts=way)
    assert decide(busy, settings_of(), [alarm()], NEWEST, NOW) is None
    assert decide(ModelState("bikes"), settings_of(), [alarm()], NEWEST, NOW) is None
    with pytest.raises(NotYet, match="version 2 of bikes is on its way"):
        by_hand(busy, NEWEST)


def test_a_person_needs_no_alarm_and_no_cooldown() -> None:
    last = ended("2026-03-01T11:59:00+00:00", "2012-07-01T00:00:00+00:00")
    fired = by_hand(state_with(last=last), NEWEST)
    assert (fired.trigger, fired.cause, fired.incident) == ("retraining-2", "a person", None)
