"""What the journal says now: champion, versions, runs, rollouts, incidents, folded from its records.

A projection is never a second truth: it can be thrown away and folded again, and a checkpoint is only a fold that was
kept. Everything shown anywhere about a model's life comes from here.

What a state holds is replaced, never changed: a reader may keep it while a copy of its containers is folded on. A
record of a kind that is newer than this trilho, or that refers to what such a record made, is passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import singledispatch
from typing import Any

from trilho.core import records as r
from trilho.core.journal import Record


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
    note: str = ""
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
    decision: int | None = None  # the one that holds
    decisions: dict[int, Decision] = field(default_factory=dict)
    decisions_held: list[tuple[str, int]] = field(default_factory=list)  # journal time, decision that took over

    def copy(self) -> ModelState:
        """Give a state that can be folded on while somebody still reads this one: its containers are copied."""
        copied = replace(self)
        for name in (f.name for f in fields(self) if isinstance(getattr(self, f.name), dict | list)):
            setattr(copied, name, getattr(self, name).copy())
        return copied

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
    def succession(self) -> list[int]:
        """The champions in the order in which they took over, without those that were rolled back.

        >>> ModelState("m", champion=2, champions=[("t1", 1), ("t2", 2), ("t3", 3), ("t4", 2)]).succession
        [1, 2]
        """
        return _line(self.champions)

    @property
    def decision_succession(self) -> list[int]:
        """The decisions in the order in which they took over, without those that were rolled back."""
        return _line(self.decisions_held)

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


def _line(taken: Iterable[tuple[str, int]]) -> list[int]:
    line: list[int] = []
    for _, number in taken:
        line = line[: line.index(number) + 1] if number in line else [*line, number]
    return line


@dataclass
class State:
    """The fold of a journal up to record `seq`."""

    seq: int = 0
    models: dict[str, ModelState] = field(default_factory=dict)
    unknown: int = 0  # records passed over: of a kind that a newer trilho wrote, or about something unknown

    def model(self, name: str) -> ModelState:
        """Give a model's state, empty when the journal has not heard of it."""
        return self.models.get(name) or ModelState(name)


def fold(records: Iterable[Record], state: State | None = None) -> State:
    """Fold records into a state, starting from an earlier one where given (it is changed in place)."""
    state = state or State()
    for record in records:
        try:
            _add(record, state)
        except _Unknown:
            state.unknown += 1
        state.seq = record.seq
    return state


class _Unknown(Exception):
    """A record is of an unknown kind, or refers to what no record that is known has made."""


def _known(things: Mapping[Any, Any], name: Any) -> Any:
    if name not in things:
        raise _Unknown
    return things[name]


def _change(things: dict[Any, Any], name: Any, **changes: Any) -> None:
    things[name] = replace(_known(things, name), **changes)


def _add(record: Record, state: State) -> None:
    if record.payload is None:
        raise _Unknown
    model = state.models.setdefault(record.payload.model, ModelState(record.payload.model))
    apply(record.payload, model, record)


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
        payload.run,
        payload.pipeline,
        payload.trigger,
        payload.dataset,
        record.time,
        record.actor,
        payload.commit,
        runner=payload.runner,
        place=payload.place,
    )


@apply.register
def _(payload: r.RunEnded, model: ModelState, record: Record) -> None:
    _change(
        model.runs,
        payload.run,
        state=payload.state,
        tasks=payload.tasks,
        error=payload.error,
        seconds=payload.seconds,
        ended=record.time,
    )


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
    _change(model.versions, payload.version, gate=payload)


@apply.register
def _(payload: r.VersionApproved, model: ModelState, record: Record) -> None:
    _change(model.versions, payload.version, approved_by=record.actor)


@apply.register
def _(payload: r.VersionCertified, model: ModelState, record: Record) -> None:
    _change(model.versions, payload.version, certified=payload)


@apply.register
def _(payload: r.VersionPinned, model: ModelState, record: Record) -> None:
    _change(model.versions, payload.version, pinned=payload.why if payload.pinned else None)


