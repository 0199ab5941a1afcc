"""Pipelines as a project writes them: tasks of steps, wired by name.

    def nightly() -> Pipeline:
        p = Pipeline("nightly", parameters={"rows": int, "rate": 0.5})
        p.task("load", "shop.steps:load", rows=Param("rows"))
        p.task("fit", fit, table="load.table", retries=2)
        with p.when(Value("fit.auc") > Param("rate")):
            p.task("deploy", deploy, model="fit.model")
        return p

Nothing is run and no step imported by this: `python -m trilho_runtime.pipeline MODULE:NAME` prints the definition,
which the platform checks, compiles and runs. Where a step wants an artifact a text names one, "task.output"; all other
plain values are constants.
"""

from __future__ import annotations

import contextlib
import copy
import difflib
import importlib
import inspect
import math
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from trilho_runtime.steps.artifact import KINDS, File
from trilho_runtime.steps.function import OPTIONS as STEP_OPTIONS
from trilho_runtime.steps.reference import (
    Collected,
    FirstOf,
    Item,
    Json,
    Param,
    PipelineError,
    Reference,
    Status,
    Value,
    condition_of,
    write,
)
from trilho_runtime.steps.typed import KINDS as TYPES
from trilho_runtime.steps.typed import describe_type

__all__ = ["Collected", "FirstOf", "Item", "Param", "Pipeline", "PipelineError", "Status", "Value"]

SCHEMA = 1
EXIT = "exit"
OPTIONS: dict[str, tuple[type, ...]] = {
    **{name: kinds for name, kinds in STEP_OPTIONS.items() if name not in ("side_effect", "version")},
    "after": (list, tuple),
    "cache": (bool,),
    "ignore_failure": (bool,),
    "code": (list, tuple),
}
DEFAULTS: Json = {**dict.fromkeys(OPTIONS), "after": [], "ignore_failure": False}
Step = str | Callable[..., Any]


