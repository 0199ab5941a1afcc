"""Runs a graph on this machine: what was done before is taken from the cache, what is independent runs side by side.

A task's outputs are artifacts named by content; a manifest under its fingerprint, written last and whole, says that
it was done. So whatever is killed when, the next run repeats only what was unfinished, and two runs at once can only
do the same work twice.
"""

from __future__ import annotations

import errno
import json
import shutil
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from trilho.core.files import write_whole
from trilho.core.ports import ArtifactStore
from trilho.core.records import RunState, TaskResult, TaskState
from trilho.errors import DataError, StepFailed, TrilhoError
from trilho.pipeline.fingerprint import SCHEMA, fingerprint, libraries_of
from trilho.pipeline.graph import STORED, Graph, Task, Value, Work, is_stored
from trilho.pipeline.process import AT_ONCE, StepServer, exit_words
from trilho.pipeline.runs import RunFolder, TaskLog

LOOK_SECONDS = 0.2
LINES = 40  # of a failed step's output that its error shows


class Stopped(Exception):
    """A run was told to stop before its end; what it has done so far is kept, and the next run goes on there."""


@dataclass(frozen=True)
class RunResult:
    """What a run came to: digests by "task.output", values by "task.name", and the first error."""

    state: RunState
    tasks: list[TaskResult]
    outputs: dict[str, str]
    values: dict[str, Any]
    error: TrilhoError | None
    seconds: float


@dataclass
class _Done:
    state: TaskState
    seconds: float = 0.0
    reason: str = ""
    outputs: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    error: TrilhoError | None = None


def execute(
    graph: Graph,
    *,
    run_id: str,
    home: Path,
    store: ArtifactStore,
    python: Path,
    source: Path,
    timeout: timedelta,
    on_task: Callable[[TaskResult], None] = lambda _: None,
    about: Mapping[str, str | None] | None = None,
    steps: StepServer | None = None,
    held: bool = False,
    stop: threading.Event | None = None,
) -> RunResult:
    """Run a graph; a task that fails stops what needs it, and the run has failed.

    Raises Stopped, with nothing left running, soon after `stop` is set.

    `about` goes into the run's manifest. With `steps` a warm server is used, and stays; without, one is started when
    the first step needs it. `held` says that the caller holds the run's lease.
    """
    with ExitStack() as stack:
        if not held:
            stack.enter_context(RunFolder.of(home, run_id).lease())
        server = steps or stack.enter_context(StepServer(python, source, source))
        run = _Run(
            graph, RunFolder.of(home, run_id), home, store, python, source, timeout, server, dict(about or {}), stop
        )
        return run.to_the_end(on_task)


