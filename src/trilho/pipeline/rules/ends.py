"""Rules about how tasks run and end: exit tasks, failures that are overlooked, retries, limits and machines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from trilho.pipeline.definition.document import Task, references_in
from trilho.pipeline.rules.reading import Finding, Reading

CPU = re.compile(r"\d+(\.\d+)?|\d+m")
MEMORY = re.compile(r"\d+(\.\d+)?([KMGTPE]i?)?")


def many_exits(reading: Reading) -> Iterator[Finding]:
    """Find more than one task for the end."""
    for task in reading.exits[1:]:
        message = f"task {task.name} is a second on_exit(); a pipeline has one, and {reading.exits[0].name} is it"
        yield reading.finding("exit task", message, task.at)


def exit_reads_outputs(reading: Reading) -> Iterator[Finding]:
    """Find tasks for the end that read what may not be there then, and others that read what they leave."""
    ends = {task.name for task in reading.exits}
    for use in reading.uses():
        for reference in references_in(use.value):
            if use.task in reading.exits:
                message = f"{use.where} is {reference!r}, which is not there if that task failed"
                yield reading.finding(
                    "exit task", message, use.at, "Status(), parameters and constants are always there"
                )
            elif reference.partition(".")[0] in ends:
                message = f"{use.where} is {reference!r}, of a task that runs when all others have ended"
                yield reading.finding("exit task", message, use.at)
        if use.task in reading.exits and "item" in use.value:
            yield reading.finding("exit task", f"{use.where} is the item of a loop that has ended by then", use.at)


def status_without_end(reading: Reading) -> Iterator[Finding]:
    """Find tasks that ask how others ended though they only run when those have succeeded."""
    for use in reading.uses():
        task = use.task if "status" in use.value else None
        if task is not None and task not in reading.exits and not task.ignore_failure:
            message = f"{use.where} is Status(), and the task only runs if all before it has succeeded"
            yield reading.finding("exit task", message, use.at, "on_exit(...), or ignore_failure=True")


def ignored_failure_needs_input(reading: Reading) -> Iterator[Finding]:
    """Find tasks that run after a failure and need what is not there then."""
    for use in reading.uses():
        interface = reading.interface(use.task) if use.task is not None and use.task.ignore_failure else None
        if interface is None or not references_in(use.value):
            continue
        parameter = interface.parameters.get(use.argument)
        if parameter is None or parameter.required:
            message = f"{use.where} comes from another task and has no default, though the task runs if that one failed"
            hint = "give the argument a default in the step, or use after=[...] instead"
            yield reading.finding("ignored failure", message, use.at, hint)


def option(reading: Reading, task: Task, name: str) -> Any:
    """Give an option as it holds for a task: its own, or what @step says."""
    own = getattr(task, name, None)
    interface = reading.interface(task)
    return own if own is not None or interface is None else interface.options.get(name)


def odd_option(reading: Reading) -> Iterator[Finding]:
    """Find options that no service would take."""
    for task in reading.definition.all_tasks():
        for name, problem in _odd(reading, task):
            message = f"task {task.name}: {name} is {option(reading, task, name)!r}; {problem}"
            yield reading.finding("odd option", message, task.at)
        if option(reading, task, "accelerators") and not option(reading, task, "accelerator"):
            message = f"task {task.name}: accelerators without accelerator, which names their type"
            yield reading.finding("odd option", message, task.at)
    for group in reading.definition.groups:
        if group.at_once is not None and group.at_once < 1:
            message = f'each("{group.name}"): at_once is {group.at_once}; at least 1 is wanted'
            yield reading.finding("odd option", message, group.at)


def _odd(reading: Reading, task: Task) -> Iterator[tuple[str, str]]:
    for name, least in (("retries", 0), ("backoff_seconds", 0), ("backoff_factor", 1), ("accelerators", 1)):
        value = option(reading, task, name)
        if value is not None and value < least:
            yield name, f"at least {least} is wanted"
    timeout = option(reading, task, "timeout_seconds")
    if timeout is not None and timeout <= 0:
        yield "timeout_seconds", "more than 0 is wanted"
    cpu, memory = option(reading, task, "cpu"), option(reading, task, "memory")
    if cpu is not None and not CPU.fullmatch(str(cpu)):
        yield "cpu", 'a number of cores as "2", or "500m" for half of one'
    if memory is not None and not MEMORY.fullmatch(memory):
        yield "memory", 'a number of bytes as "4G" or "512Mi"'


def side_effect_repeated(reading: Reading) -> Iterator[Finding]:
    """Find steps with an effect that may be had more than once, or not at all."""
    for task in reading.definition.all_tasks():
        if not option(reading, task, "side_effect"):
            continue
        if task.cache:
            message = f"task {task.name}: cache=True, and {task.step} has a side effect: it always runs"
            yield reading.finding("side effect", message, task.at)
        if option(reading, task, "retries"):
            message = f"task {task.name}: {task.step} has a side effect, which may be had again with each retry"
            yield reading.finding("side effect", message, task.at, "retries=0, or make it harmless", "warning")
