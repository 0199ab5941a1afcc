"""What follows alarms of drift: for each a test that confirms it, and one that says when what it was about has gone.

They live beside the detector, are kept with its memory, and give findings; `settle` turns findings into records. A
finding that is given again after a crash changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from trilho.core.projection import Incident, ModelState
from trilho.core.records import IncidentClosed, IncidentUpdated, Payload
from trilho.watch.confirmation import Confirmation, Resolution
from trilho.watch.reading import DriftKind, Reading
from trilho.watch.wording import say
from trilho_runtime.profile import PREDICTION

MOST = 32  # alarms followed at once; an older one of the same incident says no more
ALARM_KINDS: Mapping[DriftKind, str] = {"inputs": "drift", "predictions": "prediction", "quality": "quality"}


@dataclass(frozen=True)
class Finding:
    """What a test found of an alarm: it is confirmed, or what it was about has gone, by the end of a window."""

    alarm: str
    says: Literal["confirmed", "resolved"]
    features: tuple[str, ...]
    window_end: str


class Trials:
    """The tests that run on the windows after alarms."""

    def __init__(self) -> None:
        self._running: dict[str, tuple[Confirmation, Resolution]] = {}

    def begin(self, alarm: str, kind: DriftKind, reading: Reading) -> None:
        """Begin with the window after an alarm, given the reading that alarmed."""
        self._running[alarm] = Confirmation.after(reading, kind), Resolution.after(reading, kind)

    def update(self, reading: Reading, window_end: str) -> list[Finding]:
        """Take in a window that came after; give what it settles."""
        found: list[Finding] = []
        for alarm, (confirmation, resolution) in list(self._running.items()):
            was, features = confirmation.confirmed, tuple(resolution.grown)
            if confirmation.update(reading) and not was:
                found.append(Finding(alarm, "confirmed", features, window_end))
            if resolution.update(reading):
                found.append(Finding(alarm, "resolved", features, window_end))
                del self._running[alarm]
        return found

    def keep(self, state: ModelState) -> None:
        """Forget the alarms of incidents that have ended, and all but the newest ones of each open incident."""
        wanted: set[str] = set()
        for incident in state.open_incidents:
            followed = [x for x in incident.alarms if x in self._running]
            unsure = followed[:1] if incident.state == "suspected" else []  # the alarm that opened it
            wanted.update([*unsure, *followed[-1:]])
        fresh = [x for x in self._running if x not in state.alarms]
        kept = [x for x in self._running if x in wanted or x in fresh][-MOST:]
        self._running = {x: self._running[x] for x in kept}

    def state(self) -> dict[str, Any]:
        """Give what a restarted watcher goes on from, as JSON values."""
        return {name: [a.state(), b.state()] for name, (a, b) in self._running.items()}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Trials:
        """Go on from a state."""
        made = cls()
        made._running = {
            name: (Confirmation.restore(first), Resolution.restore(second)) for name, (first, second) in state.items()
        }
        return made


def settle(state: ModelState, findings: Iterable[Finding]) -> list[Payload]:
    """Confirm and resolve the open incidents that findings are about.

    What has gone must have gone for the newest alarm of the incident: an older one's test says nothing of what came
    after.
    """
    payloads: list[Payload] = []
    confirmed, closed = set[str](), set[str]()
    for finding in findings:
        incident = next((x for x in state.open_incidents if finding.alarm in x.alarms), None)
        if incident is None or incident.id in closed:
            continue
        if finding.says == "confirmed" and incident.state == "suspected" and incident.id not in confirmed:
            confirmed.add(incident.id)
            note = say("en", "note.confirmed")
            payloads.append(IncidentUpdated(model=state.name, incident=incident.id, change="confirmed", note=note))
        if finding.says == "resolved" and finding.alarm == incident.alarms[-1]:
            closed.add(incident.id)
            payloads.append(_resolved(state, incident, finding))
    return payloads


def _resolved(state: ModelState, incident: Incident, finding: Finding) -> IncidentClosed:
    names = ["the predictions" if x == PREDICTION else x for x in finding.features]
    told = " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
    verb = "is" if len(names) == 1 and names[0] != "the predictions" else "are"
    reason = f"{told} {verb} back to what training saw" if names else "what it was about has gone"
    return IncidentClosed(
        model=state.name, incident=incident.id, reason=reason, end="resolved", data_time=finding.window_end
    )
