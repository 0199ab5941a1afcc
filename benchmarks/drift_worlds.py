"""Worlds without drift in which the drift detector's promise is counted: windows as counts, most drawn as multinomials.

A world gives a reference and then windows that come from the same truth, or from one right at the edge of what is
allowed. Whole streams are cheap where counts are drawn; rows are drawn only where their order or values matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trilho.watch.drift import DriftDetector
from trilho.watch.projection import tilt
from trilho.watch.slices import Slices
from trilho_runtime.bins import number_labels
from trilho_runtime.profile import Feature, Profile, Reference

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Rng = np.random.Generator
Draw = Callable[[Rng, int], Ints]  # a window's number -> counts: features, bins
HOUR, DAY = 3600.0, 86400.0
BINS = 20
SPECIALS = 3  # infinite, nan, null come after the bins above the largest value


@dataclass
class Stream:
    """A reference, the windows after it, and how it is watched."""

    reference: Reference
    windows: Iterator[tuple[Mapping[str, Ints], float]]
    tolerance: Any = "auto"
    slices: Slices | None = None

    def alarms(self, run_length: float, windows: int) -> int:
        """Count the alarms of so many windows."""
        detector = DriftDetector(self.reference, run_length, self.tolerance, slices=self.slices)
        taken = (next(self.windows) for _ in range(windows))
        return sum(detector.update(profile, when).alarm for profile, when in taken)


def even(bins: int = BINS, nulls: float = 0.0) -> Floats:
    """Give a number's shares: bins of the same size between hardly anything below and above; some are null."""
    edge = 1e-4
    inner = np.full(bins, (1 - 2 * edge - nulls) / bins)
    return np.concatenate([[edge], inner, [edge], [0.0, 0.0, nulls]])


def shifted(q: Floats, shift: float, scale: float = 1.0) -> Floats:
    """Move a number's shares as if its values were normal."""
    out = q.copy()
    out[:-SPECIALS] = tilt(q[:-SPECIALS], shift, scale)
    return out


def reference_of(counts: Ints, blocks: Ints, window: float = HOUR, **about: Any) -> Reference:
    """Make a reference of counts (features, bins) and of its own windows (windows, features, bins)."""
    edges = np.arange(counts.shape[1] - SPECIALS - 1, dtype=np.float64)
    labels = number_labels(edges)
    features = tuple(
        Feature(f"x{i}", "number", labels, row, row, blocks[:, i], edges=edges) for i, row in enumerate(counts)
    )
    rows, number = int(counts.sum(1).max()), len(blocks)
    return Reference(features, rows, window, number, {}, tuple(range(number)), **about)


def counted(draw: Draw, rng: Rng, windows: int, window: float = HOUR, tolerance: Any = "auto", **about: Any) -> Stream:
    """Learn the first windows of a world as the reference, go on with the others."""
    blocks = np.stack([draw(rng, k) for k in range(windows)])
    reference = reference_of(blocks.sum(0), blocks, window, **about)
    return Stream(reference, _named(draw, rng, windows, window), tolerance)


def _named(draw: Draw, rng: Rng, first: int, window: float) -> Iterator[tuple[Mapping[str, Ints], float]]:
    k = first
    while True:
        yield {f"x{i}": row for i, row in enumerate(draw(rng, k))}, k * window
        k += 1


def rows(rng: Rng, q: Floats, n: int, features: int = 1) -> Ints:
    """Draw counts of independent rows."""
    return rng.multinomial(n, q / q.sum(), size=features)


# ---- truths that stay as they are ------------------------------------------------------------------------------------


def independent(n: int, features: int = 10) -> Draw:
    """Independent rows and features."""
    return lambda rng, _k: rows(rng, even(nulls=0.02), n, features)


def dependent_features(n: int, features: int = 10) -> Draw:
    """Every feature is the same one, in other words: if one errs, all do."""
    return lambda rng, _k: np.repeat(rows(rng, even(nulls=0.02), n), features, axis=0)


