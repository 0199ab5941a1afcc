"""What follows an alarm: is it confirmed by what comes after it, and has what it was about gone?

Both look at later windows only, so that the alarm's own evidence is not used twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from trilho.watch.memory import decode, encode
from trilho.watch.projection import Floats
from trilho.watch.reading import DriftKind, Reading, Window

ENOUGH = 100.0  # a fresh product of evidence reaches this for nothing with 1% at most
SMALLEST = 1e-4  # of the stakes: bets with less are left out
NAMED = 3
LARGEST = 600.0


class Confirmation:
    """A fresh product of evidence from the window after an alarm on, without restarts.

    Its stakes are the alarm's: half as the bets stood when it came, half evenly over the bets of its causes. What did
    not happen at the alarm for a reason reaches 100 afterwards with a probability of at most 1%, however long it lasts.
    """

    def __init__(self, kind: DriftKind, stakes: Mapping[str, Floats]) -> None:
        self.kind = kind
        self.stakes = dict(stakes)  # feature -> stake of each of its bets
        self.log_products = {name: np.zeros(stake.shape) for name, stake in self.stakes.items()}
        self.windows = 0
        self.confirmed = False

    @classmethod
    def after(cls, reading: Reading, kind: DriftKind) -> Confirmation:
        """Begin after a reading in which a kind alarmed."""
        window = reading.window
        if window is None:
            raise ValueError("a reading of no rows alarms for nothing")
        held, shares = _stakes(window, kind), window.shares[kind]
        total = float(shares.sum()) or 1.0
        made: dict[str, Floats] = {}
        for i in np.flatnonzero(shares / total >= SMALLEST).tolist():
            stake = held[i] / max(float(held[i].sum()), 1e-300)
            evenly = np.full(len(stake), 1 / len(stake))
            made[window.features[i].name] = float(shares[i]) / total * (0.5 * stake + 0.5 * evenly)
        return cls(kind, made)

    @property
    def evidence(self) -> float:
        """Give the product so far."""
        return float(sum((self.stakes[n] * np.exp(self.log_products[n])).sum() for n in self.stakes))

    def update(self, reading: Reading) -> bool:
        """Take in a later window; say whether the alarm is confirmed by now."""
        if reading.window is None or self.confirmed:
            return self.confirmed
        gains = _gains(reading.window, self.kind)
        for i, feature in enumerate(reading.window.features):
            if feature.name in self.stakes:
                self.log_products[feature.name] = np.minimum(self.log_products[feature.name] + gains[i], LARGEST)
        self.windows += 1
        self.confirmed = self.evidence >= ENOUGH
        return self.confirmed

    def state(self) -> dict[str, Any]:
        """Give what a restarted watcher goes on from, as JSON values."""
        features = {name: [encode(self.stakes[name]), encode(self.log_products[name])] for name in self.stakes}
        return {
            "schema": 1, "kind": self.kind, "features": features, "windows": self.windows, "confirmed": self.confirmed,
        }  # fmt: skip

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Confirmation:
        """Go on from a state."""
        made = cls(state["kind"], {name: decode(stake, (-1,)) for name, (stake, _) in state["features"].items()})
        made.log_products = {name: decode(product, (-1,)) for name, (_, product) in state["features"].items()}
        made.windows, made.confirmed = state["windows"], state["confirmed"]
        return made


class Resolution:
    """Tests whether what an alarm was about has gone: for each named feature the bins that had grown are frozen, and
    their share must have fallen under half of what is allowed beyond the reference's.

    While the share stays at the tolerance or beyond, a false end is expected at most once in 100 windows that are right
    at the limit, and hardly ever further out.
    """

    def __init__(self, kind: DriftKind, grown: Mapping[str, list[int]]) -> None:
        self.kind = kind
        self.grown = {name: list(bins) for name, bins in grown.items()}
        self.evidence = dict.fromkeys(self.grown, 0.0)
        self.gone: set[str] = set()
        self.windows = 0

    @classmethod
    def after(cls, reading: Reading, kind: DriftKind, named: int = NAMED) -> Resolution:
        """Begin after a reading in which a kind alarmed, for the features with the largest shares."""
        window = reading.window
        if window is None:
            raise ValueError("a reading of no rows alarms for nothing")
        found = reading.causes_of(kind)[:named]
        causes = [c for c in found if c.share >= 0.05] or found
        places = {feature.name: i for i, feature in enumerate(window.features)}
        return cls(kind, {c.feature: _grown(window, places[c.feature], kind) for c in causes})

    @property
    def resolved(self) -> bool:
        """Say whether all named features are back."""
        return bool(self.grown) and self.windows > 0 and len(self.gone) == len(self.grown)

    def update(self, reading: Reading) -> bool:
        """Take in a later window; say whether what was alarmed about has gone."""
        window = reading.window
        if window is None or self.resolved:
            return self.resolved
        for i, feature in enumerate(window.features):
            if feature.name in self.grown and window.counts[i].any():
                self._learn(feature.name, _gain_of_end(window, i, self.grown[feature.name], self.kind))
        self.windows += 1
        return self.resolved

    def _learn(self, name: str, gain: float) -> None:
        held = max(self.evidence[name], 1.0)
        self.evidence[name] = float(held * np.exp(np.clip(gain, -LARGEST, LARGEST / 2)))
        if self.evidence[name] >= ENOUGH:
            self.gone.add(name)
            self.evidence[name] = ENOUGH
        elif gain < -np.log(ENOUGH):  # it came back
            self.gone.discard(name)

    def state(self) -> dict[str, Any]:
        """Give what a restarted watcher goes on from, as JSON values."""
        return {
            "schema": 1, "kind": self.kind, "grown": self.grown, "evidence": self.evidence, "gone": sorted(self.gone),
            "windows": self.windows,
        }  # fmt: skip

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Resolution:
        """Go on from a state."""
        made = cls(state["kind"], state["grown"])
        made.evidence, made.gone, made.windows = dict(state["evidence"]), set(state["gone"]), state["windows"]
        return made


def _stakes(window: Window, kind: DriftKind) -> Floats:
    """Give each feature's stakes: features, bets."""
    if kind == "quality":
        return np.asarray(window.special_stakes.transpose(1, 0, 2).reshape(len(window.features), -1))
    return np.asarray(window.stakes.T)


