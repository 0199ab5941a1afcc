"""The promise, from its text to windows and shares."""

from __future__ import annotations

import pytest

from trilho.watch.promise import Promise


def test_a_promise_in_time_is_a_run_length_in_windows() -> None:
    promise = Promise.of("1 per year", "1 day")
    assert promise.run_length == pytest.approx(365.2425)
    assert Promise.of("1 per year", "1 hour").run_length == pytest.approx(365.2425 * 24)
    assert Promise.of("2 per month", "1 day").run_length == pytest.approx(365.2425 / 24)


def test_all_kinds_together_keep_the_total() -> None:
    promise = Promise.of("1 per year", "1 day", {"loss": 1.4, "quality": 0})
    assert sum(promise.shares.values()) == pytest.approx(1.0)
    assert sum(1 / promise.run_length_of(kind) for kind in promise.shares) == pytest.approx(1 / promise.run_length)
    drift = sum(1 / promise.run_length_of(kind) for kind in promise.weights)
    assert 1 / drift == pytest.approx(promise.drift_run_length)
    assert promise.rate_of("loss") + 1 / (promise.drift_run_length * 86400) == pytest.approx(promise.rate)


def test_a_promise_that_no_detector_can_keep_is_not_kept() -> None:
    promise = Promise.of("4 per day", "1 day")
    assert not promise.kept
    assert promise.run_length == 2.0
    assert Promise.of("1 per week", "1 day").kept


def test_shares_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="numbers from 0"):
        Promise.of("1 per year", "1 day", {"loss": -1.0})


def test_both_are_said() -> None:
    text = str(Promise.of("1 per year", "1 day"))
    assert text.startswith("at most 1 false alarm a year: 1 in 365 windows of 1 day (inputs 1 in 913")
    assert "loss 1 in 913" in text
