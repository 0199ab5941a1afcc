"""The nesting of a compiled pipeline: one scope for each dag, and what flows into and out of it.

A task may only read what its own dag has. What comes from further out is handed down from dag to dag as an input
named "pipelinechannel--..."; what comes from further in is handed up as an output of that name. Keys, names and
numbers are those that the official compiler would give.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from trilho.pipeline.definition.document import Definition, Group

HANDED = "pipelinechannel--"
Kind = Literal["root", "exit", "branches", "when", "each"]
NAMES: dict[Kind, str] = {
    "exit": "exit-handler",
    "branches": "condition-branches",
    "when": "condition",
    "each": "for-loop",
}


def key_of(name: str) -> str:
    """Give a task's key in a dag.

    >>> key_of("Fit_All")
    'fit-all'
    """
    return "-".join(part for part in "".join(c if c.isalnum() else "-" for c in name.lower()).split("-") if part)


@dataclass(frozen=True, kw_only=True)
class Channel:
    """Something that can be read: a parameter of the pipeline, an output of a task, the item of a loop."""

    name: str
    type: str
    """The parameter's type, or the artifact's schema title."""
    producer: str | None = None
    is_artifact: bool = False
    is_list: bool = False
    loop: str | None = None
    """The key of the loop whose item it is."""
    base: Channel | None = None
    """What it is a field of, and under `path`."""
    path: tuple[str, ...] = ()

    @property
    def full(self) -> str:
        """Its name among everything that a pipeline has."""
        return f"{self.producer}-{self.name}" if self.producer else self.name

    @property
    def handed(self) -> str:
        """The name under which it is handed down."""
        return HANDED + self.full

    @property
    def section(self) -> str:
        """Where inputs and outputs of its kind are listed."""
        return "artifacts" if self.is_artifact else "parameters"

    def declaration(self) -> dict[str, Any]:
        """Give how a component declares it as an input or output."""
        if not self.is_artifact:
            return {"parameterType": self.type}
        declared: dict[str, Any] = {"artifactType": artifact_type(self.type)}
        return declared | {"isArtifactList": True} if self.is_list else declared


def artifact_type(title: str) -> dict[str, str]:
    """Give an artifact's type.

    >>> artifact_type("system.Model")
    {'schemaTitle': 'system.Model', 'schemaVersion': '0.0.1'}
    """
    return {"schemaTitle": title, "schemaVersion": "0.0.1"}


@dataclass
class Scope:
    """One dag: the pipeline's own, a branch, all branches of a chain, the body of a loop, what an exit task follows."""

    kind: Kind
    key: str
    name: str
    parent: Scope | None = None
    group: Group | None = None
    item: str = ""
    """The name of a loop's item where what it goes over is written out."""
    members: list[str] = field(default_factory=list)
    inputs: dict[str, Channel] = field(default_factory=dict)
    outputs: dict[str, tuple[Channel, list[Channel]]] = field(default_factory=dict)
    """What is handed up: its declaration, and the members that may have made it."""
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Where the dag around takes each input from."""
    needs: dict[str, set[str]] = field(default_factory=dict)
    """The members that each member waits for."""

    def path(self) -> list[Scope]:
        """Give the scopes from the pipeline's own to this one."""
        return [*(self.parent.path() if self.parent else []), self]

    def read(self, channel: Channel, reader: str) -> dict[str, Any]:
        """Give how a member of this dag takes a channel in, handing it down from further out where needed."""
        if channel.base is not None and channel.path:
            selector = "".join(f'["{part}"]' for part in channel.path)
            found = self.read(channel.base, reader)
            return found | {"parameterExpressionSelector": f"parseJson(string_value){selector}"}
        one = "Artifact" if channel.is_artifact else "Parameter"
        if channel.loop is not None:
            if channel.loop != self.key:
                self.hand_down(channel)
            return {f"componentInput{one}": channel.handed}
        if channel.producer in self.members:
            self.needs.setdefault(reader, set()).add(str(channel.producer))
            return {f"taskOutput{one}": {"producerTask": channel.producer, f"output{one}Key": channel.name}}
        if self.parent is None:
            return {f"componentInput{one}": channel.name}
        self.hand_down(channel)
        return {f"componentInput{one}": channel.handed}

    def hand_down(self, channel: Channel) -> None:
        """Make a channel from further out an input of this dag."""
        assert self.parent is not None
        if channel.handed not in self.inputs:
            self.inputs[channel.handed] = channel
            self.sources[channel.handed] = self.parent.read(channel, self.key)

    def hand_up(self, channel: Channel, name: str, *, collected: bool = False) -> Channel:
        """Make what a member has made an output of this dag, and give it as the dag around sees it."""
        kind = "LIST" if collected and not channel.is_artifact else channel.type
        seen = Channel(
            name=name,
            type=kind,
            producer=self.key,
            is_artifact=channel.is_artifact,
            is_list=channel.is_list or (collected and channel.is_artifact),
        )
        self.outputs[name] = (seen, [channel])
        return seen


