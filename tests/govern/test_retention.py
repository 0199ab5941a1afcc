"""What `trilho gc` must keep."""

from __future__ import annotations

from typing import Any

from trilho.core import records as r
from trilho.core.projection import ModelState, Rollout, Run, State, Version
from trilho.govern.retention import live_digests, live_versions


def version(number: int, verdict: r.Verdict | None) -> Version:
    gate = r.GateJudged(model="m", version=number, champion=None, verdict=verdict, evidence={}) if verdict else None
    return Version(number, f"p{number}", f"run-{number}", f"d{number}", "mae", {}, "t", None, None, None, gate=gate)


def model(name: str = "m") -> ModelState:
    verdicts: list[r.Verdict | None] = ["fail", "pass", "fail", "fail", "not enough data"]
    versions = {n: version(n, verdict) for n, verdict in enumerate(verdicts, start=1)}
    return ModelState(
        name,
        champion=3,
        champions=[("t1", 3)],
        versions=versions,
        runs={f"run-{n}": Run(f"run-{n}", "train", "", None, "t", "ana", None) for n in range(1, 7)},
        rollouts={"rollout-1": Rollout("rollout-1", 3, None, [100], "t", "ana", "forced", outcome="full")},
    )


def test_what_served_passed_or_is_newest_lives() -> None:
    assert [x.number for x in live_versions(model())] == [2, 3, 5]
    assert live_versions(ModelState("m")) == []


def test_packages_datasets_their_files_and_the_outputs_of_live_runs_are_kept() -> None:
    caches: list[dict[str, Any]] = [
        {"run": "run-2", "outputs": {"table": "t2"}},
        {"run": "run-4", "outputs": {"table": "t4"}},  # of a rejected version
        {"run": "run-6", "outputs": {"table": "t6"}},  # the newest run, which left none
        {"pandas": "3.0"},  # another kind of cache
    ]
    keep = live_digests(State(1, {"m": model()}), lambda dataset: [f"file of {dataset}"], caches)
    assert keep == {
        "p2", "p3", "p5", "d2", "d3", "d5", "file of d2", "file of d3", "file of d5", "t2", "t6",
    }  # fmt: skip


def test_all_models_of_a_home_count() -> None:
    other = ModelState("n", versions={1: version(1, "pass")})
    assert {"p1", "p2"} <= live_digests(State(1, {"m": model(), "n": other}), lambda _: [], [])
