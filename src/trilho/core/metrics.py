"""What a metric's name means: which one a task is judged by, and which way is better."""

from __future__ import annotations

HIGHER_IS_BETTER = frozenset({"roc_auc", "accuracy"})
BY_TASK = {"regression": "mae", "classification": "roc_auc"}


def resolve(metric: str, task: str) -> str:
    """Give the metric that counts: "auto" is mae for regression and roc_auc for classification.

    >>> resolve("auto", "regression"), resolve("brier", "classification")
    ('mae', 'brier')
    """
    return BY_TASK[task] if metric == "auto" else metric
