"""`trilho train`."""

from __future__ import annotations

import typer

from trilho.cli.session import Session, verb
from trilho.core.records import TaskResult
from trilho.errors import NotYet, Refused


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""

    @verb(app, "train", examples=["trilho train", "trilho -C examples/bike-demand train --json"])
    def train(here: Session) -> None:
        """Train a version, package it, and have the gate judge it.

        Unchanged tasks are not run again, and a run that failed goes on where it stopped. Exits with 3 when the data
        breaks its contract or the gate says fail, with 4 when there is not enough data to tell.
        """
        outcome = here.project.train(on_task=lambda task: here.say(_line(task)))
        found = {
            "run": outcome.run,
            "state": outcome.state,
            "tasks": [{k: task[k] for k in ("name", "state", "seconds")} for task in outcome.tasks],
            "version": outcome.version,
            "metrics": outcome.metrics,
            "verdict": outcome.verdict,
            "reason": outcome.reason,
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
