"""A limit on how long a step runs, kept from outside of it: a step that never gives control back ends too."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

from trilho_runtime.steps.guard import Guard, kill_group

TIMED_OUT = 124  # as timeout(1) has it
PASSED_ON = (signal.SIGTERM, signal.SIGINT)


def limited(call: Callable[[], int], seconds: float, say: Callable[[str], None]) -> int:
    """Run a call in a child process with a group of its own, for at most so long, and give its exit code.

    What the call started is killed with it. `say` is told when the call did not end by itself. To be used while there
    is a single thread and nothing heavy has been imported.
    """
    guard = Guard()
    child = os.fork()
    if child == 0:
        _become(call, guard)
    with contextlib.suppress(OSError):  # the child may have done it, or be gone
        os.setpgid(child, child)
    for number in PASSED_ON:
        signal.signal(number, _pass_on(child))
    status: list[int] = []
    waiting = threading.Thread(target=lambda: status.append(os.waitpid(child, 0)[1]), daemon=True)
    waiting.start()
    waiting.join(seconds)
    in_time = not waiting.is_alive()
    kill_group(child)  # what it started too
    waiting.join()
    code = os.waitstatus_to_exitcode(status[0])
    guard.end(child)
    guard.close()
    if not in_time:
        say(f"it ran for {seconds:g} seconds, which is as long as it may")
        return TIMED_OUT
    if code < 0:
        say(f"it was ended by {signal.Signals(-code).name}")
        return 128 - code
    return code


def _become(call: Callable[[], int], guard: Guard) -> None:
    code = 1
    try:
        os.setpgid(0, 0)
        guard.enter()
        code = call()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    finally:
        os._exit(code)


def _pass_on(child: int) -> Callable[[int, FrameType | None], None]:
    def pass_on(number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, number)

    return pass_on
