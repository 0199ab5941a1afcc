"""scikit-learn's trees and what is made of them: all nodes of all trees in flat arrays, walked level by level.

Nodes are numbered by level over all trees, the roots first and siblings next to each other, so that one step is: take
a feature, take a threshold, compare, take the left child and add the comparison. A leaf is its own child.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.compiled import BIT_EQUAL, CLOSE, NotCompiled
from trilho_runtime.compiled.evaluator import (
    Evaluator,
    Floats,
    Parts,
    Read,
    check_finite,
    check_single,
    expit,
    softmax,
    two_columns,
)

Nodes = NDArray[np.intp]
AT_ONCE = 1 << 16  # nodes that are walked together: about what the second cache holds


class Tree(NamedTuple):
    """One tree as its library keeps it: -1 is no child."""

    left: NDArray[Any]
    right: NDArray[Any]
    feature: NDArray[Any]
    threshold: Floats
    missing_left: NDArray[np.bool_]
    value: Floats  # (nodes, classes)


class Trees:
    """The nodes of many trees. `count` trees, of which the deepest has `depth` levels below its root."""

    def __init__(
        self,
        feature: NDArray[Any],
        threshold: Floats,
        child: NDArray[Any],
        missing_right: NDArray[np.bool_],
        value: Floats,
        count: int,
        depth: int,
    ) -> None:
        self.feature, self.threshold, self.child = feature.astype(np.intp), threshold, child.astype(np.intp)
        self.missing_right, self.value, self.count, self.depth = missing_right, value, count, depth
        self.roots = np.arange(count)

    @classmethod
    def of(cls, trees: Iterable[Tree]) -> Trees:
        """Flatten trees into arrays."""
        arrays, count, depth, _ = flatten(trees)
        return cls(**arrays, count=count, depth=depth)

    def parts(self) -> Parts:
        """Give the arrays, with node numbers as short as they can be on a disk."""
        arrays: dict[str, NDArray[Any]] = {"threshold": self.threshold, "value": self.value}
        arrays |= {"feature": self.feature.astype(np.int32), "child": self.child.astype(np.int32)}
        arrays["missing_right"] = self.missing_right
        return Parts({"count": self.count, "depth": self.depth}, arrays, {})

    def leaves(self, matrix: Floats) -> Nodes:
        """Give the leaf of each tree that each row ends in, as (trees, rows)."""
        unknown = bool(np.isnan(matrix).any())
        rows, width = matrix.shape
        if rows == 1:
            return self._walk(matrix[0], self.roots, None, unknown)[:, None]
        start = np.tile(np.arange(0, rows * width, width), self.count)
        node = np.repeat(self.roots, rows)
        return self._walk(matrix.reshape(-1), node, start, unknown).reshape(self.count, rows)

    def _walk(self, values: Floats, node: Nodes, start: Nodes | None, unknown: bool) -> Nodes:
        for _ in range(self.depth):
            place = self.feature.take(node)
            if start is not None:
                place += start
            node = self.child.take(node) + self.turns(values.take(place), node, unknown)
        return node

    def turns(self, values: Floats, node: Nodes, unknown: bool) -> NDArray[np.bool_]:
        """Say which values go to the right child of their node; `unknown` says that there are NaN among them."""
        right = values > self.threshold.take(node)
        if unknown:
            right |= np.isnan(values) & self.missing_right.take(node)
        return right

    def chunks(self, rows: int) -> list[slice]:
        """Give the rows that are walked together."""
        size = max(1, AT_ONCE // (self.count * max(1, self.value.shape[1] // 4)))
        return [slice(start, start + size) for start in range(0, rows, size)]


def flatten(trees: Iterable[Tree]) -> tuple[dict[str, Any], int, int, Nodes]:
    """Give the arrays of many trees, how many they are, how deep, and where each node was before."""
    given = list(trees)
    sizes = np.array([len(tree.left) for tree in given])
    roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.intp)
    shift = np.repeat(roots, sizes)
    left = np.concatenate([tree.left for tree in given]).astype(np.intp)
    right = np.concatenate([tree.right for tree in given]).astype(np.intp)
    leaf = left < 0
    order, depth = _by_level(left + shift, right + shift, leaf, roots)
    place = np.empty(len(left), np.intp)
    place[order] = np.arange(len(order))
    leaf = leaf[order]
    arrays = {
        "feature": np.where(leaf, 0, np.concatenate([tree.feature for tree in given])[order]),
        "threshold": np.where(leaf, np.inf, np.concatenate([tree.threshold for tree in given])[order]),
        "child": np.where(leaf, np.arange(len(order)), place[(left + shift)[order]]),
        "missing_right": ~leaf & ~np.concatenate([tree.missing_left for tree in given])[order],
        "value": np.concatenate([tree.value for tree in given])[order],
    }
    return arrays, len(given), depth, order


def _by_level(left: Nodes, right: Nodes, leaf: NDArray[np.bool_], level: Nodes) -> tuple[Nodes, int]:
    levels = [level]
    while True:
        inner = level[~leaf[level]]
        if not inner.size:
            return np.concatenate(levels), len(levels) - 1
        level = np.column_stack([left[inner], right[inner]]).reshape(-1)
        levels.append(level)


def sum_of_trees(found: Floats) -> Floats:
    """Add up along the first axis one after the other, as the libraries do: numpy's own sum pairs one row's values."""
    if found.size == len(found):
        return np.asarray(np.add.accumulate(found, axis=0)[-1])
    return np.asarray(np.add.reduce(np.ascontiguousarray(found), axis=0))


def single_floats(matrix: Floats, allow_nan: bool) -> Floats:
    """Give a matrix as the trees see it, in single precision, and refuse what they refuse."""
    with np.errstate(over="ignore"):
        narrow = matrix.astype(np.float32)
    check_finite(narrow, allow_nan)
    return narrow.astype(np.float64)


class OfTrees(Evaluator):
    """What is evaluated chunk by chunk over trees."""

    trees: Trees
    allow_nan: bool

    def narrowed(self, matrix: Floats) -> Floats:
        """Give the matrix that the nodes' thresholds are compared with."""
        return single_floats(matrix, self.allow_nan)

    def walked(self, matrix: Floats) -> Floats:
        """Give the trees' answers for every row."""
        parts = [self.total(self.trees.leaves(self.narrowed(matrix[rows]))) for rows in self.trees.chunks(len(matrix))]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def total(self, leaves: Nodes) -> Floats:
        """Give (rows, columns) out of the leaves of each tree and row."""
        raise NotImplementedError

    def parts(self) -> Parts:
        """Give the trees' arrays beside the evaluator's own values."""
        own, trees = super().parts(), self.trees.parts()
        spec = {name: value for name, value in own.spec.items() if name != "trees"}
        return Parts({**spec, "trees": trees.spec}, own.arrays | trees.arrays, {})

    @classmethod
    def restore(cls, spec: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], read: Read) -> Evaluator:
        """Make the evaluator out of its parts."""
        names = ("feature", "threshold", "child", "missing_right", "value")
        nodes: dict[str, Any] = {name: arrays[name] for name in names}
        own: dict[str, Any] = {name: value for name, value in arrays.items() if name not in names}
        return cls(**{**spec, **own, "trees": Trees(**nodes, **spec["trees"])})


