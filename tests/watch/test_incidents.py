"""Incidents by cause: which alarm is whose, how bad, how early; what confirms them and what ends them."""

from __future__ import annotations

import string
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from tests.watch.test_incident import History, ended, packaged, started

from trilho.core import records as r
from trilho.core.projection import Incident
from trilho.core.readings import Reading
from trilho.errors import NotYet, UsageError
from trilho.watch import phrases
from trilho.watch.drift import DriftDetector
from trilho.watch.incidents import Finding, Terms, Trials, acts, close_outlived, foresee, respond, settle, severity
from trilho.watch.incidents.words import alarm_steps, effect_words, lead_told, runbook
from trilho_runtime.profile import Reference

DAY = timedelta(days=1)
NOW = "2012-07-01T00:00:00+00:00"
TESTED = Terms(tested=frozenset({"drift", "prediction", "quality"}))


def alarm(name: str, *shares: tuple[str, float], day: int = 1, distance: float = 0.3, **more: Any) -> r.AlarmRaised:
    start = datetime(2012, 6, 1, tzinfo=UTC) + day * DAY
    given = shares or (("temp", 0.9),)
    causes = [r.Cause(feature=f, share=s, distance=distance, tolerance=0.1) for f, s in given]
    known: dict[str, Any] = {"kind": "drift", "version": 1, **more}
    return r.AlarmRaised(
        model="bike", alarm=name, window_start=start.isoformat(), window_end=(start + DAY).isoformat(),
        evidence=900.0, threshold=730.0, causes=causes, summary=f"drift of {given[0][0]}", **known,
    )  # fmt: skip


def react(history: History, *alarms: r.AlarmRaised, terms: Terms = TESTED, now: str = NOW) -> list[r.Payload]:
    payloads = respond(history.model, alarms, terms, now=now)
    history.add(*alarms, *payloads)
    return payloads


def the(history: History, place: int = 0) -> Incident:
    found: list[Incident] = list(history.model.incidents.values())
    return found[place]


# ---- causes ------------------------------------------------------------------------------------------------------


def test_a_second_cause_opens_its_own_incident_and_the_same_one_updates_in_place() -> None:
    history = History()
    react(history, alarm("a1", ("temp", 0.6), ("dewp", 0.3)))
    react(history, alarm("a2", ("wind", 0.9), day=2))
    react(history, alarm("a3", ("dewp", 0.7), ("temp", 0.2), day=3))
    assert [(x.id, x.alarms) for x in history.model.open_incidents] == [
        ("drift-a1", ["a1", "a3"]),
        ("drift-a2", ["a2"]),
    ]
    assert [x["feature"] for x in the(history).causes] == ["temp", "dewp"]


def test_two_causes_in_one_call_are_two_incidents() -> None:
    history = History()
    react(history, alarm("a1"), alarm("a2", ("wind", 0.9)), alarm("a3"), alarm("a4"))
    assert [(x.id, x.alarm_count) for x in history.model.open_incidents] == [("drift-a1", 3), ("drift-a2", 1)]


def test_a_drift_of_everything_is_one_incident_however_its_features_change_places() -> None:
    history, names = History(), string.ascii_lowercase[:10]
    for k in range(10):
        shares = [(name, 0.2) for name in (names[k:] + names[:k])[:5]]
        react(history, alarm(f"a{k}", *shares, day=k))
    assert len(history.model.incidents) == 1
    assert the(history).alarm_count == 10


def test_kinds_of_alarms_do_not_mix() -> None:
    history = History()
    react(history, alarm("a1"), alarm("a2", kind="quality"), alarm("a3", kind="prediction"))
    assert [x.kind for x in history.model.open_incidents] == ["drift", "quality", "prediction"]


# ---- severity ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "minimum", "metric", "grade"),
    [(9.0, 60.0, "mae", "low"), (10.0, 60.0, "mae", "medium"), (20.0, 60.0, "mae", "high"),
     (-5.0, 60.0, "mae", "low"), (1.0, 39.0, "mae", "high"), (20.0, 20.0, "roc_auc", "high")],
)  # fmt: skip
def test_severity_is_the_way_to_the_minimum(change: float, minimum: float, metric: str, grade: str) -> None:
    effect = r.Effect(metric=metric, change=change, expected=40.0, source="estimated")
    assert severity(alarm("a", distance=9.0, effect=effect), Terms(minimum=minimum)) == grade


