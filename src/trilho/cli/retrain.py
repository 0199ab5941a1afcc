"""`trilho retrain`: the loop by hand, and what it did so far."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from trilho.cli.session import DryRun, Session, Why, Yes, group, verb
from trilho.core.records import TaskResult, encode
from trilho.errors import NotYet, Refused, StepFailed, TrilhoError

if TYPE_CHECKING:
    from trilho.project import Project

RENEWAL_SECONDS = 3.0


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""
    retrain = typer.Typer()
    app.add_typer(retrain, name="retrain")

    @group(retrain)
    def now(here: Session, yes: Yes = False, dry_run: DryRun = False, why: Why = "") -> None:
        """Retrain now, as an alarm would, or list retrainings.

        Train, have the gate judge, and release what passes; exits with 3 when the gate refused, 4 when it could not
        tell or an approval is pending.
        """
        from trilho.loops import RetrainLoop

        project = here.project
        running = carried_out(project)
        plan = _plan(project)
        if not here.agreed(plan, yes=yes, dry_run=dry_run):
            here.done("trilho retrain", model=project.name, under_way=False, done=False, plan=plan)
            return
        _fire(here, project, why)
        if running:
            here.say("The platform that is up carries it out.")
            here.done("trilho retrain list", model=project.name, under_way=True)
            return
        ended = RetrainLoop(project, on_task=lambda task: here.say(_line(task))).once()
        if ended is None:
            raise TrilhoError(
                f"the retraining of {project.name} was ended by somebody else", hint="trilho retrain list"
            )
        if ended.result == "failed":
            raise StepFailed(
                f"the retraining failed: {ended.note}", hint=here.command(f"trilho runs logs {ended.run or ''}")
            )
        here.say(f"{ended.result.capitalize()}: {ended.note}")
        next_ = {"promoted": "trilho rollout", "approval pending": f"trilho approve {ended.version}"}
        here.done(next_.get(ended.result, f"trilho models show {ended.version}"), under_way=False, **encode(ended))
        if ended.result not in ("promoted", "unchanged"):
            raise typer.Exit(Refused.exit_code if ended.result == "rejected" else NotYet.exit_code)

    @verb(retrain, "list", examples=["trilho retrain list"])
    def list_(here: Session) -> None:
        """List retrainings: why each began, and what came of it."""
        from trilho.govern.wording import moment

        state = here.project.state()
        if not state.retrainings:
            here.say(f"{state.name} was not retrained yet.")
        else:
            rows = [
                (
                    x.id,
                    x.cause,
                    moment(x.started),
                    x.result or "under way",
                    f"v{x.version}" if x.version else "",
                    x.note,
                )
                for x in reversed(state.retrainings.values())
            ]
            here.table(("retraining", "for", "began", "result", "version", "note"), rows)
        here.done("trilho models", model=state.name, retrainings=[asdict(x) for x in state.retrainings.values()])


def _plan(project: Project) -> list[str]:
    state = project.state()
    against = f"version {state.champion}" if state.champion is not None else "the best constant"
    shares = ", then ".join(f"{share}%" for share in project.settings.serve.canary)
    passed = "it waits for an approval" if project.settings.gate.approval else f"it gets {shares} of the requests"
    return [
        f"{project.name} is trained on {_data(project)}",
        f"the gate judges the new version against {against} on the newest held-out rows; on pass {passed}",
        *_outdated(project),
    ]


def _outdated(project: Project) -> list[str]:
    """Say that the platform which carries it out has older settings, once it has had the time to take new ones."""
    from trilho.project.renewal import UNSEEN, outdated

    until = time.monotonic() + RENEWAL_SECONDS
    while carried_out(project):
        why = outdated(project)
        if why == UNSEEN and time.monotonic() < until:
            time.sleep(0.1)
            continue
        return [f"the platform that is up carries it out with trilho.toml as it was: {why}; restart it"] if why else []
    return []


def _data(project: Project) -> str:
    """Say what a retraining learns from; rows that were served are among it only where the settings say so."""
    source = f"all rows of {project.settings.data.source}"
    if not project.settings.data.served:
        return f"{source}; rows served since are left out ([data] served is false)"
    labelled = project.labels().labelled
    return f"{source}, and on the {labelled:,} {'row' if labelled == 1 else 'rows'} that were served and labelled"


def _fire(here: Session, project: Project, why: str) -> None:
    """Record the trigger, unless a retraining waits to be carried out already."""
    from trilho.core.ports import Conflict
    from trilho.retrain.trigger import by_hand

    while True:
        head = project.journal.head().seq
        state = project.state()
        if state.retraining is not None:
            here.say(f"{state.retraining.id}, for {state.retraining.cause}, is under way; going on with it.")
            return
        try:
            project.journal.append(by_hand(state, project.data_time(), why), expect=head)
        except Conflict:
            continue
        return


def carried_out(project: Project) -> bool:
    """Say whether a platform is up that runs this project, and would carry the same trigger out."""
    from trilho.core.lease import held

    if not held(project.home / "platform.lease"):
        return False
    try:
        found = json.loads((project.home / "platform.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return project.name in found.get("models", [])


def _line(task: TaskResult) -> str:
    seconds = f"{task['seconds']:.2f} s" if task["state"] == "ran" else ""
    return f"  {task['name']:<16} {task['state']:<8} {seconds}".rstrip()
