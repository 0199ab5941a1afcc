"""`trilho train`."""

from __future__ import annotations

from typing import Annotated

import typer

from trilho.cli.session import Session, verb
from trilho.cli.trained import report
from trilho.core.records import TaskResult
from trilho.errors import UsageError

On = Annotated[str, typer.Option("--on", metavar="local|vertex|kubeflow", help="Where the pipeline runs.")]
Env = Annotated[str, typer.Option("--env", metavar="NAME", help="Which [environments.NAME] of trilho.toml.")]
Sample = Annotated[
    bool,
    typer.Option(
        "--sample", help="Try it on a few thousand rows, and leave nothing behind: for continuous integration."
    ),
]
Detach = Annotated[bool, typer.Option("--detach", help="Submit it and leave; `trilho runs follow` comes back to it.")]


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""

    @verb(app, "train", examples=["trilho train", "trilho -C examples/bike-demand train --json",
                                  "trilho train --on vertex --env prod"])  # fmt: skip
    def train(here: Session, on: On = "local", env: Env = "", detach: Detach = False, sample: Sample = False) -> None:
        """Train a version, package it, and have the gate judge it.

        Unchanged tasks are not run again, and a run that failed goes on where it stopped. Exits with 3 when the data
        breaks its contract or the gate says fail, with 4 when there is not enough data to tell.
        With --on the pipeline runs elsewhere, and the version and its verdict come back here.
        With --sample nothing is kept: it succeeds when a model was fitted, evaluated and packaged.
        """
        if sample:
            _try(here, on)
            return
        if on != "local":
            _train_elsewhere(here, on, env, detach)
            return
        if env or detach:
            given = "--env" if env else "--detach"
            raise UsageError(f"{given} is for a training that runs elsewhere", hint="add --on vertex or --on kubeflow")
        report(here, here.project.train(on_task=lambda task: here.say(_line(task))))


def _try(here: Session, on: str) -> None:
    from trilho.sample import train_on_sample

    if on != "local":
        raise UsageError("--sample is for this machine", hint="leave --on out")
    outcome = train_on_sample(here.project, lambda task: here.say(_line(task)))
    found = {"state": outcome.state, "metrics": outcome.metrics, "verdict": outcome.verdict, "reason": outcome.reason}
    tasks = [{"name": task["name"], "state": task["state"], "seconds": task["seconds"]} for task in outcome.tasks]
    if outcome.version is None:
        next_ = outcome.hint or here.command("trilho train")
        if here.as_json:
            here.emit({"schema": 1, "sample": True, **found, "tasks": tasks, "error": outcome.error, "next": next_})
        else:
            here.complain(outcome.error or "the sample training failed", next_)
        raise typer.Exit(outcome.exit_code)
    here.say(f"Fitted, evaluated and packaged on a sample; the gate would say {outcome.verdict}. Nothing was kept.")
    here.done("trilho train", sample=True, **found, tasks=tasks)


def _train_elsewhere(here: Session, on: str, env: str, detach: bool) -> None:
    from trilho.cli import following
    from trilho.pipelines import tag_warning
    from trilho.remote import RemoteRun, submit_training, target_of

    target = target_of(here.project, on, env or None, here.say)
    image = target.environment.image
    if image is not None and (warning := tag_warning(image)) is not None:
        typer.echo(f"warning: {warning}", err=True)
    begun = submit_training(here.project, target, say=here.say)
    if not isinstance(begun, RemoteRun):
        report(here, begun, on=on)
    elif detach:
        following.detached(here, begun)
    else:
        here.say(f"Run {begun.run} on {on}: {begun.place}")
        following.report(here, following.follow(here, begun.run))


def _line(task: TaskResult) -> str:
    seconds = f"{task['seconds']:.2f} s" if task["state"] == "ran" else ""
    return f"  {task['name']:<16} {task['state']:<8} {seconds}".rstrip()
