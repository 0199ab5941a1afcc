"""Alarms: they open an incident, go to the open one of the same cause, or open one again that has just ended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from trilho.core.projection import Incident, ModelState
from trilho.core.readings import Reading
from trilho.core.records import (
    AlarmRaised,
    Cause,
    IncidentOpened,
    IncidentReopened,
    IncidentUpdated,
    Payload,
    Severity,
)
from trilho.watch.incidents.cause import NAMED, same_cause
from trilho.watch.incidents.harm import is_worse, measured_effect, severity
from trilho.watch.incidents.terms import Terms
from trilho.watch.window import words


def respond(
    state: ModelState,
    alarms: Iterable[AlarmRaised],
    terms: Terms | None = None,
    readings: Sequence[Reading] = (),
    now: str | None = None,
) -> list[Payload]:
    """Open incidents for alarms that belong to none, and update the others: once in a call, however many alarms.

    `readings` are the newest, by which the effect of a performance alarm is measured; `now` is the journal's time.
    """
    found = _Response(state, terms or Terms(), readings, now or datetime.now(UTC).isoformat())
    for alarm in alarms:
        found.take(alarm)
    return found.payloads()


class _Response:
    """What one call has to say about each incident."""

    def __init__(self, state: ModelState, terms: Terms, readings: Sequence[Reading], now: str) -> None:
        self._state, self._terms, self._readings, self._now = state, terms, readings, now
        self._new: dict[str, tuple[IncidentOpened | IncidentReopened, AlarmRaised, Sequence[Cause]]] = {}
        self._more: dict[str, list[AlarmRaised]] = {}

    def take(self, alarm: AlarmRaised) -> None:
        state = self._state
        if any(alarm.alarm in x.alarms for x in state.incidents.values()):
            return
        held = next((x for x in state.open_incidents if _is_of(x.kind, x.version, x.causes, alarm)), None)
        held = held or self._whole(alarm)
        if held is not None:
            self._more.setdefault(held.id, []).append(alarm)
            return
        for name, (_, first, causes) in self._new.items():
            alike = (first.kind, first.version) == (alarm.kind, alarm.version)
            if _is_of(first.kind, first.version, causes, alarm) or (alike and self._count(alarm) >= NAMED):
                self._more.setdefault(name, []).append(alarm)
                return
        ended = next((x for x in reversed(state.incidents.values()) if self._is_pause(x, alarm)), None)
        opened = self._opened(alarm) if ended is None else self._reopened(ended, alarm)
        self._new[opened.incident] = opened, alarm, alarm.causes if ended is None else ended.causes

    def _whole(self, alarm: AlarmRaised) -> Incident | None:
        """Give the first incident of an alarm's kind where so many are open that it is the whole that moves."""
        alike = [x for x in self._state.open_incidents if (x.kind, x.version) == (alarm.kind, alarm.version)]
        return alike[0] if len(alike) >= NAMED else None

    def _count(self, alarm: AlarmRaised) -> int:
        held = [(x.kind, x.version) for x in self._state.open_incidents]
        return [*held, *((first.kind, first.version) for _, first, _ in self._new.values())].count(
            (alarm.kind, alarm.version)
        )

    def payloads(self) -> list[Payload]:
        return [*(x for x, _, _ in self._new.values()), *(self._updated(i, new) for i, new in self._more.items())]

    def _is_pause(self, incident: Incident, alarm: AlarmRaised) -> bool:
        """Say whether an incident of the same cause ended so lately, or is muted still, that this is a part of it."""
        if incident.closed is None or incident.state == "outlived":
            return False
        if not _is_of(incident.kind, incident.version, incident.causes, alarm):
            return False
        cooldown = max(self._terms.cooldown, self._terms.window)
        ended, raised = incident.closed, self._now
        if incident.ended_data_time is not None:
            ended, raised = incident.ended_data_time, alarm.window_start
        return incident.is_muted(self._now) or _moment(raised) - _moment(ended) <= cooldown

    def _grade(self, alarm: AlarmRaised) -> Severity:
        effect = measured_effect(alarm, self._readings) if alarm.kind == "performance" else None
        return severity(alarm, self._terms, effect)

    def _opened(self, alarm: AlarmRaised) -> IncidentOpened:
        told = _told(alarm)
        return IncidentOpened(
            model=alarm.model, incident=f"{alarm.kind}-{alarm.alarm[:10]}", kind=alarm.kind, alarm=alarm.alarm,
            version=alarm.version, severity=self._grade(alarm), title=told[:1].upper() + told[1:],
        )  # fmt: skip

    def _reopened(self, incident: Incident, alarm: AlarmRaised) -> IncidentReopened:
        grade = self._grade(alarm)
        return IncidentReopened(
            model=alarm.model, incident=incident.id, alarm=alarm.alarm, note=_told(alarm),
            severity=grade if is_worse(grade, incident.severity) else None,
        )  # fmt: skip

    def _updated(self, name: str, alarms: list[AlarmRaised]) -> IncidentUpdated:
        """Put alarms into one update: it confirms where no test does, it may raise the severity, it never lowers it."""
        known, last = self._state.incidents.get(name), alarms[-1]
        new = self._new[name][0] if name in self._new else None
        before = (new.severity if new is not None else None) or (known.severity if known is not None else "low")
        worst = max((self._grade(x) for x in alarms), key=("low", "medium", "high").index)
        suspected = new is not None or known is None or known.state == "suspected"
        confirms = suspected and last.kind not in self._terms.tested
        note = (f"{len(alarms)} more alarms, the last: " if len(alarms) > 1 else "") + _told(last)
        update = IncidentUpdated(
            model=last.model, incident=name, change="confirmed" if confirms else "alarm", note=note, alarm=last.alarm,
            count=len(alarms),
        )  # fmt: skip
        if is_worse(worst, before):
            change = update.change if confirms else "worse"
            return replace(update, change=change, severity=worst)
        return update


def _is_of(kind: str, version: int, causes: Sequence[Cause], alarm: AlarmRaised) -> bool:
    if kind != alarm.kind or version != alarm.version:
        return False
    return kind == "performance" or same_cause(causes, alarm.causes)


def _told(alarm: AlarmRaised) -> str:
    if alarm.kind == "performance":  # its summary says the window itself
        return alarm.summary
    return f"{alarm.summary}, {words(alarm.window_start, alarm.window_end)}"


def _moment(time: str) -> datetime:
    moment = datetime.fromisoformat(time)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
