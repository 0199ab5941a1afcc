"""A step as a function: what marks it, what its types say, and a call of it with an executor input."""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import json
import os
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from trilho_runtime.steps.artifact import Artifact, In, Metrics, Out
from trilho_runtime.steps.typed import ValueTypeError, convert, describe_type, fields_of, is_mapping

F = TypeVar("F", bound=Callable[..., Any])
OUTPUT = "output"  # the name of the output value of a step that returns a single one
OPTIONS: dict[str, tuple[type, ...]] = {
    "side_effect": (bool,),
    "version": (int,),
    "uncounted": (tuple, list),
    "retries": (int,),
    "backoff_seconds": (int, float),
    "backoff_factor": (int, float),
    "timeout_seconds": (int, float),
    "cpu": (str, int, float),
    "memory": (str,),
    "accelerator": (str,),
    "accelerators": (int,),
}


class StepError(Exception):
    """A step cannot be run as it was asked to: an unknown name, a wrong argument, a missing output."""


@dataclass(frozen=True)
class Step:
    """A registered function and what it takes."""

    function: Callable[..., Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: Mapping[str, Any]  # name -> annotation
    required: frozenset[str]
    lists: frozenset[str] = frozenset()
    """Inputs that are a list of artifacts."""
    metrics: frozenset[str] = frozenset()
    """Outputs that need no file: their metadata says all."""
    returns: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)


@typing.overload
def step(function: F) -> F: ...


@typing.overload
def step(
    *,
    side_effect: bool = ...,
    version: int = ...,
    uncounted: tuple[str, ...] = ...,
    retries: int = ...,
    backoff_seconds: float = ...,
    backoff_factor: float = ...,
    timeout_seconds: float = ...,
    cpu: str | float = ...,
    memory: str = ...,
    accelerator: str = ...,
    accelerators: int = ...,
) -> Callable[[F], F]: ...


def step(function: Any = None, **options: Any) -> Any:
    """Register a typed function as a step; every argument must say what it is.

    Options are read from the source too, without importing it, so they must be literals. `side_effect` is for a step
    whose point is not what it leaves: it always runs. `uncounted` names parameters that say where or why and not what:
    a change of these alone does not run the step again.

    >>> @step(retries=2)
    ... def double(x: int) -> int:
    ...     return 2 * x
    >>> double(4)
    8
    """
    if function is None:
        return functools.partial(step, **options)
    if not callable(function):
        raise TypeError(f"@step is given {function!r} without a name; options are given by name: @step(retries=2)")
    name = function.__name__
    arguments = inspect.signature(function).parameters
    bare = [key for key, argument in arguments.items() if argument.annotation is inspect.Parameter.empty]
    if bare:
        raise TypeError(f"step {name}: {', '.join(bare)} has no type; use In, Out or a JSON type")
    for key, value in options.items():
        if problem := option_problem(key, value):
            raise TypeError(f"step {name}: {problem}")
    function.__trilho_step__ = options
    return function


def option_problem(name: str, value: Any) -> str:
    """Say what is wrong with an option of @step; nothing when it is right.

    >>> option_problem("retry", 2)
    '@step has no option retry; did you mean retries?'
    """
    if name not in OPTIONS:
        close = difflib.get_close_matches(name, OPTIONS, n=1, cutoff=0.5)
        return f"@step has no option {name}; " + (
            f"did you mean {close[0]}?" if close else f"it has {', '.join(OPTIONS)}"
        )
    kinds = OPTIONS[name]
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        return f"option {name} is {value!r}; {' or '.join(kind.__name__ for kind in kinds)} is wanted"
    if isinstance(value, (int, float)) and value < 0:
        return f"option {name} is {value!r}; it cannot be negative"
    return ""


@functools.cache
def signature_of(function: Callable[..., Any]) -> Step:
    """Read a step's arguments: which are artifacts, which parameters."""
    try:
        hints = typing.get_type_hints(function)
    except NameError as error:
        raise StepError(f"{function.__name__} has a type that is not there when it runs: {error}") from None
    arguments = inspect.signature(function).parameters
    inputs = tuple(name for name in arguments if _artifact_class(hints[name]) is In)
    outputs = tuple(name for name in arguments if _artifact_class(hints[name]) is Out)
    parameters = {name: hints[name] for name in arguments if name not in (*inputs, *outputs)}
    return Step(
        function,
        inputs,
        outputs,
        parameters,
        required=frozenset(name for name in parameters if arguments[name].default is inspect.Parameter.empty),
        lists=frozenset(name for name in inputs if _is_list(hints[name])),
        metrics=frozenset(name for name in outputs if typing.get_args(hints[name]) == (Metrics,)),
        returns=hints.get("return", Any),
        options=getattr(function, "__trilho_step__", {}),
    )