@dataclass
class Forest(OfTrees):
    """The mean of trees: of one, of a random forest, of extra trees."""

    name: ClassVar[str] = "forest"
    trees: Trees
    allow_nan: bool
    classes: bool
    exact: str = BIT_EQUAL

    def __call__(self, matrix: Floats) -> Floats:
        """Give the mean of the trees' values, or of their classes' fractions."""
        found = self.walked(matrix)
        return found if self.classes else found[:, 0]

    def total(self, leaves: Nodes) -> Floats:
        """Give the mean over the trees."""
        found = self.trees.value.take(leaves, axis=0)
        return found[0] if self.trees.count == 1 else sum_of_trees(found) / self.trees.count


@dataclass
class Boosted(OfTrees):
    """A baseline and stages of trees on top of it, one for each class of more than two."""

    name: ClassVar[str] = "boosted"
    trees: Trees
    base: Floats  # one number for each tree of a stage
    link: str
    allow_nan: bool = False
    exact: str = CLOSE

    def __call__(self, matrix: Floats) -> Floats:
        """Give the value, or the probability of each class."""
        return np.asarray(LINKS[self.link](self.walked(matrix)))

    def margins(self, matrix: Floats) -> Floats:
        """Give the sum before the link function."""
        found = self.walked(matrix)
        return found[:, 0] if found.shape[1] == 1 else found

    def total(self, leaves: Nodes) -> Floats:
        """Give the sum over the stages on top of the baseline."""
        found = self.trees.value[:, 0].take(leaves).reshape(-1, len(self.base), leaves.shape[1])
        found[0] += self.base[:, None]
        return sum_of_trees(found).T


