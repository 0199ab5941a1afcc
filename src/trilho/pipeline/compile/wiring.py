"""What each value of a definition is once compiled: a constant, or a channel that a dag can read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from trilho.pipeline.compile.scopes import HANDED, Channel, Nesting, Scope, key_of
from trilho.pipeline.definition.document import IMPORTED, Definition, GraphError, comparisons_in, references_in
from trilho.pipeline.definition.interface import StepInterface

TYPES = {
    "str": "STRING",
    "int": "NUMBER_INTEGER",
    "float": "NUMBER_DOUBLE",
    "bool": "BOOLEAN",
    "list": "LIST",
    "dict": "STRUCT",
}
TITLES = {"table": "system.Dataset", "model": "system.Model", "metrics": "system.Metrics", "file": "system.Artifact"}
LARGEST = 2**53  # a number travels as a double


def parameter_type(name: str) -> str:
    """Give the compiled name of a parameter's type.

    >>> parameter_type("list[str]"), parameter_type("int")
    ('LIST', 'NUMBER_INTEGER')
    """
    return TYPES[name.partition("[")[0]]


def constant(value: Any, where: str) -> Any:
    """Check that a constant travels unchanged: JSON, finite, and whole numbers that a double holds."""
    if isinstance(value, Mapping):
        return {str(key): constant(inner, where) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [constant(inner, where) for inner in value]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if isinstance(value, float) and not math.isfinite(value):
            raise GraphError(f"{where} is {value}, and JSON has no such number", hint="give it as a text")
        if abs(value) > LARGEST and isinstance(value, int):
            raise GraphError(f"{where} is {value}, more than a pipeline's numbers hold", hint="give it as a text")
    return value


class Wiring:
    """Finds the channels of a definition, and hands up what a reader further out needs."""

    def __init__(self, definition: Definition, interfaces: Mapping[str, StepInterface], nesting: Nesting) -> None:
        self.definition = definition
        self.interfaces = interfaces
        self.nesting = nesting
        self.tasks = {task.name: task for task in definition.tasks}
        self._items: dict[str, Channel] = {}
        self._firsts: dict[tuple[str, ...], Channel] = {}

    def channel(self, value: Mapping[str, Any], scope: Scope, where: str) -> Channel:
        """Give the channel that a value is, for a reader in a scope."""
        if "param" in value:
            declared = self.definition.parameters[value["param"]]
            return Channel(name=value["param"], type=parameter_type(declared["type"]))
        if "item" in value:
            return self._field(self.item(value["item"]), tuple(value.get("path") or ()))
        if "collected" in value:
            return self._collected(value["collected"], scope, where)
        if "first_of" in value:
            return self._first_of(tuple(value["first_of"]), scope, where)
        return self._output(value["ref"], scope, where)

    def made(self, reference: str) -> tuple[Channel, Scope]:
        """Give what a task makes, "task.output", and the scope that the task is in."""
        name, _, output = reference.partition(".")
        task, scope = self.tasks[name], self.nesting.tasks[name]
        if task.import_ is not None:
            title = TITLES[task.import_["kind"]]
            return Channel(name=IMPORTED, type=title, producer=key_of(name), is_artifact=True), scope
        interface = self.interfaces[str(task.step)]
        if output in interface.outputs:
            title = TITLES[interface.outputs[output]]
            return Channel(name=output, type=title, producer=key_of(name), is_artifact=True), scope
        return Channel(name=output, type=parameter_type(interface.values[output]), producer=key_of(name)), scope

    def _output(self, reference: str, scope: Scope, where: str) -> Channel:
        found, at = self.made(reference)
        way = _way_out(at, scope)
        for passed in way:
            if passed.kind != "exit":
                how = "Collected" if passed.kind == "each" else "FirstOf"
                raise GraphError(
                    f"{where} reads {reference!r}, which is made within {passed.name}",
                    hint=f'{how}("{reference}") takes it out of there',
                )
            found = passed.hand_up(found, HANDED + found.full)
        return found

    def _collected(self, reference: str, scope: Scope, where: str) -> Channel:
        found, at = self.made(reference)
        way, name = _way_out(at, scope), HANDED + found.full
        if not any(passed.kind == "each" for passed in way):
            raise GraphError(
                f"{where} collects {reference!r}, and reads it within the loop that makes it, or no loop makes it",
                hint=f'Value("{reference}")',
            )
        for passed in way:
            found = passed.hand_up(found, name, collected=passed.kind != "exit")
        return found

    def _first_of(self, references: tuple[str, ...], scope: Scope, where: str) -> Channel:
        made = [self.made(reference) for reference in references]
        around = _chain_around([at for _, at in made])
        if around is None:
            raise GraphError(
                f"{where} takes the first of {', '.join(references)}, which are no branches of one chain",
                hint="FirstOf joins tasks of a when() and of its otherwise()",
            )
        assert around.parent is not None
        seen = self._firsts.get(references) or self._joined(references, made, around)
        for passed in _way_out(around.parent, scope):
            if passed.kind != "exit":
                raise GraphError(f"{where} takes the first of {', '.join(references)}, made within {passed.name}")
            seen = passed.hand_up(seen, HANDED + seen.full)
        return seen

    def _joined(self, references: tuple[str, ...], made: list[tuple[Channel, Scope]], around: Scope) -> Channel:
        lifted = []
        for found, at in made:
            for passed in _way_out(at, around):
                found = passed.hand_up(found, HANDED + found.full)
            lifted.append(found)
        number = 1 + sum(channel.producer == around.key for channel in self._firsts.values())
        first = lifted[0]
        seen = around.hand_up(first, f"{HANDED}{around.key}-oneof-{number}")
        around.outputs[seen.name] = (seen, lifted)
        self._firsts[references] = seen
        return seen

    def item(self, group: str) -> Channel:
        """Give a loop's item."""
        if group not in self._items:
            self._items[group] = self._new_item(self.nesting.groups[group])
        return self._items[group]

    def _new_item(self, loop: Scope) -> Channel:
        over = self.over(loop)
        if isinstance(over, list):
            return Channel(name=loop.item, type=_type_of_all(over), loop=loop.key)
        item = Channel(
            name=f"{over.name}-loop-item",
            type=over.type if over.is_artifact else self._item_type(loop),
            producer=over.producer,
            is_artifact=over.is_artifact,
            loop=loop.key,
        )
        around = [self.item(one.group.name) for one in loop.path()[:-1] if one.kind == "each" and one.group is not None]
        taken = sum(one.handed.startswith(item.handed) for one in around)  # loops over the same list, one in the other
        return replace(item, name=f"{item.name}-{taken + 1}") if taken else item

    def _item_type(self, loop: Scope) -> str:
        """Give the type of a loop's item: as the list's maker declares it, else as its readers take it."""
        assert loop.group is not None
        over = loop.group.over or {}
        reference = next(iter(references_in(over)), "")
        interface = self.interfaces.get(str(self.tasks[reference.partition(".")[0]].step)) if reference else None
        if interface is not None:
            held = interface.values if "collected" in over else interface.elements
            declared = held.get(reference.partition(".")[2])
            if declared is not None:
                return parameter_type(declared)
        return self._consumed_as(loop.group.name, ())

    def over(self, loop: Scope) -> Channel | list[Any]:
        """Give what a loop goes over: a list that is written out, or the channel of one."""
        assert loop.group is not None
        assert loop.group.over is not None
        assert loop.parent is not None
        where = f"the loop {loop.name}"
        if "const" in loop.group.over:
            return list(constant(loop.group.over["const"], where))
        return self.channel(loop.group.over, loop.parent, where)

    def _field(self, item: Channel, path: tuple[str, ...]) -> Channel:
        if not path:
            return item
        loop = next(scope for scope in self.nesting.groups.values() if scope.key == item.loop)
        over = self.over(loop)
        kind = ""
        if isinstance(over, list):
            kind = _type_of_all([_at(element, path) for element in over])
        elif loop.group is not None:
            kind = self._consumed_as(loop.group.name, path)
        name = "".join(f"-subvar-{part}" for part in path)
        return Channel(name=item.name + name, type=kind, producer=item.producer, loop=item.loop, base=item, path=path)

    def _consumed_as(self, group: str, path: tuple[str, ...]) -> str:
        """Give the type of a loop's item from what reads it, since a list does not say what is in it."""
        for task in self.definition.tasks:
            interface = self.interfaces.get(str(task.step))
            for name, value in task.arguments.items():
                if value.get("item") != group or interface is None or name not in interface.parameters:
                    continue
                if tuple(value.get("path") or ()) == path:
                    return parameter_type(interface.parameters[name].type)
                if not path:
                    return "STRUCT"
        return self._compared_as(group, path) or "STRING"

    def _compared_as(self, group: str, path: tuple[str, ...]) -> str:
        """Give the type of what a loop's item is compared with."""
        for block in self.definition.groups:
            for one in comparisons_in(block.condition or {}):
                for side, other in ((one["left"], one["right"]), (one["right"], one["left"])):
                    if side.get("item") != group or tuple(side.get("path") or ()) != path:
                        continue
                    if "const" in other:
                        return TYPES.get(type(other["const"]).__name__, "")
                    if "param" in other:
                        return parameter_type(self.definition.parameters[other["param"]]["type"])
                    return self.made(other["ref"])[0].type if "ref" in other else ""
        return ""


def _way_out(at: Scope, scope: Scope) -> list[Scope]:
    """Give the scopes that something passes from where it is made to where it is read, the innermost first."""
    around = {id(one) for one in scope.path()}
    return [one for one in reversed(at.path()) if id(one) not in around]


def _chain_around(scopes: Iterable[Scope]) -> Scope | None:
    paths = [scope.path() for scope in scopes]
    shared = [level[0] for level in zip(*paths, strict=False) if all(one is level[0] for one in level)]
    return shared[-1] if shared and shared[-1].kind == "branches" else None


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        value = value[part]
    return value


def _type_of_all(values: list[Any]) -> str:
    """Give the type of a list's elements.

    >>> _type_of_all([1, 2.5])
    'NUMBER_DOUBLE'
    """
    names = {TYPES[type(value).__name__] for value in values}
    return names.pop() if len(names) == 1 else "NUMBER_DOUBLE" if names <= {"NUMBER_INTEGER", "NUMBER_DOUBLE"} else ""
