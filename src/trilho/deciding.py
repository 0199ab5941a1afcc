"""A project's decision: packed, tried on the scores that were served, released and rolled back apart from its model."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trilho.core.projection import Decision
from trilho.errors import NotYet
from trilho.project import Plan, Project
from trilho.release import decisions
from trilho.release.decision_code import MOST_ROWS, Code, Scores, sample_scores, served_scores, tried_scores

FAR = datetime(9999, 1, 1, tzinfo=UTC)


def pack(project: Project) -> tuple[Decision, bool]:
    """Make the project's present code a decision version, tried; say also whether it is new."""
    before = set(project.state().decisions)
    artifact = _packed(project)
    commit, reference = project.commit(), project.decision_code.reference
    project.carry_out(lambda: Plan(lines=[], payloads=decisions.packaged(project.state(), artifact, reference, commit)))
    found = decisions.of_artifact(project.state(), artifact)
    assert found is not None
    return found, found.number not in before


def check(project: Project) -> dict[str, Any]:
    """Load the present code and have it decide scores. Raises Refused where it fails on one."""
    code = project.decision_code
    artifact, tried = code.pack(), tried_scores(_newest_package(project))
    found = code.check(artifact, tried)
    known = decisions.of_artifact(project.state(), artifact)
    decided = found["decided"]
    scores = list(tried.scores) or [0.0, 0.5, 1.0]
    return {**found, "scores": scores[: len(decided)], "decision": known.number if known is not None else None}


def plan_release(project: Project, number: int | None, why: str = "") -> Plan:
    """Say what a decision's release would change, on the newest scores that were served.

    Without a number it is the project's present code, packed where it is new. Raises NotYet where an approval lacks.
    """
    state = project.state()
    if number is None:
        reference, artifact = project.decision_code.reference, _packed(project)
        made = decisions.packaged(state, artifact, reference, project.commit())
        found = decisions.of_artifact(state, artifact)
        number = found.number if found is not None else max(state.decisions, default=0) + 1
    else:
        found, made = decisions.known(state, number), []
        reference, artifact = found.reference, found.artifact
    if state.decision == number:
        decisions.release(state, number, why, {})  # says that it holds already
    if project.settings.gate.approval:
        if found is None:
            raise NotYet(
                f"the present code of {reference} is no decision version yet, and {state.name} asks for approvals",
                hint="trilho decisions pack",
            )
        decisions.require_approval(state, found)
    evidence = _compared(project, artifact)
    released = decisions.release(state, number, why, evidence)
    return Plan(lines=decisions.explain(state, number, reference, evidence), payloads=[*made, released])


def release(project: Project, number: int | None, why: str = "") -> Plan:
    """Have a decision hold from now on; without a number the project's present code."""
    return project.carry_out(lambda: plan_release(project, number, why))


def plan_rollback(project: Project, why: str = "") -> Plan:
    """Say what rolling the decision back would do."""
    payload = decisions.rollback(project.state(), why)
    project.decision(payload.decision)  # it may be gone from this machine
    return Plan(lines=decisions.explain_rollback(payload), payloads=[payload])


def rollback(project: Project, why: str = "") -> Plan:
    """Have the decision before hold again."""
    return project.carry_out(lambda: plan_rollback(project, why))


def approve(project: Project, number: int, why: str = "") -> None:
    """Allow a decision's release. Raises Refused for the one who packed it."""
    project.carry_out(lambda: Plan(lines=[], payloads=[decisions.approve(project.state(), number, why)]))


def _packed(project: Project) -> str:
    """Keep the present code; what was never packed is tried first."""
    code = project.decision_code
    artifact = code.pack()
    if decisions.of_artifact(project.state(), artifact) is None:
        code.check(artifact, tried_scores(_newest_package(project)))
    return artifact


def _compared(project: Project, artifact: str) -> dict[str, Any]:
    state = project.state()
    scores = _scores(project)
    if not scores.scores:
        return {}
    old = state.decisions[state.decision].artifact if state.decision is not None else None
    return _code(project, artifact).compare(old, artifact, scores)


def _code(project: Project, artifact: str) -> Code:
    """Give what runs decisions; those that were packed need no [steps] decide any more."""
    found = decisions.of_artifact(project.state(), artifact)
    if found is None or project.settings.steps.decide is not None:
        return project.decision_code
    return Code(found.reference, project.folder, project.source, project.python, project.store)


def _scores(project: Project) -> Scores:
    """Give the newest scores of the version that serves; of a model that served nothing, those of its sample."""
    package = _newest_package(project)
    if package is None:
        return Scores()
    if (project.home / "log" / project.name).is_dir():
        project.log.seal()
        newest = project.log.newest()
        found = served_scores(project.log.late(max(0, newest - MOST_ROWS), FAR), package)
        if found.scores:
            return found
    return sample_scores(package)


def _newest_package(project: Project) -> Path | None:
    """Give the package of the version that serves, or of the newest one."""
    state = project.state()
    number = state.champion if state.champion is not None else max(state.versions, default=None)
    return project.package(number) if number is not None else None