def test_severity_rises_once_and_never_falls_before_the_end() -> None:
    history = History()
    react(history, alarm("a1", distance=0.15))
    (worse,) = react(history, alarm("a2", distance=0.5, day=2))
    assert isinstance(worse, r.IncidentUpdated)
    assert (worse.change, worse.severity) == ("worse", "high")
    (mild,) = react(history, alarm("a3", distance=0.11, day=3))
    assert isinstance(mild, r.IncidentUpdated)
    assert (mild.change, mild.severity) == ("alarm", None)
    assert the(history).severity == "high"


def weeks(values: list[float | None], half: float = 1.0, version: int = 1) -> list[Reading]:
    first = datetime(2012, 6, 1, tzinfo=UTC)
    return [
        Reading(
            model="bike", version=version, window_start=(first + k * DAY).isoformat(),
            window_end=(first + (k + 1) * DAY).isoformat(), rows=100, own=100, labelled=0 if value is None else 100,
            evidence=0.0, threshold=730.0, metric="mae", value=value, expected=40.0,
            low=None if value is None else value - half, high=None if value is None else value + half,
        )
        for k, value in enumerate(values)
    ]  # fmt: skip


def test_a_performance_alarm_is_graded_by_what_was_measured() -> None:
    performance = alarm("p1", ("mae", 1.0), kind="performance", distance=0.11)
    (opened,) = respond(History().model, [performance], Terms(minimum=60.0), weeks([40.0, 61.0]), NOW)
    assert isinstance(opened, r.IncidentOpened)
    assert opened.severity == "high"


# ---- lead --------------------------------------------------------------------------------------------------------


def lead(values: list[float | None], day: int, half: float = 1.0, minimum: float | None = 60.0) -> Incident:
    history, terms = History(), Terms(minimum=minimum)
    react(history, alarm("a1", day=day, distance=0.15))
    history.add(*foresee(history.model, weeks(values, half), terms))
    assert foresee(history.model, weeks(values, half), terms) == [] or the(history).lead is None
    return the(history)


def test_the_lead_is_from_the_first_alert_to_the_window_that_crossed() -> None:
    found = lead([40.0, 41.0, 50.0, 58.0, 63.0, 66.0], day=1)
    assert found.lead is not None
    assert (found.lead["seconds"], found.lead["window_start"]) == (3 * 86400.0, "2012-06-05T00:00:00+00:00")
    assert (found.lead["value"], found.lead["source"]) == (63.0, "measured")
    assert lead_told(found) == "first alert 3 days before the metric crossed 60.0"
    assert found.severity == "high"


def test_an_interval_that_holds_the_minimum_has_not_crossed_it() -> None:
    found = lead([40.0, 41.0, 63.0], day=1, half=5.0)
    assert (found.lead, found.severity) == (None, "low")
    assert lead_told(found) == "not crossed yet"


def test_an_alert_that_came_after_says_so() -> None:
    found = lead([40.0, 65.0, 66.0, 59.0, 67.0, 68.0], day=4)
    assert found.lead is not None
    assert found.lead["seconds"] == -3 * 86400.0
    assert lead_told(found) == "first alert 3 days after the metric had crossed 60.0"
    assert "depois de a métrica" in lead_told(found, "pt-BR")


def test_an_old_crossing_that_was_over_is_not_this_one() -> None:
    found = lead([70.0, 40.0, 41.0, 40.0, 41.0, 40.0, 40.0, 64.0], day=5)
    assert found.lead is not None
    assert found.lead["window_start"] == "2012-06-08T00:00:00+00:00"


def test_without_a_minimum_what_degradation_allows_stands_in_but_raises_nothing() -> None:
    found = lead([40.0, 41.0, 46.0], day=1, minimum=None)
    assert found.lead is not None
    assert (found.lead["minimum"], found.severity) == (44.0, "low")


