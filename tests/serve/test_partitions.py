"""The files by day: whole for every reader at every moment, whatever is sealed, merged, replaced or killed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from trilho.errors import DataError
from trilho.serve import compaction, exchange, partitions
from trilho.serve.segments import LocalPredictionLog

START = datetime(2024, 5, 1, tzinfo=UTC)
SERVED = "2024-05-01T10:00:00.000Z"


def line(n: int, *, minutes: float = 1.0, **more: Any) -> dict[str, Any]:
    moment = (START + timedelta(minutes=n * minutes)).replace(tzinfo=None).isoformat()
    return {"v": 2, "id": f"r{n}.0", "t": SERVED, "n": 1, "x": {"time": moment, "temp": n / 2, **more}, "y": float(n)}


def write(folder: Path, *lines: dict[str, Any], part: str = "predictions") -> None:
    (folder / part).mkdir(parents=True, exist_ok=True)
    with (folder / part / f"v1-{os.getpid()}-1000.jsonl").open("ab") as handle:
        handle.write(b"".join(json.dumps(one).encode() + b"\n" for one in lines))


def glob(folder: Path) -> str:
    return f"read_parquet('{folder}/segments/**/*.parquet', hive_partitioning=true, union_by_name=true)"


def merge_all(log: LocalPredictionLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Merge every day that has two files."""
    with monkeypatch.context() as patch:
        patch.setattr(compaction, "MANY_SMALL", 1)
        log.seal()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def log(folder: Path) -> LocalPredictionLog:
    return LocalPredictionLog(folder, "time")


def test_days_are_folders_that_duckdb_knows(log: LocalPredictionLog, folder: Path) -> None:
    write(folder, *(line(n, minutes=60) for n in range(50)))
    log.seal()
    found = duckdb.execute(
        f"SELECT CAST(day AS VARCHAR), count(*), min(_id), max(temp) FROM {glob(folder)} GROUP BY day ORDER BY day"
    ).fetchall()
    assert found == [
        ("2024-05-01", 24, "r0.0", 11.5),
        ("2024-05-02", 24, "r24.0", 23.5),
        ("2024-05-03", 2, "r48.0", 24.5),
    ]
    assert [path.name for path in sorted((folder / "segments").iterdir())] == [
        "day=2024-05-01", "day=2024-05-02", "day=2024-05-03",
    ]  # fmt: skip


def test_the_list_tells_rows_times_bytes_and_digests(log: LocalPredictionLog, folder: Path) -> None:
    write(folder, *(line(n) for n in range(10)))
    log.seal()
    (part,) = log._partitions.parts()
    path = log._partitions.path(part)
    assert (part.rows, part.first, part.last) == (10, START.timestamp(), START.timestamp() + 540)
    assert part.bytes == path.stat().st_size
    assert len(part.digest or "") == 64
    assert part.served == datetime(2024, 5, 1, 10, tzinfo=UTC).timestamp()


def test_a_row_without_an_event_time_lies_in_the_day_it_was_served(folder: Path) -> None:
    log = LocalPredictionLog(folder)
    write(folder, line(5000))
    log.seal()
    assert [part.day for part in log._partitions.parts()] == ["2024-05-01"]


