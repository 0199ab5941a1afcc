"""Charts as SVG text: sizes in pixels upwards, in percent along time, so that text keeps its size on any screen.

A chart never carries meaning by colour alone: alarms have shapes, limits have labels, unlabelled stretches are
hatched, and every chart says in words what it shows; the numbers stand in a table behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from trilho.console.history import History, Mark, Point
from trilho.console.scale import Scale, Tick, magnitude_ticks, rounded, value_ticks
from trilho.core.metrics import HIGHER_IS_BETTER
from trilho.core.readings import Reading
from trilho.govern.wording import count, metric_name, number
from trilho.watch.incidents.words import evidence_words

GLYPHS = {
    "drift": "M0-5.5 5.5 0 0 5.5-5.5 0Z",
    "performance": "M0-5.5 5.5 4.5-5.5 4.5Z",
    "prediction": "M0-5.2A5.2 5.2 0 1 1 0 5.2 5.2 5.2 0 1 1 0-5.2Z",
    "quality": "M-4.5-4.5h9v9h-9Z",
}
RELEASES, ALARMS = 17, 17  # heights of the lanes above a chart


@dataclass(frozen=True)
class Chart:
    """A drawn chart: its value axis, its plot, what it shows in words, and the signs that need a legend."""

    axis: Markup
    plot: Markup
    title: str
    words: str
    signs: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Frame:
    """The parts all charts share: lanes above, value axis left, time axis below."""

    past: History
    y: Scale
    ticks: Sequence[Tick]
    top: int
    bottom: int
    times: bool

    @property
    def height(self) -> int:
        return self.bottom + (20 if self.times else 4)

    def axis(self) -> Markup:
        labels = "".join(f'<text x="42" y="{self.y(t.at) + 4:g}">{escape(t.label)}</text>' for t in self.ticks)
        return Markup(f'<svg class="axis" width="46" height="{self.height}" aria-hidden="true">{labels}</svg>')  # noqa: S704

    def plot(self, marks: str, name: str, title: str, words: str) -> Markup:
        grid = "".join(
            f'<line class="grid" x1="0" x2="100%" y1="{self.y(t.at):g}" y2="{self.y(t.at):g}"/>' for t in self.ticks
        )
        body = f"{grid}{self._times()}{self._stretches()}{marks}{self._alarms()}"
        return Markup(  # noqa: S704  every text in it is escaped above
            f'<svg class="plot" width="100%" height="{self.height}" role="img" aria-labelledby="{name}-t {name}-d">'
            f'<title id="{name}-t">{escape(title)}</title><desc id="{name}-d">{escape(words)}</desc>{body}</svg>'
        )

    def _times(self) -> str:
        if not self.times:
            return ""
        return "".join(
            f'<g class="{"minor" if t.minor else "major"}"><line class="tick" x1="{t.at}%" x2="{t.at}%" '
            f'y1="{self.bottom}" y2="{self.bottom + 4}"/><text class="time" x="{t.at}%" y="{self.bottom + 16}"'
            f"{_anchor(t.at)}>{escape(t.label)}</text></g>"
            for t in self.past.ticks
        )

    def _stretches(self) -> str:
        parts = []
        for i, stretch in enumerate(self.past.stretches):
            width = round(stretch.end - stretch.start, 2)
            if self.top:
                parts.append(
                    f'<rect class="band b{i % 2}" x="{stretch.start}%" width="{width}%" y="0" height="{RELEASES - 3}"/>'
                )
                if width > 2.6:
                    minor = ' class="minor"' if width < 9 else ""
                    text = f"v{stretch.version}"
                    parts.append(
                        f'<g{minor}><text class="version" x="{stretch.start}%" dx="4" y="11">{text}</text></g>'
                    )
            if i:
                x = f'x1="{stretch.start}%" x2="{stretch.start}%"'
                parts.append(f'<line class="release" {x} y1="0" y2="{self.bottom}"/>')
        return "".join(parts)

    def _alarms(self) -> str:
        if not self.top:
            return "".join(_hair(mark, 0, self.bottom) for mark in self.past.alarms)
        lane = RELEASES + 6
        glyphs = [_reach(m, lane) + _hair(m, lane + 5, self.bottom) + _glyph(m, lane) for m in self.past.alarms]
        return "".join(glyphs)


def metric_chart(past: History, *, name: str, height: int = 190, floor: tuple[float, str] | None = None) -> Chart:
    """Draw the measured metric with its interval, what was expected, and where nothing is known.

    `floor` is a value that it must not cross, and what that is called.
    """
    points = [p for p in past.points if p.labelled]
    low, high, values = _metric_range(points, past, () if floor is None else floor[:1])
    frame = _frame(past, low, high, values, height, lanes=True)
    words = _metric_words(past, points)
    title = f"{metric_name(past.metric)} of what was served, {past.span}"
    marks = [_unknown(past, frame.top, frame.bottom)]
    lines = [_interval(run, frame.y) for run in past.runs(labelled=True)]
    lines += [_expected(past, frame.y)]
    lines += [
        _line([(p.middle, frame.y(p.reading.value or 0)) for p in run], "line") for run in past.runs(labelled=True)
    ]
    marks.append(_stretched("".join(lines), frame.bottom))
    if len(points) <= 45:
        marks += [
            f'<circle class="dot" cx="{p.middle}%" cy="{frame.y(p.reading.value or 0):g}" r="2.6"/>' for p in points
        ]
    if floor is not None:
        at = frame.y(floor[0])
        marks.append(f'<line class="limit" x1="0" x2="100%" y1="{at:g}" y2="{at:g}"/>')
        marks.append(f'<text class="limit-label" x="100%" y="{at - 5:g}" text-anchor="end">{escape(floor[1])}</text>')
    signs = ["measured", "interval"] if points else []
    signs += ["expected"] if any(p.reading.expected is not None for p in past.points) else []
    signs += ["unlabelled"] if len(points) < len(past.points) else []
    return Chart(frame.axis(), frame.plot("".join(marks), name, title, words), title, words, (*signs, *_signs(past)))


def evidence_chart(past: History, *, name: str, height: int = 120) -> Chart:
    """Draw the drift detector's evidence, by magnitude, against the threshold at which it alarms."""
    import math

    threshold = past.points[-1].reading.threshold
    top = max(1, math.ceil(math.log10(max(threshold, 10)) + 0.3))
    y = Scale(0, top, 0, 1)  # only to clip
    frame = _frame(
        past, 0, top, [t.at for t in magnitude_ticks(0, top)], height, lanes=False, labels=magnitude_ticks(0, top)
    )
    values = [(p.middle, y(math.log10(max(p.reading.evidence, 1))) * top) for p in past.points]
    lines = "".join(_line([(x, frame.y(v)) for x, v in part], "line evidence") for part in _joined(values, past.gap))
    at = frame.y(math.log10(max(threshold, 1)))
    limit = f'<line class="limit" x1="0" x2="100%" y1="{at:g}" y2="{at:g}"/>'
    limit += f'<text class="limit-label" x="100%" y="{at - 5:g}" text-anchor="end">alarms at {number(threshold)}</text>'
    title = f"Evidence of drift, {past.span}"
    words = (
        f"The detector alarms at {number(threshold)}; the newest window stands at "
        f"{evidence_words(past.points[-1].reading.evidence)}. {_events(past)}"
    )
    return Chart(frame.axis(), frame.plot(_stretched(lines, frame.bottom) + limit, name, title, words), title, words)


