"""Metrics and their intervals."""

from __future__ import annotations

import numpy as np
import pytest

from trilho.watch.performance import METRICS, Measure, against, measure, measure_shares, measure_slices, progress


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


def test_each_value_of_a_column_is_measured() -> None:
    prediction, value = np.zeros(130), np.repeat([1.0, 2.0, 9.0, np.nan], [60, 40, 20, 10])
    city = np.repeat(["b", "a", "few", "late"], [60, 40, 20, 10])
    found = measure_slices("mae", prediction, value, {"city": city, "all": np.full(130, None)})
    assert {name: (one.value, one.rows) for name, one in found.items()} == {
        "all=None": (pytest.approx((60 + 80 + 180) / 120), 120),
        "city=b": (1.0, 60),
        "city=a": (2.0, 40),
    }


def test_probabilities_of_several_classes_by_hand() -> None:
    shares = np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.6, 0.2, 0.2]])
    known = np.array([0, 1, 2, 1])
    assert measure_shares("accuracy", shares, known).value == 0.75
    assert measure_shares("log_loss", shares, known).value == pytest.approx(-np.log([0.5, 0.8, 0.6, 0.2]).mean())
    brier = np.mean([0.25 + 0.09 + 0.04, 0.01 + 0.04 + 0.01, 0.04 + 0.04 + 0.16, 0.36 + 0.64 + 0.04]) / 2
    assert measure_shares("brier", shares, known).value == pytest.approx(brier)
    areas = [2 / 3, (2 + 0 + 0.5) / 4, 1.0]
    assert measure_shares("roc_auc", shares, known).value == pytest.approx(np.mean(areas))
    assert measure_shares("brier", shares[:1], np.array([-1])).value == pytest.approx((0.38 + 1) / 2)
    assert measure_shares("roc_auc", shares, np.full(4, -1)).value is None
    with pytest.raises(ValueError, match="several classes"):
        measure_shares("mae", shares, known)


def test_two_classes_are_measured_alike_by_shares() -> None:
    rng = np.random.default_rng(3)
    chance = rng.beta(2, 2, 500)
    came = (rng.random(500) < chance).astype(np.float64)
    known = came.astype(np.int64)
    shares = np.stack([1 - chance, chance], axis=1)
    for metric in ("accuracy", "log_loss", "brier", "roc_auc"):
        one, other = measure(metric, chance, came), measure_shares(metric, shares, known)
        assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))


def test_progress_and_the_least_acceptable() -> None:
    assert progress(0, 0, None) == "nothing served yet"
    assert progress(1000, 3, None) == "labelled under 1%"
    assert progress(100, 100, "2026-03-01T23:00:00+00:00") == "labelled 100% to 1 Mar"
    sure, unsure = Measure(20.0, 19.0, 21.0, 50), Measure(20.0, 10.0, 30.0, 5)
    assert against(sure, 18.0, higher=False) == "missed"
    assert against(sure, 22.0, higher=False) == "met"
    assert against(unsure, 22.0, higher=False) == "unsure"
    assert against(Measure(None, None, None, 0), 22.0, higher=False) == "unsure"
