"""Weights of labelled rows: never more than the event time that was covered is worth at the traffic of training."""

from __future__ import annotations

import numpy as np
import pytest

from trilho.watch.pace import Pace


def test_at_the_traffic_of_training_or_less_each_row_counts() -> None:
    assert Pace(rate=2.0, burst=10).weigh(np.arange(0, 500, 0.5)).tolist() == [1.0] * 1000
    assert Pace(rate=2.0, burst=10).weigh(np.arange(0.0, 350.0, 7.0)).tolist() == [1.0] * 50
    assert Pace(rate=2.0, burst=10).weigh(np.repeat(np.arange(500.0), 2)).tolist() == [1.0] * 1000  # two a second


@pytest.mark.parametrize("order", ["as served", "newest first", "shuffled"])
def test_at_fifty_times_the_traffic_the_weights_sum_to_that_of_training(order: str) -> None:
    time = np.arange(5000) / 100
    time = {"as served": time, "newest first": time[::-1], "shuffled": np.random.default_rng(0).permutation(time)}[
        order
    ]
    pace = Pace(rate=2.0, burst=10)
    total = np.concatenate([pace.weigh(part) for part in np.array_split(time, 17)])
    assert ((total >= 0) & (total <= 1)).all()
    assert total.sum() == pytest.approx(110, abs=1)


def test_a_restored_pace_goes_on() -> None:
    time = np.sort(np.random.default_rng(1).random(400)) * 100
    straight, broken = Pace(1.0, 5.0), Pace(1.0, 5.0)
    whole = straight.weigh(time)
    first = broken.weigh(time[:150])
    again = Pace(1.0, 5.0)
    again.restore(broken.state())
    assert np.concatenate([first, again.weigh(time[150:])]) == pytest.approx(whole)
    assert again.weigh(np.zeros(0)).tolist() == []
