"""A definition becomes a KFP v2 PipelineSpec, which is what this machine, Vertex AI and Kubeflow all run.

    component of a step = container: python -m trilho_runtime.step MODULE:NAME, in the project's image

The spec is what the official compiler writes of the same pipeline, up to the version of the SDK; a test compares the
two. The same definition gives the same bytes, on any machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from trilho.pipeline.compile.conditions import condition_text, operands
from trilho.pipeline.compile.scopes import Channel, Nesting, Scope, key_of, nest
from trilho.pipeline.compile.steps import component_of, executor_of, is_cached, retry_policy
from trilho.pipeline.compile.text import dump
from trilho.pipeline.compile.wiring import Wiring, constant, parameter_type
from trilho.pipeline.definition.document import Definition, GraphError, Group, Task
from trilho.pipeline.definition.interface import StepInterface

__all__ = ["compile_definition", "dump"]

SCHEMA_VERSION = "2.1.0"
WHEN_DONE = "ALL_UPSTREAM_TASKS_COMPLETED"


def compile_definition(
    definition: Definition, interfaces: Mapping[str, StepInterface], *, image: str, name: str | None = None
) -> dict[str, Any]:
    """Compile a sound definition; `interfaces` holds what is known of each step that it names.

    Raises GraphError for what no PipelineSpec can say, such as a number that JSON has no word for.
    """
    return _Compiler(definition, interfaces, image).spec(name or definition.name)


class _Compiler:
    def __init__(self, definition: Definition, interfaces: Mapping[str, StepInterface], image: str) -> None:
        self.definition = definition
        self.interfaces = interfaces
        self.image = image
        self.nesting: Nesting = nest(definition)
        self.wiring = Wiring(definition, interfaces, self.nesting)
        self.components: dict[str, Any] = {}
        self.executors: dict[str, Any] = {}
        self.tasks: dict[int, dict[str, Any]] = {id(self.nesting.root): {}}

    def spec(self, name: str) -> dict[str, Any]:
        for scope in self.nesting.scopes():
            self.tasks[id(scope)] = {}
        blocks = {id(scope): self.block(scope) for scope in self.nesting.scopes()}
        for task in self.definition.tasks:
            self.add(task, self.nesting.tasks[task.name])
        for task in self.definition.tasks:
            self.wait(task)
        outputs = self.outputs()
        for scope in self.nesting.scopes():
            self.close(scope, blocks[id(scope)])
        self.end()
        return {
            "components": self.components,
            "deploymentSpec": {"executors": self.executors},
            "pipelineInfo": {"name": name},
            "root": self.root(outputs),
            "schemaVersion": SCHEMA_VERSION,
            "sdkVersion": sdk_version(),
        }

    # ---- tasks -------------------------------------------------------------------------------------------------

    def add(self, task: Task, scope: Scope) -> None:
        """Add a task with its component and its executor to a dag."""
        key = key_of(task.name)
        self.components[f"comp-{key}"] = component_of(task, self.interfaces, key)
        self.executors[f"exec-{key}"] = executor_of(task, self.interfaces, self.image)
        spec: dict[str, Any] = {
            "taskInfo": {"name": key},
            "componentRef": {"name": f"comp-{key}"},
            "cachingOptions": {"enableCache": True} if is_cached(task, self.interfaces) else {},
        }
        inputs = self.inputs(task, scope, key)
        spec |= {"inputs": inputs} if inputs else {}
        spec |= retry_policy(task, self.interfaces)
        spec |= {"triggerPolicy": {"strategy": WHEN_DONE}} if task.ignore_failure else {}
        self.tasks[id(scope)][key] = spec

    def inputs(self, task: Task, scope: Scope, key: str) -> dict[str, Any]:
        given = dict(task.arguments)
        if task.import_ is not None:
            given["uri"] = task.import_["uri"]
        found: dict[str, Any] = {}
        for name, value in given.items():
            where = f"task {task.name}: {name}"
            if "const" in value:
                if value["const"] is not None:
                    fixed = {"runtimeValue": {"constant": constant(value["const"], where)}}
                    found.setdefault("parameters", {})[name] = fixed
            elif "status" not in value:
                channel = self.wiring.channel(value, scope, where)
                found.setdefault(channel.section, {})[name] = scope.read(channel, key)
        return found

    def wait(self, task: Task) -> None:
        """Add what a task waits for beyond what it reads, and who it hears the end of."""
        scope, key = self.nesting.tasks[task.name], key_of(task.name)
        for other in task.after:
            shared = _shared(scope, self.nesting.tasks[other])
            mine, theirs = (
                _parting(shared, *one) for one in ((scope, key), (self.nesting.tasks[other], key_of(other)))
            )
            shared.needs.setdefault(mine, set()).add(theirs)
        for around in scope.path():
            for operand in self.operands(around):
                if scope is not around and not _is_at_hand(operand, scope):
                    scope.hand_down(operand)  # unread here, but the official compiler declares it
        for name, value in task.arguments.items():
            if "status" in value:
                waited = sorted(scope.needs.get(key, ()))
                if len(waited) != 1:
                    raise GraphError(
                        f"task {task.name}: {name} is the status of what it waits for, and it waits for "
                        f"{len(waited)} tasks of its own block",
                        hint="after=[...] with one task, or on_exit()",
                    )
                section = self.tasks[id(scope)][key].setdefault("inputs", {}).setdefault("parameters", {})
                section[name] = {"taskFinalStatus": {"producerTask": waited[0]}}

    def operands(self, scope: Scope) -> list[Channel]:
        """Give what a branch's condition reads that a dag within could be handed."""
        if scope.kind != "when" or scope.parent is None or scope.group is None:
            return []
        found = []
        for condition in (*self.before(scope.group), scope.group.condition):
            for operand in operands(condition):
                channel = self.wiring.channel(operand, scope.parent, f"the condition of {scope.name}")
                found.append(channel.base or channel)
        return found

    # ---- blocks ------------------------------------------------------------------------------------------------

    def block(self, scope: Scope) -> dict[str, Any]:
        """Give what makes a dag more than a list of tasks: its condition, or what it goes over."""
        if scope.group is None or scope.parent is None:
            return {}
        if scope.kind == "when":
            return {"triggerPolicy": {"condition": self.condition(scope, scope.group)}}
        return self.iterator(scope, scope.group) if scope.kind == "each" else {}

    def before(self, group: Group) -> list[Any]:
        """Give the conditions of the branches before one of the same chain."""
        if group.kind != "otherwise":
            return []
        chain = [one for one in self.definition.groups if group.chain in (one.name, one.chain)]
        return [one.condition for one in chain[: chain.index(group)]]

    def condition(self, scope: Scope, group: Group) -> str:
        outside = scope.parent
        assert outside is not None

        def find(value: Mapping[str, Any]) -> Channel:
            channel = self.wiring.channel(value, outside, f"the condition of {scope.name}")
            scope.hand_down(channel)
            if channel.base is not None and channel.base.producer is not None:
                scope.hand_down(channel.base)
            return channel

        return condition_text(group.condition, self.before(group), find)

    def iterator(self, scope: Scope, group: Group) -> dict[str, Any]:
        over, item = self.wiring.over(scope), self.wiring.item(group.name)
        scope.inputs[item.handed] = item
        limit = {"iteratorPolicy": {"parallelismLimit": group.at_once}} if group.at_once else {}
        if isinstance(over, list):
            raw = json.dumps(over, sort_keys=True)
            return {"parameterIterator": {"items": {"raw": raw}, "itemInput": item.handed}} | limit
        scope.hand_down(over)
        one = "Artifact" if over.is_artifact else "Parameter"
        items = {f"input{one}": over.handed}
        return {f"{one.lower()}Iterator": {"items": items, "itemInput": item.handed}} | limit

    def close(self, scope: Scope, block: dict[str, Any]) -> None:
        """Add a dag's component, and the task that runs it in the dag around."""
        assert scope.parent is not None
        component = {"dag": self.dag(scope)}
        component |= _definitions("inputDefinitions", scope.inputs)
        component |= _definitions("outputDefinitions", {name: seen for name, (seen, _) in scope.outputs.items()})
        self.components[f"comp-{scope.key}"] = component
        spec: dict[str, Any] = {"taskInfo": {"name": scope.name}, "componentRef": {"name": f"comp-{scope.key}"}}
        for name, source in scope.sources.items():
            section = spec.setdefault("inputs", {}).setdefault(scope.inputs[name].section, {})
            section[name] = source
        self.tasks[id(scope.parent)][scope.key] = spec | block

    def dag(self, scope: Scope) -> dict[str, Any]:
        tasks = self.tasks[id(scope)]
        dag: dict[str, Any] = {"tasks": tasks}
        for name, (seen, made) in scope.outputs.items():
            section = dag.setdefault("outputs", {}).setdefault(seen.section, {})
            section[name] = _selected(seen, made)
        return dag

    # ---- the whole ---------------------------------------------------------------------------------------------

    def outputs(self) -> dict[str, Channel]:
        root = self.nesting.root
        return {
            name: self.wiring.channel(value, root, f"the pipeline's output {name}")
            for name, value in self.definition.outputs.items()
        }

    def end(self) -> None:
        """Add the task that runs when all others have ended, and what waits for what."""
        root = self.nesting.root
        for scope in self.nesting.groups.values():
            task = scope.group.exit_task if scope.group is not None else None
            if task is None:
                continue
            self.add(task, root)
            spec = self.tasks[id(root)][key_of(task.name)]
            spec["triggerPolicy"] = {"strategy": WHEN_DONE}
            root.needs[key_of(task.name)] = {scope.key}
            for name, value in task.arguments.items():
                if "status" in value:
                    section = spec.setdefault("inputs", {}).setdefault("parameters", {})
                    section[name] = {"taskFinalStatus": {"producerTask": scope.key}}
        for scope in (root, *self.nesting.scopes()):
            for member, needed in scope.needs.items():
                self.tasks[id(scope)][member]["dependentTasks"] = sorted(needed)

    def root(self, outputs: dict[str, Channel]) -> dict[str, Any]:
        dag: dict[str, Any] = {"tasks": self.tasks[id(self.nesting.root)]}
        for name, channel in outputs.items():
            dag.setdefault("outputs", {}).setdefault(channel.section, {})[name] = _selected(channel, [channel])
        root = {"dag": dag} | _definitions("outputDefinitions", outputs)
        parameters = {name: _parameter(name, given) for name, given in self.definition.parameters.items()}
        return root | ({"inputDefinitions": {"parameters": parameters}} if parameters else {})


