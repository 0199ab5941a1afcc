"""What is written down: a record of the journal, and rows of the prediction log."""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from benchmarks.measure import Figure, compare, seconds
from trilho.backends.local.journal import LocalJournal
from trilho.core.records import VersionServed
from trilho.serve.segments import LocalPredictionLog

APPENDS = 50
ROWS = 200
SEAL_MS = 30.0
START = datetime(2012, 1, 1, tzinfo=UTC)
DAYS_OF_HOURS = 24


def appending(turns: int = 15) -> list[Figure]:
    """One record with its hash, beside the same text inserted by bare sqlite3 that syncs as often."""
    with tempfile.TemporaryDirectory(prefix="trilho-bench-") as folder:
        journal = LocalJournal(Path(folder, "journal.sqlite"))
        payload = VersionServed(model="bike-demand", version=1, rollout="r1", endpoint="local")
        journal.append(payload, actor="bench")
        _, text, hash_ = next(journal.rows())
        bare = sqlite3.connect(Path(folder, "bare.sqlite"), isolation_level=None)
        bare.execute("PRAGMA journal_mode = WAL")
        bare.execute("PRAGMA synchronous = FULL")
        bare.execute("CREATE TABLE records (seq INTEGER PRIMARY KEY, text TEXT NOT NULL, hash TEXT NOT NULL)")

        def insert() -> None:
            bare.execute("BEGIN IMMEDIATE")
            bare.execute("INSERT INTO records (text, hash) VALUES (?, ?)", (text, hash_))
            bare.execute("COMMIT")

        found = compare(
            "journal append", _many(lambda: journal.append(payload, actor="bench")),
            "sqlite3 insert, synchronous=FULL", _many(insert), turns=turns, scale=1000 / APPENDS,
        )  # fmt: skip
        bare.close()
        journal.close()
    return [found]


def _many(action: Callable[[], object]) -> Callable[[], float]:
    def act() -> None:
        for _ in range(APPENDS):
            action()

    return lambda: seconds(act)


def sealing(turns: int = 25) -> list[Figure]:
    """200 new rows of the prediction log, beside the same rows written by DuckDB as a Parquet file that is synced."""
    with tempfile.TemporaryDirectory(prefix="trilho-bench-") as name:
        folder, turn = Path(name), itertools.count()
        (folder / "log" / "predictions").mkdir(parents=True)
        lines = folder / "log" / "predictions" / f"v1-{os.getpid()}-1000.jsonl"
        log = LocalPredictionLog(folder / "log", "ts", "event_id")
        connection = duckdb.connect(":memory:")

        def ours() -> float:
            with lines.open("ab") as handle:
                handle.write(_lines(next(turn)))
            return seconds(log.seal)

        def theirs() -> float:
            number = next(turn)
            connection.register("batch", _columns(number))
            path = folder / f"{number}.parquet"

            def write() -> None:
                connection.execute(f"COPY (SELECT * FROM batch ORDER BY ts) TO '{path}' (FORMAT parquet)")
                handle = os.open(path, os.O_RDONLY)
                os.fsync(handle)
                os.close(handle)

            return seconds(write)

        found = compare(
            f"sealing {ROWS} rows of the log", ours, "the same Parquet by DuckDB", theirs, turns=turns, most=SEAL_MS
        )
        log.close()
        connection.close()
    return [found]


def _row(number: int) -> dict[str, Any]:
    moment = START + timedelta(hours=number)
    hour = number % DAYS_OF_HOURS
    return {"event_id": f"b{number:06d}", "ts": moment.replace(tzinfo=None).isoformat(), "temp_min_c": hour / 7,
            "temp_max_c": hour / 3, "precip_mm": hour / 11}  # fmt: skip


def _lines(turn: int) -> bytes:
    rows = range(turn * ROWS, (turn + 1) * ROWS)
    told = ({"v": 1, "id": f"r{n}.0", "t": START.isoformat(), "n": 1, "x": _row(n), "y": n / 9} for n in rows)
    return b"".join(json.dumps(line).encode() + b"\n" for line in told)


def _columns(turn: int) -> dict[str, np.ndarray[Any, Any]]:
    rows = [_row(number) | {"id": f"r{number}.0", "y": number / 9} for number in range(turn * ROWS, (turn + 1) * ROWS)]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return {name: np.array(values, object if isinstance(values[0], str) else float) for name, values in columns.items()}
