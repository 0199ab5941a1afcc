"""How often the gate's guards are wrong: planted worlds, counted. Prints a line a world; the rates stand in release/.

python -m benchmarks.gate_rates [WORLDS]
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from trilho.config import Gate
from trilho.release.calibration import calibration_check
from trilho.release.compare import Predictions
from trilho.release.slices import Labels, slice_checks

Floats = NDArray[np.float64]
Rng = np.random.Generator
SLICES = 12
DAY = 86400.0


def sliced(
    rng: Rng, metric: str, rows: int, bad: float = 1.0, others: float = 1.0, shared: float = 0.0, slices: int = SLICES
) -> str:
    """Plant a challenger that is `bad` times as noisy on slice 0 and `others` times elsewhere; give the verdict."""
    place = rng.integers(slices, size=rows)
    signal = rng.normal(size=rows)
    time = np.sort(rng.random(rows)) * 60 * DAY if shared else np.full(rows, np.nan)
    luck = (rng.normal(size=60) * shared)[(time // DAY).astype(int)] if shared else np.zeros(rows)
    first = signal + rng.normal(size=rows) * np.where(place == 0, bad, others) * np.exp(luck)
    second = signal + rng.normal(size=rows) * np.exp(-luck)
    value, at = signal, np.arange(rows)
    if metric != "mae":
        first, second = (1 / (1 + np.exp(-2 * x)) for x in (first, second))
        value = (rng.random(rows) < 1 / (1 + np.exp(-2 * signal))).astype(np.float64)
    ours, theirs = (Predictions(at, time, x, value) for x in (first, second))
    checks, found = slice_checks(ours, theirs, [Labels.of("s", [str(x) for x in place])], metric, Gate())
    bad_ones = [x["value"] for x in found if x["verdict"] == "fail"]
    return "wrong slice" if checks[0].verdict == "fail" and "0" not in bad_ones and bad > 1 else checks[0].verdict


def probabilities(rng: Rng, rows: int, off: float, shared: float = 0.0, turning: bool = False) -> str:
    """Plant probabilities that are `off` from what happens, all one way or in turn; the verdict for a limit of 0.05."""
    given = rng.uniform(0.15, 0.85, size=rows)
    sign = np.where((given * 10).astype(int) % 2 == 0, 1.0, -1.0) if turning else np.ones(rows)
    time = np.sort(rng.random(rows)) * 60 * DAY if shared else np.full(rows, np.nan)
    luck = (rng.normal(size=60) * shared)[(time // DAY).astype(int)] if shared else np.zeros(rows)
    true = np.clip(given + sign * off + luck, 0.0, 1.0)
    value = (rng.random(rows) < true).astype(np.float64)
    return calibration_check(Predictions(np.arange(rows), time, given, value), Gate(calibration=0.05)).verdict


def worlds() -> dict[str, Callable[[Rng], str]]:
    """Name the planted worlds."""
    found: dict[str, Callable[[Rng], str]] = {}
    for metric in ("mae", "roc_auc", "brier"):
        found[f"slices, {metric}, equal"] = lambda rng, m=metric: sliced(rng, m, 2400)  # type: ignore[misc]
        found[f"slices, {metric}, better everywhere"] = lambda rng, m=metric: sliced(rng, m, 2400, 0.7, 0.7)  # type: ignore[misc]
        found[f"slices, {metric}, better but on one"] = lambda rng, m=metric: sliced(rng, m, 2400, 1.5, 0.7)  # type: ignore[misc]
        found[f"slices, {metric}, much worse on one"] = lambda rng, m=metric: sliced(rng, m, 2400, 2.5, 0.7)  # type: ignore[misc]
    found["slices, mae, equal, days share luck"] = lambda rng: sliced(rng, "mae", 2400, shared=0.3)
    found["slices, roc_auc, much worse on one of 4"] = lambda rng: sliced(rng, "roc_auc", 4000, 2.5, 0.7, slices=4)
    found["slices, mae, equal, 20 slices"] = lambda rng: sliced(rng, "mae", 6000, slices=20)
    for rows in (400, 1000, 2000, 5000):
        for off in (0.0, 0.05, 0.1):
            found[f"calibration, {rows} rows, off by {off}"] = lambda rng, n=rows, o=off: probabilities(rng, n, o)  # type: ignore[misc]
    found["calibration, 2000 rows, off by 0.1 in turn"] = lambda rng: probabilities(rng, 2000, 0.1, turning=True)
    found["calibration, 2000 rows, off by 0.0, days share luck"] = lambda rng: probabilities(rng, 2000, 0.0, 0.05)
    found["calibration, 2000 rows, off by 0.05, days share luck"] = lambda rng: probabilities(rng, 2000, 0.05, 0.05)
    return found


def main(count: int) -> None:
    """Count the verdicts of each world."""
    for name, world in worlds().items():
        rng = np.random.default_rng(20130315)
        found = Counter(world(rng) for _ in range(count))
        told = ", ".join(f"{verdict} {100 * n / count:.1f}%" for verdict, n in sorted(found.items()))
        print(f"{name:<55} {told}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 400)
