"""What incidents of a model are judged by, from its settings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from trilho.config.watching import Watch
from trilho.core.metrics import HIGHER_IS_BETTER
from trilho.core.records import AlarmKind

TESTED: frozenset[AlarmKind] = frozenset({"drift", "prediction", "quality"})


@dataclass(frozen=True)
class Terms:
    """The metric's minimum, or else how much worse it may be than expected; and how long an end is only a pause.

    `tested` are the kinds that a test of their own confirms (see `trials`); of others the second alarm does, since the
    detector started from nothing after the first.
    """

    minimum: float | None = None
    degradation: float = 0.1
    cooldown: timedelta = timedelta(days=1)
    window: timedelta = timedelta(0)
    tested: frozenset[AlarmKind] = frozenset()

    @classmethod
    def of(cls, watch: Watch, tested: frozenset[AlarmKind] = TESTED) -> Terms:
        """Read them from [watch]."""
        return cls(watch.minimum, watch.degradation, watch.cooldown, watch.window, tested)

    def floor(self, metric: str, expected: float | None) -> float | None:
        """Give the value at which the metric is no longer acceptable; for an error it is the highest one.

        >>> Terms(minimum=0.7).floor("roc_auc", 0.75), Terms().floor("mae", 40.0), Terms().floor("roc_auc", 0.8)
        (0.7, 44.0, 0.72)
        """
        if self.minimum is not None or expected is None:
            return self.minimum
        return round(expected * (1 - self.degradation if metric in HIGHER_IS_BETTER else 1 + self.degradation), 12)
