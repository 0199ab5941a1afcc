"""One process that a supervisor keeps alive: started, watched until it is ready, started again when it ends."""

from __future__ import annotations

import http.client
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from trilho.serve.endpoint import read_json

log = logging.getLogger("trilho")
State = Literal["down", "starting", "ready", "leaving"]

START_SECONDS = 120.0  # a model that needs longer to load is not going to be ready
CHECK_SECONDS = 2.0
PROBE_SECONDS = 1.0
CHECKS_FAILED = 3
SLOWEST_RESTART = 10.0
READY_AGAIN_SECONDS = 1.0  # between two starts of a process that becomes ready each time
SETTLED_SECONDS = 10.0
LEAVE_SECONDS = 15.0
LOG_BYTES = 4 * 2**20


class Child:
    """A process with a ready file and a path to ask whether it is well. For one thread at a time."""

    def __init__(
        self,
        name: str,
        folder: Path,
        command: Callable[[Path], list[str]],
        *,
        check: str,
        pipe: int,
        env: Mapping[str, str],
    ) -> None:
        self.name = name
        self.state: State = "down"
        self.address: str | None = None
        self.pid: int | None = None
        self.exit_code: int | None = None
        self.failed_starts = 0  # in a row: ends before the process had been ready for a while
        self.problem = ""  # what the last of them said
        self._command, self._check, self._pipe, self._env = command, check, pipe, dict(env)
        self._ready_file, self._log = folder / f"{name}.ready.json", folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._since = self._checked = self._next_start = self._started = 0.0
        self._failures = self._missed = 0

    def keep(self) -> None:
        """Look after the process once: start it when that is due, notice that it is ready, hung or gone."""
        now = time.monotonic()
        if self._process is None:
            if self.state == "down" and now >= self._next_start:
                self._start(now)
        elif self._process.poll() is not None:
            self._ended(now)
        elif self.state == "starting":
            self._await_ready(now)
        elif self.state == "ready" and now - self._checked > CHECK_SECONDS:
            self._look(now)
        elif self.state == "leaving" and now - self._since > LEAVE_SECONDS:
            self._process.kill()

    def leave(self) -> None:
        """Ask the process to finish what it has under way and end; it is not started again."""
        if self.state != "leaving":
            self.state, self._since = "leaving", time.monotonic()
            if self._process is not None:
                self._process.send_signal(signal.SIGTERM)

    @property
    def gone(self) -> bool:
        """Whether a process that was asked to leave has left."""
        return self.state == "leaving" and (self._process is None or self._process.poll() is not None)

    def wait(self, seconds: float) -> None:
        """Wait for the process to end, and end it when it does not."""
        if self._process is not None:
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def last_words(self) -> str:
        """Give the last line that the process wrote, but for a hint."""
        lines = [line.strip() for line in _tail(self._log, 4096).decode(errors="replace").splitlines()]
        return next((line for line in reversed(lines) if line and not line.startswith("Hint:")), "it wrote nothing")

    def _start(self, now: float) -> None:
        self._ready_file.unlink(missing_ok=True)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        _bound(self._log)
        command = [*self._command(self._ready_file), "--parent-pipe", str(self._pipe)]
        try:
            with self._log.open("ab") as output:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env={**os.environ, **self._env},
                    pass_fds=(self._pipe,),
                    start_new_session=True,  # Ctrl-C reaches the supervisor alone, which ends its children in order
                )
        except OSError as error:
            log.error("%s cannot be started: %s", self.name, error)
            self._failed(f"it cannot be started: {error}")
            self._postpone(now)
            return
        self.pid, self.state, self._since, self._missed = self._process.pid, "starting", now, 0
        self._started = now

    def _await_ready(self, now: float) -> None:
        found = read_json(self._ready_file)
        if found is not None and found.get("pid") == self.pid and get(found["address"], self._check) is not None:
            self.address, self.state = found["address"], "ready"
            self._since = self._checked = now
        elif now - self._since > START_SECONDS and self._process is not None:
            log.error("%s was not ready after %.0f s: %s", self.name, START_SECONDS, self.last_words())
            self._process.kill()

    def _look(self, now: float) -> None:
        _bound(self._log)
        well = self.address is not None and get(self.address, self._check) is not None
        self._checked, self._missed = time.monotonic(), 0 if well else self._missed + 1
        if now - self._since > SETTLED_SECONDS:
            self._failures = self.failed_starts = 0
        if self._missed >= CHECKS_FAILED and self._process is not None:
            log.error("%s does not answer; it is ended and started again", self.name)
            self._process.kill()

    def _ended(self, now: float) -> None:
        assert self._process is not None
        self.exit_code, self._process, self.pid = self._process.returncode, None, None
        if self.state != "leaving":
            log.warning("%s ended with exit code %s: %s", self.name, self.exit_code, self.last_words())
            if self.state == "starting" or now - self._since <= SETTLED_SECONDS:
                self._failed(self.last_words())
            self._postpone(now, was_ready=self.state == "ready")

    def _failed(self, problem: str) -> None:
        self.failed_starts, self.problem = self.failed_starts + 1, problem

    def _postpone(self, now: float, was_ready: bool = False) -> None:
        """Plan the next start: later each time, but for a process that had been ready, which others wait for."""
        self.state = "down"
        self._failures += 1
        if was_ready:
            self._next_start = max(now, self._started + min(0.25 * 2**self._failures, READY_AGAIN_SECONDS))
        else:
            self._next_start = now + min(0.25 * 2**self._failures, SLOWEST_RESTART)
        if self._next_start <= now:
            self._start(now)


def get(address: str, path: str, timeout: float | None = None) -> bytes | None:
    """Give the body of an answer with status 200; None for anything else."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=timeout or PROBE_SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return body if answer.status == 200 else None


def _bound(path: Path) -> None:
    """Keep a log's newer half once it is too long; its writer appends, and so goes on at the new end."""
    try:
        if path.stat().st_size > LOG_BYTES:
            tail = _tail(path, LOG_BYTES // 2)
            os.truncate(path, 0)
            with path.open("ab") as handle:
                handle.write(tail)
    except OSError:
        return


def _tail(path: Path, size: int) -> bytes:
    try:
        with path.open("rb") as handle:
            handle.seek(0, os.SEEK_END)
            handle.seek(max(0, handle.tell() - size))
            return handle.read()
    except OSError:
        return b""
