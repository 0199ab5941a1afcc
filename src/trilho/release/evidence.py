"""Whether a version fails too often, by tests that stay valid however often one looks.

All are e-processes: while the harmless case is true their expectation is at most 1 at any time, so that the probability
of ever reaching 1/a is at most a (Ville's inequality). They depend on counts alone; nothing need be remembered between
two looks, and it does not matter who looked when.

Rates are tested by universal inference (Wasserman, Ramdas and Balakrishnan, PNAS 2020): the likelihood of what was
counted, averaged over a prior (which makes it one bet, laid before the first request), over the largest likelihood
that the harmless case allows. Pairs are tested by betting against the harmless case with a fixed mixture of stakes
(Waudby-Smith and Ramdas, JRSS B 2024); the survey is Ramdas, Grünwald, Vovk and Shafer, Statistical Science 2023.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

PRIOR = (0.3, 1.0)  # of an error rate: most versions fail rarely
STAKES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95)  # of what could be lost; small ones find small differences
HALVINGS = 50


def over_champion(
    errors: int, requests: int, champion_errors: int, champion_requests: int, margin: float = 0.0
) -> float:
    """Give the evidence that a version fails more often than the champion, by more than a margin.

    >>> over_champion(5, 5, 0, 45) > 100_000, over_champion(1, 50, 1, 450) < 1
    (True, True)
    >>> over_champion(30, 100, 200, 1000, margin=0.2)
    0.0
    """
    if requests == 0 or champion_requests == 0:
        return 0.0
    if errors / requests <= champion_errors / champion_requests + margin:
        return 0.0
    bet = _mixture(errors, requests) + _mixture(champion_errors, champion_requests)
    return _exp(bet - _likeliest(errors, requests, champion_errors, champion_requests, margin))


def over_allowed(errors: int, requests: int, allowed: float) -> float:
    """Give the evidence that a version fails more often than allowed, where nothing else serves beside it.

    >>> over_allowed(5, 5, 0.05) > 10_000, over_allowed(1, 50, 0.05) < 1
    (True, True)
    """
    if requests == 0 or errors <= allowed * requests:
        return 0.0
    return _exp(_mixture(errors, requests) - _likelihood(errors, requests, allowed))


def over_in_pairs(up: int, down: int, pairs: int, margin: float = 0.0) -> float:
    """Give the evidence that something befalls the first of a pair more often than the second, by more than a margin.

    `up` pairs had it in the first alone, `down` in the second alone. What both share says nothing: the pair's members
    may depend on each other in any way.

    >>> over_in_pairs(20, 0, 200) > 1000, over_in_pairs(3, 3, 200) < 1, over_in_pairs(15, 0, 200, margin=0.1) < 1
    (True, True, True)
    """
    if pairs == 0 or up - down <= margin * pairs:
        return 0.0
    stakes = [share / (1 + margin) for share in STAKES]
    logs = [
        up * math.log1p(stake * (1 - margin))
        + down * math.log1p(-stake * (1 + margin))
        + (pairs - up - down) * math.log1p(-stake * margin)
        for stake in stakes
    ]
    return average(_exp(log) for log in logs)


def average(evidence: Iterable[float], number: int | None = None) -> float:
    """Give the mean of evidence against parts of one harmless case, which is evidence against the whole of it.

    `number` says of how many parts these are, where those without any are left out.
    """
    found = list(evidence)
    return sum(found) / (number or len(found)) if found else 0.0


def _likeliest(errors: int, requests: int, champion_errors: int, champion_requests: int, margin: float) -> float:
    """Give the largest log likelihood of two rates that lie the margin apart, where the counts lie further apart."""
    low = (errors + champion_errors) / (requests + champion_requests)
    if margin > 0:
        low, high = 0.0, 1.0 - margin
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            rising = _slope(errors, requests, middle + margin) + _slope(champion_errors, champion_requests, middle) > 0
            low, high = (middle, high) if rising else (low, middle)
    # The end that is used lies on the side where the champion's rate is possible at all.
    return _likelihood(errors, requests, low + margin) + _likelihood(champion_errors, champion_requests, low)


def _slope(errors: int, requests: int, rate: float) -> float:
    good = requests - errors
    return (errors / rate if errors else 0.0) - (good / (1 - rate) if good else 0.0)


def _mixture(errors: int, requests: int) -> float:
    a, b = PRIOR
    return _log_beta(a + errors, b + requests - errors) - _log_beta(a, b)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _likelihood(errors: int, requests: int, rate: float) -> float:
    good = requests - errors
    return (errors * math.log(rate) if errors else 0.0) + (good * math.log1p(-rate) if good else 0.0)


def _exp(log: float) -> float:
    return math.exp(min(log, 700.0))
