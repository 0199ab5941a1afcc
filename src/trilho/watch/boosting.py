"""Small boosted trees on bins, in numpy: what a loss, a label or a row's origin depends on.

The rows are those that were held out, at most some ten thousands, and a column has at most 256 bins. A split puts bins
on one side or the other: neighbours of an ordered column, any of a category. How many trees there are is decided on
blocks of rows that were left out, and none is an answer too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bins = NDArray[np.uint8]
Kind = Literal["logistic", "squared"]

DEPTH = 3
RATE = 0.15
SHRINK = 5.0
LEAST_LEAF = 20.0
ROUNDS = 60
PATIENCE = 8
FOLDS = 3
BLOCKS = 10  # of rows, in each fold
LARGEST = 36.0  # of a logit


@dataclass(frozen=True)
class Tree:
    """A full tree: each node's column and the bins that go right, each leaf's value."""

    column: NDArray[np.int64]
    right: NDArray[np.bool_]
    leaf: Floats

    def __call__(self, bins: Bins) -> Floats:
        """Give each row's value."""
        rows, node = np.arange(len(bins)), np.zeros(len(bins), np.int64)
        for _ in range(DEPTH):
            node = 2 * node + 1 + self.right[node, bins[rows, self.column[node]]]
        return self.leaf[node - len(self.column)]


@dataclass(frozen=True)
class Boosted:
    """A start and trees that add up."""

    start: float
    trees: tuple[Tree, ...]

    def __call__(self, bins: Bins) -> Floats:
        """Give each row's sum: a logit, or a number."""
        found = np.full(len(bins), self.start)
        for tree in self.trees:
            found += tree(bins)
        return found


@dataclass(frozen=True)
class CrossFitted:
    """Trees of all rows, those of each fold's rest, and what the latter say of the rows that they never saw."""

    whole: Boosted
    parts: tuple[Boosted, ...]
    unseen: Floats


@dataclass(frozen=True)
class Rows:
    """What trees are fitted to: bins, targets, what is known of each row before (a logit or number), and weights."""

    bins: Bins
    target: Floats
    before: Floats
    weight: Floats

    def take(self, picked: NDArray[Any]) -> Rows:
        """Give some of the rows."""
        return Rows(self.bins[picked], self.target[picked], self.before[picked], self.weight[picked])


