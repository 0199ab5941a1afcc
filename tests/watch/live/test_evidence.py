"""The parts of an hour share what one window may stake and say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.watch.live.hourly import HOUR, LATER, Shop, watch

from trilho.watch.drift import limited
from trilho.watch.live.evidence import Spent, _within
from trilho_runtime.profile import Reference


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.floats(-0.5, 1.5), max_size=40))
def test_the_parts_of_an_hour_stake_one_window_at_most(shares: list[float]) -> None:
    spent = Spent()
    staked = sum(float(np.exp(spent.stakes(min(share, 1.0)))) for share in shares)
    assert staked == pytest.approx(min(max([*shares, 0.0]), 1.0))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.floats(-20, 20), min_size=1, max_size=20))
def test_where_hours_differ_by_nature_parts_together_say_what_a_window_may(gains: list[float]) -> None:
    cap, before, said = np.array([np.log(65.0), np.inf]), None, np.zeros(2)
    for gain in gains:
        more, before = _within(cap, np.full((1, 2), gain), before)
        said += more[0]
    total = np.full((1, 2), sum(gains))
    assert said == pytest.approx(limited(total, np.broadcast_to(cap, (1, 2)))[0])
    assert said[0] <= np.log(65.0)


def test_one_row_at_a_time_is_as_quiet_as_an_hour_at_once() -> None:
    reference: Reference = Shop().reference()
    shop, live = Shop(11), watch(reference, "1 per day")
    found = [live.update(shop.part(reference, LATER + k // 300 * HOUR, 1), LATER + k * HOUR / 300) for k in range(1200)]
    assert not any(found)
    assert max(part.evidence for part in live._evidence().values()) < 5


def test_the_evidence_of_one_drifted_hour_counts_as_far_as_hours_differ_by_nature() -> None:
    """A level that wanders slowly: no single hour alarms, however many rows it has, and several do."""
    rng = np.random.default_rng(0)
    hours = LATER - 30 * 24 * HOUR + np.repeat(np.arange(30 * 24) * HOUR, 200)
    level, levels = 0.0, []
    for _ in range(30 * 24):
        level = 0.97 * level + 0.05 * rng.normal()
        levels.append(level)
    reference = Reference.fit({"x": rng.normal(size=len(hours)) + np.repeat(levels, 200)}, hours, HOUR)
    live = watch(reference)
    assert np.isfinite(live.hours.frame(("hour", 0)).log_cap).all()
    parts = Shop(12)
    alarmed = []
    for k in range(12):
        for j in range(20):
            part = parts.part(reference, LATER + k * HOUR, 1)
            part = type(part)("shop", 1, part.hour, False, 200, reference.profile({"x": rng.normal(size=200) + 4}))
            alarms = live.update(part, part.hour + j * 180)
            alarmed += [k for alarm in alarms if alarm.kind == "drift"]
    assert alarmed
    assert min(alarmed) >= 1
