"""The upper tail of a gamma distribution, by numpy and the standard library only.

Far from its mean a series (below) or a continued fraction (above) converges in a few terms; near it, about the square
root of the shape are needed. What stands before both, x^a exp(-x) / Gamma(a + 1), is a difference of large numbers and
is computed from their small difference (Stirling's series; Temme, 1994), so that it stays exact at any shape.
"""

from __future__ import annotations

import math

TINY = 1e-300
EXACT = 1e-16
MOST_TERMS = 200_000
LARGE = 20.0
STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)


def gamma_tail(shape: float, x: float) -> float:
    """Give the probability that a gamma variable of this shape, and scale 1, is larger than x.

    >>> round(gamma_tail(0.5, 1.9207294), 6)
    0.05
    >>> gamma_tail(3.0, 0.0)
    1.0
    """
    if not (shape > 0 and math.isfinite(shape)) or math.isnan(x):
        raise ValueError(f"gamma_tail({shape}, {x}); allowed: a shape above 0 and a number")
    if x <= 0:
        return 1.0
    if x == math.inf:
        return 0.0
    front = math.exp(_log_front(shape, x))
    if x < shape + 1:
        return min(max(1.0 - front * _series(shape, x), 0.0), 1.0)
    return min(front * shape * _fraction(shape, x), 1.0)


def gamma_quantile(shape: float, probability: float) -> float:
    """Give the x below which a gamma variable of this shape, and scale 1, lies with this probability.

    >>> round(2 * gamma_quantile(1.0, 0.975), 4)
    7.3778
    """
    if probability <= 0:
        return 0.0
    low, high = 0.0, max(shape, 1.0)
    while 1 - gamma_tail(shape, high) < probability:
        low, high = high, 2 * high
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if 1 - gamma_tail(shape, middle) < probability else (low, middle)
    return (low + high) / 2


def _log_front(a: float, x: float) -> float:
    """Give log(x^a exp(-x) / Gamma(a + 1))."""
    if a < LARGE:
        return a * math.log(x) - x - math.lgamma(a + 1)
    gap = (x - a) / a
    away = math.log1p(gap) - gap if abs(gap) > 0.1 else _log1p_less(gap)
    rest = sum(term / a ** (2 * i + 1) for i, term in enumerate(STIRLING))
    return a * away - 0.5 * math.log(2 * math.pi * a) - rest


def _log1p_less(gap: float) -> float:
    """Give log(1 + gap) - gap for a small gap, without the loss of digits of the difference."""
    total, power = 0.0, -gap
    for i in range(2, 40):
        power *= -gap
        total -= power / i
    return total


def _series(a: float, x: float) -> float:
    """Give sum x^k / ((a+1) ... (a+k)), k from 0."""
    total = term = 1.0
    for k in range(1, MOST_TERMS):
        term *= x / (a + k)
        total += term
        if term < total * EXACT:
            break
    return total


def _fraction(a: float, x: float) -> float:
    """Give the continued fraction of the upper tail, by Lentz's method."""
    b = x + 1 - a
    c, d = 1 / TINY, 1 / b
    h = d
    for k in range(1, MOST_TERMS):
        an = -k * (k - a)
        b += 2
        d = an * d + b
        d = 1 / (d if abs(d) > TINY else TINY)
        c = b + an / c
        c = c if abs(c) > TINY else TINY
        step = c * d
        h *= step
        if abs(step - 1) < 4 * EXACT:
            break
    return h
