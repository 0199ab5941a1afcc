"""Whether processes live, for tests that kill some."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from trilho.core.processes import alive


def eventually(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until something is true, and fail when it does not become so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not become true in time"
        time.sleep(0.02)


def gone(*pids: int) -> bool:
    """Say whether none of these processes lives."""
    return not any(alive(pid) for pid in pids)


def numbers(file: Path, count: int) -> list[int]:
    """Wait until a file holds so many numbers, a line each, and give them."""

    def there() -> bool:
        return file.exists() and len(file.read_text().split()) >= count

    eventually(there)
    return [int(word) for word in file.read_text().split()]


def children(pid: int) -> list[int]:
    """Give a process's children, from /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[1] == str(pid):
            found.append(int(stat.parent.name))
    return found
