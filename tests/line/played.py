"""`trilho demo` on a copy of the examples, watched from outside: its JSON, its home, its processes."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.conftest import EXAMPLES, copy_example
from tests.line.rig import MARK, marked, query

from trilho.project import Project

MODELS = {"bike-demand": "rides", "flight-delay": "late_departure"}
LONGEST_SECONDS = 400.0


class Answered(NamedTuple):
    """One row that the endpoint answered."""

    id: str
    time: float
    version: int
    prediction: float
    value: float | None


@dataclass
class Played:
    """A demo that has ended."""

    examples: Path
    home: Path
    code: int
    out: str
    err: str
    seen: dict[int, str] = field(default_factory=dict)  # the processes that it had while it ran
    left: dict[int, str] = field(default_factory=dict)  # and those that were there when it had ended

    def project(self, model: str) -> Project:
        project = Project.open(self.examples / model)
        return Project(project.folder, project.settings, self.home)

    def answered(self, model: str, since: str, before: str) -> list[Answered]:
        """Give what the endpoint's log has of a stretch of event time."""
        query = (
            "SELECT id, time, version, prediction, value FROM predictions LEFT JOIN labels USING (row) "
            "WHERE time >= unixepoch(?) AND time < unixepoch(?) ORDER BY time"
        )
        with closing(sqlite3.connect(self.home / "log" / model / "log.sqlite")) as connection:
            return [Answered(*row) for row in connection.execute(query, (since, before))]


def empty_examples(folder: Path) -> Path:
    """Copy the examples without what they are played with."""
    for model in MODELS:
        copy_example(model, folder)
        for file in (folder / model / "later").glob("*.parquet"):
            file.unlink()
    return folder


def cut(examples: Path, model: str, period: str, since: str, before: str) -> None:
    """Take a stretch of a later period into a copy of an example."""
    source, to = EXAMPLES / model / "later" / f"{period}.parquet", examples / model / "later" / f"{period}.parquet"
    query(f"COPY (FROM '{source}' WHERE ts >= TIMESTAMP '{since}' AND ts < TIMESTAMP '{before}') TO '{to}'")


def play(examples: Path, home: Path, python: Path) -> Played:
    """Run the demo as a person would from a script, to its end, and watch its processes."""
    command = [sys.executable, "-m", "trilho", "demo", "--json", "--no-console", "--examples", str(examples), "--home",
               str(home)]  # fmt: skip
    mark = f"demo-{os.getpid()}-{time.time_ns()}"
    out, err = examples / "demo.out", examples / "demo.err"
    seen: dict[int, str] = {}
    with out.open("wb") as stdout, err.open("wb") as stderr:
        environment = {**os.environ, "TRILHO_PYTHON": str(python), MARK: mark}
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)
        try:
            deadline = time.monotonic() + LONGEST_SECONDS
            while process.poll() is None:
                seen.update(marked(mark))
                assert time.monotonic() < deadline, err.read_text()
                time.sleep(0.25)
        finally:
            process.kill()
            process.wait()
    left = marked(mark)
    return Played(examples, home, process.returncode, out.read_text(), err.read_text(), seen, left)
