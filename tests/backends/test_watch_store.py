"""Readings and memory: kept together, read back in order."""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

from trilho.backends.local.watch_store import LocalWatchStore
from trilho.core.readings import FeatureReading, Reading, encode_reading


def reading(start: str, *, version: int = 1, rows: int = 10) -> Reading:
    return Reading(
        model="m",
        version=version,
        window_start=start,
        window_end=start,
        rows=rows,
        evidence=0.5,
        threshold=100.0,
        features=[FeatureReading(feature="x", distance=0.1, tolerance=0.05, share=1.0)],
        metric="mae",
        value=None,
    )


def test_an_empty_store_knows_nothing_and_makes_no_file(tmp_path: Path) -> None:
    store = LocalWatchStore(tmp_path / "watch.sqlite")
    assert store.memory("m") is None
    assert store.readings("m") == []
    assert not store.path.exists()


def test_readings_come_back_in_order_and_are_replaced(tmp_path: Path) -> None:
    store = LocalWatchStore(tmp_path / "watch.sqlite")
    first, second = reading("2012-01-01T00:00:00+00:00"), reading("2012-01-08T00:00:00+00:00")
    store.save("m", [second, first], b"\x00one")
    better = replace(first, value=41.0, labelled=9)
    store.save("m", [better], b"two")
    store.save("other", [first], b"three")
    assert LocalWatchStore(store.path).readings("m") == [better, second]
    assert store.readings("m", since=second.window_start) == [second]
    assert (store.memory("m"), store.memory("other")) == (b"two", b"three")


def test_a_window_of_two_champions_keeps_both_readings(tmp_path: Path) -> None:
    store = LocalWatchStore(tmp_path / "watch.sqlite")
    old, new = reading("2012-01-01"), reading("2012-01-01", version=2)
    store.save("m", [new, old], b"")
    assert store.readings("m") == [old, new]


def test_the_file_may_hold_other_tables_made_first(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "watch.sqlite")
    other.execute("CREATE TABLE outbox (x)")
    other.commit()
    store = LocalWatchStore(tmp_path / "watch.sqlite")
    store.save("m", [reading("2012")], b"m")
    assert other.execute("SELECT count(*) FROM outbox").fetchone() == (0,)
    other.close()
    assert len(store.readings("m")) == 1


def test_the_newest_and_those_of_a_stretch_are_read_alone(tmp_path: Path) -> None:
    store = LocalWatchStore(tmp_path / "watch.sqlite")
    kept = [reading(f"2012-01-{day:02d}T00:00:00+00:00") for day in range(1, 10)]
    store.save("m", kept, b"")
    assert store.readings("m", last=2) == kept[-2:]
    assert store.readings("m", last=99) == kept
    assert store.readings("m", since=kept[2].window_start, until=kept[5].window_start) == kept[2:5]


def test_the_mark_grows_with_every_change_and_says_what_changed(tmp_path: Path) -> None:
    store = LocalWatchStore(tmp_path / "watch.sqlite")
    assert store.mark("m") == 0
    first, second = reading("2012-01-01"), reading("2012-01-02")
    store.save("m", [first, second], b"")
    mark = store.mark("m")
    store.save("m", [], b"memory alone changes no reading")
    store.save("other", [first], b"")
    assert store.mark("m") == mark > 0
    for better in (replace(second, labelled=5), replace(second, labelled=6), replace(first, labelled=7)):
        before = store.mark("m")
        store.save("m", [better], b"")
        assert store.mark("m") > before
        assert store.readings("m", after=before) == [better]
    assert len(store.readings("m")) == 2


def test_a_file_of_the_first_version_is_brought_up(tmp_path: Path) -> None:
    old, kept = sqlite3.connect(tmp_path / "watch.sqlite"), reading("2012-01-01")
    old.executescript(
        "CREATE TABLE readings (model TEXT NOT NULL, window_start TEXT NOT NULL, version INTEGER NOT NULL,"
        " body TEXT NOT NULL, PRIMARY KEY (model, window_start, version)) WITHOUT ROWID;"
        "CREATE TABLE memory (model TEXT PRIMARY KEY, body BLOB NOT NULL); PRAGMA user_version=1"
    )
    old.execute("INSERT INTO readings VALUES ('m', '2012-01-01', 1, ?)", (json.dumps(encode_reading(kept)),))
    old.execute("INSERT INTO memory VALUES ('m', ?)", (b"old",))
    old.commit()
    old.close()
    store = LocalWatchStore(tmp_path / "watch.sqlite")
    assert store.readings("m") == [kept]
    assert store.memory("m") == b"old"


def test_twenty_thousand_readings_cost_nothing_while_they_stay(tmp_path: Path) -> None:
    store = LocalWatchStore(tmp_path / "watch.sqlite")
    store.save("m", [reading(f"{day:06d}") for day in range(20_000)], b"")
    store.mark("m")
    best = 1.0
    for _ in range(3):
        start = time.perf_counter()
        store.mark("m")
        assert len(store.readings("m", last=10)) == 10
        best = min(best, time.perf_counter() - start)
    assert best < 0.01
