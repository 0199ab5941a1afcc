"""How often the drift detector alarms for nothing, and how soon for something: planted worlds, counted.

python -m benchmarks.false_alarms [--quick]

Every stream lasts at least twice the run length A that is promised. A line says the alarms in 1,000 windows with a 95%
interval (exact for a Poisson count) beside the promise 1000/A; a broken promise ends the run with exit code 1.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks import drift_worlds as worlds
from benchmarks.drift_worlds import Rng, Stream
from trilho.watch.drift import DriftDetector

A = 100.0
SEED = 20270301
Make = Callable[[Rng], Stream]
DrawOf = Callable[[float], worlds.Draw]  # of a shift


@dataclass(frozen=True)
class World:
    """A world with the streams it is given in a long run."""

    name: str
    make: Make
    streams: int = 20
    run_length: float = A


def _known(draw: Callable[[], worlds.Draw], windows: int = 104, **about: Any) -> Make:
    return lambda rng: worlds.counted(draw(), rng, windows, **about)


def _bare(draw: Callable[[], worlds.Draw], windows: int = 104) -> Make:
    return lambda rng: worlds.without_windows(worlds.counted(draw(), rng, windows))


def quiet() -> list[World]:
    """Name the worlds without drift."""
    by_twenty = partial(worlds.clusters, 5_000, 20)
    keyed: dict[str, Any] = {"key": "customer", "cluster": 20.0}
    uneven, hours = partial(worlds.uneven_clusters, 5_000), partial(worlds.hours, 1_000, 0.5)
    sizes = (30, 300, 5_000, 100_000)
    return [
        *(World(f"independent rows, {n:,} a window", _known(partial(worlds.independent, n))) for n in sizes),
        World("independent rows, 1,000, A = 1,000", _known(partial(worlds.independent, 1_000)), 4, 1000.0),
        World("windows of 30 to 100,000 rows in turn", _known(worlds.uneven)),
        World("30 features that are all the same", _known(partial(worlds.dependent_features, 1_000, 30))),
        World("100 features", _known(partial(worlds.independent, 500, 100)), 8),
        World("clusters of 20, key unknown", _known(by_twenty)),
        World("clusters of 20, key known", _known(by_twenty, **keyed)),
        World("clusters of 20, key known, 12 windows", _known(by_twenty, 12, **keyed)),
        World("clusters of 1 to 100, key unknown", _known(uneven)),
        World("clusters of 1 to 100, key known", _known(uneven, key="customer", cluster=100.0)),
        World("rows follow each other (.9)", _known(partial(worlds.following, 500, 0.9)), 8),
        World("windows differ by .1 sd, 5,000 rows", _known(partial(worlds.weather, 5_000, 0.1))),
        World("windows differ by .1 sd, 50,000 rows", _known(partial(worlds.weather, 50_000, 0.1))),
        *(World(f"levels wander (.9), {n:,} rows", _known(partial(worlds.wandering, n, 0.1))) for n in (100, 1_000)),
        World("levels wander (.9), 20,000 rows", _known(partial(worlds.wandering, 20_000, 0.1))),
        World("nulls of 2% to 30%", _known(partial(worlds.gaps, 1_000))),
        World("hours of a day, 21 days known", _known(hours, 504)),
        World("hours of a day, 10 days known", _known(hours, 240)),
        World("reference of 60 small windows, .95 quantile", lambda rng: worlds.small_reference(rng, 300, 0.95)),
        World("reference of 60 small windows, worst of 50", lambda rng: worlds.small_reference(rng, 300, 1.0)),
        World("truth at .02, reference off, .95 quantile", lambda rng: worlds.at_the_edge(rng, 5_000, 0.02, 0.95)),
        World("truth at .02, worst reference of 200", lambda rng: worlds.at_the_edge(rng, 5_000, 0.02, 1.0)),
        World("truth at .1, 100,000 rows, .95 quantile", lambda rng: worlds.at_the_edge(rng, 100_000, 0.1, 0.95)),
        World("whole and 5 slices", lambda rng: worlds.sliced(rng, 1_000), 8),
        World("ties, zeros, nulls, new and 5,000 values, 30 rows", lambda rng: worlds.messy(rng, 30), 8),
        World("ties, zeros, nulls, new and 5,000 values", lambda rng: worlds.messy(rng, 400), 4),
    ]


def controls() -> list[World]:
    """Name the worlds that a detector alarms in which takes rows for independent and windows for alike."""
    return [
        World("clusters of 20", _bare(partial(worlds.clusters, 5_000, 20))),
        World("rows follow each other (.9)", _bare(partial(worlds.following, 500, 0.9))),
        World("windows differ by .1 sd, 50,000 rows", _bare(partial(worlds.weather, 50_000, 0.1))),
        World("hours of a day", _bare(partial(worlds.hours, 1_000, 0.5), 504)),
    ]


def beyond() -> list[World]:
    """Name worlds of which the reference shows too little; the detector's notes say so."""
    slow = partial(worlds.wandering, 5_000, 0.05, 10, 0.97)
    return [World("levels wander (.97): under 4 excursions in 104 windows", _known(slow))]