def test_merged_files_are_seen_instead_of_their_parts(
    log: LocalPredictionLog, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(6):
        write(folder, line(n, extra=n) if n % 2 else line(n))
        log.seal()
    before = sorted((folder / "segments").rglob("*.parquet"))
    assert len(before) == 6
    merge_all(log, monkeypatch)
    (after,) = (folder / "segments").rglob("*.parquet")
    assert after.parent.name == "g2"
    rows = duckdb.execute(f"SELECT _id, extra FROM {glob(folder)} ORDER BY _row").fetchall()
    assert rows == [(f"r{n}.0", n if n % 2 else None) for n in range(6)]
    assert log.rows(START, START + timedelta(days=1))["_prediction"].tolist() == [float(n) for n in range(6)]
    # Who listed the parts before still finds them by name, for a while.
    files = ", ".join(f"'{path}'" for path in before)
    assert duckdb.execute(f"SELECT count(*) FROM read_parquet([{files}], union_by_name=true)").fetchall() == [(6,)]
    monkeypatch.setattr(partitions, "GRACE_SECONDS", -1.0)
    log.seal()
    assert not any(path.exists() for path in before)
    assert list((folder / "retired").iterdir()) == []
    assert [path.name for path in (folder / "segments" / "day=2024-05-01").iterdir()] == ["g2"]


def test_a_day_is_merged_again_when_more_comes(
    log: LocalPredictionLog, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(12):
        write(folder, line(n))
        log.seal()
        if n % 3 == 2:
            merge_all(log, monkeypatch)
    assert len(list((folder / "segments").rglob("*.parquet"))) == 1
    assert duckdb.execute(f"SELECT count(*), count(DISTINCT _id) FROM {glob(folder)}").fetchall() == [(12, 12)]


def test_days_at_rest_are_merged_and_large_files_left_alone(
    log: LocalPredictionLog, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, *(line(n) for n in range(30)))
    log.seal()
    for n in range(30, 33):
        write(folder, line(n))
        log.seal()
    monkeypatch.setattr(compaction, "SMALL_ROWS", 20)
    log.seal()
    assert sorted(part.rows for part in log._partitions.parts()) == [1, 1, 1, 30]
    monkeypatch.setattr(compaction, "COLD_SECONDS", -1.0)
    log.seal()
    assert sorted(part.rows for part in log._partitions.parts()) == [3, 30]
    assert log.rows(START, START + timedelta(days=1))["_prediction"].tolist() == [float(n) for n in range(33)]


def test_exchange_works_by_steps_where_one_is_not_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    exchange.exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a" / "b").exists()
    monkeypatch.setattr(exchange, "_swap", lambda: None)
    exchange.exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a" / "a").exists()
    assert (tmp_path / "b" / "b").exists()


READER = """
import sys, duckdb
rows = f"read_parquet('{sys.argv[1]}', hive_partitioning=true, union_by_name=true)"
print("up", flush=True)
last = looks = missed = 0
while last < int(sys.argv[2]):
    looks += 1
    try:
        found = duckdb.execute(f"SELECT count(*), count(DISTINCT _id), count(day) FROM {rows}").fetchall()[0]
    except duckdb.IOException as error:
        assert "No files found" in str(error), error
        missed += 1
        continue
    assert found[0] == found[1] == found[2], found
    missed += found[0] < last
    last = max(last, found[0])
print(looks, missed)
"""


def test_readers_of_the_folder_see_no_row_twice_while_it_is_sealed_and_merged(
    log: LocalPredictionLog, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader in a loop meets the microseconds of an exchange once in a hundred; it then misses a day in that look."""
    monkeypatch.setattr(compaction, "MANY_SMALL", 10)
    write(folder, line(0))
    log.seal()
    total, pattern = 150, f"{folder}/segments/**/*.parquet"
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, pattern, str(total)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert reader.stdout is not None
    assert reader.stdout.readline() == "up\n"
    for n in range(1, total):
        write(folder, line(n, minutes=10))
        log.seal()
    out, said = reader.communicate(timeout=60)
    assert reader.returncode == 0, said
    looks, missed = map(int, out.split())
    assert looks > 5
    assert missed <= 3
    assert log._partitions.generation(sqlite3.connect(folder / "log.sqlite"), "segments", "2024-05-01") > 5


def test_a_view_gives_labels_and_times_and_stays_true(log: LocalPredictionLog, folder: Path) -> None:
    write(folder, line(0, day="Monday"), line(1, day="Monday"))
    log.seal()
    connection = duckdb.connect()
    connection.execute(log.view_sql("served"))
    query = "SELECT _id, _time, _served, _label, day FROM served ORDER BY _row"
    served = datetime(2024, 5, 1, 10)
    assert connection.execute(query).fetchall() == [
        ("r0.0", datetime(2024, 5, 1), served, None, "Monday"),
        ("r1.0", datetime(2024, 5, 1, 0, 1), served, None, "Monday"),
    ]
    write(folder, line(2000, day="Tuesday"))
    write(folder, {"v": 1, "id": "r1.0", "y": 7.0, "t": SERVED}, part="labels")
    log.seal()
    found = connection.execute("SELECT _id, _label, day FROM served ORDER BY _row").fetchall()
    assert found == [("r0.0", None, "Monday"), ("r1.0", 7.0, "Monday"), ("r2000.0", None, "Tuesday")]


OLD = """
CREATE TABLE files (path TEXT PRIMARY KEY, offset INTEGER NOT NULL);
CREATE TABLE segments (name TEXT PRIMARY KEY, rows INTEGER NOT NULL, first REAL NOT NULL, last REAL NOT NULL);
CREATE TABLE predictions (
  row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, key TEXT, time REAL NOT NULL, version INTEGER NOT NULL,
  prediction REAL NOT NULL, labelled INTEGER NOT NULL DEFAULT 0);
CREATE INDEX predictions_by_time ON predictions (time);
CREATE TABLE truths (ref TEXT PRIMARY KEY, value REAL NOT NULL, met INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE labels (seq INTEGER PRIMARY KEY, row INTEGER NOT NULL UNIQUE, value REAL NOT NULL);
CREATE TABLE counters (name TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
PRAGMA user_version=1;
"""


def make_old(folder: Path) -> None:
    """Make a log as it was before segments had days: two flat files, one label."""
    (folder / "segments").mkdir(parents=True)
    connection = sqlite3.connect(folder / "log.sqlite")
    connection.executescript(OLD)
    for name, numbers in (("000000000001-aa.parquet", range(3)), ("000000000004-bb.parquet", range(3, 5))):
        rows = [(n + 1, f"r{n}.0", START.timestamp() + n * 36000, 1, float(n), n / 2) for n in numbers]
        duckdb.execute(
            f"COPY (SELECT * FROM (VALUES {', '.join(map(str, rows))})"
            " t(_row, _id, _time, _version, _prediction, temp))"
            f" TO '{folder}/segments/{name}' (FORMAT parquet)"
        )
        connection.execute("INSERT INTO segments VALUES (?, ?, ?, ?)", (name, len(rows), rows[0][2], rows[-1][2]))
        connection.executemany(
            "INSERT INTO predictions (row, id, time, version, prediction) VALUES (?, ?, ?, ?, ?)",
            [row[:5] for row in rows],
        )
    connection.execute("INSERT INTO labels VALUES (1, 2, 8.0)")
    connection.execute("UPDATE predictions SET labelled = 1 WHERE row = 2")
    connection.execute("INSERT INTO truths VALUES ('id:r1.0', 8.0, 1)")
    connection.execute("INSERT INTO counters VALUES ('served', 5), ('labelled', 1)")
    connection.commit()
    connection.close()


def test_a_log_of_before_is_read_as_it_is(log: LocalPredictionLog, folder: Path) -> None:
    make_old(folder)
    rows = log.rows(START, START + timedelta(days=9))
    assert rows["_prediction"].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert rows["_value"][1] == 8.0
    assert len(list((folder / "segments").glob("*.parquet"))) == 2


def test_a_log_of_before_gets_days_by_the_next_sealing(log: LocalPredictionLog, folder: Path) -> None:
    make_old(folder)
    write(folder, line(6, minutes=600))
    assert log.seal() == 1
    found = duckdb.execute(
        f"SELECT CAST(day AS VARCHAR), list(_id ORDER BY _row) FROM {glob(folder)} GROUP BY 1 ORDER BY 1"
    )
    assert found.fetchall() == [
        ("2024-05-01", ["r0.0", "r1.0", "r2.0"]), ("2024-05-02", ["r3.0", "r4.0"]), ("2024-05-03", ["r6.0"]),
    ]  # fmt: skip
    assert log.newest() == 6
    assert log.rows(START, START + timedelta(days=9))["_value"][1] == 8.0
    labels = duckdb.execute(
        f"SELECT _row, _label FROM read_parquet('{folder}/truths/**/*.parquet', hive_partitioning=false)"
    )
    assert labels.fetchall() == [(2, 8.0)]
    assert not list((folder / "segments").glob("*.parquet"))


KILLED = """
import sys
from pathlib import Path
from trilho.serve import compaction, partitions
from trilho.serve.segments import LocalPredictionLog
compaction.MANY_SMALL, partitions.GRACE_SECONDS = 2, -1.0
log = LocalPredictionLog(Path(sys.argv[1]), "time")
print("up", flush=True)
while True:
    log.seal()
"""


def test_no_row_is_lost_or_seen_twice_when_a_sealer_is_killed_at_any_point(
    log: LocalPredictionLog, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader of the folder sees each row at most once after every kill; after a last sealing exactly once."""
    chance, sent, seen = random.Random(7), 0, 0
    for _ in range(30):
        sealer = subprocess.Popen([sys.executable, "-c", KILLED, str(folder)], stdout=subprocess.PIPE)
        assert sealer.stdout is not None
        sealer.stdout.readline()
        deadline = time.monotonic() + chance.random() * 0.06
        while time.monotonic() < deadline:
            write(folder, *(line(n) for n in range(sent, sent + 5)))
            sent += 5
        sealer.send_signal(signal.SIGKILL)
        sealer.wait(10)
        sealer.stdout.close()
        if any((folder / "segments").rglob("*.parquet")):
            rows, ids = duckdb.execute(f"SELECT count(*), count(DISTINCT _id) FROM {glob(folder)}").fetchall()[0]
            assert seen <= rows == ids <= sent
            seen = rows
    log.seal()
    assert log.rows(START, START + timedelta(days=99))["_prediction"].tolist() == [float(n) for n in range(sent)]
    assert duckdb.execute(f"SELECT count(*), count(DISTINCT _id) FROM {glob(folder)}").fetchall() == [(sent, sent)]
    assert log.damaged() == []


@pytest.mark.parametrize("step", range(12))
def test_a_merge_that_is_cut_off_is_finished_or_undone(
    log: LocalPredictionLog, folder: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Cut off at each call that changes the disk, one after the other."""
    for n in range(3):
        write(folder, line(n))
        log.seal()
    log.close()
    left = [step]

    class Cut(BaseException):
        pass

    def cut(name: str) -> Any:
        made = getattr(os, name)

        def at(*arguments: Any, **more: Any) -> Any:
            if left[0] == 0:
                raise Cut
            left[0] -= 1
            return made(*arguments, **more)

        return at

    def swap(one: Path, other: Path) -> None:
        if left[0] == 0:
            raise Cut
        left[0] -= 1
        exchange.exchange(one, other)

    with monkeypatch.context() as patch:
        patch.setattr(compaction, "MANY_SMALL", 1)
        for name in ("mkdir", "symlink", "replace", "rename", "unlink", "link", "fsync"):
            patch.setattr(os, name, cut(name))
        patch.setattr(partitions, "exchange", swap)
        with contextlib.suppress(Cut):
            LocalPredictionLog(folder, "time").seal()
    assert duckdb.execute(f"SELECT count(*), count(DISTINCT _id) FROM {glob(folder)}").fetchall() == [(3, 3)]
    again = LocalPredictionLog(folder, "time")
    assert again.rows(START, START + timedelta(days=1))["_prediction"].tolist() == [0.0, 1.0, 2.0]
    again.seal()
    assert again.rows(START, START + timedelta(days=1))["_prediction"].tolist() == [0.0, 1.0, 2.0]
    assert duckdb.execute(f"SELECT count(*), count(DISTINCT _id) FROM {glob(folder)}").fetchall() == [(3, 3)]
    assert again.damaged() == []


def test_two_threads_and_a_reader_of_ours_agree(log: LocalPredictionLog, folder: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(compaction, "MANY_SMALL", 1)
    monkeypatch.setattr(partitions, "GRACE_SECONDS", -1.0)
    write(folder, line(0))
    log.seal()
    wrong: list[Any] = []
    done = threading.Event()

    def read() -> None:
        reader, last = LocalPredictionLog(folder, "time"), 0
        try:
            while not done.is_set():
                rows = reader.rows(START, START + timedelta(days=9))["_row"].tolist()
                if len(set(rows)) != len(rows) or len(rows) < last:
                    wrong.append(rows)
                last = len(rows)
        except (DataError, OSError) as error:
            wrong.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    for n in range(1, 60):
        write(folder, line(n))
        log.seal()
    done.set()
    thread.join(30)
    assert wrong == []
