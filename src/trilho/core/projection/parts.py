"""What a model's life consists of: versions, runs, rollouts, decisions, incidents and retrainings, as they are now."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from trilho.core import records as r

IncidentState = Literal["suspected", "confirmed", "resolved", "outlived", "closed"]


@dataclass(frozen=True)
class Version:
    """A model version and what became of it."""

    number: int
    package: str
    run: str
    dataset: str
    metric: str
    metrics: dict[str, float]
    created: str
    commit: str | None
    commit_time: str | None
    data_until: str | None
    gate: r.GateJudged | None = None
    approved_by: str | None = None
    first_served: str | None = None  # journal time of the first answer to a user
    serving_since: str | None = None  # journal time at which it became champion, last
    pinned: str | None = None  # why a person keeps it from being freed; None where nobody does
    certified: r.VersionCertified | None = None  # what its server was seen to do before it got traffic, last


@dataclass(frozen=True)
class Run:
    """An execution of a pipeline."""

    id: str
    pipeline: str
    trigger: str
    dataset: str | None
    started: str
    actor: str
    commit: str | None
    state: r.RunState = "running"
    ended: str | None = None
    seconds: float | None = None
    tasks: list[r.TaskResult] = field(default_factory=list)
    error: str | None = None
    runner: str = "local"
    place: str | None = None

    @property
    def trains(self) -> bool:
        """Whether it is the standard training, which says something of the model; other pipelines do not."""
        return self.pipeline == "train"


@dataclass(frozen=True)
class Rollout:
    """A version's way to full traffic; `outcome` is None while it is under way."""

    id: str
    version: int
    champion: int | None
    steps: list[int]
    started: str
    actor: str
    why: str
    share: int = 0
    share_since: str = ""
    paused: bool = False
    outcome: r.Outcome | None = None
    ended: str | None = None
    note: str = ""  # why it ended, or is held
    model: str = ""
    shadow: int = 0
    sticky: str | None = None
    hold: int | None = None
    held_by: r.PauseCause | None = None  # what paused it, while it is paused
    shift_seen: bool = False  # a person let it go on although its predictions lie elsewhere
    evidence: dict[str, Any] = field(default_factory=dict)  # what its last step, or its end, rested on

    @property
    def in_shadow(self) -> bool:
        """Whether it is asked unseen, before its first share of traffic."""
        return self.outcome is None and self.champion is not None and self.share == 0 and self.shadow > 0

    @property
    def position(self) -> str:
        """Where it is while it is under way, in words.

        >>> Rollout("o1", 2, 1, [10, 100], "t", "ana", "", shadow=20).position
        'asked unseen about 20% of requests'
        """
        return f"asked unseen about {self.shadow}% of requests" if self.in_shadow else f"at {self.share}% of traffic"


@dataclass(frozen=True)
class Decision:
    """A decision version, and what became of it."""

    number: int
    artifact: str
    reference: str
    created: str
    actor: str
    commit: str | None
    commit_time: str | None
    run: str | None
    approved_by: str | None = None
    since: str | None = None  # journal time at which it began to hold, last
    why: str = ""
    evidence: dict[str, Any] = field(default_factory=dict)  # what its release would change, as it was planned


@dataclass(frozen=True)
class Incident:
    """An open or closed problem of a model: one for each version, kind of alarm and cause."""

    id: str
    kind: r.AlarmKind
    version: int
    severity: str
    title: str
    opened: str
    alarms: list[str] = field(default_factory=list)
    notes: list[tuple[str, str, str]] = field(default_factory=list)  # time, change, note
    acknowledged_by: str | None = None
    closed: str | None = None
    reason: str | None = None
    state: IncidentState = "suspected"
    causes: list[r.Cause] = field(default_factory=list)  # of the alarm that opened it: they say which incident it is
    slices: list[str] = field(default_factory=list)
    effect: r.Effect | None = None  # on the metric, as last known
    lead: r.Lead | None = None  # None until the metric has crossed its minimum
    first_alert: str = ""  # in the time of what was served
    alarm_count: int = 1
    last_alarm: str = ""  # journal time
    acknowledged: str | None = None  # journal time
    assigned_to: str | None = None
    muted_until: str | None = None
    muted_by: str | None = None
    ended_data_time: str | None = None
    reopened: int = 0
    course: list[tuple[str, str, str]] = field(default_factory=list)  # journal time, state, actor

    def is_muted(self, now: str) -> bool:
        """Whether nothing is told of it at a moment.

        >>> Incident("i", "drift", 1, "low", "", "t", muted_until="2026-01-02T00:00:00").is_muted("2026-01-01T00:00:00")
        True
        """
        return self.muted_until is not None and _moment(now) < _moment(self.muted_until)

    def standing(self, now: str) -> str:
        """Say where it stands at a moment: muted and acknowledged come before suspected and confirmed.

        >>> Incident("i", "drift", 1, "low", "", "t", acknowledged_by="ana").standing("2026-01-01T00:00:00")
        'acknowledged'
        """
        if self.closed is not None:
            return self.state
        return "muted" if self.is_muted(now) else "acknowledged" if self.acknowledged_by else self.state


def _moment(time: str) -> datetime:
    moment = datetime.fromisoformat(time)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Retraining:
    """A trigger and what came of it."""

    id: str
    cause: str
    incident: str | None
    started: str
    data_time: str | None
    run: str | None = None
    version: int | None = None
    result: str | None = None
    ended: str | None = None
    note: str = ""