def test_another_versions_windows_do_not_count() -> None:
    history = History()
    react(history, alarm("a1"))
    assert foresee(history.model, weeks([40.0, 41.0, 90.0], version=2), Terms(minimum=60.0)) == []


# ---- ends --------------------------------------------------------------------------------------------------------


def resolved(history: History, end: str = "2012-06-04T00:00:00+00:00") -> list[r.Payload]:
    last = the(history).alarms[-1]
    payloads = settle(history.model, [Finding(last, "resolved", ("temp",), end)])
    history.add(*payloads)
    return payloads


def test_findings_confirm_once_and_resolve() -> None:
    history = History()
    react(history, alarm("a1"))
    confirmed = Finding("a1", "confirmed", ("temp",), "2012-06-03T00:00:00+00:00")
    (said,) = settle(history.model, [confirmed, confirmed])
    history.add(said)
    assert the(history).state == "confirmed"
    assert settle(history.model, [confirmed]) == []
    (closed,) = resolved(history)
    assert isinstance(closed, r.IncidentClosed)
    assert (closed.end, closed.reason) == ("resolved", "temp is back to what training saw")
    assert [state for _, state, _ in the(history).course] == ["suspected", "confirmed", "resolved"]


def test_what_is_gone_for_an_older_alarm_is_not_gone() -> None:
    history = History()
    react(history, alarm("a1"))
    react(history, alarm("a2", day=2))
    assert settle(history.model, [Finding("a1", "resolved", ("temp",), NOW)]) == []


def test_a_second_alarm_confirms_only_where_no_test_does() -> None:
    for terms, state in ((TESTED, "suspected"), (Terms(), "confirmed")):
        history = History()
        react(history, alarm("a1"))
        react(history, alarm("a2", day=2), terms=terms)
        assert the(history).state == state


@pytest.mark.parametrize(("day", "incidents"), [(3, 1), (4, 1), (6, 2)])
def test_the_same_cause_within_the_cooldown_is_the_same_incident(day: int, incidents: int) -> None:
    history = History()
    react(history, alarm("a1", distance=0.15))
    resolved(history)  # by the end of 3 June
    payloads = react(history, alarm("a2", day=day, distance=0.25))
    assert len(history.model.incidents) == incidents
    if incidents == 1:
        assert isinstance(payloads[0], r.IncidentReopened)
        found = the(history)
        assert (found.state, found.closed, found.reopened, found.alarms) == ("suspected", None, 1, ["a1", "a2"])
        assert found.severity == "medium"


def test_a_muted_cause_stays_one_incident_until_the_mute_is_over() -> None:
    for now, incidents in ((NOW, 1), ("2012-08-30T00:00:00+00:00", 2)):
        history = History()
        react(history, alarm("a1"))
        at = datetime.fromisoformat(NOW)
        history.add(acts.mute("bike", the(history), 30 * DAY, "the fair", at))
        resolved(history)
        react(history, alarm("a2", day=20), now=now)
        assert len(history.model.incidents) == incidents


def test_what_another_version_left_is_not_opened_again() -> None:
    history = History()
    react(history, alarm("a1"))
    history.add(packaged(2), started(2), ended(2))
    history.add(*close_outlived(history.model))
    assert the(history).state == "outlived"
    react(history, alarm("a2", day=2, version=2))
    assert len(history.model.incidents) == 2


def clean(rng: np.random.Generator) -> dict[str, Any]:
    return {"x": rng.normal(size=2000), "y": rng.normal(size=2000)}


