"""Incidents: one for each kind of problem, opened once, updated in place, closed when another version serves."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from trilho.core import records as r
from trilho.core.journal import GENESIS, Record, seal, unseal
from trilho.core.projection import State, fold
from trilho.core.readings import FeatureReading, Reading
from trilho.watch.incidents import close_calm, close_outlived, respond, severity


class History:
    """A journal in memory, folded as it grows."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.state = State()
        self.add(packaged(1), started(1), ended(1))

    def add(self, *payloads: r.Payload) -> None:
        for payload in payloads:
            seq, previous = len(self.records) + 1, self.records[-1].hash if self.records else GENESIS
            text, hash_ = seal(payload, previous=previous, actor="trilho", time=f"2012-06-{seq:02d}T00:00:00+00:00")
            self.records.append(unseal(seq, text, hash_))
            fold(self.records[-1:], self.state)

    @property
    def model(self) -> Any:
        return self.state.model("bike")


def packaged(version: int) -> r.Payload:
    return r.VersionPackaged(
        model="bike", version=version, run="run-1", dataset="d", package="p", metric="mae", metrics={"mae": 41.0},
        commit=None, commit_time=None, data_until=None,
    )  # fmt: skip


def started(version: int) -> r.Payload:
    return r.RolloutStarted(
        model="bike", rollout=f"rollout-{version}", version=version, champion=None, steps=[100], why=""
    )


def ended(version: int) -> r.Payload:
    return r.RolloutEnded(
        model="bike", rollout=f"rollout-{version}", version=version, outcome="full", champion=version, why=""
    )


def alarm(name: str, kind: r.AlarmKind = "drift", version: int = 1, distance: float = 0.3) -> r.AlarmRaised:
    cause = r.Cause(feature="temp", share=0.9, distance=distance, tolerance=0.1)
    return r.AlarmRaised(
        model="bike", alarm=name, kind=kind, version=version, window_start="2012-06-18T00:00:00+00:00",
        window_end="2012-06-25T00:00:00+00:00", evidence=900.0, threshold=730.0, causes=[cause],
        summary="drift of temp (above 33.9: 20%, 0% in training)",
    )  # fmt: skip


def react(history: History, *alarms: r.AlarmRaised) -> list[r.Payload]:
    payloads = respond(history.model, alarms)
    history.add(*alarms, *payloads)
    return payloads


def test_the_first_alarm_opens_an_incident_in_plain_words() -> None:
    history = History()
    (opened,) = react(history, alarm("a1"))
    assert isinstance(opened, r.IncidentOpened)
    assert opened.title == "Drift of temp (above 33.9: 20%, 0% in training), 18 to 24 Jun 2012"
    assert opened.severity == "medium"
    assert opened.incident == "drift-a1"
    assert [x.id for x in history.model.open_incidents] == ["drift-a1"]


def test_the_second_confirms_and_later_ones_are_one_update_a_call() -> None:
    history = History()
    react(history, alarm("a1"))
    (second,) = react(history, alarm("a2"))
    (more,) = react(history, alarm("a3"), alarm("a4"))
    assert isinstance(second, r.IncidentUpdated)
    assert second.change == "confirmed"
    assert isinstance(more, r.IncidentUpdated)
    assert more.change == "alarm"
    assert more.note.startswith("2 more alarms, the last: drift of temp")
    assert len(history.model.incidents) == 1


def test_several_first_alarms_open_one_incident() -> None:
    opened, updated = react(History(), alarm("a1"), alarm("a2"))
    assert isinstance(opened, r.IncidentOpened)
    assert isinstance(updated, r.IncidentUpdated)
    assert updated.incident == opened.incident


def test_each_kind_has_its_own() -> None:
    payloads = react(History(), alarm("a1"), alarm("a2", "performance"))
    assert [type(p) for p in payloads] == [r.IncidentOpened, r.IncidentOpened]


def test_a_repeat_after_a_crash_changes_nothing() -> None:
    history = History()
    react(history, alarm("a1"))
    assert respond(history.model, [alarm("a1")]) == []


