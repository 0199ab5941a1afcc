"""Data quality: bets on the bins for what hardly occurred, each against all other rows of its feature.

A column whose nulls, unknown or impossible values grow beyond what any reference window held, and a little more, is
broken data before it is drift. A share that falls under all of theirs counts too: a source began to fill it in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from trilho.watch.frame import RISES, SURE, Frame, Layout
from trilho.watch.memory import decode, encode
from trilho.watch.projection import TINY, Flags, Floats

MEMORIES = (0.0, 0.8)
PRIOR = 20.0
LARGEST = 600.0


class Quality:
    """Evidence on special bins: (bets, features, special); half is staked on ready rises, half on what was learnt."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        shape = layout.there.shape
        self._keep = np.array(MEMORIES)[:, None, None]
        self.seen = np.zeros((len(MEMORIES), *shape))
        self.rows = np.zeros((len(MEMORIES), shape[0], 1))
        self.log_m = np.full((len(RISES) + len(MEMORIES), *shape), -np.inf)
        held = np.maximum(layout.there.sum(1, keepdims=True), 1)
        self._weights = layout.there / held * 0.5 / np.array([len(RISES)] * 2 + [len(MEMORIES)] * 2)[:, None, None]

    def update(self, frame: Frame, counts: Floats, factor: Floats, log_restart: float) -> Floats:
        """Take in one window; give what each bet gained in it."""
        held = np.take_along_axis(counts, self._layout.places, 1) * self._layout.there
        rows = counts.sum(1)[:, None]
        others = rows - held
        into, beside, bets = frame.rises
        learnt_into, learnt_beside, learnt_bets = self._learnt(frame)
        into, beside = np.concatenate([into, learnt_into]), np.concatenate([beside, learnt_beside])
        gains = (held * into + others * beside) * factor[:, None]
        capped = np.isfinite(frame.log_cap)
        if capped.any():
            less = np.logaddexp(np.minimum(gains, frame.log_cap[:, None]) - np.log(1.25), 0.0) - np.log(2)
            gains = np.where(capped[:, None], less, gains)
        made = np.concatenate([bets, learnt_bets]) & (rows > 0)
        restart = np.where(made, log_restart, -np.inf)
        self.log_m = np.minimum(np.logaddexp(self.log_m, restart) + gains, LARGEST)
        weight = (factor / frame.kappa)[:, None]
        self.seen = self._keep * self.seen + held * weight
        self.rows = self._keep * self.rows + rows * weight
        return np.asarray(gains)

    def stakes(self) -> Floats:
        """Give the evidence of each bet."""
        return np.asarray(self._weights * np.exp(self.log_m))

    def start_again(self) -> None:
        """Forget the evidence, keep what was learnt."""
        self.log_m[:] = -np.inf

    def state(self) -> dict[str, Any]:
        """Give what a restarted watcher goes on from, as JSON values."""
        return {"seen": encode(self.seen), "rows": encode(self.rows), "log_m": encode(self.log_m)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.seen = decode(state["seen"], self.seen.shape)
        self.rows = decode(state["rows"], self.rows.shape)
        self.log_m = decode(state["log_m"], self.log_m.shape)

    def _learnt(self, frame: Frame) -> tuple[Floats, Floats, Flags]:
        """Bet on the share of earlier windows, where that is more than may be, or less."""
        q = np.take_along_axis(frame.q, self._layout.places, 1)
        guess = np.clip((self.seen + PRIOR * q) / (self.rows + PRIOR), TINY, 1 - 1e-9)
        over = (guess > frame.most) & (frame.most < SURE)
        under = (guess < frame.least) & (frame.least > 0)
        bets = (over | under) & self._layout.there
        bound = np.where(over, frame.most, np.where(under, frame.least, 0.5))
        into = np.where(bets, np.log(guess / bound), 0.0)
        beside = np.where(bets, np.log((1 - guess) / (1 - bound)), 0.0)
        return into, beside, bets
