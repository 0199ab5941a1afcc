"""`release`, `rollout`, `rollback`, `approve`: plans before changes, and what is true after them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

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
    assert said.json["plan"] == ["version 1 of bikes gets all traffic at once: nothing serves yet"]
    assert made.journal.head() == before


def test_a_release_says_what_is_true_now_and_how_to_undo_it(trilho: Verb, made: Made) -> None:
    made.version(1)
    first = trilho("release", "1", "--why", "the first")
    assert first.out.splitlines()[2:] == ["Now version 1 has 100% of the traffic of bikes.", "Next: trilho up"]
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
