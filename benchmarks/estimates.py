"""How near estimates before labels come to what was measured later, and how well a drop is split.

    python -m benchmarks.estimates PYTHON THAT HAS nannyml [RUNS]

NannyML has pins of its own: `python3 -m venv /tmp/nanny && /tmp/nanny/bin/pip install nannyml`. Its package brings the
data too: US census, employment in Massachusetts, a model of 2015 and the answers of 2016 to 2018. Both products are
given the same held-out rows and windows of 5,000, and alerts are told by NannyML's own thresholds.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from trilho.watch.estimate import Estimator
from trilho.watch.expected import TwoClasses
from trilho.watch.held import Held, Served, place
from trilho.watch.performance import measure
from trilho.watch.shift import Way, split
from trilho_runtime.profile import Reference

Floats = NDArray[np.float64]
CHUNK = 5_000
HELD = (20_000, 68_785)
METRICS = ("roc_auc", "f1", "accuracy")
APART = ("id", "employed", "year", "prediction", "predicted_probability")
WAYS: tuple[Way, ...] = ("both", "weights", "model")
PEER = """
import json, os, sys, warnings
warnings.simplefilter("ignore")
os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"
import nannyml as nml, pandas as pd
folder, rows = sys.argv[1], int(sys.argv[2])
read = lambda name: pd.read_parquet(f"{folder}/employment_MA_{name}.pq")
held, served = read("reference").tail(rows), read("analysis").merge(read("analysis_target"), on="id")
about = dict(y_pred_proba="predicted_probability", y_pred="prediction", y_true="employed",
             problem_type="classification_binary", metrics=["roc_auc", "f1", "accuracy"], chunk_size=5000)
guess = nml.CBPE(**about); guess.fit(held)
real = nml.PerformanceCalculator(**about); real.fit(held)
told = guess.estimate(served.drop(columns="employed")).filter(period="analysis").to_df()
real = real.calculate(served).filter(period="analysis").to_df()
at = lambda m: [real[(m, x)].iloc[0] for x in ("lower_threshold", "upper_threshold")]
print(json.dumps({m: {"told": told[(m, "value")].tolist(), "real": real[(m, "value")].tolist(), "at": at(m)}
                  for m in about["metrics"]}))
