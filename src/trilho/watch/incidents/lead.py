"""The warning lead: from the first alert to the window in which the metric crossed its minimum.

Both are told in the time of what was served, so that it holds for a replay of history too. A lead below zero is told as
it is: the alert came after.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from trilho.core.metrics import HIGHER_IS_BETTER
from trilho.core.projection import Incident, ModelState
from trilho.core.readings import Reading
from trilho.core.records import IncidentUpdated, Lead, Payload
from trilho.watch.incidents.terms import Terms
from trilho.watch.wording import Language, say
from trilho.watch.wording import number as localized

GAP = 3  # windows that may look well again within one crossing, by chance


@dataclass(frozen=True)
class Crossing:
    """The window in which a metric crossed its minimum."""

    window_start: str
    window_end: str
    metric: str
    value: float
    minimum: float
    source: Literal["measured", "estimated"]


def crossing(incident: Incident, readings: Sequence[Reading], terms: Terms) -> Crossing | None:
    """Find the window in which the metric crossed its minimum; None when it has not.

    A window is across when its whole interval is: with labels the measured one, without them the estimate's. When the
    metric was across already as the first alert came, it is the first window of that stretch, else the first after.
    """
    own = [x for x in readings if x.version == incident.version]
    across = [_across(x, terms) for x in own]
    before = [i for i, x in enumerate(own) if _at(x.window_end) <= _at(incident.first_alert)]
    now = max(before, default=-1)
    start = None
    for i in reversed(range(now + 1)):
        if across[i] is not None:
            start = i
        elif (now if start is None else start) - i > GAP:
            break
    if start is None:
        start = next((i for i in range(now + 1, len(own)) if across[i] is not None), None)
    return None if start is None else across[start]


def lead_of(incident: Incident, readings: Sequence[Reading], terms: Terms) -> Lead | None:
    """Give an incident's warning lead as recorded, or while it is open as the readings have it now."""
    if incident.lead is not None or incident.closed is not None or not incident.first_alert:
        return incident.lead
    found = crossing(incident, readings, terms)
    return None if found is None else _lead(incident, found)


def foresee(state: ModelState, readings: Sequence[Reading], terms: Terms) -> list[Payload]:
    """Record the warning lead of each open incident whose metric has crossed its minimum since; then it is severe."""
    return list(_leads(state, readings, terms))


def _leads(state: ModelState, readings: Sequence[Reading], terms: Terms) -> Iterator[Payload]:
    for incident in state.open_incidents:
        if incident.lead is not None or not incident.first_alert:
            continue
        found = crossing(incident, readings, terms)
        if found is None:
            continue
        lead = _lead(incident, found)
        rises = terms.minimum is not None and incident.severity != "high"
        yield IncidentUpdated(
            model=state.name, incident=incident.id, change="worse" if rises else "crossed", note=lead_words(lead),
            severity="high" if rises else None, lead=lead,
        )  # fmt: skip


def _lead(incident: Incident, found: Crossing) -> Lead:
    seconds = (_at(found.window_end) - _at(incident.first_alert)).total_seconds()
    return Lead(
        first=incident.first_alert, crossed=found.window_end, window_start=found.window_start, seconds=seconds,
        metric=found.metric, value=found.value, minimum=found.minimum, source=found.source,
    )  # fmt: skip


def lead_words(lead: Lead | None, language: Language = "en") -> str:
    """Say a warning lead in a sentence's part; "not crossed yet" where there is none.

    >>> lead_words(None)
    'the metric has not crossed its minimum'
    """
    if lead is None:
        return say(language, "lead.none")
    which = "before" if lead["seconds"] > 0 else "after" if lead["seconds"] < 0 else "same"
    estimated = say(language, "lead.estimated") if lead["source"] == "estimated" else ""
    values = {"minimum": figure(language, lead["minimum"]), "metric": lead["metric"], "estimated": estimated}
    return say(language, f"lead.{which}", length=length(language, abs(lead["seconds"])), **values)


def length(language: Language, seconds: float) -> str:
    """Say a length of time in the unit that fits it.

    >>> length("en", 1209600.0), length("pt-BR", 5400.0), length("en", 86400.0)
    ('14 days', '1,5 horas', '1 day')
    """
    for size, unit in ((86400.0, "day"), (3600.0, "hour"), (60.0, "minute")):
        if seconds >= size:
            value = round(seconds / size, 1)
            text = localized(language, value, 0 if value == int(value) else 1)
            return say(language, f"{unit}.one" if value == 1 else f"{unit}.more", count=text)
    return say(language, "second.more", count=localized(language, seconds, 0))


def figure(language: Language, value: float) -> str:
    """Give a metric's value with three digits or so.

    >>> figure("pt-BR", 0.7), figure("en", 1234.5)
    ('0,700', '1,234')
    """
    size = abs(value)
    return localized(language, value, 3 if size < 1 else 2 if size < 10 else 1 if size < 100 else 0)


def _across(reading: Reading, terms: Terms) -> Crossing | None:
    floor = terms.floor(reading.metric, reading.expected)
    if floor is None:
        return None
    source: Literal["measured", "estimated"] = "measured"
    value, low, high = reading.value, reading.low, reading.high
    if value is None or not reading.labelled:
        estimate = getattr(reading, "estimate", None) or {}
        if not estimate.get("observable", True) or estimate.get("value") is None:
            return None
        source, value, low, high = "estimated", estimate["value"], estimate.get("low"), estimate.get("high")
    better = reading.metric in HIGHER_IS_BETTER
    end = (high if better else low) if low is not None and high is not None else value
    if end is None or value is None or not (end < floor if better else end > floor):
        return None
    return Crossing(reading.window_start, reading.window_end, reading.metric, value, floor, source)


def _at(time: str) -> datetime:
    moment = datetime.fromisoformat(time)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