def _parameter(name: str, declared: Mapping[str, Any]) -> dict[str, Any]:
    kind: dict[str, Any] = {"parameterType": parameter_type(declared["type"])}
    if "default" not in declared:
        return kind
    kind["isOptional"] = True
    default = constant(declared["default"], f"parameter {name}")
    return kind if default is None else kind | {"defaultValue": default}


def _definitions(title: str, channels: Mapping[str, Channel]) -> dict[str, Any]:
    sections: dict[str, Any] = {}
    for name, channel in channels.items():
        sections.setdefault(channel.section, {})[name] = channel.declaration()
    return {title: sections} if sections else {}


def _selected(seen: Channel, made: list[Channel]) -> dict[str, Any]:
    """Give where a dag's output comes from: one member, or whichever of several has run."""
    one = "Artifact" if seen.is_artifact else "Parameter"
    picked = [{"producerSubtask": channel.producer, f"output{one}Key": channel.name} for channel in made]
    if seen.is_artifact:
        return {"artifactSelectors": picked}
    return {"valueFromParameter": picked[0]} if len(picked) == 1 else {"valueFromOneof": {"parameterSelectors": picked}}


def _is_at_hand(channel: Channel, scope: Scope) -> bool:
    return channel.producer in scope.members or channel.loop == scope.key


def _shared(scope: Scope, other: Scope) -> Scope:
    """Give the innermost scope around both."""
    around = {id(one) for one in other.path()}
    return next(one for one in reversed(scope.path()) if id(one) in around)


def _parting(shared: Scope, scope: Scope, key: str) -> str:
    """Give the member of a scope that a task further in belongs to."""
    path = scope.path()
    inner = path[path.index(shared) + 1 :] if shared in path else []
    return inner[0].key if inner else key


def sdk_version() -> str:
    """Give what compiled it, for the spec's own field."""
    from importlib.metadata import version

    return f"trilho-{version('trilho')}"
