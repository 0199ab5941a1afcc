"""What a pipeline job says of its tasks while it runs: states, times, values and artifacts, in Vertex AI's messages.

A task of a group is named by its key, its parents by `parent_task_id` and `task_unique_name`. A condition that does not
hold, and what needs a task that failed, are NOT_TRIGGERED; a task found in the cache is SKIPPED. Each task names a
custom job of its own in `executor_detail`, as Vertex AI does: its number is the one under which its log is kept.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from google.cloud import aiplatform_v1 as v1
from google.protobuf import json_format

from trilho.pipeline.execution.execute import TaskEvent
from trilho.pipeline.ir.reader import Spec
from trilho.testing.emulator.resources import copied, new_id

STATES: Mapping[str, str] = {
    "running": "RUNNING",
    "retrying": "RUNNING",
    "ran": "SUCCEEDED",
    "cached": "SKIPPED",
    "skipped": "NOT_TRIGGERED",
    "failed": "FAILED",
}
ENDED = ("SUCCEEDED", "SKIPPED", "NOT_TRIGGERED", "FAILED", "CANCELLED")
FAILED_PRECONDITION, CANCELLED = 9, 1
State: Any = v1.PipelineTaskDetail.State


class TaskDetails:
    """The tasks of one job, in the order in which they appeared; the job's thread changes them, others read."""

    def __init__(self, spec: Spec, location: str, now: Callable[[], datetime]) -> None:
        self._location, self._now = location, now
        self._lock = threading.RLock()
        self._held: dict[str, v1.PipelineTaskDetail] = {}
        loops: list[str] = []
        for name, task in spec.walk():
            if not any(name.startswith(f"{loop}/") for loop in loops):
                self._of(name)
            if task.loop is not None:
                loops.append(name)

    def all(self) -> list[v1.PipelineTaskDetail]:
        """Give the details as they are now, as copies."""
        with self._lock:
            return [copied(detail) for detail in self._held.values()]

    def custom_job(self, name: str) -> str:
        """Give the number of a task's custom job."""
        return self._of(name).executor_detail.container_detail.main_job.rpartition("/")[2]

    def failed(self) -> list[str]:
        """Give the names of the tasks that failed, innermost only."""
        names = [name for name, detail in self._held.items() if detail.state == State.FAILED]
        inner = [name for name in names if not any(other.startswith(f"{name}/") for other in names)]
        return [self._held[name].task_name for name in inner]

    def tell(self, event: TaskEvent) -> None:
        """Take in what the executor observed."""
        with self._lock:
            self._tell(event)

    def _tell(self, event: TaskEvent) -> None:
        detail, now = self._of(event.name), self._now()
        state = STATES[event.state]
        error = _failure(event) if event.state in ("failed", "retrying") else None
        _set_state(detail, state, now, error)
        if event.kind == "container" and event.state != "skipped":
            self._name_job(detail, event)
        if "start_time" not in detail and state != "NOT_TRIGGERED":
            _set(detail, "start_time", now)
        if state in ENDED:
            _set(detail, "end_time", now)
        self._describe(detail, event)

    def cancel(self) -> None:
        """Note that what has not ended never will."""
        with self._lock:
            for detail in self._held.values():
                if detail.state.name not in ENDED:
                    begun = "start_time" in detail
                    error = {"code": CANCELLED, "message": "The task was cancelled."} if begun else None
                    _set_state(detail, "CANCELLED" if begun else "NOT_TRIGGERED", self._now(), error)
                    _set(detail, "end_time", self._now())

    def _of(self, name: str) -> v1.PipelineTaskDetail:
        if (found := self._held.get(name)) is not None:
            return found
        *above, own = name.split("/")
        key = f"{above[-1]}-{own}" if above and own.isdecimal() else own
        detail = v1.PipelineTaskDetail(task_id=int(new_id()), task_name=key, task_unique_name=name.replace("/", "."))
        if above:
            detail.parent_task_id = self._of("/".join(above)).task_id
        _set_state(detail, "PENDING", self._now(), None)
        _set(detail, "create_time", self._now())
        self._held[name] = detail
        return detail

    def _name_job(self, detail: v1.PipelineTaskDetail, event: TaskEvent) -> None:
        container = detail.executor_detail.container_detail
        if event.state == "retrying" and container.main_job:
            container.failed_main_jobs.append(container.main_job)
        elif not container.main_job:
            container.main_job = f"{self._location}/customJobs/{new_id()}"

    def _describe(self, detail: v1.PipelineTaskDetail, event: TaskEvent) -> None:
        values = {f"input:{name}": value for name, value in event.parameters.items()}
        values |= {f"output:{name}": value for name, value in event.outputs.items()}
        execution = {
            "name": f"{self._location}/metadataStores/default/executions/{detail.task_id}",
            "displayName": detail.task_name,
            "state": {"SUCCEEDED": "COMPLETE", "SKIPPED": "CACHED"}.get(detail.state.name, detail.state.name),
            "schemaTitle": "system.ContainerExecution" if event.kind == "container" else "system.DagExecution",
            "schemaVersion": "0.0.1",
            "metadata": _plain(values),
        }
        if execution["state"] not in ("COMPLETE", "CACHED", "RUNNING", "FAILED"):
            execution.pop("state")
        detail.execution = _read(v1.Execution, execution)
        detail.inputs = self._lists(event.artifacts)
        detail.outputs = self._lists(event.artifact_outputs)

    def _lists(self, found: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
        return {
            name: v1.PipelineTaskDetail.ArtifactList(artifacts=[self._artifact(one) for one in artifacts])
            for name, artifacts in found.items()
        }

    def _artifact(self, found: Mapping[str, Any]) -> v1.Artifact:
        number = int.from_bytes(hashlib.sha256(found["uri"].encode()).digest()[:7])
        kind = found.get("type") or {}
        title = kind.get("schemaTitle", "") if isinstance(kind, Mapping) else str(kind)
        document = {
            "name": f"{self._location}/metadataStores/default/artifacts/{number}",
            "displayName": str(found.get("name", "")).rpartition("/")[2],
            "uri": found["uri"],
            "schemaTitle": title,
            "schemaVersion": "0.0.1",
            "state": "LIVE",
            "metadata": _plain(dict(found.get("metadata") or {})),
        }
        artifact: v1.Artifact = _read(v1.Artifact, document)
        return artifact


def _failure(event: TaskEvent) -> dict[str, Any]:
    message = f"The replica workerpool0-0 exited with a non-zero status. {event.error or event.reason}"
    if event.kind != "container":
        message = str(event.error or event.reason)
    return {"code": FAILED_PRECONDITION, "message": message}


def _set_state(detail: v1.PipelineTaskDetail, state: str, now: datetime, error: dict[str, Any] | None) -> None:
    detail.state = State[state]
    status: Any = {"update_time": now, "state": State[state], **({"error": error} if error is not None else {})}
    detail.pipeline_task_status.append(v1.PipelineTaskDetail.PipelineTaskStatus(status))
    if error is not None and state in ("FAILED", "CANCELLED"):
        _set(detail, "error", error)


def _plain(value: Any) -> Any:
    """Give what JSON has: a metric that is no number is its name."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _set(detail: Any, name: str, value: Any) -> None:
    setattr(detail, name, value)


def _read(kind: Any, document: dict[str, Any]) -> Any:
    message = kind()
    json_format.ParseDict(document, kind.pb(message))
    return message
