"""`trilho release`, `rollout`, `rollback`, `approve`: what serves, and who allowed it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from trilho.cli.session import DryRun, Session, Why, Yes, verb
from trilho.errors import UsageError

if TYPE_CHECKING:
    from trilho.core.projection import ModelState, Rollout
    from trilho.project import Plan

Version = Annotated[int, typer.Argument(metavar="VERSION", help="A model version's number, as in `trilho models`.")]


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""

    @verb(app, "release", examples=["trilho release 2", "trilho release 2 --yes --why 'better on winter days'"])
    def release(
        here: Session,
        version: Version,
        yes: Yes = False,
        dry_run: DryRun = False,
        why: Why = "",
        force: Annotated[
            bool, typer.Option("--force", help="Release what the gate did not pass; --why says why.")
        ] = False,
    ) -> None:
        """Give a version to users.

        Where another one serves it gets small shares of traffic first, and is rolled back by itself if it fails.
        """
        sure = _sure(force, why)
        plan = here.project.plan_release(version, why, sure)
        agreed = here.agreed(plan.lines, yes=yes, dry_run=dry_run)
        _end(here, here.project.release(version, why, sure) if agreed else plan, agreed, f"trilho release {version}")

    @verb(app, "rollout", examples=["trilho rollout", "trilho rollout next", "trilho rollout abort --why 'wrong data'"])
    def rollout(
        here: Session,
        move: Annotated[str, typer.Argument(metavar="[status|next|pause|resume|abort]", help="What to do.")] = "status",
        yes: Yes = False,
        dry_run: DryRun = False,
        why: Why = "",
    ) -> None:
        """Say how far a version is on its way, or move it."""
        if move == "status":
            _status(here)
            return
        plan = here.project.plan_move(move, why)
        agreed = here.agreed(plan.lines, yes=yes, dry_run=dry_run)
        _end(here, here.project.move_rollout(move, why) if agreed else plan, agreed, f"trilho rollout {move}")

    @verb(app, "rollback", examples=["trilho rollback", "trilho rollback --yes --why 'complaints from the shops'"])
    def rollback(here: Session, yes: Yes = False, dry_run: DryRun = False, why: Why = "") -> None:
        """Put the version that served before back, at once."""
        plan = here.project.plan_rollback(why)
        agreed = here.agreed(plan.lines, yes=yes, dry_run=dry_run)
        _end(here, here.project.rollback(why) if agreed else plan, agreed, "trilho rollback")

    @verb(app, "approve", examples=["trilho approve 2 --why 'checked the winter slice'"])
    def approve(here: Session, version: Version, why: Why = "") -> None:
        """Allow a version's release.

        Only somebody other than its author, the one who started its run, can.
        """
        here.project.approve(version, why)
        who = here.project.state().versions[version].approved_by
        here.say(f"Version {version} of {here.project.name} is approved by {who}.")
        here.done(f"trilho release {version}", model=here.project.name, version=version, approved_by=who)


def _sure(force: bool, why: str) -> bool:
    if force and not why:
        raise UsageError("--force without a reason", hint="add --why 'the reason', which the journal keeps")
    return force


def _status(here: Session) -> None:
    state = here.project.state()
    rollout = state.rollout or next(reversed(state.rollouts.values()), None)
    if rollout is None:
        here.say(f"No version of {here.project.name} was released yet.")
        here.done("trilho models", model=here.project.name, rollout=None)
        return
    here.say(_sentence(rollout))
    here.facts(
        [
            ("shares", " then ".join(f"{step}%" for step in rollout.steps) if rollout.champion is not None else None),
            ("started", f"{rollout.started[:19]} by {rollout.actor}"),
            ("why", rollout.why),
            ("ended", f"{rollout.ended[:19]}: {rollout.note}" if rollout.ended else None),
        ]
    )
    under_way = rollout.outcome is None
    next_ = "trilho rollout resume" if rollout.paused and under_way else "trilho rollout" if under_way else "trilho"
    here.done(next_, model=here.project.name, rollout=asdict(rollout))


def _sentence(rollout: Rollout) -> str:
    if rollout.outcome is not None:
        return f"Version {rollout.version}: {rollout.outcome}."
    held = ", held there by a person" if rollout.paused else ""
    where = f"Version {rollout.version} is on its way to users, at {rollout.share}% of traffic{held}."
    return where if rollout.paused else f"{where} It goes on by itself as it answers."


def _now(state: ModelState) -> list[str]:
    if not state.shares:
        return [f"Now nothing of {state.name} serves."]
    shares = ", ".join(f"version {version} has {share}%" for version, share in sorted(state.shares.items()))
    return [f"Now {shares} of the traffic of {state.name}."]


def _end(here: Session, plan: Plan, done: bool, again: str) -> None:
    from trilho.core.records import encode
    from trilho.release.rollout import undo

    state = here.project.state()
    if done:
        here.say(*_now(state))
        back = undo(plan.payloads)
        if back:
            here.say("Undo: " + here.command(back))
    endpoint = here.project.endpoint()
    running = endpoint is not None and endpoint.running
    then = "trilho rollout" if state.rollout else "trilho"
    here.done(
        (then if running else "trilho up") if done else again,
        model=state.name,
        done=done,
        plan=plan.lines,
        records=[{"type": payload.type, **encode(payload)} for payload in plan.payloads],
        champion=state.champion,
        shares=state.shares,
    )
