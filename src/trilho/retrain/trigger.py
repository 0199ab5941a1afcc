"""When a retraining starts: pure, from the journal's state and the alarms that were just raised."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from trilho.core import records as r
from trilho.core.projection import Incident, ModelState, Retraining
from trilho.errors import NotYet

if TYPE_CHECKING:
    from trilho.config import Settings

PERSON = "a person"
CAUSES: tuple[r.AlarmKind, ...] = ("performance", "drift", "prediction")  # the first that holds names the trigger


def decide(
    state: ModelState,
    settings: Settings,
    alarms: Iterable[r.AlarmRaised],
    newest: datetime | None,
    now: datetime | None = None,
) -> r.TriggerFired | None:
    """Say whether a retraining starts, and why.

    It starts for an alarm about the champion that no retraining has answered: one just raised, or one raised since
    the last trigger whose incident is still open. One retraining at a time, none during a rollout, and none within
    `cooldown` of the last, measured in the data's own time (`newest`, the newest served event time) where it has
    one, else by the clock. An alarm that comes too early is not lost: asked again once the cooldown has passed, this
    answers it.
    """
    if state.champion is None or state.retraining is not None or state.rollout is not None:
        return None
    asked = [alarm for alarm in _unanswered(state, alarms) if _enabled(alarm.kind, settings)]
    kinds = {alarm.kind for alarm in asked}
    cause = next((kind for kind in CAUSES if kind in kinds), None)
    if cause is None or not _cooled(state, settings.retrain.cooldown, newest, now or datetime.now(UTC)):
        return None
    names = {alarm.alarm for alarm in asked if alarm.kind == cause}
    incident = next((x for x in state.open_incidents if names & set(x.alarms)), None) or _incident(state, cause)
    return _fired(state, cause, incident.id if incident else None, newest)


def by_hand(state: ModelState, newest: datetime | None, why: str = "") -> r.TriggerFired:
    """Start a retraining because a person asks for it. Raises NotYet while a rollout is under way."""
    if state.rollout is not None:
        raise NotYet(
            f"version {state.rollout.version} of {state.name} is on its way to users, {state.rollout.position}",
            hint="trilho rollout says how far it is; trilho rollout abort stops it",
        )
    return replace(_fired(state, PERSON, None, newest), why=why)


def _fired(state: ModelState, cause: str, incident: str | None, newest: datetime | None) -> r.TriggerFired:
    return r.TriggerFired(
        model=state.name,
        trigger=f"retraining-{len(state.retrainings) + 1}",
        cause=cause,
        incident=incident,
        data_time=newest.isoformat() if newest is not None else None,
    )


def _unanswered(state: ModelState, alarms: Iterable[r.AlarmRaised]) -> list[r.AlarmRaised]:
    last = _last(state)
    open_ = {id_ for incident in state.open_incidents for id_ in incident.alarms}
    waiting = [
        alarm
        for id_, alarm in state.alarms.items()
        if id_ in open_ and (last is None or _moment(state.alarm_times[id_]) > _moment(last.started))
    ]
    return [alarm for alarm in [*alarms, *waiting] if alarm.version == state.champion]


def _enabled(kind: r.AlarmKind, settings: Settings) -> bool:
    enabled = {"drift": settings.retrain.drift, "prediction": settings.retrain.drift}
    return {**enabled, "performance": settings.retrain.performance}.get(kind, False)


def _cooled(state: ModelState, cooldown: timedelta, newest: datetime | None, now: datetime) -> bool:
    last = _last(state)
    if last is None:
        return True
    if newest is not None and last.data_time is not None:
        return _moment(newest) - _moment(last.data_time) >= cooldown
    return _moment(now) - _moment(last.started) >= cooldown


def _last(state: ModelState) -> Retraining | None:
    return next(reversed(state.retrainings.values()), None)


def _incident(state: ModelState, kind: str) -> Incident | None:
    return next((incident for incident in state.open_incidents if incident.kind == kind), None)


def _moment(when: str | datetime) -> datetime:
    moment = datetime.fromisoformat(when) if isinstance(when, str) else when
    return moment.replace(tzinfo=moment.tzinfo or UTC)
