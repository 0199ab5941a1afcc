"""Numbers, times and names as people read them; the same on the console, the command line and the report."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

METRICS = {
    "mae": "MAE",
    "rmse": "RMSE",
    "roc_auc": "AUC",
    "brier": "Brier score",
    "log_loss": "log loss",
    "accuracy": "accuracy",
}
READ = re.compile(r"inputs\.parameter_values\['(?:pipelinechannel--)?([^']+)'\]")  # how a condition names a value
NOT_MEASURED = "not measured"
DURATIONS = ((86400 * 365.25, "year"), (86400, "day"), (3600, "h"), (60, "min"))


def metric_name(metric: str) -> str:
    """Give a metric's name as people write it.

    >>> metric_name("roc_auc")
    'AUC'
    """
    return METRICS.get(metric, metric)


def reason(text: str) -> str:
    """Give why a task ended as it did, with a condition's values by their names alone.

    >>> reason("its condition is false: inputs.parameter_values['pipelinechannel--stats-mean'] > 10.0")
    'its condition is false: stats-mean > 10.0'
    """
    return READ.sub(r"\1", text)


def number(value: float | None) -> str:
    """Give three significant digits, thousands set apart, and a true minus sign.

    >>> [number(x) for x in (94.8369, 0.71432, 12345.6, -0.05, 0.0, None)]
    ['94.8', '0.714', '12,346', '−0.050', '0', 'not measured']
    """
    if value is None:
        return NOT_MEASURED
    size = abs(value)
    if size == 0:
        return "0"
    if size >= 1e15 or size < 5e-4:
        text = f"{value:.2g}"
    elif size < 10:
        text = f"{value:.{3 if size < 1 else 2}f}"
    else:
        text = f"{value:,.{1 if size < 100 else 0}f}"
    return text.replace("-", "−")


def count(value: int, noun: str, plural: str | None = None) -> str:
    """Give a count with its noun.

    >>> count(1, "window"), count(1200, "row"), count(2, "retry", "retries")
    ('1 window', '1,200 rows', '2 retries')
    """
    return f"{value:,} {noun if value == 1 else plural or noun + 's'}"


def percent(part: float, whole: float) -> str:
    """Give a share in percent; less than all is never rounded up to all.

    >>> percent(1, 3), percent(999, 1000), percent(0, 5), percent(0, 0)
    ('33%', '99.9%', '0%', 'not measured')
    """
    if whole <= 0:
        return NOT_MEASURED
    share = 100 * part / whole
    return f"{share:.1f}%" if share and (share < 1 or 99 <= share < 100) else f"{share:.0f}%"


def duration(seconds: float | None) -> str:
    """Give a length of time in the unit that fits it.

    >>> [duration(s) for s in (0.04, 3.26, 48, 90, 5400, 200000, None)]
    ['0.04 s', '3.3 s', '48 s', '1.5 min', '1.5 h', '2.3 days', 'not measured']
    """
    if seconds is None:
        return NOT_MEASURED
    for size, unit in DURATIONS:
        if seconds >= size:
            text = f"{seconds / size:.1f}".removesuffix(".0")
            return f"{text} {unit}{'s' if unit in ('day', 'year') and text != '1' else ''}"
    if seconds < 0.1:
        return f"{seconds:.2f} s"
    return f"{seconds:.1f}".removesuffix(".0") + " s" if seconds < 10 else f"{seconds:.0f} s"


@lru_cache(maxsize=8192)
def parse(time: str) -> datetime:
    """Read an ISO 8601 time; one without a zone is UTC.

    >>> parse("2012-06-18T00:00:00").isoformat()
    '2012-06-18T00:00:00+00:00'
    """
    moment = datetime.fromisoformat(time)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def since(earlier: str, later: str) -> float:
    """Give the seconds from one time to another."""
    return (parse(later) - parse(earlier)).total_seconds()


def moment(time: str | None, zone: str = "UTC") -> str:
    """Give a time of the journal to the second, in a zone.

    >>> moment("2026-03-01T12:30:05.123456+00:00")
    '1 Mar 2026 12:30:05'
    """
    if time is None:
        return NOT_MEASURED
    local = parse(time).astimezone(ZoneInfo(zone))
    return f"{local.day} {local:%b %Y %H:%M:%S}"


def served(time: str | None) -> str:
    """Give a moment of what was served, in the data's own clock; midnight is the day.

    >>> served("2012-06-18T00:00:00"), served("2012-06-18T23:00:00")
    ('18 Jun 2012', '18 Jun 2012 23:00')
    """
    if time is None:
        return NOT_MEASURED
    at = parse(time)
    return f"{at.day} {at:%b %Y %H:%M}".removesuffix(" 00:00")


@lru_cache(maxsize=8192)
def window(start: str, end: str) -> str:
    """Name a window of served time, its end not included.

    >>> window("2012-06-18T00:00:00", "2012-06-25T00:00:00"), window("2012-06-18T00:00:00", "2012-06-19T00:00:00")
    ('18–24 Jun 2012', '18 Jun 2012')
    >>> window("2012-06-18T13:00:00", "2012-06-18T14:00:00"), window("2012-06-28T00:00:00", "2012-07-05T00:00:00")
    ('18 Jun 2012 13:00–14:00', '28 Jun–4 Jul 2012')
    """
    first, stop = parse(start), parse(end)
    if (stop - first).seconds or first.hour or first.minute:
        tail = f"{stop:%H:%M}" if stop.date() == first.date() else f"{stop.day} {stop:%b %H:%M}"
        return f"{first.day} {first:%b %Y %H:%M}–{tail}"
    last = stop - timedelta(days=1)
    if last == first:
        return f"{first.day} {first:%b %Y}"
    if (last.year, last.month) == (first.year, first.month):
        return f"{first.day}–{last.day} {last:%b %Y}"
    head = f"{first.day} {first:%b}" if last.year == first.year else f"{first.day} {first:%b %Y}"
    return f"{head}–{last.day} {last:%b %Y}"


def spoken(items: list[str]) -> str:
    """Join items as in a sentence.

    >>> spoken(["temp", "dewp", "humid"])
    'temp, dewp and humid'
    """
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""
