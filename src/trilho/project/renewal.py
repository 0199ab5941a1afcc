"""A changed trilho.toml under a running platform: taken over whole between two passes, or kept for a restart."""

from __future__ import annotations

import copy
import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trilho.config import FILE, Settings, load_settings
from trilho.core.lease import held
from trilho.errors import TrilhoError
from trilho_runtime.steps.digest import digest_file

if TYPE_CHECKING:
    from trilho.project import Project

FIXED = ("home", "python", "model", "history", "serve", "tracking", "telemetry", "labels.on", "gate.slices")
"""What running processes and open files were made with: a change of these takes a new platform."""

UNSEEN = f"it has not looked at {FILE} since it was changed"


class Renewal:
    """Looks whether a project's trilho.toml has changed since, and gives the project as it then is.

    Settings are taken over all together or not at all: a project with half of its new settings is one that nobody
    wrote. `project` is never changed; whoever works with it goes on as before, and takes the next between two passes.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self.digest = digest_of(project.folder)
        self.changed: tuple[str, ...] = ()  # by the last change
        self.waits = ""  # why what the file says now is not taken over; "" where it is
        self._stamp = _stamp(project.folder)
        self._lock = threading.Lock()

    def look(self) -> bool:
        """Say whether the file has changed since the last look; `project` and `waits` then say what of it holds."""
        with self._lock:
            stamp = _stamp(self.project.folder)
            if stamp == self._stamp:
                return False
            self._stamp = stamp
            digest = digest_of(self.project.folder)
            if digest == self.digest:
                return False
            self.digest = digest
            self._take()
            return True

    def _take(self) -> None:
        try:
            settings = load_settings(self.project.folder)
        except TrilhoError as error:
            self.changed, self.waits = (), f"it has a mistake: {error.fact}"
            return
        self.changed = changed_keys(self.project.settings, settings)
        fixed = [key for key in self.changed if any(f"{key}.".startswith(f"{name}.") for name in FIXED)]
        self.waits = f"{', '.join(fixed)} changed, which a running platform cannot take over" if fixed else ""
        if self.changed and not fixed:
            renewed = copy.copy(self.project)  # its journal, store and log stay those that are open
            renewed.settings = settings
            self.project = renewed


def changed_keys(before: Settings, after: Settings) -> tuple[str, ...]:
    """Name the settings that differ, as trilho.toml writes them."""
    old, new = _flat(before.model_dump()), _flat(after.model_dump())
    return tuple(sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key)))


def outdated(project: Project) -> str:
    """Say why the platform that is up does not run a project with the settings of its trilho.toml; "" where it does."""
    if not held(project.home / "platform.lease"):
        return ""
    try:
        found: dict[str, Any] = json.loads((project.home / "platform.json").read_text(encoding="utf-8"))
        said = found["settings"][project.name]
        waits, digest = str(said["waits"]), str(said["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    if digest != digest_of(project.folder):
        return UNSEEN
    return waits


def digest_of(folder: Path) -> str:
    """Give the digest of a project's trilho.toml; "" where it cannot be read."""
    try:
        return digest_file(folder / FILE)
    except OSError:
        return ""


def _stamp(folder: Path) -> tuple[int, int]:
    try:
        found = (folder / FILE).stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def _flat(values: dict[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        here = f"{above}{name}"
        found |= _flat(value, f"{here}.") if isinstance(value, dict) and value else {here: value}
    return found
