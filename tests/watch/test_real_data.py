"""The detectors on the two example projects' data: seasons are covered, drift is found, controls stay silent."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from numpy.typing import NDArray

from trilho.watch.drift import DriftDetector
from trilho.watch.loss import LossDetector, allowed_loss
from trilho.watch.window import iso
from trilho_runtime.bins import as_seconds
from trilho_runtime.profile import Profile, Reference

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DAY = 86400.0
WEEK = 7 * DAY
YEAR = 31556952.0
BIKES, FLIGHTS = EXAMPLES / "bike-demand", EXAMPLES / "flight-delay"
Table = dict[str, NDArray[Any]]
Floats = NDArray[np.float64]


@cache
def read(pattern: str) -> Table:
    with duckdb.connect() as connection:
        found: Table = connection.execute(f"SELECT * FROM '{pattern}' ORDER BY ts, event_id").fetchnumpy()
    return found


def inputs(table: Table, *hidden: str) -> Table:
    return {name: column for name, column in table.items() if name not in ("event_id", "ts", *hidden)}


def windows(reference: Reference, table: Table, *hidden: str) -> Iterator[tuple[str, Profile]]:
    columns, k = inputs(table, *hidden), as_seconds(np.asarray(table["ts"])) // reference.window_seconds
    for each in np.unique(k):
        start = iso(float(each) * reference.window_seconds)
        yield start[:10], reference.profile({name: column[k == each] for name, column in columns.items()})


def run_length(window: float) -> float:
    """One false alarm a year for the model, half of it for drift."""
    return 2 * YEAR / window


def alarms(reference: Reference, table: Table, *hidden: str) -> list[tuple[str, str]]:
    """Give window and first cause of each alarm."""
    detector = DriftDetector(reference, run_length(reference.window_seconds))
    found = ((start, detector.update(profile)) for start, profile in windows(reference, table, *hidden))
    return [(start, drift.causes[0].feature) for start, drift in found if drift.alarm]


def resampled(table: Table, rows: int, seed: int, window: float, each: int) -> Table:
    """Give rows drawn from a table, `each` to a window."""
    picked = np.random.default_rng(seed).integers(0, len(table["ts"]), rows)
    drawn = {name: column[picked] for name, column in table.items()}
    drawn["ts"] = (np.arange(rows) // each * window).astype(np.float64)
    return drawn


def test_bike_inputs_are_the_same_seasons_every_year() -> None:
    base, later = read(f"{BIKES}/data/baseline.csv"), read(f"{BIKES}/later/*.parquet")
    reference = Reference.fit(inputs(base, "rides"), as_seconds(np.asarray(base["ts"])), WEEK)
    assert alarms(reference, later, "rides") == []  # 401 weeks, 2012 to 2019


@pytest.mark.parametrize("hidden", [(), ("tailnum", "flight")])
def test_flights_drift_with_the_warm_season(hidden: tuple[str, ...]) -> None:
    """In April 11 days are warmer than any winter day for a time, from May on most: found on 10 May."""
    base, later = read(f"{FLIGHTS}/data/baseline.csv"), read(f"{FLIGHTS}/later/*.parquet")
    reference = Reference.fit(inputs(base, "late_departure", *hidden), as_seconds(np.asarray(base["ts"])), DAY)
    found = alarms(reference, later, "late_departure", *hidden)
    first, cause = found[0]
    assert "2013-04-08" < first < "2013-05-15"
    assert cause == "temp"
    if hidden:  # tail and flight numbers drift by themselves
        outside = [day for day, _ in found if not "2013-04" < day < "2013-10-20"]
        assert len(outside) <= 1, outside


@pytest.mark.parametrize(
    ("base", "target", "window", "each"),
    [(f"{BIKES}/data/baseline.csv", "rides", WEEK, 168), (f"{FLIGHTS}/data/baseline.csv", "late_departure", DAY, 270)],
)
def test_rows_drawn_from_the_baseline_raise_no_alarm(base: str, target: str, window: float, each: int) -> None:
    table = read(base)
    reference = Reference.fit(inputs(table, target), as_seconds(np.asarray(table["ts"])), window)
    drawn = resampled(table, each * 300, 1, window, each)
    assert alarms(reference, drawn, target) == []


def bike_model(table: Table, until: int) -> dict[tuple[bool, int], float]:
    """Fit mean rides by hour on workdays and free days."""
    groups = bike_groups(table)[:until]
    rides = np.asarray(table["rides"], np.float64)[:until]
    return {(bool(free), h): float(rides[(groups == (free, h)).all(1)].mean()) for free in (0, 1) for h in range(24)}


def bike_groups(table: Table) -> NDArray[np.int64]:
    hours = (as_seconds(np.asarray(table["ts"])) // 3600).astype(np.int64)
    return np.stack([((hours // 24 + 3) % 7 >= 5).astype(np.int64), hours % 24], axis=1)


def bike_losses(model: dict[tuple[bool, int], float], table: Table) -> Floats:
    predictions = np.array([model[bool(free), int(hour)] for free, hour in bike_groups(table)])
    return np.asarray(np.abs(np.asarray(table["rides"], np.float64) - predictions))


def test_the_bikes_concept_drift_is_found_within_weeks() -> None:
    """Rides grew by two thirds in 2012 while the inputs stayed as they were: only the losses can see it."""
    base, later = read(f"{BIKES}/data/baseline.csv"), read(f"{BIKES}/later/2012.parquet")
    until = len(base["ts"]) * 3 // 4
    model = bike_model(base, until)
    held = bike_losses(model, base)[until:]
    limit = allowed_loss(held, 0.1)
    assert limit is not None
    detector = LossDetector.of(limit, 2 * 8760.0)
    first = detector.update_many(bike_losses(model, later))
    assert first is not None
    assert first < 16 * 168  # by mid April: in winter this simple model errs little
    rng = np.random.default_rng(2)
    quiet = LossDetector.of(limit, 2 * 8760.0)
    assert quiet.update_many(rng.choice(held, 40_000)) is None
