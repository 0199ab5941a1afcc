"""`trilho decisions`: the versions of the business rule on top of the model."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from trilho.cli.session import Session, group, verb

if TYPE_CHECKING:
    from trilho.core.projection import Decision, ModelState


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""
    decisions = typer.Typer()
    app.add_typer(decisions, name="decisions")

    @group(decisions)
    def list_(here: Session) -> None:
        """List decisions, pack the present one, or try it."""
        from trilho.govern.wording import moment
        from trilho.release.decisions import changed

        state = here.project.state()
        if not state.decisions:
            here.say(f"{state.name} has no decision yet.")
            here.done("trilho decisions pack" if here.project.settings.steps.decide else "trilho models",
                      model=state.name, decision=None, decisions=[])  # fmt: skip
            return
        rows = [
            (str(x.number), x.artifact[:12], moment(x.created), x.actor, moment(x.since) if x.since else "",
             changed(x), _standing(state, x))
            for x in reversed(state.decisions.values())
        ]  # fmt: skip
        here.table(("decision", "digest", "packed", "by", "held since", "decided otherwise", "is"), rows)
        told = [{**asdict(x), "is": _standing(state, x)} for x in state.decisions.values()]
        newest = max(state.decisions)
        next_ = "trilho" if state.decision == newest else f"trilho release --decision {newest}"
        here.done(next_, model=state.name, decision=state.decision, decisions=told)

    @verb(decisions, "pack", examples=["trilho decisions pack"])
    def pack(here: Session) -> None:
        """Make the present code of steps.decide a decision version, without a training.

        It is loaded, and has to decide scores, in the project's own interpreter.
        """
        from trilho import deciding

        found, new = deciding.pack(here.project)
        said = "is packed" if new else "is the present code already"
        here.say(f"Decision {found.number} of {here.project.name} {said}: {found.artifact[:12]}.")
        here.done(_next(here, found.number), model=here.project.name, new=new, **asdict(found))

    @verb(decisions, "check", examples=["trilho decisions check"])
    def check(here: Session) -> None:
        """Try the present code of steps.decide: it is loaded, and decides scores.

        Exits with 3 where it cannot be loaded, or fails on one.
        """
        from trilho import deciding

        found = deciding.check(here.project)
        here.say(f"{found['reference']} is loaded.")
        told = zip(found["scores"], found["decided"], strict=True)
        here.facts((json.dumps(score), json.dumps(answer)) for score, answer in told)
        if not found["decided"]:
            here.say("It looks at rows, and there is no version yet whose rows it could be tried on.")
        number = found["decision"]
        next_ = "trilho decisions pack" if number is None else _next(here, number)
        here.done(next_, model=here.project.name, **found)


def _standing(state: ModelState, decision: Decision) -> str:
    if decision.number == state.decision:
        return "holds"
    if decision.since is not None:
        return "replaced" if decision.number in state.decision_succession else "rolled back"
    return "approved" if decision.approved_by else "ready"


def _next(here: Session, number: int) -> str:
    state = here.project.state()
    if state.decision == number:
        return "trilho decisions"
    found = state.decisions[number]
    if here.project.settings.gate.approval and found.approved_by in (None, found.actor):
        return f"trilho approve --decision {number}"
    return f"trilho release --decision {number}"
