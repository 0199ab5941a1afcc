"""What `trilho gc` must keep."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from trilho.core import records as r
from trilho.core.projection import ModelState, Rollout, Run, State, Version
from trilho.errors import UsageError
from trilho.govern.retention import live_digests, live_runs, live_versions, pin

VERDICTS: list[r.Verdict | None] = ["pass", "pass", "pass", "fail", "pass", "fail", "not enough data"]


def version(number: int, verdict: r.Verdict | None) -> Version:
    gate = r.GateJudged(model="m", version=number, champion=None, verdict=verdict, evidence={}) if verdict else None
    return Version(number, f"p{number}", f"run-{number}", f"d{number}", "mae", {}, "t", None, None, None, gate=gate)


def model(*champions: int, name: str = "m", **more: Any) -> ModelState:
    versions = {n: version(n, verdict) for n, verdict in enumerate(VERDICTS, start=1)}
    return ModelState(
        name,
        champion=champions[-1] if champions else None,
        champions=[(f"t{n}", n) for n in champions],
        versions=versions,
        runs={f"run-{n}": Run(f"run-{n}", "train", "", f"d{n}", "t", "ana", None, "succeeded") for n in range(1, 9)},
        **more,
    )


def under_way(number: int, champion: int) -> Rollout:
    return Rollout("rollout-1", number, champion, [10, 100], "t", "ana", "")


def live(state: ModelState) -> list[int]:
    return [x.number for x in live_versions(state)]


@pytest.mark.parametrize(
    ("champions", "kept"),
    [
        ((), [1, 2, 3, 5, 7]),  # all that passed may be released yet
        ((1,), [1, 2, 3, 5, 7]),
        ((1, 2, 3), [2, 3, 5, 7]),  # 1 served, and nothing goes back to it
        ((1, 2, 3, 5), [3, 5, 7]),
        ((1, 2, 3, 2), [1, 2, 3, 5, 7]),  # 3 was rolled back: 1 is what is before 2
    ],
)
def test_the_champion_the_one_before_what_may_follow_and_the_newest_live(
    champions: tuple[int, ...], kept: list[int]
) -> None:
    assert live(model(*champions)) == kept


def test_a_model_without_versions_needs_nothing() -> None:
    assert live(ModelState("m")) == []
    assert live_runs(ModelState("m")) == set()


def test_what_is_on_its_way_lives_whatever_the_gate_said() -> None:
    assert live(model(3, 5, rollouts={"rollout-1": under_way(6, champion=5)})) == [3, 5, 6, 7]
    assert live(model(3, 5, rollouts={"rollout-1": replace(under_way(6, 5), outcome="aborted")})) == [3, 5, 7]


def test_a_pin_keeps_a_version() -> None:
    state = model(3, 5)
    state.versions[1] = replace(state.versions[1], pinned="the audit")
    assert live(state) == [1, 3, 5, 7]


def test_runs_under_way_and_the_newest_keep_their_outputs() -> None:
    state = model(3, 5)
    state.runs["run-2"] = replace(state.runs["run-2"], state="running")
    assert live_runs(state) == {"run-2", "run-3", "run-5", "run-7", "run-8"}


def test_packages_datasets_their_files_and_the_outputs_of_live_runs_are_kept() -> None:
    caches: list[dict[str, Any]] = [
        {"run": "run-5", "outputs": {"table": "t5"}},
        {"run": "run-4", "outputs": {"table": "t4"}},  # of a rejected version
        {"run": "run-8", "outputs": {"table": "t8"}},  # the newest run, which left no version
        {"pandas": "3.0"},  # another kind of cache
    ]
    keep = live_digests(State(1, {"m": model(3, 5)}), lambda dataset: [f"file of {dataset}"], caches)
    files = {f"file of d{n}" for n in (3, 5, 7, 8)}
    assert keep == {"p3", "p5", "p7", "d3", "d5", "d7", "d8", "t5", "t8"} | files


def test_all_models_of_a_home_count() -> None:
    other = ModelState("n", versions={1: version(1, "pass")})
    assert {"p1", "p3"} <= live_digests(State(1, {"m": model(3, 5), "n": other}), lambda _: [], [])


def test_a_pin_says_something_new() -> None:
    state = model(3, 5)
    assert pin(state, 3, True, "the audit") == r.VersionPinned(model="m", version=3, pinned=True, why="the audit")
    with pytest.raises(UsageError, match="version 3 is not pinned"):
        pin(state, 3, False, "")
    with pytest.raises(UsageError, match="m has no version 9"):
        pin(state, 9, True, "the audit")
    state.versions[3] = replace(state.versions[3], pinned="the audit")
    with pytest.raises(UsageError, match="version 3 is pinned already"):
        pin(state, 3, True, "again")
