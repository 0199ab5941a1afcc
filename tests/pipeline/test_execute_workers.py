"""The same pipelines with the real workers: the SDK's components in processes of their own, steps in warm ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.pipeline import sdk
from tests.pipeline.executing import PYTHON, Bench, states

from trilho.pipeline.execution.execute import Stopped
from trilho.pipeline.keeping.runs import RunFolder
from trilho.pipeline.places import Places
from trilho.pipeline.workers.workers import Workers

STEPS = """
import json, os, subprocess, sys, time
from pathlib import Path
from typing import NamedTuple
from trilho_runtime.step import In, Out, step

class Counted(NamedTuple):
    n: int
    share: float

@step
def make(numbers: Out, upto: int) -> Counted:
    print("making", upto)
    numbers.path.write_text(json.dumps(list(range(upto))))
    numbers.metadata["upto"] = upto
    return Counted(upto, 0.5)

@step
def total(numbers: In, share: float) -> int:
    return sum(json.loads(numbers.path.read_text())) + numbers.metadata["upto"]

@step
def boom(numbers: In) -> None:
    raise ValueError("no such luck")

@step
def wait(numbers: In, marker: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
    Path(marker + ".part").write_text(json.dumps([os.getpid(), child.pid]))
    os.rename(marker + ".part", marker)
    while not os.path.exists(marker + ".go"):
        time.sleep(0.01)
"""


def step_pipeline(last: str, marker: str = "") -> dict[str, Any]:
    """Build the pipeline of the steps above as trilho compiles it: `make`, then one of the others."""
    container = {"image": "trilho.local/small@sha256:0", "command": ["python", "-m", "trilho_runtime.step"]}
    env = [{"name": "TRILHO_CODE", "value": "small.steps:make"}]
    args = ["--executor-input", "{{$}}", "--root", "{{$.pipeline_root}}", "--run", "{{$.pipeline_job_name}}"]
    whole, share = {"parameterType": "NUMBER_INTEGER"}, {"parameterType": "NUMBER_DOUBLE"}
    takes = {"total": {"share": share}, "boom": {}, "wait": {"marker": {"parameterType": "STRING"}}}[last]
    given: dict[str, Any] = {
        "share": {"taskOutputParameter": {"producerTask": "make", "outputParameterKey": "share"}},
        "marker": {"runtimeValue": {"constant": marker}},
    }
    kind = {"artifactType": {"schemaTitle": "system.Artifact", "schemaVersion": "0.0.1"}}
    made = {"taskOutputArtifact": {"producerTask": "make", "outputArtifactKey": "numbers"}}
    return {
        "pipelineInfo": {"name": "steps"},
        "schemaVersion": "2.1.0",
        "deploymentSpec": {"executors": {
            f"exec-{name}": {"container": {
                **container, "command": [*container["command"], f"small.steps:{name}"], "args": args, "env": env,
            }} for name in ("make", last)
        }},
        "components": {
            "comp-make": {
                "executorLabel": "exec-make",
                "inputDefinitions": {"parameters": {"upto": {"parameterType": "NUMBER_INTEGER"}}},
                "outputDefinitions": {
                    "parameters": {"n": whole, "share": share},
                    "artifacts": {"numbers": kind},
                },
            },
            f"comp-{last}": {
                "executorLabel": f"exec-{last}",
                "inputDefinitions": {"parameters": takes, "artifacts": {"numbers": kind}},
                "outputDefinitions": {"parameters": {"output": whole} if last == "total" else {}},
            },
        },
        "root": {"dag": {"tasks": {
            "make": {
                "componentRef": {"name": "comp-make"}, "cachingOptions": {"enableCache": True},
                "inputs": {"parameters": {"upto": {"runtimeValue": {"constant": 4}}}},
            },
            last: {
                "componentRef": {"name": f"comp-{last}"}, "cachingOptions": {"enableCache": True},
                "inputs": {"parameters": {name: given[name] for name in takes}, "artifacts": {"numbers": made}},
            },
        }}},
    }  # fmt: skip


@pytest.fixture
def source(tmp_path: Path) -> Path:
    package = tmp_path / "project" / "src" / "small"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "steps.py").write_text(STEPS)
    return package.parent


@pytest.fixture
def run(tmp_path: Path, source: Path) -> Bench:
    bench = Bench(tmp_path / "home", tmp_path)
    bench.places = Places(python=PYTHON, source=source, folder=source, platform=PYTHON)
    return bench


@pytest.fixture
def workers(run: Bench) -> Iterator[Workers]:
    with Workers(run.places, run.home) as made:
        yield made


def test_components_of_the_sdk_run_in_processes_of_their_own(run: Bench, workers: Workers) -> None:
    result = run(sdk.branches, {"side": "tails", "n": 1}, workers=workers)
    assert result.error is None
    assert result.outputs == {"Output": "second"}
    trained = run(sdk.artifacts, workers=workers)
    assert trained.outputs == {"Output": "7 0.07 2 none"}
    shell = run(sdk.containers, {"opt": "o"}, workers=workers)
    assert shell.outputs["size"] == 5


def test_a_component_that_fails_is_told_with_its_last_words(run: Bench, workers: Workers) -> None:
    result = run(sdk.exits, {"message": "no such luck"}, workers=workers)
    assert result.error is not None
    assert result.error.fact.splitlines()[0].startswith("step exit-handler-1/condition-2/fail failed: exit 1")
    assert "ValueError: no such luck" in result.error.fact
    assert "ValueError: no such luck" in RunFolder.of(run.home, "r1").log("exit-handler-1/condition-2/fail").read_text()
    assert result.values["status-of.Output"].startswith("end FAILED exit-handler-1 ")


def test_steps_run_in_a_warm_interpreter(run: Bench, workers: Workers) -> None:
    result = run(step_pipeline("total"), workers=workers)
    assert result.error is None
    assert result.values == {"make.n": 4, "make.share": 0.5, "total.output": 6 + 4}
    assert RunFolder.of(run.home, "r1").log("make").read_text() == "making 4\n"
    assert set(states(run(step_pipeline("total"), workers=workers)).values()) == {"cached"}


def test_a_step_that_fails_is_told_without_our_own_frames(run: Bench, workers: Workers) -> None:
    result = run(step_pipeline("boom"), workers=workers)
    assert result.error is not None
    lines = result.error.fact.splitlines()
    assert lines[0] == "step boom failed: ValueError: no such luck"
    assert "trilho_runtime" not in result.error.fact
    assert result.error.hint == "trilho runs logs r1 boom"


def test_a_run_that_is_told_to_stop_leaves_nothing_running(run: Bench, workers: Workers, tmp_path: Path) -> None:
    marker, stop = tmp_path / "pids", threading.Event()

    def tell() -> None:
        eventually(marker.exists)
        stop.set()

    threading.Thread(target=tell, daemon=True).start()
    with pytest.raises(Stopped):
        run(step_pipeline("wait", str(marker)), workers=workers, stop=stop)
    pids = json.loads(marker.read_text())
    eventually(lambda: not any(is_alive(pid) for pid in pids))
    manifest = RunFolder.of(run.home, "r1").read()
    assert manifest is not None
    assert (manifest["state"], manifest["error"]) == ("failed", "it was interrupted: Stopped")
    (tmp_path / "pids.go").write_text("")
    assert states(run(step_pipeline("wait", str(marker)), workers=workers)) == {"make": "cached", "wait": "ran"}


def test_a_step_that_takes_too_long_is_killed(run: Bench, workers: Workers, tmp_path: Path) -> None:
    marker = tmp_path / "pids"
    result = run(step_pipeline("wait", str(marker)), workers=workers, timeout=timedelta(seconds=1.5))
    assert result.error is not None
    assert result.error.fact.startswith("step wait failed: it was stopped after 0:00:01.5")
    pids = json.loads(marker.read_text())
    eventually(lambda: not any(is_alive(pid) for pid in pids))


RUN = """
import json, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what it runs in the background
from pathlib import Path
from trilho.backends.local.store import LocalStore
from trilho.pipeline.execution.execute import execute
from trilho.pipeline.ir.reader import read
from trilho.pipeline.places import Places
home, source, document, run = sys.argv[1:]
python = Path(sys.executable)
places = Places(python=python, source=Path(source), folder=Path(source), platform=python)
store = LocalStore(Path(home) / "store")
result = execute(read(json.loads(document)), {}, run_id=run, home=Path(home), store=store, places=places)
print(result.state, [task["state"] for task in result.tasks])
"""


def start(home: Path, source: Path, marker: Path, name: str) -> subprocess.Popen[str]:
    document = json.dumps(step_pipeline("wait", marker=str(marker)))
    words = [sys.executable, "-c", RUN, str(home), str(source), document, name]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True)


def is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def eventually(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not become true in time"
        time.sleep(0.02)


def test_kill_9_leaves_nothing_running_and_the_next_run_repeats_only_the_rest(
    run: Bench, source: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "pids"
    runner = start(run.home, source, marker, "r1")
    eventually(marker.exists)
    pids = json.loads(marker.read_text())
    folder = RunFolder.of(run.home, "r1")
    assert folder.is_held()
    os.kill(runner.pid, signal.SIGKILL)
    runner.wait(20)
    eventually(lambda: not any(is_alive(pid) for pid in pids))
    assert [task["name"] for task in folder.settle("it was stopped")["tasks"]] == ["make"]
    (tmp_path / "pids.go").write_text("")
    again = start(run.home, source, marker, "r2")
    assert again.communicate(timeout=60)[0].strip() == "succeeded ['cached', 'ran']"


def test_an_interrupt_stops_the_steps(run: Bench, source: Path, tmp_path: Path) -> None:
    marker = tmp_path / "pids"
    runner = start(run.home, source, marker, "r1")
    eventually(marker.exists)
    pids = json.loads(marker.read_text())
    os.kill(runner.pid, signal.SIGINT)
    assert runner.wait(120) != 0
    eventually(lambda: not any(is_alive(pid) for pid in pids))
    manifest = RunFolder.of(run.home, "r1").read()
    assert manifest is not None
    assert (manifest["state"], manifest["error"]) == ("failed", "it was interrupted: KeyboardInterrupt")
