"""`trilho data`: dataset versions, and a first contract for the data at hand."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
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

    @verb(data, "check", examples=["trilho data check", "trilho data check --json"])
    def check(here: Session) -> None:
        """Hold the data against its contract, as a training does first.

        Exits with 3 when the data breaks it. Nothing is put on record.
        """
        from trilho.errors import Refused
        from trilho.sample import check_data

        rows, findings = check_data(here.project)
        contract = here.project.settings.data.contract
        if findings:
            here.say(f"{rows:,} rows break {contract}:", *(f"  {finding}" for finding in findings))
        else:
            here.say(f"{rows:,} rows satisfy {contract}.")
        here.done("trilho train" if not findings else "trilho data", rows=rows, passed=not findings,
                  findings=[{"column": finding.column, "fact": finding.fact} for finding in findings])  # fmt: skip
        if findings:
            raise typer.Exit(Refused.exit_code)

    @verb(data, "contract", examples=["trilho data contract", "trilho data contract --force",
                                      "trilho data contract --from-tfx schema.pbtxt",
                                      "trilho data contract --to-tfx schema.pbtxt"])  # fmt: skip
    def contract(
        here: Session,
        force: Annotated[bool, typer.Option("--force", help="Write over the contract there is.")] = False,
        from_tfx: Annotated[
            Path | None, typer.Option("--from-tfx", metavar="FILE", help="Take it from TFX's schema.pbtxt.")
        ] = None,
        to_tfx: Annotated[
            Path | None, typer.Option("--to-tfx", metavar="FILE", help="Write the contract there is as schema.pbtxt.")
        ] = None,
    ) -> None:
        """Write a first contract from the data, or take it from TFX, or give it to TFX.

        Types, nulls, and ranges with head-room: read it, and correct what you know better.
        """
        project = here.project
        path = project.folder / project.settings.data.contract
        if from_tfx is not None and to_tfx is not None:
            raise UsageError("--from-tfx and --to-tfx were both given", hint="one of them")
        if to_tfx is not None:
            _to_tfx(here, path, to_tfx, force)
            return
        if path.exists() and not force:
            again = f"trilho data contract{f' --from-tfx {from_tfx}' if from_tfx is not None else ''} --force"
            raise UsageError(f"{path} is there already", hint=here.command(again))
        left: list[str] = []
        if from_tfx is not None:
            text, left = _from_tfx(from_tfx)
        else:
            text = _inferred(here)
        path.write_text(text, encoding="utf-8")
        if from_tfx is not None:
            here.say(f"Wrote {path} from {from_tfx}.", *(f"  {line}" for line in left))
        else:
            here.say(f"Wrote {path}. It says what was seen, with head-room: read it, and correct what you know better.")
        here.done("trilho train", model=project.name, contract=str(path), left_out=left)


def _from_tfx(file: Path) -> tuple[str, list[str]]:
    from trilho.data.schema_pbtxt import contract_text, read_schema

    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}", hint="--from-tfx names a schema.pbtxt") from None
    contract, left = read_schema(text)
    return contract_text(contract, f"What the data must satisfy before a model learns from it; from {file.name}."), left


def _to_tfx(here: Session, path: Path, file: Path, force: bool) -> None:
    from trilho.data.contract import load_contract
    from trilho.data.schema_pbtxt import write_schema

    if not path.exists():
        raise UsageError(f"{path} is not there: no contract to write", hint=here.command("trilho data contract"))
    if file.exists() and not force:
        raise UsageError(f"{file} is there already", hint="--force writes over it")
    text, left = write_schema(load_contract(path))
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}", hint="--to-tfx names a file") from None
    here.say(f"Wrote {file} from {path}.", *(f"  {line}" for line in left))
    here.done("trilho data", model=here.project.name, contract=str(path), schema_pbtxt=str(file), left_out=left)


def _inferred(here: Session) -> str:
    import tempfile

    from trilho.data.contract import infer
    from trilho.data.version import load_table, version_data

    project, model = here.project, here.project.settings.model
    sources = project.tables()
    found = version_data(sources, project.store, time=model.time, key=model.key, target=model.target, served=None)
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "table.parquet"
        load_table(found.digest, project.store, table)
        return infer(table, key=model.key, target=model.target)
