"""The prediction log: each line counts once, whatever is killed when, and each label finds its prediction."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from trilho.errors import DataError
from trilho.serve import compaction, sealing
from trilho.serve.lines import gone
from trilho.serve.partitions import KINDS
from trilho.serve.sealing import Sealer
from trilho.serve.segments import LocalPredictionLog

START = datetime(2012, 1, 1, tzinfo=UTC)
SERVED = "2024-05-01T10:00:00.000Z"


def hour(n: int) -> str:
    return (START + timedelta(hours=n)).replace(tzinfo=None).isoformat()


def minute(n: int) -> str:
    return (START + timedelta(minutes=n)).replace(tzinfo=None).isoformat()


def prediction(n: int, *, id_: str | None = None, version: int = 1, **more: Any) -> dict[str, Any]:
    x = {"time": hour(n), "event_id": f"e{n}", "temp": n / 2, **more}
    return {"v": 1, "id": id_ or f"r{n}.0", "t": SERVED, "n": version, "x": x, "y": float(n)}


def label(n: int, value: float = 1.0) -> dict[str, Any]:
    return {"v": 1, "id": f"r{n}.0", "y": value, "t": SERVED}


def key_label(event: Any, value: float = 1.0) -> dict[str, Any]:
    return {"v": 1, "key": {"event_id": event}, "y": value, "t": SERVED}


def dumps(*lines: Mapping[str, Any]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def files(folder: Path) -> list[Path]:
    """Give the segments' files, as a reader of the folder lists them."""
    return sorted((folder / "segments").rglob("*.parquet"))


def assert_only_listed(log: LocalPredictionLog) -> None:
    """Nothing lies in the folders that is not listed, and the other way round."""
    for kind in KINDS:
        listed = {str(log._partitions.path(part)) for part in log._partitions.parts("kind = ?", (kind,))}
        assert {str(path) for path in (log.folder / kind).rglob("*.parquet")} == listed
    assert list((log.folder / "drafts").iterdir()) == []


class Served:
    """A log's folder, written to as servers and routers do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for part in ("predictions", "labels"):
            (folder / part).mkdir(parents=True)
        self.predictions = folder / "predictions" / f"v1-{os.getpid()}-1000.jsonl"
        self.labels = folder / "labels" / f"{os.getpid()}-1000.jsonl"

    def predict(self, *lines: Mapping[str, Any], path: Path | None = None) -> None:
        with (path or self.predictions).open("ab") as handle:
            handle.write(dumps(*lines))

    def label(self, *lines: Mapping[str, Any]) -> None:
        with self.labels.open("ab") as handle:
            handle.write(dumps(*lines))


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(tmp_path / "log")


@pytest.fixture
def log(served: Served) -> LocalPredictionLog:
    return LocalPredictionLog(served.folder, "time", "event_id")


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


def test_only_complete_lines_move_while_their_writer_lives(log: LocalPredictionLog, served: Served) -> None:
    whole = dumps(prediction(0), prediction(1))
    served.predictions.write_bytes(whole[:-10])
    assert log.seal() == 1
    assert log.seal() == 0
    with served.predictions.open("ab") as handle:
        handle.write(whole[-10:])
    assert log.seal() == 1
    assert log.labels().served == 2
    assert log.counters()["torn"] == 0
    assert served.predictions.exists()


def test_a_dead_writers_torn_line_is_counted_and_its_file_goes(log: LocalPredictionLog, served: Served) -> None:
    path = served.folder / "predictions" / f"v1-{dead_pid()}-1000.jsonl"
    path.write_bytes(dumps(prediction(0), prediction(1))[:-10])
    assert log.seal() == 1
    assert log.counters()["torn"] == 1
    assert not path.exists()
    assert log.seal() == 0
    assert log.labels().served == 1


def test_a_file_whose_writer_went_on_to_a_newer_one_goes(log: LocalPredictionLog, served: Served) -> None:
    newer = served.folder / "predictions" / f"v1-{os.getpid()}-2000.jsonl"
    served.predict(prediction(0))
    served.predict(prediction(1), path=newer)
    assert log.seal() == 2
    log.seal()
    assert not served.predictions.exists()
    assert newer.exists()


def test_a_line_written_between_two_looks_at_a_file_is_not_deleted(
    log: LocalPredictionLog, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer writes its last line and ends after one of the two was looked at: its size, or whether it lives."""
    writer = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    path = served.folder / "predictions" / f"v1-{writer.pid}-1000.jsonl"
    served.predict(prediction(0), path=path)
    assert log.seal() == 1
    looks: dict[str, Callable[..., Any]] = {"size": sealing._size, "gone": gone}
    seen: list[str] = []

    def look(name: str) -> Any:
        def at(*arguments: Any) -> Any:
            seen.append(name)
            answer = looks[name](*arguments)
            if len(seen) == 1:
                served.predict(prediction(1), path=path)
                assert writer.stdin is not None
                writer.stdin.close()
                writer.wait()
            return answer

        return at

    monkeypatch.setattr(sealing, "_size", look("size"))
    monkeypatch.setattr(sealing, "gone", look("gone"))
    log.seal()
    log.seal()
    assert {"size", "gone"} <= set(seen)
    assert log.counters() == {"served": 2, "torn": 0}
    assert not path.exists()