"""


def read(text: str) -> dict[str, NDArray[Any]]:
    """Run a query."""
    with duckdb.connect() as connection:
        found: dict[str, NDArray[Any]] = connection.execute(text).fetchnumpy()
    return found


class Census:
    """The rows that were held out, and the windows, as the watcher sees them."""

    def __init__(self, folder: Path, rows: int) -> None:
        known, served, truth = (
            f"read_parquet('{folder}/employment_MA_{name}.pq')" for name in ("reference", "analysis", "analysis_target")
        )
        held = read(f"SELECT * FROM {known} ORDER BY id")
        later = read(f"SELECT * FROM {served} AS served JOIN {truth} AS truth USING (id) ORDER BY id")
        self.reference = Reference.fit(self._inputs(held), None, 86400.0)
        self.names = tuple(f.name for f in self.reference.features)
        one = self._served({name: column[-rows:] for name, column in held.items()})
        assert one.value is not None
        self.held = Held(
            one.prediction, one.value, one.bins, self.names, tuple(f.ordered > 0 for f in self.reference.features)
        )
        cut = range(0, len(later["id"]), CHUNK)
        self.windows = [self._served({n: c[at : at + CHUNK] for n, c in later.items()}) for at in cut]

    def _inputs(self, table: dict[str, Any]) -> dict[str, NDArray[Any]]:
        kept = {name: np.asarray(column) for name, column in table.items() if name not in APART}
        return {name: column if name == "AGEP" else column.astype(str).astype(object) for name, column in kept.items()}

    def _served(self, table: dict[str, Any]) -> Served:
        bins = place(self.reference.features, self.names, self._inputs(table))
        value = np.asarray(table["employed"], np.float64)
        return Served(np.asarray(table["predicted_probability"], np.float64), bins, None, value)


def real(metric: str, served: Served) -> float:
    """Give the metric that was measured."""
    assert served.value is not None
    found = TwoClasses(metric, served.prediction).of(served.value)
    assert found is not None
    return found


def census(folder: Path, rows: int, peer: dict[str, Any]) -> None:
    """Print how far estimates of the census' windows are off: with bins, by the score alone, and the peer's."""
    data = Census(folder, rows)
    for metric in METRICS:
        thresholds, truth = peer[metric]["at"], np.array([real(metric, one) for one in data.windows])
        begun = time.perf_counter()
        estimator, bare = Estimator(metric, data.held), Estimator(metric, Held(data.held.prediction, data.held.value))
        found = [estimator.estimate(one) for one in data.windows]
        took = time.perf_counter() - begun
        plain = [bare.estimate(Served(one.prediction, one.bins[:, :0])) for one in data.windows]
        inside = np.mean(
            [
                one.low <= x <= one.high
                for one, x in zip(found, truth, strict=True)
                if one.low is not None and one.high is not None
            ]
        )
        ways = {
            "with bins": [one.value for one in found],
            "score alone": [one.value for one in plain],
            "nannyml": peer[metric]["told"],
        }
        print(f"census, {metric}, {len(data.held.value):,} held-out rows, band held {inside:.0%}, {took:.1f} s")
        for name, values in ways.items():
            print(f"    {name:<12} {judged(np.array(values, np.float64), truth, thresholds)}", flush=True)


def judged(values: Floats, truth: Floats, thresholds: list[float]) -> str:
    """Say how far off estimates are, and which of the real alerts they found."""
    low, high = thresholds
    alert, wrong = ((x < low) | (x > high) for x in (values, truth))
    told = f"off by {np.abs(values - truth).mean():.4f} on average"
    return f"{told}, found {(alert & wrong).sum()} of {wrong.sum()} real alerts, {(alert & ~wrong).sum()} false"


class Simulated:
    """Six inputs; scores that are not calibrated, and errors that grow with an input that moves."""

    def __init__(self, seed: int, regression: bool) -> None:
        self.rng, self.regression = np.random.default_rng(seed), regression
        self.reference = Reference.fit(self._columns(self.rng.standard_normal((6000, 6))), None, 3600.0)
        self.names = tuple(f.name for f in self.reference.features)

    @staticmethod
    def _columns(x: Floats) -> dict[str, Floats]:
        return {f"x{j}": column for j, column in enumerate(x.T)}

    def rows(self, count: int, shift: float = 0.0, concept: float = 0.0) -> Served:
        x = self.rng.standard_normal((count, 6))
        x[:, 0] += shift
        x[:, 1] += 0.6 * x[:, 0]
        if self.regression:
            prediction: Floats = x[:, 0] + x[:, 2]
            wide = (1 + concept) * (1.5 + np.tanh(x[:, 0]) + 0.3 * (x[:, 2] > 0))
            value = prediction + wide * self.rng.standard_normal(count)
        else:
            chance = 1 / (1 + np.exp(-(1 - concept) * (x[:, 0] * x[:, 2] + x[:, 1])))
            prediction = 1 / (1 + np.exp(-(0.8 * x[:, 1] + 0.2 * x[:, 0])))
            value = (self.rng.random(count) < chance).astype(np.float64)
        return Served(prediction, place(self.reference.features, self.names, self._columns(x)), None, value)

    def held(self, count: int) -> Held:
        one = self.rows(count)
        assert one.value is not None
        return Held(one.prediction, one.value, one.bins, self.names, (True,) * 6)


def value_of(metric: str, served: Served) -> float:
    """Give the metric that was measured, of either task."""
    assert served.value is not None
    found = measure(metric, served.prediction, served.value).value
    assert found is not None
    return found


def simulated(metric: str, runs: int) -> None:
    """Print how far estimates under a covariate shift of .5 are off, with bins and by the score alone."""
    off: dict[str, list[float]] = {"with bins": [], "score alone": []}
    inside = 0
    for seed in range(runs):
        world = Simulated(seed, metric in ("mae", "rmse"))
        held, window = world.held(6000), world.rows(5000, 0.5)
        found = Estimator(metric, held).estimate(window)
        bare = Estimator(metric, Held(held.prediction, held.value)).estimate(
            Served(window.prediction, window.bins[:, :0])
        )
        truth = value_of(metric, window)
        for name, one in (("with bins", found), ("score alone", bare)):
            assert one.value is not None
            off[name].append(abs(one.value - truth))
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= truth <= found.high
    told = ", ".join(f"{name} {np.mean(values):.4f}" for name, values in off.items())
    print(f"covariate shift, {metric}: off by {told}; band held {inside / runs:.0%}", flush=True)


def splitting(metric: str, runs: int) -> None:
    """Print how well each way finds the part that a covariate shift of .5 explains, beside concept drift."""
    large = Simulated(10_000, metric in ("mae", "rmse"))
    base, moved, both = (value_of(metric, large.rows(400_000, *x)) for x in ((0.0, 0.0), (0.5, 0.0), (0.5, 0.3)))
    off: dict[str, list[float]] = {way: [] for way in WAYS}
    covered = [0, 0]
    for seed in range(runs):
        world = Simulated(seed, metric in ("mae", "rmse"))
        held, window = world.held(6000), world.rows(4000, 0.5, 0.3)
        for way in WAYS:
            found = split(metric, held, window, way=way)
            assert found.covariate is not None
            assert found.concept is not None
            off[way].append(abs(found.covariate.value - (moved - base)))
            if way == "both":
                covered[0] += found.covariate.low <= moved - base <= found.covariate.high
                covered[1] += found.concept.low <= both - moved <= found.concept.high
    told = ", ".join(f"{way} {np.mean(values):.4f}" for way, values in off.items())
    held_by = f"intervals held {covered[0] / runs:.0%} and {covered[1] / runs:.0%}"
    print(f"split, {metric}, of {moved - base:+.4f} and {both - moved:+.4f}: off by {told}; {held_by}", flush=True)


def _run(python: str, *words: str) -> str:
    return subprocess.run([python, "-c", *words], capture_output=True, text=True, check=True).stdout


def main(python: str, runs: int) -> None:
    """Print the figures, a line each."""
    ask = "import nannyml, pathlib; print(pathlib.Path(nannyml.__file__).parent / 'datasets' / 'data')"
    folder = Path(_run(python, ask).strip().splitlines()[-1])
    for rows in HELD:
        census(folder, rows, json.loads(_run(python, PEER, str(folder), str(rows)).strip().splitlines()[-1]))
    for metric in ("roc_auc", "accuracy", "brier", "log_loss", "mae", "rmse"):
        simulated(metric, runs)
    for metric in ("mae", "rmse", "brier", "accuracy", "log_loss"):
        splitting(metric, runs)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 30)
