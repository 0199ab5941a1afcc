"""What becomes of classes beside the truth: right or wrong, how likely, how far off."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trilho.core.classes import Classes, right
from trilho.data.labels import as_class

ABC = Classes(("a", "b", "c"))
SHARES = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [1.0, 0.0, 0.0]])
TOLD = np.array(["a", "c", "a"], object)
LISTS = np.array([None, None, None], object)
LISTS[:] = [list(row) for row in SHARES]


def test_losses_and_chances_are_of_the_class_that_came_true() -> None:
    value = np.array(["b", "c", None], object)
    assert ABC.shares(TOLD, LISTS).tolist() == SHARES.tolist()
    assert ABC.chance(SHARES, value)[:2].tolist() == [0.3, 0.8]
    assert ABC.losses(SHARES, value)[:2] == pytest.approx([(0.25 + 0.49 + 0.04) / 2, (0.01 + 0.01 + 0.04) / 2])
    assert right(TOLD, value)[:2].tolist() == [0.0, 1.0]
    assert all(
        math.isnan(x) for x in (ABC.chance(SHARES, value)[2], ABC.losses(SHARES, value)[2], right(TOLD, value)[2])
    )


def test_a_class_that_the_model_has_not_is_as_wrong_as_none_was_likely() -> None:
    value = np.array(["d"], object)
    assert ABC.chance(SHARES[2:], value).tolist() == [0.0]
    assert ABC.losses(SHARES[2:], value).tolist() == [1.0]


def test_two_classes_lose_what_one_number_would() -> None:
    p, value = np.array([0.2, 0.9, 0.5]), np.array([1.0, 0.0, 1.0])
    found = Classes((0, 1)).losses(np.column_stack([1 - p, p]), value)
    assert found == pytest.approx((p - value) ** 2)


def test_a_model_that_names_a_class_only_is_sure_of_it() -> None:
    told, value = np.array([3, 1, 2]), np.array([3.0, 2.0, np.nan])
    numbers = Classes((1, 2, 3))
    assert numbers.shares(told).tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    assert numbers.losses(numbers.shares(told), value)[:2].tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("accuracy", lambda p, v: ((p >= 0.5) == (v >= 0.5)).mean()),
        ("log_loss", lambda p, v: -np.log(p).mean()),
        ("brier", lambda p, v: ((p - v) ** 2).mean()),
    ],
)
def test_a_metric_of_classes_is_one_of_two(metric: str, expected: Any) -> None:
    value = np.array(["b", "c", "a"], object)
    prediction, came = ABC.measured(metric, {"_class": TOLD, "_probabilities": LISTS, "_value": value})
    by_hand = {
        "accuracy": 2 / 3,
        "log_loss": -(math.log(0.3) + math.log(0.8)) / 3,
        "brier": (0.78 / 2 + 0.06 / 2) / 3,
    }
    assert expected(prediction, came) == pytest.approx(by_hand[metric])
    assert len(ABC.measured("roc_auc", {"_class": TOLD, "_value": value})[0]) == 0


@pytest.mark.parametrize(
    ("outputs", "labels"),
    [
        ({"kind": "probabilities", "classes": ["a", "b"]}, ("a", "b")),
        ({"kind": "class", "classes": [False, True]}, (False, True)),
        ({"kind": "probability", "classes": [0, 1]}, None),
        ({"kind": "value", "classes": []}, None),
        (None, None),
    ],
)
def test_classes_are_read_off_a_package(tmp_path: Path, outputs: Any, labels: Any) -> None:
    told = {"task": "classification", **({"outputs": outputs} if outputs else {})}
    (tmp_path / "manifest.json").write_text(json.dumps(told))
    found = Classes.of(tmp_path)
    assert (None if found is None else found.labels) == labels


@pytest.mark.parametrize(
    ("truth", "classes", "found"),
    [
        ("b", ("a", "b"), "b"),
        (7, ("7", "8"), "7"),
        (7.0, ("7", "8"), "7"),
        (1, (0, 1), 1.0),
        (True, (0, 1), 1.0),
        (True, (False, True), True),
        ("true", (False, True), True),
        ("2", (1, 2, 3), 2.0),
        ("d", ("a", "b"), None),
        (2, (0, 1), None),
        (2, (), None),
    ],
)
def test_a_tables_value_becomes_the_class_it_is_written_as(truth: Any, classes: Any, found: Any) -> None:
    got = as_class(truth, classes)
    assert (got, type(got)) == (found, type(found))
