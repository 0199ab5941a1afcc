"""What is told of an incident: a message for each change of its state, through mutes, new starts and crossings."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.watch.alerts.world import NOW, closed, happened, model

from trilho.core import records as r
from trilho.core.projection import ModelState
from trilho.watch.alerts.outbox import Outbox
from trilho.watch.alerts.telling import Voice, changes, reason, tell
from trilho.watch.incidents.lead import lead_words
from trilho.watch.incidents.words import effect_words, runbook


def queued(box: Outbox, state: ModelState) -> list[str]:
    """Queue what there is; give all that waits."""
    box.queue(state)
    return [alert.removesuffix(":slack") for alert, _, _ in box.waiting(state.name)]


def change(state: ModelState, incident: str, **changes: object) -> None:
    """Change an incident."""
    state.incidents[incident] = replace(state.incidents[incident], **changes)  # type: ignore[arg-type]


def test_an_incident_that_opens_again_is_told_with_each_of_its_ends() -> None:
    state = model("drift-a1")
    happened(state, "drift-a1", "confirmed")
    happened(state, "drift-a1", "reopened")
    hours = [(NOW + timedelta(minutes=m)).isoformat() for m in (0, 90, 120, 150)]
    course = [(hours[0], "suspected", "trilho"), (hours[1], "resolved", "trilho"), (hours[2], "reopened", "trilho"),
              (hours[3], "outlived", "trilho")]  # fmt: skip
    change(state, "drift-a1", course=course, closed=hours[3], reason="version 2 took over")
    found = list(changes(state.incidents["drift-a1"]))
    assert [x.name for x in found] == ["opened", "confirmed", "closed", "reopened", "closed-2"]


def test_of_a_muted_incident_nothing_is_told(tmp_path: Path) -> None:
    state, box = model("drift-a1"), Outbox(tmp_path / "watch.sqlite", ["slack"])
    assert queued(box, state) == ["drift-a1:opened"]
    change(state, "drift-a1", muted_until=(datetime.now(UTC) + timedelta(days=1)).isoformat(), muted_by="ana")
    happened(state, "drift-a1", "worse")
    assert queued(box, state) == ["drift-a1:opened"]
    change(state, "drift-a1", muted_until=None)
    happened(state, "drift-a1", "confirmed")
    assert queued(box, state) == ["drift-a1:opened", "drift-a1:confirmed"]  # what was muted stays untold


def test_an_incident_that_opened_and_ended_between_two_looks_is_told(tmp_path: Path) -> None:
    state, box = model(), Outbox(tmp_path / "watch.sqlite", ["slack"])
    assert queued(box, state) == []  # it listens from now on
    opened = model("drift-a1")
    later = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    change(opened, "drift-a1", opened=later)
    change(opened, "drift-a1", closed=later, reason="version 2 took over")
    assert queued(box, opened) == ["drift-a1:opened", "drift-a1:closed"]


def test_effect_lead_and_slices_are_told_where_they_are_known() -> None:
    state = model("drift-a1")
    effect = r.Effect(metric="mae", change=12.0, expected=80.0, source="estimated")
    lead = r.Lead(
        first="2026-01-01T00:00:00+00:00", crossed="2026-01-04T00:00:00+00:00", seconds=3 * 86400.0, metric="mae",
        window_start="2026-01-03T00:00:00+00:00", value=101.0, minimum=100.0, source="measured",
    )  # fmt: skip
    change(state, "drift-a1", effect=effect, lead=lead, slices=["origin=JFK"])
    held = state.incidents["drift-a1"]
    facts = dict(tell(state, held, next(changes(held)), "a", Voice()).facts)
    assert facts["Effect"] == effect_words(effect)
    assert "worse by 12.0, estimated" in facts["Effect"]
    assert facts["Warning lead"] == lead_words(lead)
    assert "3 days before" in facts["Warning lead"]
    assert facts["In"] == "origin=JFK"
    assert facts["Runbook"] == runbook(held)[0]


def test_who_took_it_up_is_told_even_after_it_opened_again() -> None:
    state = model("drift-a1")
    happened(state, "drift-a1", "acknowledged", "looking")
    ((time, _, _),) = state.incidents["drift-a1"].notes
    change(state, "drift-a1", acknowledged_by=None, course=[(time, "acknowledged", "rui")])
    held = state.incidents["drift-a1"]
    told = tell(state, held, list(changes(held))[1], "a", Voice())
    assert told.headline == "flights version 1: drift, taken up by rui"
    assert dict(told.facts)["Note"] == "looking"


@pytest.mark.parametrize(
    ("english", "portuguese"),
    [
        ("version 3 took over", "a versão 3 assumiu"),
        ("no alarm in the 10 windows since", "nenhum alarme nas 10 janelas seguintes"),
        ("temp is back where training had them", "de volta aonde o treino os teve: temp"),
        ("the sensor was mended", "the sensor was mended"),
    ],
)
def test_why_it_ended(english: str, portuguese: str) -> None:
    assert reason(english, "pt-BR") == portuguese
    assert reason(english, "en") == english


def test_one_that_ended_before_anybody_listened_is_no_news(tmp_path: Path) -> None:
    state = model("drift-a1")
    closed(state, "drift-a1")
    assert queued(Outbox(tmp_path / "watch.sqlite", ["slack"]), state) == []