def _gains(window: Window, kind: DriftKind) -> Floats:
    if kind == "quality":
        return np.asarray(window.special_gains.transpose(1, 0, 2).reshape(len(window.features), -1))
    return np.asarray(window.gains.T)


def _shares(window: Window, i: int, kind: DriftKind) -> tuple[Floats, Floats, float]:
    """Give a feature's counts, what is expected of them, and its room: of all rows, or of the known values."""
    frame = window.frame
    if kind == "quality":
        return window.counts[i], frame.q[i], float(frame.tolerance[i])
    return window.counts[i] * frame.layout.regular[i], frame.inputs[i], float(frame.room[i])


def _grown(window: Window, i: int, kind: DriftKind) -> list[int]:
    """Give the bins that hold more than is expected; of special bins the one that grew most, or else lost most."""
    counts, q, _ = _shares(window, i, kind)
    if kind == "quality":
        special = list(window.features[i].special)
        more = (counts / max(float(counts.sum()), 1.0) - q)[special]
        if float(more.max()) >= -float(more.min()):
            return [special[int(np.argmax(more))]]
        gone = special[int(np.argmin(more))]
        return [b for b in range(len(window.features[i].labels)) if b != gone]
    lately = window.lately(window.frame.inputs)[i]
    today = counts / max(float(counts.sum()), 1.0)
    guess = np.where(np.abs(today - q).sum() > np.abs(lately - q).sum(), today, lately)
    return [int(b) for b in np.flatnonzero(guess > q)]


def _gain_of_end(window: Window, i: int, grown: list[int], kind: DriftKind) -> float:
    """Weigh "back" against "at the tolerance or beyond" by the rows in the frozen bins.

    Back is half of it at half the tolerance and half of it where the reference was, which is quicker to tell.
    """
    counts, q, room = _shares(window, i, kind)
    n, held, expected = float(counts.sum()), float(counts[grown].sum()), float(q[grown].sum())
    if kind == "quality" and len(grown) == 1 and grown[0] in window.features[i].special:
        room = float(window.frame.most[i, window.features[i].special.index(grown[0])]) - expected
    room = min(room, 0.9 * (1 - expected))
    if room <= 0 or n == 0:
        return 0.0
    drifted = expected + room
    gains = [
        held * np.log(back / drifted) + (n - held) * np.log((1 - back) / (1 - drifted))
        for back in (expected + room / 2, max(expected, 1e-9))
    ]
    return float(np.logaddexp(*(np.array(gains) * window.factor[i])) - np.log(2))
