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
from trilho.pipeline.execution.execute import RunResult
from trilho.pipeline.ir.names import in_order
from trilho.pipeline.ir.spec import Component, ParameterType, Selection, Spec
from trilho.pipeline.ir.values import ValueMismatch, coerced, plain

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
    types = {name.rpartition("/")[2]: spec.component(task).outputs for name, task in spec.walk()}
    told = {task.name.rpartition("/")[2]: task for task in status.tasks}
    values: dict[str, Any] = {}
    digests: dict[str, str] = {}
    places: dict[str, str] = {}
    uris: dict[str, str] = {}
    for name in _once([task["name"] for task in tasks]):
        record, task = records.get(name), told.get(name)
        given = record.values if record is not None else task.values if task is not None else {}
        for key, value in given.items():
            values[f"{name}.{key}"] = _typed(value, types.get(name, {}).get(key))
        if record is not None:
            digests |= {f"{name}.{key}": output["digest"] for key, output in record.outputs.items()}
            places |= {f"{name}.{key}": output["uri"] for key, output in record.outputs.items()}
        elif task is not None:
            uris |= {f"{name}.{key}": uri for key, uri in task.artifacts.items()}
    state = status.state if status.state == "succeeded" else "failed"
    outputs = _outputs(spec, values, digests, places | uris)
    return Gathered(result=RunResult(state, tasks, outputs, values, digests, error, seconds), places=places)


def _typed(value: Any, kind: ParameterType | None) -> Any:
    """Give an output value as a run here does: of its declared type, whole numbers in maps and lists as integers."""
    try:
        return plain(value) if value is None or kind is None else coerced(value, kind)
    except ValueMismatch:
        return plain(value)


def results(spec: Spec, status: RemoteStatus, records: Mapping[str, StepRecord]) -> list[TaskResult]:
    """Give every task as a run here would have: what the steps wrote counts before what the service says."""
    needs, _ = _arrange(spec, spec.root)
    places = {name: place for place, name in enumerate(needs)}
    told = [*status.tasks, *_untold(spec, status)]
    listed = sorted(told, key=lambda task: places.get(_shape(task.name), len(places)))
    once = _once([task.name for task in listed])
    named: dict[str, list[str]] = {}
    for task in listed:
        named.setdefault(_shape(task.name), []).append(task.name)
    open_ = {group for task in told if STATES.get(task.state) for group in _groups(task.name)}
    found: dict[str, TaskResult] = {}
    for task in listed:
        closed = next((group for group in _groups(task.name) if group not in open_), task.name)
        wanted = [one for need in needs.get(_shape(closed), ()) for one in named.get(need, ())]
        leaf = task.name.rpartition("/")[2]
        record = records.get(leaf) if leaf in once else None
        found[task.name] = _result(task, record, [one for one in wanted if _is_near(one, task.name)], found)
    return list(found.values())


def _groups(name: str) -> list[str]:
    """Give the groups that a task is in, the outermost first.

    >>> _groups("condition-1/for-loop-2/0/fit")
    ['condition-1', 'condition-1/for-loop-2', 'condition-1/for-loop-2/0']
    """
    parts = name.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


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
    broke = task.state == "failed" and record is not None and record.state != "failed"  # after its last word
    if record is not None and not broke and task.state not in ("cancelled", "skipped"):
        state, seconds = record.state, record.seconds
        reason = f"unchanged since {record.since}" if record.since else ""
        reason = error_of(task.name.rpartition("/")[2], record, "").fact if record.error else reason
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


def _arrange(
    spec: Spec, component: Component, prefix: str = "", before: Sequence[str] = ()
) -> tuple[dict[str, Sequence[str]], Sequence[str]]:
    """Give the executions that every task below a component needs, by name and in order, and those that end it."""
    found: dict[str, Sequence[str]] = {}
    ends: dict[str, Sequence[str]] = {}
    tasks = in_order(component.dag) if component.dag is not None else []
    for task in tasks:
        name, part = prefix + task.name, spec.component(task)
        needs = list(dict.fromkeys(one for need in task.needs for one in ends[need])) if task.needs else before
        found[name], ends[task.name] = needs, [name]
        if part.dag is not None:
            inner, last = _arrange(spec, part, f"{name}/", needs)
            found |= inner
            ends[task.name] = last or needs
    needed = {need for task in tasks for need in task.needs}
    return found, [one for key, last in ends.items() if key not in needed for one in last]


def _is_near(name: str, task: str) -> bool:
    """Say whether a task is of the same iterations as another, of the loops that both are in.

    >>> _is_near("loop/1/fit", "loop/1/score"), _is_near("loop/1/fit", "loop/2/score"), _is_near("loop/1/fit", "best")
    (True, False, True)
    """
    apart = next(((a, b) for a, b in zip(name.split("/"), task.split("/"), strict=False) if a != b), ("", ""))
    return not (apart[0].isdigit() and apart[1].isdigit())


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
    """Give the pipeline's outputs, as the steps wrote them or else as the service tells them."""
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
            if key in places:
                digest = {"digest": digests[key]} if key in digests else {}
                found[name] = {"uri": places[key], "type": "", "metadata": {}, **digest}
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
    told = (status.error or "no reason was given").splitlines()[0].removeprefix(f"step {name} failed: ")
    why = failed["reason"] or told
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
