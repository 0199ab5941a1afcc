"""Receivers that refuse, stall, lose and repeat: nothing is lost, and none delays another."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from tests.watch.alerts.limits import check_blocks, check_card, check_event
from tests.watch.alerts.servers import Faulty
from tests.watch.alerts.world import NOW, closed, happened, model

from trilho.config import Alert
from trilho.errors import ConfigError
from trilho.watch.alerts import posting
from trilho.watch.alerts.letter import Undelivered
from trilho.watch.alerts.outbox import Outbox, send_test
from trilho.watch.alerts.posting import post
from trilho.watch.alerts.table import GIVE_UP_SECONDS, LetterTable

LATER = NOW + timedelta(hours=2)


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir()
    monkeypatch.setenv("TRILHO_SECRETS", str(folder))
    return folder


def outbox(folder: Path, **servers: Faulty) -> Outbox:
    """Give an outbox with a webhook channel for each server."""
    tables = {}
    for name, server in servers.items():
        (folder / "secrets").mkdir(exist_ok=True)
        (folder / "secrets" / name).write_text(server.address)
        tables[name] = Alert(kind="webhook", address=f"secret://{name}")
    return Outbox(folder / "watch.sqlite", list(servers), "http://c.example", tables=tables)


def ids(server: Faulty) -> list[str]:
    return [got.json["id"] for got in server.taken]


def test_a_channel_that_stalls_delays_no_other(tmp_path: Path, secrets: Path) -> None:
    with Faulty("stall") as slow, Faulty() as fast:
        box = outbox(tmp_path, slow=slow, fast=fast)
        box.queue(model("drift-a1", "drift-a2"))
        until = time.monotonic() + 30
        sent = box.deliver("flights", NOW, patience=0.01)
        while len(sent) < 2 and time.monotonic() < until:
            sent += box.deliver("flights", NOW, patience=0.05)
        assert slow.stalling.wait(30)
        assert [x.channel for x in sent] == ["fast", "fast"]
        assert slow.taken == []
        assert {alert for alert, _, _ in box.waiting("flights")} == {"drift-a1:opened:slow", "drift-a2:opened:slow"}
        slow.released.set()
        box.close()


@pytest.mark.parametrize("act", ["stall", "trickle"])
def test_a_post_has_an_end_whatever_the_receiver_does(act: str) -> None:
    with Faulty(act) as server, pytest.raises(Undelivered) as caught:
        post("it", server.address, b"{}", {}, budget=0.3)
    assert caught.value.unsure


def test_what_is_refused_before_a_line_stands_has_not_arrived() -> None:
    with Faulty() as server:
        address = server.address
    with pytest.raises(Undelivered) as caught:
        post("it", address, b"{}", {}, budget=5)
    assert not caught.value.unsure
    assert "127.0.0.1" not in caught.value.problem  # the address is a secret


def test_a_redirection_is_no_success() -> None:
    with Faulty((302, {"Location": "/elsewhere"})) as server:
        with pytest.raises(Undelivered, match="it answered 302"):
            post("it", server.address, b"{}", {})
        assert len(server.got) == 1


def test_a_lost_answer_is_a_repeat_with_the_same_id_that_says_so(tmp_path: Path, secrets: Path) -> None:
    with Faulty("lose") as server:
        box = outbox(tmp_path, hook=server)
        box.queue(model("drift-a1"))
        assert box.deliver("flights", NOW) == []
        (sent,) = box.deliver("flights", LATER)
    assert sent.attempts == 2
    assert ids(server) == ["drift-a1:opened:hook"] * 2
    assert [got.json["data"]["repeat"] for got in server.taken] == [False, True]
    assert {got.headers["x-trilho-incident"] for got in server.taken} == {"drift-a1"}


def test_a_refusal_is_no_repeat(tmp_path: Path, secrets: Path) -> None:
    with Faulty(503, 503, "close", 200) as server:
        box = outbox(tmp_path, hook=server)
        box.queue(model("drift-a1"))
        for hours in range(4):
            sent = box.deliver("flights", NOW + timedelta(hours=hours))
    assert [x.attempts for x in sent] == [4]
    assert ids(server) == ["drift-a1:opened:hook"]


def test_a_channel_that_asks_for_rest_is_left_alone_as_long(tmp_path: Path, secrets: Path) -> None:
    with Faulty((429, {"Retry-After": "1800"})) as server:
        box = outbox(tmp_path, hook=server)
        box.queue(model("drift-a1", "drift-a2"))
        box.deliver("flights", NOW)
        box.deliver("flights", NOW + timedelta(seconds=1799))
        assert len(server.got) == 1
        assert len(box.deliver("flights", NOW + timedelta(seconds=1801))) == 2


def test_tries_grow_rarer_over_hours_and_end_as_a_dead_letter_after_a_day(tmp_path: Path, secrets: Path) -> None:
    with Faulty(*[500] * 200) as server:
        box = outbox(tmp_path, hook=server)
        box.queue(model("drift-a1"))
        seconds = 0
        tries: list[int] = []
        while not box.dead("flights") and seconds < 2 * GIVE_UP_SECONDS:
            before = len(server.got)
            box.deliver("flights", NOW + timedelta(seconds=seconds))
            tries += [seconds] * (len(server.got) - before)
            seconds += 60 if seconds else 4
        assert 25 <= len(tries) <= 60
        assert max(b - a for a, b in pairwise(tries)) <= 3660
        assert tries[-1] - tries[0] >= GIVE_UP_SECONDS
        assert box.waiting("flights") == []
        ((alert, attempts, problem),) = box.dead("flights")
        assert (alert, attempts, problem) == ("drift-a1:opened:hook", len(tries), "hook answered 500")

        assert box.resend("flights", ["other"]) == 0
        assert box.resend("flights") == 1
        server.script.clear()
        (sent,) = box.deliver("flights", NOW + timedelta(days=3))
    assert sent.attempts == 1
    assert box.dead("flights") == []


def test_changes_of_an_incident_arrive_in_their_order(tmp_path: Path, secrets: Path) -> None:
    state = model("drift-a1")
    with Faulty(500) as server:
        box = outbox(tmp_path, hook=server)
        box.queue(state)
        box.deliver("flights", NOW)
        happened(state, "drift-a1", "confirmed")
        closed(state, "drift-a1")
        box.queue(state)
        assert box.deliver("flights", NOW) == []
        assert len(box.deliver("flights", LATER)) == 3
    assert [got.json["data"]["stage"] for got in server.taken] == ["opened", "confirmed", "closed"]


def test_what_happened_before_anybody_listened_is_not_told_one_by_one(tmp_path: Path, secrets: Path) -> None:
    state = model("drift-a1")
    happened(state, "drift-a1", "confirmed")
    with Faulty() as server:
        box = outbox(tmp_path, hook=server)
        assert box.queue(state) == 1
        happened(state, "drift-a1", "worse")
        assert box.queue(state) == 1
        box.deliver("flights", NOW)
    assert ids(server) == ["drift-a1:opened:hook", "drift-a1:worse:hook"]


def test_a_storm_becomes_a_digest_that_names_every_incident(tmp_path: Path, secrets: Path) -> None:
    names = [f"drift-{k:02d}" for k in range(50)]
    with Faulty() as server:
        box = outbox(tmp_path, hook=server)
        state = model(*names)
        box.queue(state)
        sent = box.deliver("flights", NOW)
        assert [x.incident for x in sent] == names  # each is recorded
        (digest,) = server.taken
        assert digest.json["data"]["stage"] == "digest"
        assert [fact["name"] for fact in digest.json["data"]["facts"]] == names
        assert digest.json["data"]["members"] == [f"{name}:opened:hook" for name in names]
        closed(state, "drift-07")
        box.queue(state)
        assert [x.alert for x in box.deliver("flights", LATER)] == ["drift-07:closed:hook"]


def test_a_storm_of_many_models_is_one(tmp_path: Path, secrets: Path) -> None:
    with Faulty() as server:
        box = outbox(tmp_path, hook=server)
        for k in range(50):
            box.queue(model(f"drift-{k:02d}", name=f"model-{k:02d}"))
        assert [x.model for x in box.deliver("model-00", NOW)] == ["model-00"]
        assert [x.incident for x in box.deliver("model-31", NOW)] == ["drift-31"]
    assert len(server.taken) == 1


def test_in_a_storm_that_goes_on_a_channel_gets_no_more_than_ten_a_minute(tmp_path: Path, secrets: Path) -> None:
    with Faulty() as server:
        box = outbox(tmp_path, hook=server)
        for second in range(60):
            box.queue(model(f"drift-{second:02d}", name=f"model-{second:02d}"))
            box.deliver("model-00", NOW + timedelta(seconds=second))
        assert len(server.taken) == 10
        box.deliver("model-00", NOW + timedelta(seconds=121))
    named = [x for got in server.taken for x in got.json["data"].get("members", [got.json["id"]])]
    assert len(server.taken) == 11
    assert sorted(named) == [f"drift-{k:02d}:opened:hook" for k in range(60)]


def test_a_digest_that_is_given_up_takes_its_members_along_and_back(tmp_path: Path, secrets: Path) -> None:
    with Faulty(500, 500) as server:
        box = outbox(tmp_path, hook=server)
        box.queue(model(*(f"drift-{k:02d}" for k in range(12))))
        box.deliver("flights", NOW)
        assert len(box.waiting("flights")) == 12
        box.deliver("flights", NOW + timedelta(days=2))
        assert len(box.dead("flights")) == 12
        assert box.resend("flights", ["drift-03:opened:hook"]) == 1
        assert len(box.deliver("flights", NOW + timedelta(days=3))) == 12
    assert len(server.taken) == 1


def test_two_watchers_send_each_message_once(tmp_path: Path, secrets: Path) -> None:
    with Faulty() as server:
        boxes = [outbox(tmp_path, hook=server) for _ in range(4)]
        state = model(*(f"drift-{k}" for k in range(9)))
        threads = [threading.Thread(target=lambda b=box: (b.queue(state), b.deliver("flights", NOW))) for box in boxes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert sorted(ids(server)) == [f"drift-{k}:opened:hook" for k in range(9)]


def test_a_claim_of_a_process_that_lives_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = LetterTable(tmp_path / "outbox.sqlite")
    with Faulty() as server:
        (tmp_path / "secrets").mkdir()
        monkeypatch.setenv("TRILHO_SECRETS", str(tmp_path / "secrets"))
        box = outbox(tmp_path, hook=server)
        box.queue(model("drift-a1"))
    route = box._directory.route("hook")
    first = table.claim(route, NOW.timestamp())
    assert first is not None
    assert not first.again
    assert table.claim(route, NOW.timestamp()) is None
    monkeypatch.setattr("trilho.watch.alerts.table._me", (0, ""))  # as after a restart under the same number
    second = table.claim(route, NOW.timestamp())
    assert second is not None
    assert second.again


def test_what_channels_get_is_what_their_platforms_demand(
    tmp_path: Path, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Faulty() as slack, Faulty(202) as teams, Faulty() as hook:
        monkeypatch.setenv("TRILHO_SLACK_WEBHOOK", slack.address)
        monkeypatch.setenv("TRILHO_TEAMS_WEBHOOK", teams.address)
        (secrets / "hook").write_text(hook.address)
        tables = {"hook": Alert(kind="webhook", address="secret://hook")}
        names = ["slack", "teams", "hook"]
        box = Outbox(tmp_path / "watch.sqlite", names, "http://c.example", tables=tables)
        box.queue(model("drift-a1"))
        assert len(box.deliver("flights", NOW)) == 3
        assert send_test("flights", names, tables=tables) == dict.fromkeys(names)
        for got in slack.taken:
            check_blocks(got.json["blocks"])
        for got in teams.taken:
            check_card(got.json)
        for got in hook.taken:
            check_event(got.json)
        assert [len(x.taken) for x in (slack, teams, hook)] == [2, 2, 2]
        links = check_card(teams.taken[0].json)["actions"]
    assert [x["url"] for x in links] == [
        "http://c.example/incidents/drift-a1", "http://c.example/incidents/drift-a1#acknowledge",
    ]  # fmt: skip


def test_a_test_goes_channel_by_channel(tmp_path: Path, secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posting, "BUDGET_SECONDS", 0.3)
    with Faulty(404) as gone, Faulty() as good:
        (secrets / "gone").write_text(gone.address)
        (secrets / "good").write_text(good.address)
        (secrets / "odd").write_text("ftp://example.com")
        tables = {name: Alert(kind="webhook", address=f"secret://{name}") for name in ("gone", "good", "odd", "none")}
        found = send_test("flights", list(tables), tables=tables)
    assert found["good"] is None
    assert found["gone"] == "gone answered 404"
    assert found["odd"] == "secret://odd is not an http address"
    assert str(found["none"]).startswith("secret://none is not here")


def test_a_channel_that_nothing_describes_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no channel is named 'pager'"):
        Outbox(tmp_path / "watch.sqlite", ["pager"]).queue(model("drift-a1"))
