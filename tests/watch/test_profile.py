"""Profiles: what a table becomes, whatever its columns hold."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from trilho_runtime.profile import BLOCKS, Feature, Reference, add, decode_profile, encode_profile

DAY = 86400.0


def objects(*values: Any) -> NDArray[Any]:
    out = np.empty(len(values), object)
    out[:] = values
    return out


def one(reference: Reference, name: str) -> Feature:
    return next(f for f in reference.features if f.name == name)


def counted(reference: Reference, name: str, column: NDArray[Any]) -> dict[str, int]:
    counts = one(reference, name).count(column)
    return {label: int(c) for label, c in zip(one(reference, name).labels, counts, strict=True) if c}


def test_numbers_fall_between_quantiles_or_out_of_range() -> None:
    reference = Reference.fit({"x": np.arange(1000.0)}, None, DAY)
    feature = one(reference, "x")
    assert feature.kind == "number"
    assert len(feature.labels) == 20 + 5
    assert (feature.ordered, feature.special) == (22, (0, 21, 22, 23, 24))
    assert feature.special_names == ("below", "above", "infinite", "nan", "null")
    assert counted(reference, "x", np.array([-1.0, 10.0, 10.0, 999.0, 1e9, np.nan, np.inf, -np.inf])) == {
        "below 0": 1,
        "0 to 49": 2,
        "949 to 999": 1,
        "above 999": 1,
        "infinite": 2,
        "null": 1,
    }


def test_what_only_one_window_reached_counts_as_out_of_range() -> None:
    values = np.concatenate([np.arange(100.0), np.arange(100.0), np.arange(50.0, 150.0)])
    time = np.repeat([0.0, DAY, 2 * DAY], 100)
    feature = one(Reference.fit({"x": values}, time, DAY), "x")
    assert feature.blocks[:, feature.ordered - 1].tolist() == [
        0,
        0,
        50,
    ]  # 100 to 149, above what the other windows held
    assert feature.counts.sum() == 300


@pytest.mark.parametrize("null", [None, float("nan")])
def test_object_columns_of_numbers(null: Any) -> None:
    column = objects(*range(100), null, 2.5, np.float64(3), np.int64(4))
    reference = Reference.fit({"x": column}, None, DAY)
    assert one(reference, "x").kind == "number"
    assert counted(reference, "x", objects(null, "text", 5))["null"] == 1
    assert counted(reference, "x", objects("text")) == {"nan": 1}


def test_nulls_of_pandas_are_nulls() -> None:
    class NAType:
        def __eq__(self, other: object) -> Any:
            return self

        def __ne__(self, other: object) -> Any:
            return self

        def __bool__(self) -> bool:
            raise TypeError("boolean value of NA is ambiguous")

        __hash__ = None  # type: ignore[assignment]

    column = objects(*(["a", "b"] * 20), NAType(), None, float("nan"))
    assert counted(Reference.fit({"c": column}, None, DAY), "c", column)["null"] == 3


def test_masked_arrays_as_duckdb_gives_them() -> None:
    numbers = np.ma.masked_array(np.arange(100), mask=np.arange(100) % 10 == 0)
    texts = np.ma.masked_array(objects(*(["a", "b"] * 50)), mask=np.arange(100) < 5)
    reference = Reference.fit({"x": numbers, "c": texts}, None, DAY)
    assert counted(reference, "x", numbers)["null"] == 10
    apart = np.ma.masked_array(np.array([np.nan, np.inf, 5.0]), mask=[False, False, True])
    assert counted(reference, "x", apart) == {"nan": 1, "infinite": 1, "null": 1}
    assert counted(reference, "c", texts) == {"a": 47, "b": 48, "null": 5}


def test_the_same_value_in_any_type_is_the_same_category() -> None:
    reference = Reference.fit({"c": objects(*([True, False] * 10)), "d": objects(*(["7", "8"] * 10))}, None, DAY)
    assert one(reference, "c").kind == "boolean"
    assert counted(reference, "c", np.array([True, True, False])) == {"true": 2, "false": 1}
    assert counted(reference, "c", objects("true", np.bool_(False))) == {"true": 1, "false": 1}
    assert counted(reference, "d", np.array([7, 8, 9])) == {"7": 1, "8": 1, "unseen": 1}
    assert counted(reference, "d", np.array([7.0, 8.0])) == {"7": 1, "8": 1}


def test_rare_values_share_bands_and_new_ones_are_expected() -> None:
    rng = np.random.default_rng(3)
    values = np.array([f"v{v}" for v in np.minimum(rng.zipf(1.3, 20_000), 50_000)], object)
    time = np.repeat(np.arange(50) * DAY, 400)
    reference = Reference.fit({"c": values}, time, DAY)
    feature = one(reference, "c")
    assert len(feature.labels) <= 30 + 8 + 2
    assert [feature.labels[place] for place in feature.special] == list(feature.special_names) == ["unseen", "null"]
    assert feature.ordered == 0
    fresh = np.array([f"v{v}" for v in np.minimum(rng.zipf(1.3, 20_000), 50_000)], object)
    expected, found = feature.counts / 20_000, feature.count(fresh) / 20_000
    assert expected[feature.labels.index("unseen")] > 0.02
    assert np.abs(expected - found).sum() / 2 < 0.03
    assert len(reference.to_json()) < 300_000


def test_a_category_that_is_mostly_null_is_kept() -> None:
    column = objects(*([None] * 900), *(["a", "b"] * 50))
    assert counted(Reference.fit({"c": column}, None, DAY), "c", column) == {"a": 50, "b": 50, "null": 900}


def test_identifiers_times_without_windows_and_empty_columns_are_skipped_with_a_reason() -> None:
    columns = {
        "id": objects(*(f"id{i}" for i in range(100))),
        "at": np.arange(100).astype("datetime64[s]"),
        "none": objects(*([None] * 100)),
        "nan": np.full(100, np.nan),
        "x": np.arange(100),
    }
    reference = Reference.fit(columns, None, DAY)
    assert [f.name for f in reference.features] == ["x"]
    assert reference.skipped == {
        "id": "nearly every value is new",
        "at": "a timestamp moves by itself",
        "none": "0 values in the reference",
        "nan": "0 values in the reference",
    }


def hours(*values: float) -> NDArray[Any]:
    """Times so many hours after a Monday's midnight."""
    return np.datetime64("2026-01-05", "us") + (np.array(values) * 3_600_000_000).astype("timedelta64[us]")