def clusters(n: int, size: int, features: int = 10) -> Draw:
    """A customer's rows are alike."""
    return lambda rng, _k: size * rows(rng, even(), n // size, features)


def following(n: int, keep: float, features: int = 5) -> Draw:
    """Each row follows the one before: a normal autoregression."""

    def draw(rng: Rng, _k: int) -> Ints:
        noise = rng.standard_normal((features, n)) * np.sqrt(1 - keep**2)
        values = np.empty((features, n))
        values[:, 0] = rng.standard_normal(features)
        for i in range(1, n):
            values[:, i] = keep * values[:, i - 1] + noise[:, i]
        place = 1 + np.searchsorted(NORMAL_ENDS, values)
        return np.stack([np.bincount(row, minlength=BINS + 2 + SPECIALS) for row in place])

    return draw


NORMAL_ENDS = np.array([
    -1.645, -1.2816, -1.0364, -0.8416, -0.6745, -0.5244, -0.3853, -0.2533, -0.1257, 0.0,
    0.1257, 0.2533, 0.3853, 0.5244, 0.6745, 0.8416, 1.0364, 1.2816, 1.645,
])  # fmt: skip


def rows_of(q: Floats, n: int, size: int = 1, features: int = 10) -> Draw:
    """Independent groups of `size` equal rows."""
    return lambda rng, _k: size * rows(rng, q, n // size, features)


def moved(draw: Callable[[Floats], Draw], shift: float) -> Draw:
    """A world whose level has moved."""
    return draw(shifted(even(), shift))


def weather(n: int, effect: float, features: int = 10, level: float = 0.0) -> Draw:
    """All rows of a window share a shift that no other window has."""

    def draw(rng: Rng, _k: int) -> Ints:
        return np.stack(
            [rows(rng, shifted(even(), level + effect * rng.standard_normal()), n)[0] for _ in range(features)]
        )

    return draw


def hours(n: int, size: float, features: int = 10, level: float = 0.0, weekend: float = 0.6) -> Draw:
    """A day's course, of another height on weekends."""

    def draw(rng: Rng, k: int) -> Ints:
        height = size * (weekend if k // 24 % 7 in (2, 3) else 1.0)
        return rows(rng, shifted(even(), level + height * np.sin(2 * np.pi * k / 24)), n, features)

    return draw


def wandering(n: int, step: float, features: int = 10, keep: float = 0.9) -> Draw:
    """The level wanders from window to window and is pulled back: neighbours are alike, the whole is wide."""
    level = np.zeros(features)

    def draw(rng: Rng, _k: int) -> Ints:
        level[:] = keep * level + step * rng.standard_normal(features)
        return np.stack([rows(rng, shifted(even(), x), n)[0] for x in level])

    return draw


def uneven_clusters(n: int, features: int = 10) -> Draw:
    """Customers of 1 to 100 rows, each customer's alike."""

    def draw(rng: Rng, _k: int) -> Ints:
        sizes = np.minimum(rng.zipf(1.8, size=n // 3), 100)
        place = rng.choice(BINS + 2 + SPECIALS, size=(features, len(sizes)), p=even())
        return np.stack([np.bincount(x, sizes, minlength=BINS + 2 + SPECIALS).astype(np.int64) for x in place])

    return draw


def gaps(n: int, features: int = 10) -> Draw:
    """A tenth is null on average, in some windows 2 percent, in others 30."""
    return lambda rng, _k: np.stack([rows(rng, even(nulls=float(rng.beta(2, 18))), n)[0] for _ in range(features)])


def uneven(features: int = 10) -> Draw:
    """Windows of 30 to 100,000 rows, one after the other."""
    return lambda rng, _k: rows(rng, even(nulls=0.02), int(30 * (100_000 / 30) ** rng.random()), features)


# ---- references that err, truths at the edge -------------------------------------------------------------------------


def at_the_edge(rng: Rng, n: int, tolerance: float, worst: float, features: int = 10) -> Stream:
    """Put the truth at the tolerance, and choose of 200 references the one that errs so far away from it.

    `worst` is the quantile among the 200 of the largest distance over features: .95 is what the margin promises.
    """
    q = even(nulls=0.02)
    apart = shifted(q, 1.0) - q
    truth = q + apart * (tolerance / (0.5 * np.abs(apart).sum()))
    drawn = [rows(rng, q, 50_000, features) for _ in range(200)]
    off = [float((0.5 * np.abs(x / 50_000 - truth).sum(1)).max()) for x in drawn]
    counts = drawn[int(np.argsort(off)[min(int(worst * 200), 199)])]
    none = np.zeros((0, *counts.shape), np.int64)
    draw: Draw = lambda rng, _k: rows(rng, truth, n, features)  # noqa: E731
    return Stream(reference_of(counts, none), _named(draw, rng, 0, HOUR), tolerance)


def small_reference(rng: Rng, n: int, worst: float, features: int = 10) -> Stream:
    """Choose of 50 references of 60 small windows the one that lies furthest from the truth."""
    q = even(nulls=0.02)
    made = [rng.multinomial(n, q / q.sum(), size=(60, features)) for _ in range(50)]
    off = [float((0.5 * np.abs(x.sum(0) / (60 * n) - q).sum(1)).max()) for x in made]
    blocks = made[int(np.argsort(off)[min(int(worst * 50), 49)])]
    return Stream(reference_of(blocks.sum(0), blocks), _named(independent(n, features), rng, 60, HOUR))


# ---- tables of rows: values, not bins, matter ------------------------------------------------------------------------


def messy(rng: Rng, n: int, windows: int = 104) -> Stream:
    """Ties, zeros, nulls, values never seen before, 5,000 categories, a heavy tail: fitted and counted as data is."""
    weight = 1 / np.arange(1, 5001)

    def table(size: int) -> dict[str, NDArray[Any]]:
        null = rng.random(size) < 0.1
        many = rng.choice(5000, size, p=weight / weight.sum())
        return {
            "ties": rng.integers(0, 4, size).astype(np.float64),
            "zeros": np.where(rng.random(size) < 0.7, 0.0, rng.exponential(size=size)),
            "nulls": np.where(null, np.nan, rng.standard_normal(size)),
            "tail": rng.standard_t(2, size),
            "many": np.array([f"v{k}" for k in many], object),
            "new": np.array([f"n{k}" if k < 10**9 // 20 else "old" for k in rng.integers(0, 10**9, size)], object),
            "rare": np.array(["yes" if x < 0.002 else "no" for x in rng.random(size)], object),
        }

    fitted = Reference.fit(table(n * windows), np.repeat(np.arange(windows) * HOUR, n), HOUR)

    def later() -> Iterator[tuple[Profile, float]]:
        k = windows
        while True:
            yield fitted.profile(table(n)), k * HOUR
            k += 1

    return Stream(fitted, later())


def sliced(rng: Rng, n: int, windows: int = 60) -> Stream:
    """Rows of five countries, each with a level of its own, watched whole and by country."""

    def table(size: int) -> dict[str, NDArray[Any]]:
        country = rng.choice(5, size, p=[0.4, 0.3, 0.15, 0.1, 0.05])
        return {"x": rng.standard_normal(size) + country, "y": rng.exponential(size=size), "country": country}

    data, hours_of = table(n * windows), np.repeat(np.arange(windows) * HOUR, n)
    fitted, parts = Reference.fit(data, hours_of, HOUR), Slices.fit(data, ["country"], hours_of, HOUR)

    def later() -> Iterator[tuple[Profile, float]]:
        k = windows
        while True:
            now = table(n)
            yield fitted.profile(now) | parts.profile(now), k * HOUR
            k += 1

    return Stream(fitted, later(), slices=parts)


def without_windows(stream: Stream) -> Stream:
    """Forget what the reference's windows say, as a naive detector does: the control of a world."""
    features = tuple(replace(f, blocks=f.blocks[:0]) for f in stream.reference.features)
    bare = replace(stream.reference, features=features, block_windows=(), key="")
    return Stream(bare, stream.windows, 0.02)
