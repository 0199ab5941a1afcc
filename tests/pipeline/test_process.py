"""The keeper: steps forked where that is safe, a process a step elsewhere, and any command; nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.pipeline.processes import children, eventually, gone, numbers

from trilho.errors import StepFailed
from trilho.pipeline.workers.keeper import Ended, Keeper

PYTHON = Path(sys.executable)
MINUTE = timedelta(minutes=1)
FAMILY = "sleep 300 & echo $$ $! > pids.part; mv pids.part pids; wait"
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's part of it is Linux's")


@pytest.fixture(params=[True, False], ids=["fork", "no fork"])
def keeper(request: pytest.FixtureRequest, source: Path) -> Iterator[Keeper]:
    with Keeper(PYTHON, source, source, fork=request.param) as started:
        yield started


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Keeper]:
    with Keeper(PYTHON, folder=tmp_path, preload=()) as started:
        yield started


def asked(tmp_path: Path, name: str, **parameters: Any) -> dict[str, Any]:
    output = {"artifacts": [{"name": name, "uri": str(tmp_path / name)}]}
    numbers = {"artifacts": [{"name": "numbers", "uri": str(tmp_path / "numbers")}]}
    return {
        "inputs": {"parameterValues": parameters, "artifacts": {"numbers": numbers}},
        "outputs": {"outputFile": str(tmp_path / "output.json"), "artifacts": {name: output}},
    }


def shell(keeper: Keeper, tmp_path: Path, script: str, timeout: float | None = 60, **environment: str) -> Ended:
    return keeper.run_command(
        ["sh", "-c", script],
        environment={"PATH": os.environ["PATH"], **environment},
        folder=tmp_path,
        log=tmp_path / "log",
        timeout=None if timeout is None else timedelta(seconds=timeout),
    )


def meanwhile(call: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    told: list[object] = []

    def run() -> None:
        try:
            told.append(call())
        except StepFailed as error:
            told.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, told


def test_steps_run_with_the_code_as_it_is_now(keeper: Keeper, source: Path, tmp_path: Path) -> None:
    def double() -> list[int]:
        request = asked(tmp_path, "doubled")
        ended = keeper.run("small.steps:double", request, path=[str(source)], log=tmp_path / "log", timeout=MINUTE)
        assert ended.code == 0, (tmp_path / "log").read_text()
        found: list[int] = json.loads((tmp_path / "doubled").read_text())
        return found

    (tmp_path / "numbers").write_text("[1, 2]")
    assert double() == [2, 4]
    (source / "small" / "rules.py").write_text("def times(n):\n    return 10 * n + 1\n")
    assert double() == [11, 21]


def test_a_step_without_the_path_cannot_import_the_project(keeper: Keeper, tmp_path: Path) -> None:
    log = tmp_path / "log"
    ended = keeper.run("small.steps:double", asked(tmp_path, "doubled"), path=[], log=log, timeout=MINUTE)
    assert (ended.code, ended.said) == (1, log.read_text())
    assert log.read_text().splitlines()[-1].endswith("no module small, named by small.steps:double")


def test_an_executor_input_may_be_longer_than_an_argument_can_be(keeper: Keeper, source: Path, tmp_path: Path) -> None:
    (tmp_path / "numbers").write_text("[1]")
    request = asked(tmp_path, "doubled") | {"more": "x" * 300_000}
    ended = keeper.run("small.steps:double", request, path=[str(source)], log=tmp_path / "log", timeout=MINUTE)
    assert (ended.code, ended.said) == (0, "")


def test_a_keeper_that_is_killed_takes_its_steps_with_it_and_is_started_again(
    keeper: Keeper, source: Path, tmp_path: Path
) -> None:
    marker, log = tmp_path / "pids", tmp_path / "log"
    request = asked(tmp_path, "waited", marker=str(marker))
    waiting, told = meanwhile(
        lambda: keeper.run("small.steps:wait", request, path=[str(source)], log=log, timeout=MINUTE)
    )
    eventually(marker.exists)
    step, grandchild, parent = json.loads(marker.read_text())
    assert parent == keeper.pid
    os.kill(parent, signal.SIGKILL)
    waiting.join(20)
    assert str(told[0]) == "its interpreter ended (killed by SIGKILL, as when memory runs out)"
    eventually(lambda: gone(step, grandchild))
    (tmp_path / "numbers").write_text("[1]")
    request = asked(tmp_path, "doubled")
    ended = keeper.run("small.steps:double", request, path=[str(source)], log=log, timeout=MINUTE)
    assert ended.code == 0


@pytest.mark.parametrize("end", ["close", "stop_all"])
def test_what_runs_can_be_ended(keeper: Keeper, source: Path, tmp_path: Path, end: str) -> None:
    marker = tmp_path / "pids"
    request = asked(tmp_path, "waited", marker=str(marker))
    waiting, told = meanwhile(
        lambda: keeper.run("small.steps:wait", request, path=[str(source)], log=tmp_path / "log", timeout=MINUTE)
    )
    eventually(marker.exists)
    step, grandchild, _ = json.loads(marker.read_text())
    getattr(keeper, end)()
    waiting.join(20)
    assert isinstance(told[0], StepFailed) if end == "close" else told[0] == Ended(-9, "")
    eventually(lambda: gone(step, grandchild))


def test_a_step_that_takes_too_long_is_stopped_with_all_it_started(
    keeper: Keeper, source: Path, tmp_path: Path
) -> None:
    marker, soon = tmp_path / "pids", timedelta(seconds=1)
    request = asked(tmp_path, "waited", marker=str(marker))
    with pytest.raises(StepFailed, match="it was stopped after 0:00:01"):
        keeper.run("small.steps:wait", request, path=[str(source)], log=tmp_path / "log", timeout=soon)
    step, grandchild, _ = json.loads(marker.read_text())
    eventually(lambda: gone(step, grandchild))


def test_an_interpreter_without_the_runtime_says_so(tmp_path: Path, source: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    with Keeper(bare, source) as keeper, pytest.raises(StepFailed, match="No module named"):
        keeper.run("small.steps:make", {}, path=[], log=tmp_path / "log", timeout=MINUTE)


def test_a_command_runs_in_its_own_folder_and_environment(commands: Keeper, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    ended = shell(commands, inner, 'pwd; echo "$COLOUR" >&2; test -z "$HOME"; exit 7', COLOUR="red")
    assert ended == Ended(7, f"{inner}\nred\n")
    assert (inner / "log").read_text() == f"{inner}\nred\n"


def test_a_command_has_a_place_for_temporary_files_that_goes_with_it(commands: Keeper, tmp_path: Path) -> None:
    ended = shell(commands, tmp_path, 'echo x > "$(mktemp -d)/left"; echo "$TMPDIR"; ls "$TMPDIR"')
    folder, left = ended.said.splitlines()
    assert (ended.code, left.startswith("tmp.")) == (0, True)
    assert not Path(folder).exists()


def test_a_command_that_is_not_there_is_an_error(commands: Keeper, tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match=r"it could not start: .*nonesuch"):
        commands.run_command(["nonesuch"], environment={}, folder=tmp_path, log=tmp_path / "log", timeout=MINUTE)
    assert shell(commands, tmp_path, "exit 0").code == 0


def test_signals_that_python_ignores_reach_a_command(commands: Keeper, tmp_path: Path) -> None:
    assert shell(commands, tmp_path, "yes | head -n 1; kill -PIPE $$").code == -signal.SIGPIPE


def test_what_a_command_leaves_behind_is_killed_when_it_ends(commands: Keeper, tmp_path: Path) -> None:
    ended = shell(commands, tmp_path, "sleep 300 & echo $!")
    assert ended.code == 0
    eventually(lambda: gone(int(ended.said)))


def test_a_long_output_loses_its_middle_and_its_end_is_told(commands: Keeper, tmp_path: Path) -> None:
    ended = shell(commands, tmp_path, "seq 400000; echo the end")
    log = (tmp_path / "log").read_text()
    assert log.startswith("1\n2\n")
    assert log.endswith("400000\nthe end\n")
    assert "bytes left out ...]" in log
    assert len(log) < 1024 * 1024 + 100
    assert ended.said.endswith("400000\nthe end\n")
    assert len(ended.said) == 8192


def test_a_command_that_never_stops_printing_can_be_stopped_and_others_run_beside_it(
    commands: Keeper, tmp_path: Path
) -> None:
    waiting, told = meanwhile(
        lambda: commands.run_command(
            ["sh", "-c", "echo $$ > pids; exec yes"],
            environment={"PATH": os.environ["PATH"]},
            folder=tmp_path,
            log=tmp_path / "yes",
            timeout=timedelta(seconds=2),
        )
    )
    (pid,) = numbers(tmp_path / "pids", 1)
    assert shell(commands, tmp_path, "echo beside").said == "beside\n"
    waiting.join(20)
    assert str(told[0]).startswith("it was stopped after 0:00:02")
    assert gone(pid)


def test_a_keeper_that_is_killed_takes_commands_and_what_they_started_with_it(commands: Keeper, tmp_path: Path) -> None:
    waiting, told = meanwhile(lambda: shell(commands, tmp_path, FAMILY))
    pids = numbers(tmp_path / "pids", 2)
    assert commands.pid is not None
    guards = children(commands.pid)
    os.kill(commands.pid, signal.SIGKILL)
    waiting.join(20)
    assert isinstance(told[0], StepFailed)
    eventually(lambda: gone(*pids, *guards))


@linux
def test_what_a_keeper_and_its_guard_killed_at_once_leave_is_the_kernels(commands: Keeper, tmp_path: Path) -> None:
    waiting, _ = meanwhile(lambda: shell(commands, tmp_path, "echo $$ > pids; exec sleep 300"))
    (pid,) = numbers(tmp_path / "pids", 1)
    assert commands.pid is not None
    (guard,) = [child for child in children(commands.pid) if child != pid]
    os.kill(guard, signal.SIGKILL)
    os.kill(commands.pid, signal.SIGKILL)
    eventually(lambda: gone(pid))
    waiting.join(20)


@linux
def test_a_guard_that_is_killed_is_replaced_and_knows_what_runs(commands: Keeper, tmp_path: Path) -> None:
    waiting, _ = meanwhile(lambda: shell(commands, tmp_path, FAMILY))
    pids = numbers(tmp_path / "pids", 2)
    keeper = commands.pid
    assert keeper is not None
    (guard,) = [child for child in children(keeper) if child not in pids]
    os.kill(guard, signal.SIGKILL)
    eventually(lambda: len([child for child in children(keeper) if child not in (*pids, guard)]) == 1)
    os.kill(keeper, signal.SIGKILL)
    eventually(lambda: gone(*pids))
    waiting.join(20)


RUNNER = """
import os, sys, threading
from pathlib import Path
from trilho.pipeline.workers.keeper import Keeper

