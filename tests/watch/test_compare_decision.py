"""The decision on two samples: its level, its size, its rates, against figures that were computed elsewhere."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from trilho.watch.comparison.decision import (
    FEWEST,
    chance,
    decide,
    discovery_rates,
    measure,
    moments,
    pooled,
)
from trilho.watch.comparison.gamma import gamma_quantile, gamma_tail

TABULATED = [
    (0.5, 0.1, 0.6547208460185768),
    (0.5, 3, 0.014305878435429641),
    (1, 1, 0.36787944117144245),
    (2.5, 7, 0.01560941610026691),
    (5, 1, 0.9963401531726563),
    (10, 10, 0.4579297144718523),
    (19.5, 25, 0.1115162683629312),
    (20, 20, 0.4702572668392401),
    (50, 80, 0.0001307839765914092),
    (100, 60, 0.9999985184723673),
    (500, 500, 0.49405285382923964),
    (500, 620, 2.815233228954229e-07),
    (1000.5, 1100, 0.001115903432394035),
    (4999.5, 5000, 0.4952983945386835),
    (4999.5, 5300, 1.5074837546621746e-05),
    (2e5, 201000, 0.012771271709372204),
    (3, 60, 1.629586652937817e-23),
    (1e-3, 0.5, 0.0005600666564707501),
]


@pytest.mark.parametrize(("shape", "x", "tail"), TABULATED)
def test_the_upper_tail_of_a_gamma_is_that_of_tables(shape: float, x: float, tail: float) -> None:
    assert gamma_tail(shape, x) == pytest.approx(tail, rel=1e-10)


def test_a_gamma_quantile_is_the_tail_turned_round() -> None:
    for shape, probability in itertools.product((0.5, 1, 7, 300), (0.025, 0.5, 0.975)):
        assert 1 - gamma_tail(shape, gamma_quantile(shape, probability)) == pytest.approx(probability, abs=1e-9)
    assert gamma_quantile(1, 0.95) == pytest.approx(-math.log(0.05), rel=1e-9)
    assert gamma_tail(3, math.inf) == 0.0
    with pytest.raises(ValueError, match="a shape above 0"):
        gamma_tail(0, 1)


def test_the_moments_are_those_over_all_dealings() -> None:
    """Deal 4 + 5 rows of three values out in every possible way, and compare the statistic's mean and variance."""
    values = [0, 0, 0, 1, 1, 1, 1, 2, 2]
    found = []
    for chosen in itertools.combinations(range(9), 4):
        a = np.bincount([values[i] for i in chosen], minlength=3)
        found.append(moments(a, np.bincount(values, minlength=3) - a)[0])
    _, mean, variance = moments(np.array([2, 1, 1]), np.array([1, 3, 1]))
    assert mean == pytest.approx(np.mean(found), rel=1e-12)
    assert variance == pytest.approx(np.var(found), rel=1e-12)


def test_with_many_rows_the_variance_is_the_short_formula() -> None:
    draw = np.random.default_rng(1)
    a, b = draw.multinomial(3_000_000, [0.1] * 10), draw.multinomial(7_000_000, [0.1] * 10)
    total, rows = a + b, 10_000_000
    short = 18 + (1 / 0.21 - 6) * (float((1 / total).sum()) - 118 / rows)
    assert moments(a, b)[2] == pytest.approx(short, rel=1e-5)


@pytest.mark.parametrize("rows", [1_000, 100_000])
@pytest.mark.parametrize("values", [2, 10, 1_000])
def test_the_test_of_chance_keeps_its_level(values: int, rows: int) -> None:
    draw = np.random.default_rng([values, rows])
    p = 1 / np.arange(1, values + 1)
    p /= p.sum()
    found = [chance(draw.multinomial(rows, p), draw.multinomial(2 * rows, p)) for _ in range(800)]
    wrong = float(np.mean(np.array(found) <= 0.05))
    assert 0.025 < wrong < 0.075  # three standard errors and the grain of a 2 x 2 table


