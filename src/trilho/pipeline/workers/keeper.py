"""The runner's side of a keeper: steps of an interpreter and commands, several at once, none left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotDone
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, NamedTuple

from trilho.errors import StepFailed

CORES = os.cpu_count() or 1
AT_ONCE = max(2, min(8, CORES))  # steps that a run has side by side
START = 600.0  # seconds for an interpreter to import its libraries and begin
GRACE = 30.0  # seconds for the keeper to confirm that a step was killed


class Ended(NamedTuple):
    """How a step ended: its exit code, negative for the signal that killed it, and the end of what it printed."""

    code: int
    said: str
    error: dict[str, Any] | None = None
    """What it wrote about its failure for the platform to read: "kind", "fact", "hint", "exit_code"."""


@dataclass
class _Asked:
    begun: threading.Event = field(default_factory=threading.Event)
    answer: Future[Ended] = field(default_factory=Future)


class Keeper:
    """An interpreter with trilho-runtime that is kept warm; it is started by the first step or command that needs it.

    Steps may be asked for from several threads. When this process ends, in whatever way, the keeper and all it started
    end as well, since it watches the pipe that joins them; so do they when the keeper is killed. Whoever calls
    setsid(2) has left its process group, and nobody kills it.

    With `preload` those modules are imported before the first step; without, the libraries that the code in `source`
    imports. A keeper of commands only needs none.
    """

    def __init__(
        self,
        python: Path,
        source: Path | None = None,
        folder: Path | None = None,
        *,
        fork: bool = True,
        preload: Sequence[str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._words = [str(python), "-m", "trilho_runtime.fork"]
        self._words += ["--path", str(source)] if source is not None else []
        self._words += [] if fork else ["--no-fork"]
        self._words += ["--no-preload"] if preload is not None and not preload else []
        self._words += [word for module in preload or () for word in ("--preload", module)]
        self._folder = folder or source
        self._environment = dict(environment or {})
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._complaints: IO[bytes] | None = None
        self._waiting: dict[str, _Asked] = {}

    def __enter__(self) -> Keeper:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The keeper's process, where one was started."""
        return self._process.pid if self._process is not None else None

    def run(
        self,
        step: str,
        executor_input: Mapping[str, Any],
        *,
        path: Sequence[str],
        log: Path,
        timeout: timedelta | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Ended:
        """Run one step and say how it ended. Raises StepFailed on a timeout and when the interpreter itself ends."""
        command = {"step": step, "executor_input": executor_input, "path": list(path), "log": str(log)}
        return self._ask({**command, "environment": dict(environment or {})}, timeout)

    def run_command(
        self,
        words: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        log: Path,
        timeout: timedelta | None = None,
    ) -> Ended:
        """Run any command in this environment and no other. Raises StepFailed on a timeout or when it cannot start."""
        command = {"argv": list(words), "environment": dict(environment), "folder": str(folder), "log": str(log)}
        return self._ask(command, timeout)

    def close(self) -> None:
        """Stop the keeper and whatever still runs in it."""
        with self._lock:
            process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError):
            if process.stdin is not None:
                process.stdin.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def stop_all(self) -> None:
        """Kill the steps that are running now; the keeper stays."""
        for id_, asked in list(self._waiting.items()):
            self._kill(id_, asked)

    def _ask(self, command: Mapping[str, Any], timeout: timedelta | None) -> Ended:
        id_, asked = uuid.uuid4().hex, _Asked()
        with self._lock:
            process = self._started()
            self._waiting[id_] = asked  # of the process that was just seen alive
            self._send(process, {"id": id_, **command})
        try:
            if not asked.begun.wait(START):
                raise StepFailed(f"{self._words[0]} did not begin it within {START:.0f} s")
            return asked.answer.result(timeout.total_seconds() if timeout is not None else None)
        except NotDone:
            self._kill(id_, asked)
            raise StepFailed(f"it was stopped after {timeout}", hint="give it a longer timeout") from None
        except BaseException:
            self._kill(id_, asked)
            raise

    def _kill(self, id_: str, asked: _Asked) -> None:
        with self._lock:
            if self._process is not None and not asked.answer.done():
                self._send(self._process, {"kill": id_})
        with contextlib.suppress(NotDone, StepFailed):
            asked.answer.result(GRACE)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as the keeper
        try:
            self._process = subprocess.Popen(
                self._words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
                cwd=self._folder,
                env=step_environment(self._environment),
                start_new_session=True,
            )
        except OSError as error:
            raise StepFailed(f"the interpreter {self._words[0]} does not start: {error.strerror}") from None
        self._waiting = {}
        listener = threading.Thread(target=self._listen, args=(self._process, self._waiting), daemon=True, name="steps")
        listener.start()
        return self._process

    def _send(self, process: subprocess.Popen[bytes], command: Mapping[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # then the listener tells those who wait
            if process.stdin is not None:
                process.stdin.write(json.dumps(command).encode() + b"\n")
                process.stdin.flush()

    def _listen(self, process: subprocess.Popen[bytes], waiting: dict[str, _Asked]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            told = json.loads(line)
            if "started" in told:
                waiting[told["id"]].begun.set()
                continue
            asked = waiting.pop(told["id"])
            if "error" in told:
                asked.answer.set_exception(StepFailed(told["error"]))
            else:
                asked.answer.set_result(Ended(told["exit"], told["said"]))
            asked.begun.set()
        code = process.wait()
        with self._lock:
            left, said = list(waiting.values()), self._told()
            waiting.clear()
        for asked in left:
            asked.answer.set_exception(StepFailed(f"its interpreter ended ({exit_words(code)}){said}"))
            asked.begun.set()

    def _told(self) -> str:
        if self._complaints is None:
            return ""
        with contextlib.suppress(OSError, ValueError):
            self._complaints.seek(0)
            text = self._complaints.read().decode(errors="replace").strip()
            return f": {text.splitlines()[-1]}" if text else ""
        return ""


def step_environment(more: Mapping[str, str]) -> dict[str, str]:
    """Give the environment of trilho's steps: threads that wait leave the cores to those that work."""
    defaults = {"OMP_NUM_THREADS": str(max(1, CORES // 2)), "OMP_WAIT_POLICY": "PASSIVE"}
    return {**defaults, **os.environ, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1", **more}


def exit_words(code: int) -> str:
    """Say what an exit code means.

    >>> exit_words(-9)
    'killed by SIGKILL, as when memory runs out'
    >>> exit_words(127)
    'exit 127: a command was not found'
    >>> exit_words(1)
    'exit 1'
    """
    if code >= 0:
        return f"exit {code}{': a command was not found' if code == 127 else ''}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"killed by {name}{', as when memory runs out' if name == 'SIGKILL' else ''}"
