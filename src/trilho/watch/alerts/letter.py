"""What a courier takes to a channel, and what can go wrong on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from trilho.watch.alerts.message import Message

Receipt = dict[str, Any]


def _no_picture() -> bytes | None:
    return None


@dataclass
class Letter:
    """One message on its way; `receipt` is what a channel has given for it so far, kept by `keep` as it comes.

    `again` says that a try before this one may have arrived: the process ended, or the line broke, before an answer.
    """

    message: Message
    again: bool = False
    attempts: int = 1
    receipt: Receipt = field(default_factory=dict)
    opening: Receipt = field(default_factory=dict)  # of the message that opened the incident
    picture: Callable[[], bytes | None] = _no_picture
    keep: Callable[[Receipt], None] = lambda receipt: None

    def got(self, **parts: Any) -> None:
        """Keep a part of the receipt before going on, so that a crash after this does not repeat it."""
        self.receipt = {**self.receipt, **parts}
        self.keep(self.receipt)


class Undelivered(Exception):
    """A channel did not take a message.

    `wait` is what it asks for, in seconds; `unsure` says that the message may have arrived all the same; `everyone`
    that the channel takes no message at all now, whichever it is.
    """

    def __init__(self, problem: str, *, wait: float | None = None, unsure: bool = False, everyone: bool = True) -> None:
        super().__init__(problem)
        self.problem, self.wait, self.unsure, self.everyone = problem, wait, unsure, everyone


class Channel(Protocol):
    """A way to people: it gives a message its form and takes it there."""

    name: str

    def send(self, letter: Letter) -> None:
        """Take a letter to its channel. Raises Undelivered."""

    def lacks(self) -> list[str]:
        """Say what the last message could not show, for want of a right or a library."""
