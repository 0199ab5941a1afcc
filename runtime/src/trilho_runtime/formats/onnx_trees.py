"""Ensembles of trees as one ONNX node in double precision, whose thresholds are the model's own.

Converters write thresholds in single precision, and rows that lie next to one then fall on its other side. onnxruntime
compares in double precision where the node's tensors are double; only the sum comes out in single precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.compiled import NotCompiled
from trilho_runtime.compiled.estimators import evaluator_of
from trilho_runtime.compiled.histogram import CategoryTrees, Histogram
from trilho_runtime.compiled.trees import Boosted, Forest, Tree, Trees
from trilho_runtime.formats.onnx_graph import ML, Graph

LINK_OF_OBJECTIVE = {
    **dict.fromkeys(("regression", "regression_l1", "huber", "fair", "quantile", "mape", "custom"), "identity"),
    **dict.fromkeys(("poisson", "gamma", "tweedie"), "log"),
    "binary": "logit",
    "cross_entropy": "logit",
    "multiclass": "softmax",
}


def add_trees(graph: Graph, estimator: Any, matrix: str) -> str | None:
    """Add scikit-learn's or LightGBM's trees over a double matrix and give the answer: [rows, 1 or classes].

    None for any other estimator, and for what one node cannot say, such as categories.
    """
    try:
        evaluator = _evaluator(estimator)
    except NotCompiled:
        return None
    if isinstance(evaluator, Histogram) and (isinstance(evaluator.trees, CategoryTrees) or len(evaluator.order)):
        return None
    if isinstance(evaluator, Histogram | _LightGBM):
        return _boosted(graph, evaluator, matrix)
    if not isinstance(evaluator, Forest | Boosted):
        return None
    narrow = graph.cast(graph.cast(matrix, "float32"), "float64")  # as scikit-learn's own trees see it
    if isinstance(evaluator, Boosted):
        return _boosted(graph, evaluator, narrow)
    trees = evaluator.trees
    width = trees.value.shape[1] if evaluator.classes else 1
    return _sums(graph, narrow, trees, trees.value[:, :width] / trees.count)


class _LightGBM(Boosted):
    """The trees of a LightGBM booster, which compares in double precision."""


def _evaluator(estimator: Any) -> Any:
    booster = getattr(estimator, "booster_", None) or getattr(estimator, "booster", None)
    if booster is not None and type(booster).__module__.startswith("lightgbm"):
        return _lightgbm(booster.dump_model())
    return evaluator_of(estimator, False)


def _boosted(graph: Graph, boosted: Boosted, matrix: str) -> str:
    """Add stages of trees, one for each class, the baseline and the link function."""
    trees, width = boosted.trees, len(boosted.base)
    values = np.zeros((len(trees.value), width))
    owner = _tree_of_nodes(trees) % width
    values[np.arange(len(values)), owner] = trees.value[:, 0]
    raw = graph.node("Add", _sums(graph, matrix, trees, values), graph.constant(boosted.base[None, :]))
    if boosted.link == "identity":
        return raw
    if boosted.link == "log":
        return graph.node("Exp", raw)
    if boosted.link == "softmax":
        return graph.node("Softmax", raw, axis=1)
    raw = graph.node("Mul", raw, graph.constant(np.array(2.0))) if boosted.link == "half logit" else raw
    one = graph.node("Sigmoid", raw)
    return graph.node("Concat", graph.node("Sub", graph.constant(np.array(1.0)), one), one, axis=1)


def _tree_of_nodes(trees: Trees) -> NDArray[np.intp]:
    """Say which tree each node belongs to; a child comes after its parent."""
    owner = np.full(len(trees.feature), -1, np.intp)
    owner[trees.roots] = np.arange(trees.count)
    level = trees.roots
    while len(inner := level[trees.child[level] != level]):
        left = trees.child[inner]
        owner[left] = owner[left + 1] = owner[inner]
        level = np.concatenate([left, left + 1])
    return owner


def _sums(graph: Graph, matrix: str, trees: Trees, values: NDArray[np.float64]) -> str:
    """Add the node that gives the sums over all trees of their leaves' values, [rows, columns]."""
    from onnx import numpy_helper

    number, owner = np.arange(len(trees.feature)), _tree_of_nodes(trees)
    leaf = trees.child == number
    order = np.lexsort((number, owner))
    at = np.zeros(len(number), np.int64)
    at[order] = number - np.concatenate([[0], np.cumsum(np.bincount(owner))[:-1]])[owner[order]]
    leaves = order[leaf[order]]
    row, column = (each.reshape(-1) for each in np.indices((len(leaves), values.shape[1])))
    threshold = np.where(leaf, 0.0, trees.threshold)[order]
    attributes: dict[str, Any] = {
        "n_targets": values.shape[1],
        "aggregate_function": "SUM",
        "post_transform": "NONE",
        "nodes_treeids": owner[order].tolist(),
        "nodes_nodeids": at[order].tolist(),
        "nodes_featureids": trees.feature[order].tolist(),
        "nodes_modes": np.where(leaf, "LEAF", "BRANCH_LEQ")[order].tolist(),
        "nodes_values_as_tensor": numpy_helper.from_array(threshold, "thresholds"),
        "nodes_truenodeids": np.where(leaf, 0, at[trees.child])[order].tolist(),
        "nodes_falsenodeids": np.where(leaf, 0, at[np.where(leaf, number, trees.child + 1)])[order].tolist(),
        "nodes_missing_value_tracks_true": (~leaf & ~trees.missing_right)[order].astype(int).tolist(),
        "target_treeids": owner[leaves][row].tolist(),
        "target_nodeids": at[leaves][row].tolist(),
        "target_ids": column.tolist(),
        "target_weights_as_tensor": numpy_helper.from_array(values[leaves][row, column], "values"),
    }
    return graph.cast(graph.node("TreeEnsembleRegressor", matrix, domain=ML, **attributes), "float64")


