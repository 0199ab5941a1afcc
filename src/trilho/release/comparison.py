"""What is known of a version beside the champion: one finding for each test, from counts alone, in plain words.

Which findings count, and what for, is the rollout's to say. Each test that can roll a version back has an equal share
of the risk, in each part of the rollout that counts anew: the sum over all is what was promised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from trilho.core.projection import Rollout
from trilho.core.readings import ShadowStats, VersionStats
from trilho.release import betting, evidence, sequential
from trilho.release.sequential import SHIFT_ALLOWED

Name = Literal["errors", "latency", "predictions", "quality", "better"]
RISK = 0.01  # that a version no worse than the champion is rolled back, over the whole rollout
ALLOWED_ERRORS = 0.05  # where no champion answers beside it, this share of errors is too much
DOUBT: Mapping[Name, float] = {"errors": 1.0, "quality": 3.0}
"""Evidence above which a version waits for more answers instead of stepping on. Tests that allow for a margin have none
at all until it is exceeded."""
FEWEST_FOR_LATENCY = 20  # a server's first requests may be its slowest
INTERVAL = 0.05  # the risk of the bounds that are shown

HARMS: tuple[Name, ...] = ("errors", "latency", "quality")


@dataclass(frozen=True)
class Finding:
    """One test: its evidence, the threshold at which it acts, and what was counted, as a sentence."""

    name: Name
    evidence: float
    threshold: float
    say: Callable[[], str]

    @property
    def said(self) -> str:
        """Give the sentence, made when it is asked for: bounds are worth their time to readers only."""
        return self.say()

    @property
    def reached(self) -> bool:
        """Whether there is evidence enough to act."""
        return self.evidence >= self.threshold

    @property
    def doubtful(self) -> bool:
        """Whether there is enough to wait for more answers."""
        return self.evidence > DOUBT.get(self.name, 0.0)

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return {
            "test": self.name,
            "evidence": round(min(self.evidence, 1e12), 3),
            "threshold": round(self.threshold, 3),
            "said": self.said,
        }


def threshold(rollout: Rollout) -> float:
    """Give the evidence at which a harm is believed: the risk, shared by the tests and the parts of a rollout.

    >>> threshold(Rollout("o1", 2, 1, [10, 50, 100], "t", "ana", ""))
    900.0
    """
    parts = len(rollout.steps) + (rollout.shadow > 0)
    return len(HARMS) * parts / RISK


def compare(rollout: Rollout, stats: Mapping[int, VersionStats], shadow: ShadowStats | None = None) -> list[Finding]:
    """Give what the counts since the present part of the rollout began say of its version."""
    if rollout.in_shadow:
        expected = stats.get(rollout.version, VersionStats()).expected
        return _in_shadow(rollout, shadow or ShadowStats(), expected)
    new, old = stats.get(rollout.version, VersionStats()), VersionStats()
    if rollout.champion is not None and rollout.share < 100:  # the last few requests that it had do not stand beside
        old = stats.get(rollout.champion, VersionStats())
    found = [_errors(rollout, new, old), _latency(rollout, new, old), _predictions(rollout, new, old)]
    return [*found, *_quality(rollout, new, old)]


def _errors(rollout: Rollout, new: VersionStats, old: VersionStats) -> Finding:
    at = f"at {rollout.share}% of traffic"
    if old.requests == 0:
        against = evidence.over_allowed(new.errors, new.requests, ALLOWED_ERRORS)
        said = f"failed {new.errors} of {new.requests} requests {at}, allowed {ALLOWED_ERRORS:.0%}"
        return Finding("errors", against, threshold(rollout), lambda: f"version {rollout.version} {said}")
    # A caller's mistakes meet both versions alike: what only the new one refuses, it broke.
    failed, before = new.errors + new.refused, old.errors + old.refused
    against = evidence.over_champion(failed, new.requests, before, old.requests)
    said = f"failed or refused {failed} of {new.requests} requests {at}, version {rollout.champion} {before} of"
    told = f"version {rollout.version} {said} {old.requests}"
    return Finding("errors", against, threshold(rollout), lambda: told)


def _latency(rollout: Rollout, new: VersionStats, old: VersionStats) -> Finding:
    enough = min(new.requests, old.requests) >= FEWEST_FOR_LATENCY
    against = sequential.slower(new.latency, old.latency) if enough else 0.0
    return Finding("latency", against, threshold(rollout), partial(_slow, rollout, new.p95_ms, old.p95_ms))


def _slow(rollout: Rollout, new: float | None, old: float | None) -> str:
    said = f"version {rollout.version} answers 95% of requests within {_ms(new)}"
    return said if old is None else f"{said}, version {rollout.champion} within {_ms(old)}"


def _ms(milliseconds: float | None) -> str:
    """Give a time in milliseconds to three digits.

    >>> _ms(0.8234), _ms(41.26), _ms(900.0), _ms(None)
    ('0.823 ms', '41.3 ms', '900 ms', 'an unknown time')
    """
    return "an unknown time" if milliseconds is None else f"{milliseconds:.3g} ms".replace("e+03", "000")


def _predictions(rollout: Rollout, new: VersionStats, old: VersionStats) -> Finding:
    against = _unexpected(sequential.shifted(new.scores, old.scores), new.scores, new.expected)
    return Finding("predictions", against, 1 / RISK, lambda: _far(rollout, sequential.distance(new.scores, old.scores)))


def _unexpected(against: float, scores: Mapping[str, int], expected: Mapping[str, int]) -> float:
    """Give the evidence that scores lie neither near the champion's nor near what was judged on held-out rows.

    The lesser evidence counts: a retrained model answers otherwise where it has learnt something, and the gate has seen
    its answers; what it has not seen is the answer to requests that reach it broken.
    """
    return min(against, sequential.shifted(scores, expected)) if expected else against


def _far(rollout: Rollout, far: float | None) -> str:
    if far is None:
        return f"the predictions of version {rollout.version} are not compared yet"
    said = f"{far:.0%} of the predictions of version {rollout.version} lie far from those of version {rollout.champion}"
    return f"{said}, allowed {SHIFT_ALLOWED:.0%}"


def _quality(rollout: Rollout, new: VersionStats, old: VersionStats) -> list[Finding]:
    """Say which version loses less on labelled rows; nothing where no labels have come for both."""
    if not any(new.losses) or not any(old.losses):
        return []
    say = partial(_lost, rollout, new.losses, old.losses)
    worse, better = betting.worse(new.losses, old.losses), betting.worse(old.losses, new.losses)
    return [Finding("quality", worse, threshold(rollout), say), Finding("better", better, 1 / RISK, say)]


def _lost(rollout: Rollout, new: Sequence[int], old: Sequence[int]) -> str:
    low, high = betting.difference(new, old, INTERVAL)
    return (
        f"on {sum(new)} labelled rows version {rollout.version} loses {betting.mean_of(new):.3f} in the mean, version "
        f"{rollout.champion} {betting.mean_of(old):.3f} on {sum(old)}: the difference lies between {low:+.3f} and "
        f"{high:+.3f}"
    )


def _in_shadow(rollout: Rollout, seen: ShadowStats, expected: Mapping[str, int]) -> list[Finding]:
    failed = seen.errors + seen.refused
    limit = threshold(rollout)
    said = (
        f"version {rollout.version}, asked unseen, failed or refused {failed} of {seen.requests} requests that version "
        f"{rollout.champion} answered, and answered {seen.champion_errors} on which that failed"
    )
    against = evidence.over_in_pairs(failed, seen.champion_errors, seen.requests)
    answered = seen.requests - seen.errors - seen.champion_errors
    slow = sequential.slower_in_pairs(seen.slow, seen.fast, answered) if answered >= FEWEST_FOR_LATENCY else 0.0
    found = [
        Finding("errors", against, limit, lambda: said),
        Finding("latency", slow, limit, partial(_slow, rollout, seen.p95_ms, seen.champion_p95_ms)),
        Finding(
            "predictions",
            _unexpected(sequential.shifted_in_pairs(seen.moved, seen.pairs), seen.scores, expected),
            1 / RISK,
            lambda: _far(rollout, seen.moved / seen.pairs if seen.pairs else None) + _disagreed(seen),
        ),
    ]
    if any(seen.losses):
        say = partial(_lost_unseen, rollout, seen.losses)
        found.append(Finding("quality", betting.worse_in_pairs(seen.losses), limit, say))
        found.append(Finding("better", betting.worse_in_pairs(seen.losses[::-1]), 1 / RISK, say))
    return found


def _lost_unseen(rollout: Rollout, losses: Sequence[int]) -> str:
    more = 2 * (betting.mean_of(losses, 2 * betting.BINS) or 0.0) - 1
    return f"on {sum(losses)} labelled rows version {rollout.version}, asked unseen, loses {more:+.3f} more in the mean"


def _disagreed(seen: ShadowStats) -> str:
    if not seen.rows:
        return ""
    return f"; {seen.disagreements} of {seen.rows} rows got another answer, {seen.sum / seen.rows:+.3g} in the mean"