@dataclass
class _Run:
    graph: Graph
    folder: RunFolder
    home: Path
    store: ArtifactStore
    python: Path
    source: Path
    timeout: timedelta
    server: StepServer
    about: dict[str, str | None]
    stop: threading.Event | None
    done: dict[str, _Done] = field(default_factory=dict)
    running: dict[Future[_Done], Task] = field(default_factory=dict)
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="microseconds"))

    @cached_property
    def libraries(self) -> str:
        return libraries_of(self.python, self.home)

    def to_the_end(self, on_task: Callable[[TaskResult], None]) -> RunResult:
        begun = time.monotonic()
        self.save("running")
        if any(task.run == "project" for task in self.graph.tasks):
            self.libraries  # noqa: B018  asked once, before threads would ask twice
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="task") as pool:
            try:
                self.work_through(pool, on_task)
            except BaseException as stop:
                self.abandon(pool)
                self.save("failed", f"it was interrupted: {type(stop).__name__}")
                raise
        error = next((done.error for done in self.done.values() if done.error is not None), None)
        state: RunState = "succeeded" if error is None else "failed"
        self.save(state, error.fact.splitlines()[0] if error else None)
        outputs = {f"{name}.{key}": digest for name, done in self.done.items() for key, digest in done.outputs.items()}
        values = {f"{name}.{key}": value for name, done in self.done.items() for key, value in done.values.items()}
        return RunResult(state, self.results(), outputs, values, error, time.monotonic() - begun)

    def abandon(self, pool: ThreadPoolExecutor) -> None:
        """End the steps that run; one that a worker was about to start is ended as well."""
        pool.shutdown(wait=False, cancel_futures=True)
        while left := [future for future in self.running if not future.done()]:
            self.server.stop_all()
            wait(left, LOOK_SECONDS)

    def work_through(self, pool: ThreadPoolExecutor, on_task: Callable[[TaskResult], None]) -> None:
        running, waiting = self.running, list(self.graph.order)
        while waiting or running:
            for task in [task for task in waiting if set(task.needs) <= set(self.done)]:
                waiting.remove(task)
                missing = [name for name in task.needs if self.done[name].state in ("failed", "skipped")]
                if missing:
                    self.finish(task, _Done("skipped", reason=f"{missing[0]} {self.done[missing[0]].state}"), on_task)
                else:
                    running[pool.submit(self.perform, task)] = task
            if self.stop is not None and self.stop.is_set():
                raise Stopped(f"run {self.folder.path.name} was told to stop")
            if running:
                for future in wait(running, LOOK_SECONDS, return_when=FIRST_COMPLETED).done:
                    self.finish(running.pop(future), future.result(), on_task)

    def finish(self, task: Task, done: _Done, on_task: Callable[[TaskResult], None]) -> None:
        self.done[task.name] = done
        self.save("running")
        on_task(self.result(task))

    def result(self, task: Task) -> TaskResult:
        done = self.done[task.name]
        return TaskResult(
            name=task.name, state=done.state, seconds=round(done.seconds, 4), needs=list(task.needs), reason=done.reason
        )

    def results(self) -> list[TaskResult]:
        return [self.result(task) for task in self.graph.order if task.name in self.done]

    def save(self, state: RunState, error: str | None = None) -> None:
        self.folder.write(
            {
                "run": self.folder.path.name,
                "pipeline": self.graph.name,
                "about": self.about,
                "state": state,
                "started": self.started,
                "ended": None if state == "running" else datetime.now(UTC).isoformat(timespec="microseconds"),
                "error": error,
                "tasks": self.results(),
                "planned": [{"name": task.name, "needs": list(task.needs)} for task in self.graph.order],
            }
        )

    def perform(self, task: Task) -> _Done:
        """Do one task, in a worker thread, or find that it was done before. Never raises but for bugs of ours."""
        begun = time.monotonic()
        work = Work({}, {}, {}, self.store)
        try:
            done = self._perform(task, work)
        except TrilhoError as error:
            done = _Done("failed", reason=error.fact.splitlines()[0], error=error)
        except OSError as error:
            fact = f"task {task.name} failed: {error.strerror}: {error.filename}"
            hint = "free some space (trilho gc) and run it again" if error.errno == errno.ENOSPC else self._hint(task)
            done = _Done("failed", reason=fact, error=DataError(fact, hint=hint))
        except Exception as error:  # noqa: BLE001  a platform function that fails is a failed task, not a crash
            TaskLog(self.folder.log(task.name)).say(traceback.format_exc())
            fact = f"task {task.name} failed: {type(error).__name__}: {error}"
            done = _Done("failed", reason=fact, error=StepFailed(fact, hint=self._hint(task)))
        if done.state == "failed":
            done.values = json.loads(json.dumps(work.values, default=str))
        done.seconds = time.monotonic() - begun
        return done

    def _perform(self, task: Task, work: Work) -> _Done:
        inputs = {name: self._output(reference) for name, reference in task.inputs.items()}
        work.parameters = {name: self._resolve(value) for name, value in task.parameters.items()}
        libraries = self.libraries if task.run == "project" else ""
        mark = fingerprint(task, work.parameters, inputs, self.source, libraries)
        kept = self.home / "cache" / f"{mark}.json"
        known = self._known(kept) if task.cacheable else None
        if known is not None:
            return known
        scratch = self.folder.scratch(task.name)
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        work.inputs = {name: self.store.path(digest) for name, digest in inputs.items()}
        work.outputs = {name: scratch / name for name in task.outputs}
        if callable(task.call):
            self._call(task, work)
        else:
            work.values = self._step(task, work, scratch)
        done = self._keep(task, work)
        if task.cacheable:
            facts = {"schema": SCHEMA, "task": task.name, "run": self.folder.path.name}
            write_whole(kept, json.dumps({**facts, "outputs": done.outputs, "values": done.values}))
        shutil.rmtree(scratch, ignore_errors=True)
        return done

    def _known(self, kept: Path) -> _Done | None:
        try:
            found = json.loads(kept.read_text(encoding="utf-8"))
            outputs, values, run = dict(found["outputs"]), dict(found["values"]), str(found["run"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if found["schema"] != SCHEMA or not all(self.store.use(digest) for digest in outputs.values()):
            return None
        return _Done("cached", reason=f"unchanged since {run}", outputs=outputs, values=values)

    def _call(self, task: Task, work: Work) -> None:
        assert callable(task.call)
        log = TaskLog(self.folder.log(task.name))
        work.say = log.say
        try:
            task.call(work)
        except TrilhoError as error:
            log.say(str(error))
            raise

    def _step(self, task: Task, work: Work, scratch: Path) -> dict[str, Any]:
        assert isinstance(task.call, str)
        log, output = self.folder.log(task.name), scratch / "output.json"
        path = [str(self.source)] if task.code else []
        request = executor_input(work, output)
        try:
            code, said = self.server.run(task.call, request, path=path, log=log, timeout=self.timeout)
        except StepFailed as error:
            raise StepFailed(f"step {task.name} failed: {error.fact}", hint=error.hint or self._hint(task)) from None
        if code != 0 or not output.exists():
            lines = said.rstrip().splitlines()[-LINES:]
            last = lines[-1].partition(" failed: ")[2] if code == 1 and lines else ""
            why = last or exit_words(code) + ("" if code else ", and it wrote no output")
            told = lines[:-1] if last else lines  # the last line says the same, with the function for the step's name
            raise StepFailed("\n".join([f"step {task.name} failed: {why}", *told]), hint=self._hint(task))
        return dict(json.loads(output.read_text(encoding="utf-8")).get("parameterValues", {}))

    def _keep(self, task: Task, work: Work) -> _Done:
        missing = [name for name, path in work.outputs.items() if not path.exists()]
        if missing:
            raise StepFailed(f"task {task.name} left no output {missing[0]}", hint=self._hint(task))
        values = json.loads(json.dumps(work.values, allow_nan=False))
        outputs = {name: self.store.put(path) for name, path in work.outputs.items()}
        return _Done("ran", outputs=outputs, values=values)

    def _output(self, reference: str) -> str:
        if is_stored(reference):
            return reference.removeprefix(STORED)
        name, _, output = reference.partition(".")
        return self.done[name].outputs[output]

    def _resolve(self, given: Any) -> Any:
        if isinstance(given, Value):
            name, _, key = given.of.partition(".")
            if key not in self.done[name].values:
                raise StepFailed(f"task {name} found no value {key}; it found {', '.join(self.done[name].values)}")
            return self.done[name].values[key]
        if isinstance(given, Mapping):
            return {key: self._resolve(value) for key, value in given.items()}
        if isinstance(given, (list, tuple)):
            return [self._resolve(value) for value in given]
        return given

    def _hint(self, task: Task) -> str:
        return f"trilho runs logs {self.folder.path.name} {task.name}"


def executor_input(work: Work, output: Path) -> dict[str, Any]:
    """Give a step's executor input, in the form of KFP v2."""

    def artifacts(places: Mapping[str, Path]) -> dict[str, Any]:
        return {
            name: {"artifacts": [{"name": name, "uri": str(path), "metadata": {}}]} for name, path in places.items()
        }

    return {
        "inputs": {"parameterValues": dict(work.parameters), "artifacts": artifacts(work.inputs)},
        "outputs": {"outputFile": str(output), "parameters": {}, "artifacts": artifacts(work.outputs)},
    }
