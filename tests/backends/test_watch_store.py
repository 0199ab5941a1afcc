"""Readings and memory: kept together, read back in order."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

from trilho.backends.local.watch_store import LocalWatchStore
from trilho.core.readings import FeatureReading, Reading


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
