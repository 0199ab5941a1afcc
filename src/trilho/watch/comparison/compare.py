"""Two tables compared, column by column: which of them drifted, by how much, and how sure that is."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from trilho.errors import NotYet, UsageError
from trilho.watch.comparison.counting import Pair, counts_of
from trilho.watch.comparison.decision import FLOOR, RATE, Decision, decide


@dataclass(frozen=True)
class Compared:
    """One column in both tables: its counts, and what was decided on them."""

    pair: Pair
    decision: Decision

    @property
    def moved(self) -> int:
        """Give the bin whose share changed most."""
        return int(np.argmax(np.abs(self.shares[1] - self.shares[0])))

    @property
    def shares(self) -> tuple[Any, Any]:
        """Give each bin's share of the first and of the second table."""
        before, after = self.pair.before, self.pair.after
        return before / max(int(before.sum()), 1), after / max(int(after.sum()), 1)

    def to_json(self) -> dict[str, Any]:
        """Give what was found as JSON values."""
        found, (before, after) = self.decision, self.shares
        said = {
            "drifted": found.drifted,
            "distance": round(found.distance, 6),
            "interval": [round(found.low, 6), round(found.high, 6)],
            "kind": self.pair.kind,
            "p": found.p,
            "q": found.q,
            "moved": {"bin": self.pair.labels[self.moved], "before": round(float(before[self.moved]), 6),
                      "after": round(float(after[self.moved]), 6)},
        }  # fmt: skip
        return {**said, "note": self.pair.note} if self.pair.note else said


@dataclass(frozen=True)
class Comparison:
    """A comparison of two tables; `columns` are in the order of the first table."""

    columns: dict[str, Compared]
    skipped: dict[str, str]
    rows: tuple[int, int]
    rate: float
    floor: float
    strict: bool
    seconds: float

    @property
    def drifted(self) -> list[str]:
        """Name the columns that drifted, the furthest first."""
        found = [(-one.decision.distance, name) for name, one in self.columns.items() if one.decision.drifted]
        return [name for _, name in sorted(found)]

    def to_json(self) -> dict[str, Any]:
        """Give what was found as JSON values."""
        return {
            "columns": {name: one.to_json() for name, one in self.columns.items()},
            "drifted": self.drifted,
            "skipped": self.skipped,
            "rows": list(self.rows),
            "false_discovery_rate": self.rate,
            "floor": self.floor,
            "strict": self.strict,
            "seconds": round(self.seconds, 3),
        }


def compare(
    reference: Any,
    current: Any,
    *,
    rate: float = RATE,
    floor: float = FLOOR,
    strict: bool = False,
    ignore: Collection[str] = (),
) -> Comparison:
    """Compare two tables: paths, patterns, folders, pandas frames, Arrow tables, or whatever else DuckDB registers.

    A column drifted when its difference is none of chance's (at this false-discovery rate over all columns) and no
    smaller than `floor`, in total variation; `strict` asks for evidence that it is larger than the floor.
    """
    if not 0 < rate < 1 or not 0 <= floor < 1:
        raise UsageError(
            f"rate {rate:g} and floor {floor:g}; allowed: a rate above 0 and below 1, a floor from 0 to below 1",
            hint=f"leave them out: they are {RATE:g} and {FLOOR:g}",
        )
    began = time.perf_counter()
    counted = counts_of(reference, current, ignore)
    if not all(counted.rows):
        place = "first" if not counted.rows[0] else "second"
        raise NotYet(f"the {place} table has no rows", hint="compare again when there are some")
    found = decide([(pair.before, pair.after) for pair in counted.pairs], rate=rate, floor=floor, strict=strict)
    columns = {pair.name: Compared(pair, one) for pair, one in zip(counted.pairs, found, strict=True)}
    took = time.perf_counter() - began
    return Comparison(columns, counted.skipped, counted.rows, rate, floor, strict, took)
