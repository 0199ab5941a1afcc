"""The runner's side of the fork server: steps of the project's environment, several at once, none left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotDone
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, NamedTuple

from trilho.errors import StepFailed

AT_ONCE = 2  # steps that a run has side by side
GRACE = 30.0  # seconds for the server to confirm that a step was killed


class Ended(NamedTuple):
    """How a step ended: its exit code, negative for the signal that killed it, and the end of what it printed."""

    code: int
    said: str


class StepServer:
    """A project's interpreter that is kept warm; it is started by the first step that needs it.

    Steps may be asked for from several threads. When this process ends, in whatever way, the server and its steps
    end as well, since they watch the pipes that join them to it.
    """

    def __init__(self, python: Path, source: Path, folder: Path | None = None, *, fork: bool = True) -> None:
        self._words = [str(python), "-m", "trilho_runtime.step", "--serve", "--path", str(source)]
        self._words += [] if fork else ["--no-fork"]
        self._folder = folder or source
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._complaints: IO[bytes] | None = None
        self._waiting: dict[str, Future[Ended]] = {}

    def __enter__(self) -> StepServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(
        self, step: str, executor_input: Mapping[str, Any], *, path: list[str], log: Path, timeout: timedelta
    ) -> Ended:
        """Run one step and say how it ended. Raises StepFailed on a timeout and when the interpreter itself ends."""
        id_, answer = uuid.uuid4().hex, Future[Ended]()
        command = {"id": id_, "step": step, "executor_input": executor_input, "path": path, "log": str(log)}
        with self._lock:
            process = self._started()
            self._waiting[id_] = answer  # of the process that was just seen alive
            self._send(process, command)
        try:
            return answer.result(timeout.total_seconds())
        except NotDone:
            self._kill(id_, answer)
            raise StepFailed(f"it was stopped after {timeout}", hint="raise timeout in [train]") from None
        except BaseException:
            self._kill(id_, answer)
            raise

    def close(self) -> None:
        """Stop the server and whatever still runs in it."""
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
        """Kill the steps that are running now; the server stays."""
        for id_, answer in list(self._waiting.items()):
            self._kill(id_, answer)

    def _kill(self, id_: str, answer: Future[Ended]) -> None:
        with self._lock:
            if self._process is not None and not answer.done():
                self._send(self._process, {"kill": id_})
        with contextlib.suppress(NotDone, StepFailed):
            answer.result(GRACE)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as the server
        try:
            self._process = subprocess.Popen(
                self._words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
                cwd=self._folder,
                env=_environment(),
                start_new_session=True,
            )
        except OSError as error:
            raise StepFailed(f"the project's interpreter does not start: {error}") from None
        self._waiting = {}
        listener = threading.Thread(target=self._listen, args=(self._process, self._waiting), daemon=True, name="steps")
        listener.start()
        return self._process

    def _send(self, process: subprocess.Popen[bytes], command: Mapping[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # then the listener tells those who wait
            if process.stdin is not None:
                process.stdin.write(json.dumps(command).encode() + b"\n")
                process.stdin.flush()

    def _listen(self, process: subprocess.Popen[bytes], waiting: dict[str, Future[Ended]]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            answer = json.loads(line)
            one = waiting.pop(answer["id"])
            if "error" in answer:
                one.set_exception(StepFailed(answer["error"]))
            else:
                one.set_result(Ended(answer["exit"], answer["said"]))
        code = process.wait()
        with self._lock:
            left, told = list(waiting.values()), self._told()
            waiting.clear()
        for one in left:
            one.set_exception(StepFailed(f"the project's interpreter ended ({exit_words(code)}){told}"))

    def _told(self) -> str:
        if self._complaints is None:
            return ""
        with contextlib.suppress(OSError, ValueError):
            self._complaints.seek(0)
            text = self._complaints.read().decode(errors="replace").strip()
            return f": {text.splitlines()[-1]}" if text else ""
        return ""


def _environment() -> dict[str, str]:
    """Give the steps' environment: two run at once, and threads that wait must leave the cores to those that work."""
    shared = str(max(1, (os.cpu_count() or 1) // AT_ONCE))
    defaults = {"OMP_NUM_THREADS": shared, "OMP_WAIT_POLICY": "PASSIVE"}
    return {**defaults, **os.environ, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}


def exit_words(code: int) -> str:
    """Say what an exit code means.

    >>> exit_words(-9)
    'killed by SIGKILL, as when memory runs out'
    >>> exit_words(1)
    'exit 1'
    """
    if code >= 0:
        return f"exit {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"killed by {name}{', as when memory runs out' if name == 'SIGKILL' else ''}"
