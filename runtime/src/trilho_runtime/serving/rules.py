"""The decision that a server follows: looked for a few times a second, beside the requests."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from trilho_runtime.decision import Decision, DecisionError, Following, packaged_decision
from trilho_runtime.package import Package, PackageError
from trilho_runtime.web.http import note

LOOK_SECONDS = 0.2
AGAIN_SECONDS = 5.0  # after which what could not be loaded is tried again


class FollowedRules:
    """The rule that holds now, as a file says; it changes between two turns and never within one."""

    def __init__(self, path: Path) -> None:
        self._following = Following(path)
        self._said = ""
        self._looked = 0.0

    @property
    def current(self) -> tuple[int, Decision] | None:
        """Give the version that holds and its rule; None where nothing is decided."""
        return self._following.held

    @property
    def problem(self) -> str:
        """Say why the decision that the file names does not hold."""
        return self._following.problem

    def look(self) -> None:
        """Read the file, and load the rule that it names; one that cannot be loaded leaves the one before in place."""
        self._looked = time.monotonic()
        self._following.look()
        if self.problem and self.problem != self._said:
            version = self._following.version
            kept = "nothing is decided" if version is None else f"decision {version} goes on to hold"
            note(f"{self.problem}; {kept}")
        self._said = self.problem

    def due(self) -> bool:
        """Say whether there is something to read."""
        failed = bool(self.problem) and time.monotonic() - self._looked > AGAIN_SECONDS
        return failed or self._following.changed()

    async def follow(self) -> None:
        """Look whenever the file has changed, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self.due():
                await loop.run_in_executor(None, self.look)


class PackagedRule:
    """The rule that came with a model, and changes only with it."""

    problem = ""

    def __init__(self, decision: Decision) -> None:
        self.current = ("package", decision)


def packaged_rule(package: Package) -> PackagedRule | None:
    """Give the rule that a package carries; None where it has none. Raises PackageError when it cannot be loaded."""
    try:
        found = packaged_decision(package.folder, package.manifest)
    except DecisionError as error:
        raise PackageError(str(error)) from error
    return None if found is None else PackagedRule(found)