def test_a_new_champion_closes_what_its_forerunner_left() -> None:
    history = History()
    react(history, alarm("a1"))
    assert close_outlived(history.model) == []
    history.add(packaged(2), started(2), ended(2))
    (closed,) = close_outlived(history.model)
    assert isinstance(closed, r.IncidentClosed)
    assert closed.reason == "version 2 took over"
    (opened,) = react(history, alarm("b1", version=2))
    assert isinstance(opened, r.IncidentOpened)
    history.add(closed)
    assert [x.version for x in history.model.open_incidents] == [2]


@pytest.mark.parametrize(
    ("kind", "distance", "grade"),
    [
        ("drift", 0.15, "low"),
        ("drift", 0.2, "medium"),
        ("drift", 0.41, "high"),
        ("performance", 0.12, "low"),
        ("performance", 0.13, "medium"),
        ("performance", 0.2, "high"),
    ],
)
def test_severity(kind: r.AlarmKind, distance: float, grade: str) -> None:
    assert severity(alarm("a", kind, distance=distance)) == grade


def weeks(count: int, distance: float = 0.05, own: int = 100, labelled: int = 80) -> list[Reading]:
    """Readings of the weeks that follow the alarm's."""
    first = datetime(2012, 6, 25, tzinfo=UTC)
    return [
        Reading(
            model="bike", version=1, window_start=(first + timedelta(weeks=k)).isoformat(),
            window_end=(first + timedelta(weeks=k + 1)).isoformat(), rows=200, own=own, labelled=labelled,
            evidence=1.0, threshold=730.0, metric="mae", value=40.0,
            features=[FeatureReading(feature="temp", distance=distance, tolerance=0.1, share=1.0),
                      FeatureReading(feature="hum", distance=0.5, tolerance=0.1, share=0.0)],
        )
        for k in range(count)
    ]  # fmt: skip


def calmed(history: History, readings: list[Reading]) -> list[str]:
    closed = close_calm(history.model, readings)
    assert all(isinstance(x, r.IncidentClosed) and x.reason == "no alarm in the 10 windows since" for x in closed)
    return [x.incident for x in closed if isinstance(x, r.IncidentClosed)]


def test_drift_is_over_after_ten_windows_within_the_tolerance() -> None:
    history = History()
    react(history, alarm("a1"))
    assert calmed(history, weeks(9)) == []
    assert calmed(history, weeks(10)) == ["drift-a1"]
    assert calmed(history, weeks(10, labelled=0)) == ["drift-a1"]
    assert calmed(history, [*weeks(10)[:-1], *weeks(10, distance=0.2)[-1:]]) == []
    assert calmed(history, [*weeks(1, distance=0.2), *weeks(11)[1:]]) == ["drift-a1"]
    assert calmed(history, [replace(x, version=2) for x in weeks(10)]) == []


def test_windows_before_the_last_alarm_are_not_calm() -> None:
    history = History()
    react(history, alarm("a1"))
    early = [replace(x, window_start="2012-06-18T00:00:00+00:00") for x in weeks(1)]
    assert calmed(history, [*early, *weeks(10)[1:]]) == []


def test_a_performance_incident_closes_when_most_labels_of_ten_windows_have_come() -> None:
    history = History()
    react(history, alarm("p1", "performance"))
    assert calmed(history, weeks(10)) == ["performance-p1"]  # 80 of its own 100, of 200 rows
    assert calmed(history, weeks(10, labelled=79)) == []
    assert calmed(history, [*weeks(9), *weeks(10, labelled=79)[-1:]]) == []
    assert calmed(history, weeks(10, own=0, labelled=0)) == []


def test_labels_may_lag_behind_and_are_waited_for() -> None:
    history = History()
    react(history, alarm("p1", "performance"))
    lagging = weeks(25, labelled=0)
    assert calmed(history, lagging) == []
    assert calmed(history, [*weeks(9), *lagging[9:]]) == []
    assert calmed(history, [*weeks(10), *lagging[10:]]) == ["performance-p1"]
    assert calmed(history, [*weeks(4), lagging[4], *weeks(10)[5:], *lagging[10:]]) == []


def test_an_alarm_of_its_own_kind_keeps_an_incident_open() -> None:
    history = History()
    react(history, alarm("a1"), alarm("p1", "performance"))
    readings = weeks(10)
    history.add(alarm("p2", "performance"))
    readings[3] = replace(readings[3], alarms=["p2"])
    assert calmed(history, readings) == ["drift-a1"]
