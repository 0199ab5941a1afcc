"""What each kind of record changes in a model's state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import singledispatch
from typing import Any

from trilho.core import records as r
from trilho.core.journal import Record
from trilho.core.projection.model import ModelState
from trilho.core.projection.parts import Decision, Incident, Retraining, Rollout, Run, Version


class UnknownRecord(Exception):
    """A record is of an unknown kind, or refers to what no record that is known has made."""


def _known(things: Mapping[Any, Any], name: Any) -> Any:
    if name not in things:
        raise UnknownRecord
    return things[name]


def _change(things: dict[Any, Any], name: Any, **changes: Any) -> None:
    things[name] = replace(_known(things, name), **changes)


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
    note = payload.why if payload.paused else ""
    _change(model.rollouts, payload.rollout, paused=payload.paused, held_by=held_by, shift_seen=seen, note=note)


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
    alarm = model.alarms.get(payload.alarm)
    model.incidents[payload.incident] = Incident(
        id=payload.incident,
        kind=payload.kind,
        version=payload.version,
        severity=payload.severity,
        title=payload.title,
        opened=record.time,
        alarms=[payload.alarm],
        causes=alarm.causes if alarm else [],
        slices=alarm.slices if alarm else [],
        effect=alarm.effect if alarm else None,
        first_alert=(alarm.data_time or alarm.window_end) if alarm else "",
        last_alarm=record.time,
        course=[(record.time, "suspected", record.actor)],
    )


@apply.register
def _(payload: r.IncidentUpdated, model: ModelState, record: Record) -> None:
    incident: Incident = _known(model.incidents, payload.incident)
    changes: dict[str, Any] = {"notes": [*incident.notes, (record.time, payload.change, payload.note)]}
    if payload.alarm:
        changes |= _alarmed(model, incident, payload.alarm, record.time, payload.count)
    if payload.change == "acknowledged":
        changes |= {"acknowledged_by": record.actor, "acknowledged": record.time}
        changes["course"] = [*incident.course, (record.time, "acknowledged", record.actor)]
    if payload.change == "confirmed" and incident.closed is None:
        changes |= {"state": "confirmed", "course": [*incident.course, (record.time, "confirmed", record.actor)]}
    if payload.severity is not None:
        changes["severity"] = payload.severity
    if payload.lead is not None:
        changes["lead"] = payload.lead
    _change(model.incidents, payload.incident, **changes)


def _alarmed(model: ModelState, incident: Incident, name: str, time: str, count: int = 1) -> dict[str, Any]:
    alarm = model.alarms.get(name)
    return {
        "alarms": [*incident.alarms, name],
        "alarm_count": incident.alarm_count + count,
        "last_alarm": time,
        "effect": (alarm.effect if alarm else None) or incident.effect,
    }


@apply.register
def _(payload: r.IncidentAssigned, model: ModelState, record: Record) -> None:
    incident: Incident = _known(model.incidents, payload.incident)
    said = f"{payload.to}: {payload.why}" if payload.why else payload.to
    notes = [*incident.notes, (record.time, "assigned", said)]
    _change(model.incidents, payload.incident, assigned_to=payload.to, notes=notes)


@apply.register
def _(payload: r.IncidentMuted, model: ModelState, record: Record) -> None:
    incident: Incident = _known(model.incidents, payload.incident)
    said = "muted" if payload.until else "unmuted"
    _change(
        model.incidents,
        payload.incident,
        muted_until=payload.until,
        muted_by=record.actor if payload.until else None,
        notes=[*incident.notes, (record.time, said, payload.why)],
        course=[*incident.course, (record.time, said, record.actor)],
    )


@apply.register
def _(payload: r.IncidentReopened, model: ModelState, record: Record) -> None:
    incident: Incident = _known(model.incidents, payload.incident)
    _change(
        model.incidents,
        payload.incident,
        **_alarmed(model, incident, payload.alarm, record.time),
        closed=None,
        reason=None,
        ended_data_time=None,
        state="suspected",
        severity=payload.severity or incident.severity,
        reopened=incident.reopened + 1,
        acknowledged_by=None,
        acknowledged=None,
        notes=[*incident.notes, (record.time, "reopened", payload.note)],
        course=[*incident.course, (record.time, "reopened", record.actor)],
    )


@apply.register
def _(payload: r.IncidentClosed, model: ModelState, record: Record) -> None:
    incident: Incident = _known(model.incidents, payload.incident)
    _change(
        model.incidents,
        payload.incident,
        closed=record.time,
        reason=payload.reason,
        state=payload.end,
        ended_data_time=payload.data_time,
        course=[*incident.course, (record.time, payload.end, record.actor)],
    )


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