def chance_of(logit: Floats) -> Floats:
    """Give the probability that a logit stands for."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logit, -LARGEST, LARGEST))))


def logit_of(chance: Floats) -> Floats:
    """Give a probability's logit, a finite one.

    >>> logit_of(np.array([0.5, 0.0])).round(1).tolist()
    [0.0, -27.6]
    """
    chance = np.clip(chance, 1e-12, 1 - 1e-12)
    return np.asarray(np.log(chance / (1 - chance)))


def cross_fit(kind: Kind, rows: Rows, ordered: Sequence[bool], fold: NDArray[np.int64] | None = None) -> CrossFitted:
    """Fit trees, as many as help on rows that were left out.

    `ordered` says of each column whether its bins are in order. Rows that belong together have one `fold`.
    """
    fold = folds(len(rows.target)) if fold is None else fold
    growers = [_Grower(kind, rows.take(fold != k), ordered, rows.take(fold == k)) for k in range(int(fold.max()) + 1)]
    best, lowest, since = 0, sum(g.loss() for g in growers), 0
    for done in range(1, ROUNDS + 1):
        for grower in growers:
            grower.grow()
        lost = sum(g.loss() for g in growers)
        best, lowest, since = (done, lost, 0) if lost < lowest * (1 - 1e-5) else (best, lowest, since + 1)
        if since >= PATIENCE:
            break
    whole = _Grower(kind, rows, ordered)
    for _ in range(best):
        whole.grow()
    unseen, parts = np.zeros(len(fold)), tuple(g.grown(best) for g in growers)
    for k, part in enumerate(parts):
        unseen[fold == k] = part(rows.bins[fold == k])
    return CrossFitted(whole.grown(best), parts, unseen)


def folds(rows: int, count: int = FOLDS) -> NDArray[np.int64]:
    """Deal out blocks of neighbouring rows in turn, since neighbours are alike."""
    size = max(rows // (count * BLOCKS), 1)
    return np.arange(rows) // size % count


class _Grower:
    """Grows trees on some rows, and measures them on others."""

    def __init__(self, kind: Kind, rows: Rows, ordered: Sequence[bool], unseen: Rows | None = None) -> None:
        self.kind, self.rows, self.unseen = kind, rows, unseen
        self.ordered = np.asarray(ordered, bool)
        self.width = int(rows.bins.max(initial=0)) + 1
        if unseen is not None:
            self.width = max(self.width, int(unseen.bins.max(initial=0)) + 1)
        count = rows.bins.shape[1]
        self.flat = np.ascontiguousarray((rows.bins + np.arange(count) * self.width).T)
        self.start = 0.0
        if kind == "squared":
            self.start = float(np.average(rows.target - rows.before, weights=rows.weight)) if len(rows.target) else 0.0
        self.score = rows.before + self.start
        self.held = None if unseen is None else unseen.before + self.start
        self.trees: list[Tree] = []

    def loss(self) -> float:
        """Give the loss on the other rows, the sum of it."""
        assert self.unseen is not None
        assert self.held is not None
        score, target, weight = self.held, self.unseen.target, self.unseen.weight
        if self.kind == "squared":
            return float((weight * (score - target) ** 2).sum())
        return float((weight * (np.logaddexp(0, score) - target * score)).sum())

    def grow(self) -> None:
        """Add a tree."""
        if self.kind == "squared":
            slope, bend = self.rows.weight * (self.score - self.rows.target), self.rows.weight
        else:
            chance = chance_of(self.score)
            slope, bend = self.rows.weight * (chance - self.rows.target), self.rows.weight * chance * (1 - chance)
        tree, place = self._tree(slope, bend)
        self.trees.append(tree)
        self.score = self.score + tree.leaf[place]
        if self.unseen is not None and self.held is not None:
            self.held = self.held + tree(self.unseen.bins)

    def grown(self, count: int) -> Boosted:
        """Give the first so many trees."""
        return Boosted(self.start, tuple(self.trees[:count]))

    def _tree(self, slope: Floats, bend: Floats) -> tuple[Tree, NDArray[np.int64]]:
        inner, rows = 2**DEPTH - 1, np.arange(len(slope))
        column, right = np.zeros(inner, np.int64), np.zeros((inner, 256), bool)
        node = np.zeros(len(slope), np.int64)
        for level in range(DEPTH):
            first, count = 2**level - 1, 2**level
            slopes, bends, weights = (self._sums(node, count, x) for x in (slope, bend, self.rows.weight))
            found, splits = _best_splits(slopes, bends, weights, self.ordered)
            column[first : first + count], right[first : first + count, : self.width] = found, splits
            node = 2 * node + right[first + node, self.rows.bins[rows, column[first + node]]]
        total, weight = (np.bincount(node, x, minlength=inner + 1) for x in (slope, bend))
        return Tree(column, right, -RATE * total / (weight + SHRINK * self._unit)), node

    @property
    def _unit(self) -> float:
        return 1.0 if self.kind == "squared" else 0.25

    def _sums(self, node: NDArray[np.int64], count: int, what: Floats) -> Floats:
        """Add up by node, column and bin."""
        shift, size = node * self.width, count * self.width
        found = np.empty((len(self.flat), count, self.width))
        for j, flat in enumerate(self.flat):
            found[j] = np.bincount(flat - j * self.width + shift, what, minlength=size).reshape(count, -1)
        return found


def _best_splits(
    slope: Floats, bend: Floats, weight: Floats, ordered: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Give each node's best column, and which of its bins go right; none do where nothing is gained."""
    bins = slope.shape[-1]
    key = np.where(ordered[:, None, None], np.arange(bins), slope / (bend + SHRINK))
    order = np.argsort(key, axis=-1, kind="stable")
    left = [np.take_along_axis(x, order, -1).cumsum(-1) for x in (slope, bend, weight)]
    gain = _merit(left[0], left[1]) + _merit(left[0][..., -1:] - left[0], left[1][..., -1:] - left[1])
    small = (left[2] < LEAST_LEAF) | (left[2][..., -1:] - left[2] < LEAST_LEAF)
    gain = np.where(small, -np.inf, gain - _merit(left[0][..., -1:], left[1][..., -1:]))
    at, best = gain.argmax(-1), gain.max(-1)
    column = best.argmax(0)
    nodes = np.arange(slope.shape[1])
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(bins), order.shape), -1)
    right = rank[column, nodes] > at[column, nodes][:, None]
    return column, right & (best[column, nodes] > 0)[:, None]


def _merit(slope: Floats, bend: Floats) -> Floats:
    return slope**2 / (bend + SHRINK)
