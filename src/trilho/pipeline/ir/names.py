"""Holds a pipeline's names against each other: whatever a task names has to be there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from trilho.core.spelling import near
from trilho.pipeline.ir.spec import (
    Component,
    ComponentInput,
    Dag,
    FinalStatus,
    Input,
    IrError,
    Selection,
    Source,
    Spec,
    Task,
    TaskOutput,
)


def check_names(spec: Spec) -> None:
    """Raise IrError for the first name that nothing answers to, and for what goes in a circle."""
    for component in (spec.root, *spec.components.values()):
        if component.executor is not None:
            _want(component.executor, spec.executors, f"component {component.name}: executor")
        if component.dag is not None:
            _check_dag(spec, component, component.dag)
    _check_nesting(spec)


def in_order(dag: Dag, where: str = "root") -> list[Task]:
    """Give a graph's tasks so that each comes after what it needs. Raises IrError for a circle."""
    waits = {name: len(task.needs) for name, task in dag.tasks.items()}
    users: dict[str, list[str]] = {name: [] for name in dag.tasks}
    for name, task in dag.tasks.items():
        for need in task.needs:
            users[need].append(name)
    ready = [name for name, left in waits.items() if left == 0]
    for name in ready:  # it grows
        for user in users[name]:
            waits[user] -= 1
            if waits[user] == 0:
                ready.append(user)
    if len(ready) < len(waits):
        raise IrError(f"{where} goes in a circle: {', '.join(sorted(set(waits) - set(ready)))}")
    return [dag.tasks[name] for name in ready]


def mend(component: Component) -> Component:
    """Let a group's tasks take the field of a loop's item under the name that the group has it by.

    The official compiler gives a chain of conditions the field that they compare (ITEM-subvar-FIELD), and then lets
    each of them take that field of the item, which the chain was not given.
    """
    if component.dag is None:
        return component
    tasks = {
        name: replace(task, parameters={key: _mended(key, one, component) for key, one in task.parameters.items()})
        for name, task in component.dag.tasks.items()
    }
    return replace(component, dag=replace(component.dag, tasks=tasks))


def _mended(key: str, given: Input, component: Component) -> Input:
    source = given.source
    if not isinstance(source, ComponentInput) or source.name in component.inputs or key not in component.inputs:
        return given
    return Input(ComponentInput(key), None) if key.startswith(f"{source.name}-subvar-") else given


def _want(name: str, allowed: Mapping[str, object], what: str) -> None:
    if name not in allowed:
        raise IrError(f"{what} {name!r} is not there", hint=near(name, allowed))


def _check_dag(spec: Spec, parent: Component, dag: Dag) -> None:
    where = parent.name if parent is spec.root else f"component {parent.name}"
    for task in dag.tasks.values():
        _want(task.component, spec.components, f"task {task.name}: component")
    for task in dag.tasks.values():
        for need in task.needs:
            _want(need, dag.tasks, f"task {task.name}: the task")
        _check_inputs(spec, parent, dag, task)
    for what, outputs in (("parameter", dag.parameters), ("artifact", dag.artifacts)):
        for name, selection in outputs.items():
            _check_selection(spec, dag, selection, what, f"{where}: output {name}")
    in_order(dag, where)


def _check_inputs(spec: Spec, parent: Component, dag: Dag, task: Task) -> None:
    for name, given in task.parameters.items():
        _check_source(spec, parent, dag, given.source, "parameter", f"task {task.name}: input {name}")
    for name, source in task.artifacts.items():
        _check_source(spec, parent, dag, source, "artifact", f"task {task.name}: input {name}")
    if task.loop is not None and task.loop.input is not None:
        held = task.parameters if task.loop.over == "parameter" else task.artifacts
        _want(task.loop.input, held, f"task {task.name}: the input of its loop")


def _check_source(spec: Spec, parent: Component, dag: Dag, source: Source, what: str, where: str) -> None:
    if isinstance(source, ComponentInput):
        held: Mapping[str, object] = parent.inputs if what == "parameter" else parent.artifact_inputs
        _want(source.name, held, f"{where}: the {what}")
    elif isinstance(source, TaskOutput):
        _check_output(spec, dag, source, what, where)
    elif isinstance(source, FinalStatus):
        _want(source.task, dag.tasks, f"{where}: the task")


def _check_selection(spec: Spec, dag: Dag, selection: Selection, what: str, where: str) -> None:
    if not selection.sources:
        raise IrError(f"{where} comes from nowhere")
    for source in selection.sources:
        _want(source.task, dag.tasks, f"{where}: the task")
        _check_output(spec, dag, source, what, where)


def _check_output(spec: Spec, dag: Dag, source: TaskOutput, what: str, where: str) -> None:
    made = spec.component(dag.tasks[source.task])
    held: Mapping[str, object] = made.outputs if what == "parameter" else made.artifact_outputs
    _want(source.key, held, f"{where}: the {what} of task {source.task}")


def _check_nesting(spec: Spec) -> None:
    def inside(component: Component) -> Iterator[Component]:
        for task in component.dag.tasks.values() if component.dag is not None else ():
            yield spec.component(task)

    done: set[str] = set()

    def visit(component: Component, above: tuple[str, ...]) -> None:
        if component.name in above:
            raise IrError(f"component {component.name} is inside itself: {' > '.join((*above, component.name))}")
        if component.name not in done:
            for part in inside(component):
                visit(part, (*above, component.name))
            done.add(component.name)

    visit(spec.root, ())
