"""`trilho config`: every setting, its value, where that comes from, and what it means."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trilho.cli.session import Session, verb
from trilho.errors import UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel

ENVIRONMENT = {"home": "TRILHO_HOME", "python": "TRILHO_PYTHON"}


@dataclass(frozen=True)
class Setting:
    """One setting as it is now; `origin` is "default", "file" or the environment variable's name."""

    key: str
    value: Any
    origin: str
    default: Any
    description: str


def add_to(app: typer.Typer) -> None:
    """Add this module's verbs."""

    @verb(app, "config", examples=["trilho config", "trilho config watch", "trilho config gate.margin --json"])
    def config(
        here: Session,
        key: Annotated[str, typer.Argument(metavar="[KEY]", help="A table or a key of trilho.toml.")] = "",
        schema: Annotated[bool, typer.Option("--schema", help="Print trilho.toml's JSON Schema, for editors.")] = False,
    ) -> None:
        """Show every setting, its value, its origin and its meaning."""
        if schema:
            from trilho.config import Settings

            here.emit(Settings.model_json_schema())
            return
        shown = [x for x in settings_of(here) if not key or x.key == key or x.key.startswith(f"{key}.")]
        if not shown:
            raise UsageError(_unknown(here, key), hint=here.command("trilho config"))
        table = ""
        for setting in shown:
            head, _, name = setting.key.rpartition(".")
            if head != table:
                here.say("", f"[{head}]")
                table = head
            here.say(f"{name} = {written(setting.value)}  ({setting.origin})", f"    {setting.description}")
        here.done("trilho", file=str(here.project.folder / "trilho.toml"), settings=[asdict(x) for x in shown])


def settings_of(here: Session) -> list[Setting]:
    """Give all settings of the project, in trilho.toml's order."""
    project = here.project
    raw = tomllib.loads((project.folder / "trilho.toml").read_text(encoding="utf-8"))
    return list(_walk(project.settings, raw, ""))


def _walk(table: BaseModel, raw: dict[str, Any], prefix: str) -> Iterator[Setting]:
    from pydantic import BaseModel

    for name, field in type(table).model_fields.items():
        value, key = getattr(table, name), f"{prefix}{name}"
        if isinstance(value, BaseModel):
            yield from _walk(value, raw.get(name, {}), f"{key}.")
            continue
        if isinstance(value, dict) and value:  # tables that the user names
            for inner, one in value.items():
                yield from _walk(one, raw[name][inner], f"{key}.{inner}.")
            continue
        default = None if field.is_required() else _plain(field.get_default(call_default_factory=True))
        variable = os.environ.get(ENVIRONMENT.get(key, ""), "")
        given = raw.get(name, default)
        origin = ENVIRONMENT[key] if variable else "file" if name in raw else "default"
        yield Setting(key, variable or _plain(given), origin, default, " ".join((field.description or "").split()))


def _plain(value: Any) -> Any:
    """Give a value as one writes it in trilho.toml."""
    from trilho.config import UNITS

    if isinstance(value, timedelta):
        seconds = int(value.total_seconds())
        unit = next(u for u in ("week", "day", "hour", "minute") if seconds % UNITS[u] == 0 or u == "minute")
        count = seconds // UNITS[unit]
        return f"{count} {unit}{'s' if count != 1 else ''}"
    if isinstance(value, float) and value == 1 / UNITS["year"]:
        return "1 per year"
    return value


def written(value: Any) -> str:
    """Give a value in TOML's spelling; what is not set is said in words.

    >>> written(True), written("a"), written(None), written(["x", 1])
    ('true', '"a"', 'not set', '["x", 1]')
    """
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(written(item) for item in value)}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _unknown(here: Session, key: str) -> str:
    import difflib

    known = [setting.key for setting in settings_of(here)]
    close = difflib.get_close_matches(key, known, n=1)
    return f"trilho.toml has no key {key}" + (f"; did you mean {close[0]}?" if close else "")
