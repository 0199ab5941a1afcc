"""Projections: a model's life folded from its records."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from trilho.core.journal import GENESIS, Record, seal, unseal
from trilho.core.projection import ModelState, State, fold
from trilho.core.records import (
    ChampionRestored,
    IncidentClosed,
    Payload,
    RolloutEnded,
    RolloutStarted,
    RolloutStepped,
    VersionPackaged,
    VersionPinned,
    decode,
)


def records(*payloads: Payload) -> list[Record]:
    made: list[Record] = []
    for seq, payload in enumerate(payloads, 1):
        previous = made[-1].hash if made else GENESIS
        text, hash_ = seal(payload, previous=previous, actor="ana", time=f"2024-01-01T00:00:{seq:02d}+00:00")
        made.append(unseal(seq, text, hash_))
    return made


def packaged(number: int) -> VersionPackaged:
    return VersionPackaged(
        model="m",
        version=number,
        run=f"r{number}",
        dataset="d",
        package=f"p{number}",
        metric="mae",
        metrics={},
        commit=None,
        commit_time=None,
        data_until=None,
    )


def rollout(number: int, champion: int | None, share: int) -> list[Payload]:
    id_ = f"o{number}"
    return [
        RolloutStarted(model="m", rollout=id_, version=number, champion=champion, steps=[10, 100], why=""),
        RolloutStepped(model="m", rollout=id_, version=number, share=share, evidence={}),
    ]


def full(number: int) -> RolloutEnded:
    return RolloutEnded(model="m", rollout=f"o{number}", version=number, outcome="full", champion=number, why="")


def model(*payloads: Payload) -> ModelState:
    return fold(records(*payloads)).model("m")


def test_shares_follow_a_rollout() -> None:
    first = [packaged(1), *rollout(1, None, 100), full(1)]
    assert model(*first[:1]).shares == {}
    assert model(*first[:3]).shares == {1: 100}
    assert model(*first).champion == 1
    canary = [*first, packaged(2), *rollout(2, 1, 10)]
    assert model(*canary).shares == {1: 90, 2: 10}
    assert model(*canary, full(2)).shares == {2: 100}
    back = RolloutEnded(model="m", rollout="o2", version=2, outcome="rolled back", champion=1, why="errors")
    assert model(*canary, back).shares == {1: 100}
    assert model(*canary, back).rollouts["o2"].outcome == "rolled back"


def test_a_rollback_crowns_the_version_before() -> None:
    state = model(
        packaged(1), *rollout(1, None, 100), full(1), packaged(2), *rollout(2, 1, 10), full(2),
        ChampionRestored(model="m", version=1, replaced=2, why="worse"),
    )  # fmt: skip
    assert state.champion == 1
    assert [number for _, number in state.champions] == [1, 2, 1]


def test_the_golden_records_fold_into_one_life() -> None:
    golden = json.loads((Path(__file__).parent / "records_v1.json").read_text())
    state = fold(records(*(decode(x["type"], x["version"], x["data"]) for x in golden))).model("bike-demand")
    assert state.champion == 1
    assert state.runs["r1"].state == "succeeded"
    assert state.versions[1].first_served is not None
    assert state.versions[1].approved_by == "ana"
    assert state.open_incidents == []
    assert state.incidents["i1"].acknowledged_by == "ana"
    assert state.retraining is None
    assert state.retrainings["t1"].result == "promoted"


def test_a_fold_may_stop_anywhere_and_go_on() -> None:
    golden = json.loads((Path(__file__).parent / "records_v1.json").read_text())
    made = records(*(decode(x["type"], x["version"], x["data"]) for x in golden))
    whole = fold(made)
    for cut in range(len(made)):
        assert fold(made[cut:], fold(made[:cut])) == whole


def test_a_record_of_a_newer_kind_is_passed_over() -> None:
    made = records(packaged(1), IncidentClosed(model="m", incident="i", reason=""))
    newer = unseal(2, made[1].text.replace("incident.closed", "incident.sung"), made[1].hash)
    state = fold([made[0], newer])
    assert (state.seq, state.unknown) == (2, 1)
    assert list(state.model("m").versions) == [1]


@pytest.mark.parametrize(
    "kind", sorted({"dataset.versioned", "run.started", "version.packaged", "rollout.started", "incident.opened"})
)
def test_what_hangs_on_a_record_of_a_newer_kind_is_passed_over_too(kind: str) -> None:
    golden = json.loads((Path(__file__).parent / "records_v1.json").read_text())
    made = records(*(decode(x["type"], x["version"], x["data"]) for x in golden))
    newer = [replace(x, payload=None) if x.type == kind else x for x in made]
    state = fold(newer)
    assert state.seq == len(made)
    assert state.unknown >= sum(x.type == kind for x in made)
    model = state.model("bike-demand")
    assert set(model.shares) <= set(model.versions)
    assert {x.version for x in model.rollouts.values()} <= set(model.versions)
    assert fold(newer[7:], fold(newer[:7])) == state


def test_a_version_of_a_newer_kind_never_becomes_champion_here() -> None:
    made = records(packaged(1), *rollout(1, None, 100), full(1), packaged(2), *rollout(2, 1, 10), full(2))
    state = fold(replace(x, payload=None) if x.seq == 5 else x for x in made)
    assert state.unknown == 4  # the version, its rollout, its share, its end
    assert (state.model("m").champion, state.model("m").shares) == (1, {1: 100})


def test_a_kept_state_is_not_changed_by_folding_on_a_copy() -> None:
    golden = json.loads((Path(__file__).parent / "records_v1.json").read_text())
    made = records(*(decode(x["type"], x["version"], x["data"]) for x in golden))
    for cut in range(1, len(made)):
        before, again = fold(made[:cut]), fold(made[:cut])
        on = State(before.seq, {name: model.copy() for name, model in before.models.items()})
        fold(made[cut:], on)
        assert before == again


def test_a_pin_holds_until_it_is_taken_away() -> None:
    pin = VersionPinned(model="m", version=1, pinned=True, why="the audit")
    assert model(packaged(1), pin).versions[1].pinned == "the audit"
    assert model(packaged(1), pin, replace(pin, pinned=False)).versions[1].pinned is None


def test_the_newer_golden_records_tell_an_incidents_whole_course() -> None:
    stored = [
        x
        for file in ("records_v1.json", "records_v2.json")
        for x in json.loads((Path(__file__).parent / file).read_text())
        if x["type"] not in ("version.packaged",)
    ]
    made = records(*(decode(x["type"], x["version"], x["data"]) for x in stored))
    incident = fold(made).model("bike-demand").incidents["i1"]
    states = [state for _, state, _ in incident.course]
    assert states == ["suspected", "acknowledged", "outlived", "muted", "reopened", "resolved"]
    assert (incident.state, incident.reopened, incident.assigned_to, incident.severity) == (
        "resolved",
        1,
        "ana",
        "medium",
    )
    assert incident.lead is not None
    assert incident.lead["seconds"] == 1209600.0
    assert incident.ended_data_time == "2012-07-16T00:00:00+00:00"