def test_a_line_glued_to_a_torn_one_is_saved(log: LocalPredictionLog, served: Served) -> None:
    served.predictions.write_bytes(
        dumps(prediction(0))[:-20] + dumps(prediction(1)) + b"rubbish\n" + dumps(prediction(2))
    )
    assert log.seal() == 2
    assert log.counters()["torn"] == 2
    assert list(log.rows(START, START + timedelta(days=1))["_id"]) == ["r1.0", "r2.0"]


def test_any_text_and_any_field_name_can_be_kept(log: LocalPredictionLog, served: Served) -> None:
    odd: dict[str, Any] = {
        "text": "a\u0000b \u2028 \U0001f600",
        'a"b': 1,
        "it's": 2,
        "temp (°C)": 3,
        "list": [1],
        "large": 10**30,
        "_id": 9,
    }
    served.predict(prediction(0, **odd))
    log.seal()
    rows = log.rows(START, START + timedelta(days=1))
    assert rows["text"].tolist() == [odd["text"]]
    assert [rows[name].tolist() for name in ('a"b', "it's", "temp (°C)", "list", "large")] == [
        [1],
        [2],
        [3],
        ["[1]"],
        [1e30],
    ]
    assert rows["_id"].tolist() == ["r0.0"]


@pytest.mark.parametrize("change", [{"y": "high"}, {"x": 3}, {"id": 7}, {"n": None}, {"t": "late"}])
def test_a_line_of_the_wrong_shape_is_counted(log: LocalPredictionLog, served: Served, change: dict[str, Any]) -> None:
    served.predict({**prediction(0), **change}, prediction(1))
    log.seal()
    assert (log.labels().served, log.counters()["torn"]) == (1, 1)


def test_a_line_of_a_newer_format_stops_the_sealing_aloud(log: LocalPredictionLog, served: Served) -> None:
    served.predict({**prediction(0), "v": 3})
    with pytest.raises(DataError, match="format 3; this trilho reads up to 2"):
        log.seal()


def test_a_retried_request_counts_once(log: LocalPredictionLog, served: Served) -> None:
    served.predict(prediction(0), prediction(0))
    log.seal()
    served.predict(prediction(0, version=2), prediction(1))
    log.seal()
    assert log.labels().served == 2
    assert log.counters()["duplicates"] == 2
    assert log.rows(START, START + timedelta(days=1))["_version"].tolist() == [1, 1]


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


def test_many_small_segments_become_one(log: LocalPredictionLog, served: Served) -> None:
    for n in range(40):
        served.predict(prediction(n, extra=n) if n % 2 else prediction(n))
        served.label(label(n, n * 10.0))
        log.seal()
    assert len(files(served.folder)) == len(log._partitions.parts("kind = 'segments'")) <= 2 * compaction.MANY_SMALL
    rows = log.rows(START, START + timedelta(days=9))
    assert rows["_prediction"].tolist() == [float(n) for n in range(40)]
    assert rows["_value"].tolist() == [n * 10.0 for n in range(40)]
    assert rows["extra"][1::2].tolist() == [float(n) for n in range(1, 40, 2)]


