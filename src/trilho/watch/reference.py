"""How far each feature may move without being called drift, and how much one row counts, learnt from the reference.

Two things make naive tests fire for nothing: rows of one window that depend on each other (a customer's twenty
orders), and windows that differ by nature (seasons, weather). Both show in the reference's own windows:

- *rows*: windows look like independent draws around one distribution, only noisier than their number of rows says.
  A row then counts 1/(design effect), estimated from whitened differences of adjacent windows.
- *windows*: windows move slowly, or hold so few effective rows that nothing can be said about one of them. Then a row
  counts fully, but the tolerance is as wide as the reference's windows were, and one window can multiply the evidence
  by no more than a quarter of the number of reference windows: a window further out than all of B happens by chance
  once in B + 1.

In both, the reference itself is a sample, which a margin on the tolerance accounts for, and a window never counts for
more rows than the reference's windows had. What all rows of a window share (a day's weather) weighs the more, the more
rows there are, and windows of a hundred rows cannot show what it does to those of ten thousand. With its evidence
scaled down, a large window counts, by Jensen's inequality, at most as much as small ones drawn from it on average.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trilho.errors import PackageError
from trilho_runtime.profile import PREDICTION, Feature, Reference

FLOOR = 0.02
MEAN = 0.8  # of a normal deviate's size, in standard deviations
LEVEL = 0.99
ENOUGH_WINDOWS = 40
SOME_WINDOWS = 8
EFFECTIVE_ROWS = 20.0
SLOW = 1.5
CERTAIN = 3.0  # standard deviations of a correlation by luck
FEW_APART, MOST_WIDER = 1.1, 1.0  # how much wider the tolerance is, where the reference shows few excursions
LARGE_KEY = 50.0
BEYOND = 4.0  # times the most rows of a key: then rows depend on each other in another way too
EDGE = 1.15  # head-room over the Marchenko-Pastur edge of pure noise

Floats = NDArray[np.float64]
Learnt = Literal["rows", "windows", "floor", "given", "shown"]


@dataclass(frozen=True)
class Allowance:
    """What one feature may do: `tolerance` in total variation, `kappa` the evidence a row counts for, `cap` the most
    that one window may multiply the evidence by, `rows` the most rows that one window counts for, `special` and `least`
    the largest and the smallest share allowed in each special bin; `effective` are the independent rows behind `q`."""

    q: Floats
    tolerance: float
    kappa: float
    cap: float
    rows: float
    special: Floats
    least: Floats
    effective: float
    learnt: Learnt
    excursions: float = np.inf  # that the reference shows, where its windows move slowly


@dataclass(frozen=True)
class Variation:
    """How windows without drift differ: what rows count for, and how far windows lie from what was expected."""

    natural: float
    kappa: float
    cap: float
    rows: float
    learnt: Learnt
    excursions: float = np.inf


def load_reference(path: Path) -> Reference:
    """Read a package's reference. Raises PackageError when it is none."""
    try:
        return Reference.from_json(path.read_bytes())
    except (OSError, ValueError, KeyError) as error:
        raise PackageError(f"{path}: not a reference: {error}", hint="package the model again: trilho train") from error


def watched(
    reference: Reference,
    hidden: Iterable[str],
    tolerance: float | Literal["auto"],
    prediction: Floats,
    time: Floats,
    window: float,
) -> tuple[Reference, list[Allowance]]:
    """Give what is watched of a model: its raw columns but for the hidden ones, and its predictions.

    Where the reference holds no predictions of its own, those of the held-out rows stand in. They cover the last weeks
    only, and so no season: they are shown, but raise no alarm.
    """
    reference = reference.without(hidden)
    own = any(f.name == PREDICTION for f in reference.features)
    if not own and np.isfinite(prediction).sum() >= SOME_WINDOWS:
        timed = time if np.isfinite(time).all() else None
        held = Reference.fit({PREDICTION: prediction}, timed, window)
        reference = replace(reference, features=(*reference.features, *held.features))
    known = allowances(reference, tolerance)
    if not own and reference.features and reference.features[-1].name == PREDICTION:
        last = known[-1]
        most, least = np.ones_like(last.special), np.zeros_like(last.least)
        known[-1] = replace(last, tolerance=1.0, learnt="shown", special=most, least=least)
    return reference, known


def allowances(reference: Reference, tolerance: float | Literal["auto"] = "auto") -> list[Allowance]:
    """Learn every feature's allowance; with a number for `tolerance` only how rows depend on each other is learnt."""
    cluster = cluster_of(reference)
    return [allowance(f, len(reference.features), tolerance, cluster) for f in reference.features]


def cluster_of(reference: Reference) -> float | None:
    """Give the most rows that one key had in a window, where the reference knows the key."""
    return max(float(reference.cluster), 1.0) if reference.key else None


