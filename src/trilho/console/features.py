"""Drift by feature: how far each has moved in units of what it may move, over time and in the newest window.

A bar is what is sure: the lower end of the distance's 95% interval. Samples of few rows differ by chance alone, and a
bar of that would show drift where there is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from trilho.console.history import History
from trilho.core.readings import FeatureReading
from trilho_runtime.profile import PREDICTION

CAP = 3.0  # tolerances; further is drawn as this far and said in words
Z = 1.959964
COLUMNS = 110
HEIGHT = 30


@dataclass(frozen=True)
class FeatureRow:
    """One feature: its newest distance, and its past as a strip of bars."""

    name: str
    distance: float
    tolerance: float
    ratio: float
    peak: float
    low: float
    share: float  # of the newest alarm's evidence; 0 without one
    strip: Markup
    bar: Markup

    @property
    def over(self) -> bool:
        """Say whether the feature has surely moved further than it may."""
        return self.ratio > 1

    @property
    def times(self) -> str:
        """Give what is sure of the distance as a multiple of the tolerance."""
        return f"{self.ratio:.1f}×" if self.ratio < 100 else ">99×"


def feature_rows(past: History) -> list[FeatureRow]:
    """Give every feature of the newest window, the furthest moved first."""
    series: dict[str, list[tuple[float, float]]] = {}
    for point in past.points:
        for feature in point.reading.features:
            series.setdefault(feature.feature, []).append((point.start, ratio(feature, point.reading.rows)))
    newest = past.points[-1].reading
    rows = [_row(feature, newest.rows, series[feature.feature]) for feature in newest.features]
    return sorted(rows, key=lambda row: (-row.ratio, row.name))


def ratio(feature: FeatureReading, rows: int) -> float:
    """Give what is sure of a distance, in tolerances.

    >>> ratio(FeatureReading(feature="temp", distance=0.2, low=0.09, high=0.3, tolerance=0.06, share=1.0), 400)
    1.5
    """
    low = sure(feature, rows)
    return low / feature.tolerance if feature.tolerance > 0 else (CAP if low else 0.0)


def sure(feature: FeatureReading, rows: int) -> float:
    """Give the lower end of a distance's interval; readings of an older trilho kept none: what chance does to so many
    rows is taken off.

    >>> old = FeatureReading(feature="temp", distance=0.2, tolerance=0.06, share=1.0)
    >>> round(sure(old, 50), 3), round(sure(old, 10_000), 3)
    (0.061, 0.19)
    """
    if feature.low is not None:
        return feature.low
    return max(feature.distance - Z * 0.5 / math.sqrt(max(rows, 1)), 0.0)


def _row(feature: FeatureReading, rows: int, series: Sequence[tuple[float, float]]) -> FeatureRow:
    now = ratio(feature, rows)
    return FeatureRow(
        name="predictions" if feature.feature == PREDICTION else feature.feature,
        distance=feature.distance,
        tolerance=feature.tolerance,
        ratio=now,
        peak=max(value for _, value in series),
        low=sure(feature, rows),
        share=feature.share,
        strip=_strip(series),
        bar=_bar(now),
    )


def _strip(series: Sequence[tuple[float, float]]) -> Markup:
    cells: dict[int, float] = {}
    for at, value in series:
        cell = min(int(at * COLUMNS / 100), COLUMNS - 1)
        cells[cell] = max(cells.get(cell, 0.0), value)
    width = 1000 / COLUMNS
    paths = {"within": "", "over": ""}
    for cell, value in cells.items():
        height = max(min(value, CAP) / CAP * HEIGHT, 0.8)
        paths["over" if value > 1 else "within"] += (
            f"M{cell * width:.1f} {HEIGHT}v-{height:.1f}h{width * 0.86:.1f}v{height:.1f}Z"
        )
    limit = HEIGHT * (1 - 1 / CAP)
    body = "".join(f'<path class="{name}" d="{d}"/>' for name, d in paths.items() if d)
    return Markup(  # noqa: S704  numbers only
        f'<svg class="ribbon" width="100%" height="{HEIGHT}" viewBox="0 0 1000 {HEIGHT}" preserveAspectRatio="none" '
        f'aria-hidden="true">{body}<path class="limit" d="M0 {limit:g}H1000"/></svg>'
    )


def _bar(value: float) -> Markup:
    width = min(value, CAP) / CAP * 100
    over = "over" if value > 1 else "within"
    return Markup(  # noqa: S704  numbers only
        '<svg class="meter" width="100%" height="8" aria-hidden="true">'
        '<rect class="track" width="100%" height="8" rx="1"/>'
        f'<rect class="{over}" width="{width:.1f}%" height="8" rx="1"/>'
        f'<line class="limit" x1="{100 / CAP:g}%" x2="{100 / CAP:g}%" y1="-2" y2="10"/></svg>'
    )
