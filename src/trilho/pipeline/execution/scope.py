"""A graph of tasks at work: what each of its tasks is given, and what the graph itself leaves."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trilho.core.digest import digest_json
from trilho.errors import StepFailed
from trilho.pipeline.execution.outcome import Done
from trilho.pipeline.ir.expression import ExpressionError, Untyped, parse, text_of
from trilho.pipeline.ir.placeholder import Filling, PlaceholderError
from trilho.pipeline.ir.reader import (
    MISSING,
    Component,
    ComponentInput,
    Constant,
    FinalStatus,
    Parameter,
    Selection,
    Source,
    Spec,
    Task,
    TaskOutput,
)
from trilho.pipeline.ir.values import ValueMismatch, coerced, from_old, plain, shown, to_old
from trilho.pipeline.keeping.artifacts import Artifact, Artifacts

CHANNEL = "pipelinechannel--"
STATES = {"ran": "SUCCEEDED", "cached": "SUCCEEDED", "skipped": "SKIPPED", "failed": "FAILED"}


class Absent(Exception):
    """A value is not there since what makes it was skipped."""


class Unresolved(StepFailed):
    """What a task is given, or the condition that it has, can't be told."""


@dataclass(frozen=True)
class Given:
    """What a task or a graph was given."""

    parameters: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, tuple[Artifact, ...]] = field(default_factory=dict)

    def with_item(self, name: str, item: Any, component: Component) -> Given:
        """Give it with one iteration's item. In a group what uses the item says of which type it is."""
        if isinstance(item, Artifact):
            return Given(self.parameters, {**self.artifacts, name: (item,)})
        kind = component.inputs.get(name)
        value = plain(item) if kind is None or component.dag is not None else coerced(item, kind.type)
        return Given({**self.parameters, name: value}, self.artifacts)


