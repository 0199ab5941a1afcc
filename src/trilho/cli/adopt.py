"""`trilho adopt`: a notebook, or a model that was trained elsewhere, becomes a project."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trilho.cli.session import Session, verb
from trilho.errors import Refused

if TYPE_CHECKING:
    from trilho.adopt.adoption import Adoption

Source = Annotated[Path, typer.Argument(metavar="NOTEBOOK|MODEL", help="A notebook, or a trained model's file.")]
Into = Annotated[Path, typer.Option("--into", metavar="DIR", help="The new project's folder.")]
Python = Annotated[
    str, typer.Option("--python", metavar="PATH", help="The notebook's interpreter; by default its kernel's.")
]
Name = Annotated[str, typer.Option("--name", metavar="NAME", help="The model's name; by default the folder's.")]
Model = Annotated[str, typer.Option("--model", metavar="VARIABLE", help="Which of the notebook's models is shipped.")]
Target = Annotated[str, typer.Option("--target", metavar="COLUMN", help="What is predicted, where it is not clear.")]
Time = Annotated[str, typer.Option("--time", metavar="COLUMN", help="When a row happened, where it is not clear.")]
Sample = Annotated[
    Path | None, typer.Option("--sample", metavar="ROWS", help="Rows for a trained model: what it is asked.")
]
Timeout = Annotated[
    float | None,
    typer.Option("--timeout", metavar="MINUTES", min=0.01, help="How long the notebook may run; by default any time."),
]
Forecast = Annotated[bool, typer.Option("--dry-run", help="Say what the notebook would read, write and send; stop.")]


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""

    @verb(app, "adopt", examples=["trilho adopt churn.ipynb --into churn",
                                  "trilho adopt churn.ipynb --into churn --python ~/envs/ds/bin/python --json",
                                  "trilho adopt churn.ipynb --into churn --dry-run",
                                  "trilho adopt model.joblib --sample rows.csv --into churn"])  # fmt: skip
    def adopt(
        here: Session,
        source: Source,
        into: Into,
        python: Python = "",
        name: Name = "",
        model: Model = "",
        target: Target = "",
        time: Time = "",
        sample: Sample = None,
        timeout: Timeout = None,
        dry_run: Forecast = False,
    ) -> None:
        """Make a project of a notebook, proven equal.

        The notebook is read, then run in its own environment, where it can write into a scratch folder only; it is
        never changed. Exits with 3 when the answers could not be shown to be the same.
        """
        from trilho.adopt.adoption import Wish, adopt_notebook, adopt_trained, forecast_notebook

        base = here.folder or Path()
        wish = Wish(base / source, base / into, python=python, name=name, model=model, target=target, time=time,
                    timeout_seconds=60 * timeout if timeout is not None else None)  # fmt: skip
        given = base / sample if sample is not None else None
        if dry_run:
            here.say(*forecast_notebook(wish))
            said = {"--python": python, "--name": name, "--model": model, "--target": target, "--time": time,
                    "--timeout": f"{timeout:g}" if timeout is not None else ""}  # fmt: skip
            here.done(_again(source, into, said), project=None)
            return
        made = adopt_trained(wish, given, here.say) if wish.is_model else adopt_notebook(wish, here.say)
        _report(here, made)


def _report(here: Session, made: Adoption) -> None:
    here.folder = None
    parity = made.parity
    here.say("", f"{made.folder}: {made.files} files, form {made.form!r}.")
    for fallback in made.fallback:
        here.say(f"  not sliced: {fallback['variable']} in cell {fallback['cell']}: {fallback['reason']}")
    shown = [finding for finding in made.findings if finding["severity"] != "note"]
    for finding in shown[:12]:
        place = (
            f"cell {finding['cell']}, line {finding['line']}"
            if finding["cell"] is not None
            else finding["file"] or "the notebook"
        )
        here.say(f"  {finding['severity']}: {place}: {finding['message']}")
    if len(made.findings) > len(shown[:12]):
        here.say(f"  {len(made.findings) - len(shown[:12])} more: trilho doctor {_typed(made.folder)}")
    here.say(*(f"  {line}" for line in made.notes))
    metric = parity["metric"]
    here.say(
        f"{metric['name']}: the notebook {metric['notebook']}, the project {metric['project']}."
        if metric
        else "The notebook measured nothing.",
        f"{'Certified' if parity['certified'] else 'Not certified'}: {made.verdict}",
        f"Certificate: {made.folder / 'parity.html'}",
        f"Undo: rm -r {_typed(made.folder)}",
    )
    here.done(f"trilho -C {_typed(made.folder)} train", **made.to_json())
    if not parity["certified"]:
        raise Refused(
            f"the answers are not proven to be the same: {made.verdict}", hint=f"read {made.folder}/parity.html"
        )


def _again(source: Path, into: Path, said: dict[str, str]) -> str:
    """Give the command that adopts, with what was said of it."""
    options = [f"{name} {shlex.quote(value)}" for name, value in said.items() if value]
    return " ".join(["trilho adopt", _typed(source), "--into", _typed(into), *options])


def _typed(path: Path) -> str:
    """Write a path as a shell wants it."""
    return shlex.quote(str(path))
