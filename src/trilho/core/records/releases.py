"""A version's way to its users: who allowed it, what its server bore, its shares of the traffic, its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from trilho.core.records.payload import UPCASTS, Payload, kind
from trilho.core.records.training import Verdict

Outcome = Literal["full", "rolled back", "aborted"]
PauseCause = Literal["a person", "shift"]


@kind("version.approved")
@dataclass(frozen=True, kw_only=True)
class VersionApproved(Payload):
    """A person allowed a version to be released; the record's actor is that person."""

    version: int
    why: str


@kind("version.pinned")
@dataclass(frozen=True, kw_only=True)
class VersionPinned(Payload):
    """A person keeps a version and what it was made of from being freed, or lets it go."""

    version: int
    pinned: bool
    why: str


@kind("version.certified")
@dataclass(frozen=True, kw_only=True)
class VersionCertified(Payload):
    """A version's server was started apart from all traffic, asked what it must answer, and loaded."""

    version: int
    package: str
    verdict: Verdict
    reason: str
    conditions: dict[str, Any]  # the settings under which it holds: peak, latency in ms, workers, ...
    checks: list[dict[str, Any]]  # name, ok, verdict, note each
    figures: dict[str, Any]
    machine: dict[str, Any]  # cores, load
    made: str


@kind("rollout.started", version=2)
@dataclass(frozen=True, kw_only=True)
class RolloutStarted(Payload):
    """A version began its way to full traffic."""

    rollout: str
    version: int
    champion: int | None
    steps: list[int]  # percent of traffic, the last is 100
    why: str
    shadow: int = 0  # percent of requests that it is asked too, unseen, before its first share
    sticky: str | None = None  # the field whose value decides which version answers
    hold: int | None = None  # the share at which it stays until a person, or its labels, decide


@kind("rollout.stepped")
@dataclass(frozen=True, kw_only=True)
class RolloutStepped(Payload):
    """A rollout moved to its next share of traffic, in percent."""

    rollout: str
    version: int
    share: int
    evidence: dict[str, Any]


@kind("rollout.paused", version=2)
@dataclass(frozen=True, kw_only=True)
class RolloutPaused(Payload):
    """A rollout was held where it is, by a person or because its predictions lie elsewhere, or was let go on."""

    rollout: str
    version: int
    paused: bool
    why: str
    cause: PauseCause = "a person"


@kind("rollout.ended", version=2)
@dataclass(frozen=True, kw_only=True)
class RolloutEnded(Payload):
    """A rollout ended; `champion` is the version that serves from now on."""

    rollout: str
    version: int
    outcome: Outcome
    champion: int | None
    why: str
    evidence: dict[str, Any] = field(default_factory=dict)


@kind("champion.restored")
@dataclass(frozen=True, kw_only=True)
class ChampionRestored(Payload):
    """A finished release was rolled back: an earlier version serves again."""

    version: int
    replaced: int
    why: str


@kind("version.served")
@dataclass(frozen=True, kw_only=True)
class VersionServed(Payload):
    """A version answered its first request at the endpoint, at full or part traffic."""

    version: int
    rollout: str | None
    endpoint: str


UPCASTS["rollout.started", 1] = lambda data: {**data, "shadow": 0, "sticky": None, "hold": None}
UPCASTS["rollout.paused", 1] = lambda data: {**data, "cause": "a person"}
UPCASTS["rollout.ended", 1] = lambda data: {**data, "evidence": {}}
