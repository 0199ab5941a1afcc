"""Evidence on parts of hours: the e-detector of whole windows, with what an hour may stake and say spread over parts.

A part of an hour is a small window, so that looking every few seconds costs nothing: evidence is multiplied part by
part, and all the parts of an hour together stake what one window would. Where hours differ by nature, an hour can
multiply the evidence only so far, and its parts share that too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trilho.watch.drift import LARGEST, limited
from trilho.watch.frame import Frame, Layout
from trilho.watch.memory import MEMORIES, Memory, decode, encode
from trilho.watch.projection import READY_WEIGHTS, SCALES, SHIFTS, TINY, Flags, Floats, project
from trilho.watch.quality import MEMORIES as QUALITY_MEMORIES
from trilho.watch.quality import Quality

LASTING = (300.0, 3_000.0, 30_000.0)  # independent rows, over which memories forget
HEAD = 1 / 12  # of an hour's stakes that are there at its beginning
READY = len(SHIFTS) + len(SCALES)
assert len(LASTING) == len(MEMORIES)


@dataclass
class Spent:
    """What the parts of one hour have used of it: what was staked, and what bets have gained."""

    stake: float = 0.0
    gains: Floats | None = None
    special: Floats | None = None

    def stakes(self, share: float) -> float:
        """Give the log of what may be staked anew by now, and take it from the hour's."""
        new, self.stake = max(share - self.stake, 0.0), max(share, self.stake)
        return float(np.log(new)) if new > 0 else -np.inf


class PacedMemory(Memory):
    """A memory that forgets by rows, however many parts they come in."""

    def learn(self, counts: Floats, q: Floats, weight: Floats) -> None:
        """Take in a part; `weight` are its independent rows for each row of it."""
        self._keep = forgotten(counts.sum(1) * weight, LASTING)
        super().learn(counts, q, np.ones_like(weight))


class PacedQuality(Quality):
    """Bets on special bins, part by part."""

    def weigh(self, frame: Frame, counts: Floats, factor: Floats) -> tuple[Floats, Flags]:
        """Give what each bet gains in a part, and which are made."""
        held = np.take_along_axis(counts, self._layout.places, 1) * self._layout.there
        rows = counts.sum(1)[:, None]
        into, beside, bets = frame.rises
        learnt_into, learnt_beside, learnt_bets = self._learnt(frame)
        into, beside = np.concatenate([into, learnt_into]), np.concatenate([beside, learnt_beside])
        made = np.concatenate([bets, learnt_bets]) & (rows > 0)
        return (held * into + (rows - held) * beside) * factor[:, None], made

    def learn(self, counts: Floats, weight: Floats) -> None:
        """Take in a part for later bets."""
        held = np.take_along_axis(counts, self._layout.places, 1) * self._layout.there
        rows = counts.sum(1)
        keep = forgotten(rows * weight, LASTING[: len(QUALITY_MEMORIES)])
        self.seen, self.rows = keep * self.seen + held, keep * self.rows + rows[:, None]


def forgotten(rows: Floats, lasting: tuple[float, ...]) -> Floats:
    """Give what is kept of memories while so many rows come, feature by feature."""
    return np.asarray(np.exp(-rows / np.array(lasting)[:, None])[:, :, None])


class Evidence:
    """All bets on a model's features, part after part."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        features = len(layout.names)
        self.memory = PacedMemory(layout.regular.shape)
        self.quality = PacedQuality(layout)
        self.log_m = np.full((self.memory.count + READY, features), -np.inf)
        ready = np.concatenate([np.zeros((self.memory.count, 1)), READY_WEIGHTS[:READY, None]]) * (layout.ordered > 0)
        ready = 0.5 * ready / np.maximum(ready.sum(0), TINY)
        learnt = np.where(layout.ordered > 0, 0.5, 1.0) / self.memory.count
        ready[: self.memory.count] = learnt
        self._weights = ready
        self.gains = np.zeros_like(self.log_m)
        self.special_gains = np.zeros_like(self.quality.log_m)

    def update(self, frame: Frame, counts: Floats, spent: Spent, share: float) -> None:
        """Take in a part of an hour of which a share has gone."""
        rows = counts.sum(1)
        factor, stake = frame.kappa, spent.stakes(min(share + HEAD, 1.0))
        scores, bets = project(self.memory.guesses(frame.inputs, frame.kappa), frame.inputs, frame.room)
        gains = np.concatenate([np.einsum("fk,mfk->mf", counts, scores), self._ready(frame, counts)]) * factor
        made = np.concatenate([bets, self._ready_bets(frame)]) & (rows > 0)
        special, special_made = self.quality.weigh(frame, counts, factor)
        self.gains, spent.gains = _within(frame.log_cap, gains, spent.gains)
        self.special_gains, spent.special = _within(frame.log_cap[:, None], special, spent.special)
        self.log_m = _advance(self.log_m, self.gains, made, stake)
        self.quality.log_m = _advance(self.quality.log_m, self.special_gains, special_made, stake)
        self.memory.learn(counts * self.layout.regular, frame.inputs, frame.kappa)
        self.quality.learn(counts, frame.kappa)

    def stakes(self) -> tuple[Floats, Floats]:
        """Give the evidence of each bet, on inputs and on special bins."""
        return np.asarray(self._weights * np.exp(self.log_m)), self.quality.stakes()

    def start_again(self, features: Flags | None) -> None:
        """Forget the evidence on some features' inputs, or on all special bins; keep what was learnt."""
        if features is None:
            self.quality.start_again()
        else:
            self.log_m[:, features] = -np.inf

    def state(self) -> dict[str, Any]:
        """Give what a restarted watcher goes on from, as JSON values."""
        return {"log_m": encode(self.log_m), "memory": self.memory.state(), "quality": self.quality.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.log_m = decode(state["log_m"], self.log_m.shape)
        self.memory.restore(state["memory"])
        self.quality.restore(state["quality"])

    def _ready(self, frame: Frame, counts: Floats) -> Floats:
        if not len(frame.ready):
            return np.zeros((READY, len(counts)))
        return np.asarray(np.einsum("fk,jfk->jf", counts, frame.ready))

    def _ready_bets(self, frame: Frame) -> Flags:
        return frame.ready_bets if len(frame.ready) else np.zeros((READY, len(frame.kappa)), bool)


def _advance(log_m: Floats, gains: Floats, made: Flags, stake: float) -> Floats:
    return np.asarray(np.minimum(np.logaddexp(log_m, np.where(made, stake, -np.inf)) + gains, LARGEST))


def _within(log_cap: Floats, gains: Floats, before: Floats | None) -> tuple[Floats, Floats | None]:
    """Let the parts of an hour together do no more than one window may; give the gains, and the hour's until now."""
    if not np.isfinite(log_cap).any():
        return gains, None
    total = gains if before is None else before + gains
    done = 0.0 if before is None else limited(before, np.broadcast_to(log_cap, before.shape))
    more = limited(total, np.broadcast_to(log_cap, total.shape)) - done
    return np.where(np.isfinite(log_cap), more, gains), total
