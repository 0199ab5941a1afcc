"""A made-up platform of four models, built from real records, for tests of pages (and for looking at them)."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from tests.console.memory import NOW, MemorySource, alarmed, released, settings, tasks, trained

from trilho.core import records as r
from trilho.core.readings import EndpointStatus, FeatureReading, LabelStatus, Reading, VersionStats

BIKE = ["temp_max_c", "temp_min_c", "precip_mm", "month", "hour", "prediction"]
FLIGHT = ["temp", "dewp", "pressure", "humid", "carrier", "dest", "origin", "hour", "distance", "visib", "prediction"]


def readings(
    name: str,
    metric: str,
    start: datetime,
    window: timedelta,
    number: int,
    names: list[str],
    value: Callable[[int, random.Random], tuple[int, float, float]],
    labelled_until: int,
) -> list[Reading]:
    """Make windows; `value` gives version, metric and what was expected for the i-th."""
    rng = random.Random(f"{name} 7")
    found = []
    for i in range(number):
        version, measured, expected = value(i, rng)
        known, rows = i < labelled_until, rng.randint(150, 175) if metric == "mae" else rng.randint(210, 320)
        width = measured * 0.06 if metric == "mae" else 0.045
        features = [
            FeatureReading(
                feature=f,
                tolerance=0.05 + 0.004 * k,
                share=0.0,
                distance=abs(rng.gauss(0.02, 0.012)) + _moved(name, f, i, number),
            )
            for k, f in enumerate(names)
        ]
        found.append(
            Reading(
                model=name,
                version=version,
                window_start=(start + i * window).isoformat(),
                rows=rows,
                window_end=(start + (i + 1) * window).isoformat(),
                evidence=abs(rng.gauss(2, 6)) * (1 + 40 * _moved(name, "temp", i, number)),
                threshold=730.0,
                features=features,
                metric=metric,
                value=round(measured, 4) if known else None,
                low=measured - width if known else None,
                high=measured + width if known else None,
                expected=expected,
                labelled=rows if known else 0,
            )
        )
    return found


def _moved(name: str, feature: str, i: int, number: int) -> float:
    if name == "flight-delay" and feature in ("temp", "dewp"):
        phase = (i - 110) / 60 if feature == "temp" else (i - 130) / 50
        return float(max(0.0, 0.22 * (1 - phase * phase)))
    return 0.05 if name == "bike-demand" and feature == "month" and i > number - 12 else 0.0


def bike(source: MemorySource) -> None:
    """Write a regression whose target moves: four releases, a fifth on its way, an incident open."""
    source.known["bike-demand"] = settings("bike-demand", "regression", owner="mobility team", key="event_id")
    starts = [0, 12, 66, 131, 236, 408]

    def value(i: int, rng: random.Random) -> tuple[int, float, float]:
        version = max(k for k, s in enumerate(starts[:5]) if i >= s) + 1
        grown = min((i - starts[version - 1]) / 90, 1.2) ** 3 * (30 + 8 * version)
        late = 55 * max(0, (i - 396) / 12) if i > 396 else 0
        return (
            version,
            (38 + 4 * version) * rng.uniform(0.86, 1.14) * (1 + 0.12 * ((i % 52) / 52)) + grown * 0.45 + late,
            38 + 4.0 * version,
        )

    rows = readings("bike-demand", "mae", datetime(2012, 1, 1, tzinfo=UTC), timedelta(days=7), 405, BIKE, value, 402)
    source.measured["bike-demand"] = rows
    begin = NOW - timedelta(days=3)
    trained(source, begin, "bike-demand", 1, "mae", 41.0)
    released(source, begin + timedelta(minutes=2), "bike-demand", 1, actor="maria")
    for number, start in enumerate(starts[1:5], start=2):
        at, reading = begin + timedelta(hours=11 * (number - 1)), rows[start - 1]
        title = f"MAE {reading.value:.3g} over {reading.window_start[:10]}, {reading.expected:.3g} expected"
        alarmed(source, at, reading, "performance", title, close=f"version {number} took over", retraining="promoted")
        trained(
            source,
            at + timedelta(seconds=5),
            "bike-demand",
            number,
            "mae",
            38 + 4.0 * number,
            trigger="performance",
            until=reading.window_end,
        )
        released(source, at + timedelta(seconds=32), "bike-demand", number)
    at, reading = NOW - timedelta(minutes=2), rows[401]
    alarmed(
        source, at, reading, "performance", f"MAE {reading.value:.3g} over 8–14 Sep 2019, 58 expected", severity="high"
    )
    trained(
        source,
        at + timedelta(seconds=5),
        "bike-demand",
        6,
        "mae",
        57.0,
        trigger="performance",
        until=reading.window_end,
    )
    released(source, at + timedelta(seconds=40), "bike-demand", 6, upto=10)
    source.progress["bike-demand"] = LabelStatus(
        served=66_180, labelled=65_702, unknown=0, repeated=14, until="2019-09-15T00:00:00+00:00"
    )
    source.endpoints["bike-demand"] = EndpointStatus(
        model="bike-demand",
        address="http://127.0.0.1:41711",
        running=True,
        pid=4711,
        versions={5: "ready", 6: "ready"},
        stats={
            5: VersionStats(requests=3402, errors=0, rows=65_980, p95_ms=7.4),
            6: VersionStats(requests=31, errors=0, rows=200, p95_ms=7.9),
        },
        updated=NOW.isoformat(),
    )


def flight(source: MemorySource) -> None:
    """Write a classification that drifted with the seasons and is well now; one challenger was rejected."""
    source.known["flight-delay"] = settings("flight-delay", "classification", owner="operations", key="event_id")

    def value(i: int, rng: random.Random) -> tuple[int, float, float]:
        version = 1 if i < 34 else 2 if i < 98 else 3
        return version, 0.69 + 0.012 * version + rng.gauss(0, 0.016), 0.70 + 0.01 * version

    rows = readings(
        "flight-delay", "roc_auc", datetime(2013, 3, 1, tzinfo=UTC), timedelta(days=1), 305, FLIGHT, value, 301
    )
    source.measured["flight-delay"] = rows
    begin = NOW - timedelta(days=2)
    trained(source, begin, "flight-delay", 1, "roc_auc", 0.721, until="2013-02-28T23:00:00")
    released(source, begin + timedelta(minutes=1), "flight-delay", 1, actor="maria")
    for number, start in ((2, 34), (3, 98)):
        at = begin + timedelta(hours=9 * number)
        alarmed(
            source,
            at,
            rows[start - 1],
            "drift",
            "temp and dewp have left the range of their training data",
            close=f"version {number} took over",
            retraining="promoted",
        )
        trained(
            source,
            at + timedelta(seconds=4),
            "flight-delay",
            number,
            "roc_auc",
            0.71 + 0.01 * number,
            trigger="drift",
            until=rows[start].window_start,
        )
        source.write(
            at + timedelta(seconds=20),
            r.VersionApproved(model="flight-delay", version=number, why="looked at the gate"),
            actor="joao",
        )
        released(source, at + timedelta(seconds=31), "flight-delay", number)
    at = NOW - timedelta(hours=8)
    trained(source, at, "flight-delay", 4, "roc_auc", 0.70, verdict="fail", trigger="drift", until=rows[250].window_end)
    source.progress["flight-delay"] = LabelStatus(
        served=80_010, labelled=78_940, unknown=3, repeated=0, until="2013-12-27T00:00:00+00:00"
    )
    source.endpoints["flight-delay"] = EndpointStatus(
        model="flight-delay",
        address="http://127.0.0.1:41713",
        running=True,
        pid=4712,
        versions={3: "ready"},
        stats={3: VersionStats(requests=4220, errors=1, rows=80_010, p95_ms=9.1)},
        updated=NOW.isoformat(),
    )


def fresh(source: MemorySource) -> None:
    """Write a model that serves but has no labels yet, and one whose first run failed."""
    source.known["credit-risk"] = settings("credit-risk", "classification")
    rows = readings(
        "credit-risk",
        "roc_auc",
        datetime(2026, 2, 20, tzinfo=UTC),
        timedelta(days=1),
        12,
        FLIGHT[:5],
        lambda i, rng: (1, 0.8, 0.81),
        0,
    )
    source.measured["credit-risk"] = rows
    trained(source, NOW - timedelta(days=13), "credit-risk", 1, "roc_auc", 0.81, until="2026-02-18T00:00:00")
    released(source, NOW - timedelta(days=12), "credit-risk", 1, actor="ana")
    source.progress["credit-risk"] = LabelStatus(served=3100, labelled=0, unknown=0, repeated=0, until=None)
    source.endpoints["credit-risk"] = EndpointStatus(
        model="credit-risk",
        address="http://127.0.0.1:41719",
        running=True,
        pid=4713,
        versions={1: "ready"},
        stats={1: VersionStats(requests=3100, errors=0, rows=3100, p95_ms=5.0)},
        updated=NOW.isoformat(),
    )
    source.known["churn"] = settings("churn", "classification")
    at = NOW - timedelta(hours=1)
    error = "fit-all: ValueError: could not convert string to float: '12,50'"
    source.write(
        at,
        r.RunStarted(
            model="churn",
            run="chur-001a7",
            pipeline="train",
            trigger="a person",
            dataset=None,
            commit=None,
            commit_time=None,
        ),
        actor="ana",
    )
    source.write(
        at + timedelta(seconds=3),
        r.RunEnded(
            model="churn", run="chur-001a7", state="failed", tasks=tasks(failed="fit-all"), error=error, seconds=3.1
        ),
    )
    source.logs["chur-001a7", "fit-all"] = (
        'Traceback (most recent call last):\n  File "src/churn/train.py", line 18, in train\n    model.fit(X, y)\n'
        "ValueError: could not convert string to float: '12,50'\n"
    )


def platform() -> MemorySource:
    source = MemorySource()
    for write in (bike, flight, fresh):
        write(source)
    return source


@pytest.fixture
def source() -> MemorySource:
    return platform()


@pytest.fixture(scope="session")
def made_up() -> Callable[[], MemorySource]:
    return platform
