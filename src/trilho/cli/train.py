"""`trilho train`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from trilho.cli.session import Session, verb
from trilho.core.records import TaskResult
from trilho.errors import NotYet, Refused, UsageError

if TYPE_CHECKING:
    from trilho.project import TrainOutcome

On = Annotated[str, typer.Option("--on", metavar="local|vertex|kubeflow", help="Where the pipeline runs.")]
Env = Annotated[str, typer.Option("--env", metavar="NAME", help="Which [environments.NAME] of trilho.toml.")]
Detach = Annotated[bool, typer.Option("--detach", help="Submit it and leave; `trilho runs follow` comes back to it.")]


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""

    @verb(app, "train", examples=["trilho train", "trilho -C examples/bike-demand train --json",
                                  "trilho train --on vertex --env prod"])  # fmt: skip
    def train(here: Session, on: On = "local", env: Env = "", detach: Detach = False) -> None:
        """Train a version, package it, and have the gate judge it.

        Unchanged tasks are not run again, and a run that failed goes on where it stopped. Exits with 3 when the data
        breaks its contract or the gate says fail, with 4 when there is not enough data to tell.
        With --on the pipeline runs elsewhere, and the version and its verdict come back here.
        """
        if on != "local":
            _train_elsewhere(here, on, env, detach)
            return
        if env or detach:
            given = "--env" if env else "--detach"
            raise UsageError(f"{given} is for a training that runs elsewhere", hint="add --on vertex or --on kubeflow")
        report(here, here.project.train(on_task=lambda task: here.say(_line(task))))


def _train_elsewhere(here: Session, on: str, env: str, detach: bool) -> None:
    from trilho.cli import following
    from trilho.remote import RemoteRun, submit_training, target_of

    target = target_of(here.project, on, env or None, here.say)
    begun = submit_training(here.project, target, say=here.say)
    if not isinstance(begun, RemoteRun):
        report(here, begun, on=on)
    elif detach:
        following.detached(here, begun)
    else:
        here.say(f"Run {begun.run} on {on}: {begun.place}")
        following.report(here, following.follow(here, begun.run))


def report(here: Session, outcome: TrainOutcome, **more: Any) -> None:
    """End a verb that trained; exits with the code of what went wrong, or of the gate's verdict."""
    found = {
        "run": outcome.run,
        "state": outcome.state,
        "tasks": [{k: task[k] for k in ("name", "state", "seconds")} for task in outcome.tasks],
        "version": outcome.version,
        "metrics": outcome.metrics,
        "verdict": outcome.verdict,
        "reason": outcome.reason,
        **more,
    }
    if outcome.version is None:
        logs = here.command(f"trilho runs logs {outcome.run}")
        next_ = logs if outcome.tasks else outcome.hint or here.command("trilho journal")
        if here.as_json:
            here.emit({"schema": 1, **found, "error": outcome.error, "next": next_})
        else:
            here.complain(outcome.error or "the run failed", next_)
        raise typer.Exit(outcome.exit_code)
    here.say(f"Version {outcome.version}: {outcome.verdict}. {outcome.reason}")
    here.done(_next(here, outcome.version, outcome.verdict), **found)
    if outcome.verdict != "pass":
        raise typer.Exit(Refused.exit_code if outcome.verdict == "fail" else NotYet.exit_code)


def _line(task: TaskResult) -> str:
    seconds = f"{task['seconds']:.2f} s" if task["state"] == "ran" else ""
    return f"  {task['name']:<16} {task['state']:<8} {seconds}".rstrip()


def _next(here: Session, version: int, verdict: str | None) -> str:
    state = here.project.state()
    if state.champion == version:
        return "trilho up"
    if verdict != "pass":
        return f"trilho models show {version}"
    if here.project.settings.gate.approval and state.versions[version].approved_by is None:
        return f"trilho approve {version}"
    return f"trilho release {version}"