@dataclass
class Scope:
    """One execution of a graph."""

    spec: Spec
    component: Component
    path: str
    """Its name as a prefix: "" or "for-loop-2/0/"."""
    given: Given
    facts: Mapping[str, str]
    ended: dict[str, Done] = field(default_factory=dict)

    def given_to(self, task: Task) -> Given:
        """Find what a task is given. Raises Absent where it comes from what was skipped, Unresolved where it is not."""
        component = self.spec.component(task)
        parameters: dict[str, Any] = {}
        filling = Filling({"inputs": {"parameterValues": parameters}}, self.facts_of(task))
        constant = {name for name, one in task.parameters.items() if isinstance(one.source, Constant)}
        for name in sorted(task.parameters, key=lambda name: name in constant):  # a constant's text may hold the others
            self._take(task, component, name, parameters, filling)
        self._defaults(task, component, parameters)
        artifacts = {name: self._artifacts(task, component, name, one) for name, one in task.artifacts.items()}
        return Given(parameters, {name: listed for name, listed in artifacts.items() if listed is not None})

    def facts_of(self, task: Task, name: str | None = None) -> dict[str, str]:
        """Give the facts that placeholders of a task, or of one iteration of it, stand for."""
        mark = digest_json([self.facts["pipeline_job_uuid"], name or self.path + task.name])
        return {**self.facts, "pipeline_task_name": task.label, "pipeline_task_uuid": str(int(mark[:15], 16))}

    def holds(self, task: Task, given: Given) -> bool:
        """Say whether a task's condition is true. Raises Unresolved where that can't be told."""
        if task.condition is None:
            return True
        artifacts = {name: {"artifacts": [one.entry() for one in xs]} for name, xs in given.artifacts.items()}
        old = {name: _snake(to_old(value)) for name, value in given.parameters.items()}
        kinds = self.spec.component(task).inputs
        values = {
            name: Untyped(text_of(value)) if name in kinds and _is_passed(name, kinds[name], value) else value
            for name, value in given.parameters.items()
        }
        inputs = {"parameter_values": values, "parameters": old, "artifacts": artifacts}
        try:
            return parse(task.condition).holds({"inputs": inputs})
        except ExpressionError as error:
            raise Unresolved(
                f"task {self.path}{task.name} failed: its condition {task.condition!r} cannot be resolved: {error}",
                hint="correct the condition, or what it compares",
            ) from None

    def items(self, task: Task, given: Given) -> list[Any]:
        """Give what a task's loop goes over. Raises Unresolved where that is no list."""
        loop = task.loop
        assert loop is not None
        if loop.over == "artifact":
            return list(given.artifacts.get(loop.input or "", ()))
        value = list(loop.items) if loop.items is not None else given.parameters.get(loop.input or "")
        if isinstance(value, str):
            with contextlib.suppress(ValueError):
                value = json.loads(value)
        if not isinstance(value, list):
            raise Unresolved(
                f"task {self.path}{task.name} failed: its loop goes over {shown(value)}, which is no list",
                hint="give it a list",
            )
        return value

    def outputs(self) -> tuple[dict[str, Any], dict[str, tuple[Artifact, ...]]]:
        """Give what the graph leaves; what comes from a skipped task is not in it.

        Raises Unresolved where a choice between several has none, or more than one.
        """
        dag = self.component.dag
        assert dag is not None
        values: dict[str, Any] = {}
        for name, selection in dag.parameters.items():
            found = [self.ended[x.task].values[x.key] for x in self._present(name, selection, "values")]
            if found:
                values[name] = found[0]
        artifacts = {}
        for name, selection in dag.artifacts.items():
            present = self._present(name, selection, "artifacts")
            if present:
                artifacts[name] = tuple(one for x in present for one in self.ended[x.task].artifacts[x.key])
        return values, artifacts

    def _present(self, name: str, selection: Selection, kind: str) -> list[TaskOutput]:
        present = [x for x in selection.sources if x.key in getattr(self.ended[x.task], kind)]
        if selection.one_of and len(present) != 1:
            where = self.path.rstrip("/") or "the pipeline"
            of = ", ".join(x.task for x in selection.sources)
            ran = "none of them ran" if not present else f"{' and '.join(x.task for x in present)} ran"
            raise Unresolved(f"{where} failed: its output {name} is that of one of {of}, and {ran}")
        return present

    def _take(self, task: Task, component: Component, name: str, into: dict[str, Any], filling: Filling) -> None:
        one, kind = task.parameters[name], component.inputs.get(name)
        where = f"task {self.path}{task.name} failed: its input {name}"
        try:
            value = self._value(one.source, filling)
            if value is not None and one.selector is not None:
                value = parse(one.selector).value(_variables(value))
            if value is None:
                raise Absent("it is null")
            untyped = kind is None or _is_passed(name, kind, value)
            into[name] = plain(value) if kind is None or untyped else coerced(value, kind.type, kind.literals)
        except ExpressionError as error:
            raise Unresolved(f"{where}, {one.selector!r} of it, cannot be resolved: {error}") from None
        except (ValueMismatch, PlaceholderError) as error:
            raise Unresolved(f"{where}: {error}") from None
        except Absent as error:
            if kind is not None and kind.default is not MISSING:
                into[name] = kind.default
            elif kind is not None and not kind.optional and not _passes(component, one.source):
                if self._was_skipped(one.source):
                    raise
                raise Unresolved(f"{where} has no value: {error}", hint="give it, or a default") from None

    def _was_skipped(self, source: Source) -> bool:
        if not isinstance(source, TaskOutput):
            return False
        return self.ended[source.task].state != "failed"

    def _value(self, source: Source, filling: Filling) -> Any:
        match source:
            case Constant(value):
                return filling.value(value)
            case ComponentInput(name):
                if name not in self.given.parameters:
                    raise Absent(f"{name} was not given")
                return self.given.parameters[name]
            case FinalStatus(name):
                return self.status(name)
            case TaskOutput(name, key):
                return self._made(name, key, self.ended[name].values)

    def _made(self, name: str, key: str, held: Mapping[str, Any]) -> Any:
        state = self.ended[name].state
        if state in ("skipped", "failed"):
            raise Absent(f"{self.path}{name} {state}")
        if key not in held:
            raise Absent(f"{name} left no {key}")
        return held[key]

    def status(self, name: str) -> dict[str, Any]:
        """Say how a task ended, as a PipelineTaskFinalStatus."""
        done = self.ended[name]
        failed = {"code": 9, "message": done.reason}
        return {
            "state": STATES[done.state],
            "error": failed if done.state == "failed" else {},
            "pipelineJobResourceName": self.facts["pipeline_job_resource_name"],
            "pipelineTaskName": name,
        }

    def _defaults(self, task: Task, component: Component, parameters: dict[str, Any]) -> None:
        item = task.loop.item if task.loop is not None else None
        for name, kind in component.inputs.items():
            if name in parameters or name == item or name in task.parameters or kind.type == "TASK_CONFIG":
                continue
            if kind.default is not MISSING:
                parameters[name] = kind.default
            elif not kind.optional:
                raise Unresolved(
                    f"task {self.path}{task.name} failed: its input {name} has no value", hint="give it, or a default"
                )

    def _artifacts(self, task: Task, component: Component, name: str, source: Source) -> tuple[Artifact, ...] | None:
        takes = component.artifact_inputs.get(name)
        optional = takes is None or takes.optional
        where = f"task {self.path}{task.name} failed: its input {name}"
        try:
            if isinstance(source, TaskOutput):
                found: tuple[Artifact, ...] = self._made(source.task, source.key, self.ended[source.task].artifacts)
            elif isinstance(source, ComponentInput) and source.name in self.given.artifacts:
                found = self.given.artifacts[source.name]
            else:
                raise Absent("it was not given")
        except Absent as error:
            if optional or _passes(component, source):
                return None
            if self._was_skipped(source):
                raise
            raise Unresolved(f"{where} has no artifact: {error}") from None
        if component.executor is not None and not (takes is not None and takes.is_list) and len(found) != 1:
            if not found and optional:
                return None
            raise Unresolved(f"{where} takes one artifact, and was given {len(found)}")
        return found