@dataclass(frozen=True)
class Nesting:
    """All scopes of a pipeline: the outermost, those of its groups by name, and where each task is."""

    root: Scope
    groups: Mapping[str, Scope]
    tasks: Mapping[str, Scope]

    def scopes(self) -> Iterator[Scope]:
        """Give the scopes but the outermost, a chain's branches included."""
        seen: dict[int, Scope] = {}
        for scope in (*self.groups.values(), *self.tasks.values()):
            for one in scope.path()[1:]:
                seen.setdefault(id(one), one)
        yield from seen.values()


def nest(definition: Definition) -> Nesting:
    """Build the scopes of a pipeline, numbered in the order in which its blocks are opened."""
    numbers = _Numbers({key_of(task.name) for task in definition.all_tasks()})
    root = Scope("root", "root", definition.name)
    groups: dict[str, Scope] = {}
    outermost = root
    for group in sorted(definition.groups, key=lambda group: group.kind != "exit"):
        parent = groups[group.parent] if group.parent else outermost
        if group.kind == "exit":
            outermost = groups[group.name] = _scope("exit", numbers, root, group)
        elif group.kind == "otherwise":
            parent = _branches(groups[str(group.chain)], numbers)
            groups[group.name] = _scope("when", numbers, parent, group)
        else:
            groups[group.name] = _opened(group, parent, numbers)
    tasks = {task.name: groups[task.group] if task.group else outermost for task in definition.tasks}
    nesting = Nesting(root, groups, tasks)
    _fill(nesting)
    return nesting


class _Numbers:
    """The one count of all blocks, past the names that tasks have taken."""

    def __init__(self, taken: set[str]) -> None:
        self._taken = taken
        self._last = 0

    def next(self, kind: Kind) -> int:
        self._last += 1
        while f"{NAMES[kind]}-{self._last}" in self._taken:
            self._last += 1
        return self._last


def _scope(kind: Kind, numbers: _Numbers, parent: Scope, group: Group) -> Scope:
    key = f"{NAMES[kind]}-{numbers.next(kind)}"
    return Scope(kind, key, group.title or key, parent, group)


def _opened(group: Group, parent: Scope, numbers: _Numbers) -> Scope:
    if group.kind == "when":
        return _scope("when", numbers, parent, group)
    item = f"loop-item-param-{numbers.next('each')}" if group.over is not None and "const" in group.over else ""
    scope = _scope("each", numbers, parent, group)
    scope.item = item
    return scope


def _branches(first: Scope, numbers: _Numbers) -> Scope:
    """Give the scope around a chain's branches: it takes the first branch's number, and that one the next."""
    assert first.parent is not None
    assert first.group is not None
    if first.parent.kind == "branches":
        return first.parent
    key = f"{NAMES['branches']}-{first.key.rpartition('-')[2]}"
    around = Scope("branches", key, key, first.parent)
    first.key = f"{NAMES['when']}-{numbers.next('when')}"
    first.name = first.group.title or first.key
    first.parent = around
    return around


def _fill(nesting: Nesting) -> None:
    for scope in nesting.scopes():
        assert scope.parent is not None
        scope.parent.members.append(scope.key)
    for name, scope in nesting.tasks.items():
        scope.members.append(key_of(name))
