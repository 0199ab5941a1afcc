"""`trilho release`, `rollout`, `rollback`, `approve`: what serves, and who allowed it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trilho.cli.session import DryRun, Session, Why, Yes, verb
from trilho.errors import UsageError

if TYPE_CHECKING:
    from trilho.core.projection import ModelState, Rollout
    from trilho.project import Plan

SLICES_SHOWN, WORST_SHOWN = 10, 5
Version = Annotated[int, typer.Argument(metavar="VERSION", help="A model version's number, as in `trilho models`.")]
VersionOrDecision = Annotated[
    int | None, typer.Argument(metavar="VERSION", help="A model version's number; with --decision a decision's.")
]
Of = Annotated[bool, typer.Option("--decision", help="Of a decision, as in `trilho decisions`.")]


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""

    @verb(
        app,
        "release",
        examples=[
            "trilho release 2",
            "trilho release 2 --yes --why 'better on winter days'",
            "trilho release 2 --shadow 20",
            "trilho release 2 --hold 50 --sticky customer",
            "trilho release --decision --why 'fewer calls'",
            "trilho release --decision 3",
        ],
    )
    def release(
        here: Session,
        version: VersionOrDecision = None,
        decision: Of = False,
        yes: Yes = False,
        dry_run: DryRun = False,
        why: Why = "",
        force: Annotated[
            bool, typer.Option("--force", help="Release what gate or certificate did not pass; --why says why.")
        ] = False,
        shadow: Annotated[
            int | None,
            typer.Option("--shadow", min=0, max=100, metavar="PERCENT", help="Ask it unseen first; serve.shadow."),
        ] = None,
        sticky: Annotated[
            str | None,
            typer.Option(
                "--sticky", metavar="FIELD", help="Rows with the same value keep their version; serve.sticky."
            ),
        ] = None,
        hold: Annotated[
            int | None,
            typer.Option(
                "--hold", min=1, max=99, metavar="PERCENT", help="Stay there until labels, or a person, decide: A/B."
            ),
        ] = None,
    ) -> None:
        """Give a version to users.

        Where another one serves it gets small shares of traffic first, and is rolled back by itself if it fails.
        With --decision it is a decision that is released, by default the present code, at once and on all versions;
        the plan says how many of the newest served scores it would decide otherwise.
        """
        if decision:
            _release_decision(
                here, version, yes, dry_run, why, {"--force": force, "--shadow": shadow, "--sticky": sticky,
                "--hold": hold},
            )  # fmt: skip
            return
        if version is None:
            raise UsageError("Missing argument 'VERSION'", hint="trilho release --help")
        sure = _sure(force, why)
        how: dict[str, Any] = {"shadow": shadow, "sticky": sticky, "hold": hold}
        plan = here.project.plan_release(version, why, sure, say=here.say, **how)
        agreed = here.agreed(plan.lines, yes=yes, dry_run=dry_run)
        again = {**how, "certificate": plan.certificate}
        done = here.project.release(version, why, sure, **again) if agreed else plan
        _end(here, done, agreed, f"trilho release {version}")

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

    @verb(app, "rollback", examples=["trilho rollback", "trilho rollback --yes --why 'complaints from the shops'",
                                     "trilho rollback --decision"])  # fmt: skip
    def rollback(here: Session, decision: Of = False, yes: Yes = False, dry_run: DryRun = False, why: Why = "") -> None:
        """Put the version that served before back, at once.

        With --decision the decision before holds again; the versions of the model stay as they are.
        """
        if decision:
            _roll_decision_back(here, yes, dry_run, why)
            return
        plan = here.project.plan_rollback(why)
        agreed = here.agreed(plan.lines, yes=yes, dry_run=dry_run)
        done = here.project.rollback(why) if agreed else plan
        if agreed:
            _repoint_scores(here)
        _end(here, done, agreed, "trilho rollback")

    @verb(app, "approve", examples=["trilho approve 2 --why 'checked the winter slice'", "trilho approve --decision 3"])
    def approve(here: Session, version: Version, decision: Of = False, why: Why = "") -> None:
        """Allow a version's release.

        Only somebody other than its author, the one who started its run, can. With --decision it is that of a decision,
        by somebody other than the one who packed it.
        """
        if decision:
            _approve_decision(here, version, why)
            return
        here.project.approve(version, why)
        who = here.project.state().versions[version].approved_by
        here.say(f"Version {version} of {here.project.name} is approved by {who}.")
        here.done(f"trilho release {version}", model=here.project.name, version=version, approved_by=who, why=why)


def _repoint_scores(here: Session) -> None:
    """Serve the version before in tables of scores too, and say which dates it has to score first."""
    from trilho import scoring

    for line in scoring.repoint_all(here.project, here.say):
        here.say(line)


def _release_decision(
    here: Session, number: int | None, yes: bool, dry_run: bool, why: str, others: dict[str, Any]
) -> None:
    from trilho import deciding

    strange = [name for name, value in others.items() if value not in (None, False)]
    if strange:
        raise UsageError(f"{strange[0]} is for a version of the model; a decision holds at once, everywhere",
                         hint="trilho rollback --decision undoes it within a second")  # fmt: skip
    plan = deciding.plan_release(here.project, number, why)
    agreed = here.agreed(plan.lines, yes=yes, dry_run=dry_run)
    done = deciding.release(here.project, number, why) if agreed else plan
    _end_decision(here, done, agreed, f"trilho release --decision{f' {number}' if number is not None else ''}")


def _roll_decision_back(here: Session, yes: bool, dry_run: bool, why: str) -> None:
    from trilho import deciding

    plan = deciding.plan_rollback(here.project, why)
    agreed = here.agreed(plan.lines, yes=yes, dry_run=dry_run)
    done = deciding.rollback(here.project, why) if agreed else plan
    _end_decision(here, done, agreed, "trilho rollback --decision")


def _approve_decision(here: Session, number: int, why: str) -> None:
    from trilho import deciding

    deciding.approve(here.project, number, why)
    who = here.project.state().decisions[number].approved_by
    here.say(f"Decision {number} of {here.project.name} is approved by {who}.")
    next_ = f"trilho release --decision {number}"
    here.done(next_, model=here.project.name, decision=number, approved_by=who, why=why)


def _end_decision(here: Session, plan: Plan, done: bool, again: str) -> None:
    from trilho.core.records import encode
    from trilho.release.decisions import undo

    state = here.project.state()
    if done:
        here.say(f"Now decision {state.decision} holds for {state.name}.")
        back = undo(plan.payloads)
        if back:
            here.say("Undo: " + here.command(back))
    here.done(
        "trilho decisions" if done else again,
        model=state.name,
        done=done,
        plan=plan.lines,
        records=[{"type": payload.type, **encode(payload)} for payload in plan.payloads],
        decision=state.decision,
    )


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
    standing = here.project.standing()
    here.say(_sentence(rollout))
    here.facts(
        [
            ("shares", " then ".join(f"{step}%" for step in rollout.steps) if rollout.champion is not None else None),
            ("started", f"{rollout.started[:19]} by {rollout.actor}"),
            ("why", rollout.why),
            ("shadow", f"{rollout.shadow}% of requests" if rollout.shadow else None),
            ("sticky", rollout.sticky),
            ("held at", f"{rollout.hold}%, until labels or a person decide" if rollout.hold else None),
            ("ended", f"{rollout.ended[:19]}: {rollout.note}" if rollout.ended else None),
        ]
    )
    _evidence(here, standing if standing is not None else rollout.evidence)
    under_way = rollout.outcome is None
    next_ = "trilho rollout resume" if rollout.paused and under_way else "trilho rollout" if under_way else "trilho"
    here.done(next_, model=here.project.name, rollout=asdict(rollout), standing=standing)


def _evidence(here: Session, told: dict[str, Any]) -> None:
    """Show each test with its evidence and the threshold at which it acts, then what is waited for."""
    tests = told.get("tests", [])
    if tests:
        rows = [[test["test"], f"{test['evidence']:g}", f"{test['threshold']:g}", test["said"]] for test in tests]
        here.table(["TEST", "EVIDENCE", "ACTS AT", "COUNTED"], rows)
    unseen = told.get("shadow")
    if unseen:
        share = f"{unseen['disagreement']:.1%} of {unseen['rows']} rows got another answer in the shadow"
        here.say(f"{share}; {unseen['dropped']} requests were not asked.")
        parts = sorted(unseen["slices"].items(), key=lambda item: -item[1]["disagreement"])[:SLICES_SHOWN]
        if parts:
            shown = [
                [name, str(x["rows"]), f"{x['disagreement']:.1%}", f"{x['mean_difference']:+.3g}"] for name, x in parts
            ]
            here.table(["SLICE", "ROWS", "DISAGREE", "SHIFT"], shown)
        for row in unseen["worst"][:WORST_SHOWN]:
            here.say(f"  {row['id']} differs by {row['difference']:+.3g}")
    for wait in told.get("waits_for", []):
        here.say(f"Waits for {wait}.")


def _sentence(rollout: Rollout) -> str:
    if rollout.outcome is not None:
        return f"Version {rollout.version}: {rollout.outcome}."
    by = "since its predictions lie elsewhere" if rollout.held_by == "shift" else "by a person"
    held = f", held there {by}" if rollout.paused else ""
    where = f"Version {rollout.version} is on its way to users, {rollout.position}{held}."
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
