"""The promise about false alarms: written in time, kept in windows, shared by the kinds of alarms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from trilho.config.values import UNITS, parse_duration, parse_rate

if TYPE_CHECKING:
    from trilho.watch.reading import DriftKind

SHARES: Mapping[str, float] = {"inputs": 0.4, "predictions": 0.1, "quality": 0.1, "loss": 0.4}
DRIFT_KINDS: tuple[DriftKind, ...] = ("inputs", "predictions", "quality")
LEAST_RUN = 2.0  # windows; an alarm in every one is no alarm


@dataclass(frozen=True)
class Promise:
    """How often a whole model may alarm for nothing, and what that is in windows.

    `rate` are false alarms a second, `window` is in seconds. `shares` say which part of the total belongs to which kind
    of alarm; they are scaled to sum to 1, so that all of them together keep the promise.

    >>> promise = Promise.of("1 per year", "1 day")
    >>> round(promise.run_length), round(promise.run_length_of("inputs")), round(promise.drift_run_length)
    (365, 913, 609)
    """

    rate: float
    window: float
    shares: Mapping[str, float] = field(default_factory=lambda: dict(SHARES))

    @classmethod
    def of(
        cls, false_alarms: str | float, window: str | float | timedelta, shares: Mapping[str, float] | None = None
    ) -> Promise:
        """Read a promise such as "1 per year" for windows such as "1 day"; numbers are per second and seconds."""
        seconds = window if isinstance(window, (int, float)) else parse_duration(window).total_seconds()
        given = {**SHARES, **shares} if shares else dict(SHARES)
        total = sum(given.values())
        if total <= 0 or min(given.values()) < 0:
            raise ValueError(f"shares {given}: allowed are numbers from 0, not all of them 0")
        rate = false_alarms if isinstance(false_alarms, (int, float)) else parse_rate(false_alarms)
        return cls(float(rate), float(seconds), {kind: share / total for kind, share in given.items()})

    @property
    def run_length(self) -> float:
        """Give the windows that all of the model's false alarms lie apart, at least, on average."""
        return max(1 / (self.rate * self.window), LEAST_RUN)

    @property
    def kept(self) -> bool:
        """Say whether so many false alarms are fewer than windows, as a promise needs."""
        return 1 / (self.rate * self.window) >= LEAST_RUN

    def run_length_of(self, kind: str) -> float:
        """Give the windows that one kind's false alarms lie apart."""
        share = self.shares.get(kind, 0.0)
        return self.run_length / share if share > 0 else float("inf")

    def rate_of(self, kind: str) -> float:
        """Give one kind's false alarms a second."""
        return self.rate * self.shares.get(kind, 0.0)

    @property
    def weights(self) -> dict[DriftKind, float]:
        """Give the drift detector's kinds with their shares."""
        return {kind: self.shares[kind] for kind in DRIFT_KINDS if kind in self.shares}

    @property
    def drift_run_length(self) -> float:
        """Give the windows that false alarms of drift, of whatever kind, lie apart: the drift detector's A."""
        drift = sum(self.weights.values())
        return self.run_length / drift if drift > 0 else float("inf")

    def __str__(self) -> str:
        """Say both: time, and windows.

        >>> print(Promise.of("2 per month", "1 hour", {"loss": 0, "predictions": 0}))
        at most 2 false alarms a month: 1 in 365 windows of 1 hour (inputs 1 in 457, quality 1 in 1,826)
        """
        parts = [f"{kind} 1 in {self.run_length_of(kind):,.0f}" for kind, share in self.shares.items() if share > 0]
        text = f"at most {_rate(self.rate)}: 1 in {self.run_length:,.0f} windows of {_span(self.window)}"
        return f"{text} ({', '.join(parts)})"


def _rate(rate: float) -> str:
    unit = next((u for u in ("day", "week", "month", "year") if rate * UNITS[u] >= 0.999), "year")
    number = rate * UNITS[unit]
    return f"{number:.3g} false alarm{'s' * (round(number, 3) != 1)} a {unit}"


def _span(seconds: float) -> str:
    unit = next((u for u in ("week", "day", "hour", "minute") if seconds % UNITS[u] == 0), None)
    if unit is None:
        return f"{seconds:g} seconds"
    number = seconds / UNITS[unit]
    return f"{number:g} {unit}{'s' * (number != 1)}"
