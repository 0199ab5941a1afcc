"""A decision beside its model: tried before a training, packed by it, and released with the first version."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from trilho.core import records as r
from trilho.core.projection import ModelState, Version
from trilho.errors import NotYet, TrilhoError
from trilho.release.decision_code import Code, Scores, tried_scores
from trilho.release.decisions import of_artifact, packaged, require_approval

log = logging.getLogger("trilho")


def try_decision(code: Code, state: ModelState) -> None:
    """Try the project's decision before a training takes its time; one that was packed before was tried then.

    Raises ConfigError or Refused for one that cannot decide.
    """
    artifact = code.pack()
    if of_artifact(state, artifact) is None:
        code.check(artifact, Scores())


def pack_decision(code: Code, state: ModelState, package: Path) -> str | None:
    """Pack the project's decision, tried on a new model's rows; one that fails on them is left out, which is said."""
    try:
        artifact = code.pack()
        if of_artifact(state, artifact) is None:
            code.check(artifact, tried_scores(package))
    except TrilhoError as error:
        log.error("%s: its decision is not packed: %s", state.name, error)
        return None
    return artifact


def first_decision(
    code: Code,
    state: ModelState,
    version: Version,
    package: Path,
    commit: Callable[[], tuple[str | None, str | None]],
    *,
    approval: bool,
) -> tuple[list[r.Payload], list[str]]:
    """Give the records of a decision's release together with a model's, and say in plain lines what that means.

    It is the newest one; the present code where none was packed yet. The approval of a version covers the decision that
    its own run packed. Raises NotYet where another approval lacks.
    """
    made: list[r.Payload] = []
    if not state.decisions:
        artifact = code.pack()
        code.check(artifact, tried_scores(package))
        made = packaged(state, artifact, code.reference, commit())
    if made and approval:
        raise NotYet(f"the decision of {state.name} waits for approval", hint="trilho decisions pack")
    number = max(state.decisions, default=1)
    found = state.decisions.get(number)
    if approval and found is not None and found.run != version.run:
        require_approval(state, found)
    why = f"the first, with version {version.number}"
    released = r.DecisionReleased(model=state.name, decision=number, replaced=None, why=why)
    reference = found.reference if found is not None else code.reference
    return [*made, released], [f"decision {number} ({reference}) decides on its scores"]
