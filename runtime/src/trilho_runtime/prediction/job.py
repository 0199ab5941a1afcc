"""What every protocol asks the data plane, and what it gets: rows in, scores and ids out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Entries = Literal["plain", "full"]


@dataclass(frozen=True, slots=True)
class Job:
    """One request's rows, and what names their predictions.

    `rows` are JSON objects {field: value}; a protocol that takes arrays makes objects of them. `entries` is how the
    caller wants a prediction told; None leaves it to the server's own setting. A shadow job is answered to nobody but
    the router: its lines say so, and it counts in no profile. `attempt` is how often the router has sent the request
    before, to a server that may have written its lines and ended: of an id that is in the log more than once, the
    latest attempt's line is what the caller was told.

    >>> Job("a9f7ba6f72dacd66a21e8ea9", [{"x": 1.0}, {"x": 2.0}]).size
    2
    """

    identity: str
    rows: Sequence[Any]
    past: Sequence[Any] = ()
    entries: Entries | None = None
    shadow: bool = False
    attempt: int = 0

    @property
    def size(self) -> int:
        """Give the number of rows."""
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the model said of a job's rows, one item a row in each list.

    A score is a float (the value, or the probability of class 1), or one float a class in the order of the model's
    classes. `logged` is False where the log could not be written, on a full disk say: the prediction is given anyway,
    and nobody may count on finding it again. It is True, too, where no log is kept. `kept` is how many of the rows, the
    first ones, are in the log all the same, where the disk filled up among them. `extra` is how many fields of the rows
    the model does not know, None where that was not counted.
    """

    ids: list[str]
    scores: list[Any]
    version: int
    decisions: list[Any] | None = None
    decision_version: str | None = None
    logged: bool = True
    extra: int | None = field(default=None, compare=False)
    kept: int = 0
