"""What is old goes whole, what is younger stays, and of who is forgotten nothing is left on the disk."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from trilho.serve import compaction
from trilho.serve.segments import LocalPredictionLog
from trilho_runtime.prediction.mask import Mask

START = datetime(2024, 5, 1, tzinfo=UTC)
EVER = (datetime(1900, 1, 1, tzinfo=UTC), datetime(2999, 1, 1, tzinfo=UTC))


def text(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat()


def line(n: int, day: float, *, served: float | None = None, **more: Any) -> dict[str, Any]:
    moment = START + timedelta(days=day)
    at = moment if served is None else START + timedelta(days=served)
    x = {"time": text(moment), "cpf": f"cpf-{n}", **more}
    return {"v": 2, "id": f"r{n}.0", "t": text(at) + "Z", "n": 1, "x": x, "y": float(n)}


def label(n: int, day: float, **key: Any) -> dict[str, Any]:
    name: dict[str, Any] = {"key": key} if key else {"id": f"r{n}.0"}
    return {"v": 1, **name, "y": n * 10.0, "t": text(START + timedelta(days=day)) + "Z"}


def write(folder: Path, *lines: dict[str, Any], part: str = "predictions") -> Path:
    (folder / part).mkdir(parents=True, exist_ok=True)
    path = folder / part / f"v1-{os.getpid()}-1000.jsonl"
    with path.open("ab") as handle:
        handle.write(b"".join(json.dumps(one).encode() + b"\n" for one in lines))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def log(folder: Path) -> LocalPredictionLog:
    return LocalPredictionLog(folder, "time", "cpf")


def ids(log: LocalPredictionLog) -> list[str]:
    return [str(id_) for id_ in log.rows(*EVER)["_id"]]


def test_old_days_go_and_the_day_of_the_cut_stays(log: LocalPredictionLog, folder: Path) -> None:
    write(folder, *(line(n, n / 2) for n in range(8)))
    write(folder, label(0, 1), label(1, 1), label(6, 3), part="labels")
    counted = log.expire(START + timedelta(days=2, hours=13))
    assert (counted["rows"], counted["labels"], counted["files"]) == (4, 2, 2)
    assert ids(log) == ["r4.0", "r5.0", "r6.0", "r7.0"]
    assert log.labelled(0).value.tolist() == [60.0]
    found = duckdb.execute(f"SELECT _id FROM read_parquet('{folder}/segments/**/*.parquet') ORDER BY _row").fetchall()
    assert found == [("r4.0",), ("r5.0",), ("r6.0",), ("r7.0",)]
    assert log.counters()["expired"] == 4
    assert log.expire(START + timedelta(days=2, hours=13)) == {}


def test_a_row_of_an_old_day_that_was_served_lately_stays(log: LocalPredictionLog, folder: Path) -> None:
    write(folder, line(0, 0), line(1, 0, served=30))
    log.expire(START + timedelta(days=10))
    assert ids(log) == ["r0.0", "r1.0"]  # in one file
    assert log.expire(START + timedelta(days=31))["rows"] == 2


def test_rows_that_were_served_on_different_days_are_never_merged(
    log: LocalPredictionLog, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "MANY_SMALL", 1)
    for n in range(6):
        write(folder, line(n, 0, served=n // 3 * 20))
        log.seal()
    log.seal()
    assert log.expire(START + timedelta(days=10))["rows"] == 3
    assert ids(log) == ["r3.0", "r4.0", "r5.0"]


def test_numbers_are_never_given_twice(log: LocalPredictionLog, folder: Path) -> None:
    """The watcher's cursors would pass over what comes after."""
    write(folder, line(0, 0), line(1, 0))
    write(folder, label(0, 0), label(1, 0), part="labels")
    log.seal()
    cursor, newest = log.labelled(0).cursor, log.newest()
    assert log.expire(START + timedelta(days=9))["rows"] == 2
    assert log.newest() == newest
    write(folder, line(5, 20))
    write(folder, label(5, 20), part="labels")
    log.seal()
    assert log.labelled(cursor).value.tolist() == [50.0]
    assert log.late(newest, EVER[1])["_id"].tolist() == ["r5.0"]


