"""`trilho history`: the past that a model of lags looks up, and more of it from a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from trilho.cli.session import Session, group, verb
from trilho.errors import UsageError


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""
    history = typer.Typer()
    app.add_typer(history, name="history")

    @group(history)
    def status(here: Session) -> None:
        """Say how far the past is known, or load more."""
        _require(here)
        _tell(here)

    @verb(history, "load", examples=["trilho history load", "trilho history load data/last-week.parquet"])
    def load(
        here: Session,
        file: Annotated[
            Path | None, typer.Argument(metavar="[FILE]", help="A CSV or Parquet file; by default [history] source.")
        ] = None,
    ) -> None:
        """Load past rows, with their targets, from a table.

        Rows that are known are replaced; those without a target yet are passed over.
        """
        from trilho.govern.wording import count

        _require(here)
        loaded = here.project.load_past(file)
        here.say(f"Loaded {count(loaded, 'past row')}.")
        _tell(here, loaded=loaded)


def _require(here: Session) -> None:
    if not here.project.settings.history.rows:
        raise UsageError(
            f"{here.project.name} looks at no past rows: history.rows is 0",
            hint="rows in [history] says how many the features of a row look at",
        )


def _tell(here: Session, **more: Any) -> None:
    from trilho.govern.wording import moment
    from trilho.serve.endpoint import read_json
    from trilho.serve.past import to_json

    past = here.project.past
    found = past.extent()
    manifest = read_json(past.package / "manifest.json") if past.package is not None else None
    packed = (manifest or {}).get("history", {}).get("until")
    here.say(f"{here.project.name}: {found.rows:,} past rows of {found.entities:,} entities came since its training.")
    here.facts(
        [
            ("until", moment(found.until) if found.until else None),
            ("the package's", moment(packed) if packed else None),
            ("kept of each", f"{here.project.settings.history.rows * 4:,} rows at most"),
        ]
    )
    here.done("trilho labels", model=here.project.name, packaged_until=packed, **to_json(found), **more)
