"""How much each drifted feature harms: what the metric would be if only that feature had moved.

The held-out rows are weighted by how much more often each one's bin of the feature is seen today than it was among
them. That needs counts only, so it is known before labels, and incidents rank by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trilho.core.metrics import HIGHER_IS_BETTER
from trilho.watch.expected import TwoClasses
from trilho.watch.held import Held, losses_of

Floats = NDArray[np.float64]
Z = 1.959964
LEAST_IN_BIN = 5
SHRINK_ROWS = 20.0
LEAST_HELD = 100
REPLICATES = 40


@dataclass(frozen=True)
class Effect:
    """What a feature's move does to a metric, in the metric's unit, with its 95% interval; `harm` is above 0 for worse.

    `outside` is the share of today's rows in bins that hardly a held-out row was in: of these nothing is known.
    """

    feature: str
    value: float
    low: float
    high: float
    harm: float
    outside: float


def effects(
    metric: str, held: Held, profile: Mapping[str, NDArray[Any]], names: Iterable[str] | None = None
) -> list[Effect]:
    """Estimate what the moves of features do to a metric, the most harmful first.

    `profile` are the window's counts in the bins of the reference. Features without held-out bins are left out, and so
    are all where fewer than 100 rows were held out.
    """
    if held.rows < LEAST_HELD:
        return []
    wanted = held.features if names is None else tuple(names)
    lost = losses_of(metric, held)
    found = []
    for name, place in zip(held.features, held.bins.T, strict=True):
        counts = np.asarray(profile.get(name, np.zeros(1)), np.float64)
        if name in wanted and counts.sum() > 0:
            one = _of_ranks(metric, held, place, counts) if lost is None else _of_means(metric, lost, place, counts)
            found += [] if one is None else [_effect(metric, name, *one)]
    return sorted(found, key=lambda effect: -effect.harm)


def _effect(metric: str, name: str, value: float, error: float, outside: float) -> Effect:
    harm = -value if metric in HIGHER_IS_BETTER | {"f1", "precision", "recall"} else value
    return Effect(name, value, value - Z * error, value + Z * error, harm, outside)


def _shares(place: NDArray[np.uint8], counts: Floats) -> tuple[Floats, Floats, float]:
    """Give the held-out rows in each bin, today's shares of the bins that had some, and the share of all others."""
    size = max(len(counts), int(place.max(initial=0)) + 1)
    counts, held = np.pad(counts, (0, size - len(counts))), np.bincount(place, minlength=size).astype(np.float64)
    known = held >= LEAST_IN_BIN
    outside = 1 - float(counts[known].sum() / counts.sum())
    today = np.where(known, counts, 0.0)
    return held, today / max(today.sum(), 1.0), outside


def _of_means(metric: str, lost: Floats, place: NDArray[np.uint8], counts: Floats) -> tuple[float, float, float] | None:
    held, today, outside = _shares(place, counts)
    if not today.any():
        return None
    known = held >= LEAST_IN_BIN
    before = np.where(known, held, 0.0) / held[known].sum()
    middle = float(lost.mean())
    sums, squares = (np.bincount(place, x, minlength=len(held)) for x in (lost - middle, (lost - middle) ** 2))
    level = sums / (held + SHRINK_ROWS)  # of a bin, drawn to the middle where it held few rows
    spread = squares / np.maximum(held, 1) - (sums / np.maximum(held, 1)) ** 2
    move = today - before
    change = float(move @ level)
    rows = counts.sum() * (1 - outside)
    luck = float(today @ level**2 - (today @ level) ** 2) / max(rows, 1.0)
    error = float((move**2 * spread / np.maximum(held, 1)).sum() + luck) ** 0.5
    if metric != "rmse":
        return change, error, outside
    after = max(middle + change, 0.0) ** 0.5
    return after - middle**0.5, error / max(2 * after, 1e-300), outside


def _of_ranks(metric: str, held: Held, place: NDArray[np.uint8], counts: Floats) -> tuple[float, float, float] | None:
    there, today, outside = _shares(place, counts)
    known = there >= LEAST_IN_BIN
    if not today.any():
        return None
    shares = np.where(known, there, 0.0) / there[known].sum()
    ratio = np.divide(today, shares, out=np.zeros(len(today)), where=shares > 0)
    asked, weight, rng = TwoClasses(metric, held.prediction), ratio[place], np.random.default_rng(0)
    found = []
    for k in range(REPLICATES + 1):
        luck = rng.poisson(1.0, held.rows).astype(np.float64) if k else np.ones(held.rows)
        before, after = asked.of(held.value, luck), asked.of(held.value, luck * weight)
        if before is not None and after is not None:
            found.append(after - before)
    return (found[0], float(np.std(found[1:])), outside) if len(found) == REPLICATES + 1 else None
