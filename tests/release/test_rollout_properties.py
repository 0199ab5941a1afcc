"""What holds for every rollout, whatever its versions answer and whoever moves it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from trilho.config import Serve
from trilho.core import records as r
from trilho.core.journal import GENESIS, Record, seal, unseal
from trilho.core.projection import ModelState, State, fold
from trilho.core.readings import ShadowStats, VersionStats
from trilho.release.comparison import compare, threshold
from trilho.release.rollout import advance, move, rollback, start, waits_for
from trilho_runtime.routing.slower import allowed_edges
from trilho_runtime.web.measures import EDGES_MS

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
COUNT = st.integers(0, 400)
SERVES = st.builds(
    Serve,
    canary=st.sampled_from([[100], [50, 100], [1, 10, 50, 100]]),
    canary_requests=st.integers(1, 60),
    shadow=st.sampled_from([0, 20]),
    shadow_requests=st.integers(1, 60),
)


@st.composite
def versions(draw: st.DrawFn) -> VersionStats:
    requests = draw(COUNT)
    errors = draw(st.integers(0, requests) | st.just(0))
    place = draw(st.integers(0, len(EDGES_MS)))
    return VersionStats(
        requests=requests,
        errors=errors,
        refused=draw(st.integers(0, requests - errors) | st.just(0)),
        latency=[requests - errors if at == place else 0 for at in range(len(EDGES_MS) + 1)],
        scores=draw(st.dictionaries(st.sampled_from(["1", "20", "=late"]), st.integers(0, 200))),
        losses=draw(st.sampled_from([[], [100] + [0] * 49, [0] * 49 + [100]])),
    )


@st.composite
def shadows(draw: st.DrawFn) -> ShadowStats:
    requests = draw(COUNT)
    errors = draw(st.integers(0, requests) | st.just(0))
    slow = draw(st.integers(0, requests - errors) | st.just(0))
    edges = len(allowed_edges())
    return ShadowStats(
        requests=requests,
        errors=errors,
        slow=[slow] * edges,
        fast=[0] * edges,
        rows=requests,
        pairs=requests - errors,
        moved=draw(st.integers(0, requests - errors)),
    )


Look = tuple[VersionStats, VersionStats, ShadowStats]
LOOKS = st.lists(st.tuples(versions(), versions(), shadows()), min_size=1, max_size=8)


class World:
    """A journal in memory, and the state that it makes."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._state = State()
        for number in (1, 2):
            facts: dict[str, Any] = {"run": "r", "dataset": "d", "package": "p", "metric": "mae", "metrics": {}}
            facts |= {"commit": None, "commit_time": None, "data_until": None}
            self.append(r.VersionPackaged(model="m", version=number, **facts))
        self.append(*start(self.state, 1, Serve(), ""))

    @property
    def state(self) -> ModelState:
        return self._state.model("m")

    def append(self, *payloads: r.Payload) -> None:
        for payload in payloads:
            before = self.records[-1].hash if self.records else GENESIS
            text, hash_ = seal(payload, previous=before, actor="ana", time="2026-03-01T12:00:00+00:00")
            self.records.append(unseal(len(self.records) + 1, text, hash_))
            fold(self.records[-1:], self._state)
        if self.state.champion is not None:
            assert sum(self.state.shares.values()) == 100
            assert set(self.state.shares) <= {1, 2}


def look(world: World, seen: Look, serve: Serve) -> r.Payload | None:
    rollout = world.state.rollout
    assert rollout is not None
    return advance(rollout, {2: seen[0], 1: seen[1]}, serve, NOW, shadow=seen[2])


@settings(max_examples=150, deadline=None)
@given(serve=SERVES, looks=LOOKS, hold=st.sampled_from([None, 30]))
def test_no_way_to_more_traffic_but_by_evidence(serve: Serve, looks: list[Look], hold: int | None) -> None:
    world = World()
    world.append(*start(world.state, 2, serve, "", hold=hold))
    for seen in looks:
        rollout = world.state.rollout
        if rollout is None:
            break
        payload = look(world, seen, serve)
        assert payload == look(world, seen, serve)  # of the counts alone
        stats = {2: seen[0], 1: seen[1]}
        findings = {x.name: x for x in compare(rollout, stats, seen[2])}
        harmed = [x.name for x in findings.values() if x.name in ("errors", "latency", "quality") and x.reached]
        if isinstance(payload, r.RolloutStepped) or (isinstance(payload, r.RolloutEnded) and payload.outcome == "full"):
            assert not harmed
            assert not rollout.paused
            assert waits_for(rollout, stats, serve, list(findings.values()), seen[2]) == []
            good = seen[2].requests - seen[2].errors if rollout.in_shadow else seen[0].requests - seen[0].errors
            assert good >= (serve.shadow_requests if rollout.in_shadow else serve.canary_requests)
        if isinstance(payload, r.RolloutStepped):
            assert payload.share == next(x for x in rollout.steps if x > rollout.share)
        if isinstance(payload, r.RolloutEnded):
            assert payload.champion == (2 if payload.outcome == "full" else 1)
            assert payload.outcome == "full" or harmed
        if payload is not None:
            world.append(payload)
    assert threshold(next(reversed(world.state.rollouts.values()))) >= 300


@settings(max_examples=60, deadline=None)
@given(serve=SERVES, looks=LOOKS, paused_at=st.integers(0, 5))
def test_a_pause_holds_and_a_rollback_is_possible_from_everywhere(
    serve: Serve, looks: list[Look], paused_at: int
) -> None:
    world = World()
    world.append(*start(world.state, 2, serve, ""))
    for at, seen in enumerate(looks):
        rollout = world.state.rollout
        if rollout is None:
            break
        undone = rollback(world.state, "no")
        assert isinstance(undone, r.RolloutEnded)
        assert (undone.outcome, undone.champion) == ("rolled back", 1)
        if at == paused_at and not rollout.paused:
            world.append(move(rollout, "pause", "lunch"))
            rollout = world.state.rollout
            assert rollout is not None
        payload = look(world, seen, serve)
        if rollout.paused:
            ended = isinstance(payload, r.RolloutEnded) and payload.outcome == "rolled back"
            let_go = isinstance(payload, r.RolloutPaused) and rollout.held_by == "shift"
            assert payload is None or ended or let_go
        if payload is not None:
            world.append(payload)
    if world.state.rollout is None and world.state.champion == 2:
        restored = rollback(world.state, "worse")
        assert isinstance(restored, r.ChampionRestored)
        assert restored.version == 1


@settings(max_examples=60, deadline=None)
@given(serve=SERVES, requests=st.integers(0, 59))
def test_without_enough_answers_it_waits(serve: Serve, requests: int) -> None:
    world = World()
    world.append(*start(world.state, 2, serve, ""))
    wanted = serve.shadow_requests if serve.shadow else serve.canary_requests
    few = min(requests, wanted - 1)
    seen = (VersionStats(requests=few), VersionStats(requests=900), ShadowStats(requests=few))
    assert look(world, seen, serve) is None
