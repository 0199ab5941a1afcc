"""Who may approve a release."""

from __future__ import annotations

import pytest

from trilho.core import records as r
from trilho.core.projection import ModelState, Run, Version
from trilho.errors import NotYet, Refused, UsageError
from trilho.release.approve import approve, require


def state_of(approved_by: str | None = None, verdict: r.Verdict = "pass") -> ModelState:
    gate = r.GateJudged(model="bikes", version=2, champion=1, verdict=verdict, evidence={})
    version = Version(2, "p", "run-1", "d", "mae", {}, "t", None, None, None, gate=gate, approved_by=approved_by)
    run = Run("run-1", "train", "a person", "d", "t", "ana", None)
    return ModelState("bikes", versions={2: version}, runs={"run-1": run})


def test_somebody_else_approves() -> None:
    assert approve(state_of(), 2, "seen", "rui") == r.VersionApproved(model="bikes", version=2, why="seen")


def test_the_author_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRILHO_ACTOR", "ana")
    with pytest.raises(Refused, match="ana started the run that made version 2"):
        approve(state_of(), 2, "")


def test_what_the_gate_refused_is_not_approved() -> None:
    with pytest.raises(Refused, match="the gate refused version 2"):
        approve(state_of(verdict="fail"), 2, "", "rui")


def test_unknown_versions_are_named() -> None:
    with pytest.raises(UsageError, match="bikes has no version 7; it has: 2"):
        approve(state_of(), 7, "", "rui")


@pytest.mark.parametrize("by", [None, "ana"])
def test_a_release_waits_for_somebody_else(by: str | None) -> None:
    state = state_of(by)
    with pytest.raises(NotYet, match="waits for approval by somebody but ana") as caught:
        require(state, state.versions[2])
    assert caught.value.hint == "trilho approve 2"


def test_an_approved_version_goes() -> None:
    state = state_of("rui")
    require(state, state.versions[2])
