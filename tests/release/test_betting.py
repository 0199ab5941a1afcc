"""Which version loses less: the promise, the bounds, and what the counts of losses say whatever their order."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from trilho.release.betting import BINS, difference, mean_of, worse, worse_in_pairs
from trilho.release.quality import counted

Floats = NDArray[np.float64]


def losses(rng: np.random.Generator, mean: float, number: int) -> Floats:
    return np.minimum(rng.exponential(mean, number), 1.0)


def test_equal_losses_are_rarely_called_worse() -> None:
    rng, crossed = np.random.default_rng(1), 0
    for _ in range(100):
        new, old = losses(rng, 0.2, 300), losses(rng, 0.2, 900)
        crossed += any(worse(counted(new[:n]), counted(old[: 3 * n])) >= 20 for n in range(5, 300, 15))
    assert crossed <= 5  # 5% promised


def test_losses_of_another_shape_but_the_same_mean_are_not_called_worse() -> None:
    rng, crossed = np.random.default_rng(2), 0
    for _ in range(100):
        new, old = (rng.random(300) < 0.25).astype(float), np.full(300, 0.25)
        crossed += any(worse(counted(new[:n]), counted(old[:n])) >= 20 for n in range(10, 300, 20))
    assert crossed <= 5


@pytest.mark.parametrize(("mean", "within"), [(0.4, 150), (0.3, 700)])
def test_a_worse_version_is_found(mean: float, within: int) -> None:
    rng = np.random.default_rng(3)
    new, old = losses(rng, mean, within), losses(rng, 0.2, within)
    assert worse(counted(new), counted(old)) > 900
    assert worse(counted(old), counted(new)) < 1


def test_bounds_hold_the_difference_and_tighten() -> None:
    rng, missed = np.random.default_rng(4), 0
    for _ in range(40):
        new, old = (rng.random(2000) < 0.3).astype(float), (rng.random(2000) < 0.2).astype(float)
        for n in (20, 200, 2000):
            low, high = difference(counted(new[:n]), counted(old[:n]), 0.05)
            missed += not low - 0.02 <= 0.1 <= high + 0.02  # half a bin of either
    assert missed <= 2
    assert low > 0.0
    assert high - low < 0.2
    assert difference([], counted(old), 0.05) == (-1.0, 1.0)


def test_pairs_of_losses() -> None:
    rng, crossed = np.random.default_rng(5), 0
    for _ in range(100):
        gap = losses(rng, 0.2, 200) - losses(rng, 0.2, 200)
        crossed += any(worse_in_pairs(counted(gap[:n], -1.0)) >= 20 for n in range(5, 200, 10))
    assert crossed <= 5
    assert worse_in_pairs(counted(losses(rng, 0.4, 300) - losses(rng, 0.2, 300), -1.0)) > 1000
    assert worse_in_pairs([]) == 0.0


def test_the_order_of_losses_says_nothing() -> None:
    values = np.linspace(0, 1, 40)
    assert worse(counted(values), counted(values[::2])) == worse(counted(values[::-1]), counted(values[::2]))
    assert mean_of(counted(values)) == pytest.approx(0.5, abs=1 / BINS)
    assert worse([], counted(values)) == 0.0
