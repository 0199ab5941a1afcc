"""Rules about what is connected to what: arguments, outputs, parameters, and the order that follows."""

from __future__ import annotations

from collections.abc import Iterator

from trilho.core.spelling import near
from trilho.pipeline.definition.document import Group, references_in
from trilho.pipeline.definition.interface import StepInterface
from trilho.pipeline.rules.reading import Finding, Reading, Use, called, shown

WHOLE = "*"


def unknown_argument(reading: Reading) -> Iterator[Finding]:
    """Find arguments that a step does not take."""
    for task in reading.definition.all_tasks():
        interface = reading.interface(task)
        for name in task.arguments if interface is not None else ():
            assert interface is not None
            if name in interface.outputs:
                message = f"task {task.name}: {name} is an output of {task.step}, and outputs are not given"
                yield reading.finding("unknown argument", message, task.at, f'others read it as "{task.name}.{name}"')
            elif name not in interface.takes:
                message = f"task {task.name}: {task.step} takes no argument {name}"
                yield reading.finding("unknown argument", message, task.at, near(name, list(interface.takes)))


def missing_input(reading: Reading) -> Iterator[Finding]:
    """Find arguments that a step needs and is not given."""
    for task in reading.definition.all_tasks():
        interface = reading.interface(task)
        if interface is None:
            continue
        needed = [*interface.inputs, *(name for name, one in interface.parameters.items() if one.required)]
        for name in needed:
            if name not in task.arguments:
                message = f"task {task.name}: {task.step} needs {name}, and it is not given"
                yield reading.finding("missing input", message, task.at, _how(interface, name))


def _how(interface: StepInterface, name: str) -> str:
    if name in interface.inputs:
        return f'{name}="TASK.OUTPUT", an artifact of the kind {interface.inputs[name].kind}'
    return f"{name}=..., of the type {interface.parameters[name].type}"


def unknown_output(reading: Reading) -> Iterator[Finding]:
    """Find references to tasks, and to outputs of them, that are not there."""
    for use in reading.uses():
        for reference in references_in(use.value):
            yield from _unknown(reading, use, reference)
    for task in reading.definition.all_tasks():
        for name in task.after:
            if name not in reading.tasks:
                message = f"task {task.name} runs after {name!r}, and there is no such task"
                yield reading.finding("unknown task", message, task.at, near(name, list(reading.tasks)))


def _unknown(reading: Reading, use: Use, reference: str) -> Iterator[Finding]:
    name, _, output = reference.partition(".")
    task = reading.tasks.get(name)
    every = [f"{other.name}.{key}" for other in reading.definition.tasks for key in reading.gives(other) or ()]
    if task is None:
        rule = "unknown task"
        message = f"{use.where} is {reference!r}, and there is no task {name!r}"
        hint = near(reference if output else name, every if output else list(reading.tasks))
        if "/" in reference:
            hint = f'p.artifact("NAME", uri="{reference}") is one that is there already'
        yield reading.finding(rule, message, use.at, hint)
        return
    given = reading.gives(task)
    if given is not None and output not in given:
        said = f"and task {name} has no output {output!r}" if output else 'which is a task; "TASK.OUTPUT" is wanted'
        allowed = [f"{name}.{key}" for key in given]
        hint = near(reference, allowed) if output else f"there are: {', '.join(allowed) or 'none'}"
        yield reading.finding("unknown output", f"{use.where} is {reference!r}, {said}", use.at, hint)


def odd_output(reading: Reading) -> Iterator[Finding]:
    """Find outputs of the pipeline that no task makes."""
    for name, value in reading.definition.outputs.items():
        if not references_in(value) or value.keys() & {"op", "all", "any", "not"}:
            message = f"the pipeline's output {name} is {shown(value)}; an output of a task is wanted"
            at = reading.definition.outputs_at.get(name, reading.definition.at)
            yield reading.finding("unknown output", message, at, f'output("{name}", "TASK.OUTPUT")')


def unknown_parameter(reading: Reading) -> Iterator[Finding]:
    """Find parameters that the pipeline does not have."""
    for use in reading.uses():
        name = use.value.get("param")
        if name is not None and name not in reading.definition.parameters:
            message = f"{use.where} is Param({name!r}), and the pipeline has no such parameter"
            hint = near(name, list(reading.definition.parameters))
            yield reading.finding("unknown parameter", message, use.at, hint)


