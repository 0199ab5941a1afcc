"""Two references after a retraining: the new version's beside the old one's, within one promise.

A new reference forgives what the retraining has learnt, and with it whatever crept in slowly. So the old reference goes
on being asked: as much as the new one until that has seen 40 windows, and with a tenth of the stakes afterwards. What
both stake anew in a window sums to 1, so that their evidence together is worth what one detector's is.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from numpy.typing import NDArray

from trilho.watch.drift import DriftDetector
from trilho.watch.reading import DriftKind, KindEvidence, Reading

UNTIL = 40
KEPT = 0.1  # what the old reference stakes for good


class Succession:
    """Watch windows against a new and an old reference; each needs the window counted in its own bins."""

    def __init__(self, new: DriftDetector, old: DriftDetector) -> None:
        self.new, self.old = new, old
        self._share()

    @property
    def threshold(self) -> float:
        """Give the threshold of the evidence of both."""
        return self.new.threshold

    def update(
        self,
        new: Mapping[str, NDArray[Any]],
        old: Mapping[str, NDArray[Any]],
        when: datetime | float | None = None,
    ) -> Reading:
        """Take in one window, counted in the bins of both; causes are named by the reference that holds more."""
        self._share()
        first, second = self.new.weigh(new, when), self.old.weigh(old, when)
        kinds: dict[DriftKind, KindEvidence] = {}
        for kind, found in first.kinds.items():
            other = second.kinds.get(kind)
            kinds[kind] = KindEvidence(
                found.evidence + (other.evidence if other else 0.0), found.threshold, found.weight
            )
        evidence = max((k.evidence * k.weight for k in kinds.values()), default=0.0)
        for kind, both in kinds.items():
            if both.alarm:
                self.new.start_again(kind)
                self.old.start_again(kind)
        window = first.window if first.evidence >= second.evidence else second.window
        notes = tuple(dict.fromkeys((*first.notes, *second.notes)))
        return Reading(any(k.alarm for k in kinds.values()), evidence, self.threshold, kinds, notes, window)

    def state(self) -> dict[str, Any]:
        """Give what a restarted watcher goes on from, as JSON values."""
        return {"schema": 1, "new": self.new.state(), "old": self.old.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of detectors on the same references."""
        self.new.restore(state["new"])
        self.old.restore(state["old"])

    def _share(self) -> None:
        old = 0.5 if self.new.windows < UNTIL else KEPT
        self.new.restart, self.old.restart = 1 - old, old
