"""Whether a version is slower, or answers something else: tests on counts between edges, valid at any time.

A distribution is compared edge by edge, each with the same e-process on two rates, and the mean over all edges (fixed
beforehand, so that none was chosen for what it shows) is an e-process against "at no edge more than allowed".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from trilho.release.evidence import average, over_allowed, over_champion, over_in_pairs
from trilho_runtime.routing.scores import CUTS, LABEL, NEAR
from trilho_runtime.routing.slower import allowed_edges

SLOW_SHARE = 0.05  # in all but so many of its requests
SHIFT_ALLOWED = 0.5  # so large a share of a version's scores may lie where the champion's do not, nor near


def slower(latency: Sequence[int], champion: Sequence[int]) -> float:
    """Give the evidence that more than 5 in 100 requests take over twice as long as the champion's, plus 20 ms.

    >>> quick, slow = [0] * 5 + [90] + [0] * 20, [0] * 16 + [10] + [0] * 9
    >>> slower(slow, quick) > 1000, slower(quick, slow)
    (True, 0.0)
    """
    ours, theirs = _above(latency), _above(champion)
    if not ours or not theirs:
        return 0.0
    return average(
        over_champion(ours[allowed + 1], ours[0], theirs[edge + 1], theirs[0], SLOW_SHARE)
        for edge, allowed in enumerate(allowed_edges())
    )


def slower_in_pairs(slow: Sequence[int], fast: Sequence[int], pairs: int) -> float:
    """Give the same evidence where both answered the same requests, counted as in `trilho_runtime.routing.shadow`."""
    return average(over_in_pairs(up, down, pairs, SLOW_SHARE) for up, down in zip(slow, fast, strict=True))


def shifted(scores: Mapping[str, int], champion: Mapping[str, int], allowed: float = SHIFT_ALLOWED) -> float:
    """Give the evidence that scores lie elsewhere than the champion's: more of them than allowed, and not near.

    >>> shifted({"3": 60}, {"9": 100}), shifted({"3": 60}, {"29": 100}) > 1000
    (0.0, True)
    """
    ours, theirs = sum(scores.values()), sum(champion.values())
    found = (over_champion(mine, ours, other, theirs, allowed) for mine, other in _parts(scores, champion))
    return average(found, 3 * CUTS)


def shifted_in_pairs(moved: int, pairs: int, allowed: float = SHIFT_ALLOWED) -> float:
    """Give the same evidence where both versions answered the same requests, and so many scores were not near.

    >>> shifted_in_pairs(40, 40) > 1000, shifted_in_pairs(20, 40)
    (True, 0.0)
    """
    return over_allowed(moved, pairs, allowed)


def distance(scores: Mapping[str, int], champion: Mapping[str, int]) -> float | None:
    """Give the share of scores that lie elsewhere, 0 to 1; None without scores of both.

    This is the distance of Prokhorov, but for the sets that are asked about: the scores up to each bin, those from it
    on, and those in it, each against the champion's in or near the same bins.

    >>> distance({"3": 3, "20": 1}, {"3": 1, "20": 3}), distance({"3": 1}, {"11": 1})
    (0.5, 0.0)
    """
    ours, theirs = sum(scores.values()), sum(champion.values())
    if not ours or not theirs:
        return None
    return max(0.0, *(mine / ours - other / theirs for mine, other in _parts(scores, champion)))


def _above(latency: Sequence[int]) -> list[int]:
    """Give how many requests took longer than no edge, the first, the second, ..."""
    return list(accumulate(reversed(latency)))[::-1]


def _parts(scores: Mapping[str, int], champion: Mapping[str, int]) -> Iterator[tuple[int, int]]:
    """Give how many scores lie in each of the sets that are asked about, and how many of the champion's in or near."""
    numbers = {int(bin_): n for bin_, n in scores.items() if not bin_.startswith(LABEL)}
    other = {int(bin_): n for bin_, n in champion.items() if not bin_.startswith(LABEL)}
    for bin_, count in numbers.items():
        yield count, sum(n for at, n in other.items() if abs(at - bin_) <= NEAR)
        below = sum(n for at, n in numbers.items() if at <= bin_)
        yield below, sum(n for at, n in other.items() if at <= bin_ + NEAR)
        above = sum(n for at, n in numbers.items() if at >= bin_)
        yield above, sum(n for at, n in other.items() if at >= bin_ - NEAR)
    for label, count in scores.items():
        if label.startswith(LABEL):
            yield count, champion.get(label, 0)
