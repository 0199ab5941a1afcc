"""A chart as PNG, drawn to be read on a telephone: what moved, how far it may move, and since when."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from trilho.core.readings import FeatureReading, Reading
from trilho.errors import ConfigError
from trilho.watch.alerts.lettering import Lettering
from trilho.watch.alerts.telling import METRICS
from trilho.watch.wording import Language, number, say
from trilho_runtime.profile import PREDICTION

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

WIDTH, HEIGHT, FINER = 1000, 560, 2  # drawn twice as large, then made smaller, so that lines are smooth
LEFT, RIGHT, TOP, BOTTOM = 104, 960, 152, 478
WINDOWS = 40
INK, SOFT, GRID, PAPER = (32, 38, 46), (96, 104, 114), (224, 228, 232), (255, 255, 255)
LINE, BAD, WASH, BAND = (36, 98, 168), (190, 38, 38), (250, 226, 222), (214, 226, 240)
Place = tuple[float, float]


@dataclass(frozen=True)
class Dot:
    """One window: when, how much, how much was allowed, the interval where there is one, and whether it alarmed."""

    time: datetime
    value: float
    allowed: float | None
    low: float | None = None
    high: float | None = None
    alarm: bool = False


def draw(readings: Sequence[Reading], chart: Mapping[str, Any], headline: str, language: Language) -> bytes | None:
    """Draw the newest windows of what a chart shows; None where fewer than two were measured."""
    dots = select(readings, chart)
    if len(dots) < 2:
        return None
    feature = str(chart["feature"])
    name = say(language, "predictions") if feature == PREDICTION else METRICS.get(feature, feature)
    if chart["kind"] == "metric":
        title = say(language, "chart.metric", metric=name)
    else:
        title = say(language, "chart.distance", feature=name)
    return _paint(dots, headline, title, language)


def select(readings: Sequence[Reading], chart: Mapping[str, Any]) -> list[Dot]:
    """Pick a chart's windows out of readings."""
    dots = []
    for reading in readings:
        time = datetime.fromisoformat(reading.window_start)
        alarm = bool(reading.alarms)
        if chart["kind"] == "metric":
            if reading.value is not None:
                dots.append(Dot(time, reading.value, chart.get("allowed"), reading.low, reading.high, alarm))
            continue
        found = _feature(reading, str(chart["feature"]))
        if found is not None:
            dots.append(Dot(time, found.distance, found.tolerance, alarm=alarm))
    return dots[-WINDOWS:]


def _feature(reading: Reading, name: str) -> FeatureReading | None:
    return next((x for x in reading.features if x.feature == name), None)


def sample(language: str) -> bytes | None:
    """Draw a chart of made-up windows, as a test of what a channel shows."""
    first = datetime(2026, 1, 1, tzinfo=UTC)
    dots = [Dot(first + timedelta(days=k), 0.03 + 0.01 * (k % 3) + max(0, k - 9) * 0.06, 0.1) for k in range(14)]
    spoken: Language = "pt-BR" if language == "pt-BR" else "en"
    return _paint(dots, "trilho", say(spoken, "chart.distance", feature="trilho"), spoken)


def _paint(dots: Sequence[Dot], headline: str, title: str, language: Language) -> bytes:
    try:
        from PIL import Image, ImageDraw
    except ImportError:
        raise ConfigError("a chart needs a library that is not here", hint='pip install "trilho[alerts]"') from None
    image = Image.new("RGB", (WIDTH * FINER, HEIGHT * FINER), PAPER)
    _Painter(ImageDraw.Draw(image), dots, language, Lettering.of(headline + title)).all(headline, title)
    kept = io.BytesIO()
    image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS).save(kept, "PNG", optimize=True)
    return kept.getvalue()


