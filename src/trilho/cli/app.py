"""The program `trilho`: its verbs in the order of a model's life, and what an error looks like.

Modules of verbs import nothing heavy at the top, so that `trilho --help` stays quick: what a verb needs it imports
when it runs.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.core import TyperGroup
from typer.exceptions import Abort, TyperException

from trilho.cli import (
    adopt,
    alerts,
    config,
    data,
    decisions,
    demo,
    doctor,
    emulate,
    endpoint,
    gc,
    history,
    incidents,
    init,
    journal,
    labels,
    log,
    models,
    monitoring,
    pipeline,
    release,
    report,
    retrain,
    runs,
    score,
    serve,
    session,
    status,
    train,
    upgrade,
    watch,
)
from trilho.errors import TrilhoError

ORDER = (
    "demo", "init", "adopt", "doctor", "upgrade", "train", "pipeline", "data", "runs", "models", "decisions", "release",
    "rollout", "rollback", "approve", "endpoint", "serve", "score", "labels", "log", "history", "watch", "incidents",
    "alerts", "monitoring", "retrain", "up", "report", "journal", "config", "emulate", "gc",
)  # fmt: skip


class InOrder(TyperGroup):
    """Lists verbs in the order in which a model meets them."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Give the names of the verbs."""
        return sorted(super().list_commands(ctx), key=ORDER.index)


app = typer.Typer(
    cls=InOrder,
    name="trilho",
    help="Take a validated model to production, and keep it healthy there. Alone, in a project: how things are.",
    no_args_is_help=False,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


@session.group(app)
def alone(
    here: session.Session, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    """Take a validated model to production, and keep it healthy there. Alone, in a project: how things are."""
    if version:
        from importlib.metadata import version as installed

        here.say(f"trilho {installed('trilho')}")
        return
    status.show(here)


for module in (
    demo, init, adopt, doctor, upgrade, train, pipeline, models, decisions, release, endpoint, serve, score, labels,
    log, history, watch, retrain, incidents, runs, data, journal, report, config, alerts, emulate, gc,
    monitoring,
):  # fmt: skip
    module.add_to(app)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the program and give its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    session.defaults.folder, session.defaults.as_json, session.defaults.debug = None, False, False
    try:
        return int(app(args=given, prog_name="trilho", standalone_mode=False) or 0)
    except TrilhoError as error:
        return _fail(error.fact, error.hint, error.exit_code, given)
    except TyperException as error:
        return _fail(error.format_message().rstrip("."), _help_of(error), 2, given)
    except (Abort, KeyboardInterrupt):
        print("stopped", file=sys.stderr)  # noqa: T201
        return 130
    except BrokenPipeError:  # the reader has gone, as with `trilho journal | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:  # noqa: BLE001  what nobody foresaw is still told in two lines
        said = f"{type(error).__name__}: {error}"
        return _fail(said, "the same with --debug shows where; it is a mistake of trilho's", 1, given)


def _fail(fact: str, hint: str | None, code: int, given: list[str]) -> int:
    hint = session.defaults.command(hint) if hint else None
    if "--debug" in given:
        traceback.print_exc()
    print(fact, *([f"Hint: {hint}"] if hint else []), sep="\n", file=sys.stderr)  # noqa: T201
    if "--json" in given:
        session.Session().emit({"schema": session.SCHEMA, "error": fact, "exit": code, "next": hint})
    return code


def _help_of(error: TyperException) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path if context else 'trilho'} --help"
