"""A retraining carried out with stages that are handed in."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from trilho.core import records as r
from trilho.core.projection import ModelState, Retraining, Rollout, Run, Version
from trilho.errors import NotYet, Refused, StepFailed, TrilhoError, Unreachable
from trilho.retrain.loop import carry_out, run_of, version_of

OPEN = Retraining("retraining-1", "performance", "incident-1", "2026-03-01T10:00:00+00:00", "2012-07-01T00:00:00")


@dataclass
class Outcome:
    """What a training left."""

    run: str = "run-9"
    version: int | None = 2
    verdict: r.Verdict | None = "pass"
    reason: str = "mae 41, the champion 95"
    error: str | None = None


@dataclass
class Stages:
    """Stages that remember what they were asked."""

    outcome: Outcome | Exception = field(default_factory=Outcome)
    refusal: TrilhoError | None = None
    asked: list[str] = field(default_factory=list)
    released: list[tuple[int, str]] = field(default_factory=list)

    def train(self, cause: str) -> Outcome:
        self.asked.append(cause)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def release(self, version: int, why: str) -> None:
        if self.refusal:
            raise self.refusal
        self.released.append((version, why))


def carried(stages: Stages, state: ModelState | None = None) -> r.RetrainingEnded:
    return carry_out(OPEN, "bikes", stages.train, stages.release, state)


def test_what_passes_is_released() -> None:
    stages = Stages()
    assert carried(stages) == r.RetrainingEnded(
        model="bikes",
        trigger="retraining-1",
        run="run-9",
        version=2,
        result="promoted",
        note="mae 41, the champion 95",
    )
    assert stages.asked == ["performance"]
    assert stages.released == [(2, "retraining-1, for performance: mae 41, the champion 95")]


@pytest.mark.parametrize(("verdict", "result"), [("fail", "rejected"), ("not enough data", "not enough data")])
def test_what_does_not_pass_is_not(verdict: r.Verdict, result: str) -> None:
    stages = Stages(Outcome(verdict=verdict))
    ended = carried(stages)
    assert (ended.result, ended.version, stages.released) == (result, 2, [])


def test_a_run_that_failed_says_so() -> None:
    ended = carried(Stages(Outcome(version=None, verdict=None, error="contract: temp is 99")))
    assert (ended.result, ended.run, ended.version, ended.note) == ("failed", "run-9", None, "contract: temp is 99")


def test_an_error_of_ours_ends_it() -> None:
    ended = carried(Stages(StepFailed("fit: ValueError: no rows")))
    assert (ended.result, ended.run, ended.note) == ("failed", None, "fit: ValueError: no rows")


@pytest.mark.parametrize("error", [Unreachable("the journal is busy"), MemoryError()])
def test_what_may_be_tried_again_leaves_it_open(error: Exception) -> None:
    with pytest.raises(type(error)):
        carried(Stages(error))


@pytest.mark.parametrize(
    ("refusal", "result"),
    [
        (NotYet("version 2 waits for approval"), "approval pending"),
        (Refused("version 3 is on its way, at 10% of traffic"), "rejected"),
    ],
)
def test_a_release_that_is_refused(refusal: TrilhoError, result: str) -> None:
    ended = carried(Stages(refusal=refusal))
    assert (ended.result, ended.version, ended.note) == (result, 2, refusal.fact)


def killed_after_release() -> ModelState:
    version = Version(2, "p", "run-9", "d", "mae", {}, "2026-03-01T10:00:08+00:00", None, None, None)
    old = Run("run-8", "train", "performance", "d", "2026-02-01T10:00:01+00:00", "trilho", None, state="succeeded")
    run = Run("run-9", "train", "performance", "d", "2026-03-01T10:00:01+00:00", "trilho", None, state="succeeded")
    way = Rollout("rollout-2", 2, 1, [10, 100], "2026-03-01T10:00:09+00:00", "trilho", "", share=10)
    return ModelState(
        "bikes", champion=1, versions={2: version}, runs={"run-8": old, "run-9": run}, rollouts={"rollout-2": way},
        retrainings={OPEN.id: OPEN},
    )  # fmt: skip


def test_a_process_killed_after_the_release_does_not_release_twice() -> None:
    stages = Stages()
    ended = carried(stages, killed_after_release())
    assert (ended.result, ended.version, ended.run) == ("promoted", 2, "run-9")
    assert (stages.asked, stages.released) == ([], [])


def test_a_process_killed_while_training_trains_again() -> None:
    state = killed_after_release()
    state.rollouts.clear()
    stages = Stages()
    assert carried(stages, state).result == "promoted"
    assert stages.asked == ["performance"]


def test_a_retraining_finds_its_run_and_version() -> None:
    state = killed_after_release()
    assert (run_of(state, OPEN), version_of(state, OPEN)) == ("run-9", 2)
    earlier = Retraining("retraining-0", "drift", None, "2026-01-01T00:00:00+00:00", None)
    assert (run_of(state, earlier), version_of(state, earlier)) == (None, None)


def test_a_retraining_that_leaves_the_champion_changes_nothing() -> None:
    stages = Stages()
    ended = carried(stages, ModelState("bikes", champion=2))
    assert (ended.result, ended.version, stages.released) == ("unchanged", 2, [])
