"""Typed steps: a function of artifacts and parameters, run by the executor-input contract of KFP v2.

    @step
    def scale(table: In, scaled: Out, factor: float = 1.0) -> dict[str, Any]: ...

An `In` is an artifact to read, an `Out` one to write, everything else is a parameter; the mapping that is returned
holds the step's output values. `python -m trilho_runtime.step MODULE:NAME --executor-input FILE` runs one.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import inspect
import json
import os
import sys
import traceback
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
OURS = str(Path(__file__).parent)
MOUNTS = {"gs://": "/gcs/", "file://": "/"}
JSON_TYPES: dict[Any, tuple[type, ...]] = {
    str: (str,),
    int: (int,),
    float: (int, float),
    bool: (bool,),
    list: (list,),
    dict: (dict,),
}


class StepError(Exception):
    """A step cannot be run as it was asked to: an unknown name, a wrong argument, a missing output."""


@dataclass
class Artifact:
    """A file or folder that passes between steps; what a step puts into `metadata` travels with it."""

    name: str
    uri: str
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """Give where the artifact lies on this machine.

        >>> Artifact("model", "gs://bucket/model.pkl").path.as_posix()
        '/gcs/bucket/model.pkl'
        """
        for scheme, mount in MOUNTS.items():
            if self.uri.startswith(scheme):
                return Path(mount + self.uri[len(scheme) :].lstrip("/"))
        return Path(self.uri)


class In(Artifact):
    """An artifact that a step reads."""


class Out(Artifact):
    """An artifact that a step writes."""


@dataclass(frozen=True)
class Step:
    """A registered function and what it takes."""

    function: Callable[..., Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: Mapping[str, Any]  # name -> annotation
    required: frozenset[str]


def step(function: F) -> F:
    """Register a typed function as a step; every argument must say what it is.

    >>> @step
    ... def double(x: int) -> dict[str, int]:
    ...     return {"x": 2 * x}
    >>> double(4)
    {'x': 8}
    """
    arguments = inspect.signature(function).parameters
    bare = [name for name, argument in arguments.items() if argument.annotation is inspect.Parameter.empty]
    if bare:
        raise TypeError(f"step {function.__name__}: {', '.join(bare)} has no type; use In, Out or a JSON type")
    function.__trilho_step__ = True  # type: ignore[attr-defined]
    return function


@functools.cache
def signature_of(function: Callable[..., Any]) -> Step:
    """Read a step's arguments: which are artifacts, which parameters."""
    hints = typing.get_type_hints(function)
    arguments = inspect.signature(function).parameters
    inputs = tuple(name for name in arguments if hints[name] is In)
    outputs = tuple(name for name in arguments if hints[name] is Out)
    parameters = {name: hints[name] for name in arguments if name not in (*inputs, *outputs)}
    required = frozenset(name for name in parameters if arguments[name].default is inspect.Parameter.empty)
    return Step(function, inputs, outputs, parameters, required)


def load_function(reference: str) -> Callable[..., Any]:
    """Import "package.module:name". An error inside the module is the module's own and passes through."""
    module_name, _, name = reference.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise
        raise StepError(f"no module {error.name}, named by {reference}") from None
    found = getattr(module, name, None)
    if not callable(found):
        raise StepError(f"no function {name} in {module_name}")
    return typing.cast("Callable[..., Any]", found)


def execute(function: Callable[..., Any], request: Mapping[str, Any]) -> None:
    """Call a step with what an executor input says, then write its executor output, whole or not at all."""
    wanted = signature_of(function)
    values = dict(request["inputs"].get("parameterValues", {}))
    read = _artifacts(In, wanted.inputs, request["inputs"].get("artifacts", {}))
    written = _artifacts(Out, wanted.outputs, request["outputs"].get("artifacts", {}))
    _check_parameters(wanted, values)
    for artifact in written.values():
        artifact.path.parent.mkdir(parents=True, exist_ok=True)
    returned = function(**values, **read, **written)
    missing = [name for name, artifact in written.items() if not artifact.path.exists()]
    if missing:
        raise StepError(f"it left no output {', '.join(missing)}")
    _write_output(request["outputs"], dict(returned or {}), written)