def test_times_are_watched_by_their_hour_and_weekday() -> None:
    rng = np.random.default_rng(2)
    at = hours(*rng.integers(0, 24 * 7 * 8, 2000))
    reference = Reference.fit({"at": at}, np.repeat(np.arange(100) * DAY, 20), DAY)
    assert [(f.name, f.kind, f.column, f.ordered) for f in reference.features] == [
        ("at:hour", "timestamp", "at", 0),
        ("at:weekday", "timestamp", "at", 0),
    ]
    strange = objects(datetime(2026, 1, 6, 13, 30), "2026-01-06T13:59:59-02:00", None, "soon", 7)
    assert counted(reference, "at:hour", strange) == {"13:00": 1, "15:00": 1, "unseen": 2, "null": 1}
    assert counted(reference, "at:weekday", strange) == {"Tuesday": 2, "unseen": 2, "null": 1}
    before = np.array(["1969-12-31T23:59:59", "NaT"], "datetime64[us]")
    assert counted(reference, "at:hour", before) == {"23:00": 1, "null": 1}
    assert counted(reference, "at:weekday", before) == {"Wednesday": 1, "null": 1}
    assert {name: int(counts.sum()) for name, counts in reference.profile({"at": at}).items()} == {
        "at:hour": 2000,
        "at:weekday": 2000,
    }


def test_a_time_that_follows_the_windows_says_nothing() -> None:
    at = hours(*range(24 * 60))
    daily = Reference.fit({"at": at}, at, DAY)
    assert [f.name for f in daily.features] == ["at:hour"]
    hourly = Reference.fit({"at": at}, at, DAY / 24)
    assert hourly.features == ()
    assert hourly.skipped == {"at": "its hour and weekday are those of the window"}
    dates = hours(*(24 * np.random.default_rng(0).integers(0, 60, 1000)))
    assert [f.name for f in Reference.fit({"at": dates}, None, DAY, calendar=True).features] == ["at:weekday"]


def test_texts_are_watched_by_length_and_unseen_words() -> None:
    rng = np.random.default_rng(5)
    words = np.array(["late", "Order", "broken", "box", "never", "came", "thanks", "good"])
    texts = objects(*(" ".join(rng.choice(words, size)) + f" {k}" for k, size in enumerate(rng.integers(2, 9, 2000))))
    reference = Reference.fit({"note": texts}, None, DAY)
    assert [(f.name, f.kind, f.column) for f in reference.features] == [
        ("note:length", "text", "note"),
        ("note:words", "text", "note"),
    ]
    assert set(one(reference, "note:words").values) == {word.lower() for word in words}
    served = objects("ORDER late", "order late box chegou", "box chegou", "box chegou ontem", "chegou ontem", " ", None)
    assert counted(reference, "note:words", served) == {
        "all words known": 1,
        "to a quarter of words new": 1,
        "to half of words new": 1,
        "most words new": 1,
        "no words": 1,
        "unseen": 1,
        "null": 1,
    }
    lengths = counted(reference, "note:length", objects("a", "x" * 500, None))
    assert lengths["null"] == 1
    assert sum(n for label, n in lengths.items() if label.startswith(("below", "above"))) == 2
    again = Reference.from_json(reference.to_json())
    assert again.to_json() == reference.to_json()


def test_encoded_profiles_carry_their_rows_and_schema_and_stay_small() -> None:
    rng = np.random.default_rng(6)
    columns: dict[str, NDArray[Any]] = {f"x{k}": rng.normal(size=2000) for k in range(20)}
    columns |= {f"c{k}": rng.choice([f"v{j}" for j in range(50)], 2000).astype(object) for k in range(10)}
    profile = Reference.fit(columns, None, DAY).profile(columns)
    text = encode_profile(profile, 2000)
    assert len(text) < 5_000
    again, rows = decode_profile(text)
    assert rows == 2000
    assert {k: v.tolist() for k, v in again.items()} == {k: v.tolist() for k, v in profile.items()}
    assert encode_profile(dict(reversed(again.items())), rows) == text
    with pytest.raises(ValueError, match="schema 9, this trilho-runtime reads 2"):
        decode_profile(b'{"schema": 9}')


