"""A pipeline: tasks wired by name, checked before any of them runs.

A task runs a function of the platform's (a callable that is given a `Work`) or a step of the project's environment
(named "module:function"). Inputs are named "task.output"; a parameter may be what another task found,
`Value("task.name")`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from trilho.core.ports import ArtifactStore
from trilho.errors import TrilhoError

STORED = "artifact:"
Call = Callable[["Work"], None]
C = TypeVar("C", bound=Call)


class GraphError(TrilhoError):
    """A pipeline is not wired right: an unknown input, a cycle, a name used twice."""


@dataclass(frozen=True)
class Value:
    """A parameter that is what another task found, as "task.name"."""

    of: str

    @property
    def task(self) -> str:
        """The task that finds it."""
        return self.of.partition(".")[0]


@dataclass
class Work:
    """What a platform function is given: where its inputs lie and its outputs go, and a place for its findings."""

    inputs: Mapping[str, Path]
    outputs: Mapping[str, Path]
    parameters: Mapping[str, Any]
    store: ArtifactStore | None = None
    say: Callable[[str], None] = print
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """One node of a pipeline."""

    name: str
    run: Literal["platform", "project"]
    call: Call | str
    inputs: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    """The project's functions that it runs, as "module:function"; "*" is the whole source tree. Without any the
    project's code can't be imported by the task."""
    uncounted: frozenset[str] = frozenset()
    """Parameters that say where or why and not what: a change of these alone does not run the task again."""
    cacheable: bool = True
    after: tuple[str, ...] = ()
    """Tasks that must have succeeded before, though nothing of theirs is read."""

    @cached_property
    def needs(self) -> tuple[str, ...]:
        """The tasks that must have ended before."""
        found = [reference.partition(".")[0] for reference in self.inputs.values() if not is_stored(reference)]
        found += [value.task for value in values_in(dict(self.parameters))]
        return tuple(dict.fromkeys([*found, *self.after]))


def stored(digest: str) -> str:
    """Give the reference of an artifact that is in the store already, as an input.

    >>> stored("ab12")
    'artifact:ab12'
    """
    return STORED + digest


def is_stored(reference: str) -> bool:
    """Say whether a reference names an artifact of the store and not a task's output."""
    return reference.startswith(STORED)


def values_in(parameters: Any) -> Iterator[Value]:
    """Find the values of other tasks among parameters, nested ones too.

    >>> [v.of for v in values_in({"a": 1, "b": {"c": Value("split.until")}})]
    ['split.until']
    """
    if isinstance(parameters, Value):
        yield parameters
    elif isinstance(parameters, Mapping):
        for item in parameters.values():
            yield from values_in(item)
    elif isinstance(parameters, (list, tuple)):
        for item in parameters:
            yield from values_in(item)


@dataclass(frozen=True)
class Graph:
    """A named pipeline. Raises GraphError when it is not wired right."""

    name: str
    tasks: tuple[Task, ...]

    def __post_init__(self) -> None:
        names = [task.name for task in self.tasks]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise GraphError(f"pipeline {self.name} has two tasks named {twice[0]}")
        for task in self.tasks:
            self._check(task)
        self.order  # noqa: B018  a cycle shows here

    def __getitem__(self, name: str) -> Task:
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Task]:
        return {task.name: task for task in self.tasks}

    @cached_property
    def order(self) -> tuple[Task, ...]:
        """The tasks, each after those that it needs."""
        done: dict[str, Task] = {}
        left = list(self.tasks)
        while left:
            ready = [task for task in left if set(task.needs) <= set(done)]
            if not ready:
                raise GraphError(f"pipeline {self.name} goes in a circle: {', '.join(task.name for task in left)}")
            done |= {task.name: task for task in ready}
            left = [task for task in left if task.name not in done]
        return tuple(done.values())

    def _check(self, task: Task) -> None:
        allowed = [f"{other.name}.{output}" for other in self.tasks for output in other.outputs]
        for name, reference in task.inputs.items():
            if reference not in allowed and not is_stored(reference):
                raise GraphError(
                    f"task {task.name}: input {name} is {reference!r}, which no task makes",
                    hint=_near(reference, allowed),
                )
        wanted = [value.of for value in values_in(dict(task.parameters))] + list(task.after)
        unknown = [of for of in wanted if of.partition(".")[0] not in self._by_name]
        if unknown:
            raise GraphError(f"task {task.name} needs {unknown[0]!r}, and no such task is there")


def _near(given: str, allowed: list[str]) -> str:
    close = difflib.get_close_matches(given, allowed, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(allowed) or 'none'}"


def versioned(version: int) -> Callable[[C], C]:
    """Mark a platform function with the version of what it does; a new one makes earlier results count no more."""

    def mark(function: C) -> C:
        function.__trilho_version__ = version  # type: ignore[attr-defined]
        return function

    return mark


def version_of(function: Call) -> str:
    """Name a platform function and its version.

    >>> @versioned(3)
    ... def split(work: Work) -> None: ...
    >>> version_of(split).endswith("split:3")
    True
    """
    return f"{function.__module__}:{function.__qualname__}:{getattr(function, '__trilho_version__', 1)}"
