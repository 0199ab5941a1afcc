"""Ends: another version serves, or what an incident was about has not come again for a while."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from trilho.core.projection import Incident, ModelState
from trilho.core.readings import FeatureReading, Reading
from trilho.core.records import IncidentClosed, Payload
from trilho.watch.incidents.cause import leading

CALM_WINDOWS = 10
ENOUGH_LABELS = 0.8
LOOK_BACK = 1000  # windows in which labels may still come; six weeks of hours


def close_outlived(state: ModelState) -> list[Payload]:
    """Close the incidents of versions that no longer serve."""
    return [
        IncidentClosed(model=state.name, incident=x.id, reason=f"version {state.champion} took over", end="outlived")
        for x in state.open_incidents
        if state.champion is not None and x.version != state.champion
    ]


def close_calm(state: ModelState, readings: Sequence[Reading]) -> list[Payload]:
    """Close the incidents of the champion whose alarm has not come again, given the newest readings, oldest first.

    The detectors start from nothing after an alarm but keep what they learnt, so that drift that stays alarms again
    within a few windows. Calm is `CALM_WINDOWS` windows of the champion in a row without an alarm of the incident, in
    which no leading feature is further from its reference than it may be and chance explains. A performance incident is
    judged by the newest windows whose labels have come, each at least `ENOUGH_LABELS` of the champion's own rows. This
    is for what no test of its own ends sooner.
    """
    own = [x for x in readings if x.version == state.champion]
    newest = next((i for i in reversed(range(len(own))) if _labelled(own[i])), -1)
    found: list[Payload] = []
    for incident in state.open_incidents:
        windows = (own[: newest + 1] if incident.kind == "performance" else own)[-CALM_WINDOWS:]
        if incident.version == state.champion and _is_calm(state, incident, windows):
            reason = f"no alarm in the {CALM_WINDOWS} windows since"
            found.append(
                IncidentClosed(
                    model=state.name, incident=incident.id, reason=reason, end="resolved",
                    data_time=windows[-1].window_end,
                )
            )  # fmt: skip
    return found


def _is_calm(state: ModelState, incident: Incident, readings: Sequence[Reading]) -> bool:
    if len(readings) < CALM_WINDOWS or any(_alarmed(state, incident, x) for x in readings):
        return False
    known = [state.alarms[alarm] for alarm in incident.alarms if alarm in state.alarms]
    if not known or _moment(readings[0].window_start) < max(_moment(x.window_end) for x in known):
        return False
    if incident.kind == "performance":
        return all(_labelled(x) and not _over(state, incident, x) for x in readings)
    named = leading(incident.causes) or {x["feature"] for alarm in known for x in alarm.causes}
    return all(_within(f) for x in readings for f in x.features if f.feature in named)


def _within(feature: FeatureReading) -> bool:
    return (feature.distance if feature.low is None else feature.low) <= feature.tolerance


def _alarmed(state: ModelState, incident: Incident, reading: Reading) -> bool:
    """Say whether a window raised an alarm of the incident, or one that the journal does not know yet."""
    others = {a for x in state.incidents.values() if x.id != incident.id for a in x.alarms}
    return any(
        name not in state.alarms or (state.alarms[name].kind == incident.kind and name not in others)
        for name in reading.alarms
    )


def _over(state: ModelState, incident: Incident, reading: Reading) -> bool:
    """Say whether a window is still worse than the alarm allowed, where its metric is the loss that alarmed."""
    causes = state.alarms[incident.alarms[-1]].causes if incident.alarms[-1] in state.alarms else []
    return any(c["feature"] == reading.metric and (reading.value or 0.0) > c["tolerance"] for c in causes)


def _labelled(reading: Reading) -> bool:
    return reading.own > 0 and reading.labelled >= ENOUGH_LABELS * reading.own


def _moment(time: str) -> datetime:
    moment = datetime.fromisoformat(time)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
