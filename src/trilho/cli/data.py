"""`trilho data`: dataset versions, and a first contract for the data at hand."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from trilho.cli.session import Session, group, verb
from trilho.errors import UsageError


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""
    data = typer.Typer()
    app.add_typer(data, name="data")

    @group(data)
    def list_(here: Session) -> None:
        """List dataset versions, or write a first contract."""
        from trilho.govern.wording import moment

        state = here.project.state()
        if not state.datasets:
            here.say(f"{state.name} has no dataset version yet: a training makes one.")
            here.done("trilho train", model=state.name, datasets=[])
            return
        rows = [
            (x.dataset[:12], f"{x.rows:,}", f"{x.served_rows:,}", (x.first or "")[:10], (x.last or "")[:10], x.source,
             moment(state.dataset_times[x.dataset]))
            for x in reversed(state.datasets.values())
        ]  # fmt: skip
        here.table(("dataset", "rows", "served", "from", "to", "source", "since"), rows)
        here.done("trilho models", model=state.name, datasets=[asdict(x) for x in state.datasets.values()])

    @verb(data, "contract", examples=["trilho data contract", "trilho data contract --force"])
    def contract(
        here: Session, force: Annotated[bool, typer.Option("--force", help="Write over the contract there is.")] = False
    ) -> None:
        """Write a first contract from the data.

        Types, nulls, and ranges with head-room: read it, and correct what you know better.
        """
        project = here.project
        path = project.folder / project.settings.data.contract
        if path.exists() and not force:
            raise UsageError(f"{path} is there already", hint=here.command("trilho data contract --force"))
        path.write_text(_inferred(here), encoding="utf-8")
        here.say(f"Wrote {path}. It says what was seen, with head-room: read it, and correct what you know better.")
        here.done("trilho train", model=project.name, contract=str(path))


def _inferred(here: Session) -> str:
    import tempfile
    from pathlib import Path

    from trilho.data.contract import infer
    from trilho.data.version import load_table, version_data

    project, model = here.project, here.project.settings.model
    sources = project.sources()
    found = version_data(sources, project.store, time=model.time, key=model.key, target=model.target, served=None)
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "table.parquet"
        load_table(found.digest, project.store, table)
        return infer(table, key=model.key, target=model.target)
