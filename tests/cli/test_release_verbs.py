"""`release`, `rollout`, `rollback`, `approve`: plans before changes, and what is true after them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from trilho.core.readings import EndpointStatus, VersionStats
from trilho.project import Project
from trilho.release.rollout import standing
from trilho.serve.endpoint import write_json

if TYPE_CHECKING:
    from tests.cli.conftest import Made, Verb


def test_a_plan_changes_nothing(trilho: Verb, made: Made) -> None:
    made.version(1)
    before = made.journal.head()
    said = trilho("release", "1", "--dry-run", "--json")
    assert (said.code, said.json["done"], said.json["champion"], said.json["next"]) == (
        0,
        False,
        None,
        "trilho release 1",
    )
    assert said.json["plan"] == [
        "version 1 of bikes gets all traffic at once: nothing serves yet",
        "its server answered its 50 stored rows as it must",
    ]
    assert made.journal.head() == before


def test_a_release_says_what_is_true_now_and_how_to_undo_it(trilho: Verb, made: Made) -> None:
    made.version(1)
    first = trilho("release", "1", "--why", "the first")
    assert first.out.splitlines()[3:] == ["Now version 1 has 100% of the traffic of bikes.", "Next: trilho up"]
    made.version(2)
    second = trilho("release", "2", "--yes")
    assert second.code == 0
    assert "Now version 1 has 90%, version 2 has 10% of the traffic of bikes." in second.out
    assert "Undo: trilho rollback" in second.out


def test_a_terminal_is_asked(trilho: Verb, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    made.version(1)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    answers = iter([False, True])
    monkeypatch.setattr("typer.confirm", lambda *_args, **_kwargs: next(answers))
    assert trilho("release", "1", "--json").json["done"] is False
    assert trilho("release", "1", "--json").json["champion"] == 1


@pytest.mark.parametrize(("verdict", "code"), [("fail", 3), ("not enough data", 4)])
def test_what_the_gate_did_not_pass_is_not_released(trilho: Verb, made: Made, verdict: str, code: int) -> None:
    made.version(1, verdict=verdict)  # type: ignore[arg-type]
    assert trilho("release", "1").code == code
    assert trilho("release", "1", "--force").code == 2  # without a reason
    forced = trilho("release", "1", "--force", "--why", "the shop is closed anyway", "--json")
    assert (forced.code, forced.json["champion"]) == (0, 1)


def test_a_rollout_by_hand(trilho: Verb, made: Made) -> None:
    assert trilho("rollout", "next").code == 4
    assert "No version of bikes was released yet." in trilho("rollout").out
    made.version(1)
    trilho("release", "1")
    made.version(2)
    trilho("release", "2")
    assert trilho("rollout", "--json").json["rollout"]["share"] == 10
    assert trilho("rollout", "pause", "--why", "lunch").out.splitlines()[-2] == "Undo: trilho rollout resume"
    assert "held there by a person" in trilho("rollout").out
    assert trilho("rollout", "pause").code == 2
    trilho("rollout", "resume")
    assert trilho("rollout", "next", "--json").json["shares"] == {"1": 50, "2": 50}
    trilho("rollout", "next")
    assert trilho("rollout", "next", "--json").json["champion"] == 2
    assert trilho("rollout", "faster").code == 4


def test_rolling_back(trilho: Verb, made: Made) -> None:
    assert trilho("rollback").code == 4
    made.version(1)
    trilho("release", "1")
    assert trilho("rollback").code == 3
    made.version(2)
    trilho("release", "2")
    under_way = trilho("rollback", "--why", "too early", "--json")
    assert (under_way.json["champion"], under_way.json["shares"]) == (1, {"1": 100})
    trilho("release", "2")
    for _ in range(3):
        trilho("rollout", "next")
    finished = trilho("rollback")
    assert "Now version 1 has 100% of the traffic of bikes." in finished.out
    assert "Undo: trilho release 2" in finished.out
    assert {x["number"]: x["is"] for x in trilho("models", "--json").json["versions"]} == {
        1: "champion",
        2: "rolled back",
    }


def test_approval(trilho: Verb, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made.folder / "trilho.toml"
    path.write_text(path.read_text() + "\n[gate]\napproval = true\n")
    made.version(1, actor="ana")
    pending = trilho("release", "1")
    assert (pending.code, pending.err.splitlines()[1]) == (4, "Hint: trilho approve 1")
    monkeypatch.setenv("TRILHO_ACTOR", "ana")
    assert trilho("approve", "1").code == 3
    monkeypatch.setenv("TRILHO_ACTOR", "rui")
    approved = trilho("approve", "1", "--why", "looked at it", "--json").json
    assert (approved["approved_by"], approved["next"]) == ("rui", "trilho release 1")
    assert trilho("release", "1").code == 0


def test_unknown_versions(trilho: Verb, made: Made) -> None:
    made.version(1)
    said = trilho("release", "7")
    assert (said.code, said.err.splitlines()[0]) == (2, "bikes has no version 7; it has: 1")
    assert trilho("models", "show", "7").code == 2


def test_a_shadow_comes_first_where_it_is_asked_for(trilho: Verb, made: Made) -> None:
    made.version(1)
    trilho("release", "1")
    made.version(2)
    planned = trilho("release", "2", "--shadow", "20", "--sticky", "shop", "--dry-run", "--json")
    assert "first it is asked about 20% of the requests unseen" in " ".join(planned.json["plan"])
    assert "requests with the same shop stay with the version that answered them" in planned.json["plan"]
    released = trilho("release", "2", "--shadow", "20", "--sticky", "shop", "--json")
    assert released.json["shares"] == {"1": 100}
    assert "asked unseen about 20% of requests" in trilho("rollout").out
    assert trilho("rollout", "--json").json["rollout"]["sticky"] == "shop"
    refused = trilho("release", "2")
    assert (refused.code, refused.err.splitlines()[0]) == (
        3,
        "version 2 is on its way, asked unseen about 20% of requests",
    )
    assert trilho("rollout", "next", "--json").json["shares"] == {"1": 90, "2": 10}
    assert trilho("rollback", "--why", "no need", "--json").json["shares"] == {"1": 100}


def test_an_ab_test_is_a_release_that_stays(trilho: Verb, made: Made) -> None:
    made.version(1)
    trilho("release", "1")
    made.version(2)
    planned = trilho("release", "2", "--hold", "30", "--dry-run", "--json").json["plan"]
    assert planned[1].startswith("it gets 10%, then 30%, then 50%, then 100% of the requests")
    assert planned[2] == "it stays at 30% until its labels show that it loses less, or a person decides"
    assert trilho("release", "2", "--hold", "0").code == 2
    trilho("release", "2", "--hold", "30")
    assert "30%, until labels or a person decide" in trilho("rollout").out


def test_the_rollout_shows_each_test_and_what_it_waits_for(
    trilho: Verb, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.version(1)
    trilho("release", "1")
    made.version(2)
    trilho("release", "2")
    assert trilho("rollout", "--json").json["standing"] is None  # nothing serves
    project = Project.open(made.folder)
    under_way = project.state().rollout
    assert under_way is not None
    stats = {2: VersionStats(requests=30, errors=2), 1: VersionStats(requests=270)}
    now = datetime(2026, 3, 1, tzinfo=UTC)
    folder = made.home / "endpoints" / "bikes"
    write_json(folder / "rollout.json", standing(under_way, stats, project.settings.serve, now))
    up = EndpointStatus(model="bikes", address="http://127.0.0.1:1", running=True, pid=1)
    monkeypatch.setattr(Project, "endpoint", lambda _: up)
    said = trilho("rollout")
    assert "version 2 failed or refused 2 of 30 requests at 10% of traffic, version 1 0 of 270" in said.out
    assert "Waits for 22 more answers at 10%, of 50." in said.out
    told = trilho("rollout", "status", "--json").json["standing"]
    assert {test["test"]: test["threshold"] for test in told["tests"]} == {
        "errors": 900.0,
        "latency": 900.0,
        "predictions": 100.0,
    }
    trilho("rollout", "next")
    assert trilho("rollout", "--json").json["standing"] is None  # what was seen at the share before is not shown
