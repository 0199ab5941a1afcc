"""The drift detector: its bets are evidence, its promise holds on fresh worlds, and it is quick."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from trilho.watch.drift import DriftDetector, project, tilt
from trilho.watch.reference import allowances
from trilho_runtime.profile import Reference

Floats = NDArray[np.float64]
World = Callable[[np.random.Generator, int], Floats]  # generator, window number -> (features, rows)
HOUR = 3600.0
FEATURES = 5


def independent(rng: np.random.Generator, _k: int) -> Floats:
    return rng.standard_normal((FEATURES, 800))


def dependent_features(rng: np.random.Generator, _k: int) -> Floats:
    common = rng.standard_normal((1, 800))
    return np.asarray(0.9 * common + 0.44 * rng.standard_normal((FEATURES, 800)))


def clusters(rng: np.random.Generator, _k: int) -> Floats:
    return np.repeat(rng.standard_normal((FEATURES, 100)), 20, axis=1)


def seasons(rng: np.random.Generator, k: int) -> Floats:
    level = 1.2 * np.sin(2 * np.pi * k / 52) + 0.3 * rng.standard_normal((FEATURES, 1))
    return np.asarray(level + 0.5 * rng.standard_normal((FEATURES, 200)))


def named(rows: Floats) -> dict[str, NDArray[Any]]:
    return {f"x{j}": row for j, row in enumerate(rows)}


def fitted(world: World, rng: np.random.Generator, windows: int = 104) -> Reference:
    parts = [world(rng, k) for k in range(windows)]
    hours = np.repeat(np.arange(windows) * HOUR, [p.shape[1] for p in parts])
    return Reference.fit(named(np.concatenate(parts, axis=1)), hours, HOUR)


def delay(detector: DriftDetector, world: World, rng: np.random.Generator, shift: float, most: int = 60) -> int:
    """Windows from the shift of one feature to the alarm, after 20 quiet ones."""
    for k in range(20 + most):
        rows = world(rng, 104 + k).copy()
        rows[0] += shift * (k >= 20)
        if detector.update(detector.reference.profile(named(rows))).alarm:
            return k - 19
    return most + 1


@pytest.mark.parametrize("world", [independent, dependent_features, clusters, seasons])
def test_the_promise_holds_without_drift(world: World) -> None:
    """At most T/A alarms are expected in T windows, T at least twice A; seeds that nothing was tuned on."""
    run_length, windows, alarms = 50.0, 0, 0
    for stream in range(4):
        rng = np.random.default_rng([20261124, stream])
        detector = DriftDetector(fitted(world, rng), run_length)
        for k in range(150):
            alarms += detector.update(detector.reference.profile(named(world(rng, 104 + k)))).alarm
            windows += 1
    assert windows >= 2 * run_length
    assert alarms <= windows / run_length


@pytest.mark.parametrize(("rows", "effect", "served"), [(100, 0.1, 2_000), (1_000, 0.1, 20_000)])
def test_the_promise_holds_when_much_more_is_served_than_in_training(rows: int, effect: float, served: int) -> None:
    """Windows that differ by a tenth of a standard deviation: small ones hardly show it, large ones do."""

    def day(rng: np.random.Generator, n: int) -> Floats:
        return np.asarray(rng.standard_normal((1, n)) + effect * rng.standard_normal())

    alarms, delays, run_length = 0, [], 200.0
    for stream in range(4):
        rng = np.random.default_rng([20261125, stream])
        reference = fitted(lambda rng, _k: day(rng, rows), rng, windows=120)
        detector = DriftDetector(reference, run_length)
        alarms += sum(detector.update(reference.profile(named(day(rng, served)))).alarm for _ in range(100))
        moved = (reference.profile(named(day(rng, served) + 1.0)) for _ in range(60))
        again = DriftDetector(reference, run_length)
        delays.append(next(k for k, window in enumerate(moved, 1) if again.update(window).alarm))
    assert alarms <= 400 / run_length
    assert np.median(delays) <= 2


def test_a_given_tolerance_is_taken_at_its_word_however_large_the_windows() -> None:
    """Whoever gives one has said how far windows may differ: then each row counts."""
    rng = np.random.default_rng(17)
    reference = fitted(lambda rng, _k: rng.standard_normal((1, 100)), rng)
    given, learnt = DriftDetector(reference, 730.0, 0.02), DriftDetector(reference, 730.0)
    shifted = reference.profile({"x0": rng.standard_normal(20_000) + 0.25})
    assert given.update(shifted).alarm
    assert not learnt.update(shifted).alarm
    assert (given.most == np.inf).all()
    assert (learnt.most == 100).all()


def test_without_the_design_effect_clusters_would_alarm() -> None:
    """The control of the test above: what the reference says about dependent rows is what keeps it silent."""
    rng = np.random.default_rng(5)
    reference = fitted(clusters, rng)
    careful = allowances(reference)
    assert all(0.02 < a.kappa < 0.1 for a in careful)
    flat = Reference.fit(named(np.concatenate([clusters(rng, k) for k in range(104)], axis=1)), None, HOUR)
    naive = DriftDetector(flat, 50.0)
    assert sum(naive.update(flat.profile(named(clusters(rng, k)))).alarm for k in range(100)) > 10


@pytest.mark.parametrize(("shift", "most"), [(0.2, 8), (0.5, 1)])
def test_a_shift_is_found_soon(shift: float, most: int) -> None:
    delays = []
    for stream in range(5):
        rng = np.random.default_rng([7, stream])
        delays.append(delay(DriftDetector(fitted(independent, rng), 730.0), independent, rng, shift))
    assert np.median(delays) <= most


def test_the_cause_is_named() -> None:
    rng = np.random.default_rng(2)
    detector = DriftDetector(fitted(independent, rng), 100.0)
    rows = independent(rng, 0)
    rows[3] += 1.0
    drift = detector.update(detector.reference.profile(named(rows)))
    assert drift.alarm
    assert drift.causes[0].feature == "x3"
    assert drift.causes[0].share > 0.99
    assert drift.causes[0].distance == pytest.approx(0.38, abs=0.05)
    assert next(c.distance for c in drift.causes if c.feature == "x0") < 0.05


def test_values_never_seen_and_nulls_are_found_at_once() -> None:
    rng = np.random.default_rng(4)
    columns: dict[str, NDArray[Any]] = {"c": rng.choice(["a", "b", "c"], 20_000), "x": rng.normal(size=20_000)}
    reference = Reference.fit(columns, np.arange(20_000) * HOUR / 200, HOUR)
    for name, broken in (("c", np.array(["new"] * 200)), ("x", np.full(200, np.nan)), ("x", np.full(200, 99.0))):
        detector = DriftDetector(reference, 730.0)
        table: dict[str, NDArray[Any]] = {"c": rng.choice(["a", "b", "c"], 200), "x": rng.normal(size=200)}
        drift = detector.update(reference.profile({**table, name: broken}))
        assert drift.alarm
        assert drift.causes[0].feature == name
        assert "100%, 0% in training" in drift.causes[0].words


def test_evidence_restarts_after_an_alarm_and_what_was_learnt_stays() -> None:
    rng = np.random.default_rng(6)
    detector = DriftDetector(fitted(independent, rng), 100.0)
    shifted = detector.reference.profile(named(independent(rng, 0) + 1.0))
    assert detector.update(shifted).alarm
    assert detector.evidence < 1e-9  # what is left is of kinds that did not alarm
    assert detector.seen.sum() > 0
    assert detector.update(shifted).alarm


def test_a_restored_detector_goes_on_as_if_nothing_had_happened() -> None:
    rng = np.random.default_rng(8)
    reference = fitted(independent, rng)
    windows = [reference.profile(named(independent(rng, k) + 0.05 * k)) for k in range(6)]
    straight, broken = DriftDetector(reference, 1e9), DriftDetector(reference, 1e9)
    for window in windows:
        straight.update(window)
        again = DriftDetector(Reference.from_json(reference.to_json()), 1e9)
        again.restore(broken.state())
        again.update(window)
        broken = again
    assert broken.evidence == straight.evidence
    with pytest.raises(ValueError, match="another reference"):
        DriftDetector(reference.without(["x0"]), 1e9).restore(broken.state())


def test_empty_windows_and_nothing_to_watch_say_nothing() -> None:
    rng = np.random.default_rng(9)
    detector = DriftDetector(fitted(independent, rng), 10.0)
    before = detector.evidence
    empty = detector.reference.profile({name: np.zeros(0) for name in detector.names})
    assert detector.update(empty).evidence == before
    nothing = DriftDetector(Reference.fit({}, None, HOUR), 10.0)
    assert not nothing.update({}).alarm


def test_tolerance_can_be_given() -> None:
    rng = np.random.default_rng(10)
    reference = fitted(independent, rng)
    wide, narrow = DriftDetector(reference, 100.0, 0.3), DriftDetector(reference, 100.0, 0.0)
    assert delay(wide, independent, rng, 0.5, most=20) == 21
    assert delay(narrow, independent, rng, 0.5, most=20) == 1
    assert {a.learnt for a in wide.allowances} == {"given"}


def test_few_reference_windows_leave_the_floor() -> None:
    reference = fitted(independent, np.random.default_rng(11), windows=20)
    assert {a.learnt for a in allowances(reference)} == {"floor"}


def test_what_one_window_can_add_is_limited_where_windows_differ_by_nature() -> None:
    rng = np.random.default_rng(12)
    detector = DriftDetector(fitted(seasons, rng), 730.0)
    assert {a.learnt for a in detector.allowances} == {"windows"}
    far = detector.reference.profile(named(seasons(rng, 0) + 50.0))
    needed = next(k for k in range(1, 30) if detector.update(far).alarm)
    assert 2 <= needed <= 6  # a single odd window is no drift, half a dozen are


def test_a_bet_is_evidence_against_everything_within_the_tolerance() -> None:
    """E[e] <= 1 for random members of the ball, and for those at its edge in the bet's own direction."""
    rng = np.random.default_rng(13)
    for _ in range(200):
        size, tolerance = int(rng.integers(2, 30)), float(rng.uniform(0, 0.4))
        q, r = rng.dirichlet(np.full(size, 0.5)), rng.dirichlet(np.full(size, 0.5))
        scores, bets = project(r[None], q[None], np.array([tolerance]))
        assert bool(bets[0]) == (0.5 * np.abs(r - q).sum() > tolerance)
        e = np.exp(scores[0])
        for toward in (*rng.dirichlet(np.full(size, 0.5), 5), r, np.eye(size)[np.argmax(e)]):
            far = 0.5 * np.abs(toward - q).sum()
            p = q + (toward - q) * min(1.0, tolerance / max(far, 1e-12))
            assert p @ e <= 1 + 1e-9


