"""The fork server: steps start in milliseconds because the libraries they import are already there.

It imports third-party libraries only, never the project's code, and stays single-threaded; each step is a forked
child in a process group of its own. Where forking is unsafe a step is a process of its own instead. When standard
input ends, because the runner closed it or was killed, everything that was started here is killed.
"""

from __future__ import annotations

import collections
import contextlib
import importlib
import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trilho_runtime.describe import imports_of, python_files
from trilho_runtime.step import run

HALF = 512 * 1024  # of a log: so much is kept of its head, so much of its tail
LAST = 8 * 1024  # of a step's output: so much goes out with its exit, where the log may not have reached the disk
ALWAYS = ("numpy", "trilho_runtime.fit", "trilho_runtime.pack", "trilho_runtime.package")
COMMON = ("pandas", "pyarrow.parquet")
CAN_FORK = sys.platform.startswith("linux")


class Log:
    """A bounded log file: the head is written as it comes, the tail when the step ends."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._room = HALF
        self.last = b""
        self._tail: collections.deque[bytes] = collections.deque()
        self._kept = 0
        self._dropped = 0

    def write(self, data: bytes) -> None:
        """Take a piece of output; a full disk loses the log, not the step."""
        self.last = (self.last + data)[-LAST:]
        head, rest = data[: self._room], data[self._room :]
        if head:
            self._room -= len(head)
            with contextlib.suppress(OSError):
                self._file.write(head)
        if rest:
            self._tail.append(rest)
            self._kept += len(rest)
            while self._kept - len(self._tail[0]) >= HALF:
                self._kept -= len(self._tail[0])
                self._dropped += len(self._tail.popleft())

    def close(self) -> None:
        """Write what is left of the tail."""
        tail = b"".join(self._tail)
        left_out = self._dropped + max(0, len(tail) - HALF)
        note = f"\n[... {left_out} bytes left out ...]\n".encode() if left_out else b""
        with contextlib.suppress(OSError):
            self._file.write(note + tail[-HALF:])
        self._file.close()


@dataclass
class Child:
    """A step that is running: its answer goes out under `id`."""

    id: Any
    pid: int
    output: int
    log: Log


def die_with(descriptor: int) -> None:
    """Kill this process group when the pipe behind a descriptor ends, that is when its other side is gone."""

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(descriptor, 1):
                pass
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True, name="die-with-runner").start()


class Server:
    """One thread, one loop: requests in, children's output into logs, exits out."""

    def __init__(self, commands: int, answers: int, *, fork: bool) -> None:
        self._commands, self._answers = commands, answers
        self._begin = self._fork if fork else self._spawn
        self._children: dict[int, Child] = {}
        self._buffer = b""
        self._alive_read, self._alive_write = os.pipe()
        self._signal_read, self._signal_write = os.pipe()
        for descriptor in (self._signal_read, self._signal_write):
            os.set_blocking(descriptor, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(commands, selectors.EVENT_READ, self._read_commands)
        self._selector.register(self._signal_read, selectors.EVENT_READ, self._reap)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._signal_write, warn_on_full_buffer=False)

    def loop(self) -> None:
        """Serve until standard input ends, then kill what still runs."""
        try:
            while True:
                ready = [key for key, _ in self._selector.select()]
                for key in sorted(ready, key=self._rank):
                    if key.data(key.fd) is False:
                        return
        finally:
            for child in self._children.values():
                _kill(child.pid)

    def _read_commands(self, descriptor: int) -> bool:
        data = os.read(descriptor, 1 << 16)
        if not data:
            return False
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in filter(None, lines):
            command = json.loads(line)
            if "kill" in command:
                for child in [c for c in self._children.values() if c.id == command["kill"]]:
                    _kill(child.pid)
            else:
                self._start(command)
        return True

    def _rank(self, key: selectors.SelectorKey) -> int:
        """Put output before commands before exits, so that no descriptor is closed while it waits its turn."""
        return {self._commands: 1, self._signal_read: 2}.get(key.fd, 0)

    def _start(self, command: dict[str, Any]) -> None:
        try:
            log = Log(Path(command["log"]))
            read, write = os.pipe()
            pid = self._begin(command, write)
        except OSError as error:
            self._answer({"id": command["id"], "exit": 1, "error": f"the step could not start: {error}"})
            return
        os.close(write)
        os.set_blocking(read, False)
        child = Child(command["id"], pid, read, log)
        self._children[pid] = child
        self._selector.register(read, selectors.EVENT_READ, lambda _: self._drain(child))

    def _fork(self, command: dict[str, Any], output: int) -> int:
        with warnings.catch_warnings():  # libraries hold threads of their own that are idle here
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid:
            with contextlib.suppress(OSError):  # the child may have done it, or be gone
                os.setpgid(pid, pid)
            return pid
        code = 1
        try:
            self._become_step(output)
            code = run(command["step"], command["executor_input"], command["path"])
            sys.stderr.flush()
        finally:
            os._exit(code)

    def _become_step(self, output: int) -> None:
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        os.dup2(output, 1)
        os.dup2(output, 2)
        for descriptor in (self._commands, self._answers, self._alive_write, output):
            os.close(descriptor)
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        die_with(self._alive_read)

    def _spawn(self, command: dict[str, Any], output: int) -> int:
        words = [sys.executable, "-m", "trilho_runtime.step", command["step"], "--alive", str(self._alive_read)]
        words += ["--executor-input", json.dumps(command["executor_input"])]
        for folder in command["path"]:
            words += ["--path", folder]
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(self._alive_read,),
            start_new_session=True,
        )
        process.returncode = 0  # the loop reaps it; Popen must not
        return process.pid

    def _drain(self, child: Child) -> None:
        try:
            while data := os.read(child.output, 1 << 16):
                child.log.write(data)
            self._selector.unregister(child.output)  # every writer has closed it
        except BlockingIOError:
            pass

    def _reap(self, descriptor: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(descriptor, 512):
                pass
        for pid in list(self._children):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                self._end(self._children.pop(pid), os.waitstatus_to_exitcode(status))

    def _end(self, child: Child, code: int) -> None:
        _kill(child.pid)  # what the step itself started and left behind
        with contextlib.suppress(KeyError, ValueError):
            self._drain(child)
            self._selector.unregister(child.output)
        os.close(child.output)
        child.log.close()
        self._answer({"id": child.id, "exit": code, "said": child.log.last.decode(errors="replace")})

    def _answer(self, message: dict[str, Any]) -> None:
        os.write(self._answers, json.dumps(message).encode() + b"\n")


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def third_party_imports(folders: list[Path]) -> list[str]:
    """List what a project's files import from elsewhere, read without running any of it."""
    own = {entry.stem for folder in folders if folder.is_dir() for entry in folder.iterdir()}
    known = own | sys.stdlib_module_names | {"trilho_runtime"}
    files = [file for folder in folders for file in python_files(folder)]
    found = {name for file in files for name in imports_of(file) if name.split(".")[0] not in known}
    return sorted(found)


def serve(path: list[str], *, fork: bool) -> int:
    """Preload libraries, then run the steps that standard input asks for until it ends."""
    commands, answers = os.dup(0), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what a library prints while it is imported is no answer
    fork = fork and CAN_FORK
    if fork:
        for name in (*ALWAYS, *COMMON, *third_party_imports([Path(folder) for folder in path])):
            with contextlib.suppress(Exception, SystemExit), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module(name)
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        Server(commands, answers, fork=fork).loop()
    return 0