def count(world: World, streams: int, windows: float = 2.0) -> tuple[int, int]:
    """Give the alarms of so many streams, each of twice the run length, and the windows."""
    length, alarms = int(windows * world.run_length), 0
    for stream in range(streams):
        alarms += world.make(np.random.default_rng([SEED, stream])).alarms(world.run_length, length)
    return alarms, length * streams


def interval(count: int) -> tuple[float, float]:
    """Bound the mean of a Poisson count with 95%, by bisection on its own distribution.

    >>> [round(x, 2) for x in interval(0)], [round(x, 2) for x in interval(5)]
    ([0.0, 3.69], [1.62, 11.67])
    """
    low = 0.0 if count == 0 else _bisect(lambda mean: 1 - _below(count - 1, mean) - 0.025)
    return low, _bisect(lambda mean: 0.025 - _below(count, mean))


def _below(count: int, mean: float) -> float:
    steps = np.arange(count + 1)
    logs = steps * np.log(max(mean, 1e-300)) - mean - np.cumsum(np.log(np.maximum(steps, 1)))
    return float(np.exp(logs).sum())


def _bisect(rising: Callable[[float], float]) -> float:
    low, high = 0.0, 1e5
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return high


def delay(rng: Rng, rows: int, shift: float, most: int = 200) -> int:
    """Give the windows from a shift of one feature of 30 to the alarm, after 20 quiet ones; A = 1000, a reference of a
    million rows."""
    q = worlds.even()
    counts = worlds.rows(rng, q, 1_000_000, 30)
    reference = worlds.reference_of(counts, rng.multinomial(rows, q / q.sum(), size=(200, 30)))
    detector, moved = DriftDetector(reference, 1000.0), worlds.shifted(q, shift)
    for k in range(20 + most):
        window = worlds.rows(rng, q, rows, 30)
        if k >= 20:
            window[0] = worlds.rows(rng, moved, rows)[0]
        if detector.update({f"x{i}": row for i, row in enumerate(window)}, k * 3600.0).alarm and k >= 20:
            return k - 19
    return most + 1


def hard_delay(rng: Rng, draw: DrawOf, shift: float, windows: int, most: int = 60) -> int:
    """Give the windows from a shift of one feature of 10 to the alarm in a world of its own, A = 1000."""
    stream = worlds.counted(draw(0.0), rng, windows)
    detector, after = DriftDetector(stream.reference, 1000.0), draw(shift)
    for k in range(20 + most):
        window = next(stream.windows)[0]
        if k >= 20:
            window = {**window, "x0": after(rng, windows + k)[0]}
        if detector.update(window, (windows + k) * 3600.0).alarm and k >= 20:
            return k - 19
    return most + 1


def hard() -> list[tuple[str, DrawOf, int, tuple[str, str]]]:
    """Name worlds in which a shift is hard to see, and what drift.md found for .2 and .5 sd."""
    return [
        ("independent rows, 1,000", lambda s: worlds.moved(lambda q: worlds.rows_of(q, 1_000), s), 260, ("3", "1")),
        ("independent rows, 5,000", lambda s: worlds.moved(lambda q: worlds.rows_of(q, 5_000), s), 260, ("1", "1")),
        ("clusters of 20, 5,000", lambda s: worlds.moved(lambda q: worlds.rows_of(q, 5_000, 20), s), 260, ("11", "1")),
        ("windows differ by .1 sd, 50,000", lambda s: worlds.weather(50_000, 0.1, level=s), 260, ("30", "2")),
        (
            "hours of a day, 1,000, 60 days known",
            lambda s: worlds.hours(1_000, 0.5, level=s, weekend=1.0),
            1440,
            ("1", "1"),
        ),
    ]