LINKS = {
    "identity": lambda raw: raw[:, 0],
    "log": lambda raw: np.exp(raw[:, 0]),
    "logit": lambda raw: two_columns(expit(raw[:, 0])),
    "half logit": lambda raw: two_columns(expit(2 * raw[:, 0])),
    "softmax": softmax,
}
LINK_NAMES = {"IdentityLink": "identity", "LogLink": "log", "LogitLink": "logit", "HalfLogitLink": "half logit"}


def link_of(loss: Any) -> str:
    """Give the link function of a scikit-learn loss. Raises NotCompiled for one that is not known here."""
    name = type(getattr(loss, "link", None)).__name__
    if name == "MultinomialLogit":
        return "softmax"
    if name not in LINK_NAMES:
        raise NotCompiled(f"the link function {name} is not known here")
    return LINK_NAMES[name]


def tree_of(tree: Any, scale: float = 1.0) -> Tree:
    """Give a fitted scikit-learn tree's nodes, its values times a scale."""
    missing = getattr(tree, "missing_go_to_left", None)
    left = np.asarray(tree.children_left)
    return Tree(
        left,
        np.asarray(tree.children_right),
        np.asarray(tree.feature),
        np.asarray(tree.threshold, np.float64),
        np.zeros(len(left), bool) if missing is None else np.asarray(missing).astype(bool),
        scale * np.asarray(tree.value, np.float64)[:, 0, :],
    )


def compile_forest(estimator: Any, sparse: bool) -> Forest:
    """Compile a scikit-learn tree, or a forest of them."""
    check_single(estimator)
    fitted = list(getattr(estimator, "estimators_", [estimator]))
    classes = hasattr(estimator, "classes_")
    trees = [tree_of(one.tree_) for one in fitted]
    if classes:  # before scikit-learn 1.3 leaves held counts
        trees = [tree._replace(value=_fractions(tree.value)) for tree in trees]
    allow = not sparse and _takes_nan(fitted[0])
    return Forest(Trees.of(trees), allow, classes, CLOSE if getattr(estimator, "n_jobs", None) else BIT_EQUAL)


def _fractions(value: Floats) -> Floats:
    sums = value.sum(axis=1, keepdims=True)
    return value if np.allclose(sums, 1, rtol=0, atol=1e-6) else value / np.where(sums == 0, 1, sums)


def _takes_nan(tree: Any) -> bool:
    supports = getattr(tree, "_support_missing_values", None)
    return supports is not None and bool(supports(np.zeros((1, 1))))


def compile_boosted(estimator: Any, sparse: bool) -> Boosted:
    """Compile scikit-learn's gradient boosting on top of a baseline that is the same for every row."""
    stages = estimator.estimators_
    trees = Trees.of(tree_of(tree.tree_, estimator.learning_rate) for tree in stages.reshape(-1))
    base = np.array(estimator._raw_predict_init(np.zeros((1, estimator.n_features_in_), np.float32))[0], np.float64)
    link = link_of(estimator._loss) if hasattr(estimator, "classes_") else "identity"
    return Boosted(trees, base, link)
