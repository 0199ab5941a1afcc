"""A retraining, from its trigger to a version on its way to users, or to the reason why there is none.

The stages are handed in as functions. What has been decided is in the journal, so that a retraining whose process was
killed is carried out again from its still open trigger: the training repeats only what was unfinished, and a version
that is already on its way is not released twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from trilho.core import records as r
from trilho.core.projection import ModelState, Retraining, Rollout
from trilho.errors import NotYet, Refused, TrilhoError, Unreachable, UsageError

Result = Literal["promoted", "rejected", "unchanged", "not enough data", "approval pending", "failed"]


class Trained(Protocol):
    """What a training left, and what the gate said of it."""

    @property
    def run(self) -> str:
        """The run's id."""

    @property
    def version(self) -> int | None:
        """The version it left, None where it failed."""

    @property
    def verdict(self) -> r.Verdict | None:
        """The gate's verdict."""

    @property
    def reason(self) -> str:
        """The verdict in words."""

    @property
    def error(self) -> str | None:
        """Why the run failed."""


def carry_out(
    retraining: Retraining,
    model: str,
    train: Callable[[str], Trained],
    release: Callable[[int, str], object],
    state: ModelState | None = None,
) -> r.RetrainingEnded:
    """Train, and release what passed the gate; give the record of how it ended, for the caller to append.

    `train` is given the cause; it trains, packages, registers and judges. `release` starts a version's way to users.
    With the model's `state` a retraining that released before its process was killed is only ended. An error of ours
    is the end of this retraining, with its fact as the note; an Unreachable, or anything that is not ours, goes
    through and leaves it open, to be carried out again.
    """
    under_way = rollout_of(state, retraining) if state is not None else None
    if state is not None and under_way is not None:
        run = state.versions[under_way.version].run
        return _end(model, retraining, run, under_way.version, "promoted", "was released before the process ended")
    try:
        trained = train(retraining.cause)
    except Unreachable:
        raise
    except TrilhoError as error:
        return _end(model, retraining, None, None, "failed", error.fact)
    if state is not None and trained.version is not None and trained.version == state.champion:
        return _end(model, retraining, trained.run, trained.version, "unchanged", trained.reason)
    return _refused(model, retraining, trained) or _released(model, retraining, trained, release)


def what_would_change(served: bool, labelled: int) -> str:
    """Say what to do where a retraining finds nothing new to learn from.

    >>> what_would_change(False, 120)
    'set [data] served = true, so that the 120 rows served and labelled since are learnt from, or bring new data'
    >>> what_would_change(True, 0)
    'bring new data, or labels of what was served (trilho labels load)'
    """
    if not served:
        rows = f"the {labelled:,} rows served and labelled since" if labelled else "rows served and labelled"
        return f"set [data] served = true, so that {rows} are learnt from, or bring new data"
    return "bring new data, or labels of what was served (trilho labels load)"


def run_of(state: ModelState, retraining: Retraining) -> str | None:
    """Give the newest run that a retraining started, where it has come to that."""
    if retraining.run is not None:
        return retraining.run
    mine = [x.id for x in state.runs.values() if x.started >= retraining.started and x.trigger == retraining.cause]
    return mine[-1] if mine else None


def version_of(state: ModelState, retraining: Retraining) -> int | None:
    """Give the version that a retraining left, where it has come to that."""
    if retraining.version is not None:
        return retraining.version
    run = run_of(state, retraining)
    return next((x.number for x in reversed(state.versions.values()) if x.run == run), None)


def rollout_of(state: ModelState, retraining: Retraining) -> Rollout | None:
    """Give the rollout of the version that a retraining left."""
    version = version_of(state, retraining)
    ways = (x for x in reversed(state.rollouts.values()) if x.version == version and x.started >= retraining.started)
    return next(ways, None)


def _refused(model: str, retraining: Retraining, trained: Trained) -> r.RetrainingEnded | None:
    if trained.version is None:
        note = trained.error or "the run left no version"
        return _end(model, retraining, trained.run, None, "failed", note)
    if trained.verdict == "pass":
        return None
    result: Result = "rejected" if trained.verdict == "fail" else "not enough data"
    return _end(model, retraining, trained.run, trained.version, result, trained.reason)


def _released(
    model: str, retraining: Retraining, trained: Trained, release: Callable[[int, str], object]
) -> r.RetrainingEnded:
    assert trained.version is not None
    result: Result = "promoted"
    note = trained.reason
    try:
        release(trained.version, f"{retraining.id}, for {retraining.cause}: {trained.reason}")
    except NotYet as error:
        result, note = "approval pending", error.fact
    except (Refused, UsageError) as error:
        result, note = "rejected", error.fact
    return _end(model, retraining, trained.run, trained.version, result, note)


def _end(
    model: str, retraining: Retraining, run: str | None, version: int | None, result: Result, note: str
) -> r.RetrainingEnded:
    return r.RetrainingEnded(model=model, trigger=retraining.id, run=run, version=version, result=result, note=note)
