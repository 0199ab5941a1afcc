"""The promise about false alarms, counted in planted worlds: short, seeded runs of benchmarks/false_alarms.py."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from benchmarks import drift_worlds as worlds
from benchmarks.drift_worlds import Rng, Stream
from benchmarks.false_alarms import coverage, delay, interval

from trilho.watch.drift import DriftDetector
from trilho_runtime.profile import Reference

SEED = 7001
Make = Callable[[Rng], Stream]
QUIET: dict[str, Make] = {
    "independent": lambda rng: worlds.counted(worlds.independent(300), rng, 60),
    "thirty rows a window": lambda rng: worlds.counted(worlds.independent(30), rng, 60),
    "many rows a window": lambda rng: worlds.counted(worlds.independent(100_000), rng, 60),
    "windows of every size": lambda rng: worlds.counted(worlds.uneven(), rng, 60),
    "features that are all the same": lambda rng: worlds.counted(worlds.dependent_features(500, 20), rng, 60),
    "clusters": lambda rng: worlds.counted(worlds.clusters(2_000, 20), rng, 60),
    "clusters of any size": lambda rng: worlds.counted(worlds.uneven_clusters(2_000), rng, 60),
    "clusters, key known, few windows": lambda rng: worlds.counted(
        worlds.clusters(2_000, 20), rng, 5, key="customer", cluster=20.0
    ),
    "rows follow each other": lambda rng: worlds.counted(worlds.following(200, 0.8, 3), rng, 60),
    "windows differ": lambda rng: worlds.counted(worlds.weather(20_000, 0.1), rng, 60),
    "a level that wanders": lambda rng: worlds.counted(worlds.wandering(5_000, 0.1, 5), rng, 104),
    "nulls come and go": lambda rng: worlds.counted(worlds.gaps(500), rng, 60),
    "hours": lambda rng: worlds.counted(worlds.hours(500, 0.5), rng, 240),
    "a small reference that errs": lambda rng: worlds.small_reference(rng, 300, 0.95),
    "truth at the tolerance, reference off": lambda rng: worlds.at_the_edge(rng, 5_000, 0.02, 0.95),
    "truth at a wide tolerance": lambda rng: worlds.at_the_edge(rng, 50_000, 0.1, 0.95),
    "values of all sorts": lambda rng: worlds.messy(rng, 150, 50),
    "whole and slices": lambda rng: worlds.sliced(rng, 500, 45),
}


@pytest.mark.parametrize("name", QUIET)
def test_the_promise_holds(name: str) -> None:
    """Streams of twice A: the alarms counted, by the lower end of their 95% interval, are no more than promised."""
    run_length, streams, alarms = 40.0, 3, 0
    for stream in range(streams):
        alarms += QUIET[name](np.random.default_rng([SEED, stream])).alarms(run_length, 80)
    assert interval(alarms)[0] <= streams * 80 / run_length
    assert alarms <= streams * 80 / run_length


@pytest.mark.parametrize("name", ["clusters", "windows differ", "hours"])
def test_without_what_the_references_windows_say_these_worlds_alarm(name: str) -> None:
    """The control: the worlds bite, and it is the care about rows and windows that keeps the promise."""
    stream = worlds.without_windows(QUIET[name](np.random.default_rng([SEED, 0])))
    assert stream.alarms(40.0, 80) > 3 * 80 / 40


@pytest.mark.parametrize(("rows", "shift", "known"), [(5_000, 0.1, 5), (5_000, 0.2, 1), (500, 0.2, 4)])
def test_one_feature_of_thirty_is_found_as_soon_as_the_method_says(rows: int, shift: float, known: int) -> None:
    found = [delay(np.random.default_rng([SEED, k]), rows, shift, 60) for k in range(5)]
    assert np.median(found) <= known


@pytest.mark.parametrize(("rows", "shift"), [(300, 0.0), (2_000, 0.2), (20_000, 0.5)])
def test_the_interval_of_a_distance_holds_the_true_one(rows: int, shift: float) -> None:
    held, width = coverage(np.random.default_rng(SEED), rows, shift, 15)
    assert held >= 0.95
    assert width < 3.2 / rows**0.5 + 0.03


def test_the_interval_of_a_count() -> None:
    low, high = interval(10)
    assert low == pytest.approx(4.795, abs=0.001)
    assert high == pytest.approx(18.390, abs=0.001)


def test_a_level_too_slow_for_the_reference_is_said() -> None:
    """Three long excursions in 104 windows tell nobody how far the next one goes."""
    slow = worlds.counted(worlds.wandering(5_000, 0.05, 2, keep=0.99), np.random.default_rng(SEED), 104)
    assert DriftDetector(slow.reference).notes() == [
        "too slow to be known from the reference, so that its false alarms may be more than promised: x0, x1"
    ]
    known = worlds.counted(worlds.weather(5_000, 0.1, 2), np.random.default_rng(SEED), 104)
    assert DriftDetector(known.reference).notes() == []


def test_windows_that_are_alike_are_taken_for_alike() -> None:
    """A single odd value in the first or last window is no slow movement, and makes no season."""
    for seed in range(3):
        rng, rows = np.random.default_rng([SEED, seed]), 24_000
        columns = {f"x{i}": rng.standard_normal(rows) for i in range(6)}
        columns["x0"][-1] = 9.0
        detector = DriftDetector(Reference.fit(columns, np.arange(rows) / 400 * worlds.DAY, worlds.DAY))
        assert {a.learnt for a in detector.allowances} == {"rows"}
        assert detector.seasons.by == ""
