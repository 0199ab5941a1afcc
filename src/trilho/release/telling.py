"""What a decision of a rollout rests on, as the journal keeps it and people read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from trilho.core.projection import Rollout
from trilho.core.readings import ShadowStats, VersionStats

if TYPE_CHECKING:
    from trilho.release.comparison import Finding


def tell(
    rollout: Rollout,
    stats: Mapping[int, VersionStats],
    now: datetime,
    findings: Sequence[Finding],
    shadow: ShadowStats | None = None,
) -> dict[str, Any]:
    """Give what a decision rests on, for the journal: counts, and each test's evidence with its threshold."""
    new, old = stats.get(rollout.version, VersionStats()), VersionStats()
    if rollout.champion is not None:
        old = stats.get(rollout.champion, VersionStats())
    since = rollout.share_since
    seconds = (now - datetime.fromisoformat(since)).total_seconds() if since else 0.0
    told: dict[str, Any] = {
        "share": rollout.share,
        "seconds": round(seconds, 3),
        "requests": new.requests,
        "errors": new.errors,
        "refused": new.refused,
        "p95_ms": new.p95_ms,
        "champion_requests": old.requests,
        "champion_errors": old.errors,
        "champion_refused": old.refused,
        "champion_p95_ms": old.p95_ms,
        "evidence_of_more_errors": round(next((x.evidence for x in findings if x.name == "errors"), 0.0), 3),
        "tests": [finding.to_json() for finding in findings],
    }
    return {**told, "shadow": _unseen(shadow)} if rollout.in_shadow and shadow is not None else told


def _unseen(seen: ShadowStats) -> dict[str, Any]:
    """Give the counts of a shadow that people read; not the cuts of its tests."""
    rows = max(seen.rows, 1)
    return {
        "requests": seen.requests,
        "dropped": seen.dropped,
        "errors": seen.errors,
        "refused": seen.refused,
        "rows": seen.rows,
        "disagreement": round(seen.disagreements / rows, 6),
        "mean_difference": seen.sum / rows,
        "p95_ms": seen.p95_ms,
        "champion_p95_ms": seen.champion_p95_ms,
        "slices": {
            name: {
                "rows": part["rows"],
                "disagreement": round(part["disagreements"] / part["rows"], 6),
                "mean_difference": part["sum"] / part["rows"],
            }
            for name, part in sorted(seen.slices.items())
            if part["rows"]
        },
        "worst": seen.worst,
    }
