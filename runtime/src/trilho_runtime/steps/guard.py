"""Nothing outlives the process that started it, however that ends.

A guard is a process that only waits. It is told of every process group that begins and ends here, and when the pipe
between it and its owner ends, because the owner ended or was killed, it kills the groups that are left. On Linux the
kernel kills the first process of each group as well (PDEATHSIG), should owner and guard be killed at once.

A process that has called setsid has left its group and is out of reach.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable

SET_PDEATHSIG = 1  # the option of prctl(2)
UNHEARD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LINUX = sys.platform.startswith("linux")


class Guard:
    """The owner's end: to be made while the owner has a single thread."""

    def __init__(self) -> None:
        read, self._write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                _wait_alone(read)
            finally:
                os._exit(0)
        os.close(read)
        self._owner = os.getpid()
        self._prctl = ctypes.CDLL(None).prctl if LINUX else None

    def begin(self, group: int) -> None:
        """Say that a group is there."""
        self._say("+", group)

    def end(self, group: int) -> None:
        """Say that a group has ended, before its number is free for others."""
        self._say("-", group)

    def enter(self) -> None:
        """Put this process, the leader of a new group and a child of the owner, under guard; to be called in it."""
        if self._prctl is not None:
            self._prctl(SET_PDEATHSIG, signal.SIGKILL)
        self.begin(os.getpid())
        if os.getppid() != self._owner:  # it was killed before the kernel was asked
            os._exit(1)
        os.close(self._write)

    def is_gone(self) -> bool:
        """Say whether the guard itself was ended, for the owner to make another."""
        with contextlib.suppress(ChildProcessError):
            return os.waitpid(self.pid, os.WNOHANG)[0] != 0
        return True

    def close(self) -> None:
        """Let go of the pipe: what is still under guard is killed."""
        os.close(self._write)

    def _say(self, sign: str, group: int) -> None:
        with contextlib.suppress(BrokenPipeError):  # the owner makes a new one and tells it all
            os.write(self._write, f"{sign}{group}\n".encode())


def kill_group(group: int) -> None:
    """Kill a process group, if it is there."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _wait_alone(pipe: int) -> None:
    """Be the guard: leave the owner's session, terminal and pipes, and wait for the end of one."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in UNHEARD:
        signal.signal(number, signal.SIG_IGN)
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.closerange(3, pipe)
    os.closerange(pipe + 1, _descriptors())
    watch(lambda: os.read(pipe, 1 << 16))


def watch(read: Callable[[], bytes]) -> None:
    """Follow which groups are there until there is nothing more to read, then kill those that are left."""
    groups: set[int] = set()
    buffer = b""
    while data := read():
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            (groups.add if line[:1] == b"+" else groups.discard)(int(line[1:]))
    for group in groups:
        kill_group(group)


def _descriptors() -> int:
    with contextlib.suppress(OSError, ValueError):
        return min(int(os.sysconf("SC_OPEN_MAX")), 1 << 16)
    return 1 << 10
