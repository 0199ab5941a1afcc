"""A run as Kubeflow Pipelines wants it, and what it says of one: requests out, records back, nothing is called here."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from trilho.core.ports import RemoteJob, RemoteState, RemoteStatus, RemoteTask, RemoteTaskState
from trilho.pipeline.ir.values import from_old

Json = dict[str, Any]

SCHEMA = "2.1.0"  # the only one that the server takes
STATES: dict[str, RemoteState] = {
    "RUNNING": "running",
    "PAUSED": "running",
    "CANCELING": "running",
    "SUCCEEDED": "succeeded",
    "SKIPPED": "succeeded",
    "FAILED": "failed",
    "CANCELED": "cancelled",
}
TASK_STATES: dict[str, RemoteTaskState] = {
    "RUNNING": "running",
    "PAUSED": "running",
    "CANCELING": "running",
    "SUCCEEDED": "succeeded",
    "SKIPPED": "skipped",
    "FAILED": "failed",
    "CANCELED": "cancelled",
}
OLD_TYPES = {"INT": "NUMBER_INTEGER", "DOUBLE": "NUMBER_DOUBLE", "STRING": "STRING"}


def run_of(job: RemoteJob) -> Json:
    """Give the run that a job is; its name there is the run's id, so that who knows the one finds the other."""
    run: Json = {
        "display_name": job.run,
        "description": json.dumps({"trilho": dict(job.labels)}, sort_keys=True),
        "pipeline_spec": spec_of(job.document),
        "runtime_config": {"parameters": dict(job.parameters), "pipeline_root": job.root},
    }
    return run | ({"service_account": job.service_account} if job.service_account else {})


def about(resource: Mapping[str, Any]) -> Json | None:
    """Give what trilho wrote into the description of a run or schedule; None where it is not ours."""
    try:
        found = json.loads(resource.get("description") or "")
    except ValueError:
        return None
    said = found.get("trilho") if isinstance(found, dict) else None
    return said if isinstance(said, dict) else None


def spec_of(document: Mapping[str, Any]) -> Json:
    """Give a PipelineSpec as the server takes it: without its own cache, and in today's schema.

    The server's cache knows images, not code; TFX compiles to the schema before, which only Vertex AI still takes.

    >>> spec_of({"root": {"dag": {"tasks": {"a": {"cachingOptions": {"enableCache": True}}}}}})
    {'root': {'dag': {'tasks': {'a': {'cachingOptions': {}}}}}}
    """
    spec = copy.deepcopy(dict(document))
    if spec.get("schemaVersion") == "2.0.0":
        spec = {**modern(spec), "schemaVersion": SCHEMA}
    for component in [spec.get("root", {}), *spec.get("components", {}).values()]:
        for task in component.get("dag", {}).get("tasks", {}).values():
            task["cachingOptions"] = {}
    return spec