def test_the_projection_is_the_nearest_allowed_distribution() -> None:
    rng = np.random.default_rng(14)
    q, r, tolerance = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(4)), 0.05
    scores, _ = project(r[None], q[None], np.array([tolerance]))
    growth = float(r @ scores[0])
    for _ in range(2000):
        direction = rng.standard_normal(4)
        direction -= direction.mean()
        p = q + direction * tolerance / (0.5 * np.abs(direction).sum())
        if (p > 0).all():
            assert growth <= r @ np.log(r / p) + 1e-9


def test_tilts_are_distributions() -> None:
    q = np.random.default_rng(15).dirichlet(np.ones(12))
    for shift, scale in ((0.25, 1.0), (-0.6, 1.0), (0.0, 1.25)):
        moved = tilt(q, shift, scale)
        assert moved.sum() == pytest.approx(1.0)
        assert (moved > 0).all()
        assert (np.arange(12) @ (moved - q)) * shift >= 0


def test_a_window_is_cheap() -> None:
    """Under 15 ms for 12 features; the margin over what is measured here (under 1 ms) is for busy machines."""
    rng = np.random.default_rng(16)
    rows = {f"x{j}": rng.standard_normal(20_000) for j in range(12)}
    reference = Reference.fit(rows, np.arange(20_000) * HOUR / 200, HOUR)
    detector = DriftDetector(reference, 730.0)
    best = 1.0
    for _ in range(10):
        start = time.perf_counter()
        detector.update(reference.profile({name: column[:300] for name, column in rows.items()}))
        best = min(best, time.perf_counter() - start)
    assert best < 0.015
