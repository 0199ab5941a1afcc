"""The page of a comparison: one file that needs nothing else, in English or Brazilian Portuguese."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from trilho.console.comparison_words import BINS, REASONS, WORDS
from trilho.console.scale import Scale, rounded
from trilho.govern import handover
from trilho.watch.comparison.compare import Compared, Comparison
from trilho.watch.wording import Language, number

TEMPLATES = Path(__file__).parent / "templates"
SHOWN, BARS = 40, 16
ROW, TOP = 24, 6
WIDE, TALL = 100, 120
DISTANCES = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)


@dataclass(frozen=True)
class Row:
    """One column on the page."""

    name: str
    kind: str
    drifted: bool
    distance: str
    interval: str
    p: str
    moved: str
    note: str
    figure: Markup | None = None
    words: str = ""


def comparison_page(found: Comparison, before: str, after: str, *, language: Language = "en") -> str:
    """Render the page; `before` and `after` name the tables."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=StrictUndefined,
    )  # fmt: skip
    say = Speaker(language)
    ordered = sorted(found.columns.values(), key=lambda one: (not one.decision.drifted, -one.decision.distance))
    css = handover.stylesheet("tokens.css") + (TEMPLATES / "comparison.css").read_text(encoding="utf-8")
    return environment.get_template("comparison.html").render(
        say=say, found=found, before=before, after=after, language=language, css=Markup(css),  # noqa: S704  ours
        rows=[say.row(one) for one in ordered], forest=forest(ordered[:SHOWN], found.floor, say), shown=SHOWN,
        figures=[say.row(one, shares(one, say)) for one in ordered if one.decision.drifted][:SHOWN],
        skipped=[(name, say.reason(why)) for name, why in found.skipped.items()],
        date=datetime.now(UTC),
    )  # fmt: skip


class Speaker:
    """Says everything on the page in one language."""

    def __init__(self, language: Language) -> None:
        self.language = language

    def __call__(self, key: str, **values: Any) -> str:
        """Give a text, its blanks filled."""
        return WORDS[self.language][key].format(**values)

    def number(self, value: float, digits: int = 0) -> str:
        """Give a number with the language's signs."""
        return number(self.language, value, digits)

    def percent(self, share: float) -> str:
        """Give a share in percent, with a digit more where it is small."""
        said = self.number(100 * share, 1 if share < 0.0995 else 0)
        return f"{said[:-2] if said.endswith(('.0', ',0')) else said}%"

    def row(self, one: Compared, figure: Markup | None = None) -> Row:
        """Say what was found of one column."""
        found, words = one.decision, self.moved(one)
        return Row(
            name=one.pair.name, kind=self(f"kind.{one.pair.kind}"), drifted=found.drifted,
            distance=self.number(found.distance, 3), moved=words, note=self.reason(one.pair.note), figure=figure,
            interval=self("interval", low=self.number(found.low, 3), high=self.number(found.high, 3)),
            p=self("tiny") if found.q < 0.0001 else self.number(found.q, 4),
            words=self("figure.words", column=one.pair.name, moved=words),
        )  # fmt: skip

    def moved(self, one: Compared) -> str:
        """Say which value's share changed most."""
        before, after = one.shares
        return self("moved", bin=self.bin(one, one.moved), before=self.percent(float(before[one.moved])),
                    after=self.percent(float(after[one.moved])))  # fmt: skip

    def bin(self, one: Compared, place: int) -> str:
        """Name a bin; what people wrote themselves is never translated."""
        label, specials = one.pair.labels[place], 3 if one.pair.ordered else 1
        ours = place < one.pair.ordered or place >= len(one.pair.labels) - specials
        ours = ours or one.pair.kind in ("boolean", "timestamp") or label.endswith(" rarer values")
        if place < one.pair.ordered:
            label = self._rounded(label)
        return _translated(label, BINS[self.language]) if ours else label

    def _rounded(self, label: str) -> str:
        """Give the ends of a number's bin in three figures, where they still differ."""
        parts = label.split(" ")
        for figures in (3, 4):
            short = [self._figures(part, figures) for part in parts]
            if len(parts) < 3 or short[0] != short[2]:
                return " ".join(short)
        return label

    def _figures(self, text: str, figures: int) -> str:
        try:
            value = float(text)
        except ValueError:
            return text
        size = len(f"{abs(value):.0f}") if abs(value) >= 1 else 1
        if not 1e-4 <= abs(value) < 1e7 and value:
            return f"{value:.{figures}g}"
        digits = max(figures - size, 0) if abs(value) >= 0.1 or not value else figures + 1
        said = self.number(value, digits)
        return said.rstrip("0").rstrip(".,") if digits else said

    def reason(self, text: str) -> str:
        """Say why a column was skipped, or how it was read."""
        return _translated(text, REASONS[self.language])


def _translated(text: str, rules: Sequence[tuple[str, str]]) -> str:
    for pattern, made in rules:
        if re.fullmatch(pattern, text):
            return re.sub(pattern, made, text)
    return text