def test_a_reader_survives_a_merge_by_another_process(log: LocalPredictionLog, served: Served) -> None:
    reader = LocalPredictionLog(served.folder, "time", "event_id")
    for n in range(33):
        served.predict(prediction(n))
        log.seal()
    listed = reader._database.read

    def stale(query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        found = listed(query, values)
        if "FROM segments WHERE kind" in query:
            reader._database.read = listed  # type: ignore[method-assign]
            return [("gone.parquet", *row[1:]) for row in found]
        return found

    reader._database.read = stale  # type: ignore[method-assign]
    assert len(reader.rows(START, START + timedelta(days=9))["_id"]) == 33


def test_a_damaged_segment_is_named(log: LocalPredictionLog, served: Served) -> None:
    served.predict(prediction(0))
    log.seal()
    (path,) = files(served.folder)
    path.write_bytes(b"PAR1")
    with pytest.raises(DataError, match=path.name):
        log.rows(START, START + timedelta(days=1))


SEALER = """
import sys
from pathlib import Path
from trilho.serve.segments import LocalPredictionLog
log = LocalPredictionLog(Path(sys.argv[1]), "time", "event_id")
print("up", flush=True)
while True:
    log.seal()
"""


def test_each_line_counts_once_though_sealers_are_killed(log: LocalPredictionLog, served: Served) -> None:
    chance, sent = random.Random(3), 0
    for _ in range(5):
        sealers = [
            subprocess.Popen([sys.executable, "-c", SEALER, str(served.folder)], stdout=subprocess.PIPE) for _ in "ab"
        ]
        for sealer in sealers:
            assert sealer.stdout is not None
            sealer.stdout.readline()
        deadline = time.monotonic() + 0.05 + chance.random() * 0.1
        while time.monotonic() < deadline:
            served.predict(*(prediction(n, time=minute(n)) for n in range(sent, sent + 20)))
            served.label(*(label(n, float(n)) for n in range(sent, sent + 20)))
            sent += 20
        for sealer in sealers:
            sealer.send_signal(signal.SIGKILL)
            sealer.wait(10)
            assert sealer.stdout is not None
            sealer.stdout.close()
    log.seal()
    status = log.labels()
    assert (status.served, status.labelled, status.repeated, status.unknown) == (sent, sent, 0, 0)
    assert log.counters().get("duplicates", 0) == 0
    rows = log.rows(START, START + timedelta(hours=sent))
    assert rows["_prediction"].tolist() == [float(n) for n in range(sent)]
    assert rows["_value"].tolist() == [float(n) for n in range(sent)]
    assert_only_listed(log)


def test_a_full_disk_loses_nothing(log: LocalPredictionLog, served: Served) -> None:
    served.predict(*(prediction(n, blob=random.Random(n).randbytes(400).hex()) for n in range(500)))
    script = f"""
import resource, sys
from pathlib import Path
from trilho.serve.segments import LocalPredictionLog
resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))
LocalPredictionLog(Path({str(served.folder)!r}), "time", "event_id").seal()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "DataError" in done.stderr or "TrilhoError" in done.stderr
    assert log.seal() == 500
    assert len(log.rows(START, START + timedelta(hours=500))["_id"]) == 500
    assert_only_listed(log)


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


def test_a_field_is_kept_under_its_own_name_though_a_folder_is_called_so(
    log: LocalPredictionLog, served: Served
) -> None:
    served.predict(prediction(0, day="Monday"), prediction(30, day="Tuesday"))
    log.seal()
    assert log.rows(START, START + timedelta(days=3))["day"].tolist() == ["Monday", "Tuesday"]


def test_lines_of_both_versions_are_read_with_all_that_they_tell(log: LocalPredictionLog, served: Served) -> None:
    served.predict(
        prediction(0),
        {**prediction(1), "v": 2, "c": "b", "p": [0.2, 0.5, 0.3], "d": {"offer": True}, "dn": "3"},
        {**prediction(2), "v": 2, "c": "a", "p": [0.9, 0.1], "d": "refuse", "dn": "3"},
    )
    assert log.seal() == 3
    rows = log.rows(START, START + timedelta(days=1))
    assert rows["_class"].tolist() == [None, "b", "a"]
    assert [None if p is None else list(p) for p in rows["_probabilities"]] == [None, [0.2, 0.5, 0.3], [0.9, 0.1]]
    assert rows["_decision"].tolist() == [None, '{"offer": true}', "refuse"]
    assert rows["_decision_version"].tolist() == [None, "3", "3"]
    assert rows["_served"].tolist() == [datetime(2024, 5, 1, 10, tzinfo=UTC).timestamp()] * 3


def test_what_a_challenger_answered_in_the_shadow_stays_apart(log: LocalPredictionLog, served: Served) -> None:
    served.predict(*(prediction(n) for n in range(3)))
    served.predict(*({**prediction(n, version=2), "v": 2, "y": n + 0.5, "s": 1} for n in (0, 1, 1, 7)))
    served.label(label(1, 9.0))
    assert log.seal() == 8
    assert log.counters() == {"served": 3, "labelled": 1, "shadow": 4, "torn": 0}
    assert log.labels().served == 3
    assert log.rows(START, START + timedelta(days=1))["_version"].tolist() == [1, 1, 1]
    shadow = log.shadow_rows(START, START + timedelta(days=1))
    assert shadow["_id"].tolist() == ["r0.0", "r1.0", "r7.0"]
    assert shadow["_version"].tolist() == [2, 2, 2]
    assert shadow["_prediction"].tolist() == [0.5, 1.5, 7.5]
    assert shadow["temp"].tolist() == [0.0, 0.5, 3.5]
    assert shadow["_champion"].tolist()[:2] == [0.0, 1.0]
    assert shadow["_champion_version"].tolist()[:2] == [1.0, 1.0]
    assert np.isnan(shadow["_champion"][2])
    assert shadow["_value"][1] == 9.0
    assert np.isnan(shadow["_value"][[0, 2]]).all()
    assert len(log.shadow_rows(START + timedelta(days=2), START + timedelta(days=3))["_id"]) == 0


def test_a_damaged_segment_is_named_though_it_can_be_read(log: LocalPredictionLog, served: Served) -> None:
    served.predict(prediction(0), prediction(30))
    log.seal()
    assert log.damaged() == []
    path = files(served.folder)[1]
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 255
    path.write_bytes(data)
    assert log.damaged() == [str(path.relative_to(served.folder))]


def test_a_damaged_segment_does_not_stop_the_sealing(
    log: LocalPredictionLog, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.predict(prediction(0))
    log.seal()
    (path,) = files(served.folder)
    path.write_bytes(b"PAR1")
    monkeypatch.setattr(compaction, "MANY_SMALL", 10)
    for n in range(1, 24):
        served.predict(prediction(n, time=minute(n)))
        assert log.seal() == 1
    assert len(files(served.folder)) < 10  # those that are whole were merged
    with pytest.raises(DataError, match=path.name):
        log.rows(START, START + timedelta(days=1))


def test_sealing_ends_though_servers_go_on_writing(
    log: LocalPredictionLog, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.predict(prediction(0))
    seal_once, sent = Sealer._seal_once, [0]

    def busy(self: Sealer, news: list[Path]) -> tuple[int, int]:
        sealed = seal_once(self, news)
        sent[0] += 1
        assert sent[0] < 50
        served.predict(prediction(sent[0]))
        return sealed

    monkeypatch.setattr(Sealer, "_seal_once", busy)
    assert [log.seal(), log.seal()] == [1, 1]


def test_a_backlog_is_sealed_in_bounded_steps(
    log: LocalPredictionLog, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "PREDICTIONS_AT_ONCE", 4000)
    paths = [served.folder / "predictions" / f"v{k}-{os.getpid()}-{k}.jsonl" for k in range(1, 9)]
    for k, path in enumerate(paths):
        served.predict(*(prediction(100 * k + n, time=minute(100 * k + n)) for n in range(100)), path=path)
    largest: list[int] = []
    take = Sealer._take_predictions

    def taken(self: Sealer, index: Any, lines: list[Any]) -> None:
        largest.append(len(lines))
        take(self, index, lines)

    monkeypatch.setattr(Sealer, "_take_predictions", taken)
    assert log.seal() == 800
    assert max(largest) <= 4000 // 100
    assert log.rows(START, START + timedelta(days=1))["_prediction"].tolist() == [float(n) for n in range(800)]
