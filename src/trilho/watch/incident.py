"""Incidents: what alarms mean for the open problems of a model. Pure: from the journal's state to records.

One incident for each model, version and kind of alarm: opened once, updated in place, closed when another version took
over or when the alarm has not come again for a while. Ids are made from the alarms', so that a repeat after a crash is
the same incident.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal

from trilho.core.projection import Incident, ModelState
from trilho.core.readings import Reading
from trilho.core.records import AlarmRaised, IncidentClosed, IncidentOpened, IncidentUpdated, Payload
from trilho.watch.window import words

CALM_WINDOWS = 10
ENOUGH_LABELS = 0.8
LOOK_BACK = 1000  # windows in which labels may still come; six weeks of hours
Severity = Literal["low", "medium", "high"]
STEPS = {"drift": (2.0, 4.0), "performance": (1.25, 2.0), "quality": (2.0, 4.0)}


def respond(state: ModelState, alarms: Iterable[AlarmRaised]) -> list[Payload]:
    """Open incidents for alarms that belong to none, and update the others: once in a call, however many alarms.

    A second alarm confirms an incident, since the detector started from nothing after the first.
    """
    opened: dict[tuple[str, int], IncidentOpened] = {}
    more: dict[str, list[AlarmRaised]] = {}
    for alarm in alarms:
        held = _open_incident(state, alarm)
        if held is not None:
            if alarm.alarm not in held.alarms:
                more.setdefault(held.id, []).append(alarm)
        elif (alarm.kind, alarm.version) in opened:
            more.setdefault(opened[alarm.kind, alarm.version].incident, []).append(alarm)
        else:
            opened[alarm.kind, alarm.version] = _opened(alarm)
    return [*opened.values(), *(_updated(state, incident, new) for incident, new in more.items())]


def close_outlived(state: ModelState) -> list[Payload]:
    """Close the incidents of versions that no longer serve."""
    return [
        IncidentClosed(model=state.name, incident=x.id, reason=f"version {state.champion} took over")
        for x in state.open_incidents
        if state.champion is not None and x.version != state.champion
    ]


def close_calm(state: ModelState, readings: Sequence[Reading]) -> list[Payload]:
    """Close the incidents of the champion whose alarm has not come again, given the newest readings, oldest first.

    The detectors start from nothing after an alarm but keep what they learnt, so that drift that stays alarms again
    within a few windows. Calm is `CALM_WINDOWS` windows of the champion in a row without an alarm of the kind, in which
    no named feature is further from its reference than it may be. A performance incident is judged by the newest
    windows whose labels have come, each at least `ENOUGH_LABELS` of the champion's own rows.
    """
    own = [x for x in readings if x.version == state.champion]
    newest = next((i for i in reversed(range(len(own))) if _labelled(own[i])), -1)
    return [
        IncidentClosed(model=state.name, incident=x.id, reason=f"no alarm in the {CALM_WINDOWS} windows since")
        for x in state.open_incidents
        if x.version == state.champion
        and _is_calm(state, x, (own[: newest + 1] if x.kind == "performance" else own)[-CALM_WINDOWS:])
    ]


def _is_calm(state: ModelState, incident: Incident, readings: Sequence[Reading]) -> bool:
    if len(readings) < CALM_WINDOWS or any(_alarmed(state, incident, x) for x in readings):
        return False
    last = max(state.alarms[alarm].window_end for alarm in incident.alarms)
    if datetime.fromisoformat(readings[0].window_start) < datetime.fromisoformat(last):
        return False
    if incident.kind == "performance":
        return all(_labelled(x) and not _over(state, incident, x) for x in readings)
    named = {cause["feature"] for alarm in incident.alarms for cause in state.alarms[alarm].causes}
    return all(f.distance <= f.tolerance for x in readings for f in x.features if f.feature in named)


def _alarmed(state: ModelState, incident: Incident, reading: Reading) -> bool:
    return any(name not in state.alarms or state.alarms[name].kind == incident.kind for name in reading.alarms)


def _over(state: ModelState, incident: Incident, reading: Reading) -> bool:
    """Say whether a window is still worse than the alarm allowed, where its metric is the loss that alarmed."""
    causes = state.alarms[incident.alarms[-1]].causes
    return any(c["feature"] == reading.metric and (reading.value or 0.0) > c["tolerance"] for c in causes)


def _labelled(reading: Reading) -> bool:
    return reading.own > 0 and reading.labelled >= ENOUGH_LABELS * reading.own


def severity(alarm: AlarmRaised) -> Severity:
    """Grade an alarm by how far its first cause is beyond what is allowed.

    Drift: twice the tolerance is medium, four times high. Performance: a loss of 1.25 and 2 times the allowed one.
    """
    if not alarm.causes:
        return "low"
    ratio = alarm.causes[0]["distance"] / max(alarm.causes[0]["tolerance"], 1e-9)
    medium, high = STEPS[alarm.kind]
    return "high" if ratio >= high else "medium" if ratio >= medium else "low"


def _open_incident(state: ModelState, alarm: AlarmRaised) -> Incident | None:
    found = (x for x in state.open_incidents if x.kind == alarm.kind and x.version == alarm.version)
    return next(found, None)


def _opened(alarm: AlarmRaised) -> IncidentOpened:
    told = _told(alarm)
    title = told[:1].upper() + told[1:]
    return IncidentOpened(
        model=alarm.model, incident=f"{alarm.kind}-{alarm.alarm[:10]}", kind=alarm.kind, alarm=alarm.alarm,
        version=alarm.version, severity=severity(alarm), title=title,
    )  # fmt: skip


def _updated(state: ModelState, incident: str, alarms: list[AlarmRaised]) -> IncidentUpdated:
    before = len(state.incidents[incident].alarms) if incident in state.incidents else 1
    last = alarms[-1]
    count = f"{len(alarms)} more alarms, the last: " if len(alarms) > 1 else ""
    note = count + _told(last)
    change: Literal["alarm", "confirmed"] = "confirmed" if before == 1 else "alarm"
    return IncidentUpdated(model=last.model, incident=incident, change=change, note=note, alarm=last.alarm)


def _told(alarm: AlarmRaised) -> str:
    if alarm.kind == "performance":  # its summary says the window itself
        return alarm.summary
    return f"{alarm.summary}, {words(alarm.window_start, alarm.window_end)}"
