"""What a run elsewhere came to, put together from what the service says of its tasks and what the steps left there.

The result is the one that the executor gives of a run on this machine, so that whoever reads it need not know where
the run was. Artifacts stay where they are until somebody fetches them by `places`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import trilho.errors
from trilho.core.ports import RemoteFiles, RemoteStatus, RemoteTask
from trilho.core.records import TaskResult, TaskState
from trilho.errors import StepFailed, TrilhoError
from trilho.pipeline.execute import RunResult
from trilho.pipeline.spec import Selection, Spec

LINES = 40  # of a failed step's output that its error shows
ITERATION = re.compile(r"/\d+(?=/)")
STATES: dict[str, TaskState] = {
    "succeeded": "ran",
    "cached": "cached",
    "failed": "failed",
    "running": "failed",
    "cancelled": "failed",
}


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """How a step of ours ended there, as it wrote itself."""

    task: str
    state: TaskState
    seconds: float
    outputs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, Any] | None = None
    said: Sequence[str] = ()
    since: str | None = None


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """A run's result, and where the artifacts lie that it names by digest."""

    result: RunResult
    places: Mapping[str, str]
    """The URI of each artifact, by "task.name"."""


def read_records(files: RemoteFiles, root: str, run: str) -> dict[str, StepRecord]:
    """Read what the steps of a run wrote, by the step's name; a record that is not whole counts as none."""
    found = {}
    for uri in files.list(f"{root.rstrip('/')}/runs/{run}"):
        record = _record(files.read(uri)) if uri.endswith(".json") else None
        if record is not None:
            found[record.task] = record
    return found


