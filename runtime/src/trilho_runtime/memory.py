"""How much memory a process takes up."""

from __future__ import annotations


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
