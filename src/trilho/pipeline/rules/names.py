"""Rules about names: of pipelines, tasks and blocks, and of the functions that tasks run."""

from __future__ import annotations

import re
from collections.abc import Iterator

from trilho.pipeline.definition.document import Group, Place, Task
from trilho.pipeline.rules.reading import Finding, Reading, called, shown_file
from trilho_runtime.steps.artifact import SCHEMAS

NAME = re.compile(r"[A-Za-z](?:[A-Za-z0-9_-]*[A-Za-z0-9])?")
IDENTIFIER = re.compile(r"[A-Za-z]\w*", re.ASCII)
NAME_WORDS = "letters, digits, - and _ are allowed, with a letter first and no - or _ last"


def no_tasks(reading: Reading) -> Iterator[Finding]:
    """Find a pipeline that does nothing."""
    if not reading.definition.tasks:
        name, at = reading.definition.name, reading.definition.at
        yield reading.finding("no tasks", f"pipeline {name} has no task", at, 'add one: task("NAME", STEP)')


def bad_name(reading: Reading) -> Iterator[Finding]:
    """Find names that a pipeline service would not take."""
    definition = reading.definition
    yield from _bad(reading, "pipeline", definition.name, definition.at)
    for task in definition.all_tasks():
        yield from _bad(reading, "task", task.name, task.at)
        kind = task.import_["kind"] if task.import_ is not None else "file"
        if kind not in SCHEMAS:
            message = f"artifact {task.name} has the kind {kind}; a kind is Table, Model, Metrics or File"
            yield reading.finding("bad name", message, task.at)
    for group in definition.groups:
        if group.kind == "each" or group.title:
            yield from _bad(reading, "block", group.name, group.at)
    for what, names in (("parameter", definition.parameters), ("output", definition.outputs)):
        for name in names:
            if not IDENTIFIER.fullmatch(name):
                message = (
                    f"the pipeline's {what} is named {name!r}; letters, digits and _ are allowed, with a letter first"
                )
                yield reading.finding("bad name", message, definition.at)


def _bad(reading: Reading, what: str, name: str, at: Place) -> Iterator[Finding]:
    if not NAME.fullmatch(name):
        yield reading.finding("bad name", f"a {what} is named {name!r}; {NAME_WORDS}", at)


def duplicate_name(reading: Reading) -> Iterator[Finding]:
    """Find two tasks or two blocks that nobody could tell apart; services do not know _ from -, nor case."""
    seen: dict[str, Task] = {}
    for task in reading.definition.all_tasks():
        first = seen.setdefault(task.name.lower().replace("_", "-"), task)
        if first is not task:
            other = f"two tasks are named {task.name}" if first.name == task.name else _alike(first, task)
            yield reading.finding("duplicate name", f"{other}; the first is at {_line(first.at)}", task.at)
    blocks: dict[str, Group] = {}
    for group in reading.definition.groups:
        other_block = blocks.setdefault(group.name, group)
        if other_block is not group:
            message = f"{called(group)} has the name of {called(other_block)} at {_line(other_block.at)}"
            yield reading.finding("duplicate name", message, group.at, "give it another name")


def _alike(first: Task, second: Task) -> str:
    return f"tasks {first.name} and {second.name} have one name to a pipeline service"


def _line(at: Place) -> str:
    return f"{shown_file(at.file)}:{at.line}"


def unknown_step(reading: Reading) -> Iterator[Finding]:
    """Find tasks whose function is not there."""
    for task in reading.definition.all_tasks():
        interface = reading.interfaces.get(task.step or "")
        if interface is not None and not interface.found:
            for problem in interface.problems:
                message = f"task {task.name} runs {task.step}: {problem.message}"
                yield reading.finding("unknown step", message, task.at, problem.hint)


def unsound_step(reading: Reading) -> Iterator[Finding]:
    """Find steps whose text does not say what they take and give."""
    for reference in reading.definition.steps():
        interface = reading.interfaces.get(reference)
        if interface is not None and interface.found:
            for problem in interface.problems:
                place = Place(interface.file, problem.line or interface.line)
                yield reading.finding(problem.rule, problem.message, place, problem.hint)
