"""What is done about a score, in versions of its own: packed, allowed, released, rolled back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from trilho.core.records.payload import Payload, kind


@kind("decision.packaged")
@dataclass(frozen=True, kw_only=True)
class DecisionPackaged(Payload):
    """The project's `decide` became a decision version, kept under the digest of its code."""

    decision: int
    artifact: str
    reference: str
    commit: str | None
    commit_time: str | None
    run: str | None  # the training that packed it; None for a person


@kind("decision.approved")
@dataclass(frozen=True, kw_only=True)
class DecisionApproved(Payload):
    """A person allowed a decision to be released; the record's actor is that person."""

    decision: int
    why: str


@kind("decision.released")
@dataclass(frozen=True, kw_only=True)
class DecisionReleased(Payload):
    """A decision holds from now on, whichever version of the model answers."""

    decision: int
    replaced: int | None
    why: str
    evidence: dict[str, Any] = field(default_factory=dict)  # rows, changed, before, after, failed; what it was tried on


@kind("decision.restored")
@dataclass(frozen=True, kw_only=True)
class DecisionRestored(Payload):
    """A decision was rolled back: an earlier one holds again."""

    decision: int
    replaced: int
    why: str
