"""Calibration: probabilities that are what happens pass, those that are not fail, and few rows cannot tell."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from trilho.config import Gate
from trilho.release.calibration import calibration, calibration_check
from trilho.release.compare import Predictions
from trilho.release.gate import judge

GATE = Gate(calibration=0.05)


def world(rng: np.random.Generator, rows: int, off: float = 0.0) -> Predictions:
    given = rng.uniform(0.15, 0.85, size=rows)
    value = (rng.random(rows) < given + off).astype(np.float64)
    return Predictions(np.arange(rows), np.full(rows, np.nan), given, value)


def verdicts(rows: int, off: float, worlds: int = 60) -> Counter[str]:
    rng = np.random.default_rng(17)
    return Counter(calibration_check(world(rng, rows, off), GATE).verdict for _ in range(worlds))


def test_calibrated_probabilities_pass() -> None:
    found = verdicts(2000, 0.0)
    assert found["fail"] == 0
    assert found["pass"] >= 48  # 93% of 400 worlds


def test_probabilities_that_are_off_by_the_limit_pass_and_fail_as_rarely_as_promised() -> None:
    found = verdicts(1000, 0.05)
    assert found["pass"] <= 9  # 5% of 60 promised, and three and a half deviations
    assert found["fail"] <= 9


def test_miscalibrated_probabilities_fail() -> None:
    assert verdicts(2000, 0.1)["fail"] >= 58


def test_few_rows_cannot_tell() -> None:
    found = verdicts(300, 0.03)
    assert found["not enough data"] >= 40
    few = calibration_check(world(np.random.default_rng(1), 60), GATE)
    assert (few.verdict, few.ok, few.note) == (
        "not enough data", False, "60 held-out rows, gate.rows asks for 100",
    )  # fmt: skip


def test_what_chance_adds_is_taken_off() -> None:
    rng = np.random.default_rng(3)
    found = [calibration(world(rng, 500), 0.95).error for _ in range(40)]
    assert float(np.mean(found)) < 0.02  # the plain root of the mean square would be 0.06


def test_the_reliability_table_is_kept() -> None:
    rows = world(np.random.default_rng(4), 2000, 0.1)
    check = calibration_check(rows, GATE)
    table = check.to_json()["table"]
    assert sum(line["rows"] for line in table) == 2000
    assert len(table) == 10
    assert float(np.mean([line["observed"] - line["predicted"] for line in table])) == pytest.approx(0.1, abs=0.03)
    assert check.note.startswith("its probabilities are off by 0.09")


def test_rows_of_one_probability_stay_together() -> None:
    rng = np.random.default_rng(5)
    given = rng.choice([0.2, 0.8], 1000)
    value = (rng.random(1000) < given).astype(np.float64)
    found = calibration(Predictions(np.arange(1000), np.full(1000, np.nan), given, value), 0.95)
    assert [line["predicted"] for line in found.table] == [0.2, 0.8]
    assert found.high < 0.05


@pytest.mark.parametrize(
    ("prediction", "value", "said"),
    [
        (1.5, 1.0, "1 of its predictions are no probabilities"),
        (0.5, 2.0, "calibration is of the classes 0 and 1, and the held-out rows have 2 too"),
    ],
)
def test_what_is_no_probability_of_two_classes_is_refused(prediction: float, value: float, said: str) -> None:
    rows = world(np.random.default_rng(6), 500)
    rows.prediction[7], rows.value[7] = prediction, value
    check = calibration_check(rows, GATE)
    assert (check.verdict, check.note) == ("fail", said)


def test_the_gate_refuses_a_challenger_that_ranks_better_and_is_miscalibrated() -> None:
    rng = np.random.default_rng(8)
    signal = rng.normal(size=4000)
    chance = 1 / (1 + np.exp(-2 * signal))
    value = (rng.random(4000) < chance).astype(np.float64)
    blurred = 1 / (1 + np.exp(-2 * (signal + rng.normal(size=4000))))
    at, time = np.arange(4000), np.full(4000, np.nan)
    champion = Predictions(at, time, blurred, value)
    honest, sure = Predictions(at, time, chance, value), Predictions(at, time, chance**3, value)
    assert judge(honest, champion, GATE, "classification")[0] == "pass"
    assert judge(sure, champion, Gate(), "classification")[0] == "pass"  # the same ranks
    verdict, evidence = judge(sure, champion, GATE, "classification")
    assert verdict == "fail"
    assert evidence["reason"].startswith("calibrated: its probabilities are off by 0.2")


def test_days_that_share_their_luck_are_no_miscalibration() -> None:
    rng, found = np.random.default_rng(9), Counter[str]()
    for _ in range(20):
        rows = world(rng, 2000)
        time = np.sort(rng.random(2000)) * 60 * 86400
        luck = (rng.normal(size=60) * 0.06)[(time // 86400).astype(int)]
        value = (rng.random(2000) < rows.prediction + luck).astype(np.float64)
        found[calibration_check(Predictions(rows.row, time, rows.prediction, value), GATE).verdict] += 1
    assert found["fail"] == 0
    assert found["pass"] >= 14
