"""A model's readings laid out on one time axis, with the events that all charts mark: releases and alarms.

The axis is the time of what was served. Releases are where the measured version changes, so that they lie right
even when history is replayed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from trilho.console.scale import Scale, Tick, time_ticks
from trilho.core.projection import ModelState
from trilho.core.readings import Reading
from trilho.govern.wording import parse, window

NEAR = 0.9  # percent: marks closer than this would lie on each other
NEWEST = 600  # more windows than a screen has room for are left to the table's file


@dataclass(frozen=True)
class Stretch:
    """A part of the axis, in percent, and the version it was measured for."""

    version: int
    start: float
    end: float


@dataclass(frozen=True)
class Mark:
    """An event on the axis, in percent."""

    kind: str
    at: float
    text: str
    until: float | None = None  # where the last of several lies
    number: int = 1


@dataclass(frozen=True)
class Point:
    """A reading and where it lies, in percent."""

    reading: Reading
    start: float
    end: float

    @property
    def middle(self) -> float:
        """Give the middle of the window."""
        return round((self.start + self.end) / 2, 2)

    @property
    def labelled(self) -> bool:
        """Say whether the metric was measured, which needs labels."""
        return self.reading.value is not None and self.reading.labelled > 0


@dataclass(frozen=True)
class History:
    """The newest readings on their axis."""

    points: list[Point]
    ticks: list[Tick]
    stretches: list[Stretch]
    alarms: list[Mark]
    left_out: int = 0
    metric: str = ""
    span: str = ""
    gap: float = field(default=0.0)  # percent; windows further apart are not joined by a line

    def runs(self, *, labelled: bool) -> Iterator[list[Point]]:
        """Give the stretches of neighbouring windows that are, or are not, labelled."""
        for is_labelled, group in groupby(self.points, key=lambda p: p.labelled):
            members = list(group)
            if is_labelled == labelled:
                yield from _neighbours(members, self.gap) if labelled else [members]


def history(model: ModelState, readings: Sequence[Reading], newest: int = NEWEST) -> History | None:
    """Lay out readings; None when there are none."""
    shown = list(readings[-newest:])
    if not shown:
        return None
    start, end = _seconds(shown[0].window_start), max(_seconds(x.window_end) for x in shown[-2:])
    x = Scale(start, end, 0, 100)
    points = [Point(r, x(_seconds(r.window_start)), x(_seconds(r.window_end))) for r in shown]
    ticks = [Tick(x(t.at), t.label, t.minor) for t in time_ticks(start, end)]
    return History(
        points=points,
        ticks=ticks,
        stretches=_stretches(points),
        alarms=list(_alarms(model, x)),
        left_out=len(readings) - len(shown),
        metric=shown[-1].metric,
        span=window(shown[0].window_start, shown[-1].window_end),
        gap=2.5 * max(points[0].end - points[0].start, 0.01),
    )


def _seconds(time: str) -> float:
    return parse(time).timestamp()


def _neighbours(points: Sequence[Point], gap: float) -> Iterator[list[Point]]:
    run: list[Point] = []
    for point in points:
        if run and point.start - run[-1].start > gap:
            yield run
            run = []
        run.append(point)
    yield run


def _stretches(points: Sequence[Point]) -> list[Stretch]:
    starts = [(v, next(group).start) for v, group in groupby(points, key=lambda p: p.reading.version)]
    ends = [start for _, start in starts[1:]] + [100.0]
    return [Stretch(version, start, end) for (version, start), end in zip(starts, ends, strict=True)]


def _alarms(model: ModelState, x: Scale) -> Iterator[Mark]:
    """Mark where each incident's alarms begin and how far they reach, not each of them; neighbours are one mark."""
    of = {alarm: incident.id for incident in model.incidents.values() for alarm in incident.alarms}
    groups: dict[str, list[Mark]] = {}
    for alarm in model.alarms.values():
        at = _seconds(alarm.window_end)
        if x.low <= at <= x.high:
            text = f"{window(alarm.window_start, alarm.window_end)}: {alarm.summary}"
            groups.setdefault(of.get(alarm.alarm, alarm.alarm), []).append(Mark(alarm.kind, x(at), text))
    latest: dict[str, Mark] = {}
    for mark in sorted(map(_folded, groups.values()), key=lambda m: m.at):
        before = latest.get(mark.kind)
        if before is not None and mark.at - (before.until or before.at) < NEAR:
            latest[mark.kind] = _joined(before, mark)
            continue
        if before is not None:
            yield before
        latest[mark.kind] = mark
    yield from latest.values()


def _folded(marks: Sequence[Mark]) -> Mark:
    whole = marks[0]
    for mark in marks[1:]:
        whole = _joined(whole, mark)
    return whole


def _joined(first: Mark, last: Mark) -> Mark:
    number, reach = first.number + last.number, max(last.until or last.at, first.until or first.at)
    text = first.text if first.number == 1 else first.text.rpartition("; ")[0]
    return Mark(first.kind, first.at, f"{text}; {number} alarms in all", reach, number)