def modern(value: Any, inside: str = "") -> Any:
    """Write what schema 2.0 says in the words of 2.1: types of parameters, constants, parameters of the pipeline.

    >>> modern({"parameters": {"n": {"type": "INT"}}})
    {'parameters': {'n': {'parameterType': 'NUMBER_INTEGER'}}}
    >>> modern({"runtimeValue": {"constantValue": {"intValue": "3"}}})
    {'runtimeValue': {'constant': 3}}
    >>> modern({"runtimeValue": {"runtimeParameter": "rows"}})
    {'componentInputParameter': 'rows'}
    """
    if isinstance(value, list):
        return [modern(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"runtimeValue"} and "runtimeParameter" in value["runtimeValue"]:
        return {"componentInputParameter": value["runtimeValue"]["runtimeParameter"]}
    if inside == "parameters" and value.get("type") in OLD_TYPES:
        return {"parameterType": OLD_TYPES[value["type"]]}
    found = {key: _within(key, item) for key, item in value.items()}
    if "constantValue" in found:
        found["constant"] = from_old(found.pop("constantValue"))
    return found


def _within(key: str, value: Any) -> Any:
    if key == "parameters" and isinstance(value, dict):
        return {name: modern(item, "parameters") for name, item in value.items()}
    return modern(value)


def leaves_of(spec: Mapping[str, Any]) -> dict[str, str]:
    """Give the path of each task that runs something, with a star for a loop's iteration, and the name it has there.

    >>> leaves_of({"root": {"dag": {"tasks": {"a": {"componentRef": {"name": "c"}}}}}, "components": {"c": {}}})
    {'a': 'a'}
    """
    return dict(_leaves(spec, spec.get("root", {}), ""))


def _leaves(spec: Mapping[str, Any], component: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for key, task in component.get("dag", {}).get("tasks", {}).items():
        inner = spec.get("components", {}).get(task.get("componentRef", {}).get("name"), {})
        if "dag" in inner:
            loop = "*/" if "parameterIterator" in task or "artifactIterator" in task else ""
            yield from _leaves(spec, inner, f"{path}{key}/{loop}")
        else:
            yield f"{path}{key}", key


def status_of(run: Mapping[str, Any]) -> RemoteStatus:
    """Read how far a run is."""
    state = STATES.get(run.get("state") or "", "pending")
    history = [entry.get("state") for entry in run.get("state_history") or ()]
    if state == "failed" and "CANCELING" in history:  # the workflow of a run that is terminated fails
        state = "cancelled"
    details = (run.get("run_details") or {}).get("task_details") or []
    tasks = tuple(_tasks(run.get("pipeline_spec") or {}, details, state))
    return RemoteStatus(state=state, tasks=tasks, error=_error(run, tasks) if state == "failed" else None)


def _error(run: Mapping[str, Any], tasks: tuple[RemoteTask, ...]) -> str:
    said = (run.get("error") or {}).get("message")
    if said:
        return str(said)
    failed = [task.name for task in tasks if task.state == "failed"]
    return f"it failed in {', '.join(failed)}" if failed else "it failed"


def _tasks(spec: Mapping[str, Any], details: list[Mapping[str, Any]], state: RemoteState) -> Iterator[RemoteTask]:
    """Give a run's tasks. The server lists the nodes of its workflow, drivers too, by name and without nesting."""
    ended = state in ("succeeded", "failed", "cancelled")
    spec = spec.get("pipeline_spec", spec)
    for path, key in leaves_of(spec).items():
        found = sorted((d for d in details if d.get("display_name") == key), key=_begun)
        if not found:
            yield RemoteTask(name=path.replace("/*", ""), state="skipped" if ended else "pending")
        for number, detail in enumerate(found):
            task_state = TASK_STATES.get(detail.get("state") or "", "pending")
            yield RemoteTask(
                name=path.replace("*", str(number), 1).replace("/*", ""),
                state="cancelled" if state == "cancelled" and task_state in ("running", "failed") else task_state,
                seconds=_seconds(detail),
                error=(detail.get("error") or {}).get("message") or None,
            )


def children_of(run: Mapping[str, Any], task: str) -> list[str]:
    """Give the workflow's nodes below a task: one of them is its container."""
    key = task.rpartition("/")[2]
    details = (run.get("run_details") or {}).get("task_details") or []
    nodes = [child for d in details if d.get("display_name") == key for child in d.get("child_tasks") or ()]
    return [node["pod_name"] for node in nodes if node.get("pod_name")]


def _begun(detail: Mapping[str, Any]) -> str:
    return str(detail.get("start_time") or detail.get("create_time") or "")


def _seconds(detail: Mapping[str, Any]) -> float:
    begun, ended = (detail.get(key) for key in ("start_time", "end_time"))
    if not begun or not ended:
        return 0.0
    return max(0.0, (datetime.fromisoformat(ended) - datetime.fromisoformat(begun)).total_seconds())
