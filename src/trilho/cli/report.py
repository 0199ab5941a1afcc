"""`trilho report`: the handover, one page that needs nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trilho.cli.session import Session, verb
from trilho.errors import UsageError


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""

    @verb(app, "report", examples=["trilho report", "trilho report --out handover.html", "trilho report --json"])
    def report(
        here: Session,
        out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where to.")] = Path("handover.html"),
    ) -> None:
        """Write the handover, one page that needs nothing else.

        What runs, how changes reach users and how fast, incidents, and who approved what; all from the journal.
        """
        from trilho.console.pages import Pages
        from trilho.source import ProjectSource

        pages = Pages(ProjectSource([here.project], others=False))
        data = pages.report_data()
        page = pages.handover()
        try:
            out.write_text(page, encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"{out} cannot be written: {error.strerror}", hint="name another file with --out"
            ) from None
        models = data["models"]
        here.say(
            f"Wrote {out}: {len(models)} model{'s' if len(models) != 1 else ''}, journal head {data['head'][:20]}…"
        )
        here.done("trilho journal verify", **{k: v for k, v in data.items() if k != "schema"}, file=str(out))
