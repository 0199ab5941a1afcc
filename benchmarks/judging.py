"""What is computed about a model: one window of the watcher, and the gate's verdict."""

from __future__ import annotations

import csv
import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.commands import Bike
from benchmarks.measure import Figure, compare, seconds
from trilho.config import Gate
from trilho.release.gate import Predictions, judge
from trilho.watch.drift import DriftDetector
from trilho.watch.performance import measure
from trilho_runtime.profile import Reference

WATCHED = ("temp_min_c", "temp_max_c", "precip_mm")
WINDOW_ROWS = 5000
WINDOWS = 10
JUDGED_ROWS = 10_000
HOLDOUT_SECONDS = 60 * 86400.0
GATE_MS = 500.0
FREQUENT = 1000.0  # windows between false alarms; the threshold's height costs nothing


def watching(example: Bike, turns: int = 15) -> list[Figure]:
    """Profile and detector on 5,000 rows of the bike example's columns, beside numpy histograms of those columns."""
    reference = Reference.from_json((example.package / "reference.json").read_bytes())
    reference = reference.without(f.name for f in reference.features if f.name not in WATCHED)
    columns = _window(example)
    detector = DriftDetector(reference, FREQUENT)

    def ours() -> None:
        for _ in range(WINDOWS):
            detector.update(reference.profile(columns))

    def theirs() -> None:
        for _ in range(WINDOWS):
            for feature in reference.features:
                np.histogram(columns[feature.name], bins=len(feature.labels))

    def sorted_edges() -> None:
        for _ in range(WINDOWS):
            for feature in reference.features:
                np.histogram(columns[feature.name], bins=feature.edges)

    name = f"a window of {WINDOW_ROWS:,} rows, {len(reference.features)} features"
    scale = 1000 / WINDOWS
    return [
        compare(name, lambda: seconds(ours), "numpy histogram, equal bins", lambda: seconds(theirs), turns=turns,
                scale=scale),
        compare(name, lambda: seconds(ours), "numpy histogram, our edges", lambda: seconds(sorted_edges), turns=turns,
                scale=scale),
    ]  # fmt: skip


def _window(example: Bike) -> dict[str, NDArray[Any]]:
    with (example.folder / "data" / "baseline.csv").open(encoding="utf-8", newline="") as file:
        rows = list(itertools.islice(csv.DictReader(file), WINDOW_ROWS))
    return {name: np.array([float(row[name]) for row in rows]) for name in WATCHED}


def gating(turns: int = 9) -> list[Figure]:
    """The verdict on 10,000 held-out rows of 60 days, beside one computation of the metric for each model."""
    rng = np.random.default_rng(7)
    time = np.sort(rng.uniform(0, HOLDOUT_SECONDS, JUDGED_ROWS))
    truth = rng.uniform(size=JUDGED_ROWS)
    drawn = (rng.uniform(size=JUDGED_ROWS) < truth).astype(float)
    lines = []
    for metric, value in (("mae", truth), ("roc_auc", drawn)):
        noisy = [truth + rng.normal(0, noise, JUDGED_ROWS) for noise in (0.2, 0.25)]
        lines.append(_judged(metric, [Predictions(np.arange(JUDGED_ROWS), time, x, value) for x in noisy], turns))
    return lines


def _judged(metric: str, models: list[Predictions], turns: int) -> Figure:
    def ours() -> None:
        judge(models[0], models[1], Gate(), "regression" if metric == "mae" else "classification")

    def theirs() -> None:
        for model in models:
            measure(metric, model.prediction, model.value)

    return compare(f"gate, {JUDGED_ROWS:,} rows, {metric}", lambda: seconds(ours), f"{metric} of both models",
                   lambda: seconds(theirs), turns=turns, most=GATE_MS)  # fmt: skip
