"""What an endpoint's versions answered, since the router began and since the rollout's present share began.

The router counts from its own start; whatever restarts, differences between two looks at it are added up here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from trilho.core.readings import ShadowStats, VersionStats

Counted = dict[str, Any]  # numbers, and lists and objects of them, that add up
WORST = 20
APART = ("edges_ms", "worst")  # what of a shadow's counts does not add up


@dataclass
class Count:
    """Answers of one version, as differences that add up."""

    requests: int = 0
    rows: int = 0
    errors: int = 0
    refused: int = 0
    latency: list[int] = field(default_factory=list)
    scores: dict[str, int] = field(default_factory=dict)

    def plus(self, other: Count, sign: int = 1) -> Count:
        """Give the sum with another count, or the difference.

        >>> Count(3, 3, 0, 0, [2, 1]).plus(Count(1, 1, 0, 0, [1]), -1)
        Count(requests=2, rows=2, errors=0, refused=0, latency=[1, 1], scores={})
        """
        return Count(**combine(vars(self), vars(other), sign))


@dataclass
class Traffic:
    """Counts by version: `total`, and `since` the moment that `mark` names; `shadows` of those asked unseen."""

    mark: str = ""
    total: dict[int, Count] = field(default_factory=dict)
    since: dict[int, Count] = field(default_factory=dict)
    shadows: dict[int, Counted] = field(default_factory=dict)
    worst: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    edges: list[float] = field(default_factory=list)
    _router: str = ""
    _last: dict[int, Count] = field(default_factory=dict)
    _last_shadows: dict[int, Counted] = field(default_factory=dict)

    def restart(self, mark: str) -> None:
        """Count anew from here on, unless this moment is the one counted from already."""
        if mark != self.mark:
            self.mark, self.since, self.shadows, self.worst = mark, {}, {}, {}

    def update(self, stats: Mapping[str, Any]) -> None:
        """Add what happened since the last look; `stats` is the router's answer."""
        if stats["started"] != self._router:
            self._router, self._last, self._last_shadows = stats["started"], {}, {}
        for text, item in stats["versions"].items():
            number, latency = int(text), item["latency"]
            self.edges = list(latency["edges_ms"])
            counts = (item["requests"], item["rows"], item["errors"], item["refused"])
            seen = Count(*counts, list(latency["counts"]), dict(item.get("scores", {})))
            change = seen.plus(self._last.get(number, Count()), -1)
            self._last[number] = seen
            self.total[number] = self.total.get(number, Count()).plus(change)
            self.since[number] = self.since.get(number, Count()).plus(change)
        for text, item in stats.get("shadow", {}).items():
            self._update_shadow(int(text), item)

    def _update_shadow(self, number: int, item: Mapping[str, Any]) -> None:
        """Add what a version answered unseen since the last look."""
        seen = {name: value for name, value in item.items() if name not in APART}
        for name in ("latency", "champion_latency"):
            self.edges, seen[name] = list(item[name]["edges_ms"]), list(item[name]["counts"])
        change = combine(seen, self._last_shadows.get(number, {}), -1)
        self._last_shadows[number] = seen
        self.shadows[number] = combine(self.shadows.get(number, {}), change)
        rows = {row["id"]: row for row in [*self.worst.get(number, []), *item["worst"]]}
        self.worst[number] = sorted(rows.values(), key=lambda row: -abs(row["difference"]))[:WORST]

    def stats(self, counts: Mapping[int, Count]) -> dict[int, VersionStats]:
        """Give counts as records."""
        return {
            number: VersionStats(
                requests=count.requests,
                errors=count.errors,
                refused=count.refused,
                rows=count.rows,
                p95_ms=quantile(self.edges, count.latency, 0.95),
                latency=count.latency,
                scores=count.scores,
            )
            for number, count in counts.items()
        }

    def shadow(self, number: int) -> ShadowStats:
        """Give what a version answered unseen since the moment counted from."""
        counted = dict(self.shadows.get(number, {}))
        latency, champion = counted.pop("latency", []), counted.pop("champion_latency", [])
        known = {item.name for item in fields(ShadowStats)}
        return ShadowStats(
            **{name: value for name, value in counted.items() if name in known},
            p95_ms=quantile(self.edges, latency, 0.95),
            champion_p95_ms=quantile(self.edges, champion, 0.95),
            worst=self.worst.get(number, []),
        )

    def memory(self) -> dict[str, Any]:
        """Give what a restarted supervisor goes on from."""
        since = {str(n): [c.requests, c.rows, c.errors, c.refused, c.latency, c.scores] for n, c in self.since.items()}
        shadows = {str(n): {"counts": counts, "worst": self.worst.get(n, [])} for n, counts in self.shadows.items()}
        return {"mark": self.mark, "since": since, "edges": self.edges, "shadows": shadows}

    @classmethod
    def from_memory(cls, memory: Mapping[str, Any]) -> Traffic:
        """Go on from a memory; the totals begin anew, as the router does."""
        shadows = memory.get("shadows", {})
        return cls(
            mark=memory.get("mark", ""),
            since={int(number): Count(*count) for number, count in memory.get("since", {}).items()},
            shadows={int(number): kept["counts"] for number, kept in shadows.items()},
            worst={int(number): kept["worst"] for number, kept in shadows.items()},
            edges=memory.get("edges", []),
        )


def combine(one: Any, other: Any, sign: int = 1) -> Any:
    """Add counts of the same shape, or subtract them; what only one of them has counts as 0 in the other.

    >>> combine({"a": 1, "b": [1, 2]}, {"b": [1], "c": {"d": 2}}, -1)
    {'a': 1, 'b': [0, 2], 'c': {'d': -2}}
    """
    if isinstance(one, dict) or isinstance(other, dict):
        ours, theirs = one or {}, other or {}
        return {name: combine(ours.get(name, 0), theirs.get(name, 0), sign) for name in {**ours, **theirs}}
    if isinstance(one, list) or isinstance(other, list):
        ours, theirs = one or [], other or []
        longest = max(len(ours), len(theirs))
        ours, theirs = (x + [0] * (longest - len(x)) for x in (ours, theirs))
        return [a + sign * b for a, b in zip(ours, theirs, strict=True)]
    return one + sign * other


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
