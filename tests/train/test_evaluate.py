"""Metrics, the choice between candidates, the rows that a comparison may use."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from trilho.errors import NotYet
from trilho.train.evaluate import measure, read_predictions, roc_auc
from trilho.train.steps import evaluate, evaluate_two, pair
from trilho_runtime.step import In, Out, Table


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


def candidate(folder: Path, name: str, prediction: list[float], value: list[float]) -> dict[str, Any]:
    """Write what a candidate's fit and prediction leave, as evaluate_two takes it."""
    found: dict[str, Any] = {
        f"predicted_{name}": In[Any]("p", str(predictions(folder / f"p-{name}", prediction, value)))
    }
    for kind in ("fitted", "fitted_to"):
        (folder / f"{kind}-{name}").write_text(name)
        found[f"{kind}_{name}"] = In[Any](kind, str(folder / f"{kind}-{name}"))
    return found


def outputs(folder: Path) -> dict[str, Any]:
    return {name: Out[Any](name, str(folder / name)) for name in ("model", "train", "predictions", "scores")}


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
    given = {**candidate(tmp_path, "all", all_, [0.0, 1.0]), **candidate(tmp_path, "window", window, [0.0, 1.0])}
    left = outputs(tmp_path)
    found = evaluate_two(**given, **left, task=task, metric=metric)
    assert found.history == best
    assert left["model"].path.read_text() == left["train"].path.read_text() == best
    assert read_predictions(left["predictions"].path)[0].tolist() == (all_ if best == "all" else window)
    assert found.metrics == found.candidates[best] == left["scores"].metadata
    assert list(found.candidates) == ["all", "window"]


def test_two_that_were_fitted_to_the_same_rows_are_one_candidate(tmp_path: Path) -> None:
    given = {**candidate(tmp_path, "all", [1.0], [1.0]), **candidate(tmp_path, "window", [1.0], [1.0])}
    given["fitted_to_window"].path.write_text("all")
    found = evaluate_two(**given, **outputs(tmp_path), task="regression", metric="mae")
    assert (found.history, list(found.candidates)) == ("all", ["all"])


def test_a_single_candidate_keeps_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = {name.removesuffix("_x"): artifact for name, artifact in candidate(tmp_path, "x", [1.0], [3.0]).items()}
    left = outputs(tmp_path)
    found = evaluate(**given, **left, task="regression", metric="mae", history="window")
    assert (found.history, found.metrics, left["model"].path.read_text()) == (
        "window",
        {"mae": 2.0, "rmse": 2.0, "rows": 1.0},
        "x",
    )
    assert capsys.readouterr().out == "window: mae 2, rmse 2, rows 1 (kept)\n"


def test_a_metric_that_the_rows_cannot_tell_is_refused(tmp_path: Path) -> None:
    given = {name.removesuffix("_x"): x for name, x in candidate(tmp_path, "x", [0.2, 0.9], [1.0, 1.0]).items()}
    with pytest.raises(NotYet, match="roc_auc cannot be measured: the held-out rows are all of one class"):
        evaluate(**given, **outputs(tmp_path), task="classification", metric="roc_auc")


@pytest.mark.parametrize(
    ("until", "rows"),
    [
        (("", ""), [0, 1, 2, 3]),
        (("2020-01-01T12:00:00", "2020-01-02T00:00:00"), [2, 3]),
        (("", "2030-01-01"), []),
    ],
)
def test_only_rows_that_neither_model_saw_are_compared(tmp_path: Path, until: tuple[str, str], rows: list[int]) -> None:
    value = [0.0, 1.0, 2.0, 3.0]
    ours, theirs = (
        In[Table](name, str(predictions(tmp_path / f"in-{name}", value, value))) for name in ("ours", "theirs")
    )
    left = [Out[Table](name, str(tmp_path / name)) for name in ("challenger", "champion")]
    pair(ours, theirs, left[0], left[1], until[0], until[1])
    for artifact in left:
        assert read_predictions(artifact.path)[1].tolist() == rows
