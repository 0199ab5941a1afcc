"""What the rules see of a pipeline: its tasks, blocks and steps by name, and every place where a value is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from trilho.pipeline.definition.annotation import type_of_value
from trilho.pipeline.definition.document import (
    IMPORTED,
    Definition,
    Group,
    Place,
    Task,
    Written,
    references_in,
    values_in,
)
from trilho.pipeline.definition.interface import StepInterface

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """What a rule has found wrong, and where its author wrote it."""

    rule: str
    message: str
    file: str = ""
    line: int = 0
    hint: str = ""
    severity: Severity = "error"

    def __str__(self) -> str:
        """Write it as a compiler does: file:line: message."""
        return f"{shown_file(self.file)}:{self.line}: {self.message}" if self.file else self.message


def shown_file(file: str) -> str:
    """Give a file's name as seen from the working folder, where it is in there."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else file


@dataclass(frozen=True)
class Seen:
    """What kind of thing a value is."""

    type: str
    """An artifact's kind or a value's type; nothing where only the run will tell."""
    is_artifact: bool = False
    is_list: bool = False

    def __str__(self) -> str:
        """Say it in words."""
        if not self.is_artifact:
            return self.type
        return (
            f"a list of artifacts of the kind {self.type}" if self.is_list else f"an artifact of the kind {self.type}"
        )


@dataclass(frozen=True)
class Use:
    """A place where a value is read."""

    value: Written
    where: str
    """In words: "task split: table"."""
    at: Place
    scope: tuple[Group, ...] = ()
    """The blocks around the reader, the outermost first."""
    task: Task | None = None
    argument: str = ""
    group: Group | None = None
    """The block whose condition reads it, or that goes over it."""


@dataclass(frozen=True)
class Reading:
    """A definition with what is known of its steps."""

    definition: Definition
    interfaces: Mapping[str, StepInterface]

    @cached_property
    def tasks(self) -> dict[str, Task]:
        """The tasks by name, those that run at the end included."""
        return {task.name: task for task in reversed(self.definition.all_tasks())}

    @cached_property
    def groups(self) -> dict[str, Group]:
        """The blocks by name."""
        return {group.name: group for group in reversed(self.definition.groups)}

    @cached_property
    def exits(self) -> tuple[Task, ...]:
        """The tasks that run when all others have ended."""
        return tuple(group.exit_task for group in self.definition.groups if group.exit_task is not None)

    def interface(self, task: Task) -> StepInterface | None:
        """Give what is known of a task's step, where it was found."""
        found = self.interfaces.get(task.step) if task.step is not None else None
        return found if found is not None and found.found else None

    def scope(self, group: str | None) -> tuple[Group, ...]:
        """Give a block and those around it, the outermost first."""
        found: list[Group] = []
        while group is not None and group in self.groups and self.groups[group] not in found:
            found.insert(0, self.groups[group])
            group = found[0].parent
        return tuple(found)

    def gives(self, task: Task) -> dict[str, Seen] | None:
        """Give what others can read of a task; None where its step is not known."""
        if task.import_ is not None:
            return {IMPORTED: Seen(str(task.import_["kind"]), is_artifact=True)}
        interface = self.interface(task)
        if interface is None:
            return None
        made = {name: Seen(kind, is_artifact=True) for name, kind in interface.outputs.items()}
        return {**made, **{name: Seen(kind) for name, kind in interface.values.items()}}

    def output(self, reference: str) -> Seen | None:
        """Give what "task.output" is; None where there is none, or it is not known."""
        name, _, output = reference.partition(".")
        given = self.gives(self.tasks[name]) if name in self.tasks else None
        return given.get(output) if given is not None else None

    def seen(self, value: Written) -> Seen | None:
        """Say what kind of thing a value is; None where nothing is known of it."""
        if "const" in value:
            return Seen(type_of_value(value["const"]))
        if "param" in value:
            declared = self.definition.parameters.get(value["param"])
            return Seen(declared["type"]) if declared is not None else None
        if "status" in value:
            return Seen("dict")
        if "item" in value:
            return self._item(value["item"], tuple(value.get("path") or ()))
        if "collected" in value:
            made = self.output(value["collected"])
            return None if made is None else Seen(made.type, True, True) if made.is_artifact else Seen("list")
        references = references_in(value)
        return self.output(references[0]) if references else None

    def _item(self, loop: str, path: tuple[str, ...]) -> Seen | None:
        group = self.groups.get(loop)
        if group is None or group.over is None:
            return None
        if "const" in group.over and isinstance(group.over["const"], list):
            return _common([field_of(item, path) for item in group.over["const"]])
        over = self.seen(group.over)
        return Seen(over.type, is_artifact=True) if over is not None and over.is_artifact and not path else None

    def uses(self) -> Iterator[Use]:
        """Give every place where a value is read."""
        for task in self.definition.all_tasks():
            scope = self.scope(task.group)
            for name, value in task.given().items():
                yield Use(value, f"task {task.name}: {name}", task.at, scope, task, name)
        for group in self.definition.groups:
            around = self.scope(group.parent)
            for value in values_in(group.condition) if group.condition is not None else ():
                yield Use(value, f"the condition of {called(group)}", group.at, around, group=group)
            if group.over is not None:
                yield Use(group.over, f"what {called(group)} goes over", group.at, around, group=group)
        for name, value in self.definition.outputs.items():
            yield Use(value, f"the pipeline's output {name}", self.definition.outputs_at.get(name, self.definition.at))

    def finding(self, rule: str, message: str, at: Place, hint: str = "", severity: Severity = "error") -> Finding:
        """Make a finding at a place."""
        return Finding(rule, message, at.file, at.line, hint, severity)


def called(group: Group) -> str:
    """Name a block as its author knows it.

    >>> called(Group(name="when-1", kind="when")), called(Group(name="better", kind="when", title="better"))
    ('a when()', 'when(name="better")')
    """
    if group.kind == "each":
        return f'each("{group.name}")'
    return (
        f'{group.kind}(name="{group.title}")'
        if group.title
        else f"a{'n' if group.kind == 'otherwise' else ''} {group.kind}()"
    )


def field_of(item: Any, path: tuple[str, ...]) -> Any:
    """Give a field of an item that is an object, or None."""
    for part in path:
        item = item.get(part) if isinstance(item, dict) else None
    return item


def _common(items: list[Any]) -> Seen | None:
    types = {type_of_value(item) for item in items}
    if types == {"int", "float"}:
        return Seen("float")
    return Seen(types.pop()) if len(types) == 1 else None


def shown(value: Written) -> str:
    """Write a value as its author did.

    >>> shown({"ref": "a.b"}), shown({"item": "region", "path": ["name"]}), shown({"const": 1})
    ("Value('a.b')", "Item('region')['name']", '1')
    """
    if "const" in value:
        return repr(value["const"])
    if "item" in value:
        return f"Item({value['item']!r})" + "".join(f"[{key!r}]" for key in value.get("path") or ())
    if "first_of" in value:
        return f"FirstOf({', '.join(map(repr, value['first_of']))})"
    for key, name in (("ref", "Value"), ("param", "Param"), ("collected", "Collected")):
        if key in value:
            return f"{name}({value[key]!r})"
    if value.keys() & {"op", "all", "any", "not"}:
        return "a condition"
    return "Status()" if "status" in value else str(value.get("unserializable"))
