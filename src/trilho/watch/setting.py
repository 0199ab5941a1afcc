"""A setting of the watcher as a team writes it: a promise, a tolerance and a window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from trilho.config.values import UNITS, parse_duration, parse_rate
from trilho.errors import UsageError


@dataclass(frozen=True)
class Setting:
    """What a team sets: a promise (false alarms a second), the tolerance, and the seconds of a window."""

    false_alarms: float
    tolerance: float | Literal["auto"] = "auto"
    window: float = UNITS["day"]

    def to_json(self) -> dict[str, Any]:
        """Give it as it is written in trilho.toml."""
        return {"false_alarms": rate_words(self.false_alarms), "tolerance": self.tolerance,
                "window": span_words(self.window)}  # fmt: skip


def read_rate(text: str) -> float:
    """Read a wanted number of alarms, such as "1 per quarter", as a number a second.

    >>> round(read_rate("1 per quarter") * UNITS["year"], 3)
    4.0
    """
    number, _, unit = text.strip().partition(" per ")
    try:
        if unit == "quarter":
            return 4 * float(number) / UNITS["year"]
        return parse_rate(text)
    except ValueError:
        raise UsageError(
            f'a rate {text!r}; allowed: such as "1 per quarter" or "2 per year" (day, week, month, quarter, year)',
            hint='write it as "1 per year"',
        ) from None


def rate_words(rate: float) -> str:
    """Write a rate as trilho.toml has it.

    >>> rate_words(4 / UNITS["year"]), rate_words(0.2 / UNITS["year"])
    ('4 per year', '0.2 per year')
    """
    for unit in ("year", "month", "week", "day"):
        number = rate * UNITS[unit]
        if number < 11.5 or unit == "day":
            return f"{round(number, 3):g} per {unit}"
    return ""


def span_words(seconds: float) -> str:
    """Write a duration as trilho.toml has it.

    >>> span_words(86400), span_words(7200)
    ('1 day', '2 hours')
    """
    unit = next((u for u in ("week", "day", "hour", "minute") if seconds % UNITS[u] == 0), "second")
    number = seconds / UNITS.get(unit, 1.0)
    return f"{number:g} {unit}{'s' * (number != 1)}"


def iso(seconds: float) -> str:
    """Give a moment as ISO 8601, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def settings_of(values: Mapping[str, Any]) -> Setting:
    """Read a setting from texts as they are typed. Raises UsageError."""
    tolerance: float | Literal["auto"] = "auto"
    if values["tolerance"] != "auto":
        try:
            tolerance = float(values["tolerance"])
        except ValueError:
            tolerance = -1.0
        if not 0 <= tolerance < 1:
            said = f"a tolerance {values['tolerance']!r}; allowed: auto, or a number from 0 to below 1"
            raise UsageError(said, hint="--tolerance auto")
    try:
        window = parse_duration(values["window"]).total_seconds()
    except ValueError as error:
        raise UsageError(f"a window {values['window']!r}; allowed: {error}", hint='--window "1 day"') from None
    return Setting(read_rate(values["false_alarms"]), tolerance, window)
