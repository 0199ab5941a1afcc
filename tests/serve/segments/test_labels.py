"""Each label finds its prediction: by its id or the key of its event, in order, early or never."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from tests.serve.segments.written import SERVED, START, Served, hour, key_label, label, prediction

from trilho.serve.segments import LocalPredictionLog


def test_labels_are_consumed_in_order_of_arrival(log: LocalPredictionLog, served: Served) -> None:
    served.predict(*(prediction(n, version=1 + n // 3) for n in range(5)))
    served.label(label(3, 30.0), label(0, 5.0))
    log.seal()
    first = log.labelled(0)
    assert first.value.tolist() == [30.0, 5.0]
    assert first.prediction.tolist() == [3.0, 0.0]
    assert first.version.tolist() == [2, 1]
    assert first.row is not None
    assert first.row.tolist() == [4, 1]
    assert first.time.tolist() == [(START + timedelta(hours=n)).timestamp() for n in (3, 0)]
    assert log.labelled(first.cursor).value.tolist() == []
    served.label(label(1, 9.0))
    log.seal()
    second = log.labelled(first.cursor)
    assert (second.value.tolist(), second.cursor) == ([9.0], first.cursor + 1)


def test_label_accounts(log: LocalPredictionLog, served: Served) -> None:
    served.predict(*(prediction(n) for n in range(4)))
    served.label(label(0), label(1), label(1, 7.0), label(99), key_label("e1"), key_label("nobody"))
    served.label({"v": 1, "key": {"other": 1}, "y": 1.0, "t": SERVED}, {"v": 1, "id": "r3.0", "y": None, "t": SERVED})
    log.seal()
    status = log.labels()
    assert (status.served, status.labelled, status.repeated, status.unknown) == (4, 2, 2, 3)
    assert status.until == hour(1) + "+00:00"
    assert log.counters()["torn"] == 1
    served.label(label(2), label(3))
    log.seal()
    assert log.labels().until == hour(3) + "+00:00"
    assert log.labelled(0).value.tolist() == [1.0] * 4  # the first label counted


def test_a_label_before_its_prediction_waits(log: LocalPredictionLog, served: Served) -> None:
    served.label(label(0, 3.0), key_label("e1", 4.0))
    log.seal()
    assert log.labels().unknown == 2
    served.predict(prediction(0), prediction(1))
    log.seal()
    assert (log.labels().unknown, log.labels().labelled) == (0, 2)
    assert log.rows(START, START + timedelta(days=1))["_value"].tolist() == [3.0, 4.0]


def test_a_key_labels_all_its_predictions(log: LocalPredictionLog, served: Served) -> None:
    served.predict(prediction(0), prediction(0, id_="again.0"))
    served.label(key_label("e0", 8.0))
    log.seal()
    served.predict(prediction(0, id_="later.0"))
    log.seal()
    assert log.rows(START, START + timedelta(days=1))["_value"].tolist() == [8.0] * 3
    assert (log.labels().unknown, log.labels().repeated) == (0, 0)


def test_keys_of_several_columns_and_spellings_meet(served: Served) -> None:
    log = LocalPredictionLog(served.folder, "time", ["store", "day"])
    served.predict(prediction(0, store=7, day="2012-01-01 00:00:00"))
    served.label({"v": 1, "key": {"day": "2012-01-01T00:00:00", "store": 7.0}, "y": 2.0, "t": SERVED})
    log.seal()
    assert log.labels().labelled == 1


@pytest.mark.parametrize(
    ("served_as", "labelled_as"),
    [
        ("2012-01-01T08:00:00", "2012-01-01T08:00:00Z"),
        ("2012-01-01T08:00:00Z", "2012-01-01T05:00:00-03:00"),
        ("2012-01-01T00:00:00", "2012-01-01"),
        (12, "12"),
        ("0012", "0012"),
    ],
)
def test_keys_meet_however_they_are_spelled(served: Served, served_as: Any, labelled_as: Any) -> None:
    log = LocalPredictionLog(served.folder, "time", "event_id")
    served.predict(prediction(0, event_id=served_as))
    served.label(key_label(labelled_as))
    log.seal()
    assert log.labels().labelled == 1


def test_labelled_rows_are_exported_with_their_target(log: LocalPredictionLog, served: Served, tmp_path: Path) -> None:
    served.predict(*(prediction(n, hum=n) for n in (2, 1, 0)))
    served.label(label(2, 20.0), label(0, 0.5))
    log.seal()
    out = tmp_path / "it's" / "served.parquet"
    out.parent.mkdir()
    assert log.export_labelled(out, "c nt") == 2
    table = duckdb.execute("FROM read_parquet(?)", [str(out)])
    assert [column[0] for column in table.description] == ["time", "event_id", "temp", "hum", "c nt"]
    assert table.fetchall() == [(hour(0), "e0", 0.0, 0, 0.5), (hour(2), "e2", 1.0, 2, 20.0)]


def test_a_labelled_row_whose_time_has_not_come_is_not_trained_on(
    log: LocalPredictionLog, served: Served, tmp_path: Path
) -> None:
    ahead = datetime.now(UTC) + timedelta(days=30)
    served.predict(*(prediction(n, time=(ahead + timedelta(hours=n)).isoformat()) for n in range(50)))
    served.predict(*(prediction(100 + n, time=datetime.now(UTC).isoformat()) for n in range(50)))
    served.label(*(label(n) for n in (*range(50), *range(100, 150))))
    log.seal()
    assert log.export_labelled(tmp_path / "out.parquet", "cnt") == 50


def test_a_label_that_cannot_be_true_is_counted_and_passed_over(served: Served) -> None:
    log = LocalPredictionLog(served.folder, "time", "event_id", binary=True)
    served.predict(*(prediction(n) for n in range(4)))
    served.label(label(0, 1.0), label(1, 7.0), label(2, 0.5), label(3, 1e300), label(3, 0.0))
    log.seal()
    assert log.counters() == {"served": 4, "labelled": 2, "impossible": 3, "torn": 0}