class _Painter:
    """The parts of one picture, in the coordinates of the finished one."""

    def __init__(self, on: ImageDraw, dots: Sequence[Dot], language: Language, letters: Lettering) -> None:
        self._on, self._dots, self._language, self._letters = on, dots, language, letters
        highest = [x for d in dots for x in (d.value, d.allowed) if x is not None]
        self._low, self._high = _range(highest)
        self._digits = max(0, min(4, 2 - math.floor(math.log10((self._high - self._low) or 1))))
        self._digits -= self._digits > 2

    def all(self, headline: str, title: str) -> None:
        """Draw everything, what lies behind first."""
        self._text((36, 26), headline, 38, INK, room=WIDTH - 72, stroke=0.6)
        self._text((36, 82), title, 30, SOFT, room=WIDTH - 72)
        self._grid()
        self._band()
        self._excess()
        self._limit()
        self._line()
        self._alarms()
        self._newest()
        self._days()

    def _x(self, k: int) -> float:
        return LEFT + 14 + (RIGHT - LEFT - 28) * k / (len(self._dots) - 1)

    def _y(self, value: float) -> float:
        part = (value - self._low) / (self._high - self._low)
        return BOTTOM - (BOTTOM - TOP) * min(max(part, 0.0), 1.0)

    def _grid(self) -> None:
        for k in range(5):
            value = self._low + (self._high - self._low) * k / 4
            self._stroke([(LEFT, self._y(value)), (RIGHT, self._y(value))], GRID, 1.5)
            label = number(self._language, value, self._digits)
            self._text((LEFT - 12, self._y(value)), label, 25, SOFT, anchor="rm")

    def _band(self) -> None:
        known = [(k, d) for k, d in enumerate(self._dots) if d.low is not None and d.high is not None]
        if len(known) > 1:
            upper = [(self._x(k), self._y(d.high or 0.0)) for k, d in known]
            lower = [(self._x(k), self._y(d.low or 0.0)) for k, d in reversed(known)]
            self._fill(upper + lower, BAND)

    def _excess(self) -> None:
        """Shade what lies between the line and what is allowed, where the line is above."""
        for k in range(len(self._dots) - 1):
            parts = _above(self._dots[k], self._dots[k + 1])
            if parts:
                left, width = self._x(k), self._x(k + 1) - self._x(k)
                upper = [(left + width * at, self._y(value)) for at, value, _ in parts]
                lower = [(left + width * at, self._y(allowed)) for at, _, allowed in reversed(parts)]
                self._fill(upper + lower, WASH)

    def _limit(self) -> None:
        points = [(self._x(k), self._y(d.allowed)) for k, d in enumerate(self._dots) if d.allowed is not None]
        for first, second in pairwise(points):
            self._dashes(first, second)
        if not points:
            return
        allowed = next(d.allowed for d in self._dots if d.allowed is not None)
        text = f"{say(self._language, 'chart.allowed')} {_exact(self._language, allowed)}"
        above = self._y(self._dots[0].value) > points[0][1] or points[0][1] > BOTTOM - 40
        self._text((LEFT + 14, points[0][1] + (-8 if above else 8)), text, 26, BAD, anchor="ls" if above else "lt")

    def _line(self) -> None:
        points = [(self._x(k), self._y(d.value)) for k, d in enumerate(self._dots)]
        self._stroke(points, LINE, 4.5)
        for k, (x, y) in enumerate(points):
            over = self._over(k)
            self._disc(x, y, 7 if over else 5, BAD if over else LINE)

    def _over(self, k: int) -> bool:
        allowed = self._dots[k].allowed
        return allowed is not None and self._dots[k].value > allowed

    def _alarms(self) -> None:
        """Mark windows that alarmed by a shape of their own under the line: colour alone says nothing to some."""
        count = 0
        for k, dot in enumerate(self._dots):
            if dot.alarm:
                x, y = self._x(k), BOTTOM - 16
                self._fill([(x, y - 13), (x + 12, y + 9), (x - 12, y + 9)], BAD)
                count += 1
        if count:
            text = say(self._language, "chart.alarm" if count == 1 else "chart.alarms")
            self._fill([(RIGHT - 8, HEIGHT - 34), (RIGHT + 4, HEIGHT - 12), (RIGHT - 20, HEIGHT - 12)], BAD)
            self._text((RIGHT - 30, HEIGHT - 22), text, 25, SOFT, anchor="rm")

    def _newest(self) -> None:
        last = self._dots[-1]
        text = say(self._language, "chart.newest", value=_exact(self._language, last.value))
        colour = BAD if self._over(len(self._dots) - 1) else INK
        self._text((36, HEIGHT - 22), text, 27, colour, anchor="lm", stroke=0.5)

    def _days(self) -> None:
        last = len(self._dots) - 1
        for k, anchor in ((0, "lt"), (last // 2, "mt"), (last, "rt")):
            self._text((self._x(k), BOTTOM + 12), self._day(self._dots[k].time), 25, SOFT, anchor=anchor)

    def _day(self, time: datetime) -> str:
        month = say(self._language, "month").split()[time.month - 1]
        span = self._dots[-1].time - self._dots[0].time
        if span < timedelta(days=3):
            return f"{time.day} {month} {time:%H:%M}"
        return f"{time.day} {month} {time.year}"

    def _text(
        self, at: Place, text: str, size: int, colour: tuple[int, int, int], *, anchor: str = "lt", room: float = 0,
        stroke: float = 0,
    ) -> None:  # fmt: skip
        font, text = self._letters.font(size * FINER), self._letters.spelt(text)
        while room and len(text) > 4 and font.getlength(text) > room * FINER:
            text = text[:-2].rstrip("…") + "…"
        self._on.text(
            (at[0] * FINER, at[1] * FINER), text, colour, font, anchor=anchor, stroke_width=stroke, stroke_fill=colour
        )

    def _stroke(self, points: Sequence[Place], colour: tuple[int, int, int], width: float) -> None:
        self._on.line([(x * FINER, y * FINER) for x, y in points], colour, round(width * FINER), joint="curve")

    def _fill(self, points: Sequence[Place], colour: tuple[int, int, int]) -> None:
        self._on.polygon([(x * FINER, y * FINER) for x, y in points], colour)

    def _disc(self, x: float, y: float, radius: float, colour: tuple[int, int, int]) -> None:
        box = [(x - radius) * FINER, (y - radius) * FINER, (x + radius) * FINER, (y + radius) * FINER]
        self._on.ellipse(box, colour, PAPER, FINER)

    def _dashes(self, first: Place, second: Place) -> None:
        length = math.dist(first, second) or 1.0
        at = -(first[0] % 22) / length  # dashes go on from one part to the next
        while at < 1:
            start, end = max(at, 0.0), min(at + 13 / length, 1.0)
            if end > start:
                self._stroke([_between(first, second, start), _between(first, second, end)], BAD, 3)
            at += 22 / length


def _between(first: Place, second: Place, part: float) -> Place:
    return first[0] + (second[0] - first[0]) * part, first[1] + (second[1] - first[1]) * part


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Give round ends for an axis with four equal parts, from nothing where values are near it."""
    least, most = min(values), max(values)
    low = 0.0 if least >= 0 and least < 0.6 * most else least - 0.15 * ((most - least) or abs(most) or 1)
    step = ((most - low) * 1.06 or 1.0) / 4
    power = 10 ** math.floor(math.log10(step))
    step = next(power * m for m in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if power * m >= step)
    low = math.floor(low / step) * step
    while low + 4 * step < most:
        step *= 1.25
    return low, low + 4 * step


def _above(first: Dot, second: Dot) -> list[tuple[float, float, float]]:
    """Give the part of a stretch in which it is above what is allowed: place, value, allowed."""
    if first.allowed is None or second.allowed is None:
        return []
    over, after = first.value - first.allowed, second.value - second.allowed
    if over <= 0 and after <= 0:
        return []
    start = 0.0 if over > 0 else over / (over - after)
    end = 1.0 if after > 0 else over / (over - after)
    return [
        (
            at,
            first.value + (second.value - first.value) * at,
            first.allowed + (second.allowed - first.allowed) * at,
        )
        for at in (start, end)
    ]


def _exact(language: Language, value: float) -> str:
    size = abs(value)
    return number(language, value, 0 if size >= 1000 else 1 if size >= 10 else 2 if size >= 0.01 else 4)
