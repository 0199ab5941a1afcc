"""A prediction log's folder and lines, written as servers and routers write them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from trilho.serve.partitions import KINDS
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
