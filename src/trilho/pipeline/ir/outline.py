"""A pipeline to look at: its parameters, and its tasks as a tree with conditions, loops and what each one runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from trilho.pipeline.ir.reader import (
    MISSING,
    Component,
    ComponentInput,
    Constant,
    Container,
    FinalStatus,
    Importer,
    Loop,
    Selection,
    Source,
    Spec,
    Task,
    TaskOutput,
)

WORDS = {"STRING": "str", "NUMBER_INTEGER": "int", "NUMBER_DOUBLE": "float", "BOOLEAN": "bool", "LIST": "list",
         "STRUCT": "dict"}  # fmt: skip
READ = re.compile(r"inputs\.parameter(?:_value)?s\['([^']+)'\](?:\.\w+)?")
CAST = re.compile(r"\b(?:int|double)\(([^()']+)\)")
NAMED = {"--function_to_execute": "function ", "--executor_class_path": ""}  # how KFP and TFX say what a container runs
WIDTH = 60


@dataclass(frozen=True)
class Line:
    """One task or block of the tree."""

    name: str
    kind: str
    """task, import, block, condition or loop."""
    runs: str = ""
    """What it runs, or when or over what it does."""
    notes: tuple[str, ...] = ()
    within: tuple[Line, ...] = ()
    image: str = ""
    given: Mapping[str, str] = field(default_factory=dict)
    """Where its parameters and artifacts come from."""

    def described(self) -> dict[str, Any]:
        """Give it as JSON."""
        found: dict[str, Any] = {"name": self.name, "kind": self.kind, "runs": self.runs, "notes": list(self.notes)}
        found |= {"image": self.image} if self.image else {}
        found |= {"inputs": dict(self.given)} if self.kind in ("task", "import") else {}
        return found | ({"tasks": [line.described() for line in self.within]} if self.within else {})


def outline(spec: Spec) -> tuple[Line, ...]:
    """Give a pipeline's tasks, in the order in which they can run."""
    return _within(spec, spec.root, {name: name for name in spec.root.inputs})


def parameters(spec: Spec) -> list[tuple[str, str, str]]:
    """Give name, type and default of each parameter; without a default it is required."""
    found = []
    for name, one in sorted(spec.root.inputs.items()):
        default = "required" if one.required else "" if one.default is MISSING else shown(one.default)
        found.append((name, WORDS.get(one.type, one.type), shown(spec.given[name]) if name in spec.given else default))
    return found


def outputs(spec: Spec) -> dict[str, str]:
    """Give where each output of the pipeline comes from."""
    dag = spec.root.dag
    chosen = {**dag.parameters, **dag.artifacts} if dag is not None else {}
    return {name: _selected(spec, spec.root, one) for name, one in sorted(chosen.items())}


def images(spec: Spec) -> list[str]:
    """Give the images that its tasks run in, each once."""
    return sorted({one.image for one in spec.executors.values() if isinstance(one, Container)})


def lines(found: tuple[Line, ...], indent: str = "  ") -> Iterator[tuple[str, str, str]]:
    """Give the tree as rows of name, what it runs, and notes."""
    for line in found:
        yield indent + line.name, line.runs, ", ".join(line.notes)
        yield from lines(line.within, indent + "  ")


def shown(value: Any) -> str:
    """Write a value in one short line.

    >>> shown("x" * 80)[-4:], shown(3.0), shown({"a": [1]})
    ("...'", '3', "{'a': [1]}")
    """
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = repr(value)
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 4]}...{text[-1]}"


def _within(spec: Spec, component: Component, known: Mapping[str, str]) -> tuple[Line, ...]:
    if component.dag is None:
        return ()
    done: dict[str, Task] = {}
    left = dict(component.dag.tasks)
    while left:
        ready = [name for name, task in left.items() if set(task.needs) <= set(done)] or list(left)
        done |= {name: left.pop(name) for name in ready}
    return tuple(_line(spec, component, task, known) for task in done.values())


