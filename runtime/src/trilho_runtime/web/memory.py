"""How much memory a process takes up, and how much of it stays at hand."""

from __future__ import annotations

import contextlib
import sys

TRIM, LARGEST_KEPT = -1, -3  # glibc's names are M_TRIM_THRESHOLD and M_MMAP_THRESHOLD
KEPT_BYTES = 16 * 2**20


def memory_bytes(pid: int | str = "self") -> int | None:
    """Give a process's memory, its part only of what it shares with others; None where nobody says.

    >>> (memory_bytes() or 2**20) > 1000
    True
    """
    for name, field in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        try:
            with open(f"/proc/{pid}/{name}", encoding="ascii") as file:  # noqa: PTH123  a server starts without pathlib
                for line in file:
                    if line.startswith(field):
                        return int(line.split()[1]) * 1024
        except OSError:
            continue
    return None


def keep_memory(kept: int = KEPT_BYTES) -> None:
    """Give back what a start took, and from then on keep up to so many freed bytes at hand.

    Left to itself, glibc returns the memory of each large request to the system and asks for it again with the next
    one: a third of what a request of 100 rows costs.
    """
    if sys.platform != "linux":
        return
    import ctypes

    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        library = ctypes.CDLL(None)
        library.malloc_trim(0)
        library.mallopt(TRIM, kept)
        library.mallopt(LARGEST_KEPT, kept)
