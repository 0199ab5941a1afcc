"""A run elsewhere as the person at the terminal sees it: live where there is one, else a line per change."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

import typer

from trilho.cli.session import Session
from trilho.cli.trained import report as report_training

if TYPE_CHECKING:
    from rich.table import Table

    from trilho.core.ports import RemoteStatus
    from trilho.remote import Outcome, RemoteRun

STYLES = {"running": "cyan", "succeeded": "green", "cached": "green", "failed": "red bold", "cancelled": "yellow"}
WORDS = {"succeeded": "ran"}
INTERRUPTED = 130
NAMES = 24  # how wide the column of names is at least: tasks are listed as they begin


class Display:
    """Shows how far a run is, on standard error; a context manager."""

    def __init__(self, here: Session, *, live: bool | None = None) -> None:
        self._here = here
        self._live: Any = None
        self._last: RemoteStatus | None = None
        self._begun = time.monotonic()
        if sys.stderr.isatty() if live is None else live:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), refresh_per_second=4, transient=True)

    def __enter__(self) -> Display:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, run: RemoteRun, status: RemoteStatus) -> None:
        """Show a run as it is now."""
        from trilho.remote.follow import changes

        if self._live is not None:
            self._live.update(self.table(run, status))
        wide = max(NAMES, *(len(task.name) for task in status.tasks), 0)
        for task in changes(self._last, status):
            if task.state != "skipped" and (self._live is None or task.state != "running"):
                word = WORDS.get(task.state, task.state)
                self.say(f"  {task.name:<{wide}} {word:<10} {_seconds(task.seconds)}".rstrip())
        self._last = status

    def say(self, line: str) -> None:
        """Print a line above what is live."""
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False)
        else:
            self._here.say(line)

    def table(self, run: RemoteRun, status: RemoteStatus) -> Table:
        """Draw a run as it is now."""
        from rich.table import Table

        table = Table(box=None, padding=(0, 2, 0, 0), expand=True)
        table.title, table.title_justify = f"{run.run} on {run.on}: {status.state}", "left"
        for column, ratio in (("task", None), ("state", None), ("took", 1)):
            table.add_column(column, ratio=ratio)
        for task in status.tasks:
            word = WORDS.get(task.state, task.state)
            table.add_row(task.name, f"[{STYLES.get(task.state, 'dim')}]{word}[/]", _seconds(task.seconds))
        minutes, seconds = divmod(int(time.monotonic() - self._begun), 60)
        table.caption, table.caption_justify = f"{minutes}:{seconds:02d}; Ctrl-C leaves or cancels it", "left"
        return table


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds else ""


def follow(here: Session, run: str) -> Outcome:
    """Follow a run to its end; Ctrl-C asks whether it is to be cancelled there too. Ends the verb where it goes on."""
    from trilho.remote import cancel_run, follow_run

    try:
        with Display(here) as display:
            return follow_run(here.project, run, on_status=display.show, say=display.say)
    except KeyboardInterrupt:
        if sys.stdin.isatty() and typer.confirm(f"Cancel run {run} there too? It goes on otherwise", err=True):
            return cancel_run(here.project, run, say=here.say)
    here.say(f"Run {run} goes on. To follow it again, or to stop it:")
    here.say(f"  {here.command(f'trilho runs follow {run}')}", f"  {here.command(f'trilho runs cancel {run}')}")
    raise typer.Exit(INTERRUPTED)


def detached(here: Session, run: RemoteRun) -> None:
    """End a verb that leaves a run to itself."""
    here.say(f"Run {run.run} was submitted: {run.place}")
    here.done(f"trilho runs follow {run.run}", **facts(run), state="running", tasks=[])


def facts(run: RemoteRun | Outcome) -> dict[str, Any]:
    """Give what identifies a run elsewhere, for JSON."""
    return {"run": run.run, "pipeline": run.pipeline, "on": run.on, "place": run.place}


def report(here: Session, outcome: Outcome) -> None:
    """End a verb that followed a run to its end; exits with the code of what went wrong."""
    if outcome.training is not None:
        report_training(here, outcome.training, on=outcome.on, place=outcome.place)
        return
    tasks = [{name: task[name] for name in ("name", "state", "seconds", "reason")} for task in outcome.tasks]
    found = {**facts(outcome), "state": outcome.state, "tasks": tasks, "outputs": dict(outcome.outputs)}
    if outcome.state == "succeeded":
        here.say(f"Run {outcome.run} succeeded.", *(f"  {name} = {value}" for name, value in outcome.outputs.items()))
        here.done(f"trilho runs show {outcome.run}", **found)
        return
    hint = here.command(outcome.hint or f"trilho runs show {outcome.run}")
    if here.as_json:
        here.emit({"schema": 1, **found, "error": outcome.error, "next": hint})
    here.complain(outcome.error or "the run failed", hint)
    raise typer.Exit(outcome.exit_code or 1)
