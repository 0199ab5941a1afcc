"""Many alerts at once as one message: a storm must not bury the channel, nor what is in it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from trilho.watch.alerts.message import GRADES, Message
from trilho.watch.wording import say


def digest(messages: Sequence[Message], channel: str) -> Message:
    """Put messages into one, the most severe first; it names every incident."""
    first = messages[0]
    ordered = sorted(messages, key=lambda m: GRADES.index(m.grade) if m.grade in GRADES else len(GRADES))
    worst = ordered[0].grade if ordered[0].grade in GRADES else "low"
    severity = say(first.language, f"severity.{worst}")
    name = hashlib.sha256("\n".join(m.alert for m in messages).encode()).hexdigest()[:12]
    console = first.link.partition("/incidents/")[0].partition("/models/")[0]
    return Message(
        alert=f"digest-{name}:{channel}",
        incident=f"digest-{name}",
        model=first.model if len({m.model for m in messages}) == 1 else "",
        stage="digest",
        grade=worst,
        headline=say(first.language, "headline.digest", count=len(messages), severity=severity),
        facts=tuple((m.incident, m.headline) for m in ordered),
        time=max(m.time for m in messages),
        link=console,
        language=first.language,
        members=tuple(m.alert for m in messages),
    )
