"""A service elsewhere that does what it is told to have done."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import duckdb
from tests.line_project import rows

from trilho.core.digest import digest_path
from trilho.core.files import write_whole
from trilho.core.ports import NotFound, RemoteJob, RemoteState, RemoteStatus, RemoteTask, RemoteTaskState
from trilho.pipeline.ir import reader as ir
from trilho.remote.gather import StepRecord

NOTHING = StepRecord(task="", state="ran", seconds=0.0)


class Service:
    """A service that does what it is told to have done: its steps write their records and outputs into the folder.

    It is a Runner; `plan` says how each task ends, "ran" where nothing else is said.
    """

    def __init__(self, shared: Path) -> None:
        self.shared = shared
        self.jobs: dict[str, RemoteJob] = {}
        self.looks: dict[str, int] = {}
        self.cancelled: set[str] = set()
        self.plan: dict[str, StepRecord] = {}
        self.trouble: list[Exception] = []
        self.needs_looks = 2
        self.lines = "printed there\n"

    def submit(self, job: RemoteJob) -> str:
        self._may_fail()
        if job.run not in self.jobs:
            self.jobs[job.run] = job
        return f"there/{job.run}"

    def status(self, run: str) -> RemoteStatus:
        self._may_fail()
        if run not in self.jobs:
            raise NotFound(f"no run {run}")
        self.looks[run] = self.looks.get(run, 0) + 1
        tasks = [name for name, _ in ir.read(self.jobs[run].document).walk() if "/" not in name]
        if run in self.cancelled:
            first, *rest = (RemoteTask(name=name, state="pending") for name in tasks)
            return RemoteStatus(state="cancelled", tasks=(replace(first, state="cancelled"), *rest))
        if self.looks[run] < self.needs_looks:
            return RemoteStatus(state="running", tasks=(RemoteTask(name=tasks[0], state="running"),))
        return self._ended(run, tasks)

    def cancel(self, run: str) -> None:
        if run not in self.jobs:
            raise NotFound(f"no run {run}")
        self.cancelled.add(run)

    def log(self, run: str, task: str) -> str:
        return self.lines

    def _may_fail(self) -> None:
        if self.trouble:
            raise self.trouble.pop(0)

    def _ended(self, run: str, tasks: list[str]) -> RemoteStatus:
        failed = [name for name in tasks if self.plan.get(name, NOTHING).state == "failed"]
        stop = tasks.index(failed[0]) if failed else len(tasks)
        root = self.jobs[run].root
        for name in tasks[: stop + 1]:
            self._write(root, run, name)
        states: list[RemoteTaskState] = ["succeeded"] * stop
        states += ["failed"] * bool(failed)
        states += ["skipped"] * len(tasks)
        found = (
            RemoteTask(name=name, state="skipped" if name.startswith("condition") else state, seconds=2.0)
            for name, state in zip(tasks, states, strict=False)
        )
        state: RemoteState = "failed" if failed else "succeeded"
        return RemoteStatus(state=state, tasks=tuple(found), error="the DAG failed" if failed else None)

    def _write(self, root: str, run: str, task: str) -> None:
        record = self.plan.get(task, StepRecord(task=task, state="ran", seconds=1.0))
        path = Path(root.removeprefix("file://")) / "runs" / run / f"{task}.json"
        write_whole(path, json.dumps({"schema": 1, **asdict(record)}))

    def trains(self, metrics: dict[str, float], package: str = "a model") -> None:
        """Have the trainings from now on leave a package, and predictions that are right."""
        folder = self.shared / "outputs" / package.replace(" ", "-")
        (folder / "package").mkdir(parents=True)
        (folder / "package" / "manifest.json").write_text(json.dumps({"lineage": {}, "said": package}))
        query = (
            f"SELECT row_number() OVER () AS row, ts AS time, y AS prediction, y AS value FROM ({rows(0, 400, 2.0)})"
        )
        duckdb.sql(f"COPY ({query}) TO '{folder / 'predictions.parquet'}' (FORMAT parquet)")
        values = {"metrics": metrics, "history": "all", "candidates": {"all": metrics}}
        self.plan["evaluate"] = StepRecord(
            task="evaluate",
            state="ran",
            seconds=1.0,
            values=values,
            outputs={"predictions": _output(folder / "predictions.parquet")},
        )
        self.plan["pack"] = StepRecord(
            task="pack", state="ran", seconds=1.0, outputs={"package": _output(folder / "package")}
        )


def _output(path: Path) -> dict[str, str]:
    return {"uri": f"file://{path}", "digest": digest_path(path)}
