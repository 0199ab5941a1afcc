"""The chart of an alert: what it shows, whatever the readings are like."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.watch.alerts.world import readings

from trilho.watch.alerts.lettering import Lettering
from trilho.watch.alerts.picture import BAD, Dot, _paint, draw, sample, select

Image = pytest.importorskip("PIL.Image")
DISTANCE = {"kind": "distance", "feature": "temp"}
METRIC = {"kind": "metric", "feature": "mae", "allowed": 0.55}


def colours(picture: bytes) -> set[tuple[int, int, int]]:
    image = Image.open(io.BytesIO(picture))
    assert image.size == (1000, 560)
    return {colour for _, colour in image.getcolors(1 << 20)}


def test_it_picks_the_newest_windows_of_the_first_cause() -> None:
    dots = select(readings(60), DISTANCE)
    assert len(dots) == 40
    assert dots[-1].value == pytest.approx(0.03 + 44 * 0.15)
    assert [dot.allowed for dot in select(readings(), METRIC)] == [0.55] * 20
    assert sum(dot.alarm for dot in select(readings(), DISTANCE)) == 1


def test_windows_without_labels_are_left_out() -> None:
    some = [replace(x, value=None) if k % 2 else x for k, x in enumerate(readings())]
    assert len(select(some, METRIC)) == 10
    assert draw([replace(x, value=None) for x in some], METRIC, "h", "en") is None


def test_what_is_over_the_limit_is_red_and_what_is_not_is_not() -> None:
    calm = [replace(x, alarms=[]) for x in readings(10)]
    moved = draw(readings(), DISTANCE, "flights version 1: drift", "en")
    still = draw(calm, {**METRIC, "allowed": None}, "flights", "en")
    assert moved is not None
    assert still is not None
    assert BAD in colours(moved)
    assert BAD not in colours(still)
    assert len(moved) < 200_000


@settings(max_examples=8, deadline=None)
@given(
    values=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=40),
    allowed=st.none() | st.floats(-1e6, 1e6),
    headline=st.text(max_size=80),
)
def test_any_values_can_be_drawn(values: list[float], allowed: float | None, headline: str) -> None:
    first = select(readings(2), DISTANCE)[0]
    dots = [Dot(first.time.replace(day=1 + k % 28), value, allowed) for k, value in enumerate(sorted(values))]
    colours(_paint(dots, headline, "x", "pt-BR"))


def test_letters_with_marks_are_there_or_stand_without() -> None:
    assert Lettering().spelt("drift") == "drift"
    assert Lettering().spelt("versão") in ("versão", "versao")
    chosen = Lettering.of("versão")
    assert chosen.spelt("versão") == "versão" or chosen.file == ""


def test_a_sample_is_a_picture_too() -> None:
    made = sample("pt-BR")
    assert made is not None
    assert BAD in colours(made)