def allowance(
    feature: Feature, features: int, tolerance: float | Literal["auto"] = "auto", cluster: float | None = None
) -> Allowance:
    """Learn one feature's allowance; `features` is how many are watched together."""
    q = shares_of(feature.counts)
    blocks = feature.blocks[feature.blocks.sum(1) > 0].astype(np.float64)
    return allowed(feature, q, float(feature.counts.sum()), features, variation(blocks, q, tolerance, cluster))


def shares_of(counts: NDArray[Any]) -> Floats:
    """Give counts as shares, with one row spread over all bins so that none is impossible."""
    return np.asarray((counts + 1 / len(counts)) / (counts.sum() + 1), np.float64)


def variation(
    blocks: Floats,
    q: Floats,
    tolerance: float | Literal["auto"] = "auto",
    cluster: float | None = None,
    expected: Floats | None = None,
) -> Variation:
    """Learn how the reference's windows differ from each other, or from what was `expected` of each.

    Where the key is known whose rows belong together, a row counts 1/(the most rows of a key in a window): exact
    whatever the key's rows share. A key with very many rows is taken for that many only as far as windows show it.
    """
    expected = q if expected is None else expected
    deff = design_effect(blocks, q, expected) if len(blocks) >= SOME_WINDOWS else 1.0
    deff = clustered(deff, cluster)
    most = float(np.median(blocks.sum(1))) if len(blocks) else np.inf
    if tolerance != "auto":  # whoever gives a tolerance says how far windows may move
        return Variation(tolerance, 1 / deff, np.inf, np.inf, "given")
    if len(blocks) < ENOUGH_WINDOWS:
        return Variation(FLOOR, 1 / deff, np.inf, most, "floor")
    lasts, slow = lasting(blocks, q, expected)
    if not slow and slowness(blocks, q, expected) < SLOW and most / deff >= EFFECTIVE_ROWS:
        return Variation(FLOOR + spread(blocks, q, deff, expected), 1 / deff, np.inf, most, "rows")
    natural = max(spread(blocks, q, 1.0, expected), ahead(blocks, q, expected)) * len(blocks) / (len(blocks) - 1)
    apart = len(blocks) / lasts
    natural = float(1 - (1 - min(natural, 1.0)) ** (1 + min(FEW_APART / apart**0.5, MOST_WIDER)))
    return Variation(FLOOR + natural, 1.0, (len(blocks) + 1) / 4, most, "windows", apart)


def clustered(deff: float, cluster: float | None) -> float:
    """Give how many rows count as one, from what windows show and from the most rows of a key, where it is known.

    >>> clustered(17.0, 20.0), clustered(90.0, 20.0), clustered(3.0, None), clustered(3.0, 4000.0)
    (20.0, 90.0, 3.0, 50.0)
    """
    if cluster is None:
        return deff
    counted = cluster if cluster <= LARGE_KEY else min(cluster, max(LARGE_KEY, 2 * deff))
    return deff if deff > BEYOND * counted else counted


def allowed(feature: Feature, q: Floats, rows: float, features: int, found: Variation) -> Allowance:
    """Give what a feature may do around `q`, which so many rows have told."""
    n = max(float(feature.counts.sum()), 1.0)
    again = 0.5 * float(np.abs(feature.counts - feature.inside).sum()) / n  # known rows that come back are no drift
    effective = max(rows * found.kappa, 1.0)
    within = min(found.natural + again + margin(q, effective, features), 1.0)
    most = found.rows if np.isfinite(found.rows) or found.learnt == "given" else n
    special, least = _special(feature, q, within, effective)
    return Allowance(q, within, found.kappa, found.cap, most, special, least, effective, found.learnt, found.excursions)


def _special(feature: Feature, q: Floats, tolerance: float, n: float) -> tuple[Floats, Floats]:
    """Give the largest and smallest share allowed in each special bin: the reference windows', and a little more."""
    places = list(feature.special)
    full = feature.blocks[feature.blocks.sum(1) > 0]
    shares = full[:, places] / np.maximum(full.sum(1, keepdims=True), 1)
    more, held = FLOOR + 3 / n, q[places]
    most = np.maximum(np.max(shares, axis=0, initial=0.0), held) + more
    least = np.minimum(np.min(shares, axis=0, initial=1.0), held) - more
    return np.minimum(most, held + tolerance), np.maximum(np.maximum(least, held - tolerance), 0.0)


def noise(q: Floats, n: float | Floats) -> Any:
    """Bound the expected total variation between a distribution and a sample of n rows from it."""
    n = np.asarray(n, np.float64)[..., None]
    return 0.5 * np.minimum(np.sqrt(q * (1 - q) / n), 2 * q * (1 - q)).sum(-1)


def margin(q: Floats, n: float, features: int, miss: float = 0.05) -> float:
    """Give what the reference, a sample of n effective rows, may be off by, for all features at once with 95%.

    Its distance from the truth is on average MEAN of the bound that `noise` gives, and above that it is no wider than a
    normal deviate of the widest event's standard deviation, 0.5/sqrt(n) (Gaussian isoperimetry).
    """
    z = NormalDist().inv_cdf(1 - miss / max(features, 1))
    return float(MEAN * noise(q, n) + z * 0.5 / np.sqrt(n))


