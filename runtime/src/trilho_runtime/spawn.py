"""How a worker is started: a fork of a parent that has imported what every server needs, where that is safe.

What the parent has imported the children share, and need not import again: a worker that died is back in a moment. Only
libraries are imported before, nothing of the project's; and a process with more than one thread is never forked, since
what the other threads held would stay held for ever.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

MODULE = "trilho_runtime.server"
DEFAULT = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


def start(arguments: Sequence[str], passed: Sequence[int], apart: Sequence[int]) -> int:
    """Start a server that inherits the open files in `passed` and none of those in `apart`; give its pid."""
    if not may_fork():
        return _spawn(arguments, passed)
    preload()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    pid = os.fork()
    if pid == 0:
        _become(arguments, apart)
    return pid


def may_fork() -> bool:
    """Say whether this process may be forked: on Linux, with one thread.

    >>> isinstance(may_fork(), bool)
    True
    """
    if sys.platform != "linux":
        return False
    try:
        return len(os.listdir("/proc/self/task")) == 1  # noqa: PTH208
    except OSError:
        return False


def preload() -> None:
    """Import what every server needs, once, and keep the collector away from it, which would write to all of it."""
    with contextlib.suppress(Exception):  # what cannot be imported a worker reports
        from trilho_runtime import package  # noqa: F401
        from trilho_runtime.serving import loaded, predict  # noqa: F401
        from trilho_runtime.web import service  # noqa: F401

    gc.collect()
    gc.freeze()


def _become(arguments: Sequence[str], apart: Sequence[int]) -> None:
    """Be the worker, and end with it: nothing of the parent's is to be done twice."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in DEFAULT:
            signal.signal(number, signal.SIG_DFL)
        for descriptor in apart:
            os.close(descriptor)
        from trilho_runtime import server

        code = server.main(arguments)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001  whatever it is, the parent's code must not go on here
        traceback.print_exc()
    finally:
        os._exit(code)


def _spawn(arguments: Sequence[str], passed: Sequence[int]) -> int:
    for descriptor in passed:
        os.set_inheritable(descriptor, True)
    command = [sys.executable, "-m", MODULE, *arguments]
    source = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    pid = os.posix_spawn(sys.executable, command, {**os.environ, "PYTHONPATH": path}, setsigmask=(), setsigdef=DEFAULT)
    os.set_inheritable(passed[-1], False)
    return pid
