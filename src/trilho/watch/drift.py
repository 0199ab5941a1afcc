"""Drift of inputs and predictions: e-detectors on counts, with one promise about false alarms.

For each feature several *guesses* of today's distribution bet against the nearest distribution that is still allowed
(within the feature's tolerance of the reference). A bet's evidence is multiplied over windows and restarted all the
time (Shiryaev-Roberts); the mean over guesses and features is compared with a threshold. In any T windows without
drift at most T/A false alarms are expected, however the features depend on each other.

The promise is one, and three kinds of alarms share it by weights that sum to 1: inputs, predictions, and the quality of
the data (values that are null, NaN, infinite, outside the reference's range or unknown to it). A kind of weight w
alarms at A/w, so that its own false alarms are at most w T/A. Inputs are judged among the values that are there and
known; how many are not is for quality to say.

Shin, Ramdas, Rinaldo: E-detectors, arXiv 2203.03532. The projection and its certificate: docs of `project`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from trilho.watch.frame import Frame, Layout, is_prediction
from trilho.watch.memory import Memory, decode, encode
from trilho.watch.projection import READY_WEIGHTS, TINY, Flags, Floats, project, tilt
from trilho.watch.quality import Quality
from trilho.watch.reading import Cause, DriftKind, KindEvidence, Reading, Window
from trilho.watch.reference import ENOUGH_WINDOWS, Allowance, allowances
from trilho.watch.seasons import Seasons
from trilho_runtime.profile import Reference

if TYPE_CHECKING:
    from trilho.watch.slices import Slices

__all__ = ["WEIGHTS", "Cause", "DriftDetector", "KindEvidence", "Reading", "project", "tilt"]

LARGEST = 600.0  # of a log, so that no sum overflows
WEIGHTS: Mapping[DriftKind, float] = {"inputs": 0.4, "predictions": 0.1, "quality": 0.1}
FEW_EXCURSIONS = 4.0
SLICED = 0.5  # of the inputs' and predictions' evidence is the slices', where there are any


class DriftDetector:
    """Watch windows of counts, one after the other.

    `average_run_length` is A: at most T/A false alarms are expected in T windows. `weights` are the kinds' shares of
    that promise; a kind that the reference has nothing of leaves its share to the others. `restart` is what each window
    stakes anew, less than 1 where two detectors share one promise.

    >>> reference = Reference.fit({"x": np.arange(5000.0) % 100}, None, 86400)
    >>> reading = DriftDetector(reference).update(reference.profile({"x": np.arange(5000.0) % 40}))
    >>> reading.alarm, reading.causes[0].feature
    (True, 'x')
    """

    def __init__(
        self,
        reference: Reference,
        average_run_length: float = 1000,
        tolerance: float | Literal["auto"] = "auto",
        *,
        weights: Mapping[DriftKind, float] | None = None,
        window: float | timedelta | None = None,
        allowed: Sequence[Allowance] | None = None,
        slices: Slices | None = None,
        restart: float = 1.0,
    ) -> None:
        if slices is not None:
            reference = slices.beside(reference)
            allowed = None
        self.reference = reference
        self._sliced = len(slices.features) if slices is not None else 0
        self.threshold = float(average_run_length)
        self.allowances = list(allowed) if allowed is not None else allowances(reference, tolerance)
        features = reference.features
        self.layout = Layout.of(features)
        self.names = list(self.layout.names)
        self.frame = Frame.of(self.layout, self.allowances)
        given = window.total_seconds() if isinstance(window, timedelta) else window
        self.window_seconds = float(given or reference.window_seconds)
        learn = tolerance == "auto" and self.window_seconds == reference.window_seconds
        self.seasons = Seasons.learn(reference, self.allowances, self.layout) if learn else Seasons.none(self.layout)
        self._of_kind, self.weights = self._kinds(weights or WEIGHTS)
        self._memory = Memory(self.frame.inputs.shape)
        self._quality = Quality(self.layout)
        self.restart = restart
        self.windows = 0
        self._stakes(self.frame)
        self.log_m = np.full((self._memory.count + len(self.frame.ready), len(features)), -np.inf)

    def update(self, profile: Mapping[str, NDArray[Any]], when: datetime | float | None = None) -> Reading:
        """Take in one window's counts; on an alarm the evidence starts again, what was learnt stays.

        `when` is a time in the window (its start), by which it is compared with the same season of the reference. A
        feature that the profile lacks is a column that is missing: all its rows count as null.
        """
        reading = self.weigh(profile, when)
        for kind, found in reading.kinds.items():
            if found.alarm and reading.window is not None:
                self.start_again(kind)
        return reading

    def weigh(self, profile: Mapping[str, NDArray[Any]], when: datetime | float | None = None) -> Reading:
        """Take in one window's counts, without starting again where they alarm."""
        counts, missing = self._counts(profile)
        rows = counts.sum(1)
        if not self.names or not rows.any():
            return self._read(self._shares()[0], None, ())
        frame, notes = self.seasons.frame(self.frame, when)
        factor = frame.kappa * np.minimum(1, frame.rows / np.maximum(rows, 1))
        gains, bets = self._gains(frame, counts, factor)
        bets &= rows > 0  # a feature without rows says nothing
        self.log_m = np.minimum(_advance(self.log_m, gains, bets, float(np.log(self.restart))), LARGEST)
        special = self._quality.update(frame, counts, factor, float(np.log(self.restart)))
        self._memory.learn(counts * self.layout.regular, frame.inputs, factor / frame.kappa)
        self.windows += 1
        shares, stakes, special_stakes = self._shares()
        window = Window(
            self.reference.features, frame, counts, factor, shares, gains, special, stakes, special_stakes,
            self._memory.lately(), missing,
        )  # fmt: skip
        return self._read(shares, window, notes)

    def start_again(self, kind: DriftKind) -> None:
        """Forget a kind's evidence, keep what was learnt."""
        if kind == "quality":
            self._quality.start_again()
        else:
            self.log_m[:, self._of_kind[kind] > 0] = -np.inf

    @property
    def evidence(self) -> float:
        """Give the evidence so far; it alarms at the threshold."""
        shares = self._shares()[0]
        return max((w * float(shares[kind].sum()) for kind, w in self.weights.items()), default=0.0)

    @property
    def seen(self) -> Floats:
        """Give the counts that guesses are made from: memories, features, bins."""
        return self._memory.seen

    @property
    def most(self) -> Floats:
        """Give how many rows of one window count at most, by feature."""
        return self.frame.rows

    @property
    def run_lengths(self) -> dict[DriftKind, float]:
        """Give the windows that each kind's false alarms lie apart, at least, on average."""
        return {kind: self.threshold / weight for kind, weight in self.weights.items()}

    def notes(self) -> list[str]:
        """Say what is watched less well than it should be, and why; nothing where all is well."""
        learnt = {a.learnt for a in self.allowances}
        found = []
        if "floor" in learnt:
            held = f"the reference has {self.reference.windows} windows"
            found.append(f"{held}, {ENOUGH_WINDOWS} are needed to learn natural variation")
        slow = [name for name, a in zip(self.names, self.allowances, strict=True) if a.excursions < FEW_EXCURSIONS]
        if slow:
            named = ", ".join(slow[:3]) + (f" and {len(slow) - 3} more" if len(slow) > 3 else "")
            found.append(
                f"too slow to be known from the reference, so that its false alarms may be more than promised: {named}"
            )
        return [*found, *self.seasons.notes]

    def state(self) -> dict[str, Any]:
        """Give what a restarted detector goes on from, as JSON values."""
        return {
            "schema": 2,
            "names": self.names,
            "windows": self.windows,
            "log_m": encode(self.log_m),
            "memory": self._memory.state(),
            "quality": self._quality.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of a detector on the same reference; that of an older trilho starts from nothing."""
        if state["names"] != self.names or state["schema"] not in (1, 2):
            raise ValueError("the detector's memory belongs to another reference")
        if state["schema"] == 1:
            return
        self.windows = int(state["windows"])
        self.log_m = decode(state["log_m"], self.log_m.shape)
        self._memory.restore(state["memory"])
        self._quality.restore(state["quality"])

    # ---- inside --------------------------------------------------------------------------------------------------

    def _kinds(self, given: Mapping[DriftKind, float]) -> tuple[dict[DriftKind, Floats], dict[DriftKind, float]]:
        """Give each kind's features by what they count for, and the kinds' shares of the promise."""
        features, sliced = self.reference.features, self._sliced
        own = np.arange(len(features)) < len(features) - sliced
        rows = np.where(own, 1 - SLICED if sliced else 1.0, SLICED)
        predicted = np.array([is_prediction(f) for f in features], bool)
        open_to = np.array([a.learnt != "shown" for a in self.allowances], bool)
        of: dict[DriftKind, Flags] = {
            "inputs": ~predicted & open_to,
            "predictions": predicted & open_to,
            "quality": self.layout.there.any(1) & open_to,
        }
        shared = {kind: _shared(rows, held, own) for kind, held in of.items() if held.any() and given.get(kind, 0) > 0}
        total = sum(given[kind] for kind in shared) or 1.0
        return shared, {kind: given[kind] / total for kind in shared}

    def _counts(self, profile: Mapping[str, NDArray[Any]]) -> tuple[Floats, frozenset[str]]:
        """Give the counts, and which columns are missing: all their rows are null. A slice may be away."""
        away = [i for i, name in enumerate(self.names) if name not in profile]
        if not away:
            return self.layout.pad([profile[name] for name in self.names]), frozenset()
        rows = max((int(np.sum(counts)) for name, counts in profile.items() if name in self.names), default=0)
        empty = {self.names[i]: np.zeros(self.layout.sizes[i]) for i in away}
        missing = [i for i in away if i < len(self.names) - self._sliced]
        for i in missing:
            empty[self.names[i]][self.layout.null[i]] = rows
        padded = self.layout.pad([profile[name] if name in profile else empty[name] for name in self.names])
        return padded, frozenset(self.names[i] for i in missing)

    def _gains(self, frame: Frame, counts: Floats, factor: Floats) -> tuple[Floats, Flags]:
        """Give what each bet gains in this window, and which bets are made."""
        scores, bets = project(self._memory.guesses(frame.inputs, frame.kappa), frame.inputs, frame.room)
        learnt = np.einsum("fk,mfk->mf", counts, scores)
        ready = np.einsum("fk,jfk->jf", counts, frame.ready)
        gains = np.concatenate([learnt, ready]) * factor
        return limited(gains, frame.log_cap), np.concatenate([bets, frame.ready_bets])

    def _stakes(self, frame: Frame) -> None:
        """Weigh the guesses: half for what was learnt from earlier windows, half for the ready ones of each feature."""
        bets = frame.ready_bets | (self.seasons.taken & (self.layout.ordered > 0))
        ready, count = bets * READY_WEIGHTS[: len(frame.ready), None], self._memory.count
        each = 0.5 / np.maximum(ready.sum(0), TINY)
        learnt = np.where(ready.any(0), 0.5, 1.0) / count
        self._weights = np.concatenate([np.tile(learnt, (count, 1)), ready * each])

    def _shares(self) -> tuple[dict[DriftKind, Floats], Floats, Floats]:
        stakes, special_stakes = self._weights * np.exp(self.log_m), self._quality.stakes()
        by_feature, special = stakes.sum(0), special_stakes.sum((0, 2))
        of = {kind: rows * (special if kind == "quality" else by_feature) for kind, rows in self._of_kind.items()}
        return of, stakes, special_stakes

    def _read(self, shares: Mapping[DriftKind, Floats], window: Window | None, notes: tuple[str, ...]) -> Reading:
        kinds = {
            kind: KindEvidence(float(shares[kind].sum()), self.threshold / weight, weight)
            for kind, weight in self.weights.items()
        }
        evidence = max((found.evidence * found.weight for found in kinds.values()), default=0.0)
        alarm = window is not None and any(found.alarm for found in kinds.values())
        return Reading(alarm, evidence, self.threshold, kinds, notes, window)


def _advance(log_m: Floats, gains: Floats, bets: Flags, log_restart: float) -> Floats:
    """Stake anew where a bet is made, and multiply by what it gained."""
    return np.asarray(np.logaddexp(log_m, np.where(bets, log_restart, -np.inf)) + gains)


def _shared(rows: Floats, held: Flags, own: Flags) -> Floats:
    """Spread a kind's evidence over its features: evenly among its whole ones, evenly among those of slices."""
    out = np.zeros(len(rows))
    for part in (held & own, held & ~own):
        if part.any():
            out[part] = rows[part] / part.sum()
    return np.asarray(out / out.sum())


def limited(gains: Floats, log_cap: Floats) -> Floats:
    """Let one window do only so much, where windows differ by nature.

    Evidence of at most a quarter of B + 1, for what happens by chance once in B + 1, is paid for by 1.25; half of the
    stake is kept back, so that one ordinary window does not undo what many others showed.
    """
    capped = np.isfinite(log_cap)
    if not capped.any():
        return gains
    less = np.logaddexp(np.minimum(gains, log_cap) - np.log(1.25), 0.0) - np.log(2)
    return np.where(capped, less, gains)
