"""What one window showed: whether it alarms, for what, and how far each feature lies from its reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from trilho.watch.frame import Frame
from trilho.watch.projection import Floats
from trilho.watch.reference import MEAN
from trilho_runtime.profile import Feature

DriftKind = Literal["inputs", "predictions", "quality"]
LEVEL = 0.95
Z = 1.959964


class Cause(tuple[str, float]):
    """One feature in one window: a pair of its name and its share of the evidence, which knows more.

    `distance` is a total variation less what chance alone would give, within `low` and `high` with 95%: over all bins,
    or between one special bin and the rest where `kind` is "quality". `tolerance` is how far it may be.

    >>> cause = Cause("x", 0.9, 0.2, 0.1, 0.3, 0.05, "null: 20%, 0% in training", "quality")
    >>> feature, share = cause
    >>> feature, share, cause.distance
    ('x', 0.9, 0.2)
    """

    distance: float
    low: float
    high: float
    tolerance: float
    words: str
    kind: DriftKind

    def __new__(
        cls,
        feature: str,
        share: float,
        distance: float,
        low: float,
        high: float,
        tolerance: float,
        words: str,
        kind: DriftKind,
    ) -> Cause:
        """Make the pair, and keep the rest beside it."""
        made = super().__new__(cls, (feature, share))
        made.distance, made.low, made.high, made.tolerance = distance, low, high, tolerance
        made.words, made.kind = words, kind
        return made

    @property
    def feature(self) -> str:
        """Give the feature's name."""
        return self[0]

    @property
    def share(self) -> float:
        """Give its share of the evidence."""
        return self[1]


@dataclass(frozen=True)
class KindEvidence:
    """One kind's part of the promise: it alarms when its evidence reaches its threshold."""

    evidence: float
    threshold: float
    weight: float

    @property
    def alarm(self) -> bool:
        """Say whether this kind alarms."""
        return self.evidence >= self.threshold


@dataclass(frozen=True, eq=False, repr=False)
class Window:
    """The arrays behind a reading: what was counted and expected, and what each bet gained in this window alone."""

    features: tuple[Feature, ...]
    frame: Frame
    counts: Floats
    factor: Floats  # what a row counts for
    shares: Mapping[DriftKind, Floats]  # of the evidence, by feature
    gains: Floats  # bets on inputs, features
    special_gains: Floats  # bets on special bins, features, special
    stakes: Floats  # of each bet on inputs after this window
    special_stakes: Floats
    lately: Callable[[Floats], Floats]  # expected shares -> those of the latest windows
    missing: frozenset[str] = frozenset()  # features whose column was not there


@dataclass(frozen=True)
class Reading:
    """What one window showed. `evidence` is that of the kind nearest to its threshold, on the whole's scale."""

    alarm: bool
    evidence: float
    threshold: float
    kinds: Mapping[DriftKind, KindEvidence] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    window: Window | None = field(default=None, compare=False, repr=False)

    @cached_property
    def causes(self) -> list[Cause]:
        """Give all features as pairs of name and share, the largest share of the evidence first."""
        return [] if self.window is None else _causes(self.window, None)

    def causes_of(self, kind: DriftKind) -> list[Cause]:
        """Give the features by their shares of one kind's evidence alone."""
        return [] if self.window is None else _causes(self.window, kind)

    @cached_property
    def distances(self) -> dict[str, tuple[float, float, float]]:
        """Give each feature's distance from its reference with its 95% interval."""
        if self.window is None:
            return {}
        found = distances(self.window)
        return {f.name: (float(d), float(a), float(b)) for f, d, a, b in zip(self.window.features, *found, strict=True)}


def distances(window: Window) -> tuple[Floats, Floats, Floats]:
    """Give total variations, and intervals that hold with 95% or more.

    Counts of samples differ even where nothing does: by `chance` on average. The expected distance of two samples is at
    least the true one, and at most the true one and the chance; around its mean it scatters like a normal deviate, by
    at most half of sqrt(1/n + 1/m), for n and m independent rows of the window and of the reference.
    """
    counts, q, frame = window.counts, window.frame.q, window.frame
    rows = np.maximum(counts.sum(1), 1.0)
    share = counts / rows[:, None]
    smooth = (counts + q) / (rows + 1)[:, None]
    n, m = np.maximum(rows * frame.kappa, 1.0)[:, None], frame.effective[:, None]
    spread = smooth * (1 - smooth) / n + q * (1 - q) / m
    chance = MEAN * 0.5 * np.sqrt(spread).sum(1)
    apart = 0.5 * np.abs(share - q).sum(1)
    half = Z * 0.5 * np.sqrt(1 / n + 1 / m).ravel()
    distance = np.sqrt(np.maximum(apart**2 - chance**2, 0.0))
    seen = counts.any(1)
    return (
        distance * seen,
        np.maximum(apart - chance - half, 0.0) * seen,
        np.where(seen, np.minimum(apart + half, 1), 1.0),
    )


def _causes(window: Window, kind: DriftKind | None) -> list[Cause]:
    of = list(window.shares) if kind is None else [kind]
    total = sum((window.shares[k] for k in of), np.zeros(len(window.features)))
    whole = float(total.sum())
    found = distances(window)
    order = np.argsort(-total, kind="stable").tolist()
    return [
        _cause(window, i, float(total[i]) / whole if whole > 0 else 0.0, _kind_of(window, i, of), found) for i in order
    ]


def _kind_of(window: Window, i: int, of: list[DriftKind]) -> DriftKind:
    return max(of, key=lambda k: float(window.shares[k][i]))


def _cause(window: Window, i: int, share: float, kind: DriftKind, found: tuple[Floats, Floats, Floats]) -> Cause:
    feature, size, frame = window.features[i], len(window.features[i].labels), window.frame
    n, q = max(float(window.counts[i].sum()), 1.0), frame.q[i, :size]
    today = window.counts[i, :size] / n
    distance, low, high, tolerance = *(float(x[i]) for x in found), float(frame.tolerance[i])
    place = int(np.argmax(today - q))
    for k, special in enumerate(feature.special):
        room = max(float(frame.most[i, k] - q[special]), 1e-9)
        beyond = abs(float(today[special] - q[special]))
        if kind == "quality" and beyond / room > distance / max(tolerance, 1e-9):
            spread = Z * float(np.sqrt(max(today[special] * (1 - today[special]), 1 / n) / (n * frame.kappa[i])))
            distance, low, high = beyond, max(beyond - spread, 0.0), min(beyond + spread, 1.0)
            tolerance, place = room, special
    words = f"{feature.labels[place]}: {today[place]:.0%}, {q[place]:.0%} in training"
    if feature.name in window.missing:
        words = "the column is missing"
    return Cause(feature.name, share, distance, low, high, tolerance, words, kind)
