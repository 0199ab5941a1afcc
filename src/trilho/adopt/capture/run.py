"""Starts the kernel in the notebook's interpreter, follows it, and reads what it left."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trilho.adopt.capture.interpreter import Interpreter
from trilho.adopt.notebook import Notebook
from trilho.adopt.trace import Trace, load_trace
from trilho.errors import TrilhoError, UsageError

KERNEL = Path(__file__).parent / "kernel" / "start.py"
MARK = "TRILHO_ADOPT"  # in the environment of what the notebook starts
TAIL_BYTES = 2000
POLL_SECONDS = 0.5
ENFORCE = True  # by Landlock, where the system has it


@dataclass(frozen=True)
class Progress:
    """Where the notebook's run is."""

    cell: int
    of: int  # cells
    seconds: float  # since the start
    what: str  # the first line of what it does, or what it found
    note: bool = False  # whether it found something


def capture(
    notebook: Notebook,
    interpreter: Interpreter,
    scratch: Path,
    progress: Callable[[Progress], None] = lambda _: None,
    resume: bool = True,
    timeout_seconds: float | None = None,
    checkpoint_seconds: float = 20,
) -> Trace:
    """Run a notebook in its interpreter, and give what was seen.

    A statement that raises ends the run, and the trace says so. Raises TrilhoError when the kernel itself dies, or
    takes longer than `timeout_seconds`; the same call then goes on from its last checkpoint.
    """
    scratch = scratch.resolve()
    for name in ("tmp", "writes", "reads", "values"):
        (scratch / name).mkdir(parents=True, exist_ok=True)
    (scratch / "trace.json").unlink(missing_ok=True)
    events, tell = os.pipe()
    keeper, held = os.pipe()
    given = {"events": tell, "keeper": keeper, "resume": resume, "checkpoint_seconds": checkpoint_seconds,
             "enforce": ENFORCE}  # fmt: skip
    try:
        kernel = _start({**_job(notebook, scratch), **given}, interpreter, scratch, notebook)
    except OSError as error:
        os.close(events)
        os.close(held)
        raise UsageError(
            f"{interpreter.python} cannot be started: {error}", hint="name another with --python"
        ) from None
    finally:
        os.close(tell)
        os.close(keeper)
    run = Following(notebook, progress)
    try:
        late = not run.follow(kernel, events, timeout_seconds)
    finally:
        _end(kernel, scratch)
        os.close(held)
        os.close(events)
    if late:
        raise TrilhoError(f"the notebook ran longer than {timeout_seconds:g} s; it was in {run.place}",
                          hint="give it more time with --timeout; it goes on from the last checkpoint")  # fmt: skip
    if not run.ended or not (scratch / "trace.json").exists():
        raise TrilhoError(f"the notebook's kernel {_fate(kernel.returncode)} in {run.place}: {_tail(scratch)}",
                          hint=_advice(kernel.returncode, interpreter))  # fmt: skip
    return load_trace(scratch)


class Following:
    """Follows a kernel by the lines that it sends."""

    def __init__(self, notebook: Notebook, progress: Callable[[Progress], None]) -> None:
        self.notebook, self.progress = notebook, progress
        self.sources = {statement.id: statement.source for statement in notebook.statements}
        self.cells = len(notebook.cells)
        self.place = "its start"
        self.now: Progress | None = None
        self.cell = 0
        self.ended = False
        self.started = time.monotonic()

    def follow(self, kernel: subprocess.Popen[bytes], events: int, timeout_seconds: float | None) -> bool:
        """Read lines until the kernel is done or dead; give False when that takes too long."""
        rest = b""
        with selectors.DefaultSelector() as selector:
            selector.register(events, selectors.EVENT_READ)
            while not self.ended:
                if timeout_seconds is not None and time.monotonic() - self.started > timeout_seconds:
                    return False
                dead = kernel.poll() is not None
                if not selector.select(0 if dead else POLL_SECONDS):
                    if dead:
                        return True
                    self._still()
                    continue
                block = os.read(events, 1 << 16)
                if not block:
                    return True
                *lines, rest = (rest + block).split(b"\n")
                for line in lines:
                    self._take(json.loads(line))
        return True

    def _still(self) -> None:
        """Say again where it is, for who shows what takes long."""
        if self.now is not None:
            self.progress(replace(self.now, seconds=time.monotonic() - self.started))

    def _take(self, told: dict[str, Any]) -> None:
        kind, seconds = told["kind"], time.monotonic() - self.started
        if kind == "statement":
            self.cell, self.place = told["cell"], f"cell {told['cell']}, line {told['line']}"
            what = self.sources[told["id"]].strip().splitlines()
            code = [line for line in what if not line.lstrip().startswith("#")]
            self.now = Progress(told["cell"], self.cells, seconds, (code or what)[0])
            self.progress(self.now)
        elif kind == "note":
            self.progress(Progress(self.cell, self.cells, seconds, told["text"], note=True))
        elif kind == "end":
            self.ended = True


def _start(job: dict[str, Any], interpreter: Interpreter, scratch: Path, notebook: Notebook) -> subprocess.Popen[bytes]:
    path = scratch / "job.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    with (scratch / "output.txt").open("wb") as output:
        return subprocess.Popen(
            [interpreter.python, str(KERNEL), str(path)], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            pass_fds=(job["events"], job["keeper"]), env=_environment(scratch), cwd=notebook.path.resolve().parent,
            start_new_session=True,
        )  # fmt: skip


def _job(notebook: Notebook, scratch: Path) -> dict[str, Any]:
    statements = [
        {"id": statement.id, "cell": statement.cell, "line": statement.line, "source": statement.source,
         "at": [statement.node.lineno, statement.node.col_offset]}
        for statement in notebook.statements
    ]  # fmt: skip
    return {
        "notebook": notebook.digest, "folder": str(notebook.path.resolve().parent), "scratch": str(scratch),
        "statements": statements,
        "cells": {str(cell.index): cell.code for cell in notebook.cells if cell.code},
    }  # fmt: skip


def _environment(scratch: Path) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    temporary = str(scratch / "tmp")
    return {
        **own, "TMPDIR": temporary, "TMP": temporary, "TEMP": temporary, "JOBLIB_TEMP_FOLDER": temporary,
        "MPLBACKEND": "Agg", "MPLCONFIGDIR": str(scratch / "tmp" / "matplotlib"),
        MARK: str(scratch), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1",
    }  # fmt: skip


def _end(kernel: subprocess.Popen[bytes], scratch: Path) -> None:
    """Kill what is left of the kernel and of the processes it started, those that left its group included."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(kernel.pid, signal.SIGKILL)
    kernel.wait()
    mark = os.fsencode(f"{MARK}={scratch}") + b"\0"
    for folder in Path("/proc").glob("[0-9]*"):  # where there is none, the group has to do
        with contextlib.suppress(OSError):
            if mark in (folder / "environ").read_bytes():
                os.kill(int(folder.name), signal.SIGKILL)


def _advice(code: int, interpreter: Interpreter) -> str:
    if code in (-signal.SIGKILL, -signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS):
        return f"run the notebook with {interpreter.python} and less data, or more memory"
    return "let the cell raise an exception, or leave it out: a notebook that is adopted runs to its last cell"


def _fate(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _tail(scratch: Path) -> str:
    text = (scratch / "output.txt").read_bytes()[-TAIL_BYTES:].decode("utf-8", "replace").strip()
    return text.splitlines()[-1] if text else "it said nothing"