def test_a_reference_of_schema_1_gets_the_bins_it_did_not_have() -> None:
    old = {
        "schema": 1, "rows": 30, "window_seconds": DAY, "windows": 2, "skipped": {"at": "a timestamp moves by itself"},
        "features": [
            {"name": "x", "kind": "number", "labels": ["below 1", "1 to 2", "above 2", "null"], "edges": [1.0, 2.0],
             "values": [], "counts": [0, 28, 1, 1], "inside": [0, 29, 0, 1], "blocks": [[0, 14, 0, 1], [0, 14, 1, 0]]},
            {"name": "c", "kind": "category", "labels": ["a", "other", "unseen", "null"], "edges": [],
             "values": [[0, ["a"]], [1, ["b"]]], "counts": [20, 5, 3, 2], "blocks": [[10, 3, 1, 1], [10, 2, 2, 1]]},
        ],
    }  # fmt: skip
    reference = Reference.from_json(json.dumps(old))
    x, c = reference.features
    assert x.labels == ("below 1", "1 to 2", "above 2", "infinite", "nan", "null")
    assert x.counts.tolist() == [0, 28, 1, 0, 0, 1]
    assert x.inside.tolist() == [0, 29, 0, 0, 0, 1]
    assert x.blocks.tolist() == [[0, 14, 0, 0, 0, 1], [0, 14, 1, 0, 0, 0]]
    assert c.counts.tolist() == c.inside.tolist() == [20, 5, 3, 2]
    assert counted(reference, "x", np.array([1.5, np.inf, np.nan])) == {"1 to 2": 1, "infinite": 1, "null": 1}
    assert Reference.from_json(reference.to_json()).to_json() == reference.to_json()


def test_profiles_add_up() -> None:
    rng = np.random.default_rng(0)
    columns: dict[str, NDArray[Any]] = {"x": rng.normal(size=500), "c": rng.choice(["a", "b", "c"], 500)}
    reference = Reference.fit(columns, None, DAY)
    halves = [reference.profile({k: v[part] for k, v in columns.items()}) for part in (slice(200), slice(200, None))]
    whole = reference.profile(columns)
    assert {k: v.tolist() for k, v in add(*halves).items()} == {k: v.tolist() for k, v in whole.items()}
    assert whole["c"].tolist() == one(reference, "c").counts.tolist()


def test_a_missing_column_is_null_in_every_row() -> None:
    reference = Reference.fit({"x": np.arange(100), "y": np.arange(100)}, None, DAY)
    assert reference.profile({"x": np.arange(7)})["y"][-1] == 7


def test_blocks_are_the_reference_windows() -> None:
    x = np.arange(600.0) % 30
    reference = Reference.fit({"x": x}, (np.arange(600) * DAY / 10).astype(np.float64), DAY)
    feature = one(reference, "x")
    assert reference.windows == 60
    assert feature.blocks.shape == (60, len(feature.labels))
    assert (feature.blocks.sum(1) == 10).all()
    assert (feature.blocks.sum(0) == feature.counts).all()


def test_many_windows_are_thinned_in_pairs_of_neighbours() -> None:
    x = np.tile(np.arange(10.0), 1000)
    x[:10] = 100  # marks the first window
    reference = Reference.fit({"x": x}, np.repeat(np.arange(1000) * DAY, 10), DAY)
    assert len(one(reference, "x").blocks) == BLOCKS
    assert reference.windows == 1000
    assert one(reference, "x").blocks[0, one(reference, "x").ordered - 1] == 10


def test_json_round_trip_is_exact() -> None:
    rng = np.random.default_rng(1)
    columns: dict[str, NDArray[Any]] = {
        "x": rng.normal(size=400),
        "c": rng.choice(["ä", 'q"', "x,y"], 400).astype(object),
    }
    reference = Reference.fit(columns, np.arange(400) * 3600.0, DAY)
    text = reference.to_json()
    again = Reference.from_json(text)
    assert again.to_json() == text
    assert {k: v.tolist() for k, v in again.profile(columns).items()} == {
        k: v.tolist() for k, v in reference.profile(columns).items()
    }
    with pytest.raises(ValueError, match="schema 3"):
        Reference.from_json(json.dumps({**json.loads(text), "schema": 3}))


def test_the_same_table_gives_the_same_reference() -> None:
    columns: dict[str, NDArray[Any]] = {"c": objects(*(["a", "b", "c", "d"] * 30)), "x": np.arange(120)}
    assert Reference.fit(columns, None, DAY).to_json() == Reference.fit(columns, None, DAY).to_json()


def test_no_rows() -> None:
    reference = Reference.fit({"x": np.zeros(0)}, np.zeros(0), DAY)
    assert reference.features == ()
    assert reference.profile({"x": np.zeros(0)}) == {}
