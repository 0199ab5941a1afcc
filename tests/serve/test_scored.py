"""What a batch scored is in the log as if it had been asked for row by row: read, labelled, watched alike."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from tests.watch.world import DAY, MemoryStore, World, settings

from trilho.serve import scored as scoring
from trilho.serve.scored import ScoredDate
from trilho.serve.segments import LocalPredictionLog
from trilho.watch.monitor import Monitor
from trilho_runtime.prediction.mask import Mask

START = 60
FIELDS = ("at", "customer", "x", "c", "n")
SPAN = datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


def line(row: int, day: int, x: float, c: str | None, prediction: float) -> dict[str, Any]:
    moment = datetime(1970, 1, 1) + timedelta(days=day, minutes=row, microseconds=row % 2)
    told = {"at": moment.isoformat(), "customer": f"k{row}", "x": x, "c": c, "n": row}
    return {"v": 2, "id": f"day{day}.{row}", "t": "2024-05-01T10:00:00.000Z", "n": 1, "x": told, "y": prediction}


def served(folder: Path, lines: list[dict[str, Any]]) -> LocalPredictionLog:
    (folder / "predictions").mkdir(parents=True)
    text = "".join(json.dumps(one) + "\n" for one in lines)
    (folder / "predictions" / "1-1.jsonl").write_text(text)
    log = LocalPredictionLog(folder, "at", "customer")
    log.seal()
    return log


def table(folder: Path, lines: list[dict[str, Any]], name: str) -> Path:
    """Write lines as a date of a table of scores."""
    folder.mkdir(parents=True, exist_ok=True)
    source, path = folder / f"{name}.json", folder / f"{name}.parquet"
    rows = [
        {"_id": one["id"], "_time": datetime.fromisoformat(one["x"]["at"]).replace(tzinfo=UTC).timestamp(),
         "_version": one["n"], "_prediction": one["y"], "_served": 1714557600.0, "_cohort": row % 100.0,
         **one["x"], "other": "kept"} for row, one in enumerate(lines)
    ]  # fmt: skip
    source.write_text("\n".join(map(json.dumps, rows)))
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT * REPLACE (CAST(\"at\" AS TIMESTAMP) AS \"at\") FROM read_json('{source}')) TO '{path}' "
            "(FORMAT parquet)"
        )
    return path


def date(path: Path, day: int, low: float = 0.0, high: float = 100.0, **more: Any) -> ScoredDate:
    given: dict[str, Any] = {
        "table": "scores", "date": f"d{day}", "identity": f"day{day}", "files": [(path, low, high)], "fields": FIELDS,
    }  # fmt: skip
    return ScoredDate(**{**given, **more})


def lines(day: int, rows: int = 100, shift: float = 0.0) -> list[dict[str, Any]]:
    random = np.random.default_rng(day)
    x, c = random.normal(shift, 1, rows), random.choice(["a", "b", "c"], rows)
    return [
        line(row, day, float(x[row]), None if row % 7 == 0 else str(c[row]), float(x[row] * 2)) for row in range(rows)
    ]


@pytest.fixture
def log(tmp_path: Path) -> LocalPredictionLog:
    return LocalPredictionLog(tmp_path / "log", "at", "customer")


def test_the_rows_are_those_of_the_same_lines(log: LocalPredictionLog, tmp_path: Path) -> None:
    given = lines(START)
    assert log.add_scored(date(table(tmp_path, given, "a"), START)) == 100
    online, batch = served(tmp_path / "online", given).rows(*SPAN), log.rows(*SPAN)
    assert set(online) == set(batch)
    for name in online:
        assert online[name].dtype == batch[name].dtype, name
        assert online[name].tolist() == pytest.approx(batch[name].tolist(), nan_ok=True), name


def test_the_readings_are_those_of_the_same_rows_served(log: LocalPredictionLog, tmp_path: Path) -> None:
    days = [lines(START + k, shift=1.5 * (k >= 3)) for k in range(6)]
    online = served(tmp_path / "online", [one for day in days for one in day])
    for k, day in enumerate(days):
        log.add_scored(date(table(tmp_path, day, f"d{k}"), START + k))
    package = World(1).package(tmp_path)
    found = []
    for one in (online, log):
        store = MemoryStore()
        monitor = Monitor("bike", 1, package, settings(), store)
        alarms = monitor.observe(one, datetime.fromtimestamp((START + 7) * DAY, UTC)).payloads
        monitor.commit()
        found.append((store.readings("bike"), alarms))
    assert found[0] == found[1]
    assert [reading.rows for reading in found[1][0]] == [100] * 4
    assert {alarm.kind for alarm in found[1][1]} == {"drift", "quality"}  # some lie beyond what training saw


def test_the_same_rows_again_are_none(log: LocalPredictionLog, tmp_path: Path) -> None:
    path = table(tmp_path, lines(START), "a")
    assert [log.add_scored(date(path, START)) for _ in range(2)] == [100, 0]
    assert log.scored("scores", f"d{START}") == f"day{START}"
    assert log.add_scored(date(path, START, table="copy")) == 0
    assert log.counters() == {"served": 100, "duplicates": 0}


def test_other_rows_take_the_place_of_a_date_s(log: LocalPredictionLog, tmp_path: Path) -> None:
    log.add_scored(date(table(tmp_path, lines(START), "a"), START))
    log.add_scored(date(table(tmp_path, lines(START + 1), "b"), START + 1))
    label(log, "k3", 7.0)
    assert log.labels().labelled == 2
    new = [{**one, "id": f"new.{row}", "y": 1.0} for row, one in enumerate(lines(START, 40))]
    assert log.add_scored(date(table(tmp_path, new, "c"), START, identity="new")) == 40
    rows = log.rows(*SPAN)
    assert len(rows["_id"]) == 140
    assert (rows["_prediction"][:40] == 1.0).all()
    assert dict(zip(rows["_id"].tolist(), rows["_value"].tolist(), strict=True))["new.3"] == 7.0
    status = log.labels()
    assert (status.served, status.labelled, status.unknown) == (140, 2, 0)
    assert log.damaged() == []


def label(log: LocalPredictionLog, key: str, value: float) -> None:
    (log.folder / "labels").mkdir(exist_ok=True)
    told = {"v": 1, "key": {"customer": key}, "y": value, "t": "2024-05-02T10:00:00.000Z"}
    (log.folder / "labels" / "1-1.jsonl").write_text(json.dumps(told) + "\n")
    log.seal()


def test_labels_that_came_first_find_the_rows(log: LocalPredictionLog, tmp_path: Path) -> None:
    log.folder.mkdir()
    label(log, "k5", 3.0)
    assert log.labels().unknown == 1
    log.add_scored(date(table(tmp_path, lines(START), "a"), START))
    assert (log.labels().unknown, log.labels().labelled) == (0, 1)
    assert log.labelled(0).value.tolist() == [3.0]


def test_a_cohort_s_rows_are_those_of_its_places(log: LocalPredictionLog, tmp_path: Path) -> None:
    one, two = lines(START), [{**x, "n": 2} for x in lines(START)]
    first, second = table(tmp_path, one, "one"), table(tmp_path, two, "two")
    log.add_scored(date(first, START, files=[(second, 0.0, 20.0), (first, 20.0, 100.0)]))
    versions = log.rows(*SPAN)["_version"]
    assert np.bincount(versions.astype(int)).tolist() == [0, 80, 20]


def test_masked_columns_are_masked_here_too(log: LocalPredictionLog, tmp_path: Path) -> None:
    mask = Mask({"customer": "hash", "c": "drop"}, b"secret")
    log.add_scored(date(table(tmp_path, lines(START), "a"), START), mask)
    rows = log.rows(*SPAN)
    assert "c" not in rows
    assert rows["customer"][3] == mask.hash("k3")


def test_what_was_cut_off_is_gone_on_with(
    log: LocalPredictionLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "ROWS_AT_ONCE", 30)
    path, add, calls = table(tmp_path, lines(START), "a"), scoring.ScoredIntake._add, iter(range(9))

    def cut(self: scoring.ScoredIntake, columns: Any) -> int:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return add(self, columns)

    monkeypatch.setattr(scoring.ScoredIntake, "_add", cut)
    with pytest.raises(KeyboardInterrupt):
        log.add_scored(date(path, START))
    assert log.scored("scores", f"d{START}") is None
    assert log.add_scored(date(path, START)) == 40
    assert len(log.rows(*SPAN)["_id"]) == 100
