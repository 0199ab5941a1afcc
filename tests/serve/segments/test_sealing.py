"""Sealing and merging while others write, read, are killed, find the disk full or a file damaged."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.serve.segments.written import START, Served, assert_only_listed, files, label, minute, prediction

from trilho.errors import DataError
from trilho.serve import compaction, sealing
from trilho.serve.sealing import Sealer
from trilho.serve.segments import LocalPredictionLog


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