def _record(content: bytes | None) -> StepRecord | None:
    try:
        found = json.loads(content or b"")
        said = found.get("said") or []
        return StepRecord(
            task=str(found["task"]),
            state=found["state"],
            seconds=float(found["seconds"]),
            outputs=dict(found.get("outputs") or {}),
            values=dict(found.get("values") or {}),
            error=found.get("error"),
            said=said.splitlines() if isinstance(said, str) else list(said),
            since=found.get("since"),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def gather(
    spec: Spec,
    status: RemoteStatus,
    records: Mapping[str, StepRecord],
    *,
    run: str,
    seconds: float,
    log: Callable[[str], str] = lambda _task: "",
) -> Gathered:
    """Put a run together that has ended. `log` gives what a task printed, for one that failed without a word."""
    tasks = results(spec, status, records)
    error = None if status.state == "succeeded" else _error(run, status, tasks, records, log)
    values: dict[str, Any] = {}
    digests: dict[str, str] = {}
    places: dict[str, str] = {}
    for name in _once([task["name"] for task in tasks]):
        record = records.get(name)
        if record is not None:
            values |= {f"{name}.{key}": value for key, value in record.values.items()}
            digests |= {f"{name}.{key}": output["digest"] for key, output in record.outputs.items()}
            places |= {f"{name}.{key}": output["uri"] for key, output in record.outputs.items()}
    state = status.state if status.state == "succeeded" else "failed"
    outputs = _outputs(spec, values, digests, places)
    return Gathered(result=RunResult(state, tasks, outputs, values, digests, error, seconds), places=places)


def results(spec: Spec, status: RemoteStatus, records: Mapping[str, StepRecord]) -> list[TaskResult]:
    """Give every task as a run here would have: what the steps wrote counts before what the service says."""
    known = {name: (place, task) for place, (name, task) in enumerate(spec.walk())}
    told = [*status.tasks, *_untold(spec, status)]
    listed = sorted(told, key=lambda task: (_rank(spec, task.name), known.get(_shape(task.name), (0,))[0]))
    once = _once([task.name for task in listed])
    found: dict[str, TaskResult] = {}
    for task in listed:
        entry = known.get(_shape(task.name))
        prefix = task.name.rpartition("/")[0]
        needs = [f"{prefix}/{need}" if prefix else need for need in (entry[1].needs if entry else ())]
        leaf = task.name.rpartition("/")[2]
        record = records.get(leaf) if leaf in once else None
        found[task.name] = _result(task, record, needs, found)
    return list(found.values())


def _untold(spec: Spec, status: RemoteStatus) -> list[RemoteTask]:
    """Give the leaves that a service does not list because their group was not entered; a loop's are not known."""
    known = {task.name for task in status.tasks}
    loops = [name for name, task in spec.walk() if task.loop is not None]
    return [
        RemoteTask(name=name, state="skipped")
        for name, task in spec.walk()
        if spec.component(task).dag is None and name not in known and not any(name.startswith(f"{x}/") for x in loops)
    ]


def _result(
    task: RemoteTask, record: StepRecord | None, needs: list[str], before: Mapping[str, TaskResult]
) -> TaskResult:
    state: TaskState = STATES.get(task.state, "skipped")
    reason, seconds = task.error or "", task.seconds
    if record is not None and task.state not in ("cancelled", "skipped"):
        state, seconds = record.state, record.seconds
        reason = f"unchanged since {record.since}" if record.since else str((record.error or {}).get("fact") or "")
    if task.state == "cancelled":
        reason = "it was cancelled"
    if state == "skipped" and not reason:
        causes = [*needs, task.name.rpartition("/")[0]]
        reason = next((f"{name} {x['state']}" for name in causes if (x := before.get(name)) and _stops(x)), "")
    lines = reason.strip().splitlines()
    return TaskResult(
        name=task.name, state=state, seconds=round(seconds, 4), needs=needs, reason=lines[0] if lines else ""
    )


def _stops(task: TaskResult) -> bool:
    return task["state"] in ("failed", "skipped")


def _rank(spec: Spec, name: str) -> int:
    """Give the place of a task's outermost group in an order in which needs come first."""
    dag = spec.root.dag
    order: list[str] = []
    left = list(dag.tasks.items()) if dag is not None else []
    while left:
        ready = [key for key, task in left if set(task.needs) <= set(order)] or [key for key, _ in left]
        order += ready
        left = [(key, task) for key, task in left if key not in ready]
    outer = name.partition("/")[0]
    return order.index(outer) if outer in order else len(order)


def _shape(name: str) -> str:
    """Name a loop's task as its pipeline does, without the iteration.

    >>> _shape("for-loop-2/0/fit")
    'for-loop-2/fit'
    """
    return ITERATION.sub("", name)


def _once(names: Sequence[str]) -> set[str]:
    """Give the last parts of names that only one task has: only those can be told apart by it."""
    last = [name.rpartition("/")[2] for name in names]
    return {name for name in last if last.count(name) == 1}


def _outputs(
    spec: Spec, values: Mapping[str, Any], digests: Mapping[str, str], places: Mapping[str, str]
) -> dict[str, Any]:
    """Give the pipeline's outputs as far as steps of ours made them; what others left only the service knows."""
    dag = spec.root.dag
    if dag is None:
        return {}
    found: dict[str, Any] = {}
    for name, selection in dag.parameters.items():
        for key in _keys(selection):
            if key in values:
                found[name] = values[key]
    for name, selection in dag.artifacts.items():
        for key in _keys(selection):
            if key in digests:
                found[name] = {"uri": places[key], "type": "", "metadata": {}, "digest": digests[key]}
    return found


def _keys(selection: Selection) -> list[str]:
    return [f"{source.task}.{source.key}" for source in selection.sources]


def _error(
    run: str,
    status: RemoteStatus,
    tasks: Sequence[TaskResult],
    records: Mapping[str, StepRecord],
    log: Callable[[str], str],
) -> TrilhoError:
    failed = next((task for task in tasks if task["state"] == "failed"), None)
    if status.state == "cancelled":
        return StepFailed(f"run {run} was cancelled", hint="trilho train repeats only what was unfinished")
    if failed is None:
        return StepFailed(status.error or f"run {run} failed, and no task of it did", hint=f"trilho runs show {run}")
    name, hint = failed["name"], f"trilho runs logs {run} {failed['name']}"
    record = records.get(name.rpartition("/")[2])
    if record is not None and record.error:
        return error_of(name, record, hint)
    lines = log(name).rstrip().splitlines()[-LINES:]
    why = failed["reason"] or status.error or "no reason was given"
    return StepFailed("\n".join([f"step {name} failed: {why}", *lines]), hint=hint)


def error_of(name: str, record: StepRecord, hint: str) -> TrilhoError:
    """Give a failed step's error: of the class that it raised where that is one of ours, else with its own words."""
    error = record.error or {}
    fact = str(error.get("fact") or "no reason was given")
    kind = getattr(trilho.errors, str(error.get("kind")), None)
    if isinstance(kind, type) and issubclass(kind, TrilhoError) and kind is not StepFailed:
        return kind(fact, hint=error.get("hint") or hint)
    lines = [line for line in record.said if line.partition(" failed: ")[2] != fact][-LINES:]
    return StepFailed("\n".join([f"step {name} failed: {fact}", *lines]), hint=error.get("hint") or hint)
