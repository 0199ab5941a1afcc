"""What an endpoint's versions answered, since the router began and since the rollout's present share began.

The router counts from its own start; whatever restarts, differences between two looks at it are added up here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trilho.core.readings import VersionStats


@dataclass
class Count:
    """Answers of one version, as differences that add up."""

    requests: int = 0
    rows: int = 0
    errors: int = 0
    refused: int = 0
    latency: list[int] = field(default_factory=list)

    def plus(self, other: Count, sign: int = 1) -> Count:
        """Give the sum with another count, or the difference.

        >>> Count(3, 3, 0, 0, [2, 1]).plus(Count(1, 1, 0, 0, [1]), -1)
        Count(requests=2, rows=2, errors=0, refused=0, latency=[1, 1])
        """
        longest = max(len(self.latency), len(other.latency))
        mine, theirs = (x + [0] * (longest - len(x)) for x in (self.latency, other.latency))
        return Count(
            self.requests + sign * other.requests,
            self.rows + sign * other.rows,
            self.errors + sign * other.errors,
            self.refused + sign * other.refused,
            [a + sign * b for a, b in zip(mine, theirs, strict=True)],
        )


@dataclass
class Traffic:
    """Counts by version: `total`, and `since` the moment that `mark` names."""

    mark: str = ""
    total: dict[int, Count] = field(default_factory=dict)
    since: dict[int, Count] = field(default_factory=dict)
    edges: list[float] = field(default_factory=list)
    _router: str = ""
    _last: dict[int, Count] = field(default_factory=dict)

    def restart(self, mark: str) -> None:
        """Count anew from here on, unless this moment is the one counted from already."""
        if mark != self.mark:
            self.mark, self.since = mark, {}

    def update(self, stats: Mapping[str, Any]) -> None:
        """Add what happened since the last look; `stats` is the router's answer."""
        if stats["started"] != self._router:
            self._router, self._last = stats["started"], {}
        for text, item in stats["versions"].items():
            number, latency = int(text), item["latency"]
            self.edges = list(latency["edges_ms"])
            seen = Count(item["requests"], item["rows"], item["errors"], item["refused"], list(latency["counts"]))
            change = seen.plus(self._last.get(number, Count()), -1)
            self._last[number] = seen
            self.total[number] = self.total.get(number, Count()).plus(change)
            self.since[number] = self.since.get(number, Count()).plus(change)

    def stats(self, counts: Mapping[int, Count]) -> dict[int, VersionStats]:
        """Give counts as records."""
        return {
            number: VersionStats(
                requests=count.requests,
                errors=count.errors,
                refused=count.refused,
                rows=count.rows,
                p95_ms=quantile(self.edges, count.latency, 0.95),
            )
            for number, count in counts.items()
        }

    def memory(self) -> dict[str, Any]:
        """Give what a restarted supervisor goes on from."""
        since = {str(n): [c.requests, c.rows, c.errors, c.refused, c.latency] for n, c in self.since.items()}
        return {"mark": self.mark, "since": since, "edges": self.edges}

    @classmethod
    def from_memory(cls, memory: Mapping[str, Any]) -> Traffic:
        """Go on from a memory; the totals begin anew, as the router does."""
        since = {int(number): Count(*count) for number, count in memory.get("since", {}).items()}
        return cls(mark=memory.get("mark", ""), since=since, edges=memory.get("edges", []))


def quantile(edges: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """Estimate a quantile from bucket counts, by a straight line within its bucket; None without any.

    The last bucket has no upper edge: a quantile in it is given as its lower edge, "at least".

    >>> quantile([1.0, 2.0, 4.0], [0, 100, 0, 0], 0.95)
    1.95
    """
    wanted, below = share * sum(counts), 0
    if wanted == 0:
        return None
    for at, count in enumerate(counts):
        if below + count >= wanted:
            if at >= len(edges):
                break
            low = edges[at - 1] if at else 0.0
            return low + (edges[at] - low) * (wanted - below) / count
        below += count
    return edges[-1] if edges else None