def rows_chart(past: History, *, name: str, height: int = 70) -> Chart:
    """Draw how many rows were served in each window, and how many of them are labelled."""
    most = max(p.reading.rows for p in past.points) or 1
    low, high, values = rounded(0, most, 2)
    frame = _frame(past, low, high, values, height, lanes=False)
    all_, known = [], []
    for p in past.points:
        all_.append(_bar(p, frame.y(p.reading.rows), frame.bottom))
        known.append(_bar(p, frame.y(min(p.reading.labelled, p.reading.rows)), frame.bottom))
    body = f'<path class="bars" d="{"".join(all_)}"/><path class="bars known" d="{"".join(known)}"/>'
    total, labelled = sum(p.reading.rows for p in past.points), sum(p.reading.labelled for p in past.points)
    title = f"Rows served per window, {past.span}"
    words = f"{count(total, 'row')} served, {labelled:,} of them labelled; at most {count(most, 'row')} in a window."
    return Chart(
        frame.axis(),
        frame.plot(_stretched(body, frame.bottom), name, title, words),
        title,
        words,
        ("labelled rows", "unlabelled rows"),
    )


def _frame(
    past: History,
    low: float,
    high: float,
    values: Sequence[float],
    height: int,
    *,
    lanes: bool,
    labels: Sequence[Tick] | None = None,
) -> _Frame:
    top = RELEASES + ALARMS if lanes else 0
    y = Scale(low, high, top + height, top + 8)
    return _Frame(past, y, labels or value_ticks(values), top, top + height, times=True)


def _metric_range(
    points: Sequence[Point], past: History, more: Sequence[float] = ()
) -> tuple[float, float, list[float]]:
    readings = [p.reading for p in points]
    values = [x.value for x in readings if x.value is not None] + list(more)
    values += [x.reading.expected for x in past.points if x.reading.expected is not None]
    bounds = [b for x in readings for b in (x.low, x.high) if b is not None]
    if not values:
        return rounded(0, 1, 4)
    if past.metric in HIGHER_IS_BETTER:
        low = min([*values, *_inner(bounds, values)])
        return rounded(low, max([*values, *_inner(bounds, values)]), 4)
    return rounded(0, max([*values, *_inner(bounds, values)]), 4)


