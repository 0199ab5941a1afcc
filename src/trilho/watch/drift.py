"""Drift of inputs and predictions: an e-detector on counts, with a promise about false alarms.

For each feature several *guesses* of today's distribution bet against the nearest distribution that is still allowed
(within the feature's tolerance of the reference). A bet's evidence is multiplied over windows and restarted all the
time (Shiryaev-Roberts); the mean over guesses and features is compared with a threshold A. In any T windows without
drift at most T/A false alarms are expected, however the features depend on each other.

Shin, Ramdas, Rinaldo: E-detectors, arXiv 2203.03532. The projection and its certificate: docs of `project`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trilho.watch.reference import Allowance, allowances, noise
from trilho_runtime.profile import Reference

Floats = NDArray[np.float64]
MEMORIES = (0.0, 0.8, 0.97)
SHIFTS = (0.1, -0.1, 0.25, -0.25, 0.6, -0.6)
SCALES = (0.8, 1.25)
RISES = (0.1, 0.5)
PRIOR = 50.0
LARGEST = 600.0  # of a log, so that no sum overflows


@dataclass(frozen=True)
class Moved:
    """One feature in one window: its share of the evidence, its distance and how far it may move.

    The distance is a total variation, less what chance alone would give: over all bins or, where that says more,
    between one special bin and the rest. `words` say what moved most.
    """

    feature: str
    share: float
    distance: float
    tolerance: float
    words: str


@dataclass(frozen=True)
class Drift:
    """What one window showed; `causes` are all features, the largest share of the evidence first."""

    alarm: bool
    evidence: float
    threshold: float
    causes: tuple[Moved, ...]


class DriftDetector:
    """Watch windows of counts, one after the other.

    `average_run_length` is A: the expected number of windows between false alarms is at least this.
    """

    def __init__(
        self,
        reference: Reference,
        average_run_length: float,
        tolerance: float | Literal["auto"] = "auto",
        allowed: Sequence[Allowance] | None = None,
    ) -> None:
        self.reference = reference
        self.threshold = float(average_run_length)
        self.allowances = list(allowed) if allowed is not None else allowances(reference, tolerance)
        self.names = [f.name for f in reference.features]
        self._sizes = [len(f.labels) for f in reference.features]
        self.q = self._pad([a.q for a in self.allowances])
        self.tolerance = np.array([a.tolerance for a in self.allowances])
        self.kappa = np.array([a.kappa for a in self.allowances])
        self.most = np.array([a.rows for a in self.allowances])
        cap = np.array([a.cap for a in self.allowances])
        self.capped, self.log_cap = np.isfinite(cap), np.log(cap)
        self._ready = self._ready_bets()  # J, F, K scores of bets that never change
        self._bets = np.concatenate([np.zeros((len(MEMORIES), len(self.names)), bool), (self._ready != 0).any(2)])
        self._weights = self._weigh()
        self.seen = np.zeros((len(MEMORIES), *self.q.shape))
        self.log_m = np.full(self._bets.shape, -np.inf)

    def update(self, profile: Mapping[str, NDArray[Any]]) -> Drift:
        """Take in one window's counts; on an alarm the evidence starts again, what was learnt stays."""
        counts = self._pad([np.asarray(profile[name], np.float64) for name in self.names])
        rows = counts.sum(1)
        if not self.names or not rows.any():
            return Drift(False, self.evidence, self.threshold, ())
        weight = np.minimum(1, self.most / np.maximum(rows, 1))
        scores, bets = self._learnt_bets()
        gain = np.concatenate([(counts * scores).sum(2), (counts * self._ready).sum(2)]) * self.kappa * weight
        gain = np.where(self.capped, self._limited(gain), gain)
        restart = np.where(np.concatenate([bets, self._bets[len(MEMORIES) :]]), 0.0, -np.inf)
        with np.errstate(invalid="ignore"):
            after = np.minimum(np.logaddexp(self.log_m, restart) + gain, LARGEST)
        self.log_m = np.where(rows > 0, after, self.log_m)  # a feature without rows says nothing
        self.seen = np.array(MEMORIES)[:, None, None] * self.seen + counts * weight[:, None]
        shares = self._by_feature()
        evidence = float(shares.mean())
        if alarm := evidence >= self.threshold:
            self.log_m[:] = -np.inf
        return Drift(alarm, evidence, self.threshold, self._causes(shares, counts))

    @property
    def evidence(self) -> float:
        """Give the evidence so far; it alarms at the threshold."""
        return float(self._by_feature().mean()) if self.names else 0.0

    def state(self) -> dict[str, Any]:
        """Give what a restarted detector goes on from, as JSON values."""
        log_m = [[None if v == -np.inf else v for v in row] for row in self.log_m.tolist()]
        return {"schema": 1, "names": self.names, "log_m": log_m, "seen": self.seen.tolist()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state; it must come from a detector on the same reference."""
        if state["schema"] != 1 or state["names"] != self.names:
            raise ValueError("the detector's memory belongs to another reference")
        self.seen = np.array(state["seen"], np.float64).reshape(self.seen.shape)
        values = [[-np.inf if v is None else v for v in row] for row in state["log_m"]]
        self.log_m = np.array(values, np.float64).reshape(self.log_m.shape)

    def _limited(self, gain: Floats) -> Floats:
        """Let one window do only so much, where windows differ by nature.

        Evidence of at most a quarter of B + 1, for what happens by chance once in B + 1, is paid for by 1.25; half of
        the stake is kept back, so that one ordinary window does not undo what many others showed.
        """
        return np.asarray(np.logaddexp(np.minimum(gain, self.log_cap) - np.log(1.25), 0.0) - np.log(2))

    def _by_feature(self) -> Floats:
        return np.asarray((self._weights * np.exp(self.log_m)).sum(0))

    def _causes(self, shares: Floats, counts: Floats) -> tuple[Moved, ...]:
        total = float(shares.sum())
        order = np.argsort(-shares, kind="stable")
        return tuple(self._moved(int(i), float(shares[i]) / total if total > 0 else 0.0, counts[i]) for i in order)

    def _moved(self, i: int, share: float, counts: Floats) -> Moved:
        feature, allowed, size = self.reference.features[i], self.allowances[i], self._sizes[i]
        n, q = max(float(counts.sum()), 1.0), self.q[i, :size]
        today = counts[:size] / n
        chance = 0.8 * float(noise(q, n))  # the bound is a root mean square; .8 of it is the mean
        moved = max((0.5 * float(np.abs(today - q).sum())) ** 2 - chance**2, 0.0) ** 0.5
        distance, tolerance, place = moved, allowed.tolerance, int(np.argmax(today - q))
        for special, most in zip(feature.special, allowed.special, strict=True):
            rise = float(today[special] - q[special])
            if rise > most - q[special] and rise / (most - q[special]) > distance / tolerance:
                distance, tolerance, place = rise, float(most - q[special]), special
        words = f"{feature.labels[place]}: {today[place]:.0%}, {q[place]:.0%} in training"
        return Moved(feature.name, share, distance, tolerance, words)

    def _pad(self, rows: Sequence[NDArray[Any]]) -> Floats:
        out = np.zeros((len(self.names), max(self._sizes, default=1)))
        for i, row in enumerate(rows):
            out[i, : self._sizes[i]] = row
        return out

    def _weigh(self) -> Floats:
        """Weigh the guesses: half for what was learnt from earlier windows, half for the ready ones of each feature."""
        ready = self._bets[len(MEMORIES) :]
        each = 0.5 / np.maximum(ready.sum(0), 1)
        learnt = np.where(ready.any(0), 0.5, 1.0) / len(MEMORIES)
        return np.concatenate([np.tile(learnt, (len(MEMORIES), 1)), ready * each])

    def _learnt_bets(self) -> tuple[Floats, NDArray[np.bool_]]:
        made = [project(self._guess(seen), self.q, self.tolerance) for seen in self.seen]
        return np.stack([m[0] for m in made]), np.stack([m[1] for m in made])

    def _guess(self, seen: Floats) -> Floats:
        """Guess today's distribution from earlier windows, shrunk towards the reference as far as chance explains."""
        sizes = np.array(self._sizes, np.float64)[:, None]
        n = seen.sum(1, keepdims=True)
        inside = self.q > 0
        r = (seen + PRIOR * self.q + 0.5 * inside / sizes) / (n + PRIOR + 0.5)
        excess = np.divide((r - self.q) ** 2, self.q, out=np.zeros_like(r), where=inside).sum(1, keepdims=True)
        kept = np.maximum(0.0, 1 - (sizes - 1) / np.maximum(n * self.kappa[:, None] * excess, 1e-9))
        return np.asarray(self.q + kept * (r - self.q))

    def _ready_bets(self) -> Floats:
        """Score the bets that need no learning, so that the first drifted window already counts."""
        out = []
        ordered = [f.kind == "number" for f in self.reference.features]
        if any(ordered):
            guesses = [(shift, 1.0) for shift in SHIFTS] + [(0.0, scale) for scale in SCALES]
            for shift, scale in guesses:
                scores, _ = project(self._tilt(shift, scale), self.q, self.tolerance)
                out.append(scores * np.array(ordered)[:, None])
        for special in range(3):
            out += [self._rise(special, rise) for rise in RISES]
        return np.stack(out) if self.names else np.zeros((0, 0, 1))

    def _tilt(self, shift: float, scale: float) -> Floats:
        """Move the ordered bins as a shift or stretch of the underlying normal score would."""
        out = self.q.copy()
        for i, feature in enumerate(self.reference.features):
            if feature.kind == "number":
                out[i, : self._sizes[i] - 1] = tilt(self.q[i, : self._sizes[i] - 1], shift, scale)
        return out

    def _rise(self, special: int, rise: float) -> Floats:
        """Bet that one special bin (below, above, unseen, null) holds more than it ever may."""
        scores = np.zeros_like(self.q)
        for i, (feature, allowed) in enumerate(zip(self.reference.features, self.allowances, strict=True)):
            if special < len(feature.special) and (most := float(allowed.special[special])) < 0.95:
                guess = most + rise * (1 - most)
                scores[i, : self._sizes[i]] = np.log((1 - guess) / (1 - most))
                scores[i, feature.special[special]] = np.log(guess / most)
        return scores


def tilt(q: Floats, shift: float, scale: float) -> Floats:
    """Move mass between ordered bins as if the value were normal and were shifted and stretched.

    >>> tilt(np.array([0.5, 0.5]), 0.25, 1.0).round(2).tolist()
    [0.4, 0.6]
    """
    normal = NormalDist()
    total = q.sum()
    ends = np.clip(np.concatenate([[0.0], np.cumsum(q / total)]), 1e-12, 1 - 1e-12)
    moved = np.array([normal.cdf((normal.inv_cdf(e) - shift) / scale) for e in ends])
    moved[0], moved[-1] = 0.0, 1.0
    r = np.diff(moved) + 1e-9
    return np.asarray(r / r.sum() * total)


def project(r: Floats, q: Floats, tolerance: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Give each bin's log score for a bet on r against all that lies within a tolerance of q, row by row.

    Closed form of the nearest distribution in KL(r || .): with bins sorted by r/q, the allowed distribution is
    clip(q, a r, b r). Whatever the rounding, c = sum q s + tolerance (max s - min s) bounds the expected score of
    everything allowed, so that scores less log c are evidence. The second result says where r is not allowed itself
    (elsewhere nothing is bet). Bins with q = 0 and r = 0 are padding.
    """
    tol = tolerance[:, None]
    inside = q > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        order = np.argsort(-np.where(inside, r / q, -1.0), axis=1)
        R, Q = np.take_along_axis(r, order, 1), np.take_along_axis(q, order, 1)
        a = np.min((tol + Q.cumsum(1)) / R.cumsum(1), axis=1, keepdims=True)
        tail_r, tail_q = R[:, ::-1].cumsum(1), Q[:, ::-1].cumsum(1)
        b = np.max(np.where(tail_r > 0, (tail_q - tol) / tail_r, -np.inf), axis=1, keepdims=True)
        bets = (a < 1).ravel()
        p = np.clip(q, a * r, np.maximum(a, b) * r)
        s = np.where(inside & (r > 0), r / p, 0.0)
    largest = s.max(1)
    smallest = np.where(inside, s, np.inf).min(1)
    c = np.maximum((q * s).sum(1) + np.minimum(tolerance, 1.0) * (largest - smallest), 1.0)
    with np.errstate(divide="ignore"):
        scores = np.where(inside & bets[:, None], np.log(s) - np.log(c)[:, None], 0.0)
    return scores, bets