class Pipeline:
    """A pipeline that is being written. What is wrong with it is found when it is checked, and named by line."""

    def __init__(self, name: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Begin a pipeline; its parameters are each a type, which must be given, or a value, which may be."""
        self._at = _place()
        self.name = _text(name, "a pipeline's name", self._at)
        self._parameters = {key: _parameter(given) for key, given in (parameters or {}).items()}
        self._tasks: list[Json] = []
        self._groups: list[Json] = []
        self._outputs: Json = {}
        self._outputs_at: Json = {}
        self._open: list[str] = []
        self._last: dict[str | None, str | None] = {}  # in each block: the chain that an otherwise() would go on with
        self._unopened: list[_Block] = []

    def task(
        self,
        name: str,
        step: Step,
        /,
        *,
        after: Sequence[str] = (),
        retries: int | None = None,
        backoff_seconds: float | None = None,
        backoff_factor: float | None = None,
        timeout_seconds: float | None = None,
        cpu: str | float | None = None,
        memory: str | None = None,
        accelerator: str | None = None,
        accelerators: int | None = None,
        cache: bool | None = None,
        ignore_failure: bool = False,
        code: Sequence[str] | None = None,
        uncounted: Sequence[str] | None = None,
        arguments: Mapping[str, Any] | None = None,
        **by_name: Any,
    ) -> None:
        """Add a task: a step, a function or "package.module:name", with its arguments by name.

        What is not given is as @step has it. `arguments` takes those whose name is an option's here. `code` names what
        else of the project's code the step runs, `uncounted` parameters that do not make its result another.
        """
        options = {key: value for key, value in locals().items() if key in OPTIONS}
        self._add(_task(name, step, self._group, {**(arguments or {}), **by_name}, options))

    def artifact(self, name: str, /, *, uri: str | Reference, kind: type[Any] = File) -> None:
        """Add an artifact that is there already, by its URI; other tasks name it as they do a task's output."""
        made = _task(name, None, self._group, {}, {})
        self._add({**made, "import": {"uri": write(uri), "kind": KINDS.get(kind, describe_type(kind))}})

    def on_exit(self, name: str, step: Step, /, **arguments: Any) -> None:
        """Add the one task that runs when all others have ended, however they did."""
        options = {key: arguments.pop(key) for key in list(arguments) if key in OPTIONS}
        task = _task(name, step, None, arguments, options)
        self._groups.append(_group(f"{EXIT}-{name}", EXIT, None, exit_task=task))

    def output(self, name: str, of: str | Reference) -> None:
        """Name an output of the pipeline itself: `output("auc", "evaluate.auc")`."""
        at = _place()
        self._outputs[_text(name, "an output's name", at)] = write(Value(of) if isinstance(of, str) else of)
        self._outputs_at[name] = at

    def when(self, condition: object, *, name: str | None = None) -> AbstractContextManager[None]:
        """Open a block whose tasks run if a condition holds."""
        return self._block("when", name, condition=_condition(condition))

    def otherwise(self, condition: object = None, *, name: str | None = None) -> AbstractContextManager[None]:
        """Open the block that follows a when(), for where its condition does not hold and, if given, this one does."""
        chain = self._last.get(self._group)
        asked = None if condition is None else _condition(condition)
        return self._block("otherwise", name, condition=asked, chain=chain)

    def each(self, name: str, *, over: object, at_once: int | None = None) -> AbstractContextManager[None]:
        """Open a block whose tasks run for each item of a list: `Item(name)` is the one that it is at."""
        at = _place()
        if at_once is not None and (not isinstance(at_once, int) or isinstance(at_once, bool)):
            raise PipelineError(f"{shown(at)}: each({name!r}): at_once is {at_once!r}; int is wanted")
        return self._block("each", None, name=_text(name, "a loop's name", at), over=write(over), at_once=at_once)

    def inside(self, name: str) -> AbstractContextManager[None]:
        """Open a block again that is there already, to add tasks to it."""
        _find(self._groups, name, "block")
        return self._opened("inside", lambda: name)

    def replace(self, name: str, step: Step | None = None, /, *, without: Sequence[str] = (), **changes: Any) -> None:
        """Give a task another step, or other arguments and options; `without` names arguments that fall away."""
        task = _find(self._all_tasks(), name, "task")
        for argument in without:
            _find([{"name": key} for key in task["arguments"]], argument, f"argument of task {name}")
            del task["arguments"][argument]
        options = {key: changes.pop(key) for key in list(changes) if key in OPTIONS}
        changed = _task(name, step if step is not None else task["step"], task["group"], changes, options)
        task["arguments"] |= changed["arguments"]
        task |= {key: changed[key] for key in ("step", "at", *options)}
        task["import"] = None if step is not None else task["import"]

    def remove(self, name: str) -> None:
        """Take a task out, with the outputs of the pipeline that come from it and the waits of others for it."""
        self._refuse_block(name)
        task = _find(self._all_tasks(), name, "task")
        self._groups = [group for group in self._groups if group["exit_task"] is not task]
        self._tasks = [other for other in self._tasks if other is not task]
        for other in self._all_tasks():
            other["after"] = [wanted for wanted in other["after"] if wanted != name]
        self._outputs = {key: value for key, value in self._outputs.items() if not _is_from(value, name)}
        self._drop_if_empty(task["group"])

    def definition(self) -> Json:
        """Give the pipeline as data."""
        for block in self._unopened:
            raise PipelineError(f"{shown(block.at)}: this block is never opened; `with pipeline.{block.kind}(...):`")
        return copy.deepcopy(
            {
                "schema": SCHEMA,
                "name": self.name,
                "parameters": self._parameters,
                "tasks": self._tasks,
                "groups": self._groups,
                "outputs": self._outputs,
                "at": self._at,
                "outputs_at": {name: self._outputs_at[name] for name in self._outputs},
            }
        )

    @classmethod
    def from_definition(cls, definition: Mapping[str, Any]) -> Pipeline:
        """Take a pipeline from its data, to go on writing it."""
        given = copy.deepcopy(dict(definition))
        if given.get("schema") != SCHEMA:
            raise PipelineError(f"a definition of schema {given.get('schema')!r}; this library reads {SCHEMA}")
        made = cls(given["name"])
        made._parameters, made._tasks, made._groups = given["parameters"], given["tasks"], given["groups"]
        made._outputs, made._at = given["outputs"], given["at"]
        made._outputs_at = given["outputs_at"]
        return made

    @property
    def _group(self) -> str | None:
        return self._open[-1] if self._open else None

    def _all_tasks(self) -> list[Json]:
        return [*self._tasks, *(group["exit_task"] for group in self._groups if group["exit_task"])]

    def _add(self, task: Json) -> None:
        self._tasks.append(task)
        self._last[self._group] = None

    def _block(self, kind: str, title: str | None, *, name: str = "", **more: Any) -> _Block:
        group = _group(name, kind, None, title=title and _text(title, "a block's name", _place()), **more)

        def add() -> str:
            group["parent"] = parent = self._group
            group["name"] = name or title or f"{kind}-{1 + sum(one['kind'] == kind for one in self._groups)}"
            self._groups.append(group)
            chain = str(group["name"]) if kind == "when" else group["chain"]
            self._last[parent] = chain if group["condition"] is not None else None
            return str(group["name"])

        return self._opened(kind, add)

    def _opened(self, kind: str, begin: Callable[[], str]) -> _Block:
        block = _Block(self, kind, begin)
        self._unopened.append(block)
        return block

    def _refuse_block(self, name: str) -> None:
        blocks = [group["name"] for group in self._groups if group["kind"] != EXIT]
        if name not in blocks or any(task["name"] == name for task in self._all_tasks()):
            return
        inside = {name}
        while more := {str(one["name"]) for one in self._groups if one["parent"] in inside} - inside:
            inside |= more
        tasks = [task["name"] for task in self._tasks if task["group"] in inside]
        how = f"remove its tasks, and it goes with the last: {', '.join(tasks)}" if tasks else "it has no tasks"
        raise PipelineError(f"{shown(_place())}: {name} is a block, not a task; {how}")

    def _drop_if_empty(self, name: str | None) -> None:
        group = next((group for group in self._groups if group["name"] == name), None)
        if group is None or any(task["group"] == name for task in self._tasks):
            return
        others = [other for other in self._groups if other is not group]
        if not any(name in (other["parent"], other["chain"]) for other in others):
            self._groups = others
            self._drop_if_empty(group["parent"])


class _Block:
    """A block that tasks are written into while it is open."""

    def __init__(self, pipeline: Pipeline, kind: str, begin: Callable[[], str]) -> None:
        self.kind, self.at = kind, _place()
        self._pipeline, self._begin = pipeline, begin

    def __enter__(self) -> None:
        if self in self._pipeline._unopened:
            self._pipeline._unopened.remove(self)
        self._pipeline._open.append(self._begin())

    def __exit__(self, *_: object) -> None:
        closed = self._pipeline._open.pop()
        if self.kind != "inside":
            self._pipeline._last.pop(closed, None)


def _text(given: object, what: str, at: Json) -> str:
    if not isinstance(given, str):
        raise PipelineError(f"{shown(at)}: {what} is {given!r}; a text is wanted")
    return given


def _task(name: str, step: Step | None, group: str | None, arguments: Json, options: Json) -> Json:
    at = _place()
    _text(name, "a task's name", at)
    for key, value in options.items():
        if value is not None and not _is_option(key, value):
            kinds = " or ".join(kind.__name__ for kind in OPTIONS[key])
            kinds += " of texts" if list in OPTIONS[key] else ""
            raise PipelineError(
                f"{shown(at)}: task {name}: the option {key} is {value!r}; {kinds} is wanted. For an argument of that "
                f"name: arguments={{{key!r}: ...}}"
            )
    given = {key: list(value) if isinstance(value, (tuple, list)) else value for key, value in options.items()}
    return {
        "name": name,
        "step": _reference(step, name, at),
        "import": None,
        "group": group,
        "arguments": {key: write(value) for key, value in arguments.items()},
        **DEFAULTS,
        **given,
        "at": at,
    }


def _is_option(key: str, value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return list in OPTIONS[key] and all(isinstance(one, str) for one in value)
    if isinstance(value, bool) and bool not in OPTIONS[key]:
        return False
    return isinstance(value, OPTIONS[key]) and not (isinstance(value, float) and not math.isfinite(value))


def _group(name: str, kind: str, parent: str | None, **more: Any) -> Json:
    empty = dict.fromkeys(("title", "condition", "chain", "over", "at_once", "exit_task"))
    return {"name": name, "kind": kind, "parent": parent, **empty, **more, "at": _place()}


def _reference(step: Step | None, task: str, at: Json) -> str | None:
    if step is None or isinstance(step, str):
        return step
    if not inspect.isfunction(step):
        raise PipelineError(
            f'{shown(at)}: task {task}: {step!r} is no step; a function is wanted, or "package.module:function"'
        )
    return f"{step.__module__}:{step.__qualname__}"


def _parameter(given: Any) -> Json:
    """Write a parameter: a type, or a default value.

    >>> _parameter(int), _parameter(0.5), _parameter(list[str])
    ({'type': 'int'}, {'type': 'float', 'default': 0.5}, {'type': 'list'})
    """
    origin = typing.get_origin(given) or given
    if isinstance(origin, type):
        return {"type": TYPES.get(origin, describe_type(given))}
    written = write(given)
    return {"type": TYPES.get(type(given), type(given).__name__), "default": written.get("const"), **_problem(written)}


def _problem(written: Json) -> Json:
    return {"unserializable": written["unserializable"]} if "unserializable" in written else {}


def _condition(given: object) -> Json:
    try:
        return condition_of(given).written()
    except TypeError as error:
        raise PipelineError(f"{shown(_place())}: {error}") from None


def _find(found: Sequence[Json], name: str, what: str) -> Json:
    for one in found:
        if one["name"] == name:
            return one
    names = [one["name"] for one in found]
    close = difflib.get_close_matches(name, names, n=1)
    more = f"did you mean {close[0]}?" if close else f"there are: {', '.join(names) or 'none'}"
    raise PipelineError(f"{shown(_place())}: no {what} {name}; {more}")


def _is_from(value: Json, task: str) -> bool:
    named = [value.get("ref"), value.get("collected"), *value.get("first_of", ())]
    return any(str(name).partition(".")[0] == task for name in named if name is not None)


def _place() -> Json:
    """Give where the author is: the innermost line that is not of this library or of contextlib."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename in (__file__, contextlib.__file__):
        frame = frame.f_back
    return {"file": frame.f_code.co_filename, "line": frame.f_lineno}


def shown(at: Json) -> str:
    """Write a place as a compiler does, its file as seen from the working folder."""
    file = Path(at["file"])
    with contextlib.suppress(ValueError):
        file = file.relative_to(Path.cwd())
    return f"{file}:{at['line']}"


if __name__ == "__main__":
    sys.exit(importlib.import_module("trilho_runtime.steps.define").main())
