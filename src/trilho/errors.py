"""What can go wrong, as a tree; the exit code of each is part of the command line's contract.

TrilhoError                1   something failed
├── UsageError             2   the command, or its arguments, are wrong
│   └── ConfigError        2   trilho.toml or the project's layout is wrong
├── DataError              1   a data file is missing, empty or unreadable
├── StepFailed             1   a step of a pipeline failed
├── PackageError           1   a model package is not what its manifest says
├── JournalError           1   the journal is broken, or cannot be written
├── Refused                3   a gate, a contract or a check said no
├── NotYet                 4   not enough data, or an approval is pending
└── Unreachable            5   a server or a lock did not answer; safe to retry
"""

from __future__ import annotations


class TrilhoError(Exception):
    """Carry one fact and, where there is one, the command or key that changes it.

    >>> print(TrilhoError("port 8080 is in use", hint="trilho serve --port 8081"))
    port 8080 is in use
    Hint: trilho serve --port 8081
    """

    exit_code = 1

    def __init__(self, fact: str, *, hint: str | None = None) -> None:
        self.fact = fact
        self.hint = hint
        super().__init__(fact if hint is None else f"{fact}\nHint: {hint}")

    @property
    def line(self) -> str:
        """The fact in one line, as records keep it: its first, and what that announces with a colon.

        >>> TrilhoError("step fit failed: no\\nTraceback ...").line
        'step fit failed: no'
        >>> TrilhoError("it cannot run here:\\na is gone\\nb too").line
        'it cannot run here: a is gone; b too'
        """
        first, _, listed = self.fact.partition("\n")
        return f"{first} {'; '.join(listed.splitlines())}" if first.endswith(":") and listed else first


class UsageError(TrilhoError):
    """The command or its arguments are wrong."""

    exit_code = 2


class ConfigError(UsageError):
    """The project's settings or layout are wrong."""


class DataError(TrilhoError):
    """A data file is missing, empty or unreadable."""


class StepFailed(TrilhoError):
    """A step of a pipeline failed; the fact ends with the tail of its own output."""


class PackageError(TrilhoError):
    """A model package is not what its manifest says."""


class JournalError(TrilhoError):
    """The journal is broken, or cannot be written."""


class Refused(TrilhoError):
    """A gate, a contract or a check said no."""

    exit_code = 3


class NotYet(TrilhoError):
    """Something needed has not come yet: data, labels, an approval."""

    exit_code = 4


class Unreachable(TrilhoError):
    """A server or a lock did not answer; the same command may be tried again."""

    exit_code = 5
