"""Labelled rows weighed by the event time that they bring, so that a promise in time holds at any traffic."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Pace:
    """Give each labelled row a weight: 1 at the traffic of training and below, less where more is served.

    The weights' sum is at most `rate` times the seconds of event time that the rows cover, and `burst`. A detector that
    restarts with these weights is expected to alarm for nothing in a stretch of time at most as often as it would be at
    the traffic of training. Time that brought fewer rows is saved up; rows of a time that was covered before use it.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self.credit = rate, max(burst, 1.0)
        self.covered: tuple[float, float] | None = None  # the earliest and the latest time so far

    def weigh(self, time: Floats) -> Floats:
        """Weigh rows in order of arrival, `time` in seconds.

        >>> Pace(rate=0.5, burst=1).weigh(np.array([0.0, 1.0, 2.0, 2.0, 9.0])).tolist()
        [1.0, 0.5, 0.5, 0.0, 1.0]
        """
        if not len(time):
            return np.zeros(0)
        early, late = self.covered or (time[0], time[0])
        first, last = np.minimum.accumulate(np.minimum(time, early)), np.maximum.accumulate(np.maximum(time, late))
        credit = self.credit + ((last - first) - (late - early)) * self.rate
        rows = np.arange(1, len(time) + 1)
        spent = rows + np.minimum(np.minimum.accumulate(credit - rows), 0)
        self.covered, self.credit = (float(first[-1]), float(last[-1])), float(credit[-1] - spent[-1])
        return np.asarray(np.clip(np.diff(spent, prepend=0.0), 0.0, 1.0))

    def state(self) -> dict[str, Any]:
        """Give what a restarted watcher goes on from, as JSON values."""
        return {"covered": self.covered, "credit": self.credit}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        covered = state["covered"]
        self.covered, self.credit = (covered[0], covered[1]) if covered else None, state["credit"]
