"""`trilho labels`: how far the truth has arrived, and loading more of it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from trilho.cli.session import Session, group, verb


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""
    labels = typer.Typer()
    app.add_typer(labels, name="labels")

    @group(labels)
    def status(here: Session) -> None:
        """Say how far labels have arrived, or load more."""
        _tell(here)

    @verb(labels, "load", examples=["trilho labels load", "trilho labels load data/returned-bikes.csv"])
    def load(
        here: Session,
        file: Annotated[
            Path | None, typer.Argument(metavar="[FILE]", help="A CSV or Parquet file; by default [labels] source.")
        ] = None,
    ) -> None:
        """Load labels by key from a table.

        What was loaded before is not loaded again.
        """
        from trilho.govern.wording import count

        loaded = here.project.load_labels(file)
        here.say(f"Loaded {count(loaded, 'new label')}.")
        _tell(here, loaded=loaded)


def _tell(here: Session, **more: int) -> None:
    from trilho.govern.wording import count, moment, percent

    project = here.project
    found = project.labels()
    if found.served == 0:
        here.say(f"{project.name} has served no row yet.")
        here.done("trilho up", model=project.name, **more, **asdict(found))
        return
    here.say(f"{project.name}: {found.labelled:,} of {found.served:,} served rows have a label "
             f"({percent(found.labelled, found.served)}).")  # fmt: skip
    here.facts(
        [
            ("complete up to", moment(found.until) if found.until else "nothing yet"),
            (
                "unknown",
                f"{count(found.unknown, 'label')} for rows that were never served here" if found.unknown else None,
            ),
            ("repeated", f"{count(found.repeated, 'label')} that came again" if found.repeated else None),
            (
                "corrected",
                f"{count(found.corrected, 'label')} of those, that say otherwise" if found.corrected else None,
            ),
            (
                "impossible",
                f"{count(found.impossible, 'label')} of no class of the model" if found.impossible else None,
            ),
        ]
    )
    here.done("trilho watch", model=project.name, **more, **asdict(found))
