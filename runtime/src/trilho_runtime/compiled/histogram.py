"""scikit-learn's histogram gradient boosting: double precision, its own missing values and its own categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.compiled import BIT_EQUAL, CLOSE, NotCompiled
from trilho_runtime.compiled.categories import list_without_null
from trilho_runtime.compiled.evaluator import Evaluator, Floats, Parts, Read
from trilho_runtime.compiled.trees import Boosted, Nodes, Tree, Trees, flatten, link_of

NUMBERS = -1  # a node without categories
CODES = 256


class CategoryTrees(Trees):
    """Trees of which some nodes ask for a category: `rule` names the row of `right` that says where each code goes."""

    def __init__(self, rule: NDArray[np.int32], right: NDArray[np.bool_], **arrays: Any) -> None:
        super().__init__(**arrays)
        self.rule, self.right = rule, right

    def parts(self) -> Parts:
        """Give the rules beside the nodes."""
        spec, arrays, files = super().parts()
        return Parts(spec, {**arrays, "rule": self.rule, "right": self.right}, files)

    def turns(self, values: Floats, node: Nodes, unknown: bool) -> NDArray[np.bool_]:
        """Say which values go to the right child of their node."""
        right = super().turns(values, node, unknown)
        rule = self.rule.take(node)
        asked = np.flatnonzero(rule != NUMBERS)
        if asked.size:
            value, at = values.take(asked), rule.take(asked)
            turned = self.missing_right.take(node.take(asked))
            coded = np.flatnonzero(value >= 0)
            with np.errstate(invalid="ignore"):
                codes = value.take(coded).astype(np.int64) % CODES
            turned[coded] = self.right[at.take(coded), codes]
            right[asked] = turned
        return right


@dataclass
class Histogram(Boosted):
    """A baseline and stages of trees over columns whose categories are first made codes, and put first."""

    name: ClassVar[str] = "histogram"
    order: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, np.intp))  # empty: the columns as they are
    known: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))  # each column's categories, one by one
    sizes: list[int] = field(default_factory=list)  # how many categories the first columns have

    def narrowed(self, matrix: Floats) -> Floats:
        """Give the columns in the trees' order, categories as codes, unknown ones as NaN."""
        if not len(self.order):
            return matrix
        coded = self.order[: len(self.sizes)]
        if np.isinf(matrix[:, coded]).any():
            raise ValueError("a category of the model's input is infinite; it must be finite or NaN")
        seen = np.ascontiguousarray(matrix[:, self.order])
        ends = np.cumsum(self.sizes)
        for column, (end, size) in enumerate(zip(ends, self.sizes, strict=True)):
            seen[:, column] = codes_of(seen[:, column], self.known[end - size : end])
        return seen

    @classmethod
    def restore(cls, spec: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], read: Read) -> Evaluator:
        """Make the evaluator out of its parts."""
        own: dict[str, Any] = {name: arrays[name] for name in ("base", "order", "known")}
        nodes: dict[str, Any] = {name: value for name, value in arrays.items() if name not in own}
        kind = CategoryTrees if "rule" in nodes else Trees
        return cls(**{**spec, **own, "trees": kind(**nodes, **spec["trees"])})


def codes_of(values: Floats, known: Floats) -> Floats:
    """Give each value's place among the known ones, in their order; NaN for any other.

    >>> codes_of(np.array([7.0, 2.0, 5.0]), np.array([2.0, 7.0])).tolist()
    [1.0, 0.0, nan]
    """
    if not len(known):
        return np.full(len(values), np.nan)
    place = np.searchsorted(known, values)
    place[place == len(known)] = 0
    return np.where(known.take(place) == values, place.astype(np.float64), np.nan)


