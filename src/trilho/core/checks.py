"""One thing that the gate looked at, what it found, and how several of them make one verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trilho.core.records import Verdict


@dataclass(frozen=True)
class Check:
    """One check: its verdict, in words too. One that does not block says `not enough data` and lets pass."""

    name: str
    verdict: Verdict
    note: str
    blocks: bool = True
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether it stands in nobody's way."""
        return self.verdict == "pass" or (self.verdict == "not enough data" and not self.blocks)

    def to_json(self) -> dict[str, Any]:
        """Give the check as it stands in a verdict's evidence.

        >>> Check("size", "pass", "3 MB").to_json()
        {'name': 'size', 'ok': True, 'verdict': 'pass', 'note': '3 MB'}
        """
        return {"name": self.name, "ok": self.ok, "verdict": self.verdict, "note": self.note, **self.figures}


def compose(
    verdict: Verdict, evidence: Mapping[str, Any], checks: Sequence[Check], **more: Any
) -> tuple[Verdict, dict[str, Any]]:
    """Let further checks have their say on a verdict: any fail is one, and the reason is the first's.

    >>> slow = Check("latency", "fail", "too slow")
    >>> compose("pass", {"checks": [], "reason": "better"}, [slow])[1]["reason"]
    'latency: too slow'
    """
    found = {**evidence, **more, "checks": [*evidence.get("checks", []), *(check.to_json() for check in checks)]}
    against: dict[Verdict, Sequence[Verdict]] = {"pass": ("fail", "not enough data"), "not enough data": ("fail",)}
    for worse in against.get(verdict, ()):
        first = next((check for check in checks if not check.ok and check.verdict == worse), None)
        if first is not None:
            return worse, {**found, "reason": f"{first.name}: {first.note}"}
    return verdict, found


def as_json(value: float) -> float | None:
    """Give a number as JSON can hold it."""
    return float(value) if math.isfinite(value) else None


def short(value: float) -> str:
    """Give a number as a sentence holds it."""
    return f"{value:.4g}"
