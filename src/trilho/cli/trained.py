"""What a training came to, wherever it ran, as the verbs that train or follow one say it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from trilho.cli.session import Session
from trilho.errors import NotYet, Refused

if TYPE_CHECKING:
    from trilho.project import TrainOutcome


def report(here: Session, outcome: TrainOutcome, **more: Any) -> None:
    """End a verb that trained; exits with the code of what went wrong, or of the gate's verdict."""
    from trilho.tracking import mirror_quietly

    found = {
        "run": outcome.run,
        "state": outcome.state,
        "tasks": [{k: task[k] for k in ("name", "state", "seconds", "reason")} for task in outcome.tasks],
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
    if (line := mirror_quietly(here.project)) is not None:
        here.say(line)
    here.done(_next(here, outcome.version, outcome.verdict), **found)
    if outcome.verdict != "pass":
        raise typer.Exit(Refused.exit_code if outcome.verdict == "fail" else NotYet.exit_code)


def _next(here: Session, version: int, verdict: str | None) -> str:
    state = here.project.state()
    if state.champion == version:
        return "trilho up"
    if verdict != "pass":
        return f"trilho models show {version}"
    if here.project.settings.gate.approval and state.versions[version].approved_by is None:
        return f"trilho approve {version}"
    return f"trilho release {version}"
