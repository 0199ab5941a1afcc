"""What the journal says now: champion, versions, runs, rollouts, incidents, folded from its records.

A projection is never a second truth: it can be thrown away and folded again, and a checkpoint is only a fold that was
kept. Everything shown anywhere about a model's life comes from here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any

from trilho.core import records as r
from trilho.core.journal import Record


@dataclass
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


@dataclass
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


@dataclass
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
    note: str = ""
    model: str = ""


@dataclass
class Incident:
    """An open or closed problem of a model."""

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


@dataclass
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


@dataclass
class ModelState:
    """Everything the journal says about one model."""

    name: str
    champion: int | None = None
    versions: dict[int, Version] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    datasets: dict[str, r.DatasetVersioned] = field(default_factory=dict)
    dataset_times: dict[str, str] = field(default_factory=dict)
    rollouts: dict[str, Rollout] = field(default_factory=dict)
    incidents: dict[str, Incident] = field(default_factory=dict)
    alarms: dict[str, r.AlarmRaised] = field(default_factory=dict)
    alarm_times: dict[str, str] = field(default_factory=dict)
    alerts: list[tuple[str, r.AlertSent]] = field(default_factory=list)
    retrainings: dict[str, Retraining] = field(default_factory=dict)
    champions: list[tuple[str, int]] = field(default_factory=list)  # journal time, version that took over

    @property
    def rollout(self) -> Rollout | None:
        """The rollout under way, if there is one."""
        return next((x for x in reversed(self.rollouts.values()) if x.outcome is None), None)

    @property
    def open_incidents(self) -> list[Incident]:
        """The incidents not closed, oldest first."""
        return [x for x in self.incidents.values() if x.closed is None]

    @property
    def retraining(self) -> Retraining | None:
        """The retraining under way, if there is one."""
        return next((x for x in reversed(self.retrainings.values()) if x.result is None), None)

    @property
    def shares(self) -> dict[int, int]:
        """Percent of traffic for each version that should serve now.

        >>> ModelState("m", champion=2).shares
        {2: 100}
        """
        rollout = self.rollout
        if rollout is None or rollout.share == 0:
            return {} if self.champion is None else {self.champion: 100}
        if self.champion is None:
            return {rollout.version: 100}
        rest = {self.champion: 100 - rollout.share} if rollout.share < 100 else {}
        return {**rest, rollout.version: rollout.share}


@dataclass
class State:
    """The fold of a journal up to record `seq`."""

    seq: int = 0
    models: dict[str, ModelState] = field(default_factory=dict)

    def model(self, name: str) -> ModelState:
        """Give a model's state, empty when the journal has not heard of it."""
        return self.models.get(name) or ModelState(name)


def fold(records: Iterable[Record], state: State | None = None) -> State:
    """Fold records into a state, starting from an earlier one where given (it is changed in place)."""
    state = state or State()
    for record in records:
        if record.payload is not None:
            model = state.models.setdefault(record.payload.model, ModelState(record.payload.model))
            apply(record.payload, model, record)
        state.seq = record.seq
    return state


@singledispatch
def apply(payload: Any, model: ModelState, record: Record) -> None:
    """Change a model's state by one record; kinds without an effect here are ignored."""


@apply.register
def _(payload: r.DatasetVersioned, model: ModelState, record: Record) -> None:
    model.datasets[payload.dataset] = payload
    model.dataset_times.setdefault(payload.dataset, record.time)


@apply.register
def _(payload: r.RunStarted, model: ModelState, record: Record) -> None:
    model.runs[payload.run] = Run(
        payload.run, payload.pipeline, payload.trigger, payload.dataset, record.time, record.actor, payload.commit
    )


@apply.register
def _(payload: r.RunEnded, model: ModelState, record: Record) -> None:
    run = model.runs[payload.run]
    run.state, run.tasks, run.error = payload.state, payload.tasks, payload.error
    run.seconds, run.ended = payload.seconds, record.time


