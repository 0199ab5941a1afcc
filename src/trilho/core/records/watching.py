"""What a model in service showed, and what came of it: alarms, incidents, alerts, retrainings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from typing_extensions import TypedDict

from trilho.core.records.payload import Payload, kind

AlarmKind = Literal["drift", "performance", "quality"]


class Cause(TypedDict):
    """One feature's share of an alarm's evidence, 0 to 1, with its distance (total variation) and tolerance."""

    feature: str
    share: float
    distance: float
    tolerance: float


@kind("rows.forgotten")
@dataclass(frozen=True, kw_only=True)
class RowsForgotten(Payload):
    """A person's rows were deleted from what was served; the record's actor did it. Whose they were is not kept."""

    field: str
    rows: int
    past: int
    why: str


@kind("alarm.raised")
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


@kind("incident.opened")
@dataclass(frozen=True, kw_only=True)
class IncidentOpened(Payload):
    """An alarm that belongs to no open incident opened one."""

    incident: str
    kind: AlarmKind
    alarm: str
    version: int
    severity: Literal["low", "medium", "high"]
    title: str


@kind("incident.updated")
@dataclass(frozen=True, kw_only=True)
class IncidentUpdated(Payload):
    """Something happened to an open incident: another alarm, an acknowledgement, a confirmation."""

    incident: str
    change: Literal["alarm", "acknowledged", "confirmed", "retraining"]
    note: str
    alarm: str | None = None


@kind("incident.closed")
@dataclass(frozen=True, kw_only=True)
class IncidentClosed(Payload):
    """An incident ended: its drift went away, a new version took over, or a person closed it."""

    incident: str
    reason: str


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
