"""A pipeline job as Vertex AI wants it, and what it says of one: requests out, records back, nothing is called here."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from typing import Any

from trilho.backends.gcp.cloud import needed_extra
from trilho.core.ports import RemoteJob, RemoteState, RemoteStatus, RemoteTask, RemoteTaskState
from trilho.errors import UsageError

MOST_NESTED = 100
OUTPUT = "output:"
JOB_ID = re.compile(r"[a-z][-a-z0-9]{0,127}")
STATES: dict[str, RemoteState] = {
    "PIPELINE_STATE_RUNNING": "running",
    "PIPELINE_STATE_SUCCEEDED": "succeeded",
    "PIPELINE_STATE_FAILED": "failed",
    "PIPELINE_STATE_CANCELLING": "running",
    "PIPELINE_STATE_CANCELLED": "cancelled",
}
TASK_STATES: dict[str, RemoteTaskState] = {
    "RUNNING": "running",
    "SUCCEEDED": "succeeded",
    "CANCEL_PENDING": "running",
    "CANCELLING": "running",
    "CANCELLED": "cancelled",
    "FAILED": "failed",
    "SKIPPED": "cached",  # Vertex's word for a hit in its cache
    "NOT_TRIGGERED": "skipped",
}


def job_of(job: RemoteJob) -> Any:
    """Give the PipelineJob message of a job: its IR as it is, but for the platform's cache, which is off.

    Vertex's cache knows images, not code: it would give yesterday's result for today's source, or never hit.
    """
    with needed_extra():
        from google.cloud.aiplatform_v1.types import PipelineJob
        from google.protobuf import json_format

    values: dict[str, Any] = {
        "displayName": job.run,
        "pipelineSpec": without_cache(job.document),
        "runtimeConfig": {"gcsOutputDirectory": job.root, **runtime_values(job.document, job.parameters)},
        "labels": dict(job.labels),
    }
    if job.service_account:
        values["serviceAccount"] = job.service_account
    message = PipelineJob()
    json_format.ParseDict(values, PipelineJob.pb(message))
    return message


def require_id(run: str) -> None:
    """Refuse an id that Vertex AI would refuse. Raises UsageError."""
    if not JOB_ID.fullmatch(run):
        hint = "small letters, digits, hyphens; a letter first"
        raise UsageError(f"{run!r} cannot be a job's id on Vertex AI", hint=hint)


def without_cache(document: Mapping[str, Any]) -> dict[str, Any]:
    """Give a PipelineSpec whose tasks are not looked up in the platform's cache.

    >>> without_cache({"root": {"dag": {"tasks": {"a": {"cachingOptions": {"enableCache": True}}}}}})
    {'root': {'dag': {'tasks': {'a': {'cachingOptions': {'enableCache': False}}}}}}
    """
    spec = copy.deepcopy(dict(document))
    for component in [spec.get("root", {}), *spec.get("components", {}).values()]:
        for task in component.get("dag", {}).get("tasks", {}).values():
            task["cachingOptions"] = {"enableCache": False}
    return spec


def runtime_values(document: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Give a runtime config's values: plain ones for schema 2.1, typed ones for the older one that TFX compiles.

    >>> runtime_values({"schemaVersion": "2.0.0"}, {"rows": 5})
    {'parameters': {'rows': {'intValue': '5'}}}
    """
    if document.get("schemaVersion", "2.1.0") > "2.0.0":
        return {"parameterValues": dict(parameters)}
    return {"parameters": {name: _typed(value) for name, value in parameters.items()}}


def _typed(value: Any) -> dict[str, Any]:
    if isinstance(value, int) and not isinstance(value, bool):
        return {"intValue": str(value)}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": str(value)}


def status_of(job: Any) -> RemoteStatus:
    """Read how far a job is."""
    said = job.error.message if job.error else ""
    return RemoteStatus(
        state=STATES.get(job.state.name, "pending"),
        tasks=tuple(tasks_of(job.job_detail.task_details, root=job.name.rpartition("/")[2])),
        error=said or None,
    )


def tasks_of(details: Iterable[Any], root: str) -> Iterable[RemoteTask]:
    """Give the leaves among a job's tasks, by path, and the groups that were not entered."""
    known = {detail.task_id: detail for detail in details}
    parents = {detail.parent_task_id for detail in known.values()}
    for detail in known.values():
        if detail.task_id in parents or (not detail.parent_task_id and detail.task_name == root):
            continue
        yield RemoteTask(
            name=_path(detail, known, root),
            state=TASK_STATES.get(detail.state.name, "pending"),
            seconds=_seconds(detail),
            error=(detail.error.message if detail.error else "") or None,
            values=_values(detail),
            artifacts={name: one.artifacts[0].uri for name, one in detail.outputs.items() if one.artifacts},
        )


def _values(detail: Any) -> dict[str, Any]:
    """Give a task's output values, which Vertex keeps among what its execution is described with."""
    from google.protobuf import json_format

    told = json_format.MessageToDict(type(detail).pb(detail).execution.metadata)
    return {key.removeprefix(OUTPUT): value for key, value in told.items() if key.startswith(OUTPUT)}


def _path(detail: Any, known: Mapping[int, Any], root: str) -> str:
    """Name a task by its groups; a loop's iteration, which Vertex names "for-loop-2-0", is its number."""
    names: list[str] = []
    while detail is not None and (detail.parent_task_id or detail.task_name != root) and len(names) < MOST_NESTED:
        parent = known.get(detail.parent_task_id) if detail.parent_task_id else None
        iteration = re.fullmatch(rf"{re.escape(parent.task_name)}-(\d+)", detail.task_name) if parent else None
        names.append(iteration[1] if iteration else detail.task_name)
        detail = parent
    return "/".join(reversed(names))


def _seconds(detail: Any) -> float:
    if not detail.start_time or not detail.end_time:
        return 0.0
    return max(0.0, float((detail.end_time - detail.start_time).total_seconds()))


def container_job(job: Any, path: str) -> str | None:
    """Give the id of the custom job that ran a task's container, which its log lines bear; the last attempt's."""
    details = {detail.task_id: detail for detail in job.job_detail.task_details}
    root = job.name.rpartition("/")[2]
    for detail in details.values():
        if path in (_path(detail, details, root), detail.task_name) and detail.executor_detail:
            container = detail.executor_detail.container_detail
            names = [container.main_job, *reversed(container.failed_main_jobs)]
            return next((name.rpartition("/")[2] for name in names if name), None)
    return None
