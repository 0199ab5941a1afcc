"""Models with incidents, as the journal's fold would give them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from trilho.core import records as r
from trilho.core.projection import Incident, ModelState
from trilho.core.readings import FeatureReading, Reading

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OPENED = "2026-01-01T00:00:00+00:00"


def model(*incidents: str, name: str = "flights", severity: str = "high") -> ModelState:
    """Give a model with open incidents of drift."""
    state = ModelState(name, champion=1)
    for id_ in incidents:
        cause = r.Cause(feature="temp", share=0.9, distance=0.74, tolerance=0.07)
        state.alarms[f"alarm-{id_}"] = r.AlarmRaised(
            model=name, alarm=f"alarm-{id_}", kind="drift", version=1, window_start="2013-02-10T00:00:00+00:00",
            window_end="2013-02-11T00:00:00+00:00", evidence=990.0, threshold=730.0, causes=[cause], summary="drift",
        )  # fmt: skip
        state.incidents[id_] = Incident(
            id_, "drift", 1, severity, "Drift of temp, 10 Feb 2013", OPENED, alarms=[f"alarm-{id_}"]
        )
    return state


def happened(state: ModelState, incident: str, change: str, note: str = "") -> None:
    """Let a change come to an incident."""
    held = state.incidents[incident]
    time = (NOW + timedelta(hours=1 + len(held.notes))).isoformat()
    who = "ana" if change == "acknowledged" else held.acknowledged_by
    state.incidents[incident] = replace(held, notes=[*held.notes, (time, change, note)], acknowledged_by=who)


def closed(state: ModelState, incident: str, reason: str = "version 2 took over") -> None:
    """Let an incident end."""
    time = (NOW + timedelta(days=1)).isoformat()
    state.incidents[incident] = replace(state.incidents[incident], closed=time, reason=reason)


def readings(days: int = 20) -> list[Reading]:
    """Give windows in which temp moves in the end."""
    first = datetime(2013, 1, 22, tzinfo=UTC)
    made = []
    for k in range(days):
        start = first + timedelta(days=k)
        moved = FeatureReading(feature="temp", distance=0.03 + max(0, k - 15) * 0.15, tolerance=0.07, share=1.0)
        reading = Reading(
            model="flights", version=1, window_start=start.isoformat(), evidence=1.0, threshold=730.0, rows=100,
            window_end=(start + timedelta(days=1)).isoformat(), features=[moved], metric="mae",
            value=0.5 + 0.01 * k, low=0.4, high=0.9, alarms=["a"] if k == 18 else [],
        )  # fmt: skip
        made.append(reading)
    return made
