"""A pipeline's definition: what the runtime's builder says, as data. It is read here, checked by the rules, compiled.

A value in it is a mapping of one of these forms, kept as it is written:

    {"const": x}  {"ref": "task.output"}  {"param": "name"}  {"item": "loop", "path": ["field"]}
    {"collected": "task.output"}  {"first_of": ["a.x", "b.x"]}  {"status": true}
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from trilho.core.files import write_whole
from trilho.errors import UsageError
from trilho.pipeline.definition.interface import StepInterface, read_step
from trilho.pipeline.libraries import libraries_of
from trilho_runtime.pipeline import SCHEMA, Pipeline
from trilho_runtime.steps.digest import digest_file, digest_json
from trilho_runtime.steps.fingerprint import closure, code_digest
from trilho_runtime.steps.watch import state

SECONDS = 120.0  # a pipeline's author is waiting; code that takes longer to say what it is hangs
GRACE = 5.0  # for saying where it does
IMPORTED = "artifact"  # the output of a task that names an artifact which is there already
Written = Mapping[str, Any]
Kind = Literal["when", "otherwise", "each", "exit"]


class GraphError(UsageError):
    """A pipeline is not written right: an unknown input, a circle, a name used twice."""


@dataclass(frozen=True)
class Place:
    """Where the author wrote something."""

    file: str = ""
    line: int = 0


@dataclass(frozen=True, kw_only=True)
class Task:
    """One execution of a step, or an artifact that is there already."""

    name: str
    step: str | None = None
    """The function, as "module:function"."""
    import_: Written | None = None
    """{"uri": VALUE, "kind": "model"}, of an artifact that is there already."""
    group: str | None = None
    arguments: Mapping[str, Written] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    cache: bool | None = None
    """This and the following: None is what @step says, or else the default."""
    retries: int | None = None
    backoff_seconds: float | None = None
    backoff_factor: float | None = None
    timeout_seconds: float | None = None
    cpu: str | float | None = None
    memory: str | None = None
    accelerator: str | None = None
    accelerators: int | None = None
    ignore_failure: bool = False
    code: tuple[str, ...] | None = None
    """What else of the project's functions it runs; "*" is all of the project's code."""
    uncounted: tuple[str, ...] | None = None
    """Parameters that say where or why and not what."""
    at: Place = Place()

    def given(self) -> dict[str, Written]:
        """Give all values that the task is given, by name."""
        return {**self.arguments, **({"uri": self.import_["uri"]} if self.import_ is not None else {})}


@dataclass(frozen=True, kw_only=True)
class Group:
    """A block of tasks: a branch, the body of a loop, or what is followed by a task whatever happens."""

    name: str
    kind: Kind
    parent: str | None = None
    title: str | None = None
    """The name that its author gave to it."""
    condition: Written | None = None
    chain: str | None = None
    """Of an otherwise(): the when() that it belongs to."""
    over: Written | None = None
    at_once: int | None = None
    exit_task: Task | None = None
    at: Place = Place()


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A pipeline as data."""

    name: str
    parameters: Mapping[str, Written] = field(default_factory=dict)
    tasks: tuple[Task, ...] = ()
    groups: tuple[Group, ...] = ()
    outputs: Mapping[str, Written] = field(default_factory=dict)
    at: Place = Place()
    outputs_at: Mapping[str, Place] = field(default_factory=dict)
    depends: Written = field(default_factory=dict)
    """What its author's code has read, and what was in it; see trilho_runtime.steps.watch."""

    @classmethod
    def read(cls, written: Written) -> Definition:
        """Take a definition from its JSON.

        >>> Definition.read(Pipeline("nightly", parameters={"rows": 5}).definition()).parameters
        {'rows': {'type': 'int', 'default': 5}}
        """
        if written.get("schema") != SCHEMA:
            raise GraphError(
                f"a pipeline's definition has schema {written.get('schema')!r}; this trilho reads {SCHEMA}"
            )
        return cls(
            name=written["name"],
            parameters=written["parameters"],
            tasks=tuple(map(_task, written["tasks"])),
            groups=tuple(map(_group, written["groups"])),
            outputs=written["outputs"],
            at=Place(**written["at"]),
            outputs_at={name: Place(**at) for name, at in written.get("outputs_at", {}).items()},
            depends=written.get("read", {}),
        )

    def all_tasks(self) -> tuple[Task, ...]:
        """Give the tasks, those that run at the end included."""
        return (*self.tasks, *(group.exit_task for group in self.groups if group.exit_task is not None))

    def steps(self) -> list[str]:
        """Give the functions that its tasks run, each once."""
        return list(dict.fromkeys(task.step for task in self.all_tasks() if task.step is not None))


def _task(written: Written) -> Task:
    given: dict[str, Any] = {key: tuple(x) if isinstance(x, list) else x for key, x in written.items()}
    imported = given.pop("import")
    return Task(**{**given, "import_": imported, "at": Place(**written["at"])})


def _group(written: Written) -> Group:
    task, given = written["exit_task"], dict[str, Any](written)
    return Group(**{**given, "exit_task": _task(task) if task else None, "at": Place(**written["at"])})


def comparisons_in(condition: Written) -> Iterator[Written]:
    """Give the comparisons that a condition is made of."""
    if "op" in condition:
        yield condition
        return
    for one in [condition["not"]] if "not" in condition else condition.get("all") or condition.get("any") or ():
        yield from comparisons_in(one)