def coverage(rng: Rng, rows: int, shift: float, repeats: int) -> tuple[float, float]:
    """Give how often the distance's interval holds the true distance, and how wide it is on average."""
    q = worlds.even()
    moved = worlds.shifted(q, shift)
    true, held, width = 0.5 * float(np.abs(moved - q).sum()), 0, 0.0
    for _ in range(repeats):
        counts = worlds.rows(rng, q, 50_000, 20)
        detector = DriftDetector(worlds.reference_of(counts, np.zeros((0, *counts.shape), np.int64)))
        found = detector.update({f"x{i}": row for i, row in enumerate(worlds.rows(rng, moved, rows, 20))}).distances
        held += sum(low <= true <= high for _, low, high in found.values())
        width += sum(high - low for _, low, high in found.values())
    return held / (20 * repeats), width / (20 * repeats)


def speed(features: int = 30, repeats: int = 300) -> float:
    """Give the processor's microseconds of one update with 25 bins a feature."""
    rng = np.random.default_rng(SEED)
    stream = worlds.counted(worlds.independent(1_000, features), rng, 104)
    detector = DriftDetector(stream.reference)
    profiles = [next(stream.windows) for _ in range(20)]
    detector.update(*profiles[0])
    began = time.process_time()
    for k in range(repeats):
        detector.update(*profiles[k % 20])
    return (time.process_time() - began) / repeats * 1e6


def main(words: list[str]) -> int:
    """Print the figures; give 1 where a promise is broken."""
    quick = "--quick" in words
    broken = _promises(quick)
    _delays(quick)
    _intervals(quick)
    print(f"\nAn update of 30 features takes {speed():.0f} microseconds.")
    return min(broken, 1)


def _promises(quick: bool) -> int:
    """Print the worlds without drift, and give how many broke their promise."""
    broken = 0
    print("| world without drift | windows | alarms in 1,000 (95%) | promised | |\n| --- | --- | --- | --- | --- |")
    for world in quiet():
        alarms, windows = count(world, max(world.streams // 5, 1) if quick else world.streams)
        low, high = (x * 1000 / windows for x in interval(alarms))
        promised = 1000 / world.run_length
        kept = low <= promised
        broken += not kept
        told = f"{alarms * 1000 / windows:.2f} ({low:.2f} to {high:.2f})"
        print(f"| {world.name} | {windows:,} | {told} | {promised:g} | {'' if kept else 'BROKEN'} |", flush=True)
    for title, others in (("control: the same without care", controls()), ("more than can be known", beyond())):
        print(f"\n| {title} | windows | alarms in 1,000 | promised |\n| --- | --- | --- | --- |")
        for world in others:
            alarms, windows = count(world, 2 if quick else 8)
            print(f"| {world.name} | {windows:,} | {alarms * 1000 / windows:.0f} | {1000 / world.run_length:g} |")
    return broken


def _delays(quick: bool) -> None:
    print("\n| shift of one of 30 features, A = 1000 | rows | windows to the alarm: median, .9 quantile | drift.md |")
    print("| --- | --- | --- | --- |")
    for rows, shift, known in ((5_000, 0.1, 5), (5_000, 0.2, 1), (500, 0.1, 44), (500, 0.2, 4)):
        found = [delay(np.random.default_rng([SEED, k]), rows, shift) for k in range(8 if quick else 40)]
        print(f"| {shift} sd | {rows:,} | {np.median(found):g}, {np.quantile(found, 0.9):g} | {known} |", flush=True)
    print("\n| hard worlds, 10 features, A = 1000 | .2 sd | .5 sd | drift.md |\n| --- | --- | --- | --- |")
    for name, draw, windows, known_of in hard():
        turns = [np.random.default_rng([SEED, k]) for k in range(4 if quick else 20)]
        middle = [np.median([hard_delay(rng, draw, shift, windows) for rng in turns]) for shift in (0.2, 0.5)]
        print(f"| {name} | {middle[0]:g} | {middle[1]:g} | {', '.join(known_of)} |", flush=True)


def _intervals(quick: bool) -> None:
    print("\n| interval of the distance, 95% stated | rows | holds | width |\n| --- | --- | --- | --- |")
    for rows in (100, 1_000, 10_000):
        for shift in (0.0, 0.1, 0.5):
            held, width = coverage(np.random.default_rng(SEED), rows, shift, 10 if quick else 100)
            print(f"| moved by {shift} sd | {rows:,} | {held:.1%} | {width:.3f} |", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
