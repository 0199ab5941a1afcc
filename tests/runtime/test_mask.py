"""Masks: what the log may hold of a row."""

from __future__ import annotations

import re
from typing import Any

import pytest

from trilho_runtime.prediction.mask import Mask, canonical_text

MASK = Mask.parse('{"cpf": "hash", "name": "drop"}', "a secret")


def test_a_dropped_column_is_gone_and_a_hashed_one_is_16_digits() -> None:
    row = {"cpf": "123.456.789-09", "name": "Ana", "x": 1.5, "y": None}
    masked = MASK.apply(row)
    assert list(masked) == ["cpf", "x", "y"]
    assert re.fullmatch("[0-9a-f]{16}", masked["cpf"])
    assert (masked["x"], masked["y"]) == (1.5, None)
    assert row["name"] == "Ana"


def test_null_stays_null() -> None:
    assert MASK.apply({"cpf": None}) == {"cpf": None}


@pytest.mark.parametrize(
    ("one", "other"),
    [(7, "7"), (7.0, 7), ("7.0", 7), ("2024-05-01T08:00:00Z", "2024-05-01 05:00:00-03:00"), (True, True), ([1], [1])],
)
def test_one_value_has_one_hash_however_it_is_spelled(one: Any, other: Any) -> None:
    assert MASK.apply({"cpf": one}) == MASK.apply({"cpf": other})


@pytest.mark.parametrize(("one", "other"), [("007", 7), (True, 1), ("a", "A"), (1.5, 15), ("", " ")])
def test_other_values_have_other_hashes(one: Any, other: Any) -> None:
    assert MASK.hash(one) != MASK.hash(other)


def test_the_hash_is_that_of_the_key() -> None:
    other = Mask.parse({"cpf": "hash"}, "another secret")
    assert MASK.hash(7) == "ed20c1a1625b1520" != other.hash(7)
    assert Mask.parse({"cpf": "hash"}, b"k" * 200).hash(7) != Mask.parse({"cpf": "hash"}, b"k" * 201).hash(7)


def test_a_row_without_such_columns_is_given_as_it_is() -> None:
    row = {"x": 1}
    assert MASK.apply(row) is row
    nothing = Mask.parse(None)
    assert not nothing
    assert nothing.apply(row) is row


def test_a_text_that_no_file_can_hold_is_hashed_too() -> None:
    assert len(MASK.hash("\ud800")) == 16


@pytest.mark.parametrize(
    ("rules", "key", "said"),
    [
        ('{"cpf": "hide"}', "k", "the mask of cpf is 'hide'; allowed: hash, drop"),
        ('["cpf"]', "k", "wanted an object of columns"),
        ('{"cpf": "hash"}', "", "the columns cpf are to be hashed, and there is no key"),
        ("{", "k", "Expecting property name"),
    ],
)
def test_wrong_rules_are_refused(rules: str, key: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        Mask.parse(rules, key)


def test_the_texts_are_those_by_which_labels_find_their_predictions() -> None:
    from trilho.data.labels import key_text

    for value in (7, 7.0, "7.0", "007", 1.5, True, "2012-01-01 05:00-03:00", "x", [1, "a"]):
        assert key_text({"k": value}, ["k"]) == key_text({"k": canonical_text(value)}, ["k"])
