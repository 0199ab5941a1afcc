"""How bad an incident is: by what it does to the metric, or else by how far its cause is beyond what is allowed."""

from __future__ import annotations

from collections.abc import Sequence

from trilho.core.metrics import HIGHER_IS_BETTER
from trilho.core.readings import Reading
from trilho.core.records import AlarmRaised, Effect, Severity
from trilho.watch.incidents.terms import Terms

ORDER: tuple[Severity, ...] = ("low", "medium", "high")
BY_DISTANCE = (2.0, 4.0)  # tolerances
BY_LOSS = (1.25, 2.0)  # times the loss that is allowed
BY_HARM = (0.5, 1.0)  # of the way from what was expected to the minimum


def severity(alarm: AlarmRaised, terms: Terms | None = None, effect: Effect | None = None) -> Severity:
    """Grade an alarm.

    By harm where the effect on the metric is known: half of the way from what was expected to the minimum is medium,
    all of it high. Else by the first cause: drift of twice its tolerance is medium, of four times high; of a loss 1.25
    and 2 times the allowed one.
    """
    known = effect or alarm.effect
    share = None if known is None or terms is None else harm(known, terms)
    if share is not None:
        return _grade(share, BY_HARM)
    if not alarm.causes:
        return "low"
    first = alarm.causes[0]
    ratio = first["distance"] / max(first["tolerance"], 1e-9)
    return _grade(ratio, BY_LOSS if alarm.kind == "performance" else BY_DISTANCE)


def harm(effect: Effect, terms: Terms) -> float | None:
    """Give an effect as a share of the way from what was expected to the minimum; None without a minimum.

    >>> harm({"metric": "mae", "change": 10.0, "expected": 40.0, "source": "measured"}, Terms(minimum=60.0))
    0.5
    """
    floor = terms.minimum
    if floor is None:
        return None
    better = effect["metric"] in HIGHER_IS_BETTER
    room = effect["expected"] - floor if better else floor - effect["expected"]
    return max(effect["change"], 0.0) / room if room > 0 else float("inf") if effect["change"] > 0 else 0.0


def measured_effect(alarm: AlarmRaised, readings: Sequence[Reading]) -> Effect | None:
    """Give how much worse than expected the metric was over an alarm's window, where labels have come."""
    over = (x for x in readings if x.window_start == alarm.window_start and x.version == alarm.version)
    reading = next((x for x in over if x.value is not None and x.expected is not None and x.labelled), None)
    if reading is None or reading.value is None or reading.expected is None:
        return None
    sign = -1.0 if reading.metric in HIGHER_IS_BETTER else 1.0
    change = sign * (reading.value - reading.expected)
    found = Effect(metric=reading.metric, change=change, expected=reading.expected, source="measured")
    if reading.low is not None and reading.high is not None:
        ends = sorted(sign * (x - reading.expected) for x in (reading.low, reading.high))
        found["low"], found["high"] = ends[0], ends[1]
    return found


def is_worse(new: str, old: str) -> bool:
    """Say whether one grade is above another."""
    return ORDER.index(_known(new)) > ORDER.index(_known(old))


def _known(grade: str) -> Severity:
    return next((x for x in ORDER if x == grade), "low")


def _grade(value: float, steps: tuple[float, float]) -> Severity:
    return "high" if value >= steps[1] else "medium" if value >= steps[0] else "low"
