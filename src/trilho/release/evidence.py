"""Whether a version fails too often, by tests that stay valid however often one looks.

Both are e-processes of universal inference: the likelihood of what was counted, averaged over a prior (which makes it
one bet, laid before the first request), over the largest likelihood that the harmless case allows. While the case is
harmless the expectation is at most 1 at any time, and so the probability of ever reaching 1/a is at most a. They
depend on the counts alone; nothing need be remembered between two looks.
"""

from __future__ import annotations

import math

PRIOR = (0.3, 1.0)  # of an error rate: most versions fail rarely


def over_champion(errors: int, requests: int, champion_errors: int, champion_requests: int) -> float:
    """Give the evidence that a version fails more often than the champion.

    >>> over_champion(5, 5, 0, 45) > 100_000, over_champion(1, 50, 1, 450) < 1
    (True, True)
    """
    if requests == 0 or champion_requests == 0:
        return 0.0
    if errors * champion_requests <= champion_errors * requests:
        return 0.0  # it fails less often
    together = (errors + champion_errors) / (requests + champion_requests)
    bet = _mixture(errors, requests) + _mixture(champion_errors, champion_requests)
    return _exp(bet - _likelihood(errors + champion_errors, requests + champion_requests, together))


def over_allowed(errors: int, requests: int, allowed: float) -> float:
    """Give the evidence that a version fails more often than allowed, where nothing else serves beside it.

    >>> over_allowed(5, 5, 0.05) > 10_000, over_allowed(1, 50, 0.05) < 1
    (True, True)
    """
    if requests == 0 or errors <= allowed * requests:
        return 0.0
    return _exp(_mixture(errors, requests) - _likelihood(errors, requests, allowed))


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
