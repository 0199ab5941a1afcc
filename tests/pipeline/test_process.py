"""The warm interpreter: forked where that is safe, a process a step elsewhere; nothing is left behind either way."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from trilho.errors import StepFailed
from trilho.pipeline.process import StepServer

MINUTE = timedelta(minutes=1)


@pytest.fixture(params=[True, False], ids=["fork", "no fork"])
def server(request: pytest.FixtureRequest, source: Path) -> Iterator[StepServer]:
    with StepServer(Path(sys.executable), source, source, fork=request.param) as started:
        yield started


def asked(tmp_path: Path, name: str, **parameters: Any) -> dict[str, Any]:
    output = {"artifacts": [{"name": name, "uri": str(tmp_path / name)}]}
    numbers = {"artifacts": [{"name": "numbers", "uri": str(tmp_path / "numbers")}]}
    return {
        "inputs": {"parameterValues": parameters, "artifacts": {"numbers": numbers}},
        "outputs": {"outputFile": str(tmp_path / "output.json"), "artifacts": {name: output}},
    }


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not become true in time"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_steps_run_with_the_code_as_it_is_now(server: StepServer, source: Path, tmp_path: Path) -> None:
    def double() -> list[int]:
        request = asked(tmp_path, "doubled")
        code, _ = server.run("small.steps:double", request, path=[str(source)], log=tmp_path / "log", timeout=MINUTE)
        assert code == 0, (tmp_path / "log").read_text()
        found: list[int] = json.loads((tmp_path / "doubled").read_text())
        return found

    (tmp_path / "numbers").write_text("[1, 2]")
    assert double() == [2, 4]
    (source / "small" / "rules.py").write_text("def times(n):\n    return 10 * n + 1\n")
    assert double() == [11, 21]


def test_a_step_without_the_path_cannot_import_the_project(server: StepServer, tmp_path: Path) -> None:
    log = tmp_path / "log"
    code, said = server.run("small.steps:double", asked(tmp_path, "doubled"), path=[], log=log, timeout=MINUTE)
    assert (code, said) == (1, log.read_text())
    assert log.read_text().splitlines()[-1].endswith("no module small, named by small.steps:double")


def test_a_server_that_is_killed_takes_its_steps_with_it_and_is_started_again(
    server: StepServer, source: Path, tmp_path: Path
) -> None:
    marker, caught = tmp_path / "pids", list[BaseException]()
    request = asked(tmp_path, "waited", marker=str(marker))

    def wait() -> None:
        try:
            server.run("small.steps:wait", request, path=[str(source)], log=tmp_path / "log", timeout=MINUTE)
        except StepFailed as error:
            caught.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    eventually(marker.exists)
    step, grandchild, parent = json.loads(marker.read_text())
    os.kill(parent, signal.SIGKILL)
    waiting.join(20)
    assert "the project's interpreter ended (killed by SIGKILL" in str(caught[0])
    eventually(lambda: gone(step) and gone(grandchild))
    (tmp_path / "numbers").write_text("[1]")
    request = asked(tmp_path, "doubled")
    ended = server.run("small.steps:double", request, path=[str(source)], log=tmp_path / "log", timeout=MINUTE)
    assert ended.code == 0


def test_closing_ends_what_runs(server: StepServer, source: Path, tmp_path: Path) -> None:
    marker, ended = tmp_path / "pids", threading.Event()
    request = asked(tmp_path, "waited", marker=str(marker))

    def wait() -> None:
        with pytest.raises(StepFailed):
            server.run("small.steps:wait", request, path=[str(source)], log=tmp_path / "log", timeout=MINUTE)
        ended.set()

    threading.Thread(target=wait).start()
    eventually(marker.exists)
    pids = json.loads(marker.read_text())
    server.close()
    assert ended.wait(20)
    eventually(lambda: all(gone(pid) for pid in pids))


def test_an_interpreter_without_the_runtime_says_so(tmp_path: Path, source: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    with StepServer(bare, source) as server, pytest.raises(StepFailed, match="No module named"):
        server.run("small.steps:make", {}, path=[], log=tmp_path / "log", timeout=MINUTE)
