"""Two versions with known rates, played against the machine after every request, as a router would count them."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from trilho.config import Serve
from trilho.core import records as r
from trilho.core.projection import Rollout
from trilho.core.readings import VersionStats
from trilho.release.betting import BINS
from trilho.release.rollout import advance
from trilho_runtime.web.measures import EDGES_MS

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SINCE = "2026-03-01T12:00:00+00:00"


@dataclass(frozen=True)
class Planted:
    """How a version behaves: share of errors, usual milliseconds, middle of its scores (in bins), mean loss."""

    errors: float = 0.01
    milliseconds: float = 5.0
    score: float = 16.0
    loss: float | None = None


@dataclass
class Counts:
    """What was counted of a version at the present share."""

    requests: int = 0
    errors: int = 0
    latency: list[int] = field(default_factory=lambda: [0] * (len(EDGES_MS) + 1))
    scores: dict[str, int] = field(default_factory=dict)
    losses: list[int] = field(default_factory=lambda: [0] * BINS)

    def add(self, version: Planted, rng: random.Random) -> None:
        self.requests += 1
        if rng.random() < version.errors:
            self.errors += 1
            return
        self.latency[bisect_left(EDGES_MS, version.milliseconds * rng.lognormvariate(0, 0.5))] += 1
        bin_ = str(min(max(int(rng.gauss(version.score, 8)), 0), 31))
        self.scores[bin_] = self.scores.get(bin_, 0) + 1
        if version.loss is not None:
            self.losses[min(int(rng.expovariate(1 / version.loss) * BINS), BINS - 1)] += 1

    def stats(self) -> VersionStats:
        return VersionStats(
            requests=self.requests, errors=self.errors, latency=self.latency, scores=self.scores, losses=self.losses
        )


@dataclass(frozen=True)
class Played:
    """How it came out: the last record (None while it waits), and how many requests the version had answered."""

    end: r.Payload | None
    requests: int

    @property
    def outcome(self) -> str:
        if isinstance(self.end, r.RolloutEnded):
            return self.end.outcome
        return "held" if isinstance(self.end, r.RolloutPaused) else "waits"


def play(
    new: Planted,
    old: Planted,
    seed: int,
    serve: Serve,
    *,
    share: int = 10,
    most: int = 20_000,
    every: int = 1,
    also: Callable[[Rollout], None] = lambda _: None,
) -> Played:
    """Play one rollout from a share on; the counts are looked at after so many requests."""
    rng = random.Random(seed)
    rollout = Rollout("o2", 2, 1, list(serve.canary), SINCE, "ana", "", share=share, share_since=SINCE, model="m")
    counts, answered = {1: Counts(), 2: Counts()}, 0
    for turn in range(most):
        version = 2 if rng.random() * 100 < rollout.share else 1
        counts[version].add(new if version == 2 else old, rng)
        answered += version == 2
        if turn % every:
            continue
        payload = advance(rollout, {n: count.stats() for n, count in counts.items()}, serve, NOW)
        if isinstance(payload, r.RolloutStepped):
            rollout, counts = replace(rollout, share=payload.share), {1: Counts(), 2: Counts()}
            also(rollout)
        elif payload is not None:
            return Played(payload, answered)
    return Played(None, answered)
