"""What counts as slower: over twice the champion's time and 20 ms more, in terms of the edges that latencies have."""

from __future__ import annotations

from bisect import bisect_left
from functools import cache

from trilho_runtime.web.measures import EDGES_MS

SLOWER_TIMES, SLOWER_MS = 2.0, 20.0  # a version may take so many times as long as the champion, and so much more


@cache
def allowed_edges() -> tuple[int, ...]:
    """Give for each edge of the champion's latency the edge that the other version must not be over.

    >>> EDGES_MS[10], EDGES_MS[allowed_edges()[10]]
    (16, 64)
    """
    later = (bisect_left(EDGES_MS, SLOWER_TIMES * edge + SLOWER_MS) for edge in EDGES_MS)
    return tuple(at for at in later if at < len(EDGES_MS))


def place(seconds: float) -> int:
    """Give the place of a latency among the edges.

    >>> place(0.0007)
    1
    """
    return bisect_left(EDGES_MS, seconds * 1000)
