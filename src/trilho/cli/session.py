"""What every verb shares: which project, how to print, and the options `-C`, `--json` and `--debug`.

A verb is a function of a Session and of its own options. It prints prose with `say`, and ends with `done`, which
prints the last line, `Next: ...`, or with --json the one object that goes to stdout.
"""

from __future__ import annotations

import inspect
import json
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trilho.errors import UsageError

if TYPE_CHECKING:
    from trilho.project import Project

SCHEMA = 1

Folder = Annotated[Path | None, typer.Option("-C", metavar="DIR", help="The project's folder; by default this one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object; prose goes to stderr.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before changing what serves.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Why = Annotated[str, typer.Option("--why", help="The reason, kept in the journal.")]


@dataclass
class Session:
    """One call of the command line."""

    folder: Path | None = None
    as_json: bool = False
    debug: bool = False

    @cached_property
    def project(self) -> Project:
        """The project in the folder. Raises ConfigError when there is none, or its settings are wrong."""
        from trilho.project import Project

        return Project.open(self.folder or Path())

    def say(self, *lines: str) -> None:
        """Print prose: to stdout, or to stderr where stdout is for JSON."""
        out = sys.stderr if self.as_json else sys.stdout
        for line in lines:
            print(line, file=out, flush=True)

    def table(self, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Print rows in columns that line up, on a terminal and in a pipe alike."""
        lines = [list(header), *(list(row) for row in rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
        self.say(*("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
                   for line in lines))  # fmt: skip

    def facts(self, facts: Iterable[tuple[str, str | None]]) -> None:
        """Print names and values in two columns, leaving out what is not known."""
        known = [(name, value) for name, value in facts if value]
        width = max((len(name) for name, _ in known), default=0)
        self.say(*(f"  {name.ljust(width)}  {value}" for name, value in known))

    def done(self, next_: str, **data: Any) -> None:
        """End a verb: the command to type next, and with --json everything it found."""
        if self.as_json:
            self.emit({"schema": SCHEMA, **data, "next": self.command(next_)})
        else:
            self.say(f"Next: {self.command(next_)}")

    def complain(self, fact: str, hint: str) -> None:
        """Print an error as `trilho` prints them, for a verb that has more to say of it than to raise it."""
        print(fact, f"Hint: {hint}", sep="\n", file=sys.stderr)  # noqa: T201

    def emit(self, data: dict[str, Any]) -> None:
        """Print the one JSON object."""
        print(json.dumps(data, ensure_ascii=False, default=str), flush=True)  # noqa: T201

    def command(self, text: str) -> str:
        """Make a command of ours copyable from where the person stands, with the same -C."""
        if self.folder is None or not text.startswith("trilho") or text.startswith("trilho -C"):
            return text
        return f"trilho -C {shlex.quote(str(self.folder))}{text.removeprefix('trilho')}"

    def agreed(self, plan: Sequence[str], *, yes: bool, dry_run: bool, lasting: bool = False) -> bool:
        """Show a plan and ask on a terminal; say whether it may be carried out.

        Without a terminal there is nobody to ask: what can be undone goes on, what is `lasting` asks for --yes.
        """
        self.say("Plan:", *(f"  {line}" for line in plan))
        if dry_run:
            self.say("Nothing was done (--dry-run).")
            return False
        if yes or not (lasting or sys.stdin.isatty()):
            return True
        if not sys.stdin.isatty():
            raise UsageError("this cannot be undone, and there is no terminal to ask on", hint="add --yes")
        if typer.confirm("Go on?", err=self.as_json):
            return True
        self.say("Nothing was done.")
        return False


Verb = Callable[..., None]
defaults = Session()
"""What was given before the verb, as in `trilho -C DIR --json models`; then what the verb itself was given too."""


def verb(app: typer.Typer, name: str, *, examples: Sequence[str]) -> Callable[[Verb], Verb]:
    """Register a function as a verb, with the options that all verbs have."""

    def register(function: Verb) -> Verb:
        shown = "Examples:\n\n\b\n" + "\n".join(f"  {example}" for example in examples)
        app.command(name, epilog=shown)(_with_session(function))
        return function

    return register


def group(app: typer.Typer) -> Callable[[Verb], Verb]:
    """Register the function that runs when a group of verbs is called without one of them."""

    def register(function: Verb) -> Verb:
        app.callback(invoke_without_command=True)(_with_session(function, group=True))
        return function

    return register


def _with_session(function: Verb, *, group: bool = False) -> Verb:
    def call(context: typer.Context, folder: Path | None, as_json: bool, debug: bool, **own: Any) -> None:
        given = _merged(folder, as_json, debug)
        if not group or context.invoked_subcommand is None:
            function(given, **own)

    kind = inspect.Parameter.KEYWORD_ONLY
    common = [
        inspect.Parameter("context", kind, annotation=typer.Context),
        inspect.Parameter("folder", kind, annotation=Folder, default=None),
        inspect.Parameter("as_json", kind, annotation=AsJson, default=False),
        inspect.Parameter("debug", kind, annotation=Debug, default=False),
    ]
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    parameters = [*(parameter.replace(kind=kind) for parameter in own), *common]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    call.__name__, call.__doc__ = function.__name__, function.__doc__
    return call


def _merged(folder: Path | None, as_json: bool, debug: bool) -> Session:
    defaults.folder = folder or defaults.folder
    defaults.as_json |= as_json
    defaults.debug |= debug
    return replace(defaults)
