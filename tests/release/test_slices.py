"""Slices: a challenger that is better over all and worse on a part is refused, and luck on one of many parts is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from numpy.typing import NDArray

from trilho.config import Gate
from trilho.core.checks import Check
from trilho.release.compare import Predictions
from trilho.release.gate import judge
from trilho.release.slices import MOST_VALUES, OTHERS, Labels, read_labels, slice_checks

WORLDS, SLICES = 60, 12


def world(
    rng: np.random.Generator, rows: int = 2400, slices: int = SLICES, bad: float = 1.0, others: float = 1.0
) -> tuple[Predictions, Predictions, Labels]:
    """The challenger is `bad` times as noisy as the champion on slice 0, `others` times elsewhere."""
    place = rng.integers(slices, size=rows)
    signal = rng.normal(size=rows)
    noise = np.where(place == 0, bad, others)
    first, second = signal + rng.normal(size=rows) * noise, signal + rng.normal(size=rows)
    at, time = np.arange(rows), np.full(rows, np.nan)
    labels = Labels.of("shop", [str(x) for x in place])
    return Predictions(at, time, first, signal), Predictions(at, time, second, signal), labels


def checked(*given: Any, gate: Gate | None = None) -> tuple[Check, list[dict[str, Any]]]:
    challenger, champion, labels = given
    checks, found = slice_checks(challenger, champion, [labels], "mae", gate or Gate())
    return checks[0], found


def test_twelve_slices_refuse_an_equal_challenger_no_more_often_than_promised() -> None:
    rng = np.random.default_rng(1)
    refused = sum(checked(*world(rng))[0].verdict == "fail" for _ in range(WORLDS))
    assert refused <= 9  # 5% of 60, and three and a half deviations
    one_by_one = sum(x["chance"] <= 0.05 for _ in range(20) for x in checked(*world(rng))[1])
    assert one_by_one >= 5  # what twelve tests, each by itself, would have taken for worse


def test_a_challenger_that_is_worse_on_one_slice_is_refused_for_that_slice() -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        check, found = checked(*world(rng, bad=1.8, others=0.7))
        assert check.verdict == "fail"
        assert check.note.startswith("shop 0 (")
        assert "with 95% confidence over 12 slices; allowed: up to 0" in check.note
        (bad,) = (x for x in found if x["verdict"] == "fail")
        assert (bad["value"], bad["worse"] > 0) == ("0", True)


def test_the_gate_refuses_who_is_better_over_all_and_worse_on_a_slice() -> None:
    challenger, champion, labels = world(np.random.default_rng(3), bad=1.8, others=0.6)
    assert judge(challenger, champion, Gate(), "regression")[0] == "pass"
    gate = Gate(slices=["shop"])
    verdict, evidence = judge(challenger, champion, gate, "regression", slices=[labels])
    assert verdict == "fail"
    assert evidence["reason"].startswith("no worse by shop: shop 0 (")
    assert [(x["name"], x["verdict"]) for x in evidence["checks"]] == [
        ("better than the champion", "pass"),
        ("no worse by shop", "fail"),
    ]
    assert len(evidence["slices"]) == SLICES
    better = world(np.random.default_rng(3), bad=0.6, others=0.6)
    assert judge(better[0], better[1], gate, "regression", slices=[better[2]])[0] == "pass"


def test_a_loss_within_the_margin_is_allowed() -> None:
    given = world(np.random.default_rng(4), bad=1.8, others=0.7)
    assert checked(*given, gate=Gate(margin=0.1))[0].verdict == "fail"
    assert checked(*given, gate=Gate(margin=2.0))[0].verdict == "pass"


def test_a_slice_with_too_few_rows_is_named_and_does_not_block() -> None:
    challenger, champion, labels = world(np.random.default_rng(5), bad=0.7, others=0.7)
    place = labels.place.copy()
    place[40:][place[40:] == labels.names.index("0")] = labels.names.index("1")
    few = Labels("shop", place, labels.names)
    check, found = checked(challenger, champion, few)
    rows = int(np.sum(place == labels.names.index("0")))
    assert (check.verdict, check.ok) == ("pass", True)
    assert f"not enough data for 0 ({rows} rows)" in check.note
    assert next(x for x in found if x["value"] == "0")["verdict"] == "not enough data"


def test_where_no_slice_has_enough_rows_the_check_says_so_and_does_not_block() -> None:
    challenger, champion, labels = world(np.random.default_rng(6), rows=600, bad=0.5, others=0.5)
    verdict, evidence = judge(challenger, champion, Gate(slices=["shop"]), "regression", slices=[labels])
    assert verdict == "pass"
    assert (evidence["checks"][1]["verdict"], evidence["checks"][1]["ok"]) == ("not enough data", True)


def test_a_slice_of_one_class_has_no_area_under_the_curve() -> None:
    rng = np.random.default_rng(7)
    value: NDArray[np.float64] = (rng.random(800) < 0.5).astype(np.float64)
    value[:400] = 0.0
    chance = np.clip(0.5 + (value - 0.5) * 0.6 + rng.normal(size=800) * 0.1, 0.01, 0.99)
    rows = Predictions(np.arange(800), np.full(800, np.nan), chance, value)
    labels = Labels.of("shop", ["a"] * 400 + ["b"] * 400)
    found = slice_checks(rows, rows, [labels], "roc_auc", Gate())[1]
    assert {x["value"]: x["verdict"] for x in found} == {"a": "not enough data", "b": "pass"}


def test_days_that_share_their_luck_do_not_make_a_slice_worse() -> None:
    rng, refused = np.random.default_rng(8), 0
    for _ in range(20):
        challenger, champion, labels = world(rng)
        time = np.sort(rng.random(2400)) * 40 * 86400
        luck = np.exp(rng.normal(size=40) * 0.4)[(time // 86400).astype(int)]
        value = challenger.value
        first = Predictions(challenger.row, time, value + (challenger.prediction - value) * luck, value)
        second = Predictions(champion.row, time, value + (champion.prediction - value) / luck, value)
        refused += checked(first, second, labels)[0].verdict == "fail"
    assert refused <= 3


def test_without_a_champion_nothing_is_worse() -> None:
    good = world(np.random.default_rng(9), others=0.3)[0]
    verdict, evidence = judge(good, None, Gate(slices=["shop"]), "regression")
    assert (verdict, evidence["checks"][-1]["verdict"]) == ("pass", "pass")
    assert "nothing serves yet" in evidence["checks"][-1]["note"]


def test_beyond_twenty_values_the_others_are_together() -> None:
    values = [f"v{x:02d}" for x in range(30) for _ in range(100 - x)]
    labels = Labels.of("shop", values)
    assert list(labels.names) == [*(f"v{x:02d}" for x in range(MOST_VALUES)), OTHERS]
    assert int(np.sum(labels.place == MOST_VALUES)) == sum(100 - x for x in range(20, 30))


def test_labels_are_read_by_the_rows_place_in_the_holdout(tmp_path: Path) -> None:
    path = tmp_path / "holdout.parquet"
    query = 'SELECT CASE WHEN i = 2 THEN NULL ELSE \'c\' || i % 2 END AS "the ""shop", i AS n FROM range(5) t(i)'
    duckdb.sql(f"COPY ({query}) TO '{path}' (FORMAT parquet)")
    (shop, n) = read_labels(path, ['the "shop', "n"], np.array([4, 1, 2]))
    assert [shop.names[at] for at in shop.place] == ["c0", "c1", "null"]
    assert [n.names[at] for at in n.place] == ["4", "1", "2"]


@pytest.mark.parametrize("seed", [1, 2])
def test_a_verdict_on_slices_can_be_repeated(seed: int) -> None:
    given = world(np.random.default_rng(seed))
    assert checked(*given) == checked(*given)
