"""Metrics and their intervals."""

from __future__ import annotations

import numpy as np
import pytest

from trilho.watch.performance import METRICS, measure


def test_values_by_hand() -> None:
    prediction, value = np.array([0.9, 0.2, 0.6, 0.4]), np.array([1.0, 0.0, 0.0, 1.0])
    assert measure("brier", prediction, value).value == pytest.approx((0.01 + 0.04 + 0.36 + 0.36) / 4)
    assert measure("accuracy", prediction, value).value == 0.5
    assert measure("roc_auc", prediction, value).value == 0.75
    assert measure("mae", prediction, value).value == pytest.approx(0.375)
    assert measure("rmse", prediction, value).value == pytest.approx((0.77 / 4) ** 0.5)
    expected = -np.mean(np.log([0.9, 0.8, 0.4, 0.4]))
    assert measure("log_loss", prediction, value).value == pytest.approx(expected)


def test_equal_scores_count_half() -> None:
    assert measure("roc_auc", np.full(10, 0.3), np.arange(10.0) % 2).value == 0.5


@pytest.mark.parametrize("metric", METRICS)
def test_intervals_cover_the_truth(metric: str) -> None:
    rng = np.random.default_rng(0)

    def sample(n: int) -> tuple[np.ndarray, np.ndarray]:
        p = rng.beta(2, 3, n)
        return p, (rng.random(n) < p).astype(float)

    truth = measure(metric, *sample(400_000)).value
    found = [measure(metric, *sample(400)) for _ in range(300)]
    assert truth is not None
    covered = [m.low <= truth <= m.high for m in found if m.low is not None and m.high is not None]
    assert len(covered) == 300
    assert 0.91 <= np.mean(covered) <= 0.99


def test_what_is_not_known_is_left_out() -> None:
    found = measure("mae", np.array([1.0, 2.0, np.nan]), np.array([np.nan, 3.0, 1.0]))
    assert (found.value, found.rows) == (1.0, 1)


@pytest.mark.parametrize("metric", METRICS)
def test_one_row_has_no_interval(metric: str) -> None:
    """An infinite one breaks JSON, and one of width 0 would be a lie."""
    found = measure(metric, np.array([0.4]), np.array([1.0]))
    assert (found.low, found.high, found.rows) == (None, None, 1)
    assert (found.value is None) == (metric == "roc_auc")


def test_undefined_is_none() -> None:
    assert measure("mae", np.zeros(0), np.zeros(0)).value is None
    assert measure("roc_auc", np.array([0.1, 0.2]), np.ones(2)).value is None
    with pytest.raises(ValueError, match="known: mae"):
        measure("f7", np.zeros(1), np.zeros(1))


def test_a_probability_of_zero_has_a_finite_log_loss() -> None:
    found = measure("log_loss", np.array([0.0]), np.array([1.0]))
    assert found.value is not None
    assert np.isfinite(found.value)
