"""`trilho upgrade`: an existing project, in the standard of this trilho."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from trilho.cli.session import Session, verb
from trilho.errors import Refused

if TYPE_CHECKING:
    from trilho.adopt.standard.render import Values
    from trilho.adopt.standard.upgrade import Upgrade

Check = Annotated[
    bool, typer.Option("--check", help="Say what would change, change nothing; exit 3 if anything would.")
]


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""

    @verb(app, "upgrade", examples=["trilho upgrade", "trilho upgrade --check --json"])
    def upgrade(here: Session, check: Check = False) -> None:
        """Merge a newer standard into the project.

        A three-way merge of each file. Where you and the standard changed the same lines the file keeps yours, and
        FILE.rej says what the standard changed (exit code 3). What you deleted stays deleted.
        """
        from trilho.adopt.standard.upgrade import carry_out, plan_upgrade

        folder = here.project.folder
        planned = plan_upgrade(folder, _values(here))
        if not check and not planned.is_current:
            carry_out(planned)
        _say(here, planned, check=check)
        names = [change.file for change in planned.conflicts]
        changes = [{"file": x.file, "outcome": x.outcome, "reason": x.reason} for x in planned.changes]
        here.done(_next(planned, check=check), folder=str(folder), before=planned.before, after=planned.after,
                  current=planned.is_current, changes=changes, conflicts=names)  # fmt: skip
        if names or (check and not planned.is_current):
            raise typer.Exit(Refused.exit_code)


def _values(here: Session) -> Values:
    """Give the values of a project that the standard has not written: what its trilho.toml and its lists say."""
    from trilho.adopt.scaffold import python_version
    from trilho.adopt.standard.render import Values

    project = here.project
    wanted = project.folder / "requirements.txt"
    lines = wanted.read_text(encoding="utf-8").splitlines() if wanted.is_file() else []
    libraries = [x for x in map(str.strip, lines) if x and not x.startswith(("#", "-", "trilho-runtime"))]
    return Values(
        name=project.name,
        package=project.settings.steps.train.partition(":")[0].partition(".")[0],
        task=project.settings.model.task,
        python=python_version(str(project.python)),
        libraries=tuple(libraries),
    )


def _say(here: Session, planned: Upgrade, *, check: bool) -> None:
    if planned.is_current:
        here.say(f"The project has the standard of trilho {planned.after}.")
        return
    before = f"from that of trilho {planned.before} " if planned.before else ""
    here.say(f"{'It would go' if check else 'The project went'} {before}to the standard of trilho {planned.after}:")
    here.facts((f"{change.outcome} {change.file}", change.reason) for change in planned.changes)
    if planned.conflicts and not check:
        here.say(f"Left to you, in FILE.rej: {', '.join(change.file for change in planned.conflicts)}")


def _next(planned: Upgrade, *, check: bool) -> str:
    if check and not planned.is_current:
        return "trilho upgrade"
    if planned.conflicts:
        return f"less {planned.folder / (planned.conflicts[0].file + '.rej')}"
    return "trilho train" if planned.is_current else f"git -C {planned.folder} diff"
