"""The guard: what it was told of and not told of again is killed when its owner is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from trilho_runtime.steps.guard import Guard, kill_group, watch


@pytest.fixture
def sleepers() -> Iterator[list[subprocess.Popen[bytes]]]:
    made = [subprocess.Popen(["sleep", "300"], start_new_session=True) for _ in range(2)]
    yield made
    for process in made:
        kill_group(process.pid)
        process.wait()


def test_only_groups_that_are_still_there_are_killed(sleepers: list[subprocess.Popen[bytes]]) -> None:
    ended, left = (process.pid for process in sleepers)
    told = f"+{ended}\n+{left}\n-{ended}\n".encode()
    pieces = [told[:3], told[3:9], told[9:], b""]
    watch(lambda: pieces.pop(0))
    assert sleepers[1].wait(20) == -signal.SIGKILL
    assert sleepers[0].poll() is None


def test_a_guard_kills_when_its_owner_lets_go(sleepers: list[subprocess.Popen[bytes]]) -> None:
    guard = Guard()
    assert not guard.is_gone()
    for process in sleepers:
        guard.begin(process.pid)
    guard.end(sleepers[0].pid)
    guard.close()
    assert sleepers[1].wait(20) == -signal.SIGKILL
    assert sleepers[0].poll() is None
    os.waitpid(guard.pid, 0)
    assert guard.is_gone()


def test_a_guard_stays_when_its_owners_terminal_interrupts(sleepers: list[subprocess.Popen[bytes]]) -> None:
    guard = Guard()
    guard.begin(sleepers[0].pid)
    deadline = time.monotonic() + 20
    while os.getsid(guard.pid) != guard.pid:
        assert time.monotonic() < deadline
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(guard.pid, number)
    assert not guard.is_gone()
    guard.close()
    assert sleepers[0].wait(20) == -signal.SIGKILL
    os.waitpid(guard.pid, 0)


def test_killing_a_group_that_is_gone_is_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"], start_new_session=True)
    process.wait()
    kill_group(process.pid)