def _artifacts(kind: type[Any], names: tuple[str, ...], given: Mapping[str, Any]) -> dict[str, Any]:
    missing = sorted(set(names) - set(given))
    if missing:
        raise StepError(f"it was given no artifact {', '.join(missing)}")
    found = {}
    for name in names:
        first = given[name]["artifacts"][0]
        found[name] = kind(first.get("name", name), first["uri"], dict(first.get("metadata") or {}))
    return found


def _check_parameters(wanted: Step, values: Mapping[str, Any]) -> None:
    unknown, missing = sorted(set(values) - set(wanted.parameters)), sorted(wanted.required - set(values))
    if unknown:
        raise StepError(f"unknown parameter {unknown[0]}; it takes {', '.join(wanted.parameters) or 'none'}")
    if missing:
        raise StepError(f"parameter {missing[0]} is missing")
    for name, value in values.items():
        annotation = wanted.parameters[name]
        kinds = JSON_TYPES.get(typing.get_origin(annotation) or annotation)
        wrong = kinds is not None and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds))
        if wrong:
            raise StepError(f"parameter {name} is {value!r}; {getattr(annotation, '__name__', annotation)} is wanted")


def _write_output(outputs: Mapping[str, Any], values: dict[str, Any], written: Mapping[str, Artifact]) -> None:
    for name, place in outputs.get("parameters", {}).items():
        if name in values:
            _write(Path(place["outputFile"]), values[name])
    artifacts = {
        name: {"artifacts": [{"name": artifact.name, "uri": artifact.uri, "metadata": artifact.metadata}]}
        for name, artifact in written.items()
    }
    _write(Path(outputs["outputFile"]), {"parameterValues": values, "artifacts": artifacts})


def _write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, allow_nan=False)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def run(reference: str, request: Mapping[str, Any], path: list[str]) -> int:
    """Run one step with `path` importable and give its exit code; of what went wrong print the user's frames only."""
    sys.path[:0] = path
    try:
        execute(load_function(reference), request)
    except StepError as error:
        print(f"step {reference} failed: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except SystemExit as error:
        print(f"step {reference} failed: it called exit({error.code!r})", file=sys.stderr)  # noqa: T201
        return 1
    except BaseException as error:  # noqa: BLE001  a step may raise anything; its words are the user's to read
        traceback.print_exception(type(error), error, _own_frames(error.__traceback__))
        last = traceback.format_exception_only(type(error), error)[-1].strip()
        print(f"step {reference} failed: {last}", file=sys.stderr)  # noqa: T201
        return 1
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
    return 0


def _own_frames(trace: TracebackType | None) -> TracebackType | None:
    """Cut this library's frames and the import machinery off the top, unless nothing else is left."""
    rest = trace
    while rest is not None and _is_ours(rest.tb_frame):
        rest = rest.tb_next
    return rest or trace


def _is_ours(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    return file.startswith((OURS, "<frozen importlib")) or os.path.join("importlib", "__init__") in file  # noqa: PTH118


def read_request(given: str) -> dict[str, Any]:
    """Read an executor input, given as JSON or as the name of a file."""
    text = given if given.lstrip().startswith("{") else Path(given).read_text(encoding="utf-8")
    return typing.cast("dict[str, Any]", json.loads(text))


def main(arguments: list[str] | None = None) -> int:
    """Run one step, or serve steps to a runner (`--serve`)."""
    parser = argparse.ArgumentParser(prog="python -m trilho_runtime.step", description=main.__doc__)
    parser.add_argument("step", nargs="?", help="package.module:name")
    parser.add_argument("--executor-input", help="the executor input, as JSON or as a file")
    parser.add_argument("--path", action="append", default=[], help="a folder to import from; may be repeated")
    parser.add_argument("--serve", action="store_true", help="take steps from standard input, one JSON object a line")
    parser.add_argument("--no-fork", action="store_true", help="with --serve: each step is a process of its own")
    parser.add_argument("--alive", type=int, help="a pipe's descriptor: the step ends when the pipe does")
    given = parser.parse_args(arguments)
    if given.serve:
        from trilho_runtime.fork import serve

        return serve(given.path, fork=not given.no_fork)
    if given.step is None or given.executor_input is None:
        parser.error("a step and --executor-input, or --serve")
    if given.alive is not None:
        from trilho_runtime.fork import die_with

        die_with(given.alive)
    return run(given.step, read_request(given.executor_input), given.path)


if __name__ == "__main__":  # the module of record is the imported one, whose In and Out a step's module sees
    sys.exit(importlib.import_module("trilho_runtime.step").main())
