"""A run's folder: its manifest, its logs, its scratch space, and a lease that says that its runner lives."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trilho.core.files import write_whole
from trilho.errors import DataError

SCHEMA = 1
LOG_LIMIT = 1024 * 1024


@dataclass(frozen=True)
class RunFolder:
    """HOME/runs/<run id>."""

    path: Path

    @classmethod
    def of(cls, home: Path, run: str) -> RunFolder:
        """Name a run's folder; it need not exist."""
        return cls(home / "runs" / run)

    @property
    def manifest(self) -> Path:
        """Where run.json is: what was to be done and how far it got."""
        return self.path / "run.json"

    def log(self, task: str) -> Path:
        """Give where a task's output is kept."""
        return self.path / f"{task}.log"

    def task(self, task: str) -> Path:
        """Give where it is noted that a task is done, for whoever resumes the run."""
        return self.path / "tasks" / f"{task}.json"

    @property
    def work(self) -> Path:
        """Where its tasks write before their outputs are kept; it goes with the run's end."""
        return self.path / ".work"

    def scratch(self, task: str) -> Path:
        """Give where a task writes before its outputs are kept."""
        return self.work / task

    def write(self, manifest: Mapping[str, Any]) -> None:
        """Replace run.json. It is for those who look on: where it cannot be written the run goes on without."""
        with contextlib.suppress(OSError):
            write_whole(self.manifest, json.dumps({"schema": SCHEMA, **manifest}, indent=1))

    def read(self) -> dict[str, Any] | None:
        """Give run.json, or None where there is none that can be read."""
        try:
            found = json.loads(self.manifest.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    @contextlib.contextmanager
    def lease(self) -> Iterator[None]:
        """Hold the run: as long as the process lives, nobody takes the run for an abandoned one."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path / "lease", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise DataError(
                f"{self.path} cannot be written: {error.strerror}", hint="free some space, or set TRILHO_HOME"
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            try:
                yield
            finally:  # not when the wait for another who holds it is interrupted: then it is the other's
                shutil.rmtree(self.work, ignore_errors=True)
        finally:
            os.close(descriptor)

    def is_held(self) -> bool:
        """Say whether a living process holds the run."""
        try:
            descriptor = os.open(self.path / "lease", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False

    def settle(self, error: str) -> dict[str, Any]:
        """End an abandoned run: it has failed, and its scratch space goes. Give its manifest, with its seconds."""
        shutil.rmtree(self.work, ignore_errors=True)
        found = self.read() or {"run": self.path.name, "tasks": []}
        last = self.manifest.stat().st_mtime if self.manifest.exists() else None
        if last is None or "started" not in found:
            return {**found, "seconds": 0.0}
        seconds = max(0.0, last - datetime.fromisoformat(found["started"]).timestamp())
        ended = datetime.fromtimestamp(last, UTC).isoformat(timespec="microseconds")
        self.write({**found, "state": "failed", "ended": ended, "error": error})
        return {**found, "seconds": seconds}


def new_run_id() -> str:
    """Give a run its id: a letter, the moment, and a little chance."""
    return f"r{datetime.now(UTC):%Y%m%d-%H%M%S}-{os.urandom(2).hex()}"


def is_elsewhere(home: Path, run: str) -> bool:
    """Say whether a run was handed to a service, which carries it on whatever happens here."""
    return (home / "runs" / run / "remote.json").exists()


class TaskLog:
    """A task's log, written by the platform itself; nothing after the limit. A full disk loses the log only."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def say(self, text: str) -> None:
        """Add a line."""
        with contextlib.suppress(OSError), self._path.open("ab", buffering=0) as file:
            if file.tell() < LOG_LIMIT:
                file.write(text.rstrip("\n").encode() + b"\n")
