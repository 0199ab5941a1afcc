"""What the end-to-end tests share: the command line, `trilho up` as a process, callers, and who is still running."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from trilho.cli.app import run
from trilho.loops import ServeLoop
from trilho.project import Project

T = TypeVar("T")
MARK = "TRILHO_TEST_MARK"


def until(look: Callable[[], T], what: str, seconds: float = 60.0) -> T:
    """Look again until there is something to see."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"not in {seconds:.0f} s: {what}"
        time.sleep(0.02)


# ---- the command line ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Said:
    """What a verb said, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def next(self) -> str:
        """The command in the last line, without where it is to be run."""
        last = self.out.splitlines()[-1]
        assert last.startswith("Next: "), last
        return re.sub(r"^Next: trilho -C \S+", "trilho", last)


@dataclass(frozen=True)
class Verbs:
    """The command line in this process, on one project."""

    folder: Path

    def __call__(self, *arguments: str) -> Said:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = run(["-C", str(self.folder), *arguments])
        return Said(code, out.getvalue(), err.getvalue())


# ---- processes -------------------------------------------------------------------------------------------------


def marked(mark: str) -> dict[int, str]:
    """Give the processes that inherited a mark in their environment, with their commands."""
    needle = f"{MARK}={mark}"
    if not Path("/proc/self/environ").exists():
        listed = subprocess.run(["ps", "axeww", "-o", "pid=,command="], capture_output=True, text=True, check=True)
        pairs = (line.split(None, 1) for line in listed.stdout.splitlines() if needle in line)
        return {int(pid): command for pid, command in pairs}
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if needle.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # gone, or somebody else's
            continue
    return found


@dataclass
class Up:
    """`trilho up` on one project, as a process of its own."""

    process: subprocess.Popen[bytes]
    mark: str
    told: dict[str, Any] = field(default_factory=dict)

    @property
    def endpoint(self) -> str:
        return str(next(iter(self.told["endpoints"].values())))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(30)

    def end(self) -> int:
        """Ask it to stop; give its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def up(folder: Path, mark: str) -> Iterator[Up]:
    """Run the platform until it is told to stop or the block ends; it has said where everything answers."""
    out = folder.parent / f"{mark}.out"
    command = [sys.executable, "-m", "trilho", "-C", str(folder), "up", "--json"]
    with out.open("wb") as stdout, out.with_suffix(".err").open("wb") as stderr:
        process = subprocess.Popen(
            command, env={**os.environ, MARK: mark}, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
        )
    running = Up(process, mark)

    def told() -> str:
        assert process.poll() is None, out.with_suffix(".err").read_text()
        return out.read_text().partition("\n")[0]

    try:
        running.told = json.loads(until(told, "trilho up says where everything answers", 90))
        yield running
    finally:
        if process.poll() is None:
            running.kill()


@contextmanager
def serving(project: Project) -> Iterator[str]:
    """Serve a project in this process, as the journal wishes, until the block ends; give the endpoint's address."""
    loop, stop = ServeLoop(project), threading.Event()

    def work() -> None:
        while not stop.wait(0.02):
            loop.once()

    def ready() -> str:
        status = loop.supervisor.status()
        return status.address or "" if "ready" in status.versions.values() else ""

    loop.once()
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield until(ready, "the endpoint is ready")
    finally:
        stop.set()
        thread.join(30)
        loop.stop()


# ---- callers ---------------------------------------------------------------------------------------------------


def post(address: str, path: str, body: Any) -> tuple[int, Any]:
    """Send JSON; give the status and the JSON of the answer."""
    request = urllib.request.Request(
        f"{address}{path}", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def predict(address: str, rows: Sequence[dict[str, Any]], at_once: int = 200) -> list[tuple[str, float, int]]:
    """Ask about rows; give id, prediction and version of each."""
    found: list[tuple[str, float, int]] = []
    for start in range(0, len(rows), at_once):
        status, answer = post(address, "/predict", {"instances": rows[start : start + at_once]})
        assert status == 200, answer
        found += [(id_, p, answer["version"]) for id_, p in zip(answer["ids"], answer["predictions"], strict=True)]
    return found


def label(address: str, labels: Sequence[tuple[str, float]]) -> None:
    """Send true values by prediction id."""
    body = {"labels": [{"id": id_, "value": value} for id_, value in labels]}
    status, told = post(address, "/labels", body)
    assert (status, told["accepted"], told["refused"]) == (200, len(labels), 0)


# ---- tables ----------------------------------------------------------------------------------------------------


def query(sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Ask DuckDB about files."""
    with duckdb.connect() as connection:
        return connection.execute(sql, parameters).fetchall()


def later_rows(file: Path, target: str, since: str, before: str) -> tuple[list[dict[str, Any]], list[float]]:
    """Give the rows of a later file in a stretch of time, as a caller sends them, and what came true."""
    with duckdb.connect() as connection:
        query = f"FROM '{file}' WHERE ts >= ?::TIMESTAMP AND ts < ?::TIMESTAMP ORDER BY ts"
        found = connection.execute(query, [since, before])
        names = [column[0] for column in found.description or []]
        rows = [dict(zip(names, record, strict=True)) for record in found.fetchall()]
    values = [float(row.pop(target)) for row in rows]
    return [{**row, "ts": row["ts"].isoformat()} for row in rows], values


def change(file: Path, old: str, new: str) -> None:
    """Replace a text that is in a file exactly once."""
    text = file.read_text()
    assert text.count(old) == 1, f"{file} has {text.count(old)} times {old!r}"
    file.write_text(text.replace(old, new))
