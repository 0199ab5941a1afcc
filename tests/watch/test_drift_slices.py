"""Slices: watched beside the whole, within its promise, however many values a column has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from trilho.watch.drift import DriftDetector
from trilho.watch.slices import Slices
from trilho_runtime.profile import Reference

HOUR = 3600.0


def table(seed: int, rows: int, moved: float = 0.0) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(seed)
    country = rng.choice(["BR", "PT", "AO"], rows, p=[0.8, 0.15, 0.05]).astype(object)
    return {"x": rng.standard_normal(rows) + moved * (country == "PT"), "country": country}


@pytest.fixture(scope="module")
def learnt() -> tuple[Reference, Slices]:
    data, time = table(0, 40_000), np.arange(40_000) * HOUR / 800
    return Reference.fit(data, time, HOUR), Slices.fit(data, ["country"], time, HOUR)


def test_a_slice_that_moves_is_named_before_the_whole_shows_it(learnt: tuple[Reference, Slices]) -> None:
    reference, slices = learnt
    whole, sliced = DriftDetector(reference, 500.0), DriftDetector(reference, 500.0, slices=slices)
    found: dict[str, int] = {}
    for k in range(12):
        now = table(10 + k, 800, moved=0.5)
        profile = reference.profile(now)
        if whole.update(profile).alarm:
            found.setdefault("whole", k)
        reading = sliced.update(profile | slices.profile(now))
        if reading.alarm and "sliced" not in found:
            found["sliced"] = k
            assert reading.causes[0].feature == "x[country=PT]"
    assert found["sliced"] < found.get("whole", 12)


def test_slices_share_the_promise_and_are_half_of_the_evidence(learnt: tuple[Reference, Slices]) -> None:
    reference, slices = learnt
    detector = DriftDetector(reference, 500.0, slices=slices)
    assert sum(1 / a for a in detector.run_lengths.values()) == pytest.approx(1 / 500)
    weights = dict(zip(detector.names, detector._of_kind["inputs"], strict=True))
    assert sum(weights.values()) == pytest.approx(1.0)
    assert sum(w for name, w in weights.items() if "[" in name) == pytest.approx(0.5)


def test_only_the_most_frequent_values_are_watched() -> None:
    rng = np.random.default_rng(1)
    many = np.array([f"c{k}" for k in rng.zipf(1.3, 30_000) % 10_000], object)
    slices = Slices.fit({"x": rng.standard_normal(30_000), "c": many}, ["c"], None, HOUR, most=5)
    assert len(slices.slices) == 5
    assert slices.slices[0].value == "c1"
    assert all(part.reference.rows >= 500 for part in slices.slices)


def test_a_slice_that_is_away_is_no_missing_column(learnt: tuple[Reference, Slices]) -> None:
    reference, slices = learnt
    detector = DriftDetector(reference, 50.0, slices=slices)
    for k in range(5):
        now = table(50 + k, 800)
        abroad = {name: column[now["country"] != "PT"] for name, column in now.items()}
        reading = detector.update(reference.profile(now) | slices.profile(abroad))
        assert not reading.alarm
    assert not detector.update(reference.profile(table(60, 800))).alarm


def test_slices_come_back_from_json(learnt: tuple[Reference, Slices]) -> None:
    _, slices = learnt
    again = Slices.from_json(slices.to_json())
    now = table(3, 500)
    first, second = slices.profile(now), again.profile(now)
    assert list(first) == list(second) == [f.name for f in slices.features]
    assert all((first[name] == second[name]).all() for name in first)
    assert sum(int(first[f"x[country={c}]"].sum()) for c in ("BR", "PT", "AO")) == 500
    assert slices.without(["x"]).features == ()
    with pytest.raises(ValueError, match="reads 1"):
        Slices.from_json('{"schema": 9}')
