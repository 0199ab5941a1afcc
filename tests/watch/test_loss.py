"""The loss detector: quiet at the limit, quick beyond it, whatever the losses look like."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from trilho.watch.loss import Limit, LossDetector, allowed_loss, mean_bound, rate_bound

Floats = NDArray[np.float64]


def zero_one(allowed: float) -> Limit:
    return Limit(allowed, 1.0, None, 1.0, allowed, (1 - allowed) / allowed)


def rows_to_alarm(limit: Limit, rate: float, run_length: float, seed: int) -> int:
    losses = (np.random.default_rng([seed, 7]).random(5_000) < rate).astype(float)
    first = LossDetector.of(limit, run_length).update_many(losses)
    assert first is not None
    return first + 1


def test_at_the_limit_false_alarms_keep_the_promise() -> None:
    """With the mean exactly at what is allowed, at most T/A alarms are expected in T rows."""
    run_length, rows, alarms = 2_000.0, 0, 0
    for seed in range(20):
        rng = np.random.default_rng([seed, 99])
        detector = LossDetector(0.1, run_length)
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
    whole = LossDetector(0.1, 1e5)
    first = whole.update_many(losses)
    parts, at, found = LossDetector(0.1, 1e5), 0, None
    for size in [1, 7, 63, 64, 65, 500, 4300]:
        alarm = parts.update_many(losses[at : at + size])
        found = at + alarm if alarm is not None and found is None else found
        at += size
    assert first is not None
    assert found == first
    assert parts.evidence == pytest.approx(whole.evidence)


def test_a_restored_detector_goes_on() -> None:
    losses = (np.random.default_rng(1).random(3000) < 0.12).astype(float)
    straight, broken = LossDetector(0.1, 1e9), LossDetector(0.1, 1e9)
    straight.update_many(losses)
    broken.update_many(losses[:1234])
    again = LossDetector(0.1, 1e9)
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
    detector = LossDetector.of(limit, 20_000.0)
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
    first = LossDetector.of(limit, 1e5).update_many(losses)
    assert first is not None
    assert first < 1000


def test_a_missing_prediction_counts_as_the_worst_loss() -> None:
    detector = LossDetector(0.1, 1e4)
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
    assert LossDetector.of(limit, 20_000.0).update_many(stream) is None
    assert LossDetector.of(naive, 20_000.0).update_many(stream) is not None


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
    detector = LossDetector.of(Limit(0.6, 1.0, None, 1.0, 0.5, 0.3), 1e9)
    start = time.perf_counter()
    detector.update_many(losses)
    assert time.perf_counter() - start < 0.5


@pytest.mark.parametrize(
    "make",
    [
        lambda: LossDetector(0.1, 300),
        lambda: LossDetector(0.1, 300, kappa=0.3),
        lambda: LossDetector(0.05, 300, clip=50.0, variance=1.0),
        lambda: LossDetector(1e-6, 1e12),
        lambda: LossDetector.of(Limit(0.4, 0.8, 0.02, 0.5, 0.3, 0.4), 300),
    ],
)
def test_many_at_once_are_one_after_the_other(make: Callable[[], LossDetector]) -> None:
    """The losses after an alarm are taken in by a detector that starts again: several alarms, one memory."""
    rng = np.random.default_rng(8)
    losses = np.concatenate([rng.random(700) < 0.1, rng.random(1500) < 0.3, rng.random(300) < 0.1]) * rng.random(2500)
    losses[1234] = np.nan
    whole, single = make(), make()
    alarms = [k for k, loss in enumerate(losses.tolist()) if single.update(loss)]
    assert whole.update_many(losses) == (alarms[0] if alarms else None)
    assert whole.m == pytest.approx(single.m, rel=1e-9)
    assert whole.peak == pytest.approx(single.peak, rel=1e-9)
    assert len(alarms) > 1
    again = make()
    assert [k for k, loss in enumerate(losses.tolist()) if again.update_many([loss]) == 0] == alarms


def test_regression_losses_of_a_known_size() -> None:
    """Bounded real losses: quiet at the limit over twice the run length, found soon when they grow by half."""
    rng = np.random.default_rng(9)
    alarms = 0
    for _ in range(10):
        detector = LossDetector(1.0, 5_000, clip=4.0, variance=0.33)
        alarms += detector.update_many(rng.uniform(0, 2, 10_000)) is not None
    assert alarms <= 10 * 10_000 / 5_000
    delays = [LossDetector(1.0, 5_000, clip=4.0, variance=0.33).update_many(rng.uniform(0, 3, 2000)) for _ in range(30)]
    assert None not in delays
    assert np.mean(np.array(delays, np.float64)) < 80


def test_weights_are_what_a_start_counts() -> None:
    """Rows that bring no time start nothing; as many restarts as before at half weight are half as much evidence."""
    losses = (np.random.default_rng(10).random(500) < 0.1) * 1.0
    full, half, none = (LossDetector(0.1, 1e9) for _ in range(3))
    full.update_many(losses)
    half.update_many(losses, np.full(500, 0.5))
    none.update_many(losses, np.zeros(500))
    assert half.evidence == pytest.approx(full.evidence / 2)
    assert none.evidence == 0


def test_a_wrong_setting_or_loss_is_refused() -> None:
    for allowed, clip in [(0.0, None), (1.0, None), (5.0, 4.0), (np.nan, None)]:
        with pytest.raises(ValueError, match="must lie between 0 and"):
            LossDetector(allowed, clip=clip)
    with pytest.raises(ValueError, match="kappa is 0"):
        LossDetector(0.1, kappa=0)
    with pytest.raises(ValueError, match="1 or more"):
        LossDetector(0.1, 0.5)
    detector = LossDetector()
    with pytest.raises(ValueError, match="below 0"):
        detector.update(-1)
    for losses, weights in (([0, -1], None), ([0], [-1])):
        with pytest.raises(ValueError, match="below 0"):
            detector.update_many(losses, weights)
    with pytest.raises(ValueError, match="2 weights for 1 losses"):
        detector.update_many([0], [1, 1])
    assert detector.update_many([]) is None
    assert (detector.limit.allowed, detector.threshold, detector.evidence) == (0.1, 10_000, 0)


def test_booleans_and_integers_are_losses() -> None:
    wrong = np.random.default_rng(11).random(400) < 0.5
    places = [LossDetector().update_many(x) for x in (wrong, wrong.astype(int), wrong.tolist(), wrong * 1.0)]
    assert places[0] is not None
    assert len(set(places)) == 1