def collected(component: Component, ended: list[Done]) -> tuple[dict[str, Any], Artifacts]:
    """Give what a loop leaves: of every output the list of what its iterations left, in their order."""
    values = {}
    for name, kind in component.outputs.items():
        listed = [done.values[name] for done in ended if name in done.values]
        values[name] = coerced(listed, "STRING" if kind == "STRING" else "LIST")
    artifacts = {
        name: tuple(one for done in ended for one in done.artifacts.get(name, ()))
        for name in component.artifact_outputs
    }
    return values, artifacts


def _passes(component: Component, source: Source) -> bool:
    """Say whether a group may go without an input: what is in it says whether it needs one that was never given."""
    return component.dag is not None and isinstance(source, ComponentInput)


def _is_passed(name: str, kind: Parameter, value: Any) -> bool:
    """Say whether a group only passes a value on: the compiler calls a loop's item text where it knows no better."""
    return name.startswith(CHANNEL) and kind.type == "STRING" and not isinstance(value, str)


def _variables(value: Any) -> dict[str, Any]:
    """Give the fields of a value, by the type that it has; as text every value can be had."""
    kinds = ((bool, "bool_value"), ((int, float), "number_value"), (list, "list_value"), (Mapping, "struct_value"))
    kind = next((name for kind, name in kinds if isinstance(value, kind)), "string_value")
    found = {kind: value, "string_value": text_of(value)}
    if isinstance(value, int) and not isinstance(value, bool):
        found["int_value"] = value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        found["double_value"] = float(value)
    return found


def _snake(old: dict[str, Any]) -> dict[str, Any]:
    names = {"intValue": "int_value", "doubleValue": "double_value", "stringValue": "string_value"}
    return {names[kind]: from_old({kind: value}) for kind, value in old.items()}
