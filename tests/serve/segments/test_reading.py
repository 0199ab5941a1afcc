"""Rows are read back by the time of their event, whatever the clocks of those who sent them said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from tests.serve.segments.written import START, Served, hour, label, prediction

from trilho.serve.segments import LocalPredictionLog


def test_an_absent_log_is_empty(tmp_path: Path) -> None:
    log = LocalPredictionLog(tmp_path / "log", None, None)
    assert log.seal() == 0
    assert log.extent() is None
    assert log.labelled(0).cursor == 0
    assert log.labels().served == 0
    assert log.labels().until is None
    columns = log.rows(START, START + timedelta(days=1))
    assert {name: len(column) for name, column in columns.items()} == dict.fromkeys(
        ("_row", "_id", "_time", "_version", "_prediction", "_value"), 0
    )
    assert log.export_labelled(tmp_path / "out.parquet", "cnt") == 0
    assert not (tmp_path / "log").exists()


def test_served_rows_are_read_by_event_time(log: LocalPredictionLog, served: Served) -> None:
    served.predict(*(prediction(n, note=None if n % 2 else "x", lit=n > 3) for n in range(10)))
    served.label(label(4, 40.0))
    assert log.seal() == 11
    assert log.seal() == 0
    assert log.extent() == (START, START + timedelta(hours=9))
    rows = log.rows(START + timedelta(hours=3), START + timedelta(hours=6))
    assert list(rows["_id"]) == ["r3.0", "r4.0", "r5.0"]
    assert rows["_time"].tolist() == [(START + timedelta(hours=n)).timestamp() for n in (3, 4, 5)]
    assert rows["_version"].tolist() == [1, 1, 1]
    assert rows["_prediction"].tolist() == [3.0, 4.0, 5.0]
    assert rows["_value"].tolist()[1] == 40.0
    assert np.isnan(rows["_value"][[0, 2]]).all()
    assert rows["temp"].tolist() == [1.5, 2.0, 2.5]
    assert rows["note"].tolist() == [None, "x", None]
    assert rows["lit"].tolist() == [False, True, True]
    assert rows["time"].tolist() == [hour(3), hour(4), hour(5)]


def test_missing_numbers_are_nan_and_mixed_numbers_are_numbers(log: LocalPredictionLog, served: Served) -> None:
    served.predict(prediction(0, a=1, b=None), prediction(1, a=2.5, b=7), prediction(2))
    log.seal()
    rows = log.rows(START, START + timedelta(days=1))
    assert rows["a"].tolist()[:2] == [1.0, 2.5]
    assert np.isnan(rows["a"][2])
    assert rows["b"][1] == 7
    assert np.isnan(rows["b"][[0, 2]]).all()


def test_segments_of_other_columns_and_types_are_read_together(log: LocalPredictionLog, served: Served) -> None:
    served.predict(prediction(0, a=1, old="x"))
    log.seal()
    served.predict(prediction(1, a=1.5, new=True, version=2))
    log.seal()
    served.predict(prediction(2, a="text", version=3))
    log.seal()
    rows = log.rows(START, START + timedelta(days=1))
    assert rows["_version"].tolist() == [1, 2, 3]
    assert rows["old"].tolist() == ["x", None, None]
    assert rows["new"].tolist() == [None, True, None]
    assert [str(value) for value in rows["a"]] == ["1", "1.5", "text"]


def test_event_time_is_utc_and_falls_back_to_the_time_of_serving(log: LocalPredictionLog, served: Served) -> None:
    lines = [prediction(n) for n in range(4)]
    lines[3]["x"]["time"] = "0001-01-01T00:00:00+14:00"
    lines[0]["x"]["time"] = "2012-01-01T00:00:00-03:00"
    lines[1]["x"]["time"] = "not a time"
    del lines[2]["x"]["time"]
    served.predict(*lines)
    log.seal()
    rows = log.rows(START, datetime(2030, 1, 1, tzinfo=UTC))
    assert rows["_time"].tolist()[0] == datetime(2012, 1, 1, 3, tzinfo=UTC).timestamp()
    assert rows["_time"].tolist()[1:] == [datetime(2024, 5, 1, 10, tzinfo=UTC).timestamp()] * 3


def test_a_row_is_trained_on_at_the_time_at_which_it_is_watched(
    log: LocalPredictionLog, served: Served, tmp_path: Path
) -> None:
    """As older servers logged it: as it was received."""
    times = ["2012-02-01T08:00:00+02:00", "20120201T080000", "2012-W05-3", "2012-02-01T08", "2012-02-01T08:00:00z"]
    served.predict(*(prediction(n, time=moment) for n, moment in enumerate(times)))
    served.label(*(label(n) for n in range(len(times))))
    log.seal()
    rows = log.rows(START, START + timedelta(days=90))
    hours = [datetime.fromtimestamp(seconds, UTC).hour for seconds in rows["_time"]]
    assert sorted(hours) == [0, 6, 8, 8, 8]
    log.export_labelled(tmp_path / "out.parquet", "cnt")
    query = f"SELECT hour(TRY_CAST(time AS TIMESTAMP)) FROM '{tmp_path / 'out.parquet'}'"
    assert [found for (found,) in duckdb.execute(query).fetchall()] == hours


def test_the_last_moment_that_there_is_can_be_served(log: LocalPredictionLog, served: Served) -> None:
    served.predict(*(prediction(n, time="9999-12-31T23:59:59.999999") for n in range(3)))
    served.label(*(label(n) for n in range(3)))
    log.seal()
    last = datetime.max.replace(tzinfo=UTC)
    assert log.extent() == (last, last)
    assert log.labels().labelled == 3


def test_a_window_is_read_from_the_segments_of_its_time_only(
    log: LocalPredictionLog, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    for window in range(12):
        served.predict(*(prediction(n) for n in range(window * 24, window * 24 + 24)))
        log.seal()
    read: list[str] = []
    fetch = log._tables.fetch

    def noted(query: str) -> Any:
        read.append(query)
        return fetch(query)

    monkeypatch.setattr(log._tables, "fetch", noted)
    for window in range(0, 12, 4):
        rows = log.rows(START + timedelta(hours=window * 24), START + timedelta(hours=window * 24 + 24))
        assert rows["_prediction"].tolist() == [float(n) for n in range(window * 24, window * 24 + 24)]
    assert [query.count(".parquet") for query in read] == [1, 1, 1]


def test_a_wrong_clock_moves_neither_the_ends_of_time_nor_the_training_rows(
    log: LocalPredictionLog, served: Served, tmp_path: Path
) -> None:
    strays = ["0001-01-01T00:00:00", "1500-06-01T00:00:00", "2999-01-01T00:00:00", "9999-12-31T23:59:59"]
    served.predict(*(prediction(n) for n in range(100)))
    served.predict(*(prediction(100 + n, time=moment) for n, moment in enumerate(strays)))
    served.label(*(label(n) for n in range(104)))
    log.seal()
    assert log.extent() == (START, START + timedelta(hours=99))
    assert log.labels().labelled == 104
    assert log.labels().until == (START + timedelta(hours=99)).isoformat()
    assert log.export_labelled(tmp_path / "out.parquet", "cnt") == 100


def test_rows_that_go_on_after_a_gap_are_believed_once_they_are_more_than_a_few(
    log: LocalPredictionLog, served: Served
) -> None:
    served.predict(*(prediction(n) for n in range(200)))
    served.predict(*(prediction(10_000 + n) for n in range(10)))
    log.seal()
    assert log.extent() == (START, START + timedelta(hours=199))
    served.predict(prediction(10_010))
    log.seal()
    assert log.extent() == (START, START + timedelta(hours=10_010))


def test_late_rows_are_those_that_arrived_after_a_row_with_an_earlier_time(
    log: LocalPredictionLog, served: Served
) -> None:
    assert (log.newest(), len(log.late(0, START)["_row"])) == (0, 0)
    served.predict(*(prediction(n) for n in range(5)))
    log.seal()
    before = log.newest()
    assert before == 5
    assert len(log.late(before, START + timedelta(hours=5))["_row"]) == 0
    served.predict(prediction(3, id_="late"), prediction(9), prediction(1, id_="later"))
    log.seal()
    late = log.late(before, START + timedelta(hours=5))
    assert late["_id"].tolist() == ["late", "later"]
    assert late["temp"].tolist() == [1.5, 0.5]
    assert late["_row"].tolist() == [6, 8]
    assert len(log.late(log.newest(), START + timedelta(hours=50))["_row"]) == 0
    assert log.rows(START, START + timedelta(hours=5))["_row"].tolist() == [1, 2, 8, 3, 4, 6, 5]
