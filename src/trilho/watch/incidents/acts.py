"""What a person does about an incident: each act as the record that says so, refused where it makes no sense."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from trilho.core.projection import Incident
from trilho.core.records import IncidentAssigned, IncidentClosed, IncidentMuted, IncidentUpdated, Payload
from trilho.errors import NotYet, UsageError

LONGEST = timedelta(days=366)
MUTES = {
    "12 hours": timedelta(hours=12),
    "1 day": timedelta(days=1),
    "3 days": timedelta(days=3),
    "1 week": timedelta(days=7),
    "30 days": timedelta(days=30),
}
"""What a page offers."""
NAME = re.compile(r"[^\w .,@()'+-]")


def acknowledge(model: str, incident: Incident, why: str = "") -> Payload:
    """Say that somebody has taken an incident up. Raises NotYet when it has ended."""
    _is_open(incident, "acknowledge")
    return IncidentUpdated(model=model, incident=incident.id, change="acknowledged", note=why)


def assign(model: str, incident: Incident, to: str, why: str = "") -> Payload:
    """Say in whose hands an incident is. Raises NotYet when it has ended."""
    _is_open(incident, "assign")
    name = person(to)
    if not name:
        raise UsageError(f"{to!r} names nobody; allowed is a name", hint=f"trilho incidents assign {incident.id} ana")
    return IncidentAssigned(model=model, incident=incident.id, to=name, why=why)


def mute(model: str, incident: Incident, for_: timedelta, why: str, now: datetime) -> Payload:
    """Keep an incident from being told for a while. Raises UsageError without a reason, or for more than a year."""
    verb = f'trilho incidents mute {incident.id} --for "3 days" --why "..."'
    if not why.strip():
        raise UsageError("muting needs a reason; none was given", hint=verb)
    if not timedelta(0) < for_ <= LONGEST:
        raise UsageError(f"{for_} is not a time to mute for; allowed is up to a year", hint=verb)
    if incident.closed is not None and incident.state == "outlived":
        _is_open(incident, "mute")
    until = (now + for_).isoformat(timespec="seconds")
    return IncidentMuted(model=model, incident=incident.id, until=until, why=why.strip())


def unmute(model: str, incident: Incident, why: str, now: datetime) -> Payload:
    """Let an incident be told again. Raises NotYet when it is not muted."""
    if not incident.is_muted(now.isoformat()):
        raise NotYet(f"incident {incident.id} is not muted", hint=f"trilho incidents show {incident.id}")
    return IncidentMuted(model=model, incident=incident.id, until=None, why=why.strip())


def close(model: str, incident: Incident, why: str) -> Payload:
    """End an incident by hand. Raises UsageError without a reason."""
    _is_open(incident, "close")
    if not why.strip():
        raise UsageError(
            "closing needs a reason; none was given", hint=f'trilho incidents close {incident.id} --why "..."'
        )
    return IncidentClosed(model=model, incident=incident.id, reason=why.strip(), end="closed")


def person(text: str) -> str:
    """Give a name as it may stand in the journal: one line, at most 80 characters, no signs of markup.

    >>> person("  Ana <b>Lima</b> ")
    'Ana bLimab'
    """
    return " ".join(NAME.sub("", text).split())[:80]


def _is_open(incident: Incident, act: str) -> None:
    if incident.closed is not None:
        said = f"incident {incident.id} has ended ({incident.reason}): there is nothing to {act}"
        raise NotYet(said, hint=f"trilho incidents show {incident.id}")