def forest(columns: Sequence[Compared], floor: float, say: Speaker) -> Markup:
    """Draw each column's distance with its interval, against the floor."""
    most = max([one.decision.high for one in columns] + [floor * 1.5], default=1.0)
    high = next((t for t in DISTANCES if t >= most), 1.0)
    ticks, height = [t for t in DISTANCES if t <= high], TOP + ROW * len(columns)
    root = Scale(0.0, math.sqrt(high), 0, WIDE)  # what is small is what is near the floor: it gets more room

    def x(distance: float) -> float:
        return root(math.sqrt(distance))

    parts = [
        f'<line class="grid" x1="{x(t)}%" x2="{x(t)}%" y1="0" y2="{height}"/>'
        f'<text class="{_tick(i)}" x="{x(t)}%" y="{height + 15}" text-anchor="{_anchor(x(t))}">'
        f"{say.number(t, 2)}</text>"
        for i, t in enumerate(ticks)
    ]
    for i, one in enumerate(columns):
        y, found = TOP + ROW * i + ROW // 2, one.decision
        told = escape(f"{one.pair.name}: {say.number(found.distance, 3)}")
        parts.append(
            f'<g class="{"over" if found.drifted else "within"}"><title>{told}</title>'
            f'<line class="reach" x1="{x(found.low)}%" x2="{x(found.high)}%" y1="{y}" y2="{y}"/>'
            f"{_mark(x(found.distance), y, found.drifted)}</g>"
        )
    label = escape(say("floor.label", floor=say.number(floor, 2)))
    parts.append(
        f'<line class="limit" x1="{x(floor)}%" x2="{x(floor)}%" y1="0" y2="{height}"/>'
        f'<text class="limit-label" x="{x(floor)}%" dx="4" y="-6">{label}</text>'
    )
    words = escape(say("forest.words", count=len(columns), floor=say.number(floor, 2)))
    return Markup(  # noqa: S704  every text in it is escaped above
        f'<svg class="plot" width="100%" height="{height + 20}" role="img" aria-label="{words}">{"".join(parts)}</svg>'
    )


def _mark(x: float, y: int, drifted: bool) -> str:
    if not drifted:
        return f'<circle class="point" cx="{x}%" cy="{y}" r="4"/>'
    return f'<svg x="{x}%" y="{y}" class="loose"><path class="point" d="M0-6 6 0 0 6-6 0Z"/></svg>'


def _tick(place: int) -> str:
    """Give a label's class: every other one gives way where there is little room."""
    return "tick minor" if place % 2 else "tick"


def _anchor(x: float) -> str:
    return "start" if x < 2 else "end" if x > 98 else "middle"


def shares(one: Compared, say: Speaker) -> Markup:
    """Draw the shares of a column's bins in both tables, side by side."""
    before, after = one.shares
    places = _bars(one)
    top = max(max(float(before[i]), float(after[i])) for i in places)
    _, high, ticks = rounded(0.0, top, 3)
    y, slot = Scale(0.0, high, TALL, 4), WIDE / len(places)
    parts = [
        f'<line class="grid" x1="0" x2="100%" y1="{y(t)}" y2="{y(t)}"/>'
        f'<text class="tick" x="0" dx="-6" y="{y(t) + 4}" text-anchor="end">{say.percent(t)}</text>'
        for t in ticks
    ]
    for at, i in enumerate(places):
        told = f"{say.bin(one, i)}: {say.percent(float(before[i]))} → {say.percent(float(after[i]))}"
        parts.append(f"<g><title>{escape(told)}</title>")
        for side, share in enumerate((float(before[i]), float(after[i]))):
            left, width = slot * (at + 0.12 + 0.39 * side), slot * 0.36
            parts.append(
                f'<rect class="{("before", "after")[side]}" x="{left:.2f}%" width="{width:.2f}%" y="{y(share)}" '
                f'height="{TALL - y(share):.2f}"/>'
            )
        parts.append("</g>")
    parts += _names(one, places, slot, say)
    words = escape(say("figure.words", column=one.pair.name, moved=say.moved(one)))
    return Markup(  # noqa: S704  every text in it is escaped above
        f'<svg class="plot bars" width="100%" height="{TALL + 24}" role="img" aria-label="{words}">'
        f"{''.join(parts)}</svg>"
    )


def _bars(one: Compared) -> list[int]:
    """Choose the bins that are drawn: all that hold something, or those that moved most, in their order."""
    before, after = one.shares
    there = [i for i in range(len(before)) if before[i] + after[i] > 0]
    if one.pair.ordered:
        return there
    moved = sorted(there, key=lambda i: -abs(float(after[i] - before[i])))[:BARS]
    return sorted(moved)


def _names(one: Compared, places: Sequence[int], slot: float, say: Speaker) -> list[str]:
    """Name the bins below: all of them where there is room, or else some."""
    every = max(1, -(-len(places) // 5)) if one.pair.ordered else max(1, -(-len(places) // 8))
    few, out = not one.pair.ordered and len(places) > 4, []
    for at, i in enumerate(places):
        if at % every == 0 or i == one.moved:
            if at % every and (at % every < every / 2 or every - at % every < every / 2):
                continue
            name = say.bin(one, i)
            short = name if len(name) <= 16 else name[:15] + "…"
            x = slot * (at + 0.5)
            out.append(
                f'<text class="{_tick(at // every if few else 0)}" x="{x:.2f}%" y="{TALL + 15}" '
                f'text-anchor="{_anchor(x if slot < 15 else 50)}">'
                f"{escape(short)}</text>"
            )
    return out
