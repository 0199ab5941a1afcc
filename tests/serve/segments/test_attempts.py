"""Of a request that was asked again the last attempt's line counts, whichever is sealed first, and once."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from tests.serve.segments.written import (
    SERVED,
    START,
    Served,
    assert_only_listed,
    dead_pid,
    files,
    key_label,
    label,
    minute,
    prediction,
)

from trilho.serve import compaction
from trilho.serve.segments import LocalPredictionLog

EVER = (datetime(1900, 1, 1, tzinfo=UTC), datetime(2999, 1, 1, tzinfo=UTC))
Line = dict[str, Any]


def attempt(n: int, number: int, **more: Any) -> Line:
    """The line of an attempt at a row: its version is one more than its number, its value tells it apart."""
    line = {**prediction(n, version=number + 1, **more), "v": 2, "y": n + number / 10}
    return {**line, "a": number} if number else line


def held(log: LocalPredictionLog) -> list[tuple[str, int, float]]:
    """Give what readers see, and see to it that the index and the files alone say the same."""
    rows = log.rows(*EVER)
    found = list(zip(rows["_id"].tolist(), rows["_version"].tolist(), rows["_prediction"].tolist(), strict=True))
    index = log._database.read("SELECT id, version, prediction FROM predictions ORDER BY time, row")
    assert [tuple(row) for row in index] == found
    plain = duckdb.connect().execute(
        "SELECT _id, _version, _prediction FROM read_parquet(?, union_by_name=true) ORDER BY _time, _row",
        [[str(path) for path in files(log.folder)]],
    )
    assert plain.fetchall() == found
    assert (log.held(), log.labels().served) == (len(found), len(found))
    return found


@pytest.fixture
def other(served: Served) -> Path:
    """The file of another server."""
    return served.folder / "predictions" / f"v2-{dead_pid()}-2000.jsonl"


@pytest.mark.parametrize("order", list(itertools.permutations((0, 1, 2))))
@pytest.mark.parametrize("apart", [True, False])
def test_the_last_attempt_counts_in_any_order_of_lines_and_sealings(
    log: LocalPredictionLog, served: Served, order: tuple[int, ...], apart: bool
) -> None:
    served.predict(prediction(7))
    for number in order:
        served.predict(attempt(1, number, at=number))
        if apart:
            log.seal()
    log.seal()
    assert held(log) == [("r1.0", 3, 1.2), ("r7.0", 1, 7.0)]
    assert log.rows(*EVER)["at"][0] == 2
    assert log.counters()["duplicates"] == 2
    assert_only_listed(log)


@pytest.mark.parametrize("later_first", [True, False])
def test_the_last_attempt_counts_whichever_file_comes_first(
    log: LocalPredictionLog, served: Served, other: Path, later_first: bool
) -> None:
    """Files are sealed by name, v1 before v2."""
    dying, asked = (other, served.predictions) if later_first else (served.predictions, other)
    served.predict(*(attempt(n, 0) for n in range(5)), path=dying)
    served.predict(attempt(3, 2), attempt(4, 2), path=asked)
    log.seal()
    assert held(log) == [("r0.0", 1, 0.0), ("r1.0", 1, 1.0), ("r2.0", 1, 2.0), ("r3.0", 3, 3.2), ("r4.0", 3, 4.2)]


def test_a_first_attempt_that_is_sealed_after_the_second_does_not_win(
    log: LocalPredictionLog, served: Served, other: Path
) -> None:
    served.predict(attempt(1, 1))
    log.seal()
    served.predict(attempt(1, 0), path=other)
    assert log.seal() == 1
    assert held(log) == [("r1.0", 2, 1.1)]
    assert log.counters()["duplicates"] == 1


def test_a_row_that_is_replaced_keeps_its_number_its_labels_and_its_place_among_what_was_read(
    log: LocalPredictionLog, served: Served
) -> None:
    served.predict(attempt(1, 0), prediction(2))
    served.label(key_label("e1", 5.0))
    log.seal()
    newest, seen = log.newest(), log.labelled(0)
    assert seen.value.tolist() == [5.0]
    served.predict(attempt(1, 1))
    served.label(label(1, 5.0))
    log.seal()
    assert held(log) == [("r1.0", 2, 1.1), ("r2.0", 1, 2.0)]
    rows = log.rows(*EVER)
    assert rows["_value"].tolist()[0] == 5.0
    assert (log.newest(), log.labelled(seen.cursor).value.tolist()) == (newest, [])
    assert len(log.late(newest, EVER[1])["_row"]) == 0
    known = log.labelled(0)
    assert (known.version.tolist(), known.prediction.tolist()) == ([2], [1.1])
    status = log.labels()
    assert (status.labelled, status.repeated, status.corrected, status.unknown) == (1, 1, 0, 0)
    query = log.view_sql("served")
    shown = duckdb.connect()
    shown.execute(query)
    assert shown.execute("SELECT _id, _version, _label FROM served ORDER BY _time").fetchall() == [
        ("r1.0", 2, 5.0),
        ("r2.0", 1, None),
    ]


def test_a_label_that_waits_for_a_key_that_only_the_later_version_logs_finds_the_row(
    log: LocalPredictionLog, served: Served
) -> None:
    first = attempt(1, 0)
    del first["x"]["event_id"]
    served.predict(first)
    served.label(key_label("e1", 5.0))
    log.seal()
    assert log.labels().unknown == 1
    served.predict(attempt(1, 1))
    log.seal()
    assert log.rows(*EVER)["_value"].tolist() == [5.0]
    assert (log.labels().unknown, log.labels().labelled) == (0, 1)


def test_a_log_without_times_moves_the_row_to_the_day_it_was_told(served: Served) -> None:
    log = LocalPredictionLog(served.folder)
    served.predict({**attempt(1, 0), "t": "2024-05-01T23:59:59.900Z"}, {**prediction(2), "t": SERVED})
    log.seal()
    served.predict({**attempt(1, 1), "t": "2024-05-02T00:00:00.100Z"})
    log.seal()
    assert held(log) == [("r2.0", 1, 2.0), ("r1.0", 2, 1.1)]
    assert [path.parts[-3] for path in files(served.folder)] == ["day=2024-05-01", "day=2024-05-02"]


def test_classes_decisions_and_probabilities_are_the_later_attempts(log: LocalPredictionLog, served: Served) -> None:
    served.predict({**attempt(1, 0), "c": "no", "p": [0.9, 0.1], "d": "wait", "dn": "1"})
    log.seal()
    served.predict({**attempt(1, 1), "c": "yes", "p": [0.2, 0.8], "d": "call", "dn": "2"})
    log.seal()
    rows = log.rows(*EVER)
    assert [rows[name].tolist() for name in ("_class", "_decision", "_decision_version")] == [["yes"], ["call"], ["2"]]
    assert np.asarray(rows["_probabilities"][0]).tolist() == [0.2, 0.8]
    served.label({**label(1), "v": 2, "y": "yes"})
    log.seal()
    told = log.labelled(0).told
    assert told is not None
    assert told.tolist() == ["yes"]


def test_rows_that_were_merged_are_replaced_and_what_is_replaced_is_merged(
    log: LocalPredictionLog, served: Served
) -> None:
    for n in range(40):
        served.predict(attempt(n, 0, time=minute(n)))
        log.seal()
    assert len(files(served.folder)) < 40
    for n in range(0, 40, 2):
        served.predict(attempt(n, 1, time=minute(n)))
    log.seal()
    for n in range(1, 40, 2):
        served.predict(attempt(n, 1, time=minute(n)))
        log.seal()
    assert held(log) == [(f"r{n}.0", 2, n + 0.1) for n in range(40)]
    assert len(files(served.folder)) <= 2 * compaction.MANY_SMALL
    assert_only_listed(log)


def test_shadow_lines_are_as_they_were(log: LocalPredictionLog, served: Served) -> None:
    served.predict(attempt(1, 0), {**attempt(1, 1), "s": 1}, {**attempt(1, 2), "s": 1})
    log.seal()
    served.predict({**attempt(1, 1), "s": 1, "n": 2})
    log.seal()
    assert held(log) == [("r1.0", 1, 1.0)]
    shadow = log.shadow_rows(*EVER)
    assert shadow["_version"].tolist() == [2, 3]
    assert shadow["_champion_version"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("number", [True, -1, 1.5, "1", None, 10**9])
def test_a_number_that_no_router_writes_is_a_first_attempt(
    log: LocalPredictionLog, served: Served, number: Any
) -> None:
    served.predict(attempt(1, 0))
    log.seal()
    served.predict({**attempt(1, 1), "a": number})
    log.seal()
    assert held(log) == [("r1.0", 1, 1.0)]


def break_(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 255
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [Path.unlink, break_, lambda path: path.write_bytes(b"PAR1")])
def test_a_row_whose_file_is_gone_or_damaged_stays_and_the_sealing_goes_on(
    log: LocalPredictionLog, served: Served, harm: Callable[[Path], object]
) -> None:
    served.predict(attempt(1, 0))
    log.seal()
    (path,) = files(served.folder)
    whole = path.read_bytes()
    harm(path)
    served.predict(attempt(1, 1), prediction(30))
    assert log.seal() == 2
    path.write_bytes(whole)
    assert held(log) == [("r1.0", 1, 1.0), ("r30.0", 1, 30.0)]


def test_what_fails_half_way_is_done_by_the_next_sealing(
    log: LocalPredictionLog, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.predict(attempt(1, 0), prediction(2))
    log.seal()
    served.predict(attempt(1, 1))
    with monkeypatch.context() as patch:
        patch.setattr(log._partitions, "add", lambda *_, **__: (_ for _ in ()).throw(OSError("killed")))
        with pytest.raises(OSError, match="killed"):
            log.seal()
    assert held(log) == [("r1.0", 1, 1.0), ("r2.0", 1, 2.0)]
    log.seal()
    assert held(log) == [("r1.0", 2, 1.1), ("r2.0", 1, 2.0)]
    assert_only_listed(log)


def test_a_row_replaced_before_its_files_were_moved_is_there_once(log: LocalPredictionLog, served: Served) -> None:
    """A process is killed between the transaction and the moves: the next one makes them, in their order."""
    served.predict(attempt(1, 0), prediction(2))
    log.seal()
    served.predict(attempt(1, 1))
    settle, settled = log._partitions.settle, [0]

    def killed(*arguments: Any, **more: Any) -> None:
        settled[0] += 1
        if settled[0] == 3:  # that of the pass, that of the replacing, and this one of the moves
            raise KeyboardInterrupt
        settle(*arguments, **more)

    log._partitions.settle = killed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        log.seal()
    again = LocalPredictionLog(served.folder, "time", "event_id")
    assert again.rows(*EVER)["_version"].tolist() == [2, 1]
    again.seal()
    assert held(again) == [("r1.0", 2, 1.1), ("r2.0", 1, 2.0)]
    assert_only_listed(again)


def test_what_is_known_of_attempts_goes_with_its_rows(log: LocalPredictionLog, served: Served) -> None:
    served.predict(attempt(1, 1), attempt(2, 3))
    log.seal()
    assert log._database.read("SELECT row, n FROM attempts") == [(1, 1), (2, 3)]
    assert log.forget("event_id", "e1") == 1
    assert log._database.read("SELECT row, n FROM attempts") == [(2, 3)]
    log.expire(START + timedelta(days=9999))
    assert log._database.read("SELECT count(*) FROM attempts") == [(0,)]
