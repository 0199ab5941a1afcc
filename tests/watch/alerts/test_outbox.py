"""Alerts: at least once, with the incident's id, to a receiver that really listens."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from trilho.core import records as r
from trilho.core.projection import Incident, ModelState, Retraining, Rollout
from trilho.testing.receiver import Receiver
from trilho.watch.alerts.outbox import Outbox, send_test

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def state_with_incident() -> ModelState:
    cause = r.Cause(feature="temp", share=0.9, distance=0.74, tolerance=0.07)
    raised = r.AlarmRaised(
        model="flights", alarm="a1", kind="drift", version=1, window_start="2013-05-10T00:00:00+00:00",
        window_end="2013-05-11T00:00:00+00:00", evidence=990.0, threshold=730.0, causes=[cause], summary="drift",
    )  # fmt: skip
    incident = Incident("drift-a1", "drift", 1, "high", "Drift of temp, 10 May 2013", "2026-01-01", alarms=["a1"])
    state = ModelState("flights", champion=1, alarms={"a1": raised}, incidents={"drift-a1": incident})
    state.retrainings["retraining-1"] = Retraining("retraining-1", "drift", "drift-a1", "2026-01-01", None)
    return state


@pytest.fixture
def receiver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Receiver:
    receiver = Receiver(tmp_path / "received")
    monkeypatch.setenv("TRILHO_SLACK_WEBHOOK", receiver.address("slack"))
    monkeypatch.setenv("TRILHO_TEAMS_WEBHOOK", receiver.address("teams"))
    return receiver


def outbox(tmp_path: Path, *channels: str) -> Outbox:
    return Outbox(tmp_path / "watch.sqlite", channels, "http://127.0.0.1:8321")


def test_both_channels_get_the_incident_once(tmp_path: Path, receiver: Receiver) -> None:
    box, state = outbox(tmp_path, "slack", "teams"), state_with_incident()
    with receiver:
        assert box.queue(state) == 2
        assert box.queue(state) == 0
        sent = box.deliver("flights", NOW)
        assert box.deliver("flights", NOW + timedelta(hours=1)) == []
    assert [(x.alert, x.channel, x.attempts) for x in sent] == [
        ("drift-a1:opened:slack", "slack", 1),
        ("drift-a1:opened:teams", "teams", 1),
    ]
    (slack,), (teams,) = receiver.messages("slack"), receiver.messages("teams")
    for text in (json.dumps(slack), json.dumps(teams)):
        for part in ("flights", "temp: 0.74 from training, 0.07 allowed", "a retraining has started", "drift-a1",
                     "http://127.0.0.1:8321/incidents/drift-a1", "severity high"):  # fmt: skip
            assert part in text
    assert slack["blocks"][0]["type"] == "header"
    card = teams["attachments"][0]
    assert card["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert card["content"]["actions"][0]["url"] == "http://127.0.0.1:8321/incidents/drift-a1"


def held_rollout(share: int, shadow: int = 0) -> ModelState:
    rollout = Rollout(
        "rollout-2", 2, 1, [10, 50, 100], "2026-01-01", "ana", "", model="flights", share=share, shadow=shadow,
        paused=True, held_by="shift", note="64% of the predictions of version 2 lie far from those of version 1",
    )  # fmt: skip
    return ModelState("flights", champion=1, rollouts={"rollout-2": rollout})


def test_a_rollout_that_waits_for_a_person_is_told_once_at_each_share(tmp_path: Path, receiver: Receiver) -> None:
    box = outbox(tmp_path, "slack")
    with receiver:
        assert box.queue(held_rollout(0, shadow=20)) == 1
        assert box.queue(held_rollout(0, shadow=20)) == 0
        assert box.queue(held_rollout(10)) == 1
        sent = box.deliver("flights", NOW)
    assert [(x.alert, x.incident) for x in sent] == [
        ("rollout-2:held-at-0:slack", "rollout-2"),
        ("rollout-2:held-at-10:slack", "rollout-2"),
    ]
    first, second = (json.dumps(message) for message in receiver.messages("slack"))
    for part in ("flights version 2: held", "64% of the predictions", "trilho rollout resume",
                 "it stays asked unseen about 20% of requests",
                 "http://127.0.0.1:8321/models/flights#rollouts"):  # fmt: skip
        assert part in first
    assert "it stays at 10% of traffic" in second


def test_a_rollout_that_a_person_paused_is_no_news(tmp_path: Path) -> None:
    state = held_rollout(10)
    state.rollouts["rollout-2"] = replace(state.rollouts["rollout-2"], held_by="a person")
    assert outbox(tmp_path, "slack").queue(state) == 0


def test_a_refused_message_is_tried_again_later(tmp_path: Path, receiver: Receiver) -> None:
    box = outbox(tmp_path, "slack")
    box.queue(state_with_incident())
    receiver.failures = 2
    with receiver:
        assert box.deliver("flights", NOW) == []
        assert box.waiting("flights") == [("drift-a1:opened:slack", 1, "slack answered 503")]
        assert box.deliver("flights", NOW) == []  # not due yet: no attempt
        assert box.deliver("flights", NOW + timedelta(seconds=2)) == []
        (sent,) = box.deliver("flights", NOW + timedelta(seconds=10))
    assert sent.attempts == 3
    assert len(receiver.messages("slack")) == 1


def test_a_channel_that_is_not_wired_waits_and_says_why(tmp_path: Path) -> None:
    box = outbox(tmp_path, "slack")
    box.queue(state_with_incident())
    assert box.deliver("flights", NOW) == []
    assert box.waiting("flights") == [("drift-a1:opened:slack", 1, "TRILHO_SLACK_WEBHOOK is not set")]


def test_a_crash_after_sending_loses_no_record_and_sends_nothing_twice(tmp_path: Path, receiver: Receiver) -> None:
    state = state_with_incident()
    with receiver:
        box = outbox(tmp_path, "slack")
        box.queue(state)
        (sent,) = box.deliver("flights", NOW)  # then the process dies before the journal has it
        again = outbox(tmp_path, "slack")
        again.queue(state)
        assert again.deliver("flights", NOW) == [sent]
        state.alerts.append(("2026-01-01", sent))
        last = outbox(tmp_path, "slack")
        last.queue(state)
        assert last.deliver("flights", NOW) == []
    assert len(receiver.messages("slack")) == 1


def test_the_end_is_told_where_the_opening_was(tmp_path: Path, receiver: Receiver) -> None:
    state = state_with_incident()
    box = outbox(tmp_path, "slack")
    box.queue(state)
    opened = state.incidents["drift-a1"]
    state.incidents["drift-a1"] = replace(opened, closed="2026-01-02", reason="version 2 took over")
    with receiver:
        assert box.queue(state) == 1
        box.deliver("flights", NOW)
    assert receiver.messages("slack")[1]["text"] == "flights: closed, version 2 took over"
    fresh = Outbox(tmp_path / "other" / "watch.sqlite", ["slack"])
    assert fresh.queue(state) == 0  # what ended before anybody listened is not news


def test_no_channels_no_file(tmp_path: Path) -> None:
    box = outbox(tmp_path)
    assert box.queue(state_with_incident()) == 0
    assert box.deliver("flights", NOW) == []
    assert list(tmp_path.iterdir()) == []


def test_the_test_alert_says_what_is_wired(tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRILHO_TEAMS_WEBHOOK")
    with receiver:
        assert send_test("flights", ["slack", "teams"]) == {"slack": None, "teams": "TRILHO_TEAMS_WEBHOOK is not set"}
    assert receiver.messages("slack")[0]["text"] == "flights: test alert"


def test_the_receiver_refuses_what_is_no_message(tmp_path: Path) -> None:
    with Receiver(tmp_path) as receiver:
        request = urllib.request.Request(receiver.address("slack"), b"{not json", method="POST")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=5)
        refused.value.close()
    assert refused.value.code == 400
    assert receiver.messages("slack") == []
