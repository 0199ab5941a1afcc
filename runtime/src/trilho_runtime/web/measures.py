"""Counters of requests and their latencies, as Prometheus text."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trilho_runtime.web.http import Answer

NAMED_EXTRAS = 100  # unknown fields beyond so many are counted together
OTHERS = "(others)"
EDGES_MS = (
    0.5,
    0.75,
    1,
    1.5,
    2,
    3,
    4,
    6,
    8,
    12,
    16,
    24,
    32,
    48,
    64,
    96,
    128,
    192,
    256,
    384,
    512,
    1024,
    2048,
    4096,
    8192,
)


@dataclass
class Latency:
    """How long answers took: counts between fixed edges, so that counts of many places and times add up."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(EDGES_MS) + 1))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one answer.

        >>> latency = Latency()
        >>> latency.add(0.0007); latency.counts[:3]
        [0, 1, 0]
        """
        self.counts[bisect_left(EDGES_MS, seconds * 1000)] += 1
        self.total += seconds

    def to_json(self) -> dict[str, Any]:
        """Give edges and counts; the last count is what took longer than every edge."""
        return {"edges_ms": list(EDGES_MS), "counts": list(self.counts)}


class Tally:
    """What one process has answered; any thread may count."""

    def __init__(self) -> None:
        self.codes: Counter[int] = Counter()
        self.extra: Counter[str] = Counter()
        self.past: Counter[str] = Counter()
        self.rows = self.shadow_rows = self.undecided = 0
        self.undecided_why = ""
        self.latency = Latency()
        self._lock = threading.Lock()

    def add_extra(self, name: str) -> None:
        """Count a field that the model does not know, by name as long as there are few.

        >>> tally = Tally()
        >>> tally.add_extra("new"); tally.add_extra("new"); dict(tally.extra)
        {'new': 2}
        """
        with self._lock:
            known = len(self.extra) < NAMED_EXTRAS or name in self.extra
            self.extra[name if known else OTHERS] += 1

    def add_rows(self, rows: int, shadow_rows: int) -> None:
        """Count rows that were predicted: for callers, and for nobody to see."""
        with self._lock:
            self.rows += rows
            self.shadow_rows += shadow_rows

    def add_past(self, states: Iterable[str]) -> None:
        """Count rows by how the past that they were given stood to them."""
        with self._lock:
            self.past.update(states)

    def add_undecided(self, rows: int, why: str) -> None:
        """Count rows on which the rule failed, and keep how it last did."""
        if rows:
            with self._lock:
                self.undecided += rows
                self.undecided_why = why


def metric(name: str, help_text: str, values: Iterable[tuple[Mapping[str, Any], float]], kind: str = "counter") -> str:
    """Give one metric with its labels.

    >>> print(metric("rows_total", "Rows.", [({"version": 1}, 3)]))
    # HELP rows_total Rows.
    # TYPE rows_total counter
    rows_total{version="1"} 3
    """
    lines = [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]
    return "\n".join(lines + [f"{name}{_labels(labels)} {value!r}" for labels, value in values])


def histogram(name: str, help_text: str, values: Iterable[tuple[Mapping[str, Any], Latency]]) -> str:
    """Give latencies as a cumulative histogram in seconds."""
    lines = [f"# HELP {name} {help_text}", f"# TYPE {name} histogram"]
    for labels, latency in values:
        seen = 0
        for edge, count in zip((*EDGES_MS, None), latency.counts, strict=True):
            seen += count
            lines.append(
                f"{name}_bucket{_labels({**labels, 'le': '+Inf' if edge is None else f'{edge / 1000:g}'})} {seen}"
            )
        lines.append(f"{name}_sum{_labels(labels)} {latency.total!r}")
        lines.append(f"{name}_count{_labels(labels)} {seen}")
    return "\n".join(lines)


def answer(parts: Iterable[str]) -> Answer:
    """Give metrics as an answer that Prometheus reads."""
    return Answer(200, "\n".join([*parts, ""]).encode(), content_type="text/plain; version=0.0.4; charset=utf-8")


def _labels(labels: Mapping[str, Any]) -> str:
    def escaped(value: Any) -> str:
        return str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    return "{" + ",".join(f'{k}="{escaped(v)}"' for k, v in labels.items()) + "}" if labels else ""
