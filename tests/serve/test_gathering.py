"""Rows of the log shown some at a time are the rows that are read at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.serve.test_scored import SPAN, START, date, lines, table
from tests.watch.world import DAY, MemoryLog, MemoryStore, World, settings

from trilho.core.ports import Columns
from trilho.serve import gathering, scored
from trilho.serve.segments import LocalPredictionLog
from trilho.watch.measuring import Measuring
from trilho.watch.monitor import Monitor
from trilho.watch.performance import METRICS, measure


class Kept:
    """All that was shown."""

    def __init__(self) -> None:
        self.shown: list[Columns] = []

    def add(self, rows: Columns) -> None:
        self.shown.append(rows)

    def column(self, name: str) -> list[Any]:
        order = np.argsort(np.concatenate([one["_row"] for one in self.shown]))
        return list(np.concatenate([np.asarray(one[name], object) for one in self.shown])[order])


def label(log: LocalPredictionLog, key: str, value: float) -> None:
    (log.folder / "labels").mkdir(exist_ok=True)
    told = {"v": 1, "key": {"customer": key}, "y": value, "t": "2024-05-02T10:00:00.000Z"}
    with (log.folder / "labels" / "1-1.jsonl").open("a") as file:
        file.write(json.dumps(told) + "\n")
    log.seal()


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalPredictionLog:
    """Three days of a hundred rows in files of forty, with some labels, read fifteen at a time."""
    monkeypatch.setattr(scored, "ROWS_AT_ONCE", 40)
    monkeypatch.setattr(gathering.pieces, "__defaults__", (15,))
    made = LocalPredictionLog(tmp_path / "log", "at", "customer")
    for k in range(3):
        made.add_scored(date(table(tmp_path, lines(START + k), f"d{k}"), START + k))
    label(made, "k3", 7.0)
    label(made, "k50", 9.0)
    return made


def test_the_rows_are_those_that_are_read_at_once(log: LocalPredictionLog) -> None:
    whole, kept = log.rows(*SPAN), log.gather(*SPAN, Kept)
    order = np.argsort(whole["_row"])
    for name in ("_row", "_time", "_version", "_prediction", "_value", "x", "c", "n", "at"):
        given = np.asarray(whole[name], object)[order].tolist()
        assert kept.column(name) == pytest.approx(given, nan_ok=True), name
    assert max(len(one["_row"]) for one in kept.shown) == 15
    assert np.isfinite(np.array(kept.column("_value"), float)).sum() == 6


@pytest.mark.parametrize("after", [0, 120, 299, 300])
def test_a_span_and_those_that_arrived_after_a_row(log: LocalPredictionLog, after: int) -> None:
    first, last = (datetime.fromtimestamp((START + k) * DAY + 1800, UTC) for k in (0, 2))
    rows = log.gather(first, last, Kept, after=after, fields=["x", "no such"])
    expected = [row for row in log.rows(first, last)["_row"].tolist() if row > after]
    assert (sorted(rows.column("_row")) if rows.shown else []) == sorted(expected)
    assert all(set(one) == {"_row", "_time", "_version", "_prediction", "_value", "x"} for one in rows.shown)


def test_labels_of_rows_that_lie_far_apart(log: LocalPredictionLog) -> None:
    found = gathering.values_of(np.array([251, 4, 51, 5]), log._database)
    assert found.tolist() == pytest.approx([9.0, 7.0, 9.0, np.nan], nan_ok=True)
    together = gathering.values_of(np.array([5, 4]), log._database)
    assert together.tolist() == pytest.approx([np.nan, 7.0], nan_ok=True)


def test_what_is_gone_while_it_is_read_is_begun_anew(log: LocalPredictionLog, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Kept] = []
    show, seen = gathering.show, []

    def disturbed(piece: gathering.Piece, *given: Any) -> None:
        seen.append(piece)
        if len(seen) == 3:  # a compaction of long ago is swept while the first pass is under way
            path = log._partitions.path(piece.parts[0])
            path.rename(path.with_suffix(".aside"))
            try:
                show(piece, *given)
            finally:
                path.with_suffix(".aside").rename(path)
                monkeypatch.setattr(log._partitions, "damaged", lambda _: [])
        else:
            show(piece, *given)

    def begin() -> Kept:
        begun.append(Kept())
        return begun[-1]

    monkeypatch.setattr("trilho.serve.gathering.show", disturbed)
    monkeypatch.setattr(Path, "exists", _gone_once(Path.exists))
    kept = log.gather(*SPAN, begin)
    assert len(begun) == 2
    assert kept is begun[1]
    assert sorted(kept.column("_row")) == list(range(1, 301))


def _gone_once(exists: Callable[..., bool]) -> Callable[..., bool]:
    """A file that was there when it was listed is not when it is looked for."""
    told: list[Path] = []

    def looked(path: Path, **more: Any) -> bool:
        if path.suffix == ".parquet" and not told:
            told.append(path)
            return False
        return exists(path, **more)

    return looked


def test_the_watcher_never_holds_a_whole_window(
    log: LocalPredictionLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "rows", None)
    monkeypatch.setattr(log, "late", None)
    store = MemoryStore()
    monitor = Monitor("bike", 1, World(1).package(tmp_path), settings(), store)
    monitor.observe(log, datetime.fromtimestamp((START + 2) * DAY, UTC))
    monitor.commit()
    assert [(one.rows, one.own, one.labelled) for one in store.readings("bike")] == [(100, 100, 2)]
    label(log, "k9", 1.0)
    late = [{**one, "id": f"late.{row}"} for row, one in enumerate(lines(START, 30))]
    log.add_scored(date(table(tmp_path, late, "late"), START, table="other", identity="late"))
    log.add_scored(date(table(tmp_path, lines(START + 3), "d3"), START + 3))
    monitor.observe(log, datetime.fromtimestamp((START + 4) * DAY, UTC))
    monitor.commit()
    told = [(one.rows, one.labelled, one.late) for one in store.readings("bike")]
    assert told == [(130, 5, 0), (100, 3, 30)]  # a window that is measured again shows all of its rows


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_of_millions_is_that_of_all_of_them(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trilho.watch.measuring.EXACT_ROWS", 1000)
    rng = np.random.default_rng(3)
    prediction = rng.random(20_000)
    value = (rng.random(20_000) < prediction).astype(float)
    value[::11] = np.nan
    exact, found = measure(metric, prediction, value), Measuring(metric)
    few = Measuring(metric)
    few.add(prediction[:900], value[:900])
    assert few.result() == measure(metric, prediction[:900], value[:900])
    for at in range(0, 20_000, 700):
        found.add(prediction[at : at + 700], value[at : at + 700])
    told, rel = found.result(), 1e-5 if metric == "roc_auc" else 1e-9
    assert told.rows == exact.rows
    for one in ("value", "low", "high"):
        assert getattr(told, one) == pytest.approx(getattr(exact, one), rel=rel), one


def test_labels_are_learnt_from_page_by_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for at_once in (64 * 4096, 64):
        monkeypatch.setattr("trilho.watch.monitor.LABELS_AT_ONCE", at_once)
        found.append(_learnt(tmp_path / str(at_once)))
    assert found[0][0] == found[1][0]
    assert len(found[0][0]) == 1
    assert found[0][1] == pytest.approx(found[1][1])


def _learnt(folder: Path) -> tuple[Any, ...]:
    world, log, store = World(5), MemoryLog(), MemoryStore()
    monitor = Monitor("bike", 1, world.package(folder), settings(), store)
    for k in range(60, 66):
        rows, y = world.serve(log, k, noise=4.0)
        log.label(rows, y)
    alarms = monitor.observe(log, datetime.fromtimestamp(66 * DAY, UTC)).payloads
    monitor.commit()
    return [one.alarm for one in alarms if one.kind == "performance"], json.loads(monitor.memory())["loss"]["m"]
