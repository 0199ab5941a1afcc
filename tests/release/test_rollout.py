"""The rollout's state machine: single moves, and random traces."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from trilho.config import Serve
from trilho.core import records as r
from trilho.core.capabilities import Capabilities
from trilho.core.projection import ModelState, Rollout
from trilho.core.readings import ShadowStats, VersionStats
from trilho.errors import NotYet, Refused, UsageError
from trilho.release.comparison import compare
from trilho.release.rollout import (
    advance,
    describe,
    explain,
    explain_rollback,
    move,
    previous,
    rollback,
    standing,
    start,
    undo,
    waits_for,
)
from trilho_runtime.routing.slower import allowed_edges, place
from trilho_runtime.web.measures import EDGES_MS

NOW = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)
SERVE = Serve(canary=[10, 50, 100], canary_requests=50)


def under_way(share: int = 10, champion: int | None = 1, paused: bool = False) -> Rollout:
    return Rollout(
        id="rollout-2",
        version=2,
        champion=champion,
        steps=[10, 50, 100],
        started="2026-03-01T12:00:00+00:00",
        actor="ana",
        why="",
        share=share,
        share_since="2026-03-01T12:00:00+00:00",
        paused=paused,
        model="bikes",
    )


def counted(
    new: tuple[int, int], old: tuple[int, int], p95: tuple[float, float] | None = None
) -> dict[int, VersionStats]:
    fast, slow = p95 or (None, None)
    return {
        2: VersionStats(requests=new[0], errors=new[1], rows=new[0], p95_ms=fast),
        1: VersionStats(requests=old[0], errors=old[1], rows=old[0], p95_ms=slow),
    }


def test_the_first_version_serves_at_once() -> None:
    started, ended = start(ModelState("bikes"), 1, SERVE, "first")
    assert isinstance(started, r.RolloutStarted)
    assert (started.champion, started.steps) == (None, [100])
    assert isinstance(ended, r.RolloutEnded)
    assert (ended.outcome, ended.champion) == ("full", 1)
    assert "nothing serves yet" in explain(ModelState("bikes"), 1, SERVE)[0]


def test_a_later_version_starts_with_its_first_share() -> None:
    state = ModelState("bikes", champion=1, rollouts={"rollout-1": under_way()})
    started, stepped = start(state, 2, SERVE, "drift")
    assert isinstance(started, r.RolloutStarted)
    assert (started.rollout, started.champion, started.steps, started.why) == ("rollout-2", 1, [10, 50, 100], "drift")
    assert isinstance(stepped, r.RolloutStepped)
    assert (stepped.rollout, stepped.share) == ("rollout-2", 10)
    assert "10%, then 50%, then 100%" in explain(state, 2, SERVE)[1]


def test_it_steps_when_enough_was_answered_and_not_before() -> None:
    assert advance(under_way(), counted((49, 0), (400, 0)), SERVE, NOW) is None
    stepped = advance(under_way(), counted((50, 0), (400, 0)), SERVE, NOW)
    assert isinstance(stepped, r.RolloutStepped)
    assert (stepped.share, stepped.model) == (50, "bikes")
    assert stepped.evidence["requests"] == 50
    assert stepped.evidence["seconds"] == 30.0


def test_it_is_full_after_the_last_share() -> None:
    ended = advance(under_way(100), counted((50, 0), (0, 0)), SERVE, NOW)
    assert isinstance(ended, r.RolloutEnded)
    assert (ended.outcome, ended.champion) == ("full", 2)


def test_a_version_that_always_fails_is_rolled_back_after_a_few_requests() -> None:
    ended = advance(under_way(), counted((5, 5), (45, 0)), SERVE, NOW)
    assert isinstance(ended, r.RolloutEnded)
    assert (ended.outcome, ended.champion) == ("rolled back", 1)
    assert ended.why == "version 2 failed or refused 5 of 5 requests at 10% of traffic, version 1 0 of 45"


def test_a_version_that_refuses_what_the_champion_takes_is_rolled_back() -> None:
    new, old = VersionStats(requests=5, refused=5), VersionStats(requests=45, refused=0)
    ended = advance(under_way(), {2: new, 1: old}, SERVE, NOW)
    assert isinstance(ended, r.RolloutEnded)
    assert (ended.outcome, ended.champion) == ("rolled back", 1)


def test_refusals_that_both_share_are_the_callers_mistakes() -> None:
    new, old = VersionStats(requests=20, refused=10), VersionStats(requests=180, refused=90)
    stepped = advance(under_way(), {2: new, 1: old}, SERVE, NOW)
    assert stepped is None or isinstance(stepped, r.RolloutStepped)


def test_at_full_traffic_it_is_held_against_what_is_allowed() -> None:
    ended = advance(under_way(100), counted((8, 8), (0, 0)), SERVE, NOW)
    assert isinstance(ended, r.RolloutEnded)
    assert (ended.outcome, ended.why) == (
        "rolled back",
        "version 2 failed 8 of 8 requests at 100% of traffic, allowed 5%",
    )


def test_the_last_few_answers_of_the_champion_are_no_measure_at_full_traffic() -> None:
    failing = advance(under_way(100), counted((8, 8), (4, 4)), SERVE, NOW)
    assert isinstance(failing, r.RolloutEnded)
    assert failing.outcome == "rolled back"
    elsewhere = advance(under_way(100), scored({"3": 60}, {"29": 4}), SERVE, NOW)
    assert isinstance(elsewhere, r.RolloutEnded)
    assert elsewhere.outcome == "full"


def test_errors_that_both_share_are_not_held_against_it() -> None:
    stepped = advance(under_way(), counted((100, 30), (900, 270)), SERVE, NOW)
    assert isinstance(stepped, r.RolloutStepped)


def test_in_doubt_it_waits_for_more_answers() -> None:
    assert advance(under_way(), counted((55, 3), (450, 0)), SERVE, NOW) is None
    assert isinstance(advance(under_way(), counted((400, 3), (3600, 9)), SERVE, NOW), r.RolloutStepped)


@pytest.mark.parametrize("paused", [False, True])
def test_a_version_whose_server_never_starts_is_rolled_back(paused: bool) -> None:
    nothing = counted((0, 0), (4000, 0))
    assert advance(under_way(paused=paused), nothing, SERVE, NOW, 2, "ImportError: no rides") is None
    ended = advance(under_way(paused=paused), nothing, SERVE, NOW, 3, "ImportError: no rides")
    assert isinstance(ended, r.RolloutEnded)
    assert (ended.outcome, ended.champion) == ("rolled back", 1)
    assert ended.why == "the server of version 2 failed to start 3 times: ImportError: no rides"


def test_a_version_whose_server_has_just_ended_does_not_step() -> None:
    enough = counted((50, 0), (450, 0))
    assert isinstance(advance(under_way(), enough, SERVE, NOW), r.RolloutStepped)
    assert advance(under_way(), enough, SERVE, NOW, 1, "killed") is None
    (wait,) = standing(under_way(), enough, SERVE, NOW, failed_starts=1)["waits_for"]
    assert wait == "its server to run for a while: it has ended, or failed to start, once of late"


def test_a_version_that_answered_is_given_more_starts() -> None:
    assert advance(under_way(), counted((20, 0), (180, 0)), SERVE, NOW, 4, "killed") is None
    ended = advance(under_way(), counted((20, 0), (180, 0)), SERVE, NOW, 5, "killed")
    assert isinstance(ended, r.RolloutEnded)
    assert ended.outcome == "rolled back"
    assert ended.why == "the server of version 2 answered and ended, or failed to start, 5 times: killed"


def timed(new: tuple[int, float], old: tuple[int, float]) -> dict[int, VersionStats]:
    """Give counts of two versions that take a time for each of their requests."""

    def stats(requests: int, milliseconds: float) -> VersionStats:
        counts = [0] * (len(EDGES_MS) + 1)
        counts[place(milliseconds / 1000)] = requests
        return VersionStats(requests=requests, rows=requests, latency=counts, p95_ms=milliseconds)

    return {2: stats(*new), 1: stats(*old)}


def test_a_much_slower_version_is_rolled_back() -> None:
    ended = advance(under_way(), timed((25, 900.0), (225, 40.0)), SERVE, NOW)
    assert isinstance(ended, r.RolloutEnded)
    assert (ended.outcome, ended.champion) == ("rolled back", 1)
    assert ended.why == "version 2 answers 95% of requests within 900 ms, version 1 within 40 ms"


def test_a_version_that_takes_up_to_twice_as_long_and_20_ms_goes_on() -> None:
    assert isinstance(advance(under_way(), timed((50, 64.0), (450, 32.0)), SERVE, NOW), r.RolloutStepped)
    assert isinstance(advance(under_way(), timed((50, 16.0), (450, 0.5)), SERVE, NOW), r.RolloutStepped)


def test_the_latency_of_a_few_requests_says_nothing() -> None:
    assert advance(under_way(), timed((19, 8000.0), (171, 1.0)), SERVE, NOW) is None


def scored(new: dict[str, int], old: dict[str, int], /, **more: list[int]) -> dict[int, VersionStats]:
    return {
        2: VersionStats(requests=sum(new.values()), scores=new, losses=more.get("new", [])),
        1: VersionStats(requests=sum(old.values()), scores=old, losses=more.get("old", [])),
    }


LOW, HIGH = [60] + [0] * 48 + [40], [20] + [0] * 48 + [80]
APART = ({"3": 60}, {"3": 54, "20": 486})


def test_predictions_that_lie_elsewhere_hold_it_until_a_person_has_looked() -> None:
    held = advance(under_way(), scored(*APART), SERVE, NOW)
    assert isinstance(held, r.RolloutPaused)
    assert (held.paused, held.cause) == (True, "shift")
    assert held.why == "90% of the predictions of version 2 lie far from those of version 1, allowed 50%"
    paused = replace(under_way(paused=True), held_by="shift")
    assert advance(paused, scored(*APART), SERVE, NOW) is None
    seen = replace(under_way(), shift_seen=True)
    assert isinstance(advance(seen, scored(*APART), SERVE, NOW), r.RolloutStepped)


def test_predictions_as_the_gate_has_seen_them_hold_nothing() -> None:
    stats = scored(*APART)
    learnt = {**stats, 2: replace(stats[2], expected={"1": 60, "5": 100, "20": 40})}
    assert isinstance(advance(under_way(), learnt, SERVE, NOW), r.RolloutStepped)
    broken = {**stats, 2: replace(stats[2], expected={"16": 60, "20": 140})}
    assert isinstance(advance(under_way(), broken, SERVE, NOW), r.RolloutPaused)
    seen = unseen(60, moved=60, scores={"3": 60})
    assert isinstance(advance(in_shadow(), broken, SERVE, NOW, shadow=seen), r.RolloutPaused)
    assert advance(in_shadow(), learnt, SERVE, NOW, shadow=seen) is None  # it waits for more requests


def test_a_small_shift_is_what_a_retrained_model_does() -> None:
    little = scored({"3": 40, "4": 20}, {"3": 270, "4": 270})
    assert isinstance(advance(under_way(), little, SERVE, NOW), r.RolloutStepped)


def test_labels_that_show_it_loses_less_let_it_go_on_though_it_predicts_something_else() -> None:
    stats = scored(*APART, new=LOW, old=HIGH)
    assert isinstance(advance(under_way(), stats, SERVE, NOW), r.RolloutStepped)
    resumed = advance(replace(under_way(paused=True), held_by="shift"), stats, SERVE, NOW)
    assert isinstance(resumed, r.RolloutPaused)
    assert (resumed.paused, resumed.cause) == (False, "shift")
    by_hand = replace(under_way(paused=True), held_by="a person")
    assert advance(by_hand, stats, SERVE, NOW) is None


def test_a_version_that_loses_more_on_labelled_rows_is_rolled_back() -> None:
    ended = advance(under_way(), scored({"3": 30}, {"3": 270}, new=HIGH, old=LOW), SERVE, NOW)
    assert isinstance(ended, r.RolloutEnded)
    assert ended.outcome == "rolled back"
    assert ended.why.startswith("on 100 labelled rows version 2 loses 0.794 in the mean, version 1 0.402 on 100: ")


def test_an_ab_test_stays_at_its_share_until_labels_or_a_person_decide() -> None:
    state = ModelState("bikes", champion=1)
    started, stepped = start(state, 2, SERVE, "", hold=30)
    assert isinstance(started, r.RolloutStarted)
    assert isinstance(stepped, r.RolloutStepped)
    assert (started.steps, started.hold, stepped.share) == ([10, 30, 50, 100], 30, 10)
    held = replace(under_way(30), steps=[10, 30, 50, 100], hold=30)
    many = scored({"3": 5000}, {"3": 5000})
    assert advance(held, many, SERVE, NOW) is None
    assert waits_for(held, many, SERVE, compare(held, many)) == [
        "labels, or a person, to say which version is better: no labels have come for both versions yet"
    ]
    told = scored({"3": 5000}, {"3": 5000}, new=LOW, old=HIGH)
    decided = advance(held, told, SERVE, NOW)
    assert isinstance(decided, r.RolloutStepped)
    assert decided.share == 50
    with pytest.raises(UsageError, match="hold is 100; a share at which both versions answer"):
        start(state, 2, SERVE, "", hold=100)


def in_shadow(**changes: Any) -> Rollout:
    return replace(under_way(0), shadow=20, **changes)


def unseen(requests: int = 200, **counts: Any) -> ShadowStats:
    return ShadowStats(requests=requests, rows=requests, pairs=requests, **counts)


def test_a_shadow_comes_before_the_first_share() -> None:
    state = ModelState("bikes", champion=1)
    [started] = start(state, 2, Serve(shadow=20), "")
    assert isinstance(started, r.RolloutStarted)
    assert started.shadow == 20
    assert "asked about 20% of the requests unseen, until 200 answers" in explain(state, 2, Serve(shadow=20))[1]
    assert isinstance(start(state, 2, Serve(shadow=20), "", shadow=0)[1], r.RolloutStepped)
    first = start(ModelState("bikes"), 1, Serve(shadow=20), "")
    assert isinstance(first[1], r.RolloutEnded)


def test_a_shadow_waits_for_its_requests_and_then_gets_its_first_share() -> None:
    assert advance(in_shadow(), {}, SERVE, NOW) is None
    assert advance(in_shadow(), {}, SERVE, NOW, shadow=unseen(199)) is None
    worst = [{"id": "a.0", "difference": 0.5}]
    slices = {"origin=JFK": {"rows": 4, "disagreements": 1, "sum": 2.0}}
    stepped = advance(in_shadow(), {}, SERVE, NOW, shadow=unseen(disagreements=50, worst=worst, slices=slices))
    assert isinstance(stepped, r.RolloutStepped)
    assert stepped.share == 10
    assert stepped.evidence["shadow"]["disagreement"] == 0.25
    assert stepped.evidence["shadow"]["worst"] == worst
    assert stepped.evidence["shadow"]["slices"]["origin=JFK"] == {
        "rows": 4,
        "disagreement": 0.25,
        "mean_difference": 0.5,
    }


def test_a_version_that_fails_unseen_is_rolled_back_before_anybody_met_it() -> None:
    assert advance(in_shadow(), {}, SERVE, NOW, shadow=unseen(8, errors=8)) is None
    ended = advance(in_shadow(), {}, SERVE, NOW, shadow=unseen(20, errors=15, refused=5))
    assert isinstance(ended, r.RolloutEnded)
    assert (ended.outcome, ended.champion) == ("rolled back", 1)
    assert ended.why.startswith("version 2, asked unseen, failed or refused 20 of 20 requests that version 1 answered")


def test_a_version_that_is_slow_unseen_is_rolled_back() -> None:
    slow = [0] * len(allowed_edges())
    ended = advance(in_shadow(), {}, SERVE, NOW, shadow=unseen(60, slow=[60, *slow[1:]], fast=slow))
    assert isinstance(ended, r.RolloutEnded)
    assert ended.why.startswith("version 2 answers 95% of requests within")


def test_a_shift_is_seen_unseen() -> None:
    held = advance(in_shadow(), {}, SERVE, NOW, shadow=unseen(60, moved=60))
    assert isinstance(held, r.RolloutPaused)
    assert held.cause == "shift"


def test_a_person_moves_a_shadow_on_or_ends_it() -> None:
    assert in_shadow().position == "asked unseen about 20% of requests"
    next_ = move(in_shadow(), "next", "")
    assert isinstance(next_, r.RolloutStepped)
    assert next_.share == 10
    state = ModelState("bikes", champion=1, rollouts={"rollout-2": in_shadow()})
    assert explain_rollback(state) == ["version 2 of bikes is asked no longer; version 1 gets all traffic, as before"]


def test_what_a_place_cannot_do_is_refused_by_name_before_anything_starts() -> None:
    state, place = ModelState("bikes", champion=1), Capabilities("a Vertex AI endpoint", mirror=False, sticky=False)
    with pytest.raises(UsageError, match="a Vertex AI endpoint cannot ask a version unseen: a shadow of 20%"):
        start(state, 2, SERVE, "", shadow=20, where=place)
    with pytest.raises(UsageError, match="a Vertex AI endpoint cannot keep a key with its version: sticky is 'shop'"):
        start(state, 2, SERVE, "", sticky="shop", where=place)
    with pytest.raises(UsageError, match="one container cannot split requests between two versions"):
        start(state, 2, SERVE, "", where=Capabilities("one container", shares=False))
    assert len(start(state, 2, Serve(canary=[100]), "", where=Capabilities("one container", shares=False))) == 2
    assert len(start(state, 2, SERVE, "", where=place)) == 2


def test_a_paused_rollout_holds_but_is_still_rolled_back() -> None:
    assert advance(under_way(paused=True), counted((5000, 0), (5000, 0)), SERVE, NOW) is None
    ended = advance(under_way(paused=True), counted((10, 10), (90, 0)), SERVE, NOW)
    assert isinstance(ended, r.RolloutEnded)
    assert ended.outcome == "rolled back"


def test_an_ended_rollout_stays_as_it_is() -> None:
    over = replace(under_way(), outcome="full")
    assert advance(over, counted((500, 500), (500, 0)), SERVE, NOW) is None


def test_moves_of_a_person() -> None:
    next_ = move(under_way(), "next", "")
    assert isinstance(next_, r.RolloutStepped)
    assert next_.share == 50
    assert describe(next_) == "version 2 gets 50% of traffic"
    last = move(under_way(100), "next", "sure")
    assert isinstance(last, r.RolloutEnded)
    assert describe(last) == "version 2 is champion, with all traffic"
    paused = move(under_way(), "pause", "lunch")
    assert isinstance(paused, r.RolloutPaused)
    assert paused.paused
    aborted = move(under_way(), "abort", "wrong one")
    assert isinstance(aborted, r.RolloutEnded)
    assert (aborted.outcome, aborted.champion, aborted.why) == ("aborted", 1, "wrong one")
    assert describe(aborted) == "version 2 is aborted: version 1 has all traffic"


def test_moves_that_make_no_sense() -> None:
    with pytest.raises(UsageError, match="is not paused"):
        move(under_way(), "resume", "")
    with pytest.raises(UsageError, match="is paused already"):
        move(under_way(paused=True), "pause", "")
    with pytest.raises(UsageError, match="allowed: next, pause, resume, abort"):
        move(under_way(), "faster", "")


def test_rolling_back_a_rollout_under_way() -> None:
    state = ModelState("bikes", champion=1, rollouts={"rollout-2": under_way()})
    ended = rollback(state, "")
    assert isinstance(ended, r.RolloutEnded)
    assert (ended.outcome, ended.champion) == ("rolled back", 1)
    assert explain_rollback(state) == [
        "version 2 of bikes loses its 10% of traffic, at once; version 1 gets all traffic"
    ]


def test_rolling_back_a_finished_release() -> None:
    state = ModelState("bikes", champion=3, champions=[("t1", 1), ("t2", 2), ("t3", 3)])
    restored = rollback(state, "worse")
    assert restored == r.ChampionRestored(model="bikes", version=2, replaced=3, why="worse")
    assert explain_rollback(state) == ["version 2 of bikes serves again instead of version 3, once its server is ready"]


def test_rolling_back_twice_goes_further_back_and_not_in_a_circle() -> None:
    champions = [("t1", 1), ("t2", 2), ("t3", 3), ("t4", 2)]
    assert previous(ModelState("bikes", champion=2, champions=champions)) == 1
    with pytest.raises(Refused, match="no version of bikes served before version 1"):
        rollback(ModelState("bikes", champion=1, champions=[*champions, ("t5", 1)]), "")
    with pytest.raises(NotYet, match="nothing of bikes serves yet"):
        rollback(ModelState("bikes"), "")


def test_each_change_can_be_taken_back() -> None:
    state = ModelState("bikes", champion=1, rollouts={"rollout-1": under_way()})
    assert undo(start(state, 2, SERVE, "")) == "trilho rollback"
    assert undo([move(under_way(100), "next", "")]) == "trilho rollback"
    assert undo([move(under_way(), "pause", "")]) == "trilho rollout resume"
    assert undo([move(under_way(), "abort", "")]) == "trilho release 2"
    champions = [("t1", 1), ("t2", 2)]
    assert undo([rollback(ModelState("bikes", champion=2, champions=champions), "")]) == "trilho release 2"
    assert undo(start(ModelState("bikes"), 1, SERVE, "")) is None


def played(rng: random.Random, error_rates: tuple[float, float], looks: int) -> tuple[Rollout, list[int]]:
    """Play random traffic against the machine, looking after every few requests; give how it ended, and its shares."""
    rollout, shares = under_way(), [10]
    counts = [0, 0, 0, 0]
    for _ in range(looks):
        for _ in range(rng.randrange(1, 6)):
            new = rng.random() * 100 < rollout.share
            failed = rng.random() < error_rates[0 if new else 1]
            counts[0 if new else 2] += 1
            counts[1 if new else 3] += failed
        payload = advance(rollout, counted((counts[0], counts[1]), (counts[2], counts[3])), SERVE, NOW)
        if isinstance(payload, r.RolloutStepped):
            assert counts[0] - counts[1] >= SERVE.canary_requests
            rollout, counts = replace(rollout, share=payload.share), [0, 0, 0, 0]
            shares.append(payload.share)
        if isinstance(payload, r.RolloutEnded):
            assert payload.champion == (2 if payload.outcome == "full" else 1)
            return replace(rollout, outcome=payload.outcome), shares
    return rollout, shares


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.04])
def test_a_version_no_worse_than_the_champion_gets_through(rate: float) -> None:
    rng = random.Random(17)
    ended = [played(rng, (rate, rate), 2000) for _ in range(100)]
    assert sum(rollout.outcome == "rolled back" for rollout, _ in ended) <= 4  # 1% promised
    assert sum(rollout.outcome == "full" for rollout, _ in ended) >= 95
    assert all(shares == [10, 50, 100] for rollout, shares in ended if rollout.outcome == "full")


@pytest.mark.parametrize(("rate", "at_most"), [(1.0, [10]), (0.4, [10])])
def test_a_broken_version_never_gets_a_second_share(rate: float, at_most: list[int]) -> None:
    rng = random.Random(18)
    for _ in range(50):
        rollout, shares = played(rng, (rate, 0.005), 2000)
        assert (rollout.outcome, shares) == ("rolled back", at_most)
