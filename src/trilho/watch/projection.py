"""Bets on what a window may look like, and the evidence that each row is worth in them."""

from __future__ import annotations

from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
SHIFTS = (0.1, -0.1, 0.25, -0.25, 0.6, -0.6)
SCALES = (0.8, 1.25)
READY_WEIGHTS = np.array([2.0, 2.0, 1.0, 1.0, 0.4, 0.4, 0.6, 0.6])  # small moves need the head start, large ones none
TINY = 1e-12
REACH = 7.5  # standard deviations that the table of the normal distribution covers


def project(r: Floats, q: Floats, tolerance: Floats) -> tuple[Floats, Flags]:
    """Give each bin's log score for a bet on r against all that lies within a tolerance of q.

    Closed form of the nearest distribution in KL(r || .): with bins sorted by r/q, the allowed distribution is
    clip(q, a r, b r). Whatever the rounding, c = sum q s + tolerance (max s - min s) bounds the expected score of
    everything allowed, so that scores less log c are evidence. The second result says where r is not allowed itself
    (elsewhere nothing is bet). The last axis holds bins; those with q = 0 and r = 0 are padding.
    """
    shape, bins = np.broadcast_shapes(r.shape, q.shape), q.shape[-1]
    tol = np.broadcast_to(tolerance, shape[:-1]).reshape(-1, 1)
    r, q = (np.broadcast_to(x, shape).reshape(-1, bins) for x in (r, q))
    inside = q > 0
    ratio = np.divide(r, q, out=np.full(q.shape, -1.0), where=inside)
    order = np.argsort(-ratio, axis=1) + np.arange(0, q.size, bins)[:, None]
    top_r, top_q = (np.cumsum(x.ravel()[order], axis=1) for x in (r, q))
    a = np.min((tol + top_q) / np.maximum(top_r, TINY), axis=1, keepdims=True)
    left_r, left_q = 1 - top_r[:, :-1], 1 - top_q[:, :-1] - tol
    b = np.max(np.where(left_r > TINY, left_q / np.maximum(left_r, TINY), 0.0), axis=1, keepdims=True, initial=0.0)
    b = np.maximum(b, 1 - tol)
    bets = a.ravel() < 1
    with np.errstate(divide="ignore", invalid="ignore"):
        s = np.where(inside & (r > 0), r / np.clip(q, a * r, np.maximum(a, b) * r), 0.0)
        reach = s.max(1) - np.where(inside, s, np.inf).min(1)
        c = np.maximum((q * s).sum(1) + np.minimum(tol.ravel(), 1.0) * reach, 1.0)
        scores = np.where(inside & bets[:, None], np.log(s / c[:, None]), 0.0)
    return scores.reshape(shape), bets.reshape(shape[:-1])


@lru_cache(maxsize=1)
def _normal() -> tuple[Floats, Floats]:
    x = np.linspace(-REACH, REACH, 1501)
    return x, np.array([NormalDist().cdf(v) for v in x.tolist()])


def tilt(q: Floats, shift: float, scale: float) -> Floats:
    """Move mass between ordered bins as if the value were normal and were shifted and stretched.

    Any guess is a fair bet, so that a table of the normal distribution is exact enough.

    >>> tilt(np.array([0.5, 0.5]), 0.25, 1.0).round(2).tolist()
    [0.4, 0.6]
    """
    x, cdf = _normal()
    total = q.sum()
    ends = np.clip(np.concatenate([[0.0], np.cumsum(q / total)]), cdf[0], cdf[-1])
    moved = np.interp((np.interp(ends, cdf, x) - shift) / scale, x, cdf)
    moved[0], moved[-1] = 0.0, 1.0
    r = np.maximum(np.diff(moved), 0.0) + 1e-9
    return np.asarray(r / r.sum() * total)


def ready_scores(q: Floats, ordered: NDArray[np.int64], tolerance: Floats) -> Floats:
    """Score the bets that need no learning: (bets, features, bins), zero where nothing is bet.

    They make the first drifted window count. `ordered` says how many leading bins of a feature are in order.
    """
    guesses = [(shift, 1.0) for shift in SHIFTS] + [(0.0, scale) for scale in SCALES]
    if not ordered.any():
        return np.zeros((0, *q.shape))
    r = np.repeat(q[None], len(guesses), axis=0)
    for j, (shift, scale) in enumerate(guesses):
        for i in np.flatnonzero((ordered > 0) & (q.sum(1) > 0)).tolist():
            held = q[i, : ordered[i]]
            if held.sum() > 0:
                r[j, i, : ordered[i]] = tilt(held, shift, scale) * (held > 0)
    scores, _ = project(r / np.maximum(r.sum(2, keepdims=True), TINY), q, tolerance)
    return np.asarray(scores * (ordered > 0)[:, None])
