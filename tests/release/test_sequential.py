"""Latency and predictions, compared edge by edge: the promise holds however often one looks, and harm is found."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from trilho.release import sequential
from trilho.release.evidence import over_champion, over_in_pairs
from trilho_runtime.routing.slower import allowed_edges, place
from trilho_runtime.web.measures import EDGES_MS

Ints = NDArray[np.int64]


def counts(places: Ints, size: int = len(EDGES_MS) + 1) -> list[int]:
    return [int(n) for n in np.bincount(places, minlength=size)]


def scores(places: Ints) -> dict[str, int]:
    return {str(at): n for at, n in enumerate(counts(places)) if n}


def times(rng: np.random.Generator, middle: float, number: int) -> Ints:
    return np.array([place(x / 1000) for x in middle * rng.lognormal(0, 0.5, number)])


@pytest.mark.parametrize("factor", [1.0, 1.8])
def test_a_version_within_what_is_allowed_is_rarely_called_slower(factor: float) -> None:
    rng, crossed = np.random.default_rng(4), 0
    for _ in range(60):
        new, old = times(rng, 40 * factor, 200), times(rng, 40, 800)
        crossed += any(sequential.slower(counts(new[:n]), counts(old[: 4 * n])) >= 20 for n in range(10, 200, 5))
    assert crossed <= 3  # 5% promised


def test_a_slower_version_is_found_within_a_hundred_requests() -> None:
    rng = np.random.default_rng(4)
    new, old = times(rng, 200, 100), times(rng, 40, 900)
    assert sequential.slower(counts(new), counts(old)) > 900
    assert sequential.slower(counts(old), counts(new)) == 0.0
    assert sequential.slower([], counts(old)) == sequential.slower(counts(new), []) == 0.0


def test_every_edge_has_an_allowed_one_that_is_over_twice_as_far_and_20_ms_more() -> None:
    edges = allowed_edges()
    assert len(edges) > 15
    assert all(EDGES_MS[allowed] >= 2 * EDGES_MS[edge] + 20 for edge, allowed in enumerate(edges))


@pytest.mark.parametrize("shift", [0.0, 6.0])
def test_scores_within_what_is_allowed_are_rarely_called_shifted(shift: float) -> None:
    rng, crossed = np.random.default_rng(5), 0
    for _ in range(60):
        new = np.clip(rng.normal(12 + shift, 8, 200).astype(np.int64), 0, 31)
        old = np.clip(rng.normal(12, 8, 800).astype(np.int64), 0, 31)
        crossed += any(sequential.shifted(scores(new[:n]), scores(old[: 4 * n])) >= 20 for n in range(10, 200, 10))
    assert crossed <= 3


def test_scores_that_collapse_to_one_are_found() -> None:
    spread = {str(at): 20 for at in range(32)}
    assert sequential.distance({"16": 100}, spread) == pytest.approx(1 - 17 / 32)
    assert sequential.shifted({"0": 100}, spread) > 500


def test_one_row_that_is_asked_again_and_again_may_move_a_little() -> None:
    assert sequential.shifted({"12": 500}, {"19": 500}) == 0.0
    assert sequential.shifted({"12": 500}, {"25": 500}) > 1000


def test_classes_are_compared_one_by_one() -> None:
    new, old = {"=cat": 20, "=dog": 380}, {"=cat": 320, "=dog": 80}
    assert sequential.distance(new, old) == pytest.approx(0.75)
    assert sequential.shifted(new, old) > 100
    assert sequential.shifted(old, old) == 0.0
    assert sequential.distance({}, old) is None


def test_another_kind_of_answer_is_as_far_as_can_be() -> None:
    assert sequential.distance({"=cat": 50}, {"7": 450}) == 1.0
    assert sequential.shifted({"=cat": 50}, {"7": 450}) > 1000


def test_pairs_are_held_against_the_allowed_share() -> None:
    assert sequential.shifted_in_pairs(50, 50) > 1000
    assert sequential.shifted_in_pairs(25, 50) == sequential.shifted_in_pairs(0, 0) == 0.0
    assert sequential.slower_in_pairs([50] * 5, [0] * 5, 50) > 1000
    assert sequential.slower_in_pairs([2] * 5, [0] * 5, 50) == 0.0


@pytest.mark.parametrize(("up", "down", "margin"), [(0.05, 0.05, 0.0), (0.4, 0.1, 0.3), (0.3, 0.0, 0.3)])
def test_evidence_in_pairs_keeps_its_promise(up: float, down: float, margin: float) -> None:
    rng, crossed = np.random.default_rng(6), 0
    for _ in range(200):
        drawn = rng.choice([1, -1, 0], size=300, p=[up, down, 1 - up - down])
        ups, downs = np.cumsum(drawn == 1), np.cumsum(drawn == -1)
        crossed += any(over_in_pairs(int(ups[n]), int(downs[n]), n + 1, margin) >= 20 for n in range(300))
    assert crossed <= 10  # 5% promised


def test_evidence_over_a_margin_keeps_its_promise() -> None:
    rng, crossed = np.random.default_rng(7), 0
    for _ in range(100):
        new, old = np.cumsum(rng.random(200) < 0.3), np.cumsum(rng.random(200) < 0.1)
        crossed += any(over_champion(int(new[n]), n + 1, int(old[n]), n + 1, 0.2) >= 20 for n in range(0, 200, 2))
    assert crossed <= 5


@pytest.mark.parametrize(
    ("errors", "requests", "champion", "answered"), [(10, 10, 0, 10), (10, 10, 3, 10), (9, 10, 0, 10), (30, 50, 1, 50)]
)
def test_a_margin_only_takes_evidence_away(errors: int, requests: int, champion: int, answered: int) -> None:
    found = [over_champion(errors, requests, champion, answered, margin) for margin in (0.0, 0.1, 0.3, 0.5, 0.9)]
    assert found == sorted(found, reverse=True)