def _artifact_class(annotation: Any) -> Any:
    origin = typing.get_origin(annotation)
    if origin is list:
        (annotation,) = typing.get_args(annotation)
        origin = typing.get_origin(annotation)
    return origin or annotation


def _is_list(annotation: Any) -> bool:
    inner = typing.get_args(annotation)
    return typing.get_origin(annotation) is list or any(typing.get_origin(x) is list for x in inner)


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
    inputs, outputs = request.get("inputs", {}), request["outputs"]
    values = _parameters(wanted, inputs.get("parameterValues", {}))
    read = _inputs(wanted, inputs.get("artifacts", {}))
    written = {name: made[0] for name, made in _artifacts(Out, wanted.outputs, outputs.get("artifacts", {})).items()}
    for artifact in written.values():
        artifact.path.parent.mkdir(parents=True, exist_ok=True)
    returned = function(**values, **read, **written)
    for name in wanted.metrics.intersection(written):
        if not written[name].path.exists():
            write_value(written[name].path, written[name].metadata)
    missing = [name for name, artifact in written.items() if not artifact.path.exists()]
    if missing:
        raise StepError(f"it left no output {', '.join(missing)}")
    _write_output(outputs, output_values(wanted.returns, returned), written)


def _inputs(wanted: Step, given: Mapping[str, Any]) -> dict[str, Any]:
    found = _artifacts(In, wanted.inputs, given)
    for name, artifacts in found.items():
        if name not in wanted.lists and len(artifacts) != 1:
            raise StepError(f"it was given {len(artifacts)} artifacts {name}; one is wanted, or In[list[...]]")
    return {name: artifacts if name in wanted.lists else artifacts[0] for name, artifacts in found.items()}


def _artifacts(kind: type[Any], names: tuple[str, ...], given: Mapping[str, Any]) -> dict[str, list[Any]]:
    missing = sorted(set(names) - set(given))
    if missing:
        raise StepError(f"it was given no artifact {', '.join(missing)}")
    return {
        name: [kind(x.get("name", name), x["uri"], dict(x.get("metadata") or {})) for x in given[name]["artifacts"]]
        for name in names
    }


def _parameters(wanted: Step, given: Mapping[str, Any]) -> dict[str, Any]:
    unknown, missing = sorted(set(given) - set(wanted.parameters)), sorted(wanted.required - set(given))
    if unknown:
        raise StepError(f"unknown parameter {unknown[0]}; it takes {', '.join(wanted.parameters) or 'none'}")
    if missing:
        raise StepError(f"parameter {missing[0]} is missing")
    try:
        return {name: convert(value, wanted.parameters[name], f"parameter {name}") for name, value in given.items()}
    except ValueTypeError as error:
        raise StepError(str(error)) from None


def output_values(returns: Any, returned: Any) -> dict[str, Any]:
    """Name what a step returned: the fields of its NamedTuple or TypedDict, or "output" for a single value.

    A mapping that no class describes is taken as it is.
    """
    fields = fields_of(returns)
    if fields is None:
        if returned is None or returns is type(None):
            return {}
        if is_mapping(returned):
            return dict(returned)
        fields, returned = {OUTPUT: returns}, {OUTPUT: returned}
    if not (returned is None or hasattr(returned, "_asdict") or is_mapping(returned)):
        raise StepError(f"it returned {returned!r:.200}; {describe_type(returns)} has {', '.join(fields)}")
    found = dict(returned._asdict() if hasattr(returned, "_asdict") else returned) if returned is not None else {}
    lacking, more = sorted(set(fields) - set(found)), sorted(set(found) - set(fields))
    if lacking or more:
        said = f"no output value {lacking[0]}" if lacking else f"an output value {more[0]}"
        raise StepError(f"it returned {said}; {describe_type(returns)} has {', '.join(fields)}")
    try:
        return {name: convert(found[name], fields[name], f"output value {name}") for name in fields}
    except ValueTypeError as error:
        raise StepError(str(error)) from None


def _write_output(outputs: Mapping[str, Any], values: dict[str, Any], written: Mapping[str, Artifact]) -> None:
    artifacts = {
        name: {"artifacts": [{"name": artifact.name, "uri": artifact.uri, "metadata": artifact.metadata}]}
        for name, artifact in written.items()
    }
    for name, place in outputs.get("parameters", {}).items():
        if name in values:
            write_value(Path(place["outputFile"]), values[name])
    write_value(Path(outputs["outputFile"]), {"parameterValues": values, "artifacts": artifacts})


def write_value(path: Path, value: Any) -> None:
    """Write a value whole: text as it is, as KFP reads it back, everything else as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, allow_nan=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