def values_in(value: Written) -> Iterator[Written]:
    """Give the values that a condition compares; of a value, itself."""
    if "op" in value:
        yield from (value["left"], value["right"])
    elif "not" in value:
        yield from values_in(value["not"])
    elif "all" in value or "any" in value:
        for one in value.get("all") or value["any"]:
            yield from values_in(one)
    else:
        yield value


def references_in(value: Written) -> list[str]:
    """Give the outputs of tasks that a value or condition reads, as "task.output".

    >>> references_in({"first_of": ["a.x", "b.x"]})
    ['a.x', 'b.x']
    """
    found: list[str] = []
    for one in values_in(value):
        found += [one[key] for key in ("ref", "collected") if key in one] + list(one.get("first_of", ()))
    return found


def load_definition(
    reference: str | None, standard: Pipeline | None = None, *, python: Path, source: Path, home: Path
) -> Definition:
    """Give the pipeline that a project's function writes, or makes of the standard one; without one, the standard one.

    The function runs in the project's interpreter, and again only when it has changed, or what it read: files and the
    environment. Raises GraphError when it fails.
    """
    if reference is None:
        assert standard is not None
        written: Written = standard.definition()
    else:
        written = _ask(reference, standard.definition() if standard else None, python, source, home)
    return linked(Definition.read(written), source)


def _ask(reference: str, standard: Written | None, python: Path, source: Path, home: Path) -> Written:
    files = sorted(closure(source, [reference.partition(":")[0]]))
    lines = {str(file): digest_file(file) for file in files}  # what is found wrong is told by line
    code, libraries = code_digest(source, [reference]), libraries_of(python, home)
    made_of = [SCHEMA, reference, standard, str(source), code, lines, libraries]
    known = home / "cache" / f"definition-{digest_json(made_of)}.json"
    try:
        found: Written = json.loads(known.read_text(encoding="utf-8"))
        stale = state(found["read"]) != found["read"]
    except (OSError, ValueError, KeyError, TypeError):
        stale = True
    if stale:
        found = _run(reference, standard, python, source)
        with contextlib.suppress(OSError):  # then it is asked again
            write_whole(known, json.dumps(found))
    return found


def _run(reference: str, standard: Written | None, python: Path, source: Path) -> Written:
    words = [str(python), "-m", "trilho_runtime.pipeline", reference, "--path", str(source)]
    words += ["--timeout", str(SECONDS)]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}  # that the order of a set makes no other pipeline
    with tempfile.TemporaryDirectory(prefix="trilho-") as folder:
        if standard is not None:
            file = Path(folder, "standard.json")
            file.write_text(json.dumps(standard), encoding="utf-8")
            words += ["--standard", str(file)]
        try:
            done = subprocess.run(
                words, capture_output=True, encoding="utf-8", errors="replace", timeout=SECONDS + GRACE, env=environment
            )
        except subprocess.TimeoutExpired:
            raise GraphError(f"{reference} did not say within {SECONDS:g} seconds which pipeline it is") from None
        except OSError as error:
            raise GraphError(f"{python} cannot be started: {error.strerror}") from None
    if done.returncode != 0:
        raise GraphError(f"{reference} fails: {_last_words(done.stderr, done.returncode)}")
    try:
        found: Written = json.loads(done.stdout.partition("\n")[0])  # after it the project's code may say goodbye
    except ValueError:
        raise GraphError(f"{reference} ended its process before it had said which pipeline it is") from None
    return found


def _last_words(said: str, code: int) -> str:
    lines = [line for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else f"exit {code}"


def linked(definition: Definition, source: Path | None) -> Definition:
    """Read texts that stand where a step wants an artifact as the outputs that they name."""
    imported = frozenset(task.name for task in definition.tasks if task.import_ is not None)
    return replace(
        definition,
        tasks=tuple(_linked_task(task, source, imported) for task in definition.tasks),
        groups=tuple(_linked_group(group, source, imported) for group in definition.groups),
        outputs={name: _linked(value, imported) for name, value in definition.outputs.items()},
    )


def _linked_group(group: Group, source: Path | None, imported: frozenset[str]) -> Group:
    return replace(
        group,
        over=_linked(group.over, imported) if group.over is not None else None,
        exit_task=_linked_task(group.exit_task, source, imported) if group.exit_task is not None else None,
    )


def _linked_task(task: Task, source: Path | None, imported: frozenset[str]) -> Task:
    inputs = read_step(source, task.step).inputs if task.step is not None else {}
    arguments = {}
    for name, value in task.arguments.items():
        text = value.get("const")
        artifact = name in inputs and isinstance(text, str)
        arguments[name] = _linked({"ref": text} if artifact else value, imported)
    return replace(task, arguments=arguments)


def _linked(value: Written, imported: frozenset[str]) -> Written:
    """Let the name of an artifact that is there already stand for its only output."""
    found: dict[str, Any] = {
        key: f"{value[key]}.{IMPORTED}" for key in ("ref", "collected") if value.get(key) in imported
    }
    if "first_of" in value:
        found["first_of"] = [f"{name}.{IMPORTED}" if name in imported else name for name in value["first_of"]]
    return {**value, **found}


def read_interfaces(definition: Definition, source: Path | None) -> dict[str, StepInterface]:
    """Read what each step of a pipeline takes and gives, from its source."""
    return {reference: read_step(source, reference) for reference in definition.steps()}
