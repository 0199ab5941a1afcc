"""How quickly and how safely changes reach users: lead times, frequency, failures, recovery.

Everything is computed from the journal's own times. What did not happen yet is `None`, shown as "not measured".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from trilho.core.projection import ModelState, Rollout, Version
from trilho.govern.wording import since

DAY = 86400.0
WEEK = 7 * DAY


@dataclass(frozen=True)
class Times:
    """Some lengths of time, in seconds: how many there were, the middle one, the longest, the newest."""

    count: int
    median: float | None = None
    longest: float | None = None
    latest: float | None = None


@dataclass(frozen=True)
class Frequency:
    """How often something reached users since the first time it did."""

    count: int
    since: str | None
    seconds: float | None  # since then
    per_week: float | None  # None until there are two of them and a day has passed


@dataclass(frozen=True)
class Failures:
    """Releases that ended, and how many of these did not stay."""

    ended: int
    rolled_back: int  # by the rollout itself or a person, before full traffic
    restored: int  # after full traffic: an earlier version serves again
    aborted: int

    @property
    def share(self) -> float | None:
        """Give the share of releases that failed."""
        return (self.rolled_back + self.restored) / self.ended if self.ended else None


@dataclass(frozen=True)
class LeadTimes:
    """One model's delivery in figures."""

    commit_to_serving: Times
    data_to_serving: Times
    trigger_to_serving: Times
    releases: Frequency
    failures: Failures
    incident_to_end: Times


def lead_times(model: ModelState, now: str) -> LeadTimes:
    """Measure how a model's changes reached its users, up to `now`."""
    served = sorted((v for v in model.versions.values() if v.first_served), key=lambda v: v.first_served or "")
    ended = [x for x in model.rollouts.values() if x.outcome is not None]
    return LeadTimes(
        commit_to_serving=times(_from_commit(served)),
        data_to_serving=times(_from_data(model, served)),
        trigger_to_serving=times(_from_trigger(model)),
        releases=_frequency(ended, now),
        failures=failures(model, ended),
        incident_to_end=times(since(x.opened, x.closed) for x in model.incidents.values() if x.closed),
    )


def times(seconds: Iterable[float]) -> Times:
    """Sum up lengths of time, in the order in which they ended.

    >>> times([3.0, 9.0, 5.0])
    Times(count=3, median=5.0, longest=9.0, latest=5.0)
    >>> times([])
    Times(count=0, median=None, longest=None, latest=None)
    """
    values = list(seconds)
    return Times(len(values), median(values), max(values), values[-1]) if values else Times(0)


def failures(model: ModelState, ended: Sequence[Rollout]) -> Failures:
    """Count the releases that were taken back, before or after they had all the traffic."""
    taken_over = {x.ended for x in ended if x.outcome == "full"}
    return Failures(
        ended=len(ended),
        rolled_back=sum(x.outcome == "rolled back" for x in ended),
        restored=sum(time not in taken_over for time, _ in model.champions),
        aborted=sum(x.outcome == "aborted" for x in ended),
    )


def _from_commit(served: Sequence[Version]) -> Iterable[float]:
    """A commit's lead time counts once: until the first of its versions answered."""
    seen: set[str] = set()
    for version in served:
        if version.commit and version.commit_time and version.first_served and version.commit not in seen:
            seen.add(version.commit)
            yield since(version.commit_time, version.first_served)


def _from_data(model: ModelState, served: Sequence[Version]) -> Iterable[float]:
    """A dataset's lead time counts once: until the first version trained on it answered."""
    seen: set[str] = set()
    for version in served:
        known = model.dataset_times.get(version.dataset)
        if known and version.first_served and version.dataset not in seen:
            seen.add(version.dataset)
            yield since(known, version.first_served)


def _from_trigger(model: ModelState) -> Iterable[float]:
    for retraining in model.retrainings.values():
        version = model.versions.get(retraining.version or 0)
        if version is not None and version.first_served and retraining.result == "promoted":
            yield since(retraining.started, version.first_served)


def _frequency(ended: Sequence[Rollout], now: str) -> Frequency:
    full = [x.ended for x in ended if x.outcome == "full" and x.ended]
    if not full:
        return Frequency(0, None, None, None)
    span = since(full[0], now)
    often = len(full) > 1 and span >= DAY
    return Frequency(len(full), full[0], span, len(full) * WEEK / span if often else None)
