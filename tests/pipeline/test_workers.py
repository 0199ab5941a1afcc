"""Where a leaf runs: warm, by its command, in which folder and with which Python; and what becomes of its end."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.pipeline.processes import eventually, gone, numbers

from trilho.errors import StepFailed
from trilho.pipeline.places import Place, Places
from trilho.pipeline.workers.workers import Leaf, Workers

PYTHON = Path(sys.executable)
STEPS = """
import json, os, sys, time
from pathlib import Path
from trilho_runtime.step import In, Out, step

@step
def look(seconds: float = 0.0) -> str:
    time.sleep(seconds)
    told = {name: os.environ.get(name) for name in ("TRILHO_VERSION", "COLOUR", "MODE")}
    return json.dumps([os.getppid(), os.getcwd(), sys.executable, told])

@step
def fail() -> None:
    raise ValueError("no such luck")
"""
Make = Callable[..., Leaf]


@pytest.fixture
def places(tmp_path: Path) -> Places:
    source = tmp_path / "project" / "src"
    (source / "small").mkdir(parents=True)
    (source / "small" / "__init__.py").write_text("")
    (source / "small" / "steps.py").write_text(STEPS)
    return Places(python=PYTHON, source=source, folder=source.parent, platform=PYTHON)


@pytest.fixture
def workers(places: Places, tmp_path: Path) -> Iterator[Workers]:
    with Workers(places, tmp_path / "home") as made:
        yield made


@pytest.fixture
def leaf(tmp_path: Path) -> Make:
    def make(*command: str, image: str = "img", **more: Any) -> Leaf:
        scratch = tmp_path / "scratch"
        scratch.mkdir(exist_ok=True)
        given = {"name": "t", "request": {}, "log": tmp_path / "t.log", "scratch": scratch, **more}
        return Leaf(image=image, command=command, **given)

    return make


def step(leaf: Make, tmp_path: Path, name: str, *options: str, **more: Any) -> Leaf:
    request = {
        "inputs": {"parameterValues": more.pop("parameters", {})},
        "outputs": {"outputFile": str(tmp_path / "output.json")},
    }
    args = ["--executor-input", json.dumps(request), *options]
    return leaf("python", "-m", "trilho_runtime.step", name, args=args, request=request, **more)


def looked(tmp_path: Path) -> list[Any]:
    found = json.loads((tmp_path / "output.json").read_text())
    return list(json.loads(found["parameterValues"]["output"]))


def test_steps_of_ours_share_a_warm_interpreter(workers: Workers, places: Places, leaf: Make, tmp_path: Path) -> None:
    parents = set()
    for version in ("1", "2"):
        code = {"TRILHO_CODE": "small.steps:look", "TRILHO_VERSION": version}
        assert workers.run(step(leaf, tmp_path, "small.steps:look", env=code)).code == 0
        parent, folder, python, told = looked(tmp_path)
        assert (folder, python) == (str(places.folder), str(PYTHON))
        assert told["TRILHO_VERSION"] == version
        parents.add(parent)
    assert len(parents) == 1


def test_a_step_with_settings_of_its_own_has_a_process_that_starts_with_them(
    workers: Workers, leaf: Make, tmp_path: Path
) -> None:
    ended = workers.run(step(leaf, tmp_path, "small.steps:look", env={"COLOUR": "red"}))
    assert ended.code == 0, ended.said
    assert looked(tmp_path)[3]["COLOUR"] == "red"


def test_a_step_may_run_by_its_command_as_in_a_container(places: Places, leaf: Make, tmp_path: Path) -> None:
    by_command = replace(places, direct=False, environment={"MODE": "whole"})
    with Workers(by_command, tmp_path / "home") as workers:
        asked = step(leaf, tmp_path, "small.steps:look", "--root", "{{$.pipeline_root}}")
        ended = workers.run(asked)
    assert ended.code == 0, ended.said
    assert looked(tmp_path)[3]["MODE"] == "whole"


def test_a_step_that_fails_tells_why_and_what_kind(workers: Workers, leaf: Make, tmp_path: Path) -> None:
    ended = workers.run(step(leaf, tmp_path, "small.steps:fail"))
    assert ended.code == 1
    assert ended.said.splitlines()[-1] == "step small.steps:fail failed: ValueError: no such luck"
    assert ended.error is not None
    assert (ended.error["kind"], ended.error["fact"]) == ("ValueError", "ValueError: no such luck")


def test_the_shorter_of_two_timeouts_counts(workers: Workers, leaf: Make, tmp_path: Path) -> None:
    asked = step(leaf, tmp_path, "small.steps:look", "--timeout", "0.3", parameters={"seconds": 60.0}, timeout=60)
    with pytest.raises(StepFailed, match=r"it was stopped after 0:00:00\.3"):
        workers.run(asked)


def test_steps_of_the_platform_run_in_its_own_interpreter(
    places: Places, leaf: Make, tmp_path: Path, project_python: Path
) -> None:
    apart = replace(places, python=project_python)
    with Workers(apart, tmp_path / "home") as workers:
        ended = workers.run(step(leaf, tmp_path, "trilho.train.steps:nonesuch"))
        assert ended.said.splitlines()[-1].endswith("no function nonesuch in trilho.train.steps")
        assert workers.run(step(leaf, tmp_path, "small.steps:look")).code == 0
    assert looked(tmp_path)[2] == str(project_python)


def test_a_command_runs_apart_from_the_project_unless_it_names_a_file_of_it(
    workers: Workers, places: Places, leaf: Make, tmp_path: Path
) -> None:
    assert workers.run(leaf("sh", "-c", "pwd; touch here")).said == f"{tmp_path / 'scratch' / 'folder'}\n"
    assert not (places.folder / "here").exists()
    (places.folder / "job.sh").write_text("pwd; echo $1 $COLOUR")
    ended = workers.run(leaf("sh", "job.sh", args=["two words"], env={"COLOUR": "red"}))
    assert ended.said == f"{places.folder}\ntwo words red\n"


def test_what_stands_for_an_image_comes_first(places: Places, leaf: Make, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("python3.99", "hello"):
        (tools / name).write_text('#!/bin/sh\necho "$0" "$@"\n')
        (tools / name).chmod(0o755)
    known = replace(places, images={"eu/shop": Place(tools / "python3.99")})
    with Workers(known, tmp_path / "home") as workers:
        for command in (["python", "-V"], ["sh", "-c", "python -V"], ["sh", "-c", "python3 -V"]):
            said = workers.run(leaf(*command, image="eu/shop:1")).said
            assert said == f"{tools / 'python3.99'} -V\n", command
        assert workers.run(leaf("hello", image="eu/shop:1")).said == f"{tools / 'hello'}\n"
        with pytest.raises(StepFailed, match="it could not start"):
            workers.run(leaf("hello", image="us/shop:1"))


def test_python_is_found_where_there_is_only_python3(
    workers: Workers, leaf: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").write_text('#!/bin/sh\necho three "$@"\n')
    (tmp_path / "bin" / "python3").chmod(0o755)
    (tmp_path / "bin" / "sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert workers.run(leaf("python", "-V")).said == "three -V\n"
    assert workers.run(leaf("sh", "-c", "python x")).said == "three x\n"


def test_pip_may_not_touch_an_interpreter_that_is_no_environment(workers: Workers, leaf: Make) -> None:
    assert workers.run(leaf("sh", "-c", "echo $PIP_REQUIRE_VIRTUALENV")).said == "1\n"


def test_stopping_ends_all_that_runs_and_the_next_runs_again(workers: Workers, leaf: Make, tmp_path: Path) -> None:
    ended: list[Any] = []
    script = f"sleep 300 & echo $$ $! > {tmp_path / 'pids'}; wait"
    running = threading.Thread(target=lambda: ended.append(workers.run(leaf("sh", "-c", script))))
    running.start()
    pids = numbers(tmp_path / "pids", 2)
    workers.stop_all()
    running.join(20)
    assert ended[0].code == -9
    eventually(lambda: gone(*pids))
    assert workers.run(leaf("true")).code == 0


def test_nothing_starts_before_it_is_needed(places: Places, tmp_path: Path) -> None:
    never = replace(places, python=Path("/nonexistent/python"), platform=Path("/nonexistent/platform"))
    with Workers(never, tmp_path / "home") as workers:
        workers.stop_all()
    assert not (tmp_path / "home").exists()
