"""A label stays what it was, a number, a text or a boolean, from its line to whoever reads it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from tests.serve.segments.written import START, Served, label, prediction

from trilho.serve import compaction
from trilho.serve.segments import LocalPredictionLog

DAY = (START, START + timedelta(days=1))


def named(n: int, class_: Any, /, **more: Any) -> dict[str, Any]:
    return {**prediction(n), "v": 2, "c": class_, **more}


def log_of(served: Served, classes: Sequence[Any] | None) -> LocalPredictionLog:
    return LocalPredictionLog(served.folder, "time", "event_id", classes=lambda: classes)


@pytest.mark.parametrize(
    ("classes", "values", "kind"),
    [
        (("7", "yes"), ["7", "yes", "7"], "VARCHAR"),
        ((False, True), [True, False, True], "BOOLEAN"),
        ((1, 2, 3), [3, 1, 2], "DOUBLE"),
        ((), [0.5, -3.0, 7.0], "DOUBLE"),
    ],
)
def test_a_labels_type_survives_the_index_the_files_and_the_view(
    served: Served, tmp_path: Path, classes: Sequence[Any], values: list[Any], kind: str
) -> None:
    log = log_of(served, classes)
    served.predict(*(prediction(n) for n in range(4)))
    served.label(*({**label(n), "y": value} for n, value in enumerate(values)))
    log.seal()
    assert log.labels().labelled == 3
    for told in (log.labelled(0).value.tolist(), log.rows(*DAY)["_value"].tolist()[:3]):
        assert told == values
        assert {type(x) is bool for x in told} == {type(x) is bool for x in values}
    assert log.rows(*DAY)["_value"].dtype.kind == ("f" if kind == "DOUBLE" else "O")
    log.view_sql()  # what an earlier view left gives way to the labels' own type
    with duckdb.connect() as connection:
        connection.execute(log.view_sql("served"))
        found = connection.execute("SELECT _label, typeof(_label) FROM served ORDER BY _row").fetchall()
    assert found == [*((value, kind) for value in values), (None, kind)]
    assert log.export_labelled(tmp_path / "out.parquet", "sold") == 3
    assert duckdb.execute(f"SELECT sold FROM '{tmp_path}/out.parquet' ORDER BY temp").fetchall() == [
        (x,) for x in values
    ]


def test_a_view_that_was_made_before_any_label_learns_their_type(served: Served) -> None:
    log = log_of(served, ("no", "yes"))
    served.predict(prediction(0))
    log.seal()
    log.view_sql()
    served.label({**label(0), "y": "yes"})
    log.seal()
    with duckdb.connect() as connection:
        connection.execute(log.view_sql("served"))
        assert connection.execute("SELECT _label FROM served").fetchall() == [("yes",)]


def test_labels_of_texts_are_merged_as_they_were(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "MANY_SMALL", 2)
    log = log_of(served, None)
    served.predict(*(prediction(n) for n in range(6)))
    values: list[Any] = ["1", "a", "true", "2.0", "b", "c"]
    for n, value in enumerate(values):
        served.label({**label(n), "y": value})
        log.seal()
    parts = log._partitions.parts("kind = 'truths'")
    assert sum(part.rows for part in parts) == 6
    assert len(parts) < 6
    assert log.rows(*DAY)["_value"].tolist() == values
    files = f"read_parquet('{served.folder}/truths/**/*.parquet')"
    assert duckdb.execute(f"SELECT _label FROM {files} ORDER BY _row").fetchall() == [(value,) for value in values]


@pytest.mark.parametrize(
    ("classes", "wrong"),
    [
        ((0, 1), [7, 0.5, "1", True, "maybe"]),
        (("no", "yes"), ["maybe", "Yes", 1, True]),
        ((False, True), [1, 0, "true"]),
        ((), ["7", True, 1e300]),
    ],
)
def test_what_no_model_has_for_a_class_is_counted_apart_and_the_right_label_counts_later(
    served: Served, classes: Sequence[Any], wrong: list[Any]
) -> None:
    log = log_of(served, classes)
    right = classes[1] if classes else 7.0
    served.predict(prediction(0))
    served.label(*({**label(0), "y": value} for value in wrong), *({**label(99), "y": value} for value in wrong))
    log.seal()
    status = log.labels()
    assert (status.labelled, status.impossible, status.unknown, status.repeated) == (0, 2 * len(wrong), 0, 0)
    served.label({**label(0), "y": right})
    log.seal()
    assert log.labels().labelled == 1
    assert log.labelled(0).value.tolist() == [right]


@pytest.mark.parametrize("value", [None, [1], {"a": 1}, "", "x" * 1001])
def test_what_is_no_label_of_any_model_is_torn(served: Served, value: Any) -> None:
    log = log_of(served, None)
    served.predict(prediction(0))
    served.label({**label(0), "y": value})
    log.seal()
    assert (log.counters()["torn"], log.labels().labelled) == (1, 0)


def test_the_class_that_was_predicted_stands_beside_its_label(served: Served) -> None:
    log = log_of(served, ("a", "7"))
    served.predict(named(0, "7", p=[0.1, 0.9]), named(1, "a", p=[0.6, 0.4]), prediction(2), named(1, "7"))
    served.label(*({**label(n), "y": "7"} for n in (1, 0, 2)))
    log.seal()
    found = log.labelled(0)
    assert found.told is not None
    assert found.told.tolist() == ["a", "7", None]
    assert log.labelled(found.cursor).told is not None


def test_a_champions_classes_stand_beside_what_was_asked_unseen(served: Served) -> None:
    log = log_of(served, ("a", "b"))
    served.predict(named(0, "a", p=[0.75, 0.25]), named(1, "b", p=[0.5, 0.5]))
    served.predict(*({**named(n, "b", p=[0.25, 0.75], n=2), "s": 1} for n in (0, 1, 5)))
    served.label({**label(0), "y": "b"})
    log.seal()
    rows = log.shadow_rows(*DAY)
    assert rows["_class"].tolist() == ["b"] * 3
    assert rows["_champion_class"].tolist() == ["a", "b", None]
    assert [None if p is None else list(p) for p in rows["_champion_probabilities"]] == [[0.75, 0.25], [0.5, 0.5], None]
    assert rows["_value"].tolist() == ["b", None, None]


def test_a_later_label_that_differs_is_a_correction(served: Served) -> None:
    log = log_of(served, None)
    served.predict(*(prediction(n) for n in range(2)))
    served.label(label(0, 1.0), label(0, 1.0), label(1, 5.0))
    log.seal()
    assert (log.corrected(0).cursor, log.labels().repeated, log.labels().corrected) == (0, 1, 0)
    served.label(label(0, 2.0), label(0, 2.0), label(0, 1.0), {**label(1), "y": "5"})
    log.seal()
    found = log.corrected(0)
    assert found.row is not None
    assert list(zip(found.row.tolist(), found.value.tolist(), strict=True)) == [(1, 2.0), (1, 1.0), (2, "5")]
    assert log.corrected(found.cursor).value.tolist() == []
    assert (log.labels().repeated, log.labels().corrected) == (5, 3)
    assert log.labelled(0).value.tolist() == [1.0, 5.0]  # what has been judged by stays what it was


def test_an_index_of_an_older_version_gets_what_was_added(served: Served) -> None:
    log = log_of(served, None)
    served.predict(prediction(0), prediction(1))
    served.label(label(0, 1.0))
    log.seal()
    log.close()
    with closing(sqlite3.connect(served.folder / "log.sqlite")) as connection:
        connection.execute("DROP TABLE corrections")
        connection.execute("ALTER TABLE predictions DROP COLUMN told")
        connection.execute("PRAGMA user_version = 3")
        connection.commit()
    log = log_of(served, None)
    served.predict(named(2, "b"))
    served.label(label(0, 2.0), {**label(2), "y": "b"})
    log.seal()
    assert log.corrected(0).value.tolist() == [2.0]
    told = log.labelled(0).told
    assert told is not None
    assert told.tolist() == [None, "b"]
    assert np.isnan(log.rows(*DAY)["_prediction"]).sum() == 0
