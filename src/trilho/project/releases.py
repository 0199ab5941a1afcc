"""A version's way to its users from the project's side: what each move would do, and how it is put on record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from trilho.core import records as r
from trilho.core.ports import Conflict
from trilho.core.projection import ModelState, Version
from trilho.errors import NotYet, Refused, UsageError
from trilho.project.outcome import Plan, Say
from trilho.project.workspace import Workspace
from trilho.release import approve, certified, rollout
from trilho.release.with_model import first_decision
from trilho.serve.endpoint import folder_of, read_json


def release(
    work: Workspace,
    version: int,
    why: str,
    *,
    force: bool,
    say: Say | None,
    certificate: r.VersionCertified | None,
    how: Mapping[str, Any],
) -> Plan:
    """Plan a version's way to its users: its gate and approval first, then what its server bears."""
    state = work.state()
    target = _releasable(work, state, version, force)
    payloads = rollout.start(state, version, work.settings.serve, why, **how)
    first, said = _first_decision(work, target)
    seen = certificate or work.certify(version, say)
    if not force:
        certified.require_certificate(seen)
    lines = [*rollout.explain(state, version, work.settings.serve, payloads), *said, certified.explain(seen)]
    tried = [seen] if target.certified != seen else []
    return Plan(lines=lines, payloads=[*tried, *first, *payloads], certificate=seen)


def _releasable(work: Workspace, state: ModelState, version: int, force: bool) -> Version:
    """Give a version that may be released now; its package takes requests."""
    target = state.versions.get(version)
    if target is None:
        known = ", ".join(str(number) for number in state.versions) or "none"
        raise UsageError(f"{work.name} has no version {version}; it has: {known}", hint="trilho models")
    if state.rollout is not None:
        raise Refused(
            f"version {state.rollout.version} is on its way, {state.rollout.position}",
            hint="trilho rollout status, or trilho rollout abort",
        )
    if state.champion == version:
        raise UsageError(f"version {version} serves already", hint="trilho models")
    if not force:
        approve.require_pass(target)
    if work.settings.gate.approval:
        approve.require(state, target)
    approve.require_online(work.package(version))
    return target


def _first_decision(work: Workspace, version: Version) -> tuple[list[r.Payload], list[str]]:
    state = work.state()
    if work.settings.steps.decide is None or state.decision is not None:
        return [], []
    package, approval = work.package(version.number), work.settings.gate.approval
    return first_decision(work.decision_code, state, version, package, work.commit, approval=approval)


def rollback(work: Workspace, why: str) -> Plan:
    """Plan the return of the version that served before, whose package must still be there."""
    payload = rollout.rollback(work.state(), why)
    if isinstance(payload, r.ChampionRestored):
        work.package(payload.version)  # it may have been freed
    return Plan(lines=rollout.explain_rollback(work.state()), payloads=[payload])


def move(work: Workspace, to: str, why: str) -> Plan:
    """Plan a move of the rollout under way."""
    state = work.state()
    if state.rollout is None:
        raise NotYet(f"no rollout of {work.name} is under way", hint="trilho release VERSION starts one")
    payload = rollout.move(state.rollout, to, why)
    return Plan(lines=[rollout.describe(payload)], payloads=[payload])


def standing(work: Workspace) -> dict[str, Any] | None:
    """Give what the endpoint last wrote of the rollout, where that is still its present share."""
    under_way, endpoint = work.state().rollout, work.endpoint()
    if under_way is None or endpoint is None or not endpoint.running:
        return None
    found = read_json(folder_of(work.home, work.name) / "rollout.json") or {}
    now = (under_way.id, under_way.share, under_way.share_since)
    return found if (found.get("rollout"), found.get("share"), found.get("since")) == now else None


def carry_out(work: Workspace, plan: Callable[[], Plan], actor: str | None) -> Plan:
    """Append what a plan has, made on the journal as it is then."""
    while True:
        head = work.journal.head().seq
        chosen = plan()
        try:
            work.journal.append(*chosen.payloads, actor=actor, expect=head)
        except Conflict:
            continue
        return chosen
