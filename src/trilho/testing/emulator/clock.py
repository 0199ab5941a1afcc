"""The emulator's time: the machine's, plus what a test has moved it by."""

from __future__ import annotations

import threading
import time


class Clock:
    """Time that can be moved on; whoever waits for a moment is woken by a move.

    >>> clock = Clock()
    >>> before = clock.now()
    >>> clock.advance(3600)
    >>> 3600 <= clock.now() - before < 3700
    True
    """

    def __init__(self) -> None:
        self._moved = 0.0
        self._news = 0
        self._changed = threading.Condition()

    def now(self) -> float:
        """Give the time, seconds since 1970 UTC."""
        return time.time() + self._moved

    def advance(self, seconds: float) -> None:
        """Move the time on."""
        with self._changed:
            self._moved += seconds
            self._news += 1
            self._changed.notify_all()

    def wake(self) -> None:
        """Wake whoever waits, since what they wait for may have changed."""
        with self._changed:
            self._news += 1
            self._changed.notify_all()

    def ticket(self) -> int:
        """Give what `wait_until` knows by whether there was news since."""
        return self._news

    def wait_until(self, moment: float, ticket: int, longest_seconds: float = 60.0) -> None:
        """Wait until a moment has come, or the time was moved or somebody called `wake` since the ticket was taken."""
        with self._changed:
            if (left := moment - self.now()) > 0 and ticket == self._news:
                self._changed.wait(min(left, longest_seconds))