def _lightgbm(told: Mapping[str, Any]) -> _LightGBM:
    """Read the trees of a dumped booster. Raises NotCompiled for what they do not say by thresholds alone."""
    words = str(told.get("objective", "")).split()
    link = LINK_OF_OBJECTIVE.get(words[0] if words else "custom")
    odd = [word for word in words[1:] if word == "sqrt" or (word.startswith("sigmoid:") and word != "sigmoid:1")]
    if link is None or odd or told.get("pandas_categorical") or told.get("average_output"):
        raise NotCompiled(f"LightGBM's objective {' '.join(words)} is not known here")
    trees = Trees.of(_lightgbm_tree(one["tree_structure"]) for one in told["tree_info"])
    return _LightGBM(trees, np.zeros(int(told["num_tree_per_iteration"])), link)


def _lightgbm_tree(root: Mapping[str, Any]) -> Tree:
    """Number a tree's nodes, the root first."""
    left: list[int] = []
    right: list[int] = []
    feature: list[int] = []
    threshold: list[float] = []
    missing: list[bool] = []
    value: list[float] = []
    todo: list[tuple[Mapping[str, Any], list[int], int]] = [(root, [0], 0)]
    while todo:
        node, parent, place = todo.pop()
        parent[place] = len(left)
        inner = "split_feature" in node
        if inner and (node["decision_type"] != "<=" or node["missing_type"] == "Zero"):
            raise NotCompiled("LightGBM splits by categories, or takes zeros for missing")
        left.append(-1)
        right.append(-1)
        feature.append(node["split_feature"] if inner else 0)
        threshold.append(float(node["threshold"]) if inner else 0.0)
        usual = inner and (threshold[-1] >= 0 if node["missing_type"] == "None" else bool(node["default_left"]))
        missing.append(usual)
        value.append(0.0 if inner else float(node["leaf_value"]))
        if inner:
            todo += [(node["left_child"], left, len(left) - 1), (node["right_child"], right, len(right) - 1)]
    return Tree(
        np.array(left), np.array(right), np.array(feature), np.array(threshold), np.array(missing, bool),
        np.array(value)[:, None],
    )  # fmt: skip
