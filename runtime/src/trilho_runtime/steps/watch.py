"""What code reads while it runs, beside other code: files, folders, environment variables.

Whoever keeps what the code has said knows by it when to ask again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trilho_runtime.steps.digest import digest_file, digest_json

READS = ("files", "folders", "environment")
CODE = (".py", ".pyc", ".pth", ".so")  # counted otherwise
APART = ("/proc/", "/sys/", "/dev/")


class Watch:
    """Notes what this process reads, from begin() on."""

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {kind: set() for kind in READS}
        self._apart = (*APART, *(f"{Path(place)}{os.sep}" for place in {sys.prefix, sys.base_prefix}))

    def begin(self) -> None:
        """Begin; a hook of the interpreter's stays until it ends."""
        sys.addaudithook(self._see)
        noted = self._names["environment"]

        class Noting(type(os.environ)):  # type: ignore[misc]
            def __getitem__(self, key: str) -> str:
                noted.add(key)
                return str(super().__getitem__(key))

        os.environ.__class__ = Noting

    def found(self) -> dict[str, dict[str, str | None]]:
        """Give the digest of everything that was read, as it is now."""
        names = {kind: sorted(found) for kind, found in self._names.items()}
        return state(names)

    def _see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            mode, flags = (*arguments, None, None)[1:3]
            writes = any(letter in str(mode or "") for letter in "wax+") or bool(
                (flags or 0) & (os.O_WRONLY | os.O_RDWR)
            )
            self._note("files", None if writes else arguments[0])
        elif event == "os.scandir":
            self._note("folders", arguments[0])

    def _note(self, kind: str, given: Any) -> None:
        if isinstance(given, (str, bytes, os.PathLike)):
            place = os.path.abspath(os.fsdecode(given))  # noqa: PTH100  a hook must not read what it notes
            if not place.startswith(self._apart) and not place.endswith(CODE):
                self._names[kind].add(place)


def state(names: Mapping[str, Any]) -> dict[str, dict[str, str | None]]:
    """Give the digest of each thing that has been read, or None of one that is not there."""
    looks = {"files": _file, "folders": _folder, "environment": _variable}
    return {kind: {name: looks[kind](name) for name in names[kind]} for kind in READS}


def _file(name: str) -> str | None:
    try:
        return digest_file(Path(name))
    except OSError:
        return None


def _folder(name: str) -> str | None:
    try:
        return digest_json(sorted(set(os.listdir(name)) - {"__pycache__"}))  # noqa: PTH208
    except OSError:
        return None


def _variable(name: str) -> str | None:
    return digest_json(os.environ[name]) if name in os.environ else None