def compile_histogram(estimator: Any, sparse: bool, coded: bool = False) -> Histogram:
    """Compile scikit-learn's histogram gradient boosting. Raises NotCompiled where its categories are no numbers."""
    if sparse:
        raise NotCompiled(f"{type(estimator).__name__} takes no sparse matrix")
    link = link_of(estimator._loss)
    predictors = [tree for stage in estimator._predictors for tree in stage]
    base = np.array(estimator._baseline_prediction, np.float64).reshape(-1)
    order, known, sizes = _preparation(getattr(estimator, "_preprocessor", None), coded)
    exact = BIT_EQUAL if link == "identity" else CLOSE
    trees = _trees(predictors, estimator._bin_mapper)
    return Histogram(trees, base, link, True, exact, order=order, known=known, sizes=sizes)


def _trees(predictors: Sequence[Any], mapper: Any) -> Trees:
    nodes = [predictor.nodes for predictor in predictors]
    arrays, count, depth, order = flatten(_tree_of(one) for one in nodes)
    arrays = {**arrays, "count": count, "depth": depth}
    asks = np.concatenate([one["is_categorical"].astype(bool) & ~one["is_leaf"].astype(bool) for one in nodes])
    if not asks.any():
        return Trees(**arrays)
    bits, places = mapper.make_known_categories_bitsets()
    rules = np.concatenate([_rules(one, bits, places) for one in predictors])
    rule = np.where(asks, np.cumsum(asks) - 1, NUMBERS).astype(np.int32)
    return CategoryTrees(rule[order], rules, **arrays)


def _tree_of(nodes: Any) -> Tree:
    leaf = nodes["is_leaf"].astype(bool)
    left = np.where(leaf, -1, nodes["left"].astype(np.intp))
    right = np.where(leaf, -1, nodes["right"].astype(np.intp))
    feature, threshold = nodes["feature_idx"].astype(np.intp), nodes["num_threshold"].astype(np.float64)
    missing = nodes["missing_go_to_left"].astype(bool)
    return Tree(left, right, feature, threshold, missing, nodes["value"].astype(np.float64)[:, None])


def _rules(predictor: Any, bits: NDArray[np.uint32], places: NDArray[Any]) -> NDArray[np.bool_]:
    """Give for each node that asks for a category whether each code goes right: unknown ones go as missing do."""
    nodes = predictor.nodes
    asked = nodes[nodes["is_categorical"].astype(bool) & ~nodes["is_leaf"].astype(bool)]
    left = _unpacked(np.asarray(predictor.raw_left_cat_bitsets)[asked["bitset_idx"].astype(np.intp)])
    known = _unpacked(np.asarray(bits)[np.asarray(places)[asked["feature_idx"].astype(np.intp)]])
    missing_right = ~asked["missing_go_to_left"].astype(bool)
    return ~left & np.where(known, True, missing_right[:, None])


def _unpacked(bits: NDArray[np.uint32]) -> NDArray[np.bool_]:
    return ((bits[:, :, None] >> np.arange(32, dtype=np.uint32)) & 1).astype(bool).reshape(len(bits), CODES)


def _preparation(preprocessor: Any, coded: bool) -> tuple[NDArray[np.intp], Floats, list[int]]:
    """Give the order of columns, and the categories of the first of them, that a fitted preprocessor makes."""
    nothing = np.zeros(0, np.intp), np.zeros(0), list[int]()
    if preprocessor is None:
        return nothing
    (_, encoder, first), (_, _, rest) = preprocessor.transformers_[:2]
    width = preprocessor.n_features_in_
    order = np.concatenate([np.arange(width)[first], np.arange(width)[rest]]).astype(np.intp)
    lists = [np.asarray(one) for one in getattr(encoder, "categories_", [])]
    if coded:  # the places of the categories are given, not they themselves
        lists = [np.arange(len(list_without_null(one))) for one in lists]
    if any(one.dtype.kind not in "iufb" for one in lists):
        raise NotCompiled("the model's categories are texts, and it is given an array instead of a table of them")
    values = [one.astype(np.float64) for one in lists]
    values = [one[~np.isnan(one)] for one in values]
    return order, np.concatenate([*values, np.zeros(0)]), [len(one) for one in values]
