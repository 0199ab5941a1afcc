"""`trilho doctor`: what stands between a notebook or project and production."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trilho.cli.session import Session, verb
from trilho.errors import TrilhoError, UsageError

if TYPE_CHECKING:
    from trilho.adopt.doctor.evidence import Facts
    from trilho.adopt.doctor.report import Report


SHOWN_SECONDS = 5.0  # between two lines of progress


class NotReady(TrilhoError):
    """The readiness score is below what was asked for."""

    exit_code = 3


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""

    @verb(
        app,
        "doctor",
        examples=[
            "trilho doctor poc.ipynb",
            "trilho doctor poc.ipynb --patch fix.diff --run",
            "trilho -C late-trains doctor --fail-under 2",
        ],
    )
    def doctor(
        here: Session,
        path: Annotated[
            Path | None, typer.Argument(metavar="PATH", help="A notebook or a project's folder; by default this one.")
        ] = None,
        fail_under: Annotated[
            float | None,
            typer.Option(
                "--fail-under", metavar="N", min=0, max=7, help="End with 3 if readiness is less, from 0 to 7."
            ),
        ] = None,
        patch: Annotated[
            Path | None,
            typer.Option(
                "--patch", metavar="FILE", help="Write the change that takes leakage out, as a diff for git apply."
            ),
        ] = None,
        python: Annotated[
            str, typer.Option("--python", metavar="PATH", help="The notebook's interpreter; by default its kernel's.")
        ] = "",
        run: Annotated[
            bool,
            typer.Option(
                "--run",
                help="Run the notebook in a sandbox: sees more, and measures what the patch does to the metric.",
            ),
        ] = False,
        timeout: Annotated[
            float | None,
            typer.Option("--timeout", metavar="MINUTES", min=0.01, help="How long a run may take."),
        ] = None,
    ) -> None:
        """Say what keeps a notebook or a project from production.

        Nothing of it is run without --run, and nothing of it is ever changed.
        """
        from trilho.adopt.doctor.checkup import find

        found = find(path if path is not None else here.folder or Path())
        file = str(patch) if patch is not None else ""
        if python and not run:
            raise UsageError("--python is given, and nothing is run", hint="add --run")
        if found.is_file():
            report = _notebook(here, found, file, python, run, 60 * timeout if timeout is not None else None)
            next_ = f"trilho adopt {shlex.quote(str(found))} --into {found.stem.replace('_', '-').lower()}"
            next_ += f" --python {shlex.quote(python)}" if python else ""
        else:
            report = _project(found, file, python, run)
            next_ = "trilho train"
        here.folder = None if found.is_file() or path is not None else here.folder
        lacks = _lacks(found, python) if found.is_file() and report.fits.fits else []
        _tell(here, report, fail_under, next_ if report.fits.fits else "", lacks)


def _tell(here: Session, report: Report, fail_under: float | None, next_: str, lacks: list[str]) -> None:
    if not here.as_json:
        here.say(*report.lines(), *lacks)
    failed = fail_under is not None and report.readiness.score < fail_under
    if failed and not here.as_json:
        raise NotReady(
            f"readiness is {report.readiness.score:g}, below {fail_under:g}",
            hint=report.first[0] if report.first else "--json has what is missing",
        )
    here.done(next_ or "write the rules as a function with tests", **report.data(), failed=failed)
    if failed:
        raise typer.Exit(NotReady.exit_code)


def _lacks(path: Path, python: str) -> list[str]:
    """Say what the notebook's interpreter lacks for a project, before anybody waits for a run."""
    from trilho.adopt.beforehand import unusable
    from trilho.adopt.notebook import read_notebook

    return unusable(read_notebook(path), python, absent_too=False)


def _notebook(
    here: Session, path: Path, patch: str, python: str, run: bool, timeout_seconds: float | None = None
) -> Report:
    from trilho.adopt.capture import Progress, capture, find_interpreter
    from trilho.adopt.doctor.checkup import check_notebook
    from trilho.adopt.notebook import Notebook, read_notebook
    from trilho.adopt.trace import Trace

    if not run:
        return check_notebook(path, patch)
    interpreter = find_interpreter(read_notebook(path), python)
    here.say(f"Running {path.name} with {interpreter.python} ({interpreter.source}), writes kept in a scratch folder.")

    said = 0.0

    def one(notebook: Notebook, scratch: Path) -> Trace:
        def progress(at: Progress) -> None:
            nonlocal said
            if at.seconds < said:  # another run
                said = 0.0
            if at.seconds >= said + SHOWN_SECONDS:
                said = at.seconds
                here.say(f"  cell {at.cell} of {at.of}, {at.seconds:.0f} s: {at.what}")

        return capture(notebook, interpreter, scratch, progress, timeout_seconds=timeout_seconds)

    with tempfile.TemporaryDirectory(prefix="trilho-doctor-") as scratch:
        return check_notebook(path, patch, one, Path(scratch))


def _project(folder: Path, patch: str, python: str, run: bool) -> Report:
    from trilho.adopt.doctor.checkup import check_project
    from trilho.project import Project

    interpreter = (Path(python).expanduser().absolute() if python else Project.open(folder).python) if run else None
    if interpreter is not None and not interpreter.exists():
        raise UsageError(f"--python is {python}, which is no program", hint="--python ~/venv/bin/python")
    return check_project(folder, facts_of(folder), patch, interpreter)


def parity_of(folder: Path) -> str:
    """Say how a project's certificate stands: valid, stale and why, not certified, or changed by hand; "" for none."""
    from trilho.adopt.parity.certificate import FILE, verify

    if not (folder / FILE).exists():
        return ""
    try:
        return str(verify(folder))
    except (TrilhoError, KeyError, TypeError) as error:
        return error.fact if isinstance(error, TrilhoError) else f"{FILE} is no certificate"


def facts_of(folder: Path) -> Facts:
    """Read what a project's journal says was done; nothing where there is none."""
    from trilho.adopt.doctor.evidence import Facts
    from trilho.project import Project

    project = Project.open(folder)
    parity = parity_of(folder)
    if not (project.home / "journal.sqlite").exists():
        return Facts(parity=parity)
    model = project.reader.model(project.name)
    records = [record for record in project.journal.read_from() if record.subject == project.name]
    counts: dict[str, int] = {}
    for record in records:
        kind = type(record.payload).__name__
        counts[kind] = counts.get(kind, 0) + 1
    readings = project.readings() if (project.home / "watch.sqlite").exists() else []
    judged = [reading for reading in readings if reading.value is not None]
    return Facts(
        parity=parity,
        versions=len(model.versions),
        runs=sum(run.state == "succeeded" for run in model.runs.values()),
        contracts=counts.get("ContractChecked", 0),
        gates=counts.get("GateJudged", 0),
        approvals=counts.get("VersionApproved", 0),
        rollouts=len(model.rollouts),
        canaries=sum(_went_by_parts(rollout) for rollout in model.rollouts.values()),
        rollbacks=counts.get("ChampionRestored", 0)
        + sum(rollout.outcome == "rolled back" for rollout in model.rollouts.values()),
        windows=len(readings),
        judged=len(judged),
        judged_versions=len({reading.version for reading in judged}),
        alerts=len(model.alerts),
        retrainings=len(model.retrainings),
        lead_times=sum(bool(v.first_served and v.commit_time) for v in model.versions.values()),
        log=(project.home / "log" / project.name).exists(),
    )


def _went_by_parts(rollout: Any) -> bool:
    return len(rollout.steps) > 1 and rollout.outcome == "full"