@apply.register
def _(payload: r.VersionPackaged, model: ModelState, record: Record) -> None:
    model.versions[payload.version] = Version(
        number=payload.version,
        package=payload.package,
        run=payload.run,
        dataset=payload.dataset,
        metric=payload.metric,
        metrics=payload.metrics,
        created=record.time,
        commit=payload.commit,
        commit_time=payload.commit_time,
        data_until=payload.data_until,
    )


@apply.register
def _(payload: r.GateJudged, model: ModelState, record: Record) -> None:
    model.versions[payload.version].gate = payload


@apply.register
def _(payload: r.VersionApproved, model: ModelState, record: Record) -> None:
    model.versions[payload.version].approved_by = record.actor


@apply.register
def _(payload: r.RolloutStarted, model: ModelState, record: Record) -> None:
    model.rollouts[payload.rollout] = Rollout(
        id=payload.rollout,
        version=payload.version,
        champion=payload.champion,
        steps=payload.steps,
        started=record.time,
        actor=record.actor,
        why=payload.why,
        model=payload.model,
    )


@apply.register
def _(payload: r.RolloutStepped, model: ModelState, record: Record) -> None:
    rollout = model.rollouts[payload.rollout]
    rollout.share, rollout.share_since = payload.share, record.time


@apply.register
def _(payload: r.RolloutPaused, model: ModelState, record: Record) -> None:
    model.rollouts[payload.rollout].paused = payload.paused


@apply.register
def _(payload: r.RolloutEnded, model: ModelState, record: Record) -> None:
    rollout = model.rollouts[payload.rollout]
    rollout.outcome, rollout.ended, rollout.note = payload.outcome, record.time, payload.why
    _crown(model, payload.champion, record.time)


@apply.register
def _(payload: r.ChampionRestored, model: ModelState, record: Record) -> None:
    _crown(model, payload.version, record.time)


def _crown(model: ModelState, version: int | None, time: str) -> None:
    if version is None or version == model.champion:
        return
    model.champion = version
    model.champions.append((time, version))
    model.versions[version].serving_since = time


@apply.register
def _(payload: r.VersionServed, model: ModelState, record: Record) -> None:
    version = model.versions[payload.version]
    version.first_served = version.first_served or record.time


@apply.register
def _(payload: r.AlarmRaised, model: ModelState, record: Record) -> None:
    model.alarms[payload.alarm] = payload
    model.alarm_times[payload.alarm] = record.time


@apply.register
def _(payload: r.IncidentOpened, model: ModelState, record: Record) -> None:
    model.incidents[payload.incident] = Incident(
        id=payload.incident,
        kind=payload.kind,
        version=payload.version,
        severity=payload.severity,
        title=payload.title,
        opened=record.time,
        alarms=[payload.alarm],
    )


@apply.register
def _(payload: r.IncidentUpdated, model: ModelState, record: Record) -> None:
    incident = model.incidents[payload.incident]
    incident.notes.append((record.time, payload.change, payload.note))
    if payload.alarm:
        incident.alarms.append(payload.alarm)
    if payload.change == "acknowledged":
        incident.acknowledged_by = record.actor


@apply.register
def _(payload: r.IncidentClosed, model: ModelState, record: Record) -> None:
    incident = model.incidents[payload.incident]
    incident.closed, incident.reason = record.time, payload.reason


@apply.register
def _(payload: r.AlertSent, model: ModelState, record: Record) -> None:
    model.alerts.append((record.time, payload))


@apply.register
def _(payload: r.TriggerFired, model: ModelState, record: Record) -> None:
    model.retrainings[payload.trigger] = Retraining(
        payload.trigger, payload.cause, payload.incident, record.time, payload.data_time
    )


@apply.register
def _(payload: r.RetrainingEnded, model: ModelState, record: Record) -> None:
    retraining = model.retrainings[payload.trigger]
    retraining.run, retraining.version, retraining.result = payload.run, payload.version, payload.result
    retraining.ended, retraining.note = record.time, payload.note
