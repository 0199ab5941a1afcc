"""The history: which past rows are kept, found and given, and that they survive a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from trilho_runtime.history import History, Past, keys_of, usual_step
from trilho_runtime.pack import arrays

TOLD: dict[str, Any] = {"target": "y", "time": "day", "entity": ["shop"], "rows": 2}


def days(*numbers: int | None) -> NDArray[Any]:
    start = np.datetime64("2024-01-01", "us")
    nat = np.datetime64("NaT", "us")
    return np.array([nat if n is None else start + np.timedelta64(n, "D") for n in numbers], "datetime64[us]")


def table(*rows: tuple[str | None, int | None]) -> dict[str, NDArray[Any]]:
    shops = np.array([shop for shop, _ in rows], object)
    return {"shop": shops, "day": days(*(day for _, day in rows)), "size": np.arange(len(rows))}


SIX = table(("a", 0), ("b", 0), ("a", 1), ("b", 5), ("a", 2), ("a", 3))
KEPT = History.fit(SIX, np.arange(6.0), **TOLD)


def given(history: History, columns: dict[str, NDArray[Any]]) -> list[list[float]]:
    """The targets that each row's past holds."""
    return [history.values[past.start : past.stop].tolist() for past in history.find(columns)]


def test_the_newest_rows_of_each_entity_are_kept_in_order_of_time() -> None:
    assert KEPT.columns["shop"].tolist() == ["a", "a", "b", "b"]
    assert KEPT.values.tolist() == [4, 5, 1, 3]
    assert KEPT.columns["size"].tolist() == [4, 5, 1, 3]
    assert KEPT.until == "2024-01-06T00:00:00"
    assert KEPT.to_json() == {**TOLD, "entities": 2, "until": "2024-01-06T00:00:00"}


def test_a_row_is_given_the_strictly_earlier_rows_of_its_entity() -> None:
    asked = table(("a", 4), ("b", 6), ("a", 3), ("a", 2), ("c", 9), ("a", 6), ("a", None))
    assert given(KEPT, asked) == [[4, 5], [1, 3], [4], [], [], [4, 5], []]
    states = [past.state for past in KEPT.find(asked)]
    assert states == ["fresh", "fresh", "late", "late", "none", "stale", "none"]


def test_rows_asked_of_the_table_itself_have_all_of_their_past() -> None:
    kept = History.fit(SIX, np.arange(6.0), asked=table(("a", 2), ("a", 3)), **TOLD)
    assert kept.values.tolist() == [0, 2, 4, 5, 1, 3]
    assert given(kept, table(("a", 2), ("a", 3), ("a", 9))) == [[0, 2], [2, 4], [4, 5]]


def test_rows_of_one_time_do_not_see_each_other_and_keep_the_tables_order() -> None:
    twice = table(("a", 0), ("a", 1), ("a", 1), ("a", 2))
    kept = History.fit(twice, np.arange(4.0), asked=table(("a", 1)), **TOLD)
    assert given(kept, table(("a", 1), ("a", 2), ("a", 3))) == [[0], [1, 2], [2, 3]]


def test_without_an_entity_the_table_is_one_series() -> None:
    kept = History.fit(SIX, np.arange(6.0), **{**TOLD, "entity": []})
    assert given(kept, table(("z", 9))) == [[5, 3]]


def test_rows_without_a_time_are_nobodys_past_and_no_shop_is_a_shop() -> None:
    rows = table((None, 0), ("a", None), (None, 1))
    kept = History.fit(rows, np.arange(3.0), **TOLD)
    assert given(kept, table((None, 2), ("a", 2))) == [[0, 2], []]
    none = History.fit(table(), np.zeros(0), **TOLD)
    assert (none.find(table(("a", 1))), none.until) == ([Past(0, 0, "none")], None)


def test_the_row_comes_after_its_past_without_its_target() -> None:
    asked = table(("b", 6), ("a", 4))
    found = KEPT.table(asked, 1, KEPT.find(asked)[1])
    assert list(found) == ["shop", "day", "size", "y"]
    assert found["shop"].tolist() == ["a", "a", "a"]
    assert found["size"].tolist() == [4, 5, 1]
    assert found["day"].tolist() == days(2, 3, 4).tolist()
    assert found["y"][:2].tolist() == [4, 5]
    assert np.isnan(found["y"][2])
    alone = KEPT.table(table(("c", 4)), 0, Past(0, 0, "none"))
    assert (alone["shop"].tolist(), len(alone["y"])) == (["c"], 1)


@pytest.mark.parametrize(
    ("numbers", "step"),
    [
        ([0, 1, 2, 3], 1),
        ([0, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14], 3),
        ([*range(30), 60], 1),
        ([4, 4], None),
        ([1], None),
    ],
)
def test_the_usual_step_bears_with_weekends_but_not_with_outages(numbers: list[int], step: int | None) -> None:
    found = usual_step(days(*numbers))
    assert found == (None if step is None else np.timedelta64(step, "D"))


def test_newer_rows_take_the_place_of_what_was_kept_from_their_oldest_on() -> None:
    newer = table(("a", 3), ("a", 4), ("c", 4))
    asked = table(("a", 5), ("b", 6), ("c", 5))
    renewed = KEPT.renewed(newer, np.array([30.0, 40.0, 70.0]), asked)
    assert given(renewed, asked) == [[30, 40], [1, 3], [70]]
    assert given(KEPT, asked)[0] == [4, 5]
    older = KEPT.renewed(table(("a", 0)), np.array([0.0]), asked)
    assert given(older, asked)[0] == [0]


def test_it_survives_a_file_with_texts_nulls_and_any_column_name(tmp_path: Path) -> None:
    columns = {
        "shop": np.array(["São Paulo", None, ""], object),
        "day": days(0, 1, 2),
        "../f/l": np.array([True, None, False], object),
        "values": np.array([1.5, np.nan, 2], np.float32),
    }
    kept = History.fit(columns, np.array([1.0, 2.0, 3.0]), **TOLD)
    (tmp_path / "h.npz").write_bytes(arrays(kept.to_arrays()))
    back = History.load(tmp_path / "h.npz", columns, kept.to_json())
    assert back.to_json() == kept.to_json()
    assert list(back.columns) == list(columns)
    for name, column in kept.columns.items():
        assert back.columns[name].dtype == column.dtype
        np.testing.assert_array_equal(back.columns[name], column)
    asked = {name: column[:1] for name, column in columns.items()} | {"day": days(8)}
    assert back.find(asked) == kept.find(asked) == [Past(0, 1, "fresh")]


def test_a_keys_number_that_is_missing_is_one_of_its_own() -> None:
    columns = {"a": np.array([1.0, np.nan]), "b": np.array([True, False])}
    assert keys_of(columns, ["a", "b"], 2) == [(1.0, True), (None, False)]
