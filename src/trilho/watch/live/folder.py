"""Profile files in a folder, as servers on this machine write them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from trilho.watch.live.ledger import Ledger, NotAProfile, Profile

AT_ONCE = 64  # files of one folder that one look reads: no model waits for another's backlog


class Reader(Protocol):
    """Where profiles come from: a folder, a bucket, a topic."""

    def read(self) -> list[Profile]:
        """Give what is new since the last time, each row once."""

    def commit(self) -> None:
        """Say that what was read is kept for good, state and all."""

    def state(self) -> dict[str, Any]:
        """Give what a restarted reader goes on from, as JSON values."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""


class LiveReader:
    """Reads what is new in a folder of profile files; only files whose size or time of change differ are opened.

    A file that is broken is looked at again once it changes. One that goes is remembered for a while: a server that
    still counts that hour writes it anew, with all that it held.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broken = 0
        self._ledger = Ledger()
        self._seen: dict[str, tuple[int, int, int]] = {}

    @property
    def passed_over(self) -> int:
        """Count the rows of files that were old when they were first seen, or changed again long after."""
        return self._ledger.passed_over

    def read(self) -> list[Profile]:
        """Give what is new since the last time, the longest unread first, each row once."""
        found: list[Profile] = []
        files = self._changed()
        if files:
            self._ledger.see(files[-1][0])
        there = {name: mark for _, name, mark in files}
        for changed, name, mark in files:
            if self._seen.get(name) == mark or len(found) >= AT_ONCE:
                continue
            try:
                new = self._open(name, changed)
            except OSError:
                if found:  # what came before is not lost for it
                    break
                raise
            self._seen[name] = mark
            if new is not None:
                found.append(new)
        self._seen = {name: mark for name, mark in self._seen.items() if name in there}
        return found

    def commit(self) -> None:
        """Do nothing: files stay where they are."""

    def state(self) -> dict[str, Any]:
        """Give what a restarted reader goes on from, as JSON values."""
        return self._ledger.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self._ledger.restore(state)
        self._seen = {}

    def _changed(self) -> list[tuple[float, str, tuple[int, int, int]]]:
        found: list[tuple[float, str, tuple[int, int, int]]] = []
        try:
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    if entry.name.endswith(".json") and not entry.name.startswith("."):
                        try:
                            told = entry.stat()
                        except FileNotFoundError:  # it went meanwhile
                            continue
                        found.append((told.st_mtime, entry.name, (told.st_mtime_ns, told.st_size, told.st_ino)))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(found)

    def _open(self, name: str, changed: float) -> Profile | None:
        try:
            file = Profile.parse((self.folder / name).read_bytes())
        except FileNotFoundError:
            return None
        except NotAProfile:
            self.broken += 1
            return None
        return self._ledger.take(name, file, changed)
