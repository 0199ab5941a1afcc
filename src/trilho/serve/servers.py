"""The processes of an endpoint's versions: started while they are wanted, ended once nothing is routed to them.

There is one for each, since two versions of one module in one process would answer with the wrong code.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from trilho.config import Serve
from trilho.errors import TrilhoError
from trilho.serve.complaints import Complaints
from trilho.serve.flags import server_flags, server_module
from trilho.serve.process import Child

ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
LOOPBACK = "127.0.0.1"  # a version answers the router alone
RETIRE_SECONDS = 1.0
DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How the server of a version is started."""

    python: Path
    settings: Serve
    log: Path
    server: str = "trilho_runtime.server"
    workers: str = "trilho_runtime.workers"
    decision: Path | None = None
    history: Path | None = None

    @property
    def module(self) -> list[str]:
        """The module that serves, and with how many processes."""
        return server_module(self.settings, self.server, self.workers)

    def command(self, package: Path, number: int, ready_file: Path) -> list[str]:
        """Give the command; the digest is known where the package lies under it."""
        return [
            *(str(self.python), "-m", *self.module, str(package), "--version", str(number)),
            *("--host", LOOPBACK, "--port", "0", "--ready-file", str(ready_file)),
            *server_flags(self.settings, self.log),
            *(["--decision", str(self.decision)] if self.decision is not None else []),
            *(["--history", str(self.history)] if self.history is not None else []),
            *(["--digest", package.name] if DIGEST.fullmatch(package.name) else []),
        ]


class Servers:
    """The versions' processes."""

    def __init__(
        self, folder: Path, launch: Launch, package_path: Callable[[int], Path], complaints: Complaints
    ) -> None:
        self.launch, self.package_path = launch, package_path
        self._folder, self._complaints = folder, complaints
        self._pipe, self._env = -1, dict[str, str]()
        self.running: dict[int, Child] = {}
        self._missing: dict[int, tuple[int, str]] = {}  # versions whose package cannot be had: how often, and why
        self._left: dict[int, float] = {}

    def begin(self, pipe: int, env: Mapping[str, str]) -> None:
        """Say by which pipe the processes learn of this one's end, and what they find in their environment."""
        # an artifact never changes, not even by a cache in it
        self._pipe, self._env = pipe, {**ONE_THREAD, "PYTHONDONTWRITEBYTECODE": "1", **env}

    def keep(self, wanted: Collection[int]) -> None:
        """Start what is wanted and absent, and look after what is there."""
        self._missing = {number: found for number, found in self._missing.items() if number in wanted}
        for number in set(wanted) - set(self.running):
            with self._complaints.about(f"version {number}"):
                self._add(number)
        for number, child in list(self.running.items()):
            child.keep()
            if child.gone:
                del self.running[number]

    def _add(self, number: int) -> None:
        try:
            package = self.package_path(number)
        except TrilhoError as error:
            self._missing[number] = (self._missing.get(number, (0, ""))[0] + 1, error.fact)
            raise
        self.running[number] = Child(
            f"v{number}",
            self._folder,
            lambda ready_file: self.launch.command(package, number, ready_file),
            check="/health",
            pipe=self._pipe,
            env=self._env,
        )

    def retire(self, needed: Collection[int], *, followed: bool) -> None:
        """End what is not needed, once the router has `followed` the routes without it: then no request can come."""
        now = time.monotonic()
        for number, child in self.running.items():
            if number in needed:
                self._left.pop(number, None)
                continue
            since = self._left.setdefault(number, now)
            if now - since > RETIRE_SECONDS and followed:
                child.leave()

    def ready(self, number: int) -> bool:
        """Say whether a version answers."""
        child = self.running.get(number)
        return child is not None and child.state == "ready"

    @property
    def addresses(self) -> dict[int, str | None]:
        """Where each version answers, or last did."""
        return {number: child.address for number, child in self.running.items()}

    @property
    def states(self) -> dict[int, str]:
        """What each version is doing: ready, starting or down."""
        return {number: _shown(child) for number, child in sorted(self.running.copy().items())}

    def failed_starts(self, number: int) -> tuple[int, str]:
        """Say how many starts of a version's server have failed in a row, and what the last one said."""
        child = self.running.get(number)
        return (child.failed_starts, child.problem) if child else self._missing.get(number, (0, ""))


def _shown(child: Child) -> str:
    return child.state if child.state in ("ready", "starting") else "down"
