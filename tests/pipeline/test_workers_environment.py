"""Components of the SDK with their pip preamble, for real: pip is given wheels that were built here, and no index."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.pipeline import sdk_installing as sdk
from tests.pipeline.executing import PYTHON, Bench, states
from tests.pipeline.processes import eventually, gone, numbers
from tests.pipeline.wheels import installed_wheel, tiny_wheel

from trilho.errors import StepFailed
from trilho.pipeline.places import Place, Places
from trilho.pipeline.workers.environment import Environments
from trilho.pipeline.workers.workers import Leaf, Workers


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    tiny_wheel(folder)
    installed_wheel(folder, "kfp")
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def _only_these(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))


@pytest.fixture
def run(home: Path, tmp_path: Path) -> Bench:
    bench = Bench(home, tmp_path)
    bench.count = len(list(home.glob("runs/*")))
    return bench


def made(home: Path) -> list[Path]:
    return [path for path in (home / "environments").glob("*") if (path / "pyvenv.cfg").exists()]


def test_what_components_ask_pip_for_is_installed_once_for_all(run: Bench, home: Path) -> None:
    said: list[str] = []
    with Workers(run.places, home, say=said.append) as workers:
        result = run(sdk.installing, workers=workers)
    assert result.error is None, result.error
    (environment,) = made(home)
    assert result.outputs == {"Output": f"1.0 {environment}" * 2 + "1.0"}
    assert [line.partition(" in ")[0] for line in said] == [
        "installing tiny==1.0, kfp==2.17.0, typing-extensions>=3.7.4,<5 into an environment of its own, once",
        "installed tiny==1.0, kfp==2.17.0, typing-extensions>=3.7.4,<5",
    ]
    assert "Successfully installed" in environment.with_suffix(".log").read_text()
    with Workers(run.places, home) as workers:
        assert set(states(run(sdk.installing, workers=workers)).values()) == {"cached"}
        fresh = run(sdk.installing, workers=workers, cache=False)
    assert set(states(fresh).values()) == {"ran"}
    assert made(home) == [environment]


def test_what_pip_cannot_install_is_a_task_that_failed(run: Bench, home: Path) -> None:
    before = made(home)
    with Workers(run.places, home) as workers:
        result = run(sdk.failing, workers=workers)
    assert result.error is not None
    assert result.error.fact.startswith("step impossible failed: pip could not install tiny==9.9: ")
    assert "No matching distribution found for tiny==9.9" in result.error.fact
    assert "\n" not in result.error.fact
    assert "--no-install" in str(result.error.hint)
    assert made(home) == before


def test_without_installation_an_interpreter_that_has_the_sdk_is_taken(run: Bench, home: Path) -> None:
    places = Places(python=PYTHON, source=None, folder=run.folder, platform=PYTHON, install=False)
    with Workers(places, home) as workers:
        result = run(sdk.plain, workers=workers, places=places)
    assert result.outputs == {"Output": sys.prefix}


def test_where_pip_cannot_install_what_is_here_already_serves(
    run: Bench, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> Path:
        raise StepFailed("pip could not install kfp==2.17.0: no route to host")

    monkeypatch.setattr(Environments, "make", unreachable)
    said: list[str] = []
    with Workers(run.places, home, say=said.append) as workers:
        result = run(sdk.plain, workers=workers, cache=False)
    assert result.outputs == {"Output": sys.prefix}
    assert said == [f"pip could not install kfp==2.17.0; {PYTHON} has it already"]


def test_an_environment_for_an_image_sees_what_the_image_has(home: Path, run: Bench, project_python: Path) -> None:
    place = Place(project_python)
    places = Places(python=PYTHON, source=None, folder=run.folder, platform=PYTHON, images={"shop": place})
    script = 'python3 -m pip install \'tiny==1.0\' && "$0" "$@"'
    look = "import tiny, pandas, sys; print(tiny.version(), sys.prefix)"
    with Workers(places, home) as workers:
        ended = workers.run(leaf(run.folder, ["sh", "-c", script, "python", "-c", look], image="shop:1"))
    assert ended.code == 0, ended.said
    assert ended.said.startswith(f"1.0 {home / 'environments'}")


def test_a_command_that_calls_pip_itself_has_an_environment_to_itself(home: Path, run: Bench) -> None:
    before = made(home)
    script = "pip install -q tiny > out && python3 -c 'import tiny, sys; print(tiny.version(), sys.prefix)'"
    with Workers(run.places, home) as workers:
        ended = workers.run(leaf(run.folder, ["sh", "-c", script]))
    assert ended.code == 0, ended.said
    assert ended.said == f"1.0 {run.folder / 'scratch' / 'environment'}\n"
    assert made(home) == before


def leaf(folder: Path, command: list[str], **more: Any) -> Leaf:
    (folder / "scratch").mkdir(exist_ok=True)
    request = {"outputs": {"outputFile": str(folder / "output.json")}}
    given = {"name": "t", "image": "python:3.11", **more}
    return Leaf(command=command, request=request, log=folder / "t.log", scratch=folder / "scratch", **given)


RUNNER = """
import sys
from pathlib import Path
from trilho.errors import StepFailed
from trilho.pipeline.workers.environment import Environments
from trilho.pipeline.places import Places
from trilho.pipeline.workers.workers import Leaf, Workers

folder, python = Path(sys.argv[1]), Path(sys.executable)
places = Places(python=folder / "slow", source=None, folder=folder, platform=python)
Workers(places, folder / "home").run(Leaf(
    name="t", image="x", command=["sh", "-c", "pip install tiny && \\"$0\\" \\"$@\\"", "true"],
    request={}, log=folder / "log", scratch=folder))
"""


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """An interpreter that takes its time to make an environment."""
    place = tmp_path / "slow"
    place.write_text(f'#!/bin/sh\nmkdir -p "$3/bin"\nsleep 300 & echo $$ $! > "{tmp_path}/pids"\nwait\n')
    place.chmod(0o755)
    return place


def test_a_runner_that_is_killed_while_pip_works_leaves_nothing_running(slow: Path, tmp_path: Path) -> None:
    runner = subprocess.Popen([sys.executable, "-c", RUNNER, str(tmp_path)])
    pids = numbers(tmp_path / "pids", 2)
    os.kill(runner.pid, signal.SIGKILL)
    runner.wait()
    eventually(lambda: gone(*pids))
    (half,) = (tmp_path / "home" / "environments").glob("*/bin")
    assert not (half.parent / "ready.json").exists()
