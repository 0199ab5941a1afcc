"""What a model in service showed, and what came of it: alarms, incidents, alerts, retrainings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from trilho.core.records.payload import UPCASTS, Payload, kind

AlarmKind = Literal["drift", "prediction", "performance", "quality"]
Severity = Literal["low", "medium", "high"]
End = Literal["resolved", "outlived", "closed"]
Change = Literal["alarm", "acknowledged", "confirmed", "retraining", "worse", "crossed"]


class Cause(TypedDict):
    """One feature's share of an alarm's evidence, 0 to 1, with its distance (total variation) and tolerance."""

    feature: str
    share: float
    distance: float
    tolerance: float
    low: NotRequired[float]  # of the distance, with 95%
    high: NotRequired[float]
    words: NotRequired[str]


class Effect(TypedDict):
    """What an alarm's cause does to the metric: by how much it is worse than `expected`; positive is worse."""

    metric: str
    change: float
    expected: float
    source: Literal["measured", "estimated"]
    low: NotRequired[float]
    high: NotRequired[float]


class Lead(TypedDict):
    """How long before the metric crossed its minimum the first alert came; negative seconds are after it.

    All times are of what was served. `source` says whether the crossing was measured with labels, or estimated.
    """

    first: str  # when the first alert could be raised
    crossed: str  # the end of the window in which the metric crossed
    window_start: str
    seconds: float
    metric: str
    value: float
    minimum: float
    source: Literal["measured", "estimated"]


@kind("rows.forgotten")
@dataclass(frozen=True, kw_only=True)
class RowsForgotten(Payload):
    """A person's rows were deleted from what was served; the record's actor did it. Whose they were is not kept."""

    field: str
    rows: int
    past: int
    why: str


@kind("alarm.raised", version=2)
@dataclass(frozen=True, kw_only=True)
class AlarmRaised(Payload):
    """A detector fired on a window of what was served."""

    alarm: str
    kind: AlarmKind
    version: int
    window_start: str
    window_end: str
    evidence: float
    threshold: float
    causes: list[Cause]
    summary: str
    effect: Effect | None = None
    slices: list[str] = field(default_factory=list)  # that the causes are of, as "column=value"
    data_time: str | None = None  # the newest served event time when it was raised


@kind("incident.opened")
@dataclass(frozen=True, kw_only=True)
class IncidentOpened(Payload):
    """An alarm that belongs to no open incident opened one."""

    incident: str
    kind: AlarmKind
    alarm: str
    version: int
    severity: Severity
    title: str


@kind("incident.updated", version=2)
@dataclass(frozen=True, kw_only=True)
class IncidentUpdated(Payload):
    """Something happened to an open incident: another alarm, an acknowledgement, a confirmation, more harm."""

    incident: str
    change: Change
    note: str
    alarm: str | None = None
    count: int = 1  # how many alarms it stands for
    severity: Severity | None = None  # from now on; None leaves it as it is
    lead: Lead | None = None


@kind("incident.assigned")
@dataclass(frozen=True, kw_only=True)
class IncidentAssigned(Payload):
    """An incident is in somebody's hands; the record's actor said so."""

    incident: str
    to: str
    why: str


@kind("incident.muted")
@dataclass(frozen=True, kw_only=True)
class IncidentMuted(Payload):
    """Nothing is told of an incident until a moment; the record's actor said so. None lets it be told again."""

    incident: str
    until: str | None
    why: str


@kind("incident.reopened")
@dataclass(frozen=True, kw_only=True)
class IncidentReopened(Payload):
    """The same cause alarmed again soon after an incident had ended: it is the same incident."""

    incident: str
    alarm: str
    note: str
    severity: Severity | None = None


@kind("incident.closed", version=2)
@dataclass(frozen=True, kw_only=True)
class IncidentClosed(Payload):
    """An incident ended: its drift went away, a new version took over, or a person closed it."""

    incident: str
    reason: str
    end: End = "closed"
    data_time: str | None = None  # the end of the window that showed it, where a window did


@kind("alert.sent")
@dataclass(frozen=True, kw_only=True)
class AlertSent(Payload):
    """A message about an incident reached a channel."""

    alert: str
    incident: str
    channel: str
    attempts: int


@kind("trigger.fired")
@dataclass(frozen=True, kw_only=True)
class TriggerFired(Payload):
    """A retraining was asked for."""

    trigger: str
    cause: str  # "drift", "performance", "a person"
    incident: str | None
    data_time: str | None  # the newest served event time, where the model has a time column
    why: str = ""  # what a person gave as the reason


@kind("retraining.ended")
@dataclass(frozen=True, kw_only=True)
class RetrainingEnded(Payload):
    """A retraining came to its end: `result` says whether the challenger goes to users."""

    trigger: str
    run: str | None
    version: int | None
    result: Literal["promoted", "rejected", "unchanged", "not enough data", "approval pending", "failed"]
    note: str


def _ended(data: dict[str, Any]) -> dict[str, Any]:
    """Tell how an incident ended from its reason, which had but these forms."""
    reason = data["reason"]
    end = "outlived" if reason.endswith("took over") else "resolved" if reason.startswith("no alarm in") else "closed"
    return {**data, "end": end, "data_time": None}


UPCASTS["alarm.raised", 1] = lambda data: {**data, "effect": None, "slices": [], "data_time": None}
UPCASTS["incident.updated", 1] = lambda data: {**data, "count": 1, "severity": None, "lead": None}
UPCASTS["incident.closed", 1] = _ended
