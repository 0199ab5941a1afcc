"""What a training left, and what a change would do: the answers of a project's verbs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from trilho.core import records as r

OnTask = Callable[[r.TaskResult], None]
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class TrainOutcome:
    """What a training left: a version where it succeeded, and what the gate said of it."""

    run: str
    state: r.RunState
    tasks: list[r.TaskResult]
    version: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    verdict: r.Verdict | None = None
    reason: str = ""
    error: str | None = None
    exit_code: int = 0  # of the error, as in `trilho.errors`
    hint: str | None = None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a change would do, in plain lines, and the records that would be written."""

    lines: list[str]
    payloads: list[r.Payload]
    certificate: r.VersionCertified | None = None
    """What a version that is to be released was seen to answer and bear."""
