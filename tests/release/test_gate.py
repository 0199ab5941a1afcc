"""The gate against planted challengers: better, equal, worse, and trained on shuffled labels."""

from __future__ import annotations

import time as clock
from pathlib import Path

import duckdb
import numpy as np
import pytest
from numpy.typing import NDArray

from trilho.config import Gate
from trilho.errors import DataError
from trilho.release.compare import Predictions, compare
from trilho.release.gate import Task, judge

Floats = NDArray[np.float64]
TASKS: tuple[Task, ...] = ("regression", "classification")
NO_TIME = float("nan")


def made(value: Floats, prediction: Floats, time: Floats | None = None) -> Predictions:
    rows = len(value)
    return Predictions(np.arange(rows), np.full(rows, NO_TIME) if time is None else time, prediction, value)


def world(
    rng: np.random.Generator, task: Task, rows: int, noise: tuple[float, float]
) -> tuple[Predictions, Predictions]:
    """Challenger and champion see the same signal through noise of their own."""
    signal = rng.normal(size=rows)
    first, second = (signal + rng.normal(size=rows) * size for size in noise)
    if task == "regression":
        return made(10 * signal, 10 * first), made(10 * signal, 10 * second)
    value = (rng.random(rows) < 1 / (1 + np.exp(1 - 2 * signal))).astype(np.float64)
    return made(value, 1 / (1 + np.exp(1 - 2 * first))), made(value, 1 / (1 + np.exp(1 - 2 * second)))


def share_of(verdict: str, task: Task, noise: tuple[float, float], worlds: int = 200, rows: int = 600) -> float:
    rng = np.random.default_rng(11)
    found = [judge(*world(rng, task, rows, noise), Gate(), task)[0] for _ in range(worlds)]
    return sum(x == verdict for x in found) / worlds


@pytest.mark.parametrize("task", TASKS)
def test_an_equal_challenger_passes_no_more_often_than_promised(task: Task) -> None:
    # 5% promised; 200 worlds put the measured share within 10% with 99.9%
    assert share_of("pass", task, (1.0, 1.0)) <= 0.1


def test_the_better_of_two_equals_passes_no_more_often_than_one() -> None:
    rng = np.random.default_rng(23)
    passed, naive = 0, 0
    for _ in range(400):
        value = rng.normal(size=400)
        champion, *several = (made(value, value + rng.normal(size=400)) for _ in range(3))
        best = min(several, key=lambda x: float(np.abs(x.prediction - x.value).mean()))
        passed += judge(best, champion, Gate(), "regression", candidates=2)[0] == "pass"
        naive += judge(best, champion, Gate(), "regression")[0] == "pass"
    assert passed <= 33  # 5% of 400, and three deviations
    assert naive > passed  # what choosing on the same rows would have passed as well


def test_candidates_share_what_the_confidence_leaves_to_luck() -> None:
    pair = world(np.random.default_rng(1), "regression", 500, (0.8, 1.0))
    evidence = [judge(*pair, Gate(confidence=0.95), "regression", candidates=n)[1] for n in (1, 2)]
    assert [x["confidence"] for x in evidence] == [pytest.approx(0.95), pytest.approx(0.975)]
    assert evidence[1]["low"] < evidence[0]["low"]
    assert "with 97.5% confidence" in evidence[1]["reason"]
    first = judge(pair[0], None, Gate(), "regression", candidates=2)[1]
    assert first["confidence"] == pytest.approx(0.9995)


@pytest.mark.parametrize("task", TASKS)
def test_a_worse_challenger_never_passes(task: Task) -> None:
    assert share_of("pass", task, (1.5, 1.0), worlds=100) == 0


@pytest.mark.parametrize("task", TASKS)
def test_a_clearly_better_challenger_passes(task: Task) -> None:
    assert share_of("pass", task, (0.4, 1.0), worlds=100) >= 0.97


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("against_champion", [True, False])
def test_a_challenger_trained_on_shuffled_labels_is_rejected(task: Task, against_champion: bool) -> None:
    rng = np.random.default_rng(5)
    for _ in range(30):
        good, other = world(rng, task, 2000, (1.0, 1.0))
        shuffled = made(good.value, rng.permutation(other.prediction))
        verdict, evidence = judge(shuffled, good if against_champion else None, Gate(), task)
        assert verdict == "fail"
        assert evidence["low"] < 0