@apply.register
def _(payload: r.RolloutStarted, model: ModelState, record: Record) -> None:
    for version in {payload.version, payload.champion} - {None}:
        _known(model.versions, version)
    model.rollouts[payload.rollout] = Rollout(
        id=payload.rollout,
        version=payload.version,
        champion=payload.champion,
        steps=payload.steps,
        started=record.time,
        actor=record.actor,
        why=payload.why,
        model=payload.model,
        share_since=record.time,
        shadow=payload.shadow,
        sticky=payload.sticky,
        hold=payload.hold,
    )


@apply.register
def _(payload: r.RolloutStepped, model: ModelState, record: Record) -> None:
    changes = {"share": payload.share, "share_since": record.time, "evidence": payload.evidence}
    _change(model.rollouts, payload.rollout, **changes)


@apply.register
def _(payload: r.RolloutPaused, model: ModelState, record: Record) -> None:
    before: Rollout = _known(model.rollouts, payload.rollout)
    seen = before.shift_seen or (not payload.paused and before.held_by == "shift" and payload.cause == "a person")
    held_by = payload.cause if payload.paused else None
    _change(model.rollouts, payload.rollout, paused=payload.paused, held_by=held_by, shift_seen=seen)


@apply.register
def _(payload: r.RolloutEnded, model: ModelState, record: Record) -> None:
    _known(model.rollouts, payload.rollout)
    _crown(model, payload.champion, record.time)
    _change(model.rollouts, payload.rollout, outcome=payload.outcome, ended=record.time, note=payload.why)
    if payload.evidence:
        _change(model.rollouts, payload.rollout, evidence=payload.evidence)


@apply.register
def _(payload: r.ChampionRestored, model: ModelState, record: Record) -> None:
    _crown(model, payload.version, record.time)


def _crown(model: ModelState, version: int | None, time: str) -> None:
    if version is None or version == model.champion:
        return
    _change(model.versions, version, serving_since=time)
    model.champion = version
    model.champions.append((time, version))


@apply.register
def _(payload: r.DecisionPackaged, model: ModelState, record: Record) -> None:
    model.decisions[payload.decision] = Decision(
        number=payload.decision,
        artifact=payload.artifact,
        reference=payload.reference,
        created=record.time,
        actor=record.actor,
        commit=payload.commit,
        commit_time=payload.commit_time,
        run=payload.run,
    )


@apply.register
def _(payload: r.DecisionApproved, model: ModelState, record: Record) -> None:
    _change(model.decisions, payload.decision, approved_by=record.actor)


@apply.register
def _(payload: r.DecisionReleased, model: ModelState, record: Record) -> None:
    _hold(model, payload.decision, record.time, why=payload.why, evidence=payload.evidence)


@apply.register
def _(payload: r.DecisionRestored, model: ModelState, record: Record) -> None:
    _hold(model, payload.decision, record.time, why=payload.why)


def _hold(model: ModelState, decision: int, time: str, **changes: Any) -> None:
    _change(model.decisions, decision, since=time, **changes)
    model.decision = decision
    model.decisions_held.append((time, decision))


@apply.register
def _(payload: r.VersionServed, model: ModelState, record: Record) -> None:
    if _known(model.versions, payload.version).first_served is None:
        _change(model.versions, payload.version, first_served=record.time)


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
    incident: Incident = _known(model.incidents, payload.incident)
    _change(
        model.incidents,
        payload.incident,
        notes=[*incident.notes, (record.time, payload.change, payload.note)],
        alarms=[*incident.alarms, payload.alarm] if payload.alarm else incident.alarms,
        acknowledged_by=record.actor if payload.change == "acknowledged" else incident.acknowledged_by,
    )


@apply.register
def _(payload: r.IncidentClosed, model: ModelState, record: Record) -> None:
    _change(model.incidents, payload.incident, closed=record.time, reason=payload.reason)


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
    _change(
        model.retrainings,
        payload.trigger,
        run=payload.run,
        version=payload.version,
        result=payload.result,
        ended=record.time,
        note=payload.note,
    )