def unknown_code(reading: Reading) -> Iterator[Finding]:
    """Find options that name parameters which the step does not take."""
    for task in reading.definition.all_tasks():
        interface = reading.interface(task)
        if interface is None:
            continue
        uncounted = task.uncounted if task.uncounted is not None else interface.options.get("uncounted", ())
        for name in uncounted:
            if name not in interface.parameters:
                message = f"task {task.name}: uncounted names {name!r}, and {task.step} has no such parameter"
                yield reading.finding("unknown argument", message, task.at, near(name, list(interface.parameters)))
        for reference in task.code or ():
            if reference != WHOLE and ":" not in reference:
                message = f"task {task.name}: code names {reference!r}; a function is wanted"
                yield reading.finding("unknown step", message, task.at, '"package.module:function", or "*" for all')


def circle(reading: Reading) -> Iterator[Finding]:
    """Find tasks that wait for each other. A block counts as one where what is outside of it is concerned."""
    needs = _needs(reading)
    done: set[str] = set()
    for start in needs:
        found = _circle_from(start, needs, done)
        if found:
            names = " -> ".join(_named(reading, name) for name in (*found, found[0]))
            at = next((reading.tasks[n].at for n in found if n in reading.tasks), reading.definition.at)
            yield reading.finding("circle", f"these wait for each other: {names}", at)
            return


def _needs(reading: Reading) -> dict[str, list[str]]:
    """Say which tasks and blocks wait for which; each end is what lies in the innermost block around both."""
    needs: dict[str, list[str]] = {}
    for use in reading.uses():
        reader = use.task.name if use.task is not None else _block(use.group) if use.group is not None else None
        for reference in references_in(use.value) if reader is not None else ():
            _edge(reading, needs, str(reader), [*map(_block, use.scope)], reference.partition(".")[0])
    for task in reading.definition.all_tasks():
        for name in task.after:
            _edge(reading, needs, task.name, [*map(_block, reading.scope(task.group))], name)
    return needs


def _edge(reading: Reading, needs: dict[str, list[str]], reader: str, around: list[str], maker: str) -> None:
    if maker not in reading.tasks:
        return
    theirs = [*map(_block, reading.scope(reading.tasks[maker].group)), maker]
    mine = [*around, reader]
    while len(mine) > 1 and len(theirs) > 1 and mine[0] == theirs[0]:
        mine, theirs = mine[1:], theirs[1:]
    needs.setdefault(mine[0], []).append(theirs[0])


def _block(group: Group) -> str:
    """Give what stands for a block; all branches of a chain are one."""
    return f"block {group.chain or group.name}"


def _named(reading: Reading, name: str) -> str:
    group = reading.groups.get(name.removeprefix("block "))
    return called(group) if group is not None and name not in reading.tasks else name


def _circle_from(start: str, needs: dict[str, list[str]], done: set[str]) -> list[str]:
    """Walk from a task to what it needs; give the first way that comes back to itself."""
    path: list[str] = []
    todo: list[tuple[str, bool]] = [(start, False)]
    while todo:
        name, left = todo.pop()
        if left:
            done.add(path.pop())
        elif name in path:
            return path[path.index(name) :]
        elif name not in done:
            path.append(name)
            todo += [(name, True), *((needed, False) for needed in needs.get(name, ()))]
    return []


def unused_output(reading: Reading) -> Iterator[Finding]:
    """Find what is made for nobody. Metrics are for people to see; what steps of ours leave, the platform reads."""
    read = {reference for use in reading.uses() for reference in references_in(use.value)}
    for task in reading.definition.all_tasks():
        if str(task.step).startswith("trilho."):
            continue
        for name, seen in (reading.gives(task) or {}).items():
            if f"{task.name}.{name}" not in read and not (seen.is_artifact and seen.type == "metrics"):
                message = f"nobody reads {task.name}.{name}, and it is no output of the pipeline"
                can = task in reading.definition.tasks and task.group is None
                hint = f'output("NAME", "{task.name}.{name}")' if can else ""
                yield reading.finding("unused output", message, task.at, hint, "warning")


def unused_parameter(reading: Reading) -> Iterator[Finding]:
    """Find parameters of the pipeline that change nothing."""
    read = {use.value["param"] for use in reading.uses() if "param" in use.value}
    for name in reading.definition.parameters:
        if name not in read:
            message = f"nobody reads the pipeline's parameter {name}"
            yield reading.finding("unused parameter", message, reading.definition.at, severity="warning")
