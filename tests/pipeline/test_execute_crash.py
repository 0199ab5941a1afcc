"""Killed at any write, or run twice at once: the next run completes with the right results."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.pipeline.executing import Bench, document, leaves, states

from trilho.pipeline.keeping.runs import RunFolder
from trilho.pipeline.workers.workers import Ended, Leaf

NEVER = {"cachingOptions": {"enableCache": False}}
PIPELINE = document(
    {
        "make": {"takes": {"n": 2}, "values": {"n": "NUMBER_INTEGER"}, "makes": ["data", "more"]},
        "double": {"takes": {"data": "=make.data"}, "makes": ["data"]},
        "send": {"takes": {"n": "make.n"}, "values": {"n": "NUMBER_INTEGER"}, **NEVER},
        "total": {"takes": {"data": "=double.data", "n": "send.n"}, "values": {"sum": "NUMBER_INTEGER"}},
    }
)


def bench(folder: Path, pause: float = 0.0) -> Bench:
    made = Bench(folder / "home", folder)

    def read(leaf: Leaf) -> int:
        time.sleep(pause)
        return int(Path(leaf.request["inputs"]["artifacts"]["data"]["artifacts"][0]["uri"]).read_text())

    def make(leaf: Leaf) -> Ended:
        folder = Path(leaf.request["outputs"]["artifacts"]["more"]["artifacts"][0]["uri"])
        folder.mkdir()
        (folder / "part").write_text("whole")
        return leaves({"n": 5}, {"data": "21"})(leaf)

    made.workers.fake = {
        "make": make,
        "double": lambda leaf: leaves({}, {"data": str(2 * read(leaf))})(leaf),
        "send": leaves({"n": 1}),
        "total": lambda leaf: leaves({"sum": read(leaf)})(leaf),
    }
    return made


def in_child(work: Callable[[], None]) -> int:
    """Do something in a process of its own and give how that ended, negative for a signal."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(70)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def dying(at: int, first: bool) -> None:
    """Let this process be killed at its write with this number, before or after it."""
    count = 0

    def hooked(write: Callable[..., Any]) -> Callable[..., Any]:
        def hook(*given: Any, **named: Any) -> Any:
            nonlocal count
            count += 1
            now = count == at
            if now and first:
                os.kill(os.getpid(), signal.SIGKILL)
            done = write(*given, **named)
            if now:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        return hook

    for name in ("write_bytes", "replace", "rename"):
        setattr(Path, name, hooked(getattr(Path, name)))
    setattr(shutil, "copyfile", hooked(shutil.copyfile))  # noqa: B010  the store's, under the name it calls


def check_whole(home: Path) -> None:
    """Every manifest that is there is whole, and so is everything that it names."""
    for path in (home / "cache").glob("[0-9a-f]*.json"):
        for digest in json.loads(path.read_text())["outputs"].values():
            assert (home / "store" / digest[:2] / digest).exists()
    for path in home.glob("runs/*/run.json"):
        assert json.loads(path.read_text())["schema"] == 1


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_killed_at_any_write_the_next_run_completes(tmp_path: Path, first: bool) -> None:
    for at in range(1, 100):
        folder = tmp_path / str(at)
        folder.mkdir()

        def work(folder: Path = folder, at: int = at) -> None:
            run = bench(folder)
            dying(at, first)
            run(PIPELINE, run_id="killed")

        ended = in_child(work)
        check_whole(folder / "home")
        killed = RunFolder.of(folder / "home", "killed")
        assert not killed.is_held()
        done = {task["name"] for task in killed.settle("it was killed")["tasks"]}
        again = bench(folder)
        result = again(PIPELINE, resume="killed")
        assert result.state == "succeeded"
        assert result.values["total.sum"] == 42
        assert again.store.damaged() == []
        assert all(states(result)[name] == "cached" for name in done)
        assert set(states(again(PIPELINE)).values()) <= {"cached", "ran"}
        assert again.workers.calls["total"] <= 1
        if ended == 0:
            assert at > 15
            return
        assert ended == -signal.SIGKILL
    pytest.fail("it never came to the end")


def test_killed_at_random_moments_over_and_over_it_completes_in_the_end(tmp_path: Path) -> None:
    moments = random.Random(20240601)
    for turn in range(8):
        at, first = moments.randrange(1, 24), moments.random() < 0.5

        def work(at: int = at, first: bool = first, turn: int = turn) -> None:
            run = bench(tmp_path)
            dying(at, first)
            run(PIPELINE, run_id=f"k{turn}")

        in_child(work)
        check_whole(tmp_path / "home")
    result = bench(tmp_path)(PIPELINE, run_id="last")
    assert result.values["total.sum"] == 42


def test_two_runs_at_once_do_the_same_and_hurt_nobody(tmp_path: Path) -> None:
    children = []
    for index in range(4):
        pid = os.fork()
        if pid == 0:
            try:
                result = bench(tmp_path, pause=0.02)(PIPELINE, run_id=f"r{index}")
                os._exit(0 if result.values["total.sum"] == 42 else 1)
            finally:
                os._exit(70)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0, 0, 0]
    check_whole(tmp_path / "home")
    again = bench(tmp_path)
    assert states(again(PIPELINE, run_id="last")) == {
        "make": "cached", "double": "cached", "send": "ran", "total": "cached",
    }  # fmt: skip
    assert again.store.damaged() == []
    assert not list((tmp_path / "home").rglob("*.part"))