def test_shadow_answers_and_unknown_labels_go_too(log: LocalPredictionLog, folder: Path) -> None:
    write(folder, line(0, 0), {**line(0, 0), "s": 1}, line(1, 9), {**line(1, 9), "s": 1})
    write(folder, label(77, 0), label(78, 9), part="labels")
    counted = log.expire(START + timedelta(days=5))
    assert (counted["rows"], counted["shadow"], counted["unknown labels"]) == (1, 1, 1)
    assert log.shadow_rows(*EVER)["_id"].tolist() == ["r1.0"]
    assert log._database.read("SELECT ref FROM truths") == [("id:r78.0",)]


def test_a_key_that_a_younger_row_shares_keeps_its_label(log: LocalPredictionLog, folder: Path) -> None:
    write(folder, line(0, 0, cpf="a"), line(1, 9, cpf="a"), line(2, 0, cpf="b"))
    write(folder, label(1, 0, cpf="a"), label(2, 0, cpf="b"), part="labels")
    log.expire(START + timedelta(days=5))
    assert log._database.read("SELECT ref FROM truths") == [('key:["a"]',)]
    assert log.rows(*EVER)["_value"].tolist() == [10.0]


def test_lines_in_the_file_of_a_server_that_runs_are_blanked_and_it_goes_on(
    log: LocalPredictionLog, folder: Path
) -> None:
    path = write(folder, line(0, 0))
    assert log.expire(START + timedelta(days=9))["lines"] == 1
    assert path.read_bytes().strip() == b""
    write(folder, line(1, 20))
    assert log.seal() == 1
    assert ids(log) == ["r1.0"]
    assert log.counters()["torn"] == 0


def test_the_index_shrinks(log: LocalPredictionLog, folder: Path) -> None:
    for start in range(0, 6000, 2000):
        write(folder, *(line(n, 0) for n in range(start, start + 2000)))
        log.seal()
    log._database.read("PRAGMA wal_checkpoint(TRUNCATE)")
    before = (folder / "log.sqlite").stat().st_size
    assert log.expire(START + timedelta(days=9))["rows"] == 6000
    log._database.read("PRAGMA wal_checkpoint(TRUNCATE)")
    assert (folder / "log.sqlite").stat().st_size < before / 3


def everywhere(folder: Path, what: bytes) -> list[str]:
    """Name the files that hold some bytes."""
    return [path.name for path in folder.rglob("*") if path.is_file() and what in path.read_bytes()]


def test_of_a_person_who_is_forgotten_nothing_is_left(log: LocalPredictionLog, folder: Path) -> None:
    write(folder, *(line(n, n % 3, cpf=f"person-{n % 2}") for n in range(12)), {**line(1, 1, cpf="person-1"), "s": 1})
    write(folder, label(0, 0, cpf="person-1"), label(0, 0, cpf="person-0"), part="labels")
    log.seal()
    assert everywhere(folder, b"person-1")
    assert log.forget("cpf", "person-1") == 6
    assert set(log.rows(*EVER)["cpf"]) == {"person-0"}
    assert log.shadow_rows(*EVER)["_id"].tolist() == []
    assert log.rows(*EVER)["_value"].tolist() == [0.0] * 6
    assert everywhere(folder, b"person-1") == []
    assert log.counters()["forgotten"] == 6
    found = duckdb.execute(f"SELECT count(*) FROM read_parquet('{folder}/segments/**/*.parquet')").fetchall()
    assert found == [(6,)]
    assert log.damaged() == []
    assert log.forget("cpf", "person-1") == log.forget("nothing", 1) == 0


def test_a_number_is_forgotten_however_it_is_written(log: LocalPredictionLog, folder: Path) -> None:
    write(folder, line(0, 0, cpf=7), line(1, 0, cpf=8), line(2, 1, cpf=7.0), line(3, 1, cpf=1.5), line(4, 2, cpf="7"))
    log.seal()
    assert log.forget("cpf", 7) == 3
    assert ids(log) == ["r1.0", "r3.0"]


def test_masked_labels_find_masked_predictions_and_both_are_forgotten(log: LocalPredictionLog, folder: Path) -> None:
    mask = Mask.parse({"cpf": "hash"}, "a secret")
    served = [line(n, 0, cpf=100 + n) for n in range(3)]
    write(folder, *({**one, "x": mask.apply(one["x"])} for one in served))
    told = label(4, 0, cpf="101")
    write(folder, {**told, "key": mask.apply(told["key"])}, part="labels")
    log.seal()
    assert log.rows(*EVER)["_value"].tolist()[1] == 40.0
    assert everywhere(folder, b'"cpf":101') == []
    assert log.forget("cpf", mask.hash(101)) == 1
    assert ids(log) == ["r0.0", "r2.0"]
