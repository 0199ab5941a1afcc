"""When a cron schedule is due: five fields, and a time zone before them (`TZ=America/Sao_Paulo 0 3 * * 1`).

Minute, hour, day of the month, month (or JAN to DEC), day of the week (0 to 7, or SUN to SAT; 0 and 7 are Sunday), each
`*`, a number, a range, a list, or a step (`*/15`, `8-18/2`). Where both days are restricted either is enough, as in
every cron since 1987. A wall-clock time that a change of the clocks leaves out is not run; one that comes twice is run
once, unless every hour is asked for. Seconds, years and `@daily` are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
FIELDS = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, MONTHS),
    ("day of the week", 0, 7, DAYS),
)
ZONE = re.compile(r"(?:CRON_)?TZ=(\S+)\s+")
PART = re.compile(r"(\*|[A-Z]+|\d+)(?:-([A-Z]+|\d+))?(?:/(\d+))?", re.IGNORECASE)
FURTHEST = timedelta(days=366 * 9)  # from one 29 February to the next it may be eight years


@dataclass(frozen=True)
class Cron:
    """A schedule that was read.

    >>> monday = Cron.read("TZ=America/Sao_Paulo 0 3 * * 1")
    >>> monday.after(datetime(2026, 11, 24, tzinfo=UTC)).isoformat()
    '2026-11-30T06:00:00+00:00'
    """

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool
    zone: ZoneInfo

    @classmethod
    def read(cls, text: str) -> Cron:
        """Read a schedule. Raises ValueError that says which field is wrong, and when it is never due."""
        found = ZONE.match(text)
        zone = _zone(found[1]) if found else ZoneInfo("UTC")
        fields = (text[found.end() :] if found else text).split()
        if len(fields) != len(FIELDS):
            raise ValueError(f"expected 5 fields, received {len(fields)}")
        sets = [_read(field, *about) for field, about in zip(fields, FIELDS, strict=True)]
        weekdays = frozenset(day % 7 for day in sets[4])
        both = not fields[2].startswith("*") and not fields[4].startswith("*")
        cron = cls(sets[0], sets[1], sets[2], sets[3], weekdays, both, zone)
        cron.after(datetime(2024, 1, 1, tzinfo=UTC))
        return cron

    def after(self, moment: datetime) -> datetime:
        """Give when it is next due after a moment, in UTC. Raises ValueError when it never is."""
        day = moment.astimezone(self.zone).date()
        last = day + FURTHEST
        while day <= last:
            if self._on(day):
                due = [time for time in self._times(day) if time > moment]
                if due:
                    return min(due)
            day += timedelta(days=1)
        raise ValueError("it is never due")

    def _on(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        in_month, in_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return in_month or in_week if self.either_day else in_month and in_week

    def _times(self, day: date) -> Iterator[datetime]:
        folds = (0, 1) if len(self.hours) == 24 else (0,)
        for hour in self.hours:
            for minute in self.minutes:
                for fold in folds:
                    local = datetime(day.year, day.month, day.day, hour, minute, fold=fold, tzinfo=self.zone)
                    due = local.astimezone(UTC)
                    if due.astimezone(self.zone).replace(fold=0, tzinfo=None) == local.replace(fold=0, tzinfo=None):
                        yield due


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise ValueError(f"unknown time zone {name!r}; expected a name such as America/Sao_Paulo") from None


def _read(text: str, name: str, least: int, most: int, words: tuple[str, ...]) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        match = PART.fullmatch(part)
        if match is None:
            raise ValueError(f"the {name} is {part!r}; expected {least}-{most}, *, a range, a list or a step")
        start, end, step = match.groups()
        if start == "*" and end is not None:
            raise ValueError(f"the {name} is {part!r}; a range begins with a number")
        first = least if start == "*" else _number(start, name, least, most, words)
        whole = start == "*" or (step is not None and end is None)
        last = most if whole else _number(end or start, name, least, most, words)
        if last < first or step == "0":
            raise ValueError(f"the {name} is {part!r}, which is no moment")
        found.update(range(first, last + 1, int(step or 1)))
    return frozenset(found)


def _number(text: str, name: str, least: int, most: int, words: tuple[str, ...]) -> int:
    if text.upper() in words:
        return words.index(text.upper()) + (1 if words is MONTHS else 0)
    if not text.isdecimal() or not least <= int(text) <= most:
        allowed = f" or {words[0]}-{words[-1]}" if words else ""
        raise ValueError(f"the {name} is {text!r}; allowed are {least}-{most}{allowed}")
    return int(text)
