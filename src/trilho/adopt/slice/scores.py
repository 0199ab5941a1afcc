"""What the field's metrics are called, which way they are better, and how they are written by hand."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable

Resolve = Callable[[ast.expr], ast.expr]
NAMES = {
    "mean_absolute_error": "mae", "mean_squared_error": "mse", "root_mean_squared_error": "rmse", "r2_score": "r2",
    "mean_absolute_percentage_error": "mape", "median_absolute_error": "median_ae", "max_error": "max_error",
    "mean_squared_log_error": "msle", "root_mean_squared_log_error": "rmsle", "mean_pinball_loss": "pinball",
    "explained_variance_score": "explained_variance", "mean_poisson_deviance": "poisson_deviance",
    "mean_gamma_deviance": "gamma_deviance", "mean_tweedie_deviance": "tweedie_deviance",
    "roc_auc_score": "roc_auc", "accuracy_score": "accuracy", "balanced_accuracy_score": "balanced_accuracy",
    "f1_score": "f1", "fbeta_score": "fbeta", "precision_score": "precision", "recall_score": "recall",
    "average_precision_score": "average_precision", "log_loss": "log_loss", "brier_score_loss": "brier",
    "matthews_corrcoef": "mcc", "cohen_kappa_score": "kappa", "jaccard_score": "jaccard", "auc": "auc",
    "classification_report": "accuracy", "hamming_loss": "hamming", "zero_one_loss": "zero_one",
    "d2_absolute_error_score": "d2", "rmse": "rmse", "mae": "mae", "mape": "mape", "smape": "smape", "wmape": "wmape",
}  # fmt: skip
SCORERS = {
    "neg_mean_absolute_error": "mae", "neg_mean_squared_error": "mse", "neg_root_mean_squared_error": "rmse",
    "neg_mean_absolute_percentage_error": "mape", "neg_median_absolute_error": "median_ae", "neg_log_loss": "log_loss",
    "neg_brier_score": "brier", "neg_mean_squared_log_error": "msle", "matthews_corrcoef": "mcc", "r2": "r2",
}  # fmt: skip
LESS_IS_BETTER = {
    "mae", "mse", "rmse", "mape", "median_ae", "max_error", "msle", "rmsle", "pinball", "poisson_deviance", "wmape",
    "gamma_deviance", "tweedie_deviance", "log_loss", "brier", "hamming", "zero_one", "smape",
}  # fmt: skip
CLASSES = {
    "roc_auc", "accuracy", "balanced_accuracy", "f1", "fbeta", "precision", "recall", "average_precision", "log_loss",
    "brier", "mcc", "kappa", "jaccard", "auc", "hamming", "zero_one",
}  # fmt: skip
HEADLINE = (
    "roc_auc", "average_precision", "log_loss", "brier", "mae", "rmse", "mape", "wmape", "smape", "mse", "r2", "f1",
    "accuracy", "balanced_accuracy", "recall", "precision",
)  # fmt: skip
NO_NUMBER = {"confusion_matrix", "roc_curve", "precision_recall_curve", "det_curve", "make_scorer", "get_scorer",
             "precision_recall_fscore_support", "check_scoring", "get_scorer_names"}  # fmt: skip


def metric_name(function: str, arguments: dict[str, str] | None = None) -> str:
    """Give the short name of a metric's function.

    >>> metric_name("sklearn.metrics._regression.mean_squared_error", {"squared": "False"})
    'rmse'
    """
    last = function.rpartition(".")[2]
    name = NAMES.get(last, last.removesuffix("_score"))
    if (arguments or {}).get("squared") == "False":
        return {"mse": "rmse", "msle": "rmsle"}.get(name, name)
    return name


def scorer_name(scoring: str) -> tuple[str, int]:
    """Give the short name of a `scoring` string, and the sign that its numbers have.

    >>> scorer_name("neg_mean_absolute_error"), scorer_name("roc_auc")
    (('mae', -1), ('roc_auc', 1))
    """
    if scoring.startswith("neg_"):
        return SCORERS.get(scoring, scoring.removeprefix("neg_")), -1
    return SCORERS.get(scoring, scoring), 1


def better(name: str, one: float, other: float) -> bool:
    """Say whether a value of a metric is better than another."""
    return one < other if name in LESS_IS_BETTER else one > other


def number(literal: str | None) -> float | None:
    """Read the number that a literal is.

    >>> number("np.float64(0.5)"), number("array([1, 2])")
    (0.5, None)
    """
    match = re.fullmatch(
        r"(?:np\.\w+\(|numpy\.\w+\()?([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\)?", (literal or "").strip()
    )
    return float(match[1]) if match else None


def formula(node: ast.expr, resolve: Resolve = lambda node: node) -> tuple[str, ast.expr, ast.expr] | None:
    """Recognise a metric that is written out, and give its name and the two that it compares.

    `resolve` gives what a name stands for, where that is of use: `err = y - p`.

    >>> formula(ast.parse("np.mean(np.abs(y - p))", mode="eval").body)[0]
    'mae'
    >>> formula(ast.parse("((p - y) ** 2).mean() ** 0.5", mode="eval").body)[0]
    'rmse'
    >>> formula(ast.parse("(p == y).mean()", mode="eval").body)[0]
    'accuracy'
    >>> formula(ast.parse("100 * np.mean(abs(y - p) / y)", mode="eval").body)[0]
    'mape'
    """
    shown = _percent(node)
    if shown is not None:
        return formula(shown, resolve)
    root = _root(node)
    if root is not None:
        inner = formula(root, resolve)
        return (f"r{inner[0]}", *inner[1:]) if inner is not None and inner[0] in ("mse", "msle") else None
    meant = _meant(node)
    if meant is None:
        return None
    if isinstance(meant, ast.Compare) and len(meant.ops) == 1 and isinstance(meant.ops[0], ast.Eq):
        return "accuracy", meant.left, meant.comparators[0]
    squared = _squared(meant)
    squared = resolve(squared) if squared is not None else None
    if squared is not None and isinstance(squared, ast.BinOp) and isinstance(squared.op, ast.Sub):
        logs = _applied(squared.left, "log1p"), _applied(squared.right, "log1p")
        if logs[0] is not None and logs[1] is not None:
            return "msle", logs[0], logs[1]
        return "mse", squared.left, squared.right
    return _absolute_error(meant, resolve)


def _absolute_error(node: ast.expr, resolve: Resolve) -> tuple[str, ast.expr, ast.expr] | None:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):  # abs(y - p) / y
        inner = _resolved(_absolute(node.left), resolve)
        return ("mape", inner.left, inner.right) if isinstance(inner, ast.BinOp) else None
    inner = _resolved(_absolute(node), resolve)
    if not isinstance(inner, ast.BinOp):
        return None
    if isinstance(inner.op, ast.Sub):
        return "mae", inner.left, inner.right
    if isinstance(inner.op, ast.Div) and isinstance(inner.left, ast.BinOp) and isinstance(inner.left.op, ast.Sub):
        return "mape", inner.left.left, inner.left.right
    return None


def _resolved(node: ast.expr | None, resolve: Resolve) -> ast.expr | None:
    return resolve(node) if node is not None else None


def _percent(node: ast.expr) -> ast.expr | None:
    """Give what is multiplied by 100, or turned into a plain number."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        if _is(node.right, 100):
            return node.left
        return node.right if _is(node.left, 100) else None
    return _applied(node, "float") if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None


def _root(node: ast.expr) -> ast.expr | None:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) and _is(node.right, 0.5):
        return node.left
    return _applied(node, "sqrt")


def _meant(node: ast.expr) -> ast.expr | None:
    """Give what a mean is of."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and _applied(node.right, "len") is not None:
        return _applied(node.left, "sum")
    return _applied(node, "mean") or _applied(node, "average")


def _squared(node: ast.expr) -> ast.expr | None:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) and _is(node.right, 2):
        return node.left
    return _applied(node, "square")


def _absolute(node: ast.expr) -> ast.expr | None:
    return _applied(node, "abs") or _applied(node, "absolute")


def _applied(node: ast.expr, name: str) -> ast.expr | None:
    """Give x of `name(x)`, `np.name(x)` or `x.name()`."""
    if not isinstance(node, ast.Call):
        return None
    if isinstance(node.func, ast.Name):
        return node.args[0] if node.func.id == name and node.args else None
    if isinstance(node.func, ast.Attribute) and node.func.attr == name:
        return node.args[0] if node.args else node.func.value
    return None


def _is(node: ast.expr, value: float) -> bool:
    return isinstance(node, ast.Constant) and node.value == value
