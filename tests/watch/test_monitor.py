"""The watcher: each window once, each label once, alarms that a repeat recognises, whatever is killed when."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from tests.watch.world import DAY, MemoryLog, MemoryStore, World, settings, write_package

from trilho.core.ports import Labelled
from trilho.core.records import AlarmRaised
from trilho.errors import PackageError
from trilho.watch.monitor import Monitor
from trilho.watch.window import iso, moment

START = 60  # the first served day


def watch(log: MemoryLog, store: MemoryStore, package: Path, version: int = 1) -> list[AlarmRaised]:
    """One look by a watcher that was just started."""
    monitor = Monitor("bike", version, package, settings(), store)
    seen = monitor.observe(log)
    monitor.commit()
    return seen.payloads


def test_quiet_days_leave_readings_and_no_alarm(tmp_path: Path) -> None:
    world, log, store = World(1), MemoryLog(), MemoryStore()
    package = world.package(tmp_path)
    for k in range(40):
        rows, y = world.serve(log, START + k)
        log.label(rows, y)
        assert watch(log, store, package) == []
    readings = store.readings("bike")
    assert [x.window_start for x in readings] == [iso((START + k) * DAY) for k in range(39)]  # the newest is open
    assert all(x.rows == x.labelled == 100 for x in readings)
    assert all(x.metric == "mae" and x.expected == 0.8 and x.alarms == [] for x in readings)
    assert np.mean([x.value for x in readings if x.value]) == pytest.approx(0.8, abs=0.03)
    assert all(x.low < x.value < x.high for x in readings if x.low and x.value and x.high)
    assert [f.feature for f in readings[0].features] == ["x", "c", "_prediction"]


def test_drift_is_found_and_named(tmp_path: Path) -> None:
    world, log, store = World(2), MemoryLog(), MemoryStore()
    package = world.package(tmp_path)
    for k in range(10):
        world.serve(log, START + k, shift=1.5 * (k >= 5))
    first = watch(log, store, package)[0]
    assert first.kind == "drift"
    assert first.window_start in (iso((START + 5) * DAY), iso((START + 6) * DAY))
    assert first.causes[0]["feature"] == "x"
    assert first.causes[0]["distance"] > first.causes[0]["tolerance"]
    assert first.summary.startswith("drift of x (")
    share = 0.6 * 0.8  # loss and quality have the rest
    assert first.evidence >= first.threshold == pytest.approx(365.24 / share, rel=0.01)
    assert [x.alarms for x in store.readings("bike") if x.window_start == first.window_start] == [[first.alarm]]


def test_a_changed_target_is_found_in_the_losses(tmp_path: Path) -> None:
    world, log, store = World(3), MemoryLog(), MemoryStore()
    package = world.package(tmp_path)
    for k in range(12):
        rows, y = world.serve(log, START + k, noise=3.0 if k >= 5 else 1.0)
        log.label(rows, y)
    alarms = watch(log, store, package)
    assert [x.kind for x in alarms] == ["performance"]
    day = moment((START + 5) * DAY)
    assert alarms[0].window_start in (day.isoformat(), (day + timedelta(days=1)).isoformat())
    assert alarms[0].causes[0]["feature"] == "mae"
    assert alarms[0].causes[0]["distance"] == pytest.approx(2.4, abs=0.5)
    assert alarms[0].summary.startswith("MAE 2.") or alarms[0].summary.startswith("MAE 1.9")
    marked = [x for x in store.readings("bike") if alarms[0].alarm in x.alarms]
    assert [x.window_start for x in marked] == [alarms[0].window_start]


def test_late_labels_fill_the_readings(tmp_path: Path) -> None:
    world, log, store = World(4), MemoryLog(), MemoryStore()
    package = world.package(tmp_path)
    served = [world.serve(log, START + k) for k in range(6)]
    watch(log, store, package)
    assert [(x.labelled, x.value) for x in store.readings("bike")] == [(0, None)] * 5
    for rows, y in served[:2]:
        log.label(rows[:40], y[:40])
    watch(log, store, package)
    assert [x.labelled for x in store.readings("bike")] == [40, 40, 0, 0, 0]
    reads = log.reads
    for rows, y in served[:2]:
        log.label(rows[40:], y[40:])
    watch(log, store, package)
    readings = store.readings("bike")
    assert [x.labelled for x in readings] == [100, 100, 0, 0, 0]
    assert log.reads == reads + 1  # neighbours in one reading
    rows, y = served[0]
    assert readings[0].value == pytest.approx(np.mean(np.abs(y - np.array(log.prediction)[: len(rows)])))


def test_a_watcher_that_is_killed_at_every_look_sees_the_same(tmp_path: Path) -> None:
    def play(restart: bool) -> tuple[list[AlarmRaised], MemoryStore]:
        world, log, store = World(5), MemoryLog(), MemoryStore()
        package = world.package(tmp_path / str(restart))
        monitor, alarms = None, []
        for k in range(20):
            rows, y = world.serve(log, START + k, shift=1.5 * (k >= 12), noise=1 + 3 * (k >= 12))
            log.label(rows, y)
            if monitor is None or restart:
                monitor = Monitor("bike", 1, package, settings(), store)
            alarms += monitor.observe(log).payloads
            monitor.commit()
        return alarms, store

    (straight, kept), (restarted, again) = play(False), play(True)
    assert {x.kind for x in straight} == {"drift", "performance"}
    assert restarted == straight
    assert again.kept == kept.kept


def test_a_crash_before_the_commit_repeats_the_same_alarm(tmp_path: Path) -> None:
    world, log, store = World(6), MemoryLog(), MemoryStore()
    package = world.package(tmp_path)
    for k in range(6):
        world.serve(log, START + k, shift=2.0)
    lost = Monitor("bike", 1, package, settings(), store).observe(log).payloads
    assert lost
    assert watch(log, store, package) == lost
    assert watch(log, store, package) == []


def test_a_new_champion_starts_afresh_and_reads_no_window_twice(tmp_path: Path) -> None:
    world, log, store = World(7), MemoryLog(), MemoryStore()
    first = world.package(tmp_path / "1")
    for k in range(8):
        rows, y = world.serve(log, START + k, shift=1.5, noise=3.0)
        if k < 7:
            log.label(rows, y)
    assert {x.kind for x in watch(log, store, first)} == {"drift", "performance"}
    world.rng = np.random.default_rng(70)
    second = write_package(
        tmp_path / "2",
        {"x": world.rng.standard_normal(6000) + 1.5, "c": world.rng.choice(["a", "b"], 6000).astype(object)},
        np.sort(world.rng.random(6000)) * 60 * DAY,
        (np.arange(2000.0), world.rng.standard_normal(2000), 3 * world.rng.standard_normal(2000)),
        {"mae": 2.4},
    )
    for k in range(8, 30):
        rows, y = world.serve(log, START + k, version=2, shift=1.5, noise=3.0)
        log.label(rows, y)
        assert watch(log, store, second, version=2) == []
    readings = store.readings("bike")
    assert [x.version for x in readings] == [1] * 7 + [2] * 22
    assert len({x.window_start for x in readings}) == 29
    assert readings[-2].expected == 2.4


def test_only_the_champions_rows_count_for_its_performance(tmp_path: Path) -> None:
    world, log, store = World(8), MemoryLog(), MemoryStore()
    package = world.package(tmp_path)
    for k in range(12):
        for version, noise in ((1, 1.0), (2, 9.0)):
            rows, y = world.serve(log, START + k, version=version, noise=noise)
            log.label(rows, y)
    assert watch(log, store, package) == []
    readings = store.readings("bike")
    assert {x.rows for x in readings} == {200}
    assert {x.labelled for x in readings} == {100}
    assert max(x.value for x in readings if x.value) < 1.1


def test_gaps_cost_little_and_empty_windows_leave_no_reading(tmp_path: Path) -> None:
    world, log, store = World(9), MemoryLog(), MemoryStore()
    package = world.package(tmp_path)
    for k in (0, 1, 5000, 5001):
        world.serve(log, START + k)
    watch(log, store, package)
    assert [x.window_start for x in store.readings("bike")] == [iso((START + k) * DAY) for k in (0, 1, 5000)]
    assert log.reads < 20


def test_without_a_time_column_windows_close_by_the_clock(tmp_path: Path) -> None:
    world, log, store = World(10), MemoryLog(), MemoryStore()
    package = world.package(tmp_path)
    world.serve(log, START)
    monitor = Monitor("bike", 1, package, settings(time=None), store)
    assert monitor.observe(log, moment((START + 1) * DAY + 59)).readings == []
    assert len(monitor.observe(log, moment((START + 1) * DAY + 60)).readings) == 1
    monitor.commit()
    assert len(store.readings("bike")) == 1


def test_nothing_served_yet(tmp_path: Path) -> None:
    monitor = Monitor("bike", 1, World(11).package(tmp_path), settings(), MemoryStore())
    seen = monitor.observe(MemoryLog())
    assert (seen.payloads, seen.readings) == ([], [])


def test_ignored_columns_are_not_watched(tmp_path: Path) -> None:
    package = World(12).package(tmp_path)
    assert Monitor("bike", 1, package, settings(ignore=["x"]), MemoryStore()).drift.names == ["c", "_prediction"]


def test_the_promise_is_shared_between_drift_and_loss(tmp_path: Path) -> None:
    monitor = Monitor("bike", 1, World(13).package(tmp_path), settings(false_alarms="1 per month"), MemoryStore())
    assert monitor.loss is not None
    assert monitor.drift.threshold == pytest.approx(30.44 / 0.6, rel=0.01)
    assert monitor.loss.threshold == pytest.approx(100 * 30.44 / 0.4, rel=0.01)
    assert str(monitor.promise).startswith("at most 1 false alarm a month: 1 in 30 windows of 1 day (inputs 1 in 76, ")
    package = World(13).package(tmp_path / "b")
    alone = Monitor("bike", 1, package, settings(false_alarms="1 per month", shares={"loss": 0.0}), MemoryStore())
    assert alone.drift.threshold == pytest.approx(30.44, rel=0.01)
    assert "losses are not watched: [watch] shares gives them nothing" in alone.notes()
    nothing = {"inputs": 0.0, "predictions": 0.0, "quality": 0.0}
    losses = Monitor("bike", 1, package, settings(false_alarms="1 per month", shares=nothing), MemoryStore())
    assert losses.drift.threshold == 1e12
    assert losses.loss is not None
    assert losses.loss.threshold == pytest.approx(100 * 30.44, rel=0.01)


def test_classification_is_watched_by_its_brier_loss(tmp_path: Path) -> None:
    rng, log, store = np.random.default_rng(14), MemoryLog(), MemoryStore()
    p = rng.uniform(0, 0.4, 6000)
    y = (rng.random(6000) < p).astype(float)
    columns = {"x": rng.standard_normal(6000)}
    time = np.sort(rng.random(6000)) * 60 * DAY
    package = write_package(tmp_path, columns, time, (time[-2000:], p[-2000:], y[-2000:]), {"roc_auc": 0.66})
    for k in range(12):
        q = rng.uniform(0, 0.4, 100)
        rows = log.serve((START + k + rng.random(100)) * DAY, q, x=rng.standard_normal(100))
        log.label(rows, (rng.random(100) < (q if k < 3 else q + 0.4)).astype(float))
    monitor = Monitor("bike", 1, package, settings("classification"), store)
    seen = monitor.observe(log)
    monitor.commit()
    assert [x.kind for x in seen.payloads] == ["performance"]
    assert seen.payloads[0].summary.startswith("Brier loss ")
    assert {x.metric for x in seen.readings} == {"roc_auc"}
    assert seen.readings[0].expected == 0.66


def test_what_is_thin_is_said(tmp_path: Path) -> None:
    (only,) = Monitor("bike", 1, World(17).package(tmp_path / "a"), settings(), MemoryStore()).notes()
    assert only.startswith("drift of predictions is shown but raises no alarm")
    few = World(17).package(tmp_path / "b", days=20, held=0)
    assert "the reference has 20 windows, 40 are needed to learn natural variation" in (
        Monitor("bike", 1, few, settings(), MemoryStore()).notes()
    )


def test_predictions_that_the_reference_holds_raise_alarms(tmp_path: Path) -> None:
    rng, log = np.random.default_rng(18), MemoryLog()
    columns = {"x": rng.standard_normal(6000), "_prediction": rng.standard_normal(6000)}
    held = (np.arange(500.0), rng.standard_normal(500), rng.standard_normal(500))
    package = write_package(tmp_path, columns, np.arange(6000) * DAY / 100, held, {})
    for k in range(4):
        log.serve((START + k + rng.random(100)) * DAY, rng.standard_normal(100) + 2, x=rng.standard_normal(100))
    monitor = Monitor("bike", 1, package, settings(), MemoryStore())
    alarms = monitor.observe(log).payloads
    assert alarms[0].summary.startswith("drift of predictions (")
    assert monitor.notes() == []


def test_a_broken_reference_is_named(tmp_path: Path) -> None:
    package = World(15).package(tmp_path)
    (package / "reference.json").write_text("{")
    with pytest.raises(PackageError, match=r"reference\.json: not a reference"):
        Monitor("bike", 1, package, settings(), MemoryStore())


def test_a_row_of_the_year_one_does_not_stop_the_watcher(tmp_path: Path) -> None:
    world, log, store = World(1), MemoryLog(), MemoryStore()
    package = world.package(tmp_path)
    first = (datetime(1, 1, 1, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    monitor = Monitor(
        "bike", 1, package, settings(window="1 week"), store
    )  # its window begins before there are datetimes
    log.label(log.serve(np.array([first]), np.zeros(1), x=np.zeros(1), c=np.array(["a"])), np.zeros(1))
    for k in range(14):
        log.label(*world.serve(log, START + k))
    monitor.observe(log)
    monitor.commit()
    rows = [x.rows for x in store.readings("bike")]
    assert (rows[0], sum(rows) > 700) == (1, True)


def test_values_beyond_all_measure_leave_readings_that_are_numbers(tmp_path: Path) -> None:
    world, log, store = World(1), MemoryLog(), MemoryStore()
    package = world.package(tmp_path)
    for k in range(5):
        rows, y = world.serve(log, START + k)
        log.label(rows, np.where(y > 1, 1.7e308, np.where(y < -1, -1.7e308, y)))
    alarms = watch(log, store, package)
    assert [alarm.kind for alarm in alarms] == ["performance"]
    assert all(np.isfinite([alarm.evidence, alarm.causes[0]["distance"]]).all() for alarm in alarms)
    shown = [value for x in store.readings("bike") for value in (x.value, x.low, x.high)]
    assert shown
    assert all(value is not None and np.isfinite(value) for value in shown)


def test_a_reading_compares_the_labels_with_the_versions_own_rows(tmp_path: Path) -> None:
    world, log, store = World(20), MemoryLog(), MemoryStore()
    package = world.package(tmp_path)
    for k in range(3):
        for version in (1, 2):
            rows, y = world.serve(log, START + k, version=version)
            log.label(rows[: 50 * version], y[: 50 * version])
    watch(log, store, package)
    assert [(x.rows, x.own, x.labelled) for x in store.readings("bike")] == [(200, 100, 50)] * 2


def test_other_features_start_the_drift_detector_afresh_and_no_window_is_read_twice(tmp_path: Path) -> None:
    world, log, store = World(21), MemoryLog(), MemoryStore()
    package = world.package(tmp_path)
    for k in range(6):
        rows, y = world.serve(log, START + k)
        log.label(rows, y)
    before = Monitor("bike", 1, package, settings(), store)
    before.observe(log)
    before.commit()
    assert before.loss is not None
    rows, y = world.serve(log, START + 6)
    for changed in (settings(ignore=["c"]), settings(tolerance=0.1)):
        after = Monitor("bike", 1, package, changed, store)
        assert after.drift.seen.sum() == 0
        assert after.loss is not None
        assert after.loss.evidence == before.loss.evidence  # it is the same losses that are watched
        assert [x.window_start for x in after.observe(log).readings] == [iso((START + 5) * DAY)]
    assert Monitor("bike", 1, package, settings(), store).drift.seen.sum() > 0
    stricter = Monitor("bike", 1, package, settings(degradation=0.5), store)
    assert stricter.loss is not None
    assert stricter.loss.evidence == 0.0


def test_a_memory_of_another_trilho_keeps_the_cursors(tmp_path: Path) -> None:
    world, log, store = World(22), MemoryLog(), MemoryStore()
    package = world.package(tmp_path)
    for k in range(4):
        world.serve(log, START + k)
    watch(log, store, package)
    for k in range(4, 6):
        world.serve(log, START + k)
    old = {"schema": 1, "version": 1, "window": DAY, "next": START + 3, "cursor": 0, "pending": []}
    store.bytes = json.dumps(old).encode()
    monitor = Monitor("bike", 1, package, settings(), store)
    assert [x.window_start for x in monitor.observe(log).readings] == [iso((START + k) * DAY) for k in (3, 4)]


def test_a_window_has_a_grace_and_later_rows_count_in_the_next_one(tmp_path: Path) -> None:
    world, log, store = World(23), MemoryLog(), MemoryStore()
    package = world.package(tmp_path)

    def serve(k: float, shift: float = 0.0) -> range:
        x = world.rng.standard_normal(100) + shift
        at = np.full(100, (START + k) * DAY)
        return log.serve(at, x, x=x, c=world.rng.choice(["a", "b"], 100).astype(object))

    def look() -> list[tuple[str, int, int]]:
        alarms.extend(watch(log, store, package))
        return [(x.window_start[:10], x.rows, x.late) for x in store.readings("bike")]

    alarms: list[AlarmRaised] = []
    serve(0.5)
    serve(1.09)
    assert look() == []
    serve(0.9)  # out of order, within the grace
    serve(1.11)
    assert look() == [("1970-03-02", 200, 0)]
    late = serve(0.8, shift=5.0)
    assert look() == [("1970-03-02", 200, 0)]
    serve(2.5)
    assert look() == [("1970-03-02", 200, 0), ("1970-03-03", 200, 100)]
    assert [(x.kind, x.window_start[:10]) for x in alarms] == [("quality", "1970-03-03")]
    serve(3.5)
    assert look()[-1] == ("1970-03-04", 100, 0)  # each counts once
    log.label(late, np.zeros(100))
    assert look()[0] == ("1970-03-02", 300, 0)
    assert store.readings("bike")[0].labelled == 100


def test_rows_that_arrive_during_a_look_are_not_counted_twice(tmp_path: Path) -> None:
    world, store = World(24), MemoryStore()
    package = world.package(tmp_path)

    class Busy(MemoryLog):
        def newest(self) -> int:
            before = super().newest()
            if not store.kept:
                world.serve(self, START)
            return before

    log = Busy()
    world.serve(log, START)
    world.serve(log, START + 1)
    watch(log, store, package)
    world.serve(log, START + 2)
    watch(log, store, package)
    assert [(x.rows, x.late) for x in store.readings("bike")] == [(100, 0), (100, 100)]


def test_labels_that_come_after_a_thousand_windows_are_measured(tmp_path: Path) -> None:
    rng, log, store, hour = np.random.default_rng(25), MemoryLog(), MemoryStore(), 3600.0
    held = (np.arange(500.0), rng.standard_normal(500), rng.standard_normal(500))
    package = write_package(tmp_path, {"x": rng.standard_normal(2000)}, np.arange(0, 1.2e6, 600.0), held, {}, hour)
    n = 1001
    time, x = np.repeat(np.arange(n) * hour, 3), rng.standard_normal(3 * n)
    rows = log.serve(time, x, x=x)

    def look() -> int:
        monitor = Monitor("bike", 1, package, settings(window="1 hour"), store)
        monitor.observe(log)
        monitor.commit()
        return len(monitor.memory())

    size = look()
    log.label(rows, x + 1)
    assert look() == pytest.approx(size, abs=2000)  # the memory does not grow with what waits for labels
    assert len(store.kept) == n - 2  # the last two are still open
    assert all(reading.value == pytest.approx(1.0) for reading in store.kept.values())


def test_a_window_that_alarms_is_measured_with_the_labels_that_raised_it(tmp_path: Path) -> None:
    world, log, store = World(26), MemoryLog(), MemoryStore()
    package = world.package(tmp_path)
    served = [world.serve(log, START + k, noise=6.0) for k in range(3)]
    watch(log, store, package)
    for rows, y in served:
        log.label(rows, y)
    (alarm,) = watch(log, store, package)
    (marked,) = [x for x in store.readings("bike") if alarm.alarm in x.alarms]
    assert marked.labelled == 100


def test_at_fifty_times_the_traffic_of_training_the_loss_keeps_its_promise(tmp_path: Path) -> None:
    """Half an alarm a year, with the mean loss at what is allowed: 100 rows a day in training, 5,000 served."""
    monitor = Monitor("bike", 1, World(27).package(tmp_path), settings(), MemoryStore())
    assert monitor.limit is not None
    rng, alarms, years, per = np.random.default_rng(27), 0, 2, 5000
    shape = np.clip(np.abs(rng.standard_normal(200_000)) * 0.9, 0, monitor.limit.clip)
    for day in range(365 * years):
        lost = rng.choice(shape, per) * (monitor.limit.allowed / shape.mean())
        came = Labelled(
            cursor=0, time=(START + day + np.arange(per) / per) * DAY, version=np.ones(per, np.int64),
            prediction=np.zeros(per), value=np.minimum(lost, monitor.limit.clip),
        )  # fmt: skip
        alarms += len(monitor._learn(came, 0.0, np.inf))
    assert alarms <= 0.5 * years


def test_the_metric_is_estimated_before_labels_come(tmp_path: Path) -> None:
    world, log, store = World(31), MemoryLog(), MemoryStore()
    package = world.package(tmp_path)
    for day in (0, 0, 0, 0, 1, 2):
        world.serve(log, START + day)
    monitor = Monitor("bike", 1, package, settings(), store)
    monitor.observe(log)
    monitor.commit()
    first = store.readings("bike")[0]
    assert first.value is None
    assert first.estimate is not None
    assert (first.estimate["observable"], first.estimate["why"]) == (True, "")
    assert first.estimate["low"] < first.estimate["value"] < first.estimate["high"]
    assert first.estimate["value"] == pytest.approx(monitor.expected, rel=0.25)
