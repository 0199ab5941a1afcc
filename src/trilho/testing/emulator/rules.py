"""What goes wrong on purpose: permissions that are denied, failures that are injected, latency.

One set of rules stands before every method of every service, whatever carries the call: a method is named by its gRPC
name (`CreatePipelineJob`) or by the permission that it needs (`aiplatform.pipelineJobs.create`), with `*` for any part.
There are no roles here: what no rule denies is allowed to everybody.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Self

from trilho.errors import UsageError

CODES = {
    "CANCELLED": 1, "UNKNOWN": 2, "INVALID_ARGUMENT": 3, "DEADLINE_EXCEEDED": 4, "NOT_FOUND": 5, "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7, "RESOURCE_EXHAUSTED": 8, "FAILED_PRECONDITION": 9, "ABORTED": 10, "OUT_OF_RANGE": 11,
    "UNIMPLEMENTED": 12, "INTERNAL": 13, "UNAVAILABLE": 14, "DATA_LOSS": 15, "UNAUTHENTICATED": 16,
}  # fmt: skip
MESSAGES = {
    "UNAVAILABLE": "The service is currently unavailable.",
    "INTERNAL": "Internal error encountered.",
    "RESOURCE_EXHAUSTED": "Quota exceeded.",
    "DEADLINE_EXCEEDED": "Deadline exceeded.",
    "UNAUTHENTICATED": (
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
        "authentication credential."
    ),
}


class Refusal(Exception):
    """What a caller is told instead of an answer: a canonical status, a message, and the reason that a machine reads.

    >>> Refusal("NOT_FOUND", "no such model").code
    5
    """

    def __init__(self, status: str, message: str, *, reason: str = "", **metadata: str) -> None:
        self.status, self.message, self.reason, self.metadata = status, message, reason, metadata
        super().__init__(f"{status}: {message}")

    @property
    def code(self) -> int:
        """The number of the status in google.rpc.Code."""
        return CODES[self.status]


@dataclass
class Failure:
    """A failure that calls of a method meet: the next `left` of them, or all of them when it is None."""

    method: str
    status: str
    left: int | None = None


class Rules:
    """What stands before each method; threads may share it."""

    def __init__(
        self, deny: Sequence[str] = (), failures: Sequence[Failure] = (), latency: Mapping[str, float] | None = None
    ) -> None:
        self.deny = list(deny)
        self.failures = list(failures)
        self.latency = dict(latency or {})
        self._lock = threading.Lock()

    @classmethod
    def parse(cls, deny: Sequence[str] = (), fail: Sequence[str] = (), latency: Sequence[str] = ()) -> Self:
        """Read the rules as the command line has them. Raises UsageError.

        >>> rules = Rules.parse(["aiplatform.*"], ["CreatePipelineJob=UNAVAILABLE:2"], ["0.1", "Predict=0.5"])
        >>> rules.failures[0].status, rules.failures[0].left, rules.latency
        ('UNAVAILABLE', 2, {'*': 0.1, 'Predict': 0.5})
        """
        return cls(deny, [read_failure(text) for text in fail], dict(read_latency(text) for text in latency))

    def enter(self, permission: str, resource: str, method: str = "") -> None:
        """Wait, let the call pass, or raise Refusal."""
        names = tuple(name for name in (method, permission) if name)
        delay = next((self.latency[key] for key in sorted(self.latency, key=len, reverse=True) if _hit(key, names)), 0)
        if delay:
            time.sleep(delay)
        if status := self._failure(names):
            raise Refusal(status, MESSAGES.get(status, f"{status.lower().replace('_', ' ')}, as the emulator was told"))
        if any(_hit(rule, names) for rule in self.deny):
            raise denied(permission, resource)

    def _failure(self, names: tuple[str, ...]) -> str | None:
        with self._lock:
            for failure in self.failures:
                if failure.left != 0 and _hit(failure.method, names):
                    failure.left = None if failure.left is None else failure.left - 1
                    return failure.status
        return None


def denied(permission: str, resource: str) -> Refusal:
    """Word a missing permission as Google does.

    >>> denied("aiplatform.models.get", "m/1").message
    "Permission 'aiplatform.models.get' denied on resource '//aiplatform.googleapis.com/m/1' (or it may not exist)."
    """
    service = f"{permission.partition('.')[0]}.googleapis.com"
    message = f"Permission '{permission}' denied on resource '//{service}/{resource}' (or it may not exist)."
    return Refusal(
        "PERMISSION_DENIED",
        message,
        reason="IAM_PERMISSION_DENIED",
        domain=service,
        permission=permission,
        resource=resource,
    )


def read_failure(text: str) -> Failure:
    """Read METHOD=STATUS or METHOD=STATUS:COUNT. Raises UsageError.

    >>> read_failure("DeployModel=INTERNAL")
    Failure(method='DeployModel', status='INTERNAL', left=None)
    """
    method, _, rest = text.partition("=")
    status, colon, count = rest.partition(":")
    if not method or status not in CODES or (colon and not count.isdecimal()):
        hint = f"such as CreatePipelineJob=UNAVAILABLE:2; STATUS is one of {', '.join(CODES)}"
        raise UsageError(f"a failure to inject is METHOD=STATUS:COUNT, not {text!r}", hint=hint)
    return Failure(method, status, int(count) if colon else None)


def read_latency(text: str) -> tuple[str, float]:
    """Read SECONDS or METHOD=SECONDS. Raises UsageError."""
    method, equals, rest = text.rpartition("=")
    try:
        seconds = float(rest)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf") or (equals and not method):
        raise UsageError(f"a latency is SECONDS or METHOD=SECONDS, not {text!r}", hint="such as 0.2 or Predict=0.2")
    return method or "*", seconds


def _hit(pattern: str, names: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names)