def _whitened(difference: Floats, q: Floats, rows: Floats) -> Floats:
    use = q * np.median(rows) >= 2
    if use.sum() < 2:
        use = q >= np.sort(q)[-2]
    return difference[:, use] / np.sqrt(q[use])


def design_effect(blocks: Floats, q: Floats, expected: Floats | None = None) -> float:
    """Estimate how many rows count as one, from differences of adjacent reference windows (slow change cancels).

    The level that all directions share, times the worst direction's excess (corrected as in a spiked model).
    """
    n = blocks.sum(1, keepdims=True)
    f, half = blocks / n - (q if expected is None else expected), len(blocks) // 2
    scale = np.sqrt(1 / n[1::2][:half] + 1 / n[0::2][:half])
    z = _whitened((f[1::2][:half] - f[0::2][:half]) / scale, q, n)
    k, b = max(int(z.shape[1]) - 1, 1), len(z)
    values: Floats = np.asarray(np.linalg.eigvalsh(z.T @ z / b)[::-1], np.float64)
    bulk = max(1.0, float(values.sum() / k if k < 6 else values[3:].sum() / (k - 3)))
    ratio, x, spike = k / b, float(values[0]) / bulk, 1.0
    if x > EDGE * (1 + np.sqrt(ratio)) ** 2:
        spike = ((x + 1 - ratio) + np.sqrt(max((x + 1 - ratio) ** 2 - 4 * x, 0.0))) / 2
    return bulk * float(spike)


def slowness(blocks: Floats, q: Floats, expected: Floats | None = None) -> float:
    """Compare how windows scatter around the whole with how neighbours differ: 1 for independent windows."""
    n = blocks.sum(1, keepdims=True)
    f = blocks / n - (q if expected is None else expected)
    around = _whitened(f * np.sqrt(n), q, n)
    steps = _whitened((f[1:] - f[:-1]) / np.sqrt(1 / n[1:] + 1 / n[:-1]), q, n)
    return float(np.mean(around**2)) / max(float(np.mean(steps**2)), 1e-12)


def ahead(blocks: Floats, q: Floats, expected: Floats) -> float:
    """Give the spread of each half of the windows around the other half's shares: what a level that wanders goes on to
    do. Where a season comes back in both halves it is no more than the spread of all."""
    if expected is not q:
        return 0.0
    half = len(blocks) // 2
    parts = (blocks[:half], blocks[half:])
    return max(spread(a, shares_of(b.sum(0)), 1.0) for a, b in (parts, parts[::-1]))


def lasting(blocks: Floats, q: Floats, expected: Floats) -> tuple[float, bool]:
    """Give how many windows an excursion lasts, and whether that is more than luck.

    It is told by how neighbours agree in the direction that varies most: (1 + r)/(1 - r) for a correlation r, sampling
    noise taken out. Windows that know nothing of each other give 1.
    """
    n = blocks.sum(1, keepdims=True)
    z = _whitened((blocks / n - expected) * np.sqrt(n), q, n)
    _, _, axes = np.linalg.svd(z, full_matrices=False)
    score = z @ axes[0]
    before, after = score[:-1], score[1:]
    together, whole = float(np.mean(before * after)), float(np.mean(before**2 + after**2)) / 2
    kept = together / (whole - 1) if whole > 1 else 0.0
    kept = min(max(kept, 0.0), 1 - 1 / len(blocks))
    lucky = CERTAIN / len(blocks) ** 0.5
    return (1 + kept) / (1 - kept), together > lucky * whole and kept > 0.5


def spread(blocks: Floats, q: Floats, deff: float, expected: Floats | None = None) -> float:
    """Give the upper quantile of the reference windows' distances to the whole, sampling noise taken out.

    Only directions that vary more than noise would (the Marchenko-Pastur edge) are kept, and the noise in them removed.
    """
    n = blocks.sum(1) / deff
    root = np.sqrt(np.maximum(q, 1e-12))
    around = blocks / blocks.sum(1, keepdims=True) - (q if expected is None else expected)
    z = around / root * np.sqrt(n)[:, None]
    _, values, axes = np.linalg.svd(z, full_matrices=False)
    keep = values**2 / len(blocks) > (1 + np.sqrt(len(q) / len(blocks))) ** 2 * EDGE
    if not keep.any():
        return 0.0
    moved = (z @ axes[keep].T) @ axes[keep] * root / np.sqrt(n)[:, None]
    left = 0.4 * np.abs(axes[keep] * root).sum(1) / np.sqrt(n.mean())
    distance = 0.5 * np.abs(moved).sum(1)
    return float(np.quantile(np.sqrt(np.maximum(distance**2 - (left**2).sum(), 0.0)), LEVEL))
