"""One watcher for many models: fair, in spite of failures and kills."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.watch.live.hourly import HOUR, LATER, Shop, watch, write
from tests.watch.world import settings, write_package

from trilho.core.records import AlarmRaised
from trilho.watch.live.folder import LiveReader
from trilho.watch.live.watcher import LiveWatcher, Post, live_watch
from trilho_runtime.profile import Reference, add


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Shop().reference(10)


class Desk:
    """Takes the alarms, in place of journals; fails while it is told to."""

    def __init__(self) -> None:
        self.alarms: list[AlarmRaised] = []
        self.failing = False

    def __call__(self, model: str, alarms: list[AlarmRaised]) -> None:
        if self.failing:
            raise OSError("the journal cannot be written")
        self.alarms += alarms


class Served:
    """A server's file of one hour as it grows."""

    def __init__(self, folder: Path, reference: Reference, seed: int = 3) -> None:
        self.folder, self.reference, self.shop = folder, reference, Shop(seed)
        self.part = self.shop.part(reference, LATER, 0)

    def add(self, rows: int, shift: float = 0.0) -> None:
        new = self.shop.part(self.reference, LATER, rows, shift)
        counts = add(self.part.counts, new.counts)
        self.part = type(new)("shop", 1, LATER, False, self.part.rows + rows, counts)
        write(self.folder, "2026-02-10T00-7-1.json", self.part)


def post(tmp_path: Path, reference: Reference, name: str = "shop") -> Post:
    return Post(name, LiveReader(tmp_path / name), [watch(reference)], tmp_path / f"{name}.json")


def test_a_watcher_reads_decides_and_keeps(tmp_path: Path, reference: Reference) -> None:
    desk, served = Desk(), Served(tmp_path / "shop", reference)
    watcher = LiveWatcher(desk, lambda: LATER + 600)
    watcher.add(post(tmp_path, reference))
    served.add(100)
    assert (watcher.once(), desk.alarms) == (100, [])
    for _ in range(5):
        served.add(200, shift=3.0)
        watcher.once()
    assert {alarm.kind for alarm in desk.alarms} >= {"drift"}
    view = watcher.view("shop", 1)
    assert view is not None
    assert view.rows > 700
    assert watcher.view("shop", 2) is None


def test_a_watcher_that_was_killed_repeats_the_same_alarm_and_no_row(tmp_path: Path, reference: Reference) -> None:
    served, now = Served(tmp_path / "shop", reference), LATER + 600
    whole, first = Desk(), Desk()
    watcher = LiveWatcher(first, lambda: now)
    watcher.add(post(tmp_path, reference))
    served.add(100)
    watcher.once()
    for _ in range(4):
        served.add(150, shift=3.0)
        watcher.once()
    kept = (tmp_path / "shop.json").read_bytes()
    assert first.alarms
    after = LiveWatcher(whole, lambda: now)  # the first one never said good-bye
    again = post(tmp_path, reference)
    after.add(again)
    after.once()
    assert again.watches["shop", 1].rows == served.part.rows
    assert {a.alarm for a in whole.alarms} <= {a.alarm for a in first.alarms}
    assert kept


def test_an_alarm_that_could_not_be_told_is_told_later(tmp_path: Path, reference: Reference) -> None:
    desk, served = Desk(), Served(tmp_path / "shop", reference)
    watcher = LiveWatcher(desk, lambda: LATER + 600)
    watcher.add(post(tmp_path, reference))
    desk.failing = True
    for _ in range(6):
        served.add(200, shift=3.0)
        watcher.once()
    assert watcher.failures > 0
    assert not (tmp_path / "shop.json").exists()
    desk.failing = False
    watcher.once()
    assert [alarm.kind for alarm in desk.alarms].count("drift") == 1
    assert (tmp_path / "shop.json").exists()


def test_a_model_that_fails_keeps_no_other_from_being_watched(
    tmp_path: Path, reference: Reference, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(LiveReader):
        def read(self) -> Any:
            raise RuntimeError("no such luck")

    desk = Desk()
    watcher = LiveWatcher(desk, lambda: LATER + 600)
    watcher.add(Post("first", Broken(tmp_path), [watch(reference)]))
    watcher.add(post(tmp_path, reference))
    Served(tmp_path / "shop", reference).add(100)
    assert [watcher.once(), watcher.once()] == [100, 0]
    assert caplog.text.count("first is not watched live: RuntimeError: no such luck") == 1


def test_a_memory_that_is_broken_is_said_and_done_without(
    tmp_path: Path, reference: Reference, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "shop.json").write_text('{"schema": 1, "rea')
    Served(tmp_path / "shop", reference).add(100)
    assert post(tmp_path, reference).look(Desk(), LATER + 60) == 100
    assert "the live watch starts from nothing" in caplog.text


def test_the_thread_ends_when_it_is_told_to_and_keeps_what_it_learnt(tmp_path: Path, reference: Reference) -> None:
    Served(tmp_path / "shop", reference).add(100)
    watcher, stopping = LiveWatcher(Desk(), lambda: LATER + 1), threading.Event()
    watcher.add(post(tmp_path, reference))
    thread = threading.Thread(target=watcher.run, args=(stopping, 0.05))
    thread.start()
    while not watcher.rounds and thread.is_alive():
        stopping.wait(0.01)
    stopping.set()
    thread.join(10)
    assert not thread.is_alive()
    again = post(tmp_path, reference)
    assert again.watches["shop", 1].rows == 100


def test_a_package_is_watched_without_what_is_hidden_and_its_held_out_predictions_raise_no_alarm(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    hours = LATER - 30 * 86400 + np.repeat(np.arange(30 * 24) * HOUR, 60)
    columns = {"x": rng.normal(size=len(hours)), "z": rng.normal(size=len(hours)), "id": np.arange(len(hours))}
    held = (hours[-900:], rng.normal(size=900), rng.normal(size=900))
    package = write_package(tmp_path, columns, hours, held, {"mae": 1.0}, window=HOUR)
    live = live_watch("bike", 4, package, settings(window="1 hour", ignore=["z"]))
    assert live.names == ["x", "_prediction"]
    assert live.hours.open.tolist() == [True, False]
    assert live.thresholds.keys() == {"inputs", "quality"}
