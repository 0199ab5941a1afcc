"""`trilho runs`: executions of the pipeline, their tasks and what these printed."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from trilho.cli.session import Session, group, verb
from trilho.errors import UsageError

if TYPE_CHECKING:
    from trilho.core.projection import ModelState, Run

Id = Annotated[str, typer.Argument(metavar="[RUN]", help="A run's id or its beginning; by default the newest.")]


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""
    runs = typer.Typer()
    app.add_typer(runs, name="runs")

    @group(runs)
    def list_(
        here: Session, limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")] = 20
    ) -> None:
        """List runs; show one, or what it printed."""
        from trilho.govern.wording import duration, moment

        state = here.project.state()
        if not state.runs:
            here.say(f"{state.name} has no run yet.")
            here.done("trilho train", model=state.name, runs=[])
            return
        shown = list(reversed(state.runs.values()))[:limit]
        rows = [
            (
                x.id,
                _pipeline(x),
                x.state,
                x.trigger,
                moment(x.started),
                duration(x.seconds) if x.ended else "",
                _left(state, x),
            )
            for x in shown
        ]
        here.table(("run", "pipeline", "state", "for", "started", "took", "left"), rows)
        here.done(f"trilho runs show {shown[0].id}", model=state.name, runs=[asdict(x) for x in shown])

    @verb(runs, "show", examples=["trilho runs show", "trilho runs show r20260301-120000-1a2b"])
    def show(here: Session, run: Id = "") -> None:
        """Show a run: its tasks, and why each was run or not."""
        from trilho.govern.wording import reason

        state = here.project.state()
        found = _find(here, state, run)
        here.say(
            f"Run {found.id}: {found.state}{_left(state, found, ', left ')}.",
            *([f"On {found.runner}: {found.place}"] if found.runner != "local" else []),
            *([found.error] if found.error else []),
        )
        rows = [
            (x["name"], x["state"], f"{x['seconds']:.2f} s", ", ".join(x["needs"]), reason(x["reason"]))
            for x in found.tasks
        ]
        if rows:
            here.table(("task", "state", "took", "needs", "because"), rows)
        here.done(f"trilho runs logs {found.id}", model=state.name, **asdict(found))

    @verb(runs, "logs", examples=["trilho runs logs", "trilho runs logs r20260301-120000-1a2b fit"])
    def logs(
        here: Session,
        run: Id = "",
        task: Annotated[str, typer.Argument(metavar="[TASK]", help="One task; by default all of them.")] = "",
    ) -> None:
        """Show what a run's tasks printed."""
        state = here.project.state()
        found = _find(here, state, run)
        texts = _texts(here, found, task)
        for name, text in texts.items():
            here.say(*([f"--- {name} ---"] if len(texts) > 1 else []), text.rstrip("\n") or "(nothing was printed)")
        here.done(f"trilho runs show {found.id}", model=state.name, run=found.id, logs=texts)

    @verb(runs, "follow", examples=["trilho runs follow", "trilho runs follow r20260301-120000-1a2b --json"])
    def follow(here: Session, run: Id = "") -> None:
        """Follow a run elsewhere to its end, and put that on record.

        The run, on Vertex AI or Kubeflow, needs nobody: it goes on when its follower ends, and whoever follows it next
        brings home what it left.
        """
        from trilho.cli import following

        found = _elsewhere(here, run)
        following.report(here, following.follow(here, found.id))

    @verb(runs, "cancel", examples=["trilho runs cancel r20260301-120000-1a2b"])
    def cancel(here: Session, run: Id = "") -> None:
        """Stop a run elsewhere, and put that on record.

        It is asked for there, on Vertex AI or Kubeflow, and waited for: tasks that run are stopped by the service.
        """
        from trilho.cli import following
        from trilho.remote import cancel_run

        found = _elsewhere(here, run)
        outcome = cancel_run(here.project, found.id, say=here.say)
        if outcome.state == "succeeded":
            here.say(f"Run {found.id} had succeeded before it could be stopped.")
            following.report(here, outcome)
            return
        here.say(f"{outcome.error or f'Run {found.id} was cancelled'}.")
        here.done(f"trilho runs show {found.id}", **following.facts(outcome), state=outcome.state, error=outcome.error)


def _elsewhere(here: Session, run: str) -> Run:
    """Find a run that is not of this machine; by default the newest of those."""
    state = here.project.state()
    if run:
        found = _find(here, state, run)
        if found.runner == "local":
            raise UsageError(f"run {found.id} ran on this machine", hint=here.command(f"trilho runs show {found.id}"))
        return found
    there = [x for x in state.runs.values() if x.runner != "local"]
    if not there:
        raise UsageError(f"{state.name} has no run elsewhere", hint=here.command("trilho train --on vertex"))
    return there[-1]


def _pipeline(run: Run) -> str:
    return run.pipeline if run.runner == "local" else f"{run.pipeline} on {run.runner}"


def _find(here: Session, state: ModelState, beginning: str) -> Run:
    found = [x for x in state.runs.values() if x.id.startswith(beginning)]
    if not found:
        said = f"{state.name} has no run {beginning}" if beginning else f"{state.name} has no run yet"
        raise UsageError(said, hint=here.command("trilho runs" if beginning else "trilho train"))
    if beginning and len(found) > 1 and all(x.id != beginning for x in found):
        raise UsageError(f"{len(found)} runs begin with {beginning}", hint=here.command("trilho runs"))
    return found[-1]


def _texts(here: Session, run: Run, task: str) -> dict[str, str]:
    if task:
        return {task: _text(here, run, task)}
    texts = {}
    folder = here.project.home / "runs" / run.id
    for path in sorted(folder.rglob("*.log")):
        name = path.relative_to(folder).with_suffix("").as_posix()
        texts[name] = here.project.tail_log(run.id, name)
    if not texts and run.runner != "local" and run.tasks:
        hint = here.command(f"trilho runs logs {run.id} {run.tasks[-1]['name']}")
        raise UsageError(f"what run {run.id} printed is kept on {run.runner}, a log for each task", hint=hint)
    if not texts:
        why = "its tasks were not run again" if run.tasks else "none of its tasks began"
        raise UsageError(f"run {run.id} kept no output: {why}", hint=here.command(f"trilho runs show {run.id}"))
    return texts


def _text(here: Session, run: Run, task: str) -> str:
    from trilho.pipeline.keeping.runs import RunFolder
    from trilho.remote import is_remote, log_of

    home = here.project.home
    if is_remote(home, run.id) and not RunFolder.of(home, run.id).log(task).exists():
        return log_of(here.project, run.id, task)
    return here.project.tail_log(run.id, task)


def _left(state: ModelState, run: Run, before: str = "") -> str:
    versions = [x.number for x in state.versions.values() if x.run == run.id]
    return f"{before}version {versions[-1]}" if versions else ""
