"""A decision's way to users: who may release it, what a rollback goes back to, what a plan says."""

from __future__ import annotations

import pytest

from trilho.core.journal import GENESIS, Record, seal, unseal
from trilho.core.projection import ModelState, fold
from trilho.core.records import DecisionApproved, DecisionPackaged, DecisionReleased, DecisionRestored, Payload
from trilho.errors import NotYet, Refused, UsageError
from trilho.release import decisions


def state(*payloads: Payload, actor: str = "ana") -> ModelState:
    made: list[Record] = []
    for seq, payload in enumerate(payloads, 1):
        previous = made[-1].hash if made else GENESIS
        text, hash_ = seal(payload, previous=previous, actor=actor, time=f"2024-01-01T00:00:{seq:02d}+00:00")
        made.append(unseal(seq, text, hash_))
    return fold(made).model("m")


def packed(number: int) -> DecisionPackaged:
    return DecisionPackaged(
        model="m", decision=number, artifact=f"a{number}", reference="m.d:f", commit=None, commit_time=None, run=None
    )


def released(number: int, replaced: int | None) -> DecisionReleased:
    return DecisionReleased(model="m", decision=number, replaced=replaced, why="")


THREE = [packed(1), packed(2), packed(3)]


def test_the_one_that_holds_is_the_last_that_was_released_or_restored() -> None:
    assert (state(*THREE).decision, list(state(*THREE).decisions)) == (None, [1, 2, 3])
    held = state(*THREE, released(1, None), released(3, 1))
    assert (held.decision, held.decision_succession, decisions.previous(held)) == (3, [1, 3], 1)
    assert held.decisions[3].since == "2024-01-01T00:00:05+00:00"
    assert held.decisions[2].since is None
    back = state(*THREE, released(1, None), released(3, 1), DecisionRestored(model="m", decision=1, replaced=3, why=""))
    assert (back.decision, back.decision_succession, decisions.previous(back)) == (1, [1], None)


def test_a_rollback_skips_what_was_rolled_back() -> None:
    restored = DecisionRestored(model="m", decision=1, replaced=2, why="")
    found = state(*THREE, released(1, None), released(2, 1), restored, released(3, 1))
    assert decisions.rollback(found, "") == DecisionRestored(
        model="m", decision=1, replaced=3, why="a person rolled it back"
    )


def test_there_is_nothing_before_the_first() -> None:
    with pytest.raises(NotYet):
        decisions.rollback(state(*THREE), "")
    with pytest.raises(Refused, match="no decision of m held before decision 1"):
        decisions.rollback(state(*THREE, released(1, None)), "")


def test_the_same_code_is_no_new_decision() -> None:
    assert decisions.packaged(state(*THREE), "a2", "m.d:f", (None, None)) == []
    (made,) = decisions.packaged(state(*THREE), "a9", "m.d:f", ("c", "t"), "run-1")
    assert made == DecisionPackaged(
        model="m", decision=4, artifact="a9", reference="m.d:f", commit="c", commit_time="t", run="run-1"
    )


def test_who_packed_a_decision_cannot_approve_it() -> None:
    with pytest.raises(Refused, match="ana packed decision 1, and cannot approve it"):
        decisions.approve(state(*THREE), 1, "", actor="ana")
    found = decisions.approve(state(*THREE), 1, "looks right", actor="rui")
    assert found == DecisionApproved(model="m", decision=1, why="looks right")
    own = state(*THREE, found)  # a record of the packer's own, however it came there
    for one in (state(*THREE), own):
        with pytest.raises(NotYet, match="waits for approval by somebody but ana"):
            decisions.require_approval(one, one.decisions[1])


def test_what_holds_or_is_not_there_is_not_released() -> None:
    with pytest.raises(UsageError, match="decision 1 of m holds already"):
        decisions.release(state(*THREE, released(1, None)), 1, "", {})
    with pytest.raises(UsageError, match="m has no decision 7; it has: 1, 2, 3"):
        decisions.known(state(*THREE), 7)


def test_a_plan_says_what_would_be_decided_otherwise() -> None:
    told = {
        "rows": 2000, "changed": 30, "before": {"true": 500, "false": 1500}, "after": {"true": 470, "null": 1530},
        "failed": 2, "why": "KeyError: 'vip'", "on": "scores that were served last",
    }  # fmt: skip
    held = state(*THREE, released(1, None))
    assert decisions.explain(held, 2, "m.d:f", told) == [
        "decision 2 (m.d:f) decides for m instead of decision 1, on every version that serves, within a second and "
        "without a restart",
        "of 2,000 scores that were served last, 30 (1.5%) would be decided otherwise",
        "before: true 500, false 1,500",
        "after: true 470, none 1,530",
        "it fails on 2 of them, which would have no decision: KeyError: 'vip'",
    ]
    assert decisions.explain(held, 2, "m.d:f", {})[1:] == ["there are no scores to try it on yet"]


def test_each_change_says_how_to_take_it_back() -> None:
    assert decisions.undo([packed(1), released(1, None)]) is None
    assert decisions.undo([released(2, 1)]) == "trilho rollback --decision"
    restored = DecisionRestored(model="m", decision=1, replaced=2, why="")
    assert decisions.undo([restored]) == "trilho release --decision 2"