source, folder = Path(sys.argv[1]), Path(sys.argv[2])
steps, commands = Keeper(Path(sys.executable), source, source), Keeper(Path(sys.executable), folder=folder, preload=())
request = {
    "inputs": {"parameterValues": {"marker": str(folder / "step")},
               "artifacts": {"numbers": {"artifacts": [{"name": "numbers", "uri": "none"}]}}},
    "outputs": {"outputFile": str(folder / "o"), "artifacts": {"waited": {"artifacts": [{"uri": str(folder / "w")}]}}},
}
run = lambda: steps.run("small.steps:wait", request, path=[str(source)], log=folder / "log")
threading.Thread(target=run, daemon=True).start()
commands.run_command(["sh", "-c", sys.argv[3]], environment=dict(os.environ), folder=folder, log=folder / "log2")
"""


def test_a_runner_that_is_killed_leaves_nothing_running(source: Path, tmp_path: Path) -> None:
    runner = subprocess.Popen([sys.executable, "-c", RUNNER, str(source), str(tmp_path), FAMILY])
    command = numbers(tmp_path / "pids", 2)
    eventually((tmp_path / "step").exists)
    step = json.loads((tmp_path / "step").read_text())
    keepers = children(runner.pid)
    guards = [child for keeper in keepers for child in children(keeper)]
    assert step[2] in keepers
    runner.kill()
    runner.wait()
    eventually(lambda: gone(*command, *step, *keepers, *guards))
