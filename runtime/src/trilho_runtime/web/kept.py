"""A server process that a container keeps: started, watched until it is ready, started again when it ends.

The container's first process collects whatever ends in it, so it is told here which of them that was.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from trilho_runtime.web.http import note

CHECK_SECONDS = 1.0
START_SECONDS = 600.0  # a package may have to be brought first
SETTLED_SECONDS = 10.0
SLOWEST_RESTART = 10.0
LEAVE_SECONDS = 15.0
DEFAULT = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class Kept:
    """One process of ours with a ready file and a path to ask whether it is well."""

    def __init__(self, name: str, folder: Path, command: Callable[[], Sequence[str]], pipe: int, check: str) -> None:
        self.name, self.state = name, "down"  # then "starting", "ready", "leaving"
        self.pid: int | None = None
        self.address: str | None = None
        self.failed_starts, self.exit_code = 0, 0
        self._command, self._pipe, self._check = command, pipe, check
        self._ready_file = folder / f"{name}.ready.json"
        self._since = self._due = self._looked = 0.0

    @property
    def gone(self) -> bool:
        """Whether it was asked to leave, and has."""
        return self.state == "leaving" and self.pid is None

    def keep(self, ended: Mapping[int, int]) -> None:
        """Look after it once; `ended` are the exit codes of what has ended since."""
        now = time.monotonic()
        if self.pid in ended and self.pid is not None:
            self._end(ended[self.pid], now)
        elif self.pid is None and self.state == "down" and now >= self._due:
            self._start(now)
        elif self.state == "starting" and now - self._looked > 0.05:
            self._looked = now
            self._look(now)
        elif self.state == "leaving" and now - self._since > LEAVE_SECONDS:
            self._signal(signal.SIGKILL)

    def leave(self) -> None:
        """Ask it to finish what it has under way and end."""
        if self.state != "leaving":
            self.state, self._since = "leaving", time.monotonic()
            self._signal(signal.SIGTERM)

    def _start(self, now: float) -> None:
        self._ready_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", *self._command()]
        command += ["--ready-file", str(self._ready_file), "--parent-pipe", str(self._pipe)]
        os.set_inheritable(self._pipe, True)
        self.pid = os.posix_spawn(sys.executable, command, os.environ, setsigdef=DEFAULT)
        self.state, self._since = "starting", now

    def _look(self, now: float) -> None:
        with contextlib.suppress(OSError, ValueError, KeyError):
            told = json.loads(self._ready_file.read_bytes())
            if told["pid"] == self.pid and well(told["address"], self._check):
                self.address, self.state, self._since = str(told["address"]), "ready", now
        if self.state == "starting" and now - self._since > START_SECONDS:
            note(f"{self.name} was not ready after {START_SECONDS:g} s")
            self._signal(signal.SIGKILL)

    def _end(self, code: int, now: float) -> None:
        self.pid, self.exit_code = None, code
        if self.state == "leaving":
            return
        note(f"{self.name} ended with {f'signal {-code}' if code < 0 else f'exit code {code}'}")
        was_ready = self.state == "ready"
        self.failed_starts = 1 if was_ready and now - self._since > SETTLED_SECONDS else self.failed_starts + 1
        at_once = was_ready and self.failed_starts == 1
        self.state, self._due = "down", now + (0.0 if at_once else min(0.25 * 2**self.failed_starts, SLOWEST_RESTART))

    def _signal(self, number: signal.Signals) -> None:
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def well(address: str, path: str) -> bool:
    """Say whether a server of this machine answers with 200."""
    return fetch(address, path) is not None


def fetch(address: str, path: str, seconds: float = CHECK_SECONDS) -> bytes | None:
    """Give the body of an answer with status 200; None for anything else."""
    host, _, port = address.removeprefix("http://").rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=seconds)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return body if answer.status == 200 else None


def collect() -> dict[int, int]:
    """Give the exit codes of all children that have ended, also of those that were left to this process."""
    ended: dict[int, int] = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            ended[pid] = os.waitstatus_to_exitcode(status)
    return ended
