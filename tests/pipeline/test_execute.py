"""Running a graph: order, cache, failure, resume, two at once."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from trilho.backends.local.store import LocalStore
from trilho.core.records import TaskResult
from trilho.errors import Refused, StepFailed
from trilho.pipeline.execute import RunResult, Stopped, execute
from trilho.pipeline.graph import Graph, Task, Value, Work, versioned
from trilho.pipeline.process import StepServer
from trilho.pipeline.runs import RunFolder


@versioned(1)
def add_one(work: Work) -> None:
    numbers = json.loads(work.inputs["numbers"].read_text())
    work.outputs["more"].write_text(json.dumps([n + 1 for n in numbers]))
    work.values["count"] = len(numbers)
    work.say(f"{len(numbers)} numbers")


def project(name: str, call: str, outputs: tuple[str, ...], **inputs: str) -> Task:
    reference = f"small.steps:{call}"
    return Task(name, "project", reference, inputs=inputs, outputs=outputs, code=(reference,))


def make(upto: Any = 4) -> Task:
    call = "small.steps:make"
    return Task("make", "project", call, parameters={"upto": upto}, outputs=("numbers",), code=(call,))


def diamond(upto: int = 4) -> Graph:
    return Graph(
        "diamond",
        (
            make(upto),
            project("double", "double", ("doubled",), numbers="make.numbers"),
            Task("more", "platform", add_one, inputs={"numbers": "make.numbers"}, outputs=("more",)),
            project("total", "total", ("total",), left="double.doubled", right="more.more"),
        ),
    )


class Runner:
    """Runs graphs with a warm server and remembers what was told."""

    def __init__(self, home: Path, store: LocalStore, source: Path, steps: StepServer) -> None:
        self.home, self.store, self.source, self.steps = home, store, source, steps
        self.told: list[TaskResult] = []
        self.count = 0

    def __call__(self, graph: Graph, timeout: float = 60) -> RunResult:
        self.told, self.count = [], self.count + 1
        return execute(
            graph,
            run_id=f"r{self.count}",
            home=self.home,
            store=self.store,
            python=Path(sys.executable),
            source=self.source,
            timeout=timedelta(seconds=timeout),
            on_task=self.told.append,
            steps=self.steps,
        )

    @property
    def states(self) -> dict[str, str]:
        return {task["name"]: task["state"] for task in self.told}

    @property
    def ran(self) -> list[str]:
        place = Path(os.environ["SMALL_RAN"])
        return place.read_text().split() if place.exists() else []


@pytest.fixture
def run(home: Path, store: LocalStore, source: Path, steps: StepServer) -> Runner:
    return Runner(home, store, source, steps)


def test_a_graph_runs_through_both_interpreters(run: Runner, home: Path) -> None:
    result = run(diamond())
    assert result.state == "succeeded"
    assert result.values == {"make.upto": 4, "more.count": 4, "total.total": 12 + 10}
    assert run.store.path(result.outputs["total.total"]).read_text() == "22"
    assert [task["name"] for task in result.tasks] == ["make", "double", "more", "total"]
    assert result.tasks[3]["needs"] == ["double", "more"]
    assert RunFolder.of(home, "r1").log("make").read_text() == "making 4\n"
    assert RunFolder.of(home, "r1").log("more").read_text() == "4 numbers\n"
    manifest = RunFolder.of(home, "r1").read()
    assert manifest is not None
    assert (manifest["state"], len(manifest["tasks"])) == ("succeeded", 4)
    assert not (home / "runs" / "r1" / "work").exists()


def test_an_unchanged_run_starts_no_process_and_imports_nothing(home: Path, store: LocalStore, source: Path) -> None:
    with StepServer(Path(sys.executable), source, source) as first:
        Runner(home, store, source, first)(diamond())
    never = StepServer(Path("/nonexistent/python"), source, source)
    again = Runner(home, store, source, never)
    assert again(diamond()).values["total.total"] == 22
    assert set(again.states.values()) == {"cached"}
    assert again.told[0]["reason"] == "unchanged since r1"


def test_only_what_changed_runs_again(run: Runner, source: Path) -> None:
    run(diamond())
    rules = source / "small" / "rules.py"
    rules.write_text("# a comment\n" + rules.read_text())
    run(diamond())
    assert set(run.states.values()) == {"cached"}
    rules.write_text("def times(n):\n    return 3 * n\n")
    result = run(diamond())
    assert run.states == {"make": "ran", "double": "ran", "more": "cached", "total": "ran"}
    assert result.values["total.total"] == 18 + 10


def test_an_artifact_that_is_gone_is_made_again(run: Runner) -> None:
    result = run(diamond())
    run.store.path(result.outputs["double.doubled"]).unlink()
    run(diamond())
    assert run.states == {"make": "cached", "double": "ran", "more": "cached", "total": "cached"}


def test_an_output_that_a_run_found_finished_is_not_collected_beneath_it(run: Runner) -> None:
    first = run(diamond())
    for digest in first.outputs.values():
        os.utime(run.store.path(digest), (time.time() - 7200, time.time() - 7200))
    assert len(run.store.gc(set(), dry_run=True, spare=timedelta(hours=1))) == len(set(first.outputs.values()))
    run(diamond())
    assert run.states == dict.fromkeys(("make", "double", "more", "total"), "cached")
    assert run.store.gc(set(), dry_run=True, spare=timedelta(hours=1)) == []


def test_a_damaged_cache_entry_is_no_cache_entry(run: Runner, home: Path) -> None:
    run(diamond())
    for kept in (home / "cache").glob("[0-9a-f]*.json"):
        kept.write_text("{")
    run(diamond())
    assert set(run.states.values()) == {"ran"}


def test_a_failing_step_stops_what_needs_it_and_the_next_run_goes_on_there(run: Runner, home: Path) -> None:
    boom = project("boom", "boom", ("never",), numbers="make.numbers")
    after = project("after", "double", ("doubled",), numbers="boom.never")
    graph = Graph("g", (make(), boom, after, *diamond().tasks[1:]))
    result = run(graph)
    assert result.state == "failed"
    assert run.states["total"] == "ran"
    assert (run.states["boom"], run.states["after"]) == ("failed", "skipped")
    assert run.told[-1]["reason"] != "" if run.told[-1]["name"] == "after" else True
    assert isinstance(result.error, StepFailed)
    lines = result.error.fact.splitlines()
    assert lines[0] == "step boom failed: ValueError: no such luck"
    assert lines[1] == "Traceback (most recent call last):"
    assert "trilho_runtime" not in lines[2]
    assert result.error.hint == "trilho runs logs r1 boom"
    manifest = RunFolder.of(home, "r1").read()
    assert manifest is not None
    assert (manifest["state"], manifest["error"]) == ("failed", lines[0])
    before = list(run.ran)
    run(graph)
    assert run.states["make"] == "cached"
    assert run.ran == before


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("die", "step t failed: killed by SIGKILL, as when memory runs out"),
        ("silent", "step t failed: exit 0, and it wrote no output"),
        ("nope", "step t failed: no function nope in small.steps"),
    ],
)
def test_steps_that_die_or_are_not_there(run: Runner, call: str, words: str) -> None:
    result = run(Graph("g", (project("t", call, ("numbers",)),)))
    assert result.error is not None
    assert result.error.fact.splitlines()[0] == words


def test_a_platform_task_that_says_no_keeps_what_it_found(run: Runner) -> None:
    def refuse(work: Work) -> None:
        work.values["findings"] = ["x is empty"]
        raise Refused("x is empty", hint="fill x")

    def broken(work: Work) -> None:
        raise KeyError("y")

    result = run(Graph("g", (Task("check", "platform", refuse), Task("bug", "platform", broken))))
    assert result.values == {"check.findings": ["x is empty"]}
    assert {task["name"]: task["reason"] for task in result.tasks} == {
        "check": "x is empty",
        "bug": "task bug failed: KeyError: 'y'",
    }
    assert "KeyError" in RunFolder.of(run.home, "r1").log("bug").read_text()


def test_a_full_disk_is_told_and_the_next_run_goes_on(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path) -> str:
        raise OSError(errno.ENOSPC, "No space left on device", str(source))

    with monkeypatch.context() as patch:
        patch.setattr(run.store, "put", full)
        result = run(diamond())
    assert result.error is not None
    assert result.error.fact.startswith("task make failed: No space left on device: ")
    assert result.error.hint == "free some space (trilho gc) and run it again"
    assert run(diamond()).state == "succeeded"


def test_a_value_goes_into_the_parameters_of_a_later_task(run: Runner) -> None:
    def three(work: Work) -> None:
        work.values["n"] = 3

    result = run(Graph("g", (Task("three", "platform", three), make(Value("three.n")))))
    assert result.values["make.upto"] == 3


def test_a_step_that_takes_too_long_is_killed(run: Runner, tmp_path: Path) -> None:
    call = "small.steps:wait"
    marker = {"marker": str(tmp_path / "pids")}
    waits = Task("wait", "project", call, {"numbers": "make.numbers"}, marker, ("waited",), (call,))
    result = run(Graph("g", (make(), waits)), timeout=3)
    assert result.error is not None
    assert result.error.fact.startswith("step wait failed: it was stopped after 0:00:03")
    pids = json.loads((tmp_path / "pids").read_text())
    eventually(lambda: not any(alive(pid) for pid in pids[:2]))


def test_a_log_keeps_its_head_and_its_tail(run: Runner) -> None:
    call = "small.steps:chatter"
    graph = Graph("g", (Task("t", "project", call, {}, {"kilobytes": 3000}, ("numbers",), (call,)),))
    assert run(graph).state == "succeeded"
    text = RunFolder.of(run.home, "r1").log("t").read_text()
    lines = text.splitlines()
    assert len(text) < 1.01 * 1024 * 1024
    assert lines[0].startswith("0000000x")
    assert lines[-1].startswith("0002999x")
    assert sum("bytes left out" in line for line in lines) == 1


def test_independent_tasks_run_side_by_side(run: Runner) -> None:
    both = threading.Barrier(2, timeout=20)

    def meet(work: Work) -> None:
        both.wait()

    assert run(Graph("g", (Task("a", "platform", meet), Task("b", "platform", meet)))).state == "succeeded"


RUN = """
import sys
from datetime import timedelta
from pathlib import Path
from trilho.backends.local.store import LocalStore
from trilho.pipeline.execute import execute
from trilho.pipeline.graph import Graph, Task
home, source, marker, run = map(Path, sys.argv[1:])
def task(name, parameters, outputs, **inputs):
    call = f"small.steps:{name}"
    return Task(name, "project", call, inputs, parameters, outputs, (call,))
