from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trilho_runtime.bins import count_numbers, place_numbers
from trilho_runtime.prediction import live as live_module
from trilho_runtime.prediction.live import LiveProfile, live_reference
from trilho_runtime.profile import PREDICTION, Reference, add

COLORS = ["red", "green", "blue"]


def reference() -> Reference:
    """A reference of a number, a category, a flag, and the model's predictions."""
    rng = np.random.default_rng(3)
    columns = {
        "x": rng.normal(size=600),
        "color": np.array(COLORS, object)[rng.integers(0, 3, 600)],
        "flag": rng.random(600) < 0.5,
        PREDICTION: rng.random(600),
    }
    return Reference.fit(columns, None, 3600)


REFERENCE = reference()


def columns(rows: int, seed: int = 0) -> dict[str, Any]:
    """Rows as a signature gives them, with nulls and values never seen."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=rows) * 3
    x[rng.random(rows) < 0.2] = np.nan
    color = np.array([*COLORS, "new", None], object)[rng.integers(0, 5, rows)]
    return {"x": x, "color": color, "flag": rng.random(rows) < 0.5}


def live(folder: Path | None = None, **options: Any) -> LiveProfile:
    return LiveProfile(REFERENCE, model="tiny", version=3, folder=folder, **options)


def published(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_bytes()) for path in sorted(folder.glob("*.json"))]


def expected(parts: list[tuple[dict[str, Any], Any]]) -> dict[str, list[int]]:
    """What the reference itself counts in all rows at once."""
    whole = {name: np.concatenate([part[name] for part, _ in parts]) for name in parts[0][0]}
    whole[PREDICTION] = np.concatenate([scores for _, scores in parts])
    return {name: counts.tolist() for name, counts in REFERENCE.profile(whole).items()}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(1, 5), st.integers(1, 60))
def test_it_counts_what_the_reference_counts_however_rows_come(sizes: list[int], parts: int, rows: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live_module, "PARTS", parts)
        patch.setattr(live_module, "ROWS", rows)
        profile = live()
        given_parts = [(columns(size, seed), np.full(size, size / 50)) for seed, size in enumerate(sizes)]
        for part, scores in given_parts:
            profile.add(part, scores)
        told = profile.to_json()
    assert told["counts"] == expected(given_parts)
    assert (told["rows"], told["model"], told["version"]) == (sum(sizes), "tiny", 3)


def test_a_column_that_is_not_served_counts_as_null() -> None:
    profile = live()
    profile.add({"x": np.zeros(5)}, np.zeros(5))
    assert profile.to_json()["counts"]["color"][-1] == 5


def test_rows_are_counted_by_the_hour_they_are_of_and_each_hour_has_a_file(tmp_path: Path) -> None:
    profile = live(tmp_path, time="at")
    at = np.array(["2026-01-01T13:59:59", "2026-01-01T14:00:00", "2026-01-01T13:00:00"], "datetime64[us]")
    profile.add({**columns(3), "at": at}, np.zeros(3))
    profile.publish()
    files = published(tmp_path)
    assert [(file["hour"], file["rows"], file["event_time"]) for file in files] == [
        ("2026-01-01T13", 2, True),
        ("2026-01-01T14", 1, True),
    ]
    assert all(file.items() >= {"schema": 1, "model": "tiny", "version": 3}.items() for file in files)
    assert sorted(path.name.split("-")[-2] for path in tmp_path.iterdir()) == [str(os.getpid())] * 2
    whole = add(*({name: np.array(counts) for name, counts in file["counts"].items()} for file in files))
    assert {name: counts.tolist() for name, counts in whole.items()} == profile.to_json()["counts"]


def test_a_file_is_rewritten_while_its_hour_lasts_and_left_alone_without_news(tmp_path: Path) -> None:
    profile = live(tmp_path)
    for _ in range(3):
        profile.add(columns(4), np.zeros(4))
        profile.publish()
    (path,) = tmp_path.iterdir()
    assert json.loads(path.read_bytes())["rows"] == 12
    assert json.loads(path.read_bytes())["event_time"] is False
    path.unlink()
    profile.publish()
    assert not list(tmp_path.iterdir())


def test_an_event_without_a_time_is_of_the_hour_of_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1767274200.0)
    profile = live(tmp_path, time="at")
    at = np.array(["NaT", "2020-05-05T05:05"], "datetime64[us]")
    profile.add({**columns(2), "at": at}, np.zeros(2))
    profile.publish()
    assert [file["hour"] for file in published(tmp_path)] == ["2020-05-05T05", "2026-01-01T13"]


def test_memory_does_not_grow_with_the_hours_and_files_of_an_hour_that_comes_again_add_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_module, "HOURS", 3)
    profile = live(tmp_path, time="at")
    hours = [0, 1, 2, 3, 4, 0, 5, 0]
    for hour in hours:
        at = np.full(2, np.datetime64("2026-01-01") + np.timedelta64(hour, "h"))
        profile.add({**columns(2), "at": at.astype("datetime64[us]")}, np.zeros(2))
        profile.to_json()  # counts what is pending
        assert len(profile._hours) <= 3
    profile.publish()
    files = published(tmp_path)
    rows = {hour: sum(file["rows"] for file in files if file["hour"].endswith(f"T0{hour}")) for hour in range(6)}
    assert rows == {0: 6, 1: 2, 2: 2, 3: 2, 4: 2, 5: 2}
    assert sum(file["hour"].endswith("T00") for file in files) == 2
    assert profile.to_json()["rows"] == 16


def test_a_folder_that_cannot_be_written_is_said_once_and_made_up_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    profile = live(tmp_path / "file" / "profiles")
    profile.add(columns(2), np.zeros(2))
    profile.publish()
    profile.publish()
    assert capsys.readouterr().err.count("the live profile is not published") == 1
    (tmp_path / "file").unlink()
    profile.publish()
    assert [file["rows"] for file in published(tmp_path / "file" / "profiles")] == [2]


def test_rows_that_cannot_be_counted_are_left_out_and_the_others_are_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    profile, good = live(), [(columns(size, size), np.full(size, 0.5)) for size in (3, 4)]
    wrong = {**columns(5), "x": np.array(["no number"] * 5, object)}
    place = live_module._Placing.count

    def count(placing: Any, column: Any) -> Any:
        if placing.name == "flag" and len(column) in (5, 12):  # the last feature: those before it are counted by then
            raise OverflowError("a flag of 5")
        return place(placing, column)

    monkeypatch.setattr(live_module._Placing, "count", count)
    profile.add(*good[0])
    profile.add(wrong, np.zeros(5))
    profile.add(*good[1])
    told = profile.to_json()
    assert told["counts"] == expected(good)
    assert (told["rows"], profile.lost) == (7, 5)
    profile.add(columns(5), np.zeros(5))
    profile.publish()
    assert profile.lost == 10
    said = "OverflowError: a flag of 5: rows are answered and not in the live profile, 5 until now"
    assert capsys.readouterr().err.count("not in the live profile") == 1
    clock[0] += live_module.SAID_SECONDS
    profile.add(columns(5), np.zeros(5))
    assert profile.to_json()["counts"] == expected(good)
    assert said.replace("5 until", "15 until") in capsys.readouterr().err


def test_columns_of_another_length_are_left_out_too(monkeypatch: pytest.MonkeyPatch) -> None:
    profile = live(time="at")
    at = np.array(["2026-01-01T13", "2026-01-01T14"], "datetime64[us]")
    profile.add({**columns(3), "at": at}, np.zeros(3))
    monkeypatch.setattr(live_module, "PARTS", 1)
    profile.add({**columns(2), "at": at}, np.zeros(2))
    assert (profile.to_json()["rows"], profile.lost) == (2, 3)


def test_threads_lose_no_row() -> None:
    profile = live()

    def count() -> None:
        for _ in range(300):
            profile.add(columns(3), np.zeros(3))

    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = profile.to_json()
    assert told["rows"] == 2700
    assert {sum(counts) for counts in told["counts"].values()} == {2700}


def test_predictions_get_the_bins_that_the_watcher_gives_them() -> None:
    own = REFERENCE.without([PREDICTION])
    predictions = np.random.default_rng(1).random(200)
    held = {"prediction": predictions, "time": np.full(200, np.nan)}
    found = live_reference(own.to_json().encode(), held)
    fitted = Reference.fit({PREDICTION: predictions}, None, 3600)
    assert [feature.name for feature in found.features] == ["x", "color", "flag", PREDICTION]
    np.testing.assert_array_equal(found.features[-1].edges, fitted.features[0].edges)
    assert live_reference(REFERENCE.to_json().encode(), held).to_json() == REFERENCE.to_json()
    assert len(live_reference(own.to_json().encode(), None).features) == 3


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.lists(st.floats(allow_infinity=True, allow_nan=True) | st.integers(-3, 3).map(float), max_size=40),
    st.lists(st.integers(-3, 3).map(float) | st.floats(-1e6, 1e6), min_size=2, max_size=8),
)
def test_numbers_are_counted_in_the_bins_that_they_are_placed_in(values: list[float], ends: list[float]) -> None:
    numbers, edges = np.array(values, np.float64), np.array(sorted(ends))
    placed = np.bincount(place_numbers(numbers, np.isnan(numbers), edges), minlength=len(edges) + 4)
    assert count_numbers(numbers, np.isnan(numbers), edges).tolist() == placed.tolist()


def test_what_is_no_text_in_a_category_counts_as_the_reference_counts_it() -> None:
    column = np.array(["red", True, 1, 2.0, None, float("nan"), "blue"], object)
    profile = live()
    profile.add({"x": np.zeros(7), "color": column}, np.zeros(7))
    assert (
        profile.to_json()["counts"]["color"] == REFERENCE.profile({"x": np.zeros(7), "color": column})["color"].tolist()
    )