def test_days_that_share_their_luck_do_not_make_an_equal_challenger_pass() -> None:
    rng = np.random.default_rng(3)
    passed = naive = 0
    for _ in range(200):
        time = np.sort(rng.random(1440)) * 60 * 86400
        luck = rng.normal(size=60)[(time // 86400).astype(int)] * 0.3
        value = rng.normal(size=1440)
        champion = value + rng.normal(size=1440) * np.exp(-luck)
        challenger = value + rng.normal(size=1440) * np.exp(luck)
        pair = made(value, challenger, time), made(value, champion, time)
        passed += judge(*pair, Gate(), "regression")[0] == "pass"
        rows = made(value, challenger), made(value, champion)
        naive += judge(*rows, Gate(), "regression")[0] == "pass"
    assert passed <= 19  # 5% of 200, and three deviations
    assert naive > 3 * passed  # what single rows would have taken for proof


def test_a_margin_asks_for_more_than_better() -> None:
    pair = world(np.random.default_rng(1), "regression", 3000, (0.8, 1.0))
    assert judge(*pair, Gate(), "regression")[0] == "pass"
    verdict, evidence = judge(*pair, Gate(margin=5.0), "regression")
    assert verdict == "fail"
    assert evidence["margin"] == 5.0


@pytest.mark.parametrize(
    ("metric", "limit", "verdict"), [("rmse", 20.0, "pass"), ("rmse", 1.0, "fail"), ("mae", 1.0, "fail")]
)
def test_min_is_the_worst_error_allowed(metric: str, limit: float, verdict: str) -> None:
    pair = world(np.random.default_rng(1), "regression", 3000, (0.5, 1.0))
    said, evidence = judge(*pair, Gate.model_validate({"metric": metric, "min": limit}), "regression")
    assert said == verdict
    assert [check["ok"] for check in evidence["checks"]] == [True, verdict == "pass"]


def test_min_is_the_worst_score_allowed() -> None:
    pair = world(np.random.default_rng(1), "classification", 3000, (0.2, 1.0))
    assert judge(*pair, Gate(min=0.6), "classification")[0] == "pass"
    assert judge(*pair, Gate(min=0.99), "classification")[0] == "fail"


def test_too_few_rows_are_not_judged() -> None:
    verdict, evidence = judge(*world(np.random.default_rng(1), "regression", 99, (0.1, 1.0)), Gate(), "regression")
    assert verdict == "not enough data"
    assert evidence["reason"] == "99 held-out rows, gate.rows asks for 100"


def test_an_open_question_on_few_rows_is_not_a_refusal() -> None:
    pair = world(np.random.default_rng(4), "regression", 150, (0.97, 1.0))
    verdict, evidence = judge(*pair, Gate(), "regression")
    assert verdict == "not enough data"
    assert evidence["low"] < 0 < evidence["high"]


def test_one_class_cannot_be_ranked() -> None:
    rows = made(np.zeros(500), np.linspace(0, 1, 500))
    verdict, evidence = judge(rows, rows, Gate(), "classification")
    assert verdict == "not enough data"
    assert "class 0" in evidence["reason"]


def test_predictions_that_are_not_numbers_are_refused() -> None:
    challenger, champion = world(np.random.default_rng(1), "regression", 500, (0.1, 1.0))
    challenger.prediction[3] = np.nan
    verdict, evidence = judge(challenger, champion, Gate(), "regression")
    assert (verdict, evidence["reason"]) == ("fail", "1 of its predictions are not numbers")


def test_different_rows_are_never_compared() -> None:
    challenger, champion = world(np.random.default_rng(1), "regression", 500, (0.1, 1.0))
    with pytest.raises(DataError, match="different rows: 500 and 400"):
        judge(challenger, champion.where(np.arange(500) < 400), Gate(), "regression")


def test_the_same_predictions_are_no_gain() -> None:
    rows = world(np.random.default_rng(1), "regression", 2000, (1.0, 1.0))[0]
    verdict, evidence = judge(rows, rows, Gate(), "regression")
    assert (verdict, evidence["difference"], evidence["low"]) == ("fail", 0.0, 0.0)


def test_without_a_champion_the_best_constant_is_the_opponent() -> None:
    good = world(np.random.default_rng(1), "regression", 2000, (0.5, 1.0))[0]
    verdict, evidence = judge(good, None, Gate(), "regression")
    constant = float(np.mean(np.abs(good.value - np.median(good.value))))
    assert (verdict, evidence["champion"]) == ("pass", pytest.approx(constant))


@pytest.mark.parametrize("metric", ["mae", "rmse", "roc_auc", "brier", "log_loss", "accuracy"])
def test_metrics_are_those_of_the_textbook(metric: str) -> None:
    first, second = world(np.random.default_rng(2), "classification", 300, (0.5, 1.0))
    first.prediction[:] = np.round(first.prediction, 1)  # ties count half
    y, p = first.value, np.clip(first.prediction, 1e-15, 1 - 1e-15)
    pairs = p[y == 1][:, None] - p[y == 0][None, :]
    expected = {
        "mae": np.mean(np.abs(y - p)),
        "rmse": np.sqrt(np.mean((y - p) ** 2)),
        "brier": np.mean((y - p) ** 2),
        "log_loss": -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)),
        "accuracy": np.mean((p >= 0.5) == (y == 1)),
        "roc_auc": np.mean((pairs > 0) + (pairs == 0) / 2),
    }[metric]
    found = compare(first, second, metric, 0.95)
    assert found.challenger == pytest.approx(float(expected), rel=1e-9)
    assert found.low < found.improvement < found.high


def test_a_verdict_can_be_repeated() -> None:
    pair = world(np.random.default_rng(8), "classification", 500, (0.9, 1.0))
    assert judge(*pair, Gate(), "classification") == judge(*pair, Gate(), "classification")


def test_ten_thousand_rows_are_judged_at_once() -> None:
    pair = world(np.random.default_rng(8), "classification", 10_000, (0.9, 1.0))
    began = clock.process_time()
    judge(*pair, Gate(), "classification")
    assert clock.process_time() - began < 2.0  # 0.1 s here; slow machines are forgiven


def test_predictions_are_read_from_parquet(tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    with duckdb.connect() as connection:
        connection.execute(
            "COPY (SELECT * FROM (VALUES (1::BIGINT, TIMESTAMP '2012-06-18 06:00:00', 2.5::DOUBLE, 3.0::DOUBLE), "
            f"(2, NULL, NULL, 4.0)) t(row, time, prediction, value)) TO '{path}' (FORMAT parquet)"
        )
    read = Predictions.read(path)
    assert read.row.tolist() == [1, 2]
    assert read.time[0] == 1339999200.0
    assert np.isnan(read.time[1])
    assert np.isnan(read.prediction[1])
    assert read.value.tolist() == [3.0, 4.0]
