"""`trilho log`: what is kept of what was served, and forgetting one person's rows of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from trilho.cli.session import DryRun, Session, Why, Yes, group, verb

NOT_TOUCHED = (
    "not touched: your own tables, tables of scores, datasets and packages that were made before, and what a cloud logs"
)


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""
    log = typer.Typer()
    app.add_typer(log, name="log")

    @group(log)
    def status(here: Session) -> None:
        """Say what the log holds, or forget a person."""
        from trilho.govern.wording import moment

        project = here.project
        project.log.seal()
        counted, extent = project.log.counters(), project.log.extent()
        here.say(f"{project.name}: the log holds {project.log.held():,} rows that were served.")
        kept = project.settings.serve.retention
        here.facts(
            [
                ("from", moment(extent[0].isoformat()) if extent else None),
                ("until", moment(extent[1].isoformat()) if extent else None),
                ("kept for", str(kept) if kept else "ever: serve.retention is not set"),
                ("expired", f"{counted.get('expired', 0):,}"),
                ("forgotten", f"{counted.get('forgotten', 0):,}"),
            ]
        )
        here.done("trilho labels", model=project.name, held=project.log.held(), counters=counted)

    @verb(log, "forget", examples=["trilho log forget cpf 12345678909 --why 'asked for on 3 May, LGPD art. 18'"])
    def forget(
        here: Session,
        field: Annotated[str, typer.Argument(help="The field of a row that names whom it is about.")],
        value: Annotated[str, typer.Argument(help="The value to be forgotten.")],
        yes: Yes = False,
        dry_run: DryRun = False,
        why: Why = "",
    ) -> None:
        """Delete a person's rows for good.

        They go from the log's files and index, from lines that servers have open, with their labels, and from the past
        that servers look up. The journal notes who did it and why, and not the value.
        """
        from trilho.govern.wording import count

        project = here.project
        plan = [f"delete all that was served or labelled of {project.name} where {field} is {value}", NOT_TOUCHED]
        if not here.agreed(plan, yes=yes, dry_run=dry_run, lasting=True):
            return
        found = project.forget(field, value, why)
        here.say(f"Forgot {count(found.rows, 'served row')} and {count(found.past, 'past row')}.")
        here.done("trilho journal --type rows", model=project.name, field=field, why=why, **asdict(found))
