"""Metrics, the choice between candidates, the rows that a comparison may use."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from trilho.errors import NotYet
from trilho.pipeline.graph import Work
from trilho.train.evaluate import evaluate, measure, pair, read_predictions, roc_auc


def test_roc_auc_is_the_share_of_pairs_in_order_ties_by_half() -> None:
    rng = np.random.default_rng(0)
    prediction, value = rng.integers(0, 6, 60) / 6, rng.integers(0, 2, 60).astype(float)
    ones, zeros = prediction[value == 1], prediction[value == 0]
    pairs = [(a > b) + 0.5 * (a == b) for a, b in itertools.product(ones, zeros)]
    assert roc_auc(prediction, value) == pytest.approx(float(np.mean(pairs)), abs=1e-12)


def test_all_metrics_of_a_task() -> None:
    prediction, value = np.array([0.9, 0.2, 0.6]), np.array([1.0, 0.0, 0.0])
    found = measure(prediction, value, "classification")
    assert found["roc_auc"] == 1.0
    assert found["brier"] == pytest.approx((0.01 + 0.04 + 0.36) / 3)
    assert found["log_loss"] == pytest.approx(-(np.log(0.9) + np.log(0.8) + np.log(0.4)) / 3)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["rows"] == 3
    assert measure(np.array([1.0, 3.0]), np.array([2.0, 0.0]), "regression") == {
        "mae": 2.0,
        "rmse": pytest.approx(np.sqrt(5)),
        "rows": 2.0,
    }


def test_certain_and_wrong_is_a_finite_loss_and_one_class_has_no_auc() -> None:
    found = measure(np.array([0.0, 1.0]), np.array([1.0, 1.0]), "classification")
    assert np.isfinite(found["log_loss"])
    assert "roc_auc" not in found


def predictions(path: Path, prediction: list[float], value: list[float]) -> Path:
    rows = ", ".join(
        f"({i}, TIMESTAMP '2020-01-01' + INTERVAL ({i}) DAY, {p!r}::DOUBLE, {v!r}::DOUBLE)"
        for i, (p, v) in enumerate(zip(prediction, value, strict=True))
    )
    query = f"SELECT * FROM (VALUES {rows}) t(row, time, prediction, value)"
    duckdb.sql(f"COPY ({query}) TO '{path}' (FORMAT parquet)")
    return path


def work(tmp_path: Path, task: str, metric: str, **candidates: Any) -> Work:
    inputs: dict[str, Path] = {}
    for name, (prediction, value) in candidates.items():
        inputs[f"predictions-{name}"] = predictions(tmp_path / f"p-{name}", prediction, value)
        for kind in ("model", "train"):
            inputs[f"{kind}-{name}"] = tmp_path / f"{kind}-{name}"
            inputs[f"{kind}-{name}"].write_text(name)
    outputs = {name: tmp_path / name for name in ("model", "train", "predictions")}
    return Work(inputs, outputs, {"candidates": list(candidates), "task": task, "metric": metric}, say=lambda _: None)


@pytest.mark.parametrize(
    ("task", "metric", "all_", "window", "best"),
    [
        ("regression", "mae", [1.0, 2.0], [1.0, 1.5], "window"),
        ("regression", "mae", [1.0, 1.0], [1.0, 1.0], "all"),
        ("classification", "roc_auc", [0.2, 0.9], [0.9, 0.2], "all"),
        ("classification", "brier", [0.4, 0.6], [0.1, 0.9], "window"),
    ],
)
def test_the_better_candidate_is_kept_and_the_first_when_equal(
    tmp_path: Path, task: str, metric: str, all_: list[float], window: list[float], best: str
) -> None:
    done = work(tmp_path, task, metric, all=(all_, [0.0, 1.0]), window=(window, [0.0, 1.0]))
    evaluate(done)
    assert done.values["history"] == best
    assert done.outputs["model"].read_text() == done.outputs["train"].read_text() == best
    assert read_predictions(done.outputs["predictions"])[0].tolist() == (all_ if best == "all" else window)
    assert done.values["metrics"] == done.values["candidates"][best]


def test_a_metric_that_the_rows_cannot_tell_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotYet, match="roc_auc cannot be measured: the held-out rows are all of one class"):
        evaluate(work(tmp_path, "classification", "roc_auc", all=([0.2, 0.9], [1.0, 1.0])))


@pytest.mark.parametrize(
    ("until", "rows"),
    [
        ([None, None], [0, 1, 2, 3]),
        (["2020-01-01T12:00:00", "2020-01-02T00:00:00"], [2, 3]),
        ([None, "2030-01-01"], []),
    ],
)
def test_only_rows_that_neither_model_saw_are_compared(
    tmp_path: Path, until: list[str | None], rows: list[int]
) -> None:
    value = [0.0, 1.0, 2.0, 3.0]
    inputs = {name: predictions(tmp_path / f"in-{name}", value, value) for name in ("challenger", "champion")}
    outputs = {name: tmp_path / name for name in ("challenger", "champion")}
    done = Work(inputs, outputs, {"trained_until": until}, say=lambda _: None)
    pair(done)
    for path in outputs.values():
        assert read_predictions(path)[1].tolist() == rows
    assert done.values == {"rows": len(rows)}