graph = Graph("g", (
    task("make", {"upto": 5}, ("numbers",)),
    task("wait", {"marker": str(marker)}, ("waited",), numbers="make.numbers"),
))
result = execute(graph, run_id=run.name, home=home, store=LocalStore(home / "store"), python=Path(sys.executable),
                 source=source, timeout=timedelta(seconds=60))
print(result.state, [task["state"] for task in result.tasks])
"""


def start(home: Path, source: Path, marker: Path, run: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", RUN, str(home), str(source), str(marker), run]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


def eventually(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not become true in time"
        time.sleep(0.02)


@pytest.mark.parametrize("victim", ["runner", "runner and server"])
def test_kill_9_leaves_nothing_running_and_the_next_run_resumes(
    home: Path, source: Path, tmp_path: Path, victim: str
) -> None:
    marker = tmp_path / "pids"
    runner = start(home, source, marker, "r1")
    eventually(marker.exists)
    step, grandchild, server = json.loads(marker.read_text())
    folder = RunFolder.of(home, "r1")
    assert folder.is_held()
    os.kill(runner.pid, signal.SIGKILL)
    if victim == "runner and server":
        os.kill(server, signal.SIGKILL)
    runner.wait(20)
    eventually(lambda: not any(alive(pid) for pid in (step, grandchild, server)))
    assert not folder.is_held()
    manifest = folder.settle("it was stopped")
    assert [task["name"] for task in manifest["tasks"]] == ["make"]
    settled = folder.read()
    assert settled is not None
    assert (settled["state"], settled["error"]) == ("failed", "it was stopped")
    assert not (folder.path / "work").exists()
    (tmp_path / "pids.go").write_text("")
    again = start(home, source, marker, "r2")
    said, _ = again.communicate(timeout=60)
    assert said.strip() == "succeeded ['cached', 'ran']"


def test_two_runs_at_once_do_the_same_and_hurt_nobody(home: Path, source: Path, tmp_path: Path) -> None:
    marker = tmp_path / "pids"
    (tmp_path / "pids.go").write_text("")
    runners = [start(home, source, tmp_path / "pids", f"r{index}") for index in range(3)]
    said = [runner.communicate(timeout=90)[0].strip() for runner in runners]
    assert all(words.startswith("succeeded") for words in said), said
    assert marker.exists()
    last = start(home, source, marker, "r9")
    assert last.communicate(timeout=60)[0].strip() == "succeeded ['cached', 'cached']"
    assert not list((home / "cache").glob("*.part"))


def test_an_interrupt_stops_the_steps(home: Path, source: Path, tmp_path: Path) -> None:
    marker = tmp_path / "pids"
    runner = start(home, source, marker, "r1")
    eventually(marker.exists)
    step, grandchild, server = json.loads(marker.read_text())
    os.kill(runner.pid, signal.SIGINT)
    assert runner.wait(30) != 0
    eventually(lambda: not any(alive(pid) for pid in (step, grandchild, server)))
    manifest = RunFolder.of(home, "r1").read()
    assert manifest is not None
    assert (manifest["state"], manifest["error"]) == ("failed", "it was interrupted: KeyboardInterrupt")


def test_a_run_that_is_told_to_stop_leaves_nothing_running_and_the_next_goes_on(
    run: Runner, home: Path, tmp_path: Path
) -> None:
    call, stop = "small.steps:wait", threading.Event()
    waits = [
        Task(
            f"wait-{n}",
            "project",
            call,
            {"numbers": "make.numbers"},
            {"marker": str(tmp_path / n)},
            ("waited",),
            (call,),
        )
        for n in "abc"  # two run, the third is queued behind them
    ]
    graph = Graph("g", (make(), *waits))

    def tell() -> None:
        eventually((tmp_path / "a").exists)
        stop.set()

    threading.Thread(target=tell, daemon=True).start()
    begun = time.monotonic()
    with pytest.raises(Stopped):
        execute(
            graph, run_id="r1", home=home, store=run.store, python=Path(sys.executable), source=run.source,
            timeout=timedelta(seconds=100), steps=run.steps, stop=stop,
        )  # fmt: skip
    assert time.monotonic() - begun < 30
    pids = [pid for n in "abc" if (tmp_path / n).exists() for pid in json.loads((tmp_path / n).read_text())[:2]]
    assert pids
    eventually(lambda: not any(alive(pid) for pid in pids))
    manifest = RunFolder.of(home, "r1").read()
    assert manifest is not None
    assert (manifest["state"], manifest["error"]) == ("failed", "it was interrupted: Stopped")
    for n in "abc":
        (tmp_path / f"{n}.go").write_text("")
    assert run(graph).state == "succeeded"
    assert run.states == {"make": "cached", "wait-a": "ran", "wait-b": "ran", "wait-c": "ran"}
