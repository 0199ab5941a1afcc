"""The base: what the standard was when it was written into a project, kept in the project and in its git.

.trilho-standard.json holds the values and the rendered texts as lines, so that a difference in it can be read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trilho.adopt.standard.render import Values
from trilho.errors import ConfigError

BASE = ".trilho-standard.json"
SCHEMA = 1


@dataclass(frozen=True)
class Base:
    """The standard as it was written into a project."""

    version: str
    """The trilho that wrote it."""
    values: Values
    files: dict[str, str]


def base_text(values: Values, files: Mapping[str, str]) -> str:
    """Give the base as the text of its file."""
    kept = {
        "schema": SCHEMA,
        "trilho": values.version,
        "values": values.as_json(),
        "files": {name: text.split("\n") for name, text in sorted(files.items()) if name != BASE},
    }
    return json.dumps(kept, indent=1, ensure_ascii=False) + "\n"


def read_base(folder: Path) -> Base | None:
    """Read a project's base; one without has none. Raises ConfigError where it cannot be read."""
    path = folder / BASE
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["schema"] != SCHEMA:
            raise ConfigError(f"{path} has schema {kept['schema']}, written by trilho {kept['trilho']}; this one reads "
                              f"{SCHEMA}", hint="upgrade trilho itself first")  # fmt: skip
        files = {str(name): "\n".join(lines) for name, lines in kept["files"].items()}
        return Base(str(kept["trilho"]), Values.from_json(kept["values"]), files)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", hint=f"git checkout {BASE}, or remove it") from None