def test_cells_are_pooled_by_their_totals_alone() -> None:
    a, b = np.array([1, 2, 3, 400, 0, 0, 1]), np.array([2, 2, 3, 400, 0, 5, 0])
    left, right = pooled(a, b)
    assert (left.tolist(), right.tolist()) == ([6, 401], [7, 405])
    assert min((left + right) * (left.sum() / (left.sum() + right.sum()))) >= FEWEST
    swapped = pooled(b, a)
    assert [x.tolist() for x in swapped] == [right.tolist(), left.tolist()]


def test_rates_of_discovery_are_those_of_the_step_up() -> None:
    assert discovery_rates([]) == []
    assert discovery_rates([0.001, 0.8, 0.04]) == pytest.approx([0.003, 0.8, 0.06])
    p = np.random.default_rng(0).random(200) ** 3
    q = np.array(discovery_rates(p.tolist()))
    ordered = np.sort(p)
    cut = max((i for i in range(200) if ordered[i] <= 0.05 * (i + 1) / 200), default=-1)
    assert int((q <= 0.05).sum()) == cut + 1


def test_many_rows_alone_flag_nothing() -> None:
    before = np.array([5_000_000, 5_000_000])
    after = np.array([5_050_000, 4_950_000])  # half a point: certain, and of no consequence
    one = decide([(before, after)])[0]
    assert one.p < 1e-50
    assert not one.drifted
    assert one.distance == pytest.approx(0.005, abs=0.001)
    assert one.low < 0.005 < one.high


def test_the_distance_is_the_same_anywhere_and_always() -> None:
    a, b = np.array([300, 400, 300]), np.array([350, 400, 250])
    assert measure(a, b) == measure(a.astype(np.int32), b.copy())
    assert measure(a, b) != measure(b, a)


@pytest.mark.parametrize("bins", [2, 20, 40])
@pytest.mark.parametrize("rows", [1_000, 20_000])
@pytest.mark.parametrize("moved", [0.0, 0.03, 0.1])
def test_the_interval_holds_the_distance(bins: int, rows: int, moved: float) -> None:
    draw = np.random.default_rng([bins, rows, round(100 * moved)])
    p = np.full(bins, 1 / bins)
    q = p * (1 - moved / (1 - p[0]))
    q[0] = p[0] + moved
    held = 0
    for _ in range(200):
        size = measure(draw.multinomial(rows, p), draw.multinomial(rows, q))
        held += size.low <= moved <= size.high
        assert 0 <= size.low <= size.distance <= size.high <= 1
    assert held / 200 > 0.91


def test_the_strict_test_keeps_its_level_on_the_floor_itself() -> None:
    draw = np.random.default_rng(5)
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.52, 0.3, 0.18])
    found = [
        decide([(draw.multinomial(50_000, p), draw.multinomial(50_000, q))], strict=True)[0].p for _ in range(1500)
    ]
    assert 0.033 < np.mean(np.array(found) <= 0.05) < 0.075
    clear = decide([(draw.multinomial(50_000, p), draw.multinomial(50_000, [0.6, 0.25, 0.15]))], strict=True)[0]
    assert clear.drifted


def test_of_25_columns_the_5_that_drifted_are_flagged_and_no_other() -> None:
    from benchmarks.comparing import TRUE, world

    flags = []
    for seed in range(40):
        draw = np.random.default_rng([3, seed])
        pairs = [(draw.multinomial(100_000, p), draw.multinomial(100_000, q)) for p, q in world(seed)]
        flags.append([one.drifted for one in decide(pairs)])
    found = np.array(flags)
    assert found[:, :TRUE].all()
    assert found[:, TRUE:].sum() <= 2


def test_an_empty_side_decides_nothing() -> None:
    one = decide([(np.array([0, 0]), np.array([5, 5])), (np.array([7]), np.array([9]))])
    assert [(x.drifted, x.p) for x in one] == [(False, 1.0), (False, 1.0)]
    assert decide([]) == []
