"""What held-out predictions are worth, and which of several candidates is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trilho.core.metrics import HIGHER_IS_BETTER
from trilho.data.tables import database, text

Floats = NDArray[np.float64]
SMALLEST = 1e-15


def mae(prediction: Floats, value: Floats) -> float:
    """Give the mean absolute error.

    >>> mae(np.array([1.0, 4.0]), np.array([2.0, 2.0]))
    1.5
    """
    return float(np.abs(prediction - value).mean())


def rmse(prediction: Floats, value: Floats) -> float:
    """Give the root of the mean squared error."""
    return float(np.sqrt(np.square(prediction - value).mean()))


def roc_auc(prediction: Floats, value: Floats) -> float | None:
    """Give the area under the ROC curve; None where one class is missing.

    >>> roc_auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0.0, 0.0, 1.0, 1.0]))
    0.75
    """
    ones = int((value == 1).sum())
    zeros = len(value) - ones
    if ones == 0 or zeros == 0:
        return None
    _, place, counts = np.unique(prediction, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return float((ranks[value == 1].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def brier(prediction: Floats, value: Floats) -> float:
    """Give the mean squared difference of probability and outcome."""
    return float(np.square(prediction - value).mean())


def log_loss(prediction: Floats, value: Floats) -> float:
    """Give the mean negative log-likelihood, with probabilities kept off 0 and 1."""
    chance = np.clip(prediction, SMALLEST, 1 - SMALLEST)
    return float(-(value * np.log(chance) + (1 - value) * np.log1p(-chance)).mean())


def accuracy(prediction: Floats, value: Floats) -> float:
    """Give the share of rows that a threshold of one half gets right."""
    return float(((prediction >= 0.5) == (value == 1)).mean())


METRICS: Mapping[str, Mapping[str, Callable[[Floats, Floats], float | None]]] = {
    "regression": {"mae": mae, "rmse": rmse},
    "classification": {"roc_auc": roc_auc, "brier": brier, "log_loss": log_loss, "accuracy": accuracy},
}


def measure(prediction: Floats, value: Floats, task: str) -> dict[str, float]:
    """Give all metrics of a task, without those that the rows cannot tell, and the number of rows."""
    found = {name: metric(prediction, value) for name, metric in METRICS[task].items()}
    return {**{name: result for name, result in found.items() if result is not None}, "rows": float(len(value))}


def read_predictions(path: Path) -> tuple[Floats, Floats]:
    """Read a table of predictions: what was predicted, and what was true."""
    with database() as connection:
        query = f"SELECT prediction, value FROM read_parquet({text(path)}) ORDER BY row"  # noqa: S608
        found: dict[str, Any] = connection.execute(query).fetchnumpy()
    return np.asarray(found["prediction"], dtype=np.float64), np.asarray(found["value"], dtype=np.float64)


def choose(found: Mapping[str, Mapping[str, float]], metric: str) -> str:
    """Name the best of several candidates by a metric, the first of equals.

    >>> choose({"all": {"mae": 2.0}, "window": {"mae": 1.0}}, "mae")
    'window'
    """
    sign = -1 if metric in HIGHER_IS_BETTER else 1
    return min(found, key=lambda name: sign * found[name][metric])


def keep_unseen(predictions: Path, out: Path, seen: str) -> int:
    """Write the predictions of rows later than `seen`, of all rows where that is "", and give their number."""
    condition = f"time > TIMESTAMP {text(seen)}" if seen else "true"
    with database() as connection:
        query = f"SELECT * FROM read_parquet({text(predictions)}) WHERE {condition} ORDER BY row"  # noqa: S608
        done = connection.execute(f"COPY ({query}) TO {text(out)} (FORMAT parquet)").fetchone()
    return int(done[0]) if done else 0
