"""Trying again what failed for a passing reason: after longer and longer waits, and not for ever."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """How often and how long a call is tried again.

    The wait before each further try is drawn between nothing and a bound that doubles (full jitter), so that many
    who were cut off at once do not come back at once.
    """

    seconds: float = 120.0
    """After this the last error stands."""
    first_seconds: float = 1.0
    most_seconds: float = 30.0

    def wait_seconds(self, tries: int) -> float:
        """Draw the wait before another try.

        >>> 0 <= Patience(first_seconds=2).wait_seconds(3) <= 8
        True
        """
        return random.uniform(0, min(self.most_seconds, self.first_seconds * 2 ** (tries - 1)))


def retry(
    call: Callable[[], T],
    *,
    passing: Callable[[Exception], bool],
    patience: Patience = Patience(),
    on_wait: Callable[[Exception, float], None] = lambda _error, _seconds: None,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Give what a call gives; one that fails for a `passing` reason is made again until patience ends.

    >>> answers = iter([ConnectionResetError(), ConnectionResetError(), 7])
    >>> def ask() -> int:
    ...     answer = next(answers)
    ...     if isinstance(answer, Exception):
    ...         raise answer
    ...     return answer
    >>> retry(ask, passing=lambda error: isinstance(error, ConnectionError), sleep=lambda seconds: None)
    7
    """
    deadline = time.monotonic() + patience.seconds
    tries = 0
    while True:
        tries += 1
        try:
            return call()
        except Exception as error:
            seconds = patience.wait_seconds(tries)
            if not passing(error) or time.monotonic() + seconds > deadline:
                raise
            on_wait(error, seconds)
            sleep(seconds)
