"""Slack's bot, against a stand-in for its API: thread, update, chart, and no message twice where it can look."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.watch.alerts.servers import FakeSlack
from tests.watch.alerts.world import NOW, closed, happened, model, readings

from trilho.watch.alerts.outbox import Outbox, send_test

pytest.importorskip("slack_sdk")
LATER = NOW + timedelta(hours=2)


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSlack]:
    with FakeSlack() as fake:
        monkeypatch.setenv("TRILHO_SLACK_API", fake.address)
        monkeypatch.setenv("TRILHO_SLACK_TOKEN", fake.TOKEN)
        monkeypatch.setenv("TRILHO_SLACK_CHANNEL", "C0123ABCD")
        yield fake


def outbox(folder: Path) -> Outbox:
    return Outbox(folder / "watch.sqlite", ["slack"], "http://c.example", readings=lambda _: readings())


def told(message: dict[str, Any]) -> str:
    return json.dumps(message["blocks"])


def test_one_message_for_an_incident_updated_in_place_with_its_story_in_the_thread(
    tmp_path: Path, slack: FakeSlack
) -> None:
    state, box = model("drift-a1"), outbox(tmp_path)
    box.queue(state)
    assert len(box.deliver("flights", NOW)) == 1
    (opening,) = slack.messages
    assert opening["channel"] == "C0123ABCD"
    assert opening["metadata"]["event_payload"] == {"incident": "drift-a1", "alert": "drift-a1:opened:slack"}
    (file,) = slack.files
    assert file["thread_ts"] == opening["ts"]
    assert file["name"] == "drift-a1.png"

    happened(state, "drift-a1", "confirmed")
    happened(state, "drift-a1", "alarm")  # not a change of state
    happened(state, "drift-a1", "acknowledged", "the sensor at the harbour")
    closed(state, "drift-a1")
    assert box.queue(state) == 3
    assert len(box.deliver("flights", LATER)) == 3
    replies = slack.messages[1:]
    assert [m["text"] for m in replies] == [
        "flights version 1: drift, confirmed",
        "flights version 1: drift, taken up by ana",
        "flights: closed, version 2 took over",
    ]
    assert {m["thread_ts"] for m in replies} == {opening["ts"]}
    assert [bool(m.get("reply_broadcast")) for m in replies] == [False, False, True]
    assert opening["text"] == "flights: closed, version 2 took over"
    assert opening["metadata"]["event_payload"]["alert"] == "drift-a1:opened:slack"
    assert len(slack.files) == 1


def test_the_chart_is_a_png_of_a_size_that_a_telephone_shows(tmp_path: Path, slack: FakeSlack) -> None:
    box = outbox(tmp_path)
    box.queue(model("drift-a1"))
    box.deliver("flights", NOW)
    (body,) = slack.uploads.values()
    at = body.index(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", body[at + 16 : at + 24]) == (1000, 560)


def test_a_message_that_arrived_though_its_answer_was_lost_is_found_and_not_repeated(
    tmp_path: Path, slack: FakeSlack
) -> None:
    box = outbox(tmp_path)
    box.queue(model("drift-0", "drift-1", "drift-2"))
    slack.faults["chat.postMessage"] = ["lose"]
    box.deliver("flights", NOW)
    ((alert, attempts, problem), *_) = box.waiting("flights")
    assert (alert, attempts) == ("drift-0:opened:slack", 1)
    assert problem
    sent = box.deliver("flights", LATER)
    assert [x.alert for x in sent] == [f"drift-{k}:opened:slack" for k in range(3)]
    assert [m["metadata"]["event_payload"]["incident"] for m in slack.messages] == ["drift-0", "drift-1", "drift-2"]
    assert "conversations.history" in slack.calls


def test_a_reply_that_arrived_is_found_in_its_thread(tmp_path: Path, slack: FakeSlack) -> None:
    state, box = model("drift-a1"), outbox(tmp_path)
    box.queue(state)
    box.deliver("flights", NOW)
    for _ in range(4):
        happened(state, "drift-a1", "worse")
    box.queue(state)
    slack.faults["chat.postMessage"] = ["lose"]
    box.deliver("flights", LATER)
    box.deliver("flights", LATER + timedelta(hours=1))
    alerts = [m["metadata"]["event_payload"]["alert"] for m in slack.messages[1:]]
    assert alerts == [f"drift-a1:{name}:slack" for name in ("worse", "worse-2", "worse-3", "worse-4")]


def test_where_the_bot_may_not_look_a_repeat_says_that_it_may_be_one(tmp_path: Path, slack: FakeSlack) -> None:
    box = outbox(tmp_path)
    box.queue(model("drift-a1"))
    slack.scopes -= {"channels:history"}
    slack.faults["chat.postMessage"] = ["lose"]
    box.deliver("flights", NOW)
    box.deliver("flights", LATER)
    first, second = slack.messages
    assert first["metadata"] == second["metadata"]  # with the same id
    assert "may have been sent before" in told(second)
    assert "may have been sent before" not in told(first)


def test_a_chart_that_failed_for_a_passing_reason_is_sent_without_its_words_again(
    tmp_path: Path, slack: FakeSlack
) -> None:
    box = outbox(tmp_path)
    box.queue(model("drift-a1"))
    slack.faults["files.getUploadURLExternal"] = [503]
    assert box.deliver("flights", NOW) == []
    assert len(box.deliver("flights", LATER)) == 1
    assert len(slack.messages) == 1
    assert [f["thread_ts"] for f in slack.files] == [slack.messages[0]["ts"]]


def test_a_bot_without_the_right_to_upload_sends_the_words(tmp_path: Path, slack: FakeSlack) -> None:
    slack.scopes -= {"files:write"}
    box = outbox(tmp_path)
    box.queue(model("drift-a1"))
    assert len(box.deliver("flights", NOW)) == 1
    assert len(slack.messages) == 1
    assert slack.files == []


def test_a_channel_that_asks_for_rest_gets_it(tmp_path: Path, slack: FakeSlack) -> None:
    box = outbox(tmp_path)
    box.queue(model("drift-a1", "drift-a2"))
    slack.faults["chat.postMessage"] = [(429, {"Retry-After": "600"})]
    assert box.deliver("flights", NOW) == []
    assert slack.calls == ["chat.postMessage"]  # the second message has not tried its luck
    assert box.deliver("flights", NOW + timedelta(seconds=599)) == []
    assert slack.calls == ["chat.postMessage"]
    assert len(box.deliver("flights", NOW + timedelta(seconds=601))) == 2


def test_a_message_that_slack_refuses_holds_up_no_other(tmp_path: Path, slack: FakeSlack) -> None:
    box = outbox(tmp_path)
    box.queue(model("drift-a1", "drift-a2"))
    slack.faults["chat.postMessage"] = ["invalid_blocks"]
    assert [x.alert for x in box.deliver("flights", NOW)] == ["drift-a2:opened:slack"]
    assert box.waiting("flights") == [("drift-a1:opened:slack", 1, "slack answered invalid_blocks")]


def test_a_button_acknowledges_where_slack_can_tell(
    tmp_path: Path, slack: FakeSlack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRILHO_SLACK_SIGNING_SECRET", "signing")
    state, box = model("drift-a1"), outbox(tmp_path)
    box.queue(state)
    box.deliver("flights", NOW)
    buttons = [b for block in slack.messages[0]["blocks"] if block["type"] == "actions" for b in block["elements"]]
    assert [(b["action_id"], b.get("value"), b.get("url")) for b in buttons] == [
        ("trilho_acknowledge", "drift-a1", None),
        ("trilho_open", None, "http://c.example/incidents/drift-a1"),
    ]
    happened(state, "drift-a1", "acknowledged")
    box.queue(state)
    box.deliver("flights", LATER)
    assert "trilho_acknowledge" not in told(slack.messages[0])


def test_the_test_says_which_rights_are_missing(slack: FakeSlack) -> None:
    slack.scopes -= {"files:write"}
    lacks: dict[str, list[str]] = {}
    assert send_test("flights", ["slack"], lacks=lacks) == {"slack": None}
    assert lacks == {"slack": ["show the chart: slack answered missing_scope (needs files:write)"]}
    slack.scopes = set()
    assert send_test("flights", ["slack"]) == {"slack": "slack answered missing_scope (needs chat:write)"}


def test_no_problem_names_the_token(slack: FakeSlack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRILHO_SLACK_TOKEN", "xoxb-wrong-0123456789")  # not-a-secret
    assert send_test("flights", ["slack"]) == {"slack": "slack answered invalid_auth"}
