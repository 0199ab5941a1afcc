"""`trilho init`: a small working project."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from trilho.cli.session import Session, verb


class Task(StrEnum):
    """What a model predicts."""

    REGRESSION = "regression"
    CLASSIFICATION = "classification"


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""

    @verb(app, "init", examples=["trilho init late-trains --task classification", "trilho -C models init bike-rides"])
    def init(
        here: Session,
        name: Annotated[str, typer.Argument(metavar="NAME", help="The model's name, and its folder's.")],
        task: Annotated[Task, typer.Option("--task", help="What it predicts.")] = Task.REGRESSION,
        python: Annotated[
            str, typer.Option("--python", metavar="PATH", help="The project's interpreter; by default its .venv's.")
        ] = "",
    ) -> None:
        """Write a small working project in the standard.

        It trains at once, on made-up data to put your own in place of.
        """
        from trilho.adopt.scaffold import write_project

        folder = (here.folder or Path()) / name
        files = write_project(folder, name, task.value, python)
        here.say(
            f"Wrote {len(files)} files into {folder}:", *(f"  {file.relative_to(folder)}" for file in sorted(files))
        )
        here.say(f"Undo: rm -r {folder}")
        here.folder = None
        libraries = f"make -C {folder} setup && "
        here.done(f"{'' if python else libraries}trilho -C {folder} train", name=name, folder=str(folder),
                  files=[str(file.relative_to(folder)) for file in files])  # fmt: skip
