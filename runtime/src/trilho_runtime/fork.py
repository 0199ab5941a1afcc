"""The keeper of what a run starts: steps forked from a warm interpreter, and commands of any kind.

Steps start in milliseconds because the libraries that they import are already there: third-party libraries only, never
the project's code. The keeper stays single-threaded; each step or command is a process group of its own, whose output
goes into a bounded log. Where forking is unsafe a step is a process of its own instead. When standard input ends,
because the runner closed it or was killed, and when the keeper itself is killed, everything that was started here is
killed; only what has left its group by setsid(2) is out of reach.

`python -m trilho_runtime.fork` takes one JSON object a line: {"id", "step", "executor_input", "path", "log"} or
{"id", "argv", "environment", "folder", "log"}, and {"kill": id}. It answers {"id", "started": pid}, then
{"id", "exit", "said"} or {"id", "exit", "error"}.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import importlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trilho_runtime.describe import imports_of, python_files
from trilho_runtime.step import run
from trilho_runtime.steps.guard import Guard, kill_group

HALF = 512 * 1024  # of a log: so much is kept of its head, so much of its tail
LAST = 8 * 1024  # of a step's output: so much goes out with its exit, where the log may not have reached the disk
PIECE = 1 << 16
LEAVE = 2.0  # seconds for what was killed to end, so that its temporary files can go
PIECES = 16  # of one process's output before it is the others' turn
ALWAYS = ("numpy", "trilho_runtime.fit", "trilho_runtime.pack", "trilho_runtime.package")
COMMON = ("pandas", "pyarrow.parquet")
ALONE = (
    "import sys; import trilho_runtime.step as s; a = sys.argv[1:]; sys.exit(s.run(a[0], s.read_request(a[1]), a[2:]))"
)
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
    """A step or command that is running: its answer goes out under `id`."""

    id: Any
    pid: int
    output: int
    log: Log
    temporary: Path | None


class Server:
    """One thread, one loop: requests in, children's output into logs, exits out."""

    def __init__(self, commands: int, answers: int, guard: Guard, *, fork: bool) -> None:
        self._commands, self._answers, self._guard = commands, answers, guard
        self._can_fork = fork
        self._children: dict[int, Child] = {}
        self._buffer = b""
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
            for pid in self._children:
                kill_group(pid)
            deadline = time.monotonic() + LEAVE
            while self._children and time.monotonic() < deadline:
                self._children = {pid: child for pid, child in self._children.items() if not self._is_over(child)}
                time.sleep(0.005)

    def _is_over(self, child: Child) -> bool:
        """Say whether a child that was killed has ended, and then remove what it wrote."""
        over = self._exit_of(child.pid) is not None
        if over:
            _remove(child.temporary)
        return over

    def _rank(self, key: selectors.SelectorKey) -> int:
        """Put output before commands before exits, so that no descriptor is closed while it waits its turn."""
        return {self._commands: 1, self._signal_read: 2}.get(key.fd, 0)

    def _read_commands(self, descriptor: int) -> bool:
        data = os.read(descriptor, PIECE)
        if not data:
            return False
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in filter(None, lines):
            command = json.loads(line)
            if "kill" in command:
                for child in [c for c in self._children.values() if c.id == command["kill"]]:
                    kill_group(child.pid)
            else:
                self._start(command)
        return True

    def _start(self, command: dict[str, Any]) -> None:
        forks = "step" in command and self._can_fork
        temporary = None
        try:
            log = Log(Path(command["log"]))
            temporary = None if forks else Path(tempfile.mkdtemp(prefix="trilho-"))
            read, write = os.pipe()
            try:
                pid = self._fork(command, read, write) if temporary is None else self._spawn(command, write, temporary)
            except BaseException:
                os.close(read)
                raise
            finally:
                os.close(write)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            _remove(temporary)
            self._answer({"id": command["id"], "exit": 1, "error": f"it could not start: {error}"})
            return
        os.set_blocking(read, False)
        child = Child(command["id"], pid, read, log, temporary)
        self._children[pid] = child
        self._selector.register(read, selectors.EVENT_READ, lambda _: self._drain(child))
        self._answer({"id": child.id, "started": pid})

    def _fork(self, command: dict[str, Any], unused: int, output: int) -> int:
        with warnings.catch_warnings():  # libraries hold threads of their own that are idle here
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid:
            with contextlib.suppress(OSError):  # the child may have done it, or be gone
                os.setpgid(pid, pid)
            return pid
        code = 1
        try:
            os.close(unused)
            self._become_step(output)
            os.environ.update(command.get("environment", {}))
            code = run(command["step"], command["executor_input"], command["path"])
            sys.stderr.flush()
        finally:
            os._exit(code)

    def _become_step(self, output: int) -> None:
        os.setpgid(0, 0)
        self._guard.enter()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        os.dup2(output, 1)
        os.dup2(output, 2)
        others = [child.output for child in self._children.values()]
        for descriptor in (self._commands, self._answers, self._signal_read, self._signal_write, output, *others):
            os.close(descriptor)
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]

    def _spawn(self, command: dict[str, Any], output: int, temporary: Path) -> int:
        environment = {**os.environ, **command.get("environment", {})}
        if "step" in command:
            words = _words(command, temporary)
        else:
            words = command["argv"]
            environment = {**command["environment"], "TMPDIR": str(temporary)}
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=command.get("folder"),
            env=environment,
            start_new_session=True,
            restore_signals=False,
            preexec_fn=self._enter_command,
        )
        process.returncode = 0  # the loop reaps it; Popen must not
        return process.pid

    def _enter_command(self) -> None:
        self._guard.enter()
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores; a guard that is gone must not kill here
            signal.signal(number, signal.SIG_DFL)

    def _drain(self, child: Child) -> None:
        try:
            for _ in range(PIECES):
                data = os.read(child.output, PIECE)
                if not data:  # every writer has closed it
                    self._selector.unregister(child.output)
                    return
                child.log.write(data)
        except BlockingIOError:
            pass

    def _reap(self, descriptor: int) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(descriptor, 512):
                pass
        for pid in list(self._children):
            code = self._exit_of(pid)
            if code is not None:
                self._end(self._children.pop(pid), code)
        if self._guard.is_gone():
            self._guard.close()
            self._guard = Guard()
            for pid in self._children:
                self._guard.begin(pid)

    def _exit_of(self, pid: int) -> int | None:
        """Take a child's exit code once it has ended, and kill what it started itself and left behind.

        That is done before the child is reaped where the system allows (macOS: since Python 3.13), while its number
        cannot be anybody else's.
        """
        can_look = hasattr(os, "waitid")
        if can_look:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return None
            self._clear(pid)
        done, status = os.waitpid(pid, os.WNOHANG)
        if not done:
            return None
        if not can_look:
            self._clear(pid)
        return os.waitstatus_to_exitcode(status)

    def _clear(self, pid: int) -> None:
        kill_group(pid)
        self._guard.end(pid)

    def _end(self, child: Child, code: int) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._drain(child)
            self._selector.unregister(child.output)
        os.close(child.output)
        child.log.close()
        _remove(child.temporary)
        self._answer({"id": child.id, "exit": code, "said": child.log.last.decode(errors="replace")})

    def _answer(self, message: dict[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(self._answers, data) :]


def _words(command: dict[str, Any], temporary: Path) -> list[str]:
    request = temporary / "executor_input.json"  # it may be longer than an argument can be
    request.write_text(json.dumps(command["executor_input"]), encoding="utf-8")
    return [sys.executable, "-c", ALONE, command["step"], str(request), *command["path"]]


def _remove(folder: Path | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def third_party_imports(folders: list[Path]) -> list[str]:
    """List what a project's files import from elsewhere, read without running any of it."""
    own = {entry.stem for folder in folders if folder.is_dir() for entry in folder.iterdir()}
    known = own | sys.stdlib_module_names | {"trilho_runtime"}
    files = [file for folder in folders for file in python_files(folder)]
    found = {name for file in files for name in imports_of(file) if name.split(".")[0] not in known}
    return sorted(found)


def serve(path: list[str], preload: list[str] | None = None, *, fork: bool) -> int:
    """Preload libraries, then run what standard input asks for until it ends.

    `preload` names the modules to import instead of what steps under `path` are seen to need.
    """
    guard = Guard()  # while this process is small and has one thread
    commands, answers = os.dup(0), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what a library prints while it is imported is no answer
    fork = fork and CAN_FORK
    if fork:
        seen = (*ALWAYS, *COMMON, *third_party_imports([Path(folder) for folder in path]))
        for name in seen if preload is None else preload:
            with contextlib.suppress(Exception, SystemExit), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module(name)
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        Server(commands, answers, guard, fork=fork).loop()
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Keep what a runner starts."""
    parser = argparse.ArgumentParser(prog="python -m trilho_runtime.fork", description=main.__doc__)
    parser.add_argument("--path", action="append", default=[], help="a folder whose steps will be asked for")
    parser.add_argument("--preload", action="append", help="a module to import before; without, what --path needs")
    parser.add_argument("--no-preload", action="store_const", const=[], dest="preload", help="import nothing before")
    parser.add_argument("--no-fork", action="store_true", help="each step is a process of its own")
    given = parser.parse_args(arguments)
    return serve(given.path, given.preload, fork=not given.no_fork)


if __name__ == "__main__":
    sys.exit(importlib.import_module("trilho_runtime.fork").main())
