"""What held-out predictions are worth, and which of several candidates is kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trilho.core.metrics import HIGHER_IS_BETTER
from trilho.data.tables import database, text
from trilho.errors import NotYet
from trilho.pipeline.graph import Work, versioned

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


@versioned(1)
def evaluate(work: Work) -> None:
    """Measure each candidate on the held-out rows and keep the best one's model, training rows and predictions."""
    names, task, metric = work.parameters["candidates"], work.parameters["task"], work.parameters["metric"]
    found = {name: measure(*read_predictions(work.inputs[f"predictions-{name}"]), task) for name in names}
    if metric not in found[names[0]]:
        raise NotYet(
            f"{metric} cannot be measured: the held-out rows are all of one class",
            hint="make train.holdout longer, or wait for more data",
        )
    sign = -1 if metric in HIGHER_IS_BETTER else 1
    best = min(names, key=lambda name: sign * found[name][metric])
    for name in names:
        said = ", ".join(f"{key} {value:.6g}" for key, value in found[name].items())
        work.say(f"{name}: {said}{' (kept)' if name == best else ''}")
    for output in ("model", "train", "predictions"):
        shutil.copyfile(work.inputs[f"{output}-{best}"], work.outputs[output])
    work.values |= {"history": best, "metrics": found[best], "candidates": found}


@versioned(1)
def pair(work: Work) -> None:
    """Keep the held-out rows that neither model was trained on, for both, so that they can be compared row by row."""
    seen = max(filter(None, work.parameters["trained_until"]), default=None)
    condition = f"time > TIMESTAMP {text(seen)}" if seen else "true"
    with database() as connection:
        for output in ("challenger", "champion"):
            source, target = text(work.inputs[output]), text(work.outputs[output])
            query = f"SELECT * FROM read_parquet({source}) WHERE {condition} ORDER BY row"  # noqa: S608
            done = connection.execute(f"COPY ({query}) TO {target} (FORMAT parquet)").fetchone()
            work.values["rows"] = int(done[0]) if done else 0
    work.say(f"{work.values['rows']} held-out rows were seen by neither model")
