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
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trilho.errors import PackageError
from trilho_runtime.profile import PREDICTION, Feature, Reference

FLOOR = 0.02
LEVEL = 0.99
ENOUGH_WINDOWS = 40
SOME_WINDOWS = 8
EFFECTIVE_ROWS = 20.0
SLOW = 1.5
EDGE = 1.15  # head-room over the Marchenko-Pastur edge of pure noise

Floats = NDArray[np.float64]
Learnt = Literal["rows", "windows", "floor", "given", "shown"]


@dataclass(frozen=True)
class Allowance:
    """What one feature may do: `tolerance` in total variation, `kappa` the evidence a row counts for, `cap` the most
    that one window may multiply the evidence by, `rows` the most rows that one window counts for, `special` the largest
    share allowed in each special bin."""

    q: Floats
    tolerance: float
    kappa: float
    cap: float
    rows: float
    special: Floats
    learnt: Learnt


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
        features = (*reference.features, *held.features)
        reference = Reference(features, reference.rows, reference.window_seconds, reference.windows, reference.skipped)
    allowed = allowances(reference, tolerance)
    if not own and reference.features and reference.features[-1].name == PREDICTION:
        last = allowed[-1]
        allowed[-1] = replace(last, tolerance=1.0, special=np.ones_like(last.special), learnt="shown")
    return reference, allowed


def allowances(reference: Reference, tolerance: float | Literal["auto"] = "auto") -> list[Allowance]:
    """Learn every feature's allowance; with a number for `tolerance` only how rows depend on each other is learnt."""
    return [allowance(f, len(reference.features), tolerance) for f in reference.features]


def allowance(feature: Feature, features: int, tolerance: float | Literal["auto"] = "auto") -> Allowance:
    """Learn one feature's allowance; `features` is how many are watched together."""
    blocks = feature.blocks[feature.blocks.sum(1) > 0].astype(np.float64)
    n, size = float(feature.counts.sum()), len(feature.labels)
    q: Floats = np.asarray((feature.counts + 1 / size) / (n + 1), np.float64)
    deff = design_effect(blocks, q) if len(blocks) >= SOME_WINDOWS else 1.0
    most = float(np.median(blocks.sum(1))) if len(blocks) else n
    again = 0.5 * float(np.abs(feature.counts - feature.inside).sum()) / n  # known rows that come back are no drift

    def allowed(natural: float, kappa: float, cap: float, learnt: Learnt) -> Allowance:
        within = min(natural + again + margin(q, n * kappa, features), 1.0)
        rows = np.inf if learnt == "given" else most  # whoever gives a tolerance says how far windows may move
        return Allowance(q, within, kappa, cap, rows, _special(feature, q, within, n * kappa), learnt)

    if tolerance != "auto":
        return allowed(tolerance, 1 / deff, np.inf, "given")
    if len(blocks) < ENOUGH_WINDOWS:
        return allowed(FLOOR, 1 / deff, np.inf, "floor")
    if slowness(blocks, q) < SLOW and most / deff >= EFFECTIVE_ROWS:
        return allowed(FLOOR + spread(blocks, q, deff), 1 / deff, np.inf, "rows")
    natural = spread(blocks, q, 1.0) * len(blocks) / (len(blocks) - 1)
    return allowed(FLOOR + natural, 1.0, (len(blocks) + 1) / 4, "windows")


def _special(feature: Feature, q: Floats, tolerance: float, n: float) -> Floats:
    """Give the largest share allowed in each special bin: what one reference window held, and a little more."""
    places = list(feature.special)
    shares = feature.blocks[:, places] / np.maximum(feature.blocks.sum(1, keepdims=True), 1)
    most = np.maximum(np.max(shares, axis=0, initial=0.0), q[places]) + FLOOR + 3 / n
    return np.asarray(np.minimum(most, q[places] + tolerance))


def noise(q: Floats, n: float | Floats) -> Any:
    """Bound the expected total variation between a distribution and a sample of n rows from it."""
    n = np.asarray(n, np.float64)[..., None]
    return 0.5 * np.minimum(np.sqrt(q * (1 - q) / n), 2 * q * (1 - q)).sum(-1)


def margin(q: Floats, n: float, features: int, miss: float = 0.05) -> float:
    """Give what the reference, a sample of n effective rows, may be off by, for all features at once with 95%."""
    return float(noise(q, n) + np.sqrt(np.log(max(features, 1) / miss) / (2 * n)))


def _whitened(difference: Floats, q: Floats, rows: Floats) -> Floats:
    use = q * np.median(rows) >= 2
    if use.sum() < 2:
        use = q >= np.sort(q)[-2]
    return difference[:, use] / np.sqrt(q[use])


def design_effect(blocks: Floats, q: Floats) -> float:
    """Estimate how many rows count as one, from differences of adjacent reference windows (slow change cancels).

    The level that all directions share, times the worst direction's excess (corrected as in a spiked model).
    """
    n = blocks.sum(1, keepdims=True)
    f, half = blocks / n, len(blocks) // 2
    scale = np.sqrt(1 / n[1::2][:half] + 1 / n[0::2][:half])
    z = _whitened((f[1::2][:half] - f[0::2][:half]) / scale, q, n)
    k, b = max(int(z.shape[1]) - 1, 1), len(z)
    values: Floats = np.asarray(np.linalg.eigvalsh(z.T @ z / b)[::-1], np.float64)
    bulk = max(1.0, float(values.sum() / k if k < 6 else values[3:].sum() / (k - 3)))
    ratio, x, spike = k / b, float(values[0]) / bulk, 1.0
    if x > EDGE * (1 + np.sqrt(ratio)) ** 2:
        spike = ((x + 1 - ratio) + np.sqrt(max((x + 1 - ratio) ** 2 - 4 * x, 0.0))) / 2
    return bulk * float(spike)


def slowness(blocks: Floats, q: Floats) -> float:
    """Compare how windows scatter around the whole with how neighbours differ: 1 for independent windows."""
    n = blocks.sum(1, keepdims=True)
    f = blocks / n
    around = _whitened((f - q) * np.sqrt(n), q, n)
    steps = _whitened((f[1:] - f[:-1]) / np.sqrt(1 / n[1:] + 1 / n[:-1]), q, n)
    return float(np.mean(around**2)) / max(float(np.mean(steps**2)), 1e-12)


def spread(blocks: Floats, q: Floats, deff: float) -> float:
    """Give the upper quantile of the reference windows' distances to the whole, sampling noise taken out.

    Only directions that vary more than noise would (the Marchenko-Pastur edge) are kept, and the noise in them removed.
    """
    n = blocks.sum(1) / deff
    root = np.sqrt(np.maximum(q, 1e-12))
    z = (blocks / blocks.sum(1, keepdims=True) - q) / root * np.sqrt(n)[:, None]
    _, values, axes = np.linalg.svd(z, full_matrices=False)
    keep = values**2 / len(blocks) > (1 + np.sqrt(len(q) / len(blocks))) ** 2 * EDGE
    if not keep.any():
        return 0.0
    moved = (z @ axes[keep].T) @ axes[keep] * root / np.sqrt(n)[:, None]
    left = 0.4 * np.abs(axes[keep] * root).sum(1) / np.sqrt(n.mean())
    distance = 0.5 * np.abs(moved).sum(1)
    return float(np.quantile(np.sqrt(np.maximum(distance**2 - (left**2).sum(), 0.0)), LEVEL))
