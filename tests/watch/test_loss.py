"""The loss detector: quiet at the limit, quick beyond it, whatever the losses look like."""

from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.typing import NDArray

from trilho.watch.loss import Limit, LossDetector, allowed_loss, mean_bound, rate_bound

Floats = NDArray[np.float64]


def zero_one(allowed: float) -> Limit:
    return Limit(allowed, 1.0, None, 1.0, allowed, (1 - allowed) / allowed)


def rows_to_alarm(limit: Limit, rate: float, run_length: float, seed: int) -> int:
    losses = (np.random.default_rng([seed, 7]).random(5_000) < rate).astype(float)
    first = LossDetector(limit, run_length).update_many(losses)
    assert first is not None
    return first + 1


def test_at_the_limit_false_alarms_keep_the_promise() -> None:
    """With the mean exactly at what is allowed, at most T/A alarms are expected in T rows."""
    run_length, rows, alarms = 2_000.0, 0, 0
    for seed in range(20):
        rng = np.random.default_rng([seed, 99])
        detector = LossDetector(zero_one(0.1), run_length)
        for _ in range(10):
            alarms += detector.update_many((rng.random(1000) < 0.1).astype(float)) is not None
            rows += 1000
    assert alarms <= rows / run_length


@pytest.mark.parametrize(("rate", "most"), [(0.15, 740), (0.20, 250)])
def test_delays_of_a_changed_error_rate(rate: float, most: int) -> None:
    """Rows from .10 to .15 and .20 at A = 1e6: 707 and 240 over 300 seeds; river's ADWIN needs 863 and 271."""
    delays = [rows_to_alarm(zero_one(0.1), rate, 1e6, seed) for seed in range(100)]
    assert np.mean(delays) <= most


def test_pieces_of_any_size_give_the_same_answer() -> None:
    losses = (np.random.default_rng(0).random(5000) < 0.14).astype(float)
    whole = LossDetector(zero_one(0.1), 1e5)
    first = whole.update_many(losses)
    parts, at, found = LossDetector(zero_one(0.1), 1e5), 0, None
    for size in [1, 7, 63, 64, 65, 500, 4300]:
        alarm = parts.update_many(losses[at : at + size])
        found = at + alarm if alarm is not None and found is None else found
        at += size
    assert first is not None
    assert found == first
    assert parts.evidence == pytest.approx(whole.evidence)


def test_a_restored_detector_goes_on() -> None:
    losses = (np.random.default_rng(1).random(3000) < 0.12).astype(float)
    straight, broken = LossDetector(zero_one(0.1), 1e9), LossDetector(zero_one(0.1), 1e9)
    straight.update_many(losses)
    broken.update_many(losses[:1234])
    again = LossDetector(zero_one(0.1), 1e9)
    again.restore(broken.state())
    again.update_many(losses[1234:])
    assert again.evidence == pytest.approx(straight.evidence)
    with pytest.raises(ValueError, match="another limit"):
        again.restore({"schema": 1, "m": [0.0]})


def test_unbounded_losses_are_quiet_while_they_stay_and_found_when_they_grow() -> None:
    rng = np.random.default_rng(2)
    limit = allowed_loss(rng.lognormal(0, 1, 2000), 0.1)
    assert limit is not None
    assert np.exp(0.5) < limit.allowed < 1.4 * np.exp(0.5)
    detector = LossDetector(limit, 20_000.0)
    assert detector.update_many(rng.lognormal(0, 1, 40_000)) is None
    first = detector.update_many(2 * rng.lognormal(0, 1, 4_000))
    assert first is not None
    assert first < 300
    assert detector.peak >= 20_000


def test_a_rare_disaster_is_found_by_the_share_beyond_the_clip() -> None:
    """Five in a hundred losses a thousand times larger: clipped, their mean grows little."""
    rng = np.random.default_rng(3)
    limit = allowed_loss(np.abs(rng.standard_normal(2000)), 0.5)
    assert limit is not None
    losses = np.abs(rng.standard_normal(3000))
    losses[rng.random(3000) < 0.05] = 1e3
    first = LossDetector(limit, 1e5).update_many(losses)
    assert first is not None
    assert first < 1000


def test_a_missing_prediction_counts_as_the_worst_loss() -> None:
    detector = LossDetector(zero_one(0.1), 1e4)
    assert detector.update_many(np.full(50, np.nan)) is not None


def test_rows_that_fail_together_count_less() -> None:
    """Days of 24 dependent hours: with kappa no alarm, with each hour counted fully there are some."""
    rng = np.random.default_rng(4)

    def days(n: int) -> Floats:
        return np.asarray(np.repeat(rng.lognormal(0, 1, n), 24) * rng.uniform(0.8, 1.2, 24 * n))

    held = days(120)
    limit = allowed_loss(held, 0.1)
    assert limit is not None
    assert 1 / 60 < limit.kappa < 1 / 10
    naive = Limit(float(held.mean()) * 1.1, limit.clip, None, 1.0, limit.expected, limit.variance)
    stream = days(1500)
    assert LossDetector(limit, 20_000.0).update_many(stream) is None
    assert LossDetector(naive, 20_000.0).update_many(stream) is not None


def test_too_few_losses_say_nothing() -> None:
    assert allowed_loss(np.ones(39)) is None
    assert allowed_loss(np.zeros(100)) is None
    assert allowed_loss(np.full(100, np.nan)) is None


@pytest.mark.parametrize(("n", "held"), [(60, 0.92), (500, 0.94)])
def test_the_bound_covers_the_mean(n: int, held: float) -> None:
    """Of 95% bounds of a skewed mean 92 to 95% hold, and they are not idle."""
    rng = np.random.default_rng(5)
    skewed = np.minimum(rng.lognormal(0, 0.8, (2000, n)), 10.0)
    truth = float(np.minimum(rng.lognormal(0, 0.8, 1_000_000), 10.0).mean())
    bounds = np.array([mean_bound(row) for row in skewed])
    assert np.mean(bounds >= truth) >= held
    assert np.median(bounds) < truth * (1 + 2.5 / n**0.5)
    assert rate_bound(0.1, 1000) == pytest.approx(0.1246, abs=0.001)


def test_a_value_takes_about_a_microsecond() -> None:
    losses = np.random.default_rng(6).random(100_000)
    detector = LossDetector(Limit(0.6, 1.0, None, 1.0, 0.5, 0.3), 1e9)
    start = time.perf_counter()
    detector.update_many(losses)
    assert time.perf_counter() - start < 0.5
