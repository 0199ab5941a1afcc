"""Windows of event time: window k covers [k w, (k + 1) w) seconds since 1970 UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def moment(seconds: float) -> datetime:
    """Give a time in seconds since 1970 as a datetime in UTC, also one before 1970.

    The window of a row of the year 1 begins before there are datetimes; a caller's clock must not stop the watcher.

    >>> moment(-7e10) == FIRST, moment(3e11) == LAST
    (True, True)
    """
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    except OverflowError:
        return FIRST if seconds < 0 else LAST


def iso(seconds: float) -> str:
    """Give a time in seconds since 1970 as ISO 8601.

    >>> iso(86400)
    '1970-01-02T00:00:00+00:00'
    """
    return moment(seconds).isoformat()


def words(start: str, end: str) -> str:
    """Say a window as a person would; `end` is not part of it.

    >>> words("2012-06-18T00:00:00+00:00", "2012-06-25T00:00:00+00:00")
    '18 to 24 Jun 2012'
    >>> words("2012-06-18T00:00:00+00:00", "2012-06-19T00:00:00+00:00")
    '18 Jun 2012'
    >>> words("2012-06-18T14:00:00+00:00", "2012-06-18T15:00:00+00:00")
    '18 Jun 2012, 14:00 to 15:00'
    """
    first, after = datetime.fromisoformat(start), datetime.fromisoformat(end)
    if after - first < timedelta(days=1):
        return f"{_day(first)}, {first:%H:%M} to {after:%H:%M}"
    last = after - timedelta(microseconds=1)
    if first.date() == last.date():
        return _day(first)
    if (first.year, first.month) == (last.year, last.month):
        return f"{first.day} to {_day(last)}"
    return f"{first.day} {first:%b} to {_day(last)}" if first.year == last.year else f"{_day(first)} to {_day(last)}"


def _day(day: datetime) -> str:
    return f"{day.day} {day:%b %Y}"
