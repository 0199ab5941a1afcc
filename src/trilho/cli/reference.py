"""Writes docs/reference.md, from the command line and the settings as they are: `make docs`.

    python -m trilho.cli.reference [FILE]

Nobody writes it by hand, and a test says when it is out of date.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer.main
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from trilho.cli.app import app
from trilho.cli.config import _plain, written
from trilho.config import Settings, parse_rate

WIDTH = 100
TOP = """# Reference

All verbs and all settings, written by `make docs` from the code; changes made here by hand are lost.
[The quickstart](quickstart.md) shows the verbs at work, [how it works](how-it-works.md) says what they do.
"""
WORDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", timedelta: "a duration"}


def reference() -> str:
    """Give the whole page."""
    lines = [TOP, "## Verbs", "", *_verbs(), "## Settings", "", "The keys of `trilho.toml`.", "", *_settings()]
    return "\n".join(lines).rstrip() + "\n"


def _verbs() -> Iterator[str]:
    program = typer.main.get_command(app)
    before = os.environ.get("TERM")
    os.environ["TERM"] = "dumb"  # no colours, whatever the terminal of who runs this
    try:
        for path, text in _helps(program, "trilho", None):
            yield from (f"### {path}", "", "```text", *(line.rstrip() for line in text.splitlines()), "```", "")
    finally:
        os.environ.pop("TERM") if before is None else os.environ.update(TERM=before)


def _helps(command: Any, name: str, parent: Any) -> Iterator[tuple[str, str]]:
    """Give a command's path and help, then those of its commands."""
    context = command.context_class(
        command, info_name=name, parent=parent, terminal_width=WIDTH, **command.context_settings
    )
    yield context.command_path, command.get_help(context).strip()
    if hasattr(command, "list_commands"):
        for below in command.list_commands(context):
            yield from _helps(command.get_command(context, below), below, context)


def _settings() -> Iterator[str]:
    tables = {name: field for name, field in Settings.model_fields.items() if _is_table(field)}
    yield from ("### At the top", "")
    yield from (_setting(name, field) for name, field in Settings.model_fields.items() if name not in tables)
    for table, field in tables.items():
        kind: type[BaseModel] = field.annotation  # type: ignore[assignment]
        yield from ("", f"### [{table}]", "", _one_line(kind.__doc__), "")
        yield from (_setting(name, inner) for name, inner in kind.model_fields.items())


def _is_table(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _setting(name: str, field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        given = "required"
    else:
        given = "not set" if default is None else f"default `{written(_plain(default))}`"
    return f"- `{name}` ({_allowed(field)}; {given}): {_one_line(field.description)}"


def _allowed(field: FieldInfo) -> str:
    """Say what may be written, in words.

    >>> _allowed(Settings.model_fields["timezone"])
    'a text'
    """
    if any(getattr(item, "func", None) is parse_rate for item in field.metadata):
        return "a rate"
    kinds = [kind for kind in _alternatives(field.annotation) if kind is not type(None)]
    return " or ".join(dict.fromkeys(_in_words(kind) for kind in kinds))


def _alternatives(kind: Any) -> tuple[Any, ...]:
    if get_origin(kind) in (Literal, list) or not get_args(kind):
        return (kind,)
    if hasattr(kind, "__metadata__"):  # Annotated: the type itself comes first
        return _alternatives(get_args(kind)[0])
    return tuple(inner for part in get_args(kind) for inner in _alternatives(part))


def _in_words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return ", ".join(f"`{written(value)}`" for value in get_args(kind))
    if get_origin(kind) is list:
        inner = _in_words(*get_args(kind))
        return f"a list of {inner if '`' in inner else inner.removeprefix('a ') + 's'}"
    return WORDS.get(kind, str(kind))


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def main(arguments: list[str]) -> int:
    """Write the page to a file, or print it."""
    if arguments:
        Path(arguments[0]).write_text(reference(), encoding="utf-8")
    else:
        sys.stdout.write(reference())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
