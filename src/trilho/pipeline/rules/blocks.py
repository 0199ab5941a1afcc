"""Rules about blocks: what may be read from within a branch or a loop, and what belongs together."""

from __future__ import annotations

from collections.abc import Iterator

from trilho.core.spelling import near
from trilho.pipeline.definition.document import Group
from trilho.pipeline.rules.reading import Finding, Reading, Use, called, shown

BRANCHES = ("when", "otherwise")


def _crossed(reading: Reading, reference: str, scope: tuple[Group, ...]) -> list[Group]:
    """Give the blocks that a task's output has to leave to be read from a scope, the outermost first."""
    task = reading.tasks.get(reference.partition(".")[0])
    around = reading.scope(task.group) if task is not None else ()
    return [group for group in around if group not in scope]


def _plain_uses(reading: Reading) -> Iterator[tuple[Use, str]]:
    """Give what is read as one task's output, but by tasks at the end, which have a rule of their own."""
    for use in reading.uses():
        if "ref" in use.value and use.task not in reading.exits:
            yield use, use.value["ref"]


def branch_read_outside(reading: Reading) -> Iterator[Finding]:
    """Find outputs of a branch that are read where the branch may not have run."""
    for use, reference in _plain_uses(reading):
        crossed = _crossed(reading, reference, use.scope)
        if crossed and crossed[0].kind in BRANCHES:
            yield _outside(reading, use, reference, crossed[0], f'FirstOf("{reference}", ...) with its otherwise()')
    for use in reading.uses():
        collected = str(use.value.get("collected", ""))
        for group in _crossed(reading, collected, use.scope):
            if group.kind in BRANCHES:
                yield _outside(reading, use, collected, group, "read it within, or collect what always runs")


def _outside(reading: Reading, use: Use, reference: str, group: Group, hint: str) -> Finding:
    message = f"{use.where} is {reference!r}, which is only there if {called(group)} holds"
    return reading.finding("outside its condition", message, use.at, hint)


def loop_read_outside(reading: Reading) -> Iterator[Finding]:
    """Find outputs of a loop that are read outside of it as if there were one."""
    for use, reference in _plain_uses(reading):
        crossed = _crossed(reading, reference, use.scope)
        if crossed and crossed[0].kind == "each":
            message = f"{use.where} is {reference!r}, which there is once for each item of {called(crossed[0])}"
            yield reading.finding("outside its loop", message, use.at, f'Collected("{reference}") is the list of them')


def waits_into_block(reading: Reading) -> Iterator[Finding]:
    """Find tasks that wait for one within a block that they are not in."""
    for task in reading.definition.tasks:
        for name in task.after:
            crossed = _crossed(reading, name, reading.scope(task.group))
            if crossed:
                message = f"task {task.name} runs after {name}, which is within {called(crossed[0])}"
                yield reading.finding(
                    "outside its block", message, task.at, "put both into the block, or wait for none"
                )


def item_outside_loop(reading: Reading) -> Iterator[Finding]:
    """Find items that are read where their loop is not."""
    loops = {group.name: group for group in reading.definition.groups if group.kind == "each"}
    for use in reading.uses():
        name = use.value.get("item")
        if name is not None and name not in loops:
            message = f"{use.where} is {shown(use.value)}, and there is no such loop"
            yield reading.finding("outside its loop", message, use.at, near(name, list(loops)))
        elif name is not None and loops[name] not in use.scope:
            message = f"{use.where} is {shown(use.value)}, outside of {called(loops[name])}"
            yield reading.finding("outside its loop", message, use.at, "an item is only there within its loop")


def collected_outside_loop(reading: Reading) -> Iterator[Finding]:
    """Find what is collected and does not come from a loop, or is collected within the loop itself."""
    for use in reading.uses():
        name = use.value.get("collected")
        if name is None or name.partition(".")[0] not in reading.tasks:
            continue
        if not any(group.kind == "each" for group in _crossed(reading, name, use.scope)):
            task = reading.tasks[name.partition(".")[0]]
            loops = [group for group in reading.scope(task.group) if group.kind == "each"]
            said = f"read within {called(loops[-1])} itself" if loops else "made in no loop"
            message = f"{use.where} is {shown(use.value)}, which is {said}"
            yield reading.finding("outside its loop", message, use.at, f'Value("{name}") is what one task found')


def first_of_no_chain(reading: Reading) -> Iterator[Finding]:
    """Find alternatives that are not the branches of one when() and its otherwise(), all of them."""
    for use in reading.uses():
        names = use.value.get("first_of")
        if names is None or any(name.partition(".")[0] not in reading.tasks for name in names):
            continue
        groups = [reading.groups.get(reading.tasks[name.partition(".")[0]].group or "") for name in names]
        problem = _no_chain(reading, groups) or _no_type(reading, names) or _no_way(reading, names, use.scope)
        if problem:
            yield reading.finding("no alternatives", f"{use.where} is {shown(use.value)}: {problem}", use.at)


def _no_chain(reading: Reading, groups: list[Group | None]) -> str:
    chains = {(group.chain or group.name) if group is not None and group.kind in BRANCHES else None for group in groups}
    if len(chains) != 1 or None in chains:
        return "they are not in the branches of one when() and its otherwise()"
    branches = [g for g in reading.definition.groups if chains & {g.name, g.chain} and g.kind in BRANCHES]
    if branches[-1].kind == "when" or branches[-1].condition is not None:
        return "no otherwise() without a condition is there, so that none of them may be"
    missing = [called(branch) for branch in branches if branch not in groups]
    return f"nothing of {', '.join(missing)} is among them" if missing else ""


def _no_way(reading: Reading, names: list[str], scope: tuple[Group, ...]) -> str:
    around = reading.scope(reading.tasks[names[0].partition(".")[0]].group)[:-1]
    crossed = [group for group in around if group not in scope]
    return f"they are within {called(crossed[0])}, and this is not" if crossed else ""


def _no_type(reading: Reading, names: list[str]) -> str:
    seen = {str(found) for found in map(reading.output, names) if found is not None}
    return f"they are of different types: {', '.join(sorted(seen))}" if len(seen) > 1 else ""


def broken_chain(reading: Reading) -> Iterator[Finding]:
    """Find an otherwise() that does not follow what it is the other case of."""
    for group in reading.definition.groups:
        if group.kind == "otherwise" and group.chain not in reading.groups:
            message = f"{called(group)} does not follow a when(), or an otherwise() with a condition, of its own block"
            yield reading.finding("otherwise without when", message, group.at, "nothing may stand between the two")


def empty_block(reading: Reading) -> Iterator[Finding]:
    """Find blocks without a task."""
    used = {task.group for task in reading.definition.tasks} | {group.parent for group in reading.definition.groups}
    for group in reading.definition.groups:
        if group.kind != "exit" and group.name not in used:
            yield reading.finding("empty block", f"{called(group)} has no task in it", group.at)