def _inner(bounds: Iterable[float], values: Sequence[float]) -> list[float]:
    """Leave out interval ends so far away that the line itself would be flattened; the plot clips them."""
    low, high = min(values), max(values)
    room = 0.5 * ((high - low) or abs(high) or 1)
    return [min(max(b, low - room), high + room) for b in bounds]


def _metric_words(past: History, points: Sequence[Point]) -> str:
    if not points:
        return (
            f"No labels have come for these {count(len(past.points), 'window')}: quality is not known. {_events(past)}"
        )
    values = [p.reading.value for p in points if p.reading.value is not None]
    newest = points[-1].reading
    expected = "" if newest.expected is None else f", {number(newest.expected)} expected"
    return (
        f"{count(len(past.points), 'window')}, {len(points):,} of them labelled; from {number(min(values))} to "
        f"{number(max(values))}, newest {number(newest.value)}{expected}. {_events(past)}"
    )


def _events(past: History) -> str:
    return (
        f"{count(sum(m.number for m in past.alarms), 'alarm')}, {count(len(past.stretches) - 1, 'change')} of version."
    )


def _signs(past: History) -> list[str]:
    kinds = dict.fromkeys(f"{mark.kind} alarm" for mark in past.alarms)
    return [*kinds, *(["release"] if len(past.stretches) > 1 else [])]


def _unknown(past: History, top: int, bottom: int) -> str:
    parts = []
    for run in past.runs(labelled=False):
        x, width = run[0].start, round(max(run[-1].end - run[0].start, 0.05), 2)
        place = f'x="{x}%" width="{width}%" y="{top + 8}" height="{bottom - top - 8}"'
        parts.append(f'<rect class="unknown" fill="url(#hatch)" {place}/>')
    return "".join(parts)


def _interval(run: Sequence[Point], y: Scale) -> str:
    known = [(p.middle, p.reading.low, p.reading.high) for p in run]
    upper = [f"{x * 10:g} {y(high):g}" for x, _, high in known if high is not None]
    lower = [f"{x * 10:g} {y(low):g}" for x, low, _ in reversed(known) if low is not None]
    return f'<path class="interval" d="M{"L".join(upper + lower)}Z"/>' if len(upper) > 1 and lower else ""


def _expected(past: History, y: Scale) -> str:
    steps: list[str] = []
    before: Reading | None = None
    for point in past.points:
        expected = point.reading.expected
        if expected is None:
            continue
        if before is None or before.version != point.reading.version or before.expected != expected:
            steps.append(f"M{point.start * 10:g} {y(expected):g}")
        steps.append(f"H{point.end * 10:g}")
        before = point.reading
    return f'<path class="expected" d="{"".join(steps)}"/>' if steps else ""


def _joined(values: Sequence[tuple[float, float]], gap: float) -> list[list[tuple[float, float]]]:
    parts: list[list[tuple[float, float]]] = []
    for x, value in values:
        if not parts or x - parts[-1][-1][0] > gap:
            parts.append([])
        parts[-1].append((x, value))
    return parts


def _line(places: Sequence[tuple[float, float]], css: str) -> str:
    if len(places) == 1:  # a lone window: a short dash, so that it is seen
        x, y = places[0]
        return f'<path class="{css}" d="M{x * 10 - 2:g} {y:g}h4"/>'
    return f'<path class="{css}" d="M{"L".join(f"{x * 10:g} {y:g}" for x, y in places)}"/>'


def _bar(point: Point, top: float, bottom: float) -> str:
    width = max((point.end - point.start) * 10 * 0.84, 0.6)
    return f"M{point.start * 10:g} {bottom:g}V{top:g}h{width:.1f}V{bottom:g}Z"


def _stretched(body: str, bottom: int) -> str:
    return (
        f'<svg width="100%" height="{bottom}" viewBox="0 0 1000 {bottom}" preserveAspectRatio="none" '
        f'class="stretched">{body}</svg>'
    )


def _hair(mark: Mark, top: float, bottom: float) -> str:
    return f'<line class="hair {mark.kind}" x1="{mark.at}%" x2="{mark.at}%" y1="{top:g}" y2="{bottom:g}"/>'


def _reach(mark: Mark, y: float) -> str:
    """Draw how far several alarms of one incident reach, as a bar behind the first one's sign."""
    if mark.until is None or mark.until - mark.at < 0.2:
        return ""
    width = round(mark.until - mark.at, 2)
    return f'<rect class="reach {mark.kind}" x="{mark.at}%" width="{width}%" y="{y - 1.5:g}" height="3" rx="1.5"/>'


def _glyph(mark: Mark, y: float) -> str:
    path = f'<path class="glyph {mark.kind}" d="{GLYPHS[mark.kind]}"><title>{escape(mark.text)}</title></path>'
    return f'<svg x="{mark.at}%" y="{y:g}" class="stretched">{path}</svg>'


def _anchor(at: float) -> str:
    return "" if 3 < at < 97 else ' text-anchor="start"' if at <= 3 else ' text-anchor="end"'