def test_drift_is_confirmed_by_its_own_test_and_resolved_when_it_goes_through_a_restart() -> None:
    rng = np.random.default_rng(11)
    days = np.arange(40 * 2000) // 2000 * 86400.0
    data = {"x": rng.normal(size=len(days)), "y": rng.normal(size=len(days))}
    reference = Reference.fit(data, days, 86400)
    detector, trials = DriftDetector(reference, tolerance=0.02), Trials()
    history, seen = History(), list[str]()
    for day in range(40):
        rows = clean(rng)
        if 5 <= day < 12:
            rows["x"] = rows["x"] + 0.6
        reading = detector.update(reference.profile(rows))
        found = trials.update(reading, f"2012-06-{day % 28 + 1:02d}T00:00:00+00:00")
        if reading.alarm:
            react(history, alarm(f"d{day}", (reading.causes[0].feature, 0.9), day=day))
            trials.begin(f"d{day}", "inputs", reading)
        for payload in settle(history.model, found):
            history.add(payload)
            seen.append(payload.type)
        trials.keep(history.model)
        trials = Trials.restore(trials.state())
    assert [x.causes[0]["feature"] for x in history.model.incidents.values()] == ["x"]
    assert seen[0] == "incident.updated"
    assert the(history).state == "resolved"
    assert trials.state() == {}


# ---- people ------------------------------------------------------------------------------------------------------


def test_a_person_can_mute_with_an_expiry_and_a_name() -> None:
    history = History()
    react(history, alarm("a1"))
    history.add(acts.mute("bike", the(history), 3 * DAY, "the fair", datetime.fromisoformat(NOW)))
    found = the(history)
    assert (found.muted_until, found.muted_by) == ("2012-07-04T00:00:00+00:00", "trilho")
    assert (found.standing(NOW), found.standing("2012-07-05T00:00:00+00:00")) == ("muted", "suspected")
    history.add(acts.unmute("bike", found, "", datetime.fromisoformat(NOW)))
    assert the(history).muted_until is None
    with pytest.raises(NotYet, match="not muted"):
        acts.unmute("bike", the(history), "", datetime.fromisoformat(NOW))


@pytest.mark.parametrize("why", ["", "   "])
def test_closing_and_muting_need_a_reason(why: str) -> None:
    incident = Incident("i", "drift", 1, "low", "", NOW)
    with pytest.raises(UsageError, match="needs a reason"):
        acts.close("bike", incident, why)
    with pytest.raises(UsageError, match="needs a reason"):
        acts.mute("bike", incident, DAY, why, datetime.fromisoformat(NOW))
    with pytest.raises(UsageError, match="up to a year"):
        acts.mute("bike", incident, 400 * DAY, "x", datetime.fromisoformat(NOW))


def test_nothing_is_done_about_what_has_ended() -> None:
    incident = Incident("i", "drift", 1, "low", "", NOW, closed=NOW, reason="gone", state="resolved")
    for act in (acts.acknowledge, acts.close):
        with pytest.raises(NotYet, match="has ended"):
            act("bike", incident, "x")
    with pytest.raises(NotYet, match="has ended"):
        acts.assign("bike", incident, "ana")


# ---- words -------------------------------------------------------------------------------------------------------


def blanks(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_every_text_is_there_in_both_languages_with_the_same_blanks() -> None:
    assert set(phrases.ENGLISH) == set(phrases.PORTUGUESE)
    for key, text in phrases.ENGLISH.items():
        assert blanks(text) == blanks(phrases.PORTUGUESE[key]), key


@pytest.mark.parametrize("kind", ["drift", "prediction", "quality", "performance"])
def test_every_kind_has_a_runbook(kind: r.AlarmKind) -> None:
    incident = Incident("i", kind, 1, "low", "", NOW)
    english, portuguese = runbook(incident), runbook(incident, "pt-BR")
    assert len(english) == len(portuguese) == 3
    assert not set(english) & set(portuguese)


def test_many_alarms_are_folded_into_one_line() -> None:
    history = History()
    for k in range(40):
        react(history, alarm(f"a{k}", day=k - 20))
    told = list(alarm_steps(history.model, the(history)))
    assert [step.text for step in told[2:]] == ["38 more alarms, last 20 Jun 2012"]
    assert len(told) == 3


def test_an_effect_says_where_it_comes_from_and_how_far_it_goes() -> None:
    effect = r.Effect(metric="mae", change=10.0, expected=40.0, source="measured", low=8.0, high=12.0)
    assert effect_words(effect, Terms(minimum=60.0)) == (
        "MAE worse by 10.0 (8.00 to 12.0), measured with labels; "
        "50% of the way from what was expected (40.0) to the minimum (60.0)"
    )
    assert effect_words(None) == "not known: no labels, and no estimate"
