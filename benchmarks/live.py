"""Watching live: hundreds of models in one watcher, how soon an alarm comes, and how often for nothing.

    OMP_NUM_THREADS=1 python -m benchmarks.live [--models 300] [--rounds 12] [--streams 20] [--days 30]

A model has 20 numbers and 10 categories with a daily season, 30 days of reference by the hour, and two servers' files.
Delays are in rows and in seconds, read every 5 seconds, of at most 100,000 rows; a stream of quiet hours is one
model whose servers are read ten times an hour.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from trilho.watch.live.folder import LiveReader
from trilho.watch.live.ledger import Profile
from trilho.watch.live.watch import LiveWatch
from trilho.watch.live.watcher import LiveWatcher, Post
from trilho.watch.promise import Promise
from trilho_runtime.profile import Reference, add

HOUR = 3600.0
FIRST = 1_767_225_600.0
LATER = FIRST + 40 * 86400.0
NUMBERS, CATEGORIES, DAYS, PER_HOUR = 20, 10, 30, 1_000
MODEL = "m"


def rows(rng: np.random.Generator, hours: Any, shift: float = 0.0) -> dict[str, Any]:
    """Give rows of the given hours; `shift` moves one number, in standard deviations."""
    angle = (hours / HOUR % 24) / 24 * 2 * np.pi
    wave = np.sin(angle)
    columns: dict[str, Any] = {f"x{i}": rng.normal(size=len(hours)) + wave * (i % 3) / 2 for i in range(NUMBERS)}
    columns["x0"] = columns["x0"] + shift
    names = np.array([f"v{k}" for k in range(30)], object)
    for i in range(CATEGORIES):
        columns[f"c{i}"] = names[np.minimum((rng.exponential(4 + wave * (i % 2))), 29).astype(np.int64)]
    return columns


def make_reference(rng: np.random.Generator) -> Reference:
    """Fit what a model was trained on."""
    hours = FIRST + np.repeat(np.arange(DAYS * 24) * HOUR, PER_HOUR)
    return Reference.fit(rows(rng, hours), hours, HOUR)


def write(folder: Path, name: str, part: Profile) -> None:
    """Write a profile as servers do."""
    hour = datetime.fromtimestamp(part.hour, UTC).strftime("%Y-%m-%dT%H")
    about = {"schema": 1, "model": part.model, "version": part.version, "hour": hour, "event_time": False}
    counts = {k: v.tolist() for k, v in part.counts.items()}
    draft = folder / f".{name}"
    draft.write_text(json.dumps({**about, "rows": part.rows, "counts": counts}))
    draft.replace(folder / name)


def memory(reference: Reference, rng: np.random.Generator, looks: int) -> float:
    """Give what a watched model takes up after so many looks in two hours, in MB."""
    new = [reference.profile(rows(rng, np.full(500, LATER))) for _ in range(4)]
    tracemalloc.start()
    watch = LiveWatch(MODEL, 1, reference, Promise.of("1 per year", HOUR))
    for look in range(looks):
        hour = LATER + (look % 2) * HOUR
        watch.update(Profile(MODEL, 1, hour, False, 500, new[look % 4]), hour + look)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return taken / 1e6


def many(reference: Reference, models: int, rounds: int, rng: np.random.Generator) -> dict[str, float]:
    """Time a watcher's rounds, in which every model's two servers have published."""
    promise, took, clock = Promise.of("1 per year", HOUR), list[float](), [LATER]
    new = [reference.profile(rows(rng, np.full(500, LATER))) for _ in range(8)]
    with tempfile.TemporaryDirectory() as home:
        watcher = LiveWatcher(lambda model, alarms: None, lambda: clock[0])
        begun = time.perf_counter()
        for k in range(models):
            (Path(home) / str(k)).mkdir()
            watch = LiveWatch(MODEL, 1, reference, promise)
            watcher.add(Post(str(k), LiveReader(Path(home) / str(k)), [watch], Path(home) / f"{k}.json"))
        made = time.perf_counter() - begun
        for number in range(rounds):
            total = add(*(new[j % len(new)] for j in range(number + 1)))
            for k in range(models):
                for server in (7, 8):
                    part = Profile(MODEL, 1, LATER, False, 500 * (number + 1), total)
                    write(Path(home) / str(k), f"2026-02-10T00-{server}-1.json", part)
            clock[0] += 5
            watcher.once()
            took.append(watcher.seconds)
        size = statistics.mean(p.stat().st_size for p in Path(home).glob("*.json"))
        idle = time.perf_counter()
        watcher.once()
        idle = time.perf_counter() - idle
    return {
        "models": models, "first_round_s": took[0], "round_s": statistics.median(took[1:]), "slowest_s": max(took[1:]),
        "idle_round_s": idle, "ms_a_model": 1e3 * statistics.median(took[1:]) / models, "make_ms": 1e3 * made / models,
        "memory_file_kb": size / 1e3,
    }  # fmt: skip


def delay(reference: Reference, shift: float, seed: int, each: int, most: int = 100_000) -> int | None:
    """Give the rows from a shift in the middle of an hour to its alarm, looked at every `each` rows and 5 seconds."""
    rng, watch = np.random.default_rng(seed), LiveWatch(MODEL, 1, reference, Promise.of("1 per year", HOUR))
    watch.update(Profile(MODEL, 1, LATER, False, 20_000, reference.profile(rows(rng, np.full(20_000, LATER)))), LATER)
    now = LATER + 1800
    for taken in range(each, most + 1, each):
        now += 5
        part = reference.profile(rows(rng, np.full(each, LATER), shift))
        if watch.update(Profile(MODEL, 1, LATER, False, each, part), now):
            return taken
    return None


def quiet(reference: Reference, days: int, seed: int, looks: int = 10) -> int:
    """Count the alarms of a model whose hours are as the reference's, with a promise of 1 a day."""
    rng, watch = np.random.default_rng(seed), LiveWatch(MODEL, 1, reference, Promise.of("1 per day", HOUR), share=1.0)
    found = 0
    for hour in range(days * 24):
        start = LATER + hour * HOUR
        for look in range(looks):
            size = int(rng.poisson(PER_HOUR / looks))
            part = Profile(MODEL, 1, start, False, size, reference.profile(rows(rng, np.full(size, start))))
            found += len(watch.update(part, start + (look + 1) * HOUR / looks - 1))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--streams", type=int, default=20)
    parser.add_argument("--days", type=int, default=30)
    given = parser.parse_args(arguments)
    rng = np.random.default_rng(1)
    reference = make_reference(rng)
    for name, value in many(reference, given.models, given.rounds, rng).items():
        print(f"{name}: {value:,.3g}")
    for looks in (10, 200):
        print(f"MB of one model after {looks} looks: {memory(reference, rng, looks):.3g}")
    for shift in (0.25, 0.5, 1.0, 2.0):
        for each in (100, 5_000):
            took = [delay(reference, shift, seed, each) for seed in range(5)]
            said = ", ".join("none" if n is None else f"{n:,} rows ({5 * n // each} s)" for n in took)
            print(f"shift of {shift} sd of one of 30 features, {each // 5:,} predictions a second: {said}")
    alarms = [quiet(make_reference(np.random.default_rng(9 + s)), given.days, s) for s in range(given.streams)]
    told = given.days * given.streams
    print(f"quiet: {sum(alarms)} false alarms in {told} days where at most {told * 0.6:.0f} are promised")


if __name__ == "__main__":
    main()
