"""Seasons: adopted where they lower the tolerance and are covered, and said where they are not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
from benchmarks import drift_worlds as worlds

from trilho.watch.drift import DriftDetector

HOUR, DAY = 3600.0, 86400.0


def day_and_night(windows: int = 240, seed: int = 3) -> worlds.Stream:
    return worlds.counted(worlds.hours(1_000, 0.5, 3, weekend=1.0), np.random.default_rng(seed), windows)


def test_hours_are_adopted_and_lower_the_tolerance() -> None:
    detector = DriftDetector(day_and_night().reference)
    assert detector.seasons.by == "hour"
    assert len(detector.seasons.buckets) == 24
    for bucket in detector.seasons.buckets.values():
        for i, allowed in bucket.items():
            assert allowed.tolerance < detector.allowances[i].tolerance / 2


def test_a_shift_that_hides_in_the_days_course_is_found_by_hour() -> None:
    stream = day_and_night()
    moved = worlds.hours(1_000, 0.5, 3, level=0.3, weekend=1.0)
    rng = np.random.default_rng(4)
    seasonal, whole = DriftDetector(stream.reference), DriftDetector(replace(stream.reference, block_windows=()))
    assert whole.seasons.by == ""
    found: dict[str, int] = {}
    for k in range(10):
        profile = {f"x{i}": row for i, row in enumerate(moved(rng, 240 + k))}
        for name, detector in (("seasonal", seasonal), ("whole", whole)):
            if detector.update(profile, (240 + k) * HOUR).alarm:
                found.setdefault(name, k + 1)
    assert found["seasonal"] <= 4
    assert "whole" not in found


def test_where_nothing_comes_back_no_season_is_adopted() -> None:
    for draw in (worlds.independent(500, 3), worlds.weather(20_000, 0.1, 3)):
        stream = worlds.counted(draw, np.random.default_rng(5), 240)
        assert DriftDetector(stream.reference).seasons.by == ""


def test_two_cycles_are_not_enough() -> None:
    stream = day_and_night(windows=48)
    assert DriftDetector(stream.reference).seasons.by == ""


def test_weekdays_are_adopted_for_days() -> None:
    rng = np.random.default_rng(6)

    def week(rng: worlds.Rng, k: int) -> worlds.Ints:
        return worlds.rows(rng, worlds.shifted(worlds.even(), 0.6 * (k % 7 in (2, 3))), 2_000, 3)

    detector = DriftDetector(worlds.counted(week, rng, 84, window=DAY).reference)
    assert detector.seasons.by == "weekday"
    assert len(detector.seasons.buckets) == 7


def test_an_hour_that_the_reference_does_not_cover_is_said() -> None:
    full = day_and_night(windows=360).reference
    kept = [k for k in range(360) if k % 24 != 13]
    features = tuple(replace(f, blocks=f.blocks[kept]) for f in full.features)
    detector = DriftDetector(replace(full, features=features, block_windows=tuple(kept)))
    assert detector.notes() == ["the reference does not cover 13:00: windows there are compared with all of it"]
    profile = {f.name: f.blocks[0] for f in full.features}
    afternoon = detector.update(profile, datetime(2026, 11, 24, 13, tzinfo=UTC))
    assert afternoon.notes == ("the reference does not cover 13:00: compared with all of it",)
    assert detector.update(profile, datetime(2026, 11, 24, 12, tzinfo=UTC)).notes == ()
    assert detector.update(profile).notes == ("no time given: compared with the whole reference, not with its hour",)


def test_what_a_morning_taught_is_carried_to_the_evening() -> None:
    """A value that comes twice as often as expected is guessed to do so in every season."""
    stream = day_and_night()
    detector = DriftDetector(stream.reference, 1e12)
    rng, moved = np.random.default_rng(8), worlds.hours(1_000, 0.5, 3, level=0.4, weekend=1.0)
    for k in range(12):
        reading = detector.update({f"x{i}": row for i, row in enumerate(moved(rng, k))}, k * HOUR)
    assert reading.window is not None
    later = detector.seasons.frame(detector.frame, 18 * HOUR)[0]
    guess = reading.window.lately(later.inputs)[0]
    truth = worlds.shifted(worlds.even(), 0.4 + 0.5 * np.sin(2 * np.pi * 18 / 24))[: -worlds.SPECIALS]
    apart = [0.5 * float(np.abs(x[: len(truth)] - truth).sum()) for x in (guess, later.inputs[0])]
    assert apart[0] < apart[1] / 2


def test_seasons_survive_a_restart() -> None:
    stream = day_and_night()
    windows = [next(stream.windows) for _ in range(8)]
    straight, first = DriftDetector(stream.reference, 1e9), DriftDetector(stream.reference, 1e9)
    for profile, when in windows:
        straight.update(profile, when)
    for profile, when in windows[:4]:
        first.update(profile, when)
    second = DriftDetector(stream.reference, 1e9)
    second.restore(first.state())
    for profile, when in windows[4:]:
        second.update(profile, when)
    assert second.evidence == straight.evidence
