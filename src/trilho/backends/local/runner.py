"""This machine as a Runner: the executor in a thread, a run's folder as what is known of the run.

It ends with its process, as every run here does; who asks later reads in the run's folder how far it came.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from trilho.core.ports import (
    ArtifactStore,
    NotFound,
    RemoteJob,
    RemoteState,
    RemoteStatus,
    RemoteTask,
    RemoteTaskState,
)
from trilho.errors import TrilhoError
from trilho.pipeline.execution.execute import Stopped, TaskEvent, execute
from trilho.pipeline.ir import reader as ir
from trilho.pipeline.keeping.runs import RunFolder
from trilho.pipeline.places import Places

STATES: dict[str, RemoteTaskState] = {
    "running": "running",
    "retrying": "running",
    "ran": "succeeded",
    "cached": "cached",
    "skipped": "skipped",
    "failed": "failed",
}
CANCELLED = "it was cancelled"


@dataclass
class _Run:
    stop: threading.Event = field(default_factory=threading.Event)
    tasks: dict[str, RemoteTask] = field(default_factory=dict)
    state: RemoteState = "running"
    error: str | None = None


class LocalRunner:
    """The Runner port on the executor."""

    def __init__(self, home: Path, store: ArtifactStore, places: Places, timeout: timedelta | None = None) -> None:
        self.home, self.store, self.places, self.timeout = home, store, places, timeout

    def submit(self, job: RemoteJob) -> str:
        """Begin a run in a thread, or find that it was begun; give its folder."""
        folder, spec = RunFolder.of(self.home, job.run), ir.read(dict(job.document))
        key = str(folder.path)
        with _lock:
            if key in _runs or folder.manifest.exists():
                return key
            run = _runs[key] = _Run()
        folder.write({"run": job.run, "pipeline": job.model, "state": "running", "tasks": []})
        threading.Thread(target=self._perform, args=(job, spec, run), name=f"run {job.run}", daemon=True).start()
        return key

    def status(self, run: str) -> RemoteStatus:
        """Say how far a run is. Raises NotFound where it was never submitted."""
        folder = RunFolder.of(self.home, run)
        live = _runs.get(str(folder.path))
        if live is not None:
            return RemoteStatus(state=live.state, tasks=tuple(live.tasks.values()), error=live.error)
        found = folder.read()
        if found is None:
            raise _unknown(run)
        return _read(found, folder.is_held())

    def cancel(self, run: str) -> None:
        """Stop a run of this process; one that has ended stays as it is."""
        folder = RunFolder.of(self.home, run)
        live = _runs.get(str(folder.path))
        if live is None and folder.read() is None:
            raise _unknown(run)
        if live is not None:
            live.stop.set()

    def log(self, run: str, task: str) -> str:
        """Give what a task printed; empty where nothing is kept."""
        path = RunFolder.of(self.home, run).log(task)
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def _perform(self, job: RemoteJob, spec: ir.Spec, run: _Run) -> None:
        state, error = self._execute(job, spec, run)
        run.error = error
        run.tasks = {name: _settled(task, state) for name, task in run.tasks.items()}
        run.state = state  # last: who sees it ended sees all of it

    def _execute(self, job: RemoteJob, spec: ir.Spec, run: _Run) -> tuple[RemoteState, str | None]:
        def observe(event: TaskEvent) -> None:
            if event.kind in ("container", "importer"):
                said = event.error.fact if event.error is not None else None
                run.tasks[event.name] = RemoteTask(
                    name=event.name, state=STATES[event.state], seconds=event.seconds, error=said
                )

        try:
            result = execute(
                spec,
                job.parameters,
                run_id=job.run,
                home=self.home,
                store=self.store,
                places=self.places,
                timeout=self.timeout,
                observe=observe,
                about={"model": job.model},
                stop=run.stop,
            )
        except Stopped:
            return "cancelled", CANCELLED
        except TrilhoError as error:
            return "failed", str(error)
        except Exception as error:  # noqa: BLE001  a thread has nobody to raise to
            return "failed", f"{type(error).__name__}: {error}"
        return ("succeeded", None) if result.error is None else ("failed", str(result.error))


_runs: dict[str, _Run] = {}
"""The runs of this process, by their folder: every LocalRunner of it sees them."""
_lock = threading.Lock()


def _settled(task: RemoteTask, state: RemoteState) -> RemoteTask:
    if state != "cancelled" or task.state not in ("running", "failed"):
        return task
    return RemoteTask(name=task.name, state="cancelled", seconds=task.seconds, error=CANCELLED)


def _read(manifest: dict[str, Any], held: bool) -> RemoteStatus:
    state: RemoteState = manifest["state"] if manifest["state"] != "running" or held else "failed"
    tasks = tuple(
        RemoteTask(name=x["name"], state=STATES[x["state"]], seconds=x["seconds"], error=x["reason"] or None)
        for x in manifest.get("tasks", [])
    )
    return RemoteStatus(state=state, tasks=tasks, error=manifest.get("error"))


def _unknown(run: str) -> NotFound:
    return NotFound(f"no run {run} was begun on this machine", hint="trilho runs")
