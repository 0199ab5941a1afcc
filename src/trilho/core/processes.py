"""Whether a process of this machine still lives."""

from __future__ import annotations

import os
from pathlib import Path


def alive(pid: int) -> bool:
    """Say whether a process lives; one that has ended and that nobody has waited for does not.

    >>> alive(os.getpid())
    True
    """
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    return not _ended(pid)


def _ended(pid: int) -> bool:
    # In a container whose first process waits for nobody, an orphan that has ended keeps its number for ever.
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # no /proc (macOS), or it has gone this moment
        return False
    return stat.rpartition(")")[2].split()[0] in "ZX"
