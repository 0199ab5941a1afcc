"""What a window is compared with: the shares that are expected, how far they may be off, and bets made ready for both.

A frame is made once for the whole reference, and once for each of its seasons; windows then cost only sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trilho.watch.projection import TINY, Flags, Floats, ready_scores
from trilho.watch.reference import Allowance
from trilho_runtime.profile import PREDICTION, Feature

Ints = NDArray[np.int64]
IN_RANGE = ("below", "above")
RISES = (0.1, 0.5)
SURE = 0.95


def is_prediction(feature: Feature) -> bool:
    """Say whether a feature is the model's own answers, of all rows or of a slice."""
    return feature.column.split("[")[0] == PREDICTION


@dataclass(frozen=True)
class Layout:
    """Where each feature's bins lie in arrays of (features, bins) and its special bins in (features, special)."""

    names: tuple[str, ...]
    sizes: Ints
    ordered: Ints
    regular: Flags  # features, bins: the bins that inputs are judged by; values that are none are left to quality
    places: Ints  # features, special: the bin of each
    there: Flags  # features, special: False is padding
    null: Ints  # the bin for rows without the column

    @classmethod
    def of(cls, features: Sequence[Feature]) -> Layout:
        """Lay out a reference's features."""
        sizes = np.array([len(f.labels) for f in features], np.int64)
        width = max((len(f.special) for f in features), default=1)
        regular = np.arange(int(sizes.max(initial=1))) < sizes[:, None]
        places, there = np.zeros((len(features), width), np.int64), np.zeros((len(features), width), bool)
        for i, feature in enumerate(features):
            places[i, : len(feature.special)], there[i, : len(feature.special)] = feature.special, True
            apart = [p for p, n in zip(feature.special, feature.special_names, strict=True) if n not in IN_RANGE]
            regular[i, apart] = False
        null = np.array([f.special[-1] if f.special else len(f.labels) - 1 for f in features], np.int64)
        ordered = np.array([f.ordered for f in features], np.int64)
        return cls(tuple(f.name for f in features), sizes, ordered, regular, places, there, null)

    @cached_property
    def flat(self) -> Ints:
        """Give where the features' counts, one after the other, lie in the flattened array."""
        return np.flatnonzero(np.arange(self.regular.shape[1]) < self.sizes[:, None])

    def pad(self, rows: Sequence[NDArray[np.generic]]) -> Floats:
        """Put the features' bins into one array."""
        out = np.zeros(self.regular.shape)
        if rows:
            out.ravel()[self.flat] = np.concatenate(rows)
        return out

    def pad_special(self, rows: Sequence[Floats]) -> Floats:
        """Put the features' special bins into one array."""
        out = np.zeros(self.there.shape)
        if rows:
            out[self.there] = np.concatenate(rows)
        return out


@dataclass(frozen=True)
class Frame:
    """The expected shares `q`, and what may happen around them, feature by feature."""

    layout: Layout
    q: Floats
    tolerance: Floats
    kappa: Floats
    log_cap: Floats  # infinite where a window may say as much as it will
    rows: Floats  # that one window counts for at most
    effective: Floats  # independent rows behind q
    most: Floats  # features, special
    least: Floats

    @classmethod
    def of(cls, layout: Layout, allowances: Sequence[Allowance]) -> Frame:
        """Make the frame of one allowance for each feature."""
        given = np.array([(a.tolerance, a.kappa, a.cap, a.rows, a.effective) for a in allowances]).reshape(-1, 5).T
        special = layout.pad_special([a.special for a in allowances])
        least = layout.pad_special([a.least for a in allowances])
        return cls(
            layout, layout.pad([a.q for a in allowances]), given[0], given[1], np.log(given[2]), given[3], given[4],
            np.where(layout.there, np.maximum(special, TINY), 1.0), least,
        )  # fmt: skip

    @cached_property
    def inputs(self) -> Floats:
        """Give the expected shares among the values that are there and known."""
        kept = self.q * self.layout.regular
        return np.asarray(kept / np.maximum(kept.sum(1, keepdims=True), TINY))

    @cached_property
    def room(self) -> Floats:
        """Give the tolerance of `inputs`: leaving rows out can widen a distance only by their share."""
        kept = (self.q * self.layout.regular).sum(1)
        return np.asarray(np.minimum(self.tolerance / np.maximum(kept, TINY), 1.0))

    @cached_property
    def ready(self) -> Floats:
        """Give the scores of the bets that need no learning: bets, features, bins."""
        return ready_scores(self.inputs, self.layout.ordered, self.room)

    @cached_property
    def ready_bets(self) -> Flags:
        """Say which of the ready bets are made: bets, features."""
        return np.asarray((self.ready != 0).any(2))

    @cached_property
    def rises(self) -> tuple[Floats, Floats, Flags]:
        """Give what a row in a special bin is worth to bets on a rise, what any other row is, and which are made."""
        most = np.minimum(self.most, 1 - TINY)
        bets = self.layout.there & (most < SURE)
        guess = most + np.array(RISES)[:, None, None] * (1 - most)
        into, beside = np.log(guess / most) * bets, np.log((1 - guess) / (1 - most)) * bets
        return into, beside, np.broadcast_to(bets, guess.shape)