def _line(spec: Spec, around: Component, task: Task, known: Mapping[str, str]) -> Line:
    component = spec.component(task)
    given = {name: _said(spec, around, one.source, known, one.selector) for name, one in task.parameters.items()}
    given |= {name: _said(spec, around, source, known, None) for name, source in task.artifacts.items()}
    name = task.name if task.label in ("", task.name) else f"{task.name} ({task.label})"
    notes = tuple(_notes(task))
    if component.dag is None:
        notes += () if task.cache else ("not cached",)
        executor = spec.executor(component)
        image = executor.image if isinstance(executor, Container) else ""
        kind = "import" if isinstance(executor, Importer) else "task"
        notes += tuple(_resources(executor))
        return Line(name, kind, _runs(executor, given), notes, image=image, given=dict(sorted(given.items())))
    inner = dict(given)
    kind, runs = "block", ""
    if task.condition is not None:
        kind, runs = "condition", f"if {_readable(task.condition, given)}"
    if task.loop is not None:
        over = _over(task.loop, given)
        kind, runs = "loop", f"{runs} for each item of {over}".strip()
        inner[task.loop.item] = f"item of {over}"
        notes += (f"{task.loop.at_once} at once",) if task.loop.at_once else ()
    within = _within(spec, component, inner)
    if kind == "block" and within and all(line.kind == "condition" for line in within):
        runs = "one of"
    return Line(name, kind, runs, notes, within)


def _over(loop: Loop, given: Mapping[str, str]) -> str:
    return shown(list(loop.items)) if loop.items is not None else given.get(str(loop.input), str(loop.input))


def _readable(condition: str, given: Mapping[str, str]) -> str:
    text = READ.sub(lambda match: given.get(match[1], match[1]), condition)
    while (simpler := CAST.sub(r"\1", text)) != text:
        text = simpler
    return text


def _said(spec: Spec, around: Component, source: Source, known: Mapping[str, str], selector: str | None) -> str:
    match source:
        case Constant(value):
            text = shown(value)
        case TaskOutput(task, key):
            text = _made(spec, around, task, key)
        case ComponentInput(name):
            text = known.get(name, name)
        case FinalStatus(task):
            text = f"how {task} ended"
    return text + "".join(re.findall(r"\[[^\]]*\]", selector or ""))


def _made(spec: Spec, around: Component, name: str, key: str) -> str:
    """Name an output, of a block by the task within it that makes it."""
    task = around.dag.tasks.get(name) if around.dag is not None else None
    component = spec.component(task) if task is not None else None
    if task is None or component is None or component.dag is None:
        return f"{name}.{key}"
    chosen = {**component.dag.parameters, **component.dag.artifacts}.get(key)
    inner = _selected(spec, component, chosen) if chosen is not None else f"{name}.{key}"
    return f"all {inner}" if task.loop is not None else inner


def _selected(spec: Spec, component: Component, chosen: Selection) -> str:
    return " or ".join(_made(spec, component, source.task, source.key) for source in chosen.sources)


def _runs(executor: object, given: Mapping[str, str]) -> str:
    if isinstance(executor, Importer):
        uri = executor.uri
        return f"import {shown(uri.value) if isinstance(uri, Constant) else given.get('uri', uri.name)}"
    if not isinstance(executor, Container):
        return f"{getattr(executor, 'kind', 'nothing')} (of a cloud)"
    words = [*executor.command, *executor.args]
    if "trilho_runtime.step" in executor.command:
        return executor.command[-1]
    for flag, said in NAMED.items():
        if flag in words[:-1]:
            return said + words[words.index(flag) + 1]
    text = " ".join(" ".join(words).split())
    return text if len(text) <= WIDTH else text[: WIDTH - 3] + "..."


def _notes(task: Task) -> Iterator[str]:
    if task.needs:
        yield f"after {', '.join(task.needs)}"
    if task.retry is not None and task.retry.times:
        yield f"{task.retry.times} {'retry' if task.retry.times == 1 else 'retries'}"
    if task.whatever_happens:
        yield "whatever happens before"


def _resources(executor: object) -> Iterator[str]:
    found = executor.resources if isinstance(executor, Container) else {}
    if cpu := found.get("cpuLimit"):
        yield f"{cpu:g} CPU"
    if memory := found.get("memoryLimit"):
        yield f"{memory:g} GB"
    if accelerator := found.get("accelerator"):
        yield f"{accelerator.get('count', 1)} {accelerator.get('type', accelerator.get('resourceType', ''))}"
