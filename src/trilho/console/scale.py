"""Axes: round values for numbers, magnitudes and times, and where they lie."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

HOUR, DAY = 3600.0, 86400.0
MONTH = 30.44 * DAY
STEPS = (HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 14 * DAY)
MONTH_STEPS = (1, 2, 3, 6, 12, 24, 60, 120)


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis; `minor` ones give way where there is little room."""

    at: float
    label: str
    minor: bool = False


@dataclass(frozen=True)
class Scale:
    """A linear map from values to pixels (or percent); values outside are clipped."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Give the place of a value."""
        if self.high <= self.low:
            return (self.start + self.end) / 2
        part = min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)
        return round(self.start + part * (self.end - self.start), 2)


def rounded(low: float, high: float, ticks: int = 4) -> tuple[float, float, list[float]]:
    """Widen a range to round ends and give the round values in it.

    >>> rounded(0, 94.8)
    (0.0, 100.0, [0.0, 25.0, 50.0, 75.0, 100.0])
    """
    span = (high - low) or abs(high) or 1.0
    power = 10 ** math.floor(math.log10(span / ticks))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if span / (m * power) <= ticks + 1e-9)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    values = [round(i * step, 12) for i in range(first, max(last, first + 1) + 1)]
    return values[0], values[-1], values


def value_ticks(values: Sequence[float]) -> list[Tick]:
    """Label values alike: as many digits as their step needs.

    >>> [tick.label for tick in value_ticks([0.65, 0.675, 0.7])]
    ['0.650', '0.675', '0.700']
    """
    step = values[1] - values[0] if len(values) > 1 else abs(values[0]) or 1.0
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    if digits < 4 and any(abs(round(v, digits) - v) > step / 100 for v in values):
        digits += 1
    return [Tick(v, f"{v:,.{digits}f}".replace("-", "−")) for v in values]


def magnitude_ticks(low: int, high: int, most: int = 5) -> list[Tick]:
    """Label powers of ten from 10**low to 10**high, at most so many.

    >>> [tick.label for tick in magnitude_ticks(0, 4)]
    ['1', '10', '100', '1,000', '10⁴']
    """
    step = max(1, math.ceil((high - low) / (most - 1)))
    return [Tick(power, _power(power)) for power in range(low, high + 1, step)]


def _power(power: int) -> str:
    if 0 <= power <= 3:
        return f"{10**power:,}"
    return "10" + str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def time_ticks(start: float, end: float, most: int = 9) -> list[Tick]:
    """Label round times between two moments (seconds since 1970, UTC); the rarer half is for narrow screens.

    >>> [tick.label for tick in time_ticks(1325376000, 1420070400)]
    ['2012', 'Jul', '2013', 'Jul', '2014', 'Jul', '2015']
    """
    span = end - start
    step = next((s for s in STEPS if span / s <= most), None)
    moments = list(_every(start, end, step) if step else _months(start, end, most))
    stride = max(1, math.ceil(len(moments) / 4))
    keep = _offset(moments, stride)
    return [Tick(m.timestamp(), _label(m, step, i), (i - keep) % stride != 0) for i, m in enumerate(moments)]


def _offset(moments: Sequence[datetime], stride: int) -> int:
    """Prefer ticks at the turn of a year where some have to go."""
    return next((i % stride for i, m in enumerate(moments) if (m.month, m.day, m.hour) == (1, 1, 0)), 0)


def _every(start: float, end: float, step: float) -> Iterator[datetime]:
    first = math.ceil(start / step) * step
    if step >= 7 * DAY:  # weeks begin on Mondays; the epoch was a Thursday
        first = math.ceil((start - 4 * DAY) / step) * step + 4 * DAY
    while first <= end:
        yield datetime.fromtimestamp(first, UTC)
        first += step


def _months(start: float, end: float, most: int) -> Iterator[datetime]:
    months = next((m for m in MONTH_STEPS if (end - start) / (m * MONTH) <= most), MONTH_STEPS[-1])
    first = datetime.fromtimestamp(start, UTC)
    index = math.ceil((first.year * 12 + first.month - 1 + (first.day > 1)) / months) * months
    while True:
        moment = datetime(index // 12, index % 12 + 1, 1, tzinfo=UTC)
        if moment.timestamp() > end:
            return
        yield moment
        index += months


def _label(moment: datetime, step: float | None, index: int) -> str:
    if step is not None and step < DAY and (moment.hour or index):
        return f"{moment:%H:%M}" if moment.hour else f"{moment.day} {moment:%b}"
    if step is not None:
        return f"{moment.day} {moment:%b}"
    return f"{moment:%Y}" if moment.month == 1 else f"{moment:%b}"
