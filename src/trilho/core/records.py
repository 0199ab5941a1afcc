"""The facts of a model's life: one frozen dataclass for each kind of journal record.

Fields hold JSON values only, so that a payload is its own wire format. Every kind has a version; a record
written by an older trilho is brought up by the functions in `UPCASTS`, never rewritten, since a hash chain
cannot be migrated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

from typing_extensions import TypedDict

Verdict = Literal["pass", "fail", "not enough data"]
TaskState = Literal["ran", "cached", "skipped", "failed"]
RunState = Literal["running", "succeeded", "failed"]
AlarmKind = Literal["drift", "performance", "quality"]
Outcome = Literal["full", "rolled back", "aborted"]
PauseCause = Literal["a person", "shift"]


class TaskResult(TypedDict):
    """One task of a run, as it ended."""

    name: str
    state: TaskState
    seconds: float
    needs: list[str]
    reason: str


class Cause(TypedDict):
    """One feature's share of an alarm's evidence, 0 to 1, with its distance (total variation) and tolerance."""

    feature: str
    share: float
    distance: float
    tolerance: float


@dataclass(frozen=True, kw_only=True)
class Payload:
    """The body of a journal record; `model` is the project's model name."""

    type: ClassVar[str]
    version_of_schema: ClassVar[int] = 1
    model: str


P = TypeVar("P", bound=type[Payload])
PAYLOADS: dict[str, type[Payload]] = {}
UPCASTS: dict[tuple[str, int], Callable[[dict[str, Any]], dict[str, Any]]] = {}


def kind(name: str, version: int = 1) -> Callable[[P], P]:
    """Register a payload under its record type."""

    def register(cls: P) -> P:
        cls.type = name
        cls.version_of_schema = version
        PAYLOADS[name] = cls
        return cls

    return register


@kind("dataset.versioned")
@dataclass(frozen=True, kw_only=True)
class DatasetVersioned(Payload):
    """A dataset became an immutable version, named by the digest of its manifest."""

    dataset: str
    rows: int
    columns: list[str]
    source: str
    first: str | None  # smallest and largest value of the time column, ISO 8601
    last: str | None
    served_rows: int  # how many of the rows came from labelled predictions


@kind("contract.checked")
@dataclass(frozen=True, kw_only=True)
class ContractChecked(Payload):
    """A dataset was held against its contract."""

    dataset: str
    verdict: Verdict
    findings: list[str]


@kind("run.started", version=2)
@dataclass(frozen=True, kw_only=True)
class RunStarted(Payload):
    """An execution of a pipeline began."""

    run: str
    pipeline: str
    trigger: str  # "a person", or the kind of alarm
    dataset: str | None
    commit: str | None
    commit_time: str | None
    runner: str = "local"  # "vertex", "kubeflow"
    place: str | None = None  # the job's full name there; None on this machine


@kind("run.ended")
@dataclass(frozen=True, kw_only=True)
class RunEnded(Payload):
    """An execution of a pipeline ended."""

    run: str
    state: RunState
    tasks: list[TaskResult]
    error: str | None
    seconds: float


@kind("version.packaged")
@dataclass(frozen=True, kw_only=True)
class VersionPackaged(Payload):
    """A run left a model version, packaged under its digest."""

    version: int
    run: str
    dataset: str
    package: str
    metric: str
    metrics: dict[str, float]
    commit: str | None
    commit_time: str | None
    data_until: str | None


@kind("gate.judged")
@dataclass(frozen=True, kw_only=True)
class GateJudged(Payload):
    """A challenger was compared with the champion on the same held-out rows."""

    version: int
    champion: int | None
    verdict: Verdict
    evidence: dict[str, Any]  # metric, rows, challenger, champion, difference, low, high, margin, confidence, checks


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


@kind("decision.packaged")
@dataclass(frozen=True, kw_only=True)
class DecisionPackaged(Payload):
    """The project's `decide` became a decision version, kept under the digest of its code."""

    decision: int
    artifact: str
    reference: str
    commit: str | None
    commit_time: str | None
    run: str | None  # the training that packed it; None for a person


@kind("decision.approved")
@dataclass(frozen=True, kw_only=True)
class DecisionApproved(Payload):
    """A person allowed a decision to be released; the record's actor is that person."""

    decision: int
    why: str


@kind("decision.released")
@dataclass(frozen=True, kw_only=True)
class DecisionReleased(Payload):
    """A decision holds from now on, whichever version of the model answers."""

    decision: int
    replaced: int | None
    why: str
    evidence: dict[str, Any] = field(default_factory=dict)  # rows, changed, before, after, failed; what it was tried on


@kind("decision.restored")
@dataclass(frozen=True, kw_only=True)
class DecisionRestored(Payload):
    """A decision was rolled back: an earlier one holds again."""

    decision: int
    replaced: int
    why: str


@kind("version.served")
@dataclass(frozen=True, kw_only=True)
class VersionServed(Payload):
    """A version answered its first request at the endpoint, at full or part traffic."""

    version: int
    rollout: str | None
    endpoint: str


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


UPCASTS["run.started", 1] = lambda data: {**data, "runner": "local", "place": None}
UPCASTS["rollout.started", 1] = lambda data: {**data, "shadow": 0, "sticky": None, "hold": None}
UPCASTS["rollout.paused", 1] = lambda data: {**data, "cause": "a person"}
UPCASTS["rollout.ended", 1] = lambda data: {**data, "evidence": {}}


def encode(payload: Payload) -> dict[str, Any]:
    """Give the payload as JSON values.

    >>> encode(VersionApproved(model="m", version=2, why="looks right"))
    {'model': 'm', 'version': 2, 'why': 'looks right'}
    """
    return asdict(payload)


def decode(type_: str, version: int, data: dict[str, Any]) -> Payload:
    """Rebuild a payload from its stored form, bringing older versions up to today's.

    Raises KeyError for a type this trilho does not know (a newer one wrote it).

    >>> decode("version.approved", 1, {"model": "m", "version": 2, "why": "ok"})
    VersionApproved(model='m', version=2, why='ok')
    """
    cls = PAYLOADS[type_]
    while version < cls.version_of_schema:
        data = UPCASTS[type_, version](data)
        version += 1
    return cls(**data)
