"""Planted versions: one no worse gets through, one that fails, dawdles, predicts elsewhere or loses more does not."""

from __future__ import annotations

import pytest
from tests.release.planted import Planted, play

from trilho.config import Serve

SERVE = Serve(canary_requests=50)
PATIENT = Serve(canary_requests=1_000_000)  # it stays at its share, so that what is found is found there


@pytest.mark.parametrize("errors", [0.0, 0.03])
def test_a_version_no_worse_gets_through_though_one_looks_after_every_request(errors: float) -> None:
    same = Planted(errors=errors, loss=0.2)
    ended = [play(same, same, seed, SERVE, most=5000) for seed in range(12)]
    assert [x.outcome for x in ended].count("full") >= 11  # a doubt may last
    assert "rolled back" not in [x.outcome for x in ended]


def test_a_better_version_whose_scores_move_a_little_gets_through() -> None:
    better = Planted(errors=0.0, milliseconds=4.0, score=18.0, loss=0.15)
    ended = [play(better, Planted(loss=0.2), seed, SERVE, most=5000) for seed in range(8)]
    assert {x.outcome for x in ended} == {"full"}


@pytest.mark.parametrize(
    ("bad", "old", "outcome", "said", "within"),
    [
        (Planted(errors=0.10), Planted(errors=0.05), "rolled back", "failed or refused", 3000),
        (Planted(milliseconds=200), Planted(milliseconds=40), "rolled back", "answers 95% of requests", 200),
        (Planted(score=31), Planted(score=6), "held", "lie far from", 400),
        (Planted(loss=0.4), Planted(loss=0.2), "rolled back", "labelled rows version 2 loses", 400),
    ],
    ids=["twice the errors", "five times slower", "predicts elsewhere", "twice the loss"],
)
def test_a_worse_version_is_caught(bad: Planted, old: Planted, outcome: str, said: str, within: int) -> None:
    found = [play(bad, old, seed, PATIENT, share=50, every=20) for seed in range(6)]
    assert {x.outcome for x in found} == {outcome}
    assert sorted(x.requests for x in found)[3] <= within
    assert all(any(part in getattr(x.end, "why", "") for part in said.split("|")) for x in found)


def test_a_version_that_is_better_by_its_labels_ends_an_ab_test() -> None:
    serve = Serve(canary=[50, 100], canary_requests=50)
    shares: list[int] = []
    found = play(Planted(loss=0.15), Planted(loss=0.3), 3, serve, share=50, also=lambda x: shares.append(x.share))
    assert (found.outcome, shares) == ("full", [100])
