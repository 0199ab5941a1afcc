"""Typed steps: a function of artifacts and parameters, run by the executor-input contract of KFP v2.

    class Found(NamedTuple):
        rows: int

    @step(retries=2)
    def scale(table: In[Table], scaled: Out[Table], factor: float = 1.0) -> Found: ...

An `In` is an artifact to read, an `Out` one to write, everything else is a parameter; what is returned are the step's
output values. `python -m trilho_runtime.step MODULE:NAME --executor-input FILE` runs one.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import importlib.util
import json
import os
import shutil
import sys
import traceback
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from trilho_runtime.steps.artifact import Artifact, File, In, Metrics, Model, Out, Table
from trilho_runtime.steps.function import StepError, execute, load_function, step, write_value

__all__ = [
    "Artifact",
    "File",
    "In",
    "Metrics",
    "Model",
    "Out",
    "StepError",
    "Table",
    "step",
]

OURS = str(Path(__file__).parent)
PLATFORM = "TRILHO_PLATFORM_PYTHON"
SOURCE = "TRILHO_SOURCE"
LINES = 40  # of a traceback that are left for whoever started the step
_path: list[str] = []  # where the step of this process is imported from


def run(reference: str, request: Mapping[str, Any], path: list[str]) -> int:
    """Run one step with `path` importable and give its exit code.

    Of what went wrong the user's frames are printed; the error is also left beside the executor output, for whoever
    started the step.
    """
    sys.path[:0] = path
    _path[:] = path
    try:
        execute(load_function(reference), request)
    except StepError as error:
        return _fail(reference, request, error, str(error))
    except SystemExit as error:
        return _fail(reference, request, error, f"it called exit({error.code!r})")
    except BaseException as error:  # noqa: BLE001  a step may raise anything; its words are the user's to read
        if isinstance(getattr(error, "fact", None), str):
            return _fail(reference, request, error, error.fact, getattr(error, "hint", None))  # type: ignore[attr-defined]
        said = "".join(traceback.format_exception(type(error), error, own_frames(error.__traceback__)))
        print(said, end="", file=sys.stderr)  # noqa: T201
        fact = traceback.format_exception_only(type(error), error)[-1].strip()
        return _fail(reference, request, error, fact, said=said.splitlines())
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
    return 0


def _fail(
    reference: str,
    request: Mapping[str, Any],
    error: BaseException,
    fact: str,
    hint: str | None = None,
    said: Sequence[str] = (),
) -> int:
    kind = "StepFailed" if isinstance(error, SystemExit) else type(error).__name__
    code = getattr(error, "exit_code", 1)
    leave_error(request, kind, fact, hint, code if isinstance(code, int) else 1, said)
    print(f"step {reference} failed: {fact}" + (f"\nHint: {hint}" if hint else ""), file=sys.stderr)  # noqa: T201
    return 1


def leave_error(
    request: Mapping[str, Any],
    kind: str,
    fact: str,
    hint: str | None = None,
    exit_code: int = 1,
    said: Sequence[str] = (),
) -> None:
    """Say beside the executor output why there is none, as OUTPUT.error.json; `said` is a traceback's lines."""
    place = request.get("outputs", {}).get("outputFile")
    if place:
        error = {"schema": 1, "kind": kind, "fact": fact, "hint": hint, "exit_code": exit_code}
        error |= {"said": list(said[-LINES:])}
        with contextlib.suppress(OSError):  # it has been printed too
            write_value(Path(f"{place}.error.json"), error)


def own_frames(trace: TracebackType | None) -> TracebackType | None:
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


def source_folder() -> Path:
    """Give the folder that the project's code is imported from: as it was named, else what the working folder has."""
    named = os.environ.get(SOURCE) or next(iter(_path), None)
    here = Path.cwd()
    return Path(named) if named else here / "src" if (here / "src").is_dir() else here


def hop(reference: str, arguments: list[str]) -> None:
    """Become the platform's interpreter for a step of the platform's, where this one does not have it."""
    if reference.partition(":")[0].partition(".")[0] != "trilho" or importlib.util.find_spec("trilho") is not None:
        return
    named = os.environ.get(PLATFORM)
    python = shutil.which(named) if named else None
    if named is None:
        raise StepError(f"{sys.executable} has no trilho; {PLATFORM} must name an interpreter that has it")
    if python is None:
        raise StepError(f"{PLATFORM} is {named!r}, and there is no such program")
    if Path(python).absolute() == Path(sys.executable).absolute():
        raise StepError(f"{PLATFORM} is {named!r}, and that interpreter has no trilho")
    sys.stdout.flush()
    os.execv(python, [python, "-m", "trilho_runtime.step", *arguments])  # noqa: S606  the same step, elsewhere


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trilho_runtime.step", description=main.__doc__)
    parser.add_argument("step", help="package.module:name")
    parser.add_argument("--executor-input", required=True, help="the executor input, as JSON or as a file")
    parser.add_argument("--path", action="append", default=[], help="a folder to import from; may be repeated")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="kill the step after so long, and exit 124")
    parser.add_argument("--root", type=_resolved, metavar="URI", help="where a service keeps the pipeline's artifacts")
    parser.add_argument("--run", type=_resolved, metavar="ID", help="the run that it belongs to")
    parser.add_argument("--task", type=_resolved, metavar="NAME", help="the task that it is")
    parser.add_argument("--no-cache", action="store_true", help="run it though it ran before")
    return parser.parse_args(arguments)


def _resolved(value: str) -> str | None:
    """Take a placeholder that the service has not filled in for nothing."""
    return None if value.startswith("{{$") or not value else value


def main(arguments: list[str] | None = None) -> int:
    """Run one step."""
    words = sys.argv[1:] if arguments is None else arguments
    given = _parse(words)
    request = read_request(given.executor_input)
    try:
        hop(given.step, words)
    except StepError as error:
        return _fail(given.step, request, error, str(error))
    _path[:] = given.path
    source = source_folder()
    call = functools.partial(run, given.step, request, [str(source), *given.path])
    if given.timeout:
        from trilho_runtime.steps.timeout import limited

        call = functools.partial(limited, call, given.timeout, functools.partial(_stopped, given.step, request))
    return _recorded(given, request, source, call)


def _recorded(given: argparse.Namespace, request: dict[str, Any], source: Path, call: Callable[[], int]) -> int:
    """Run a step; where a service runs it, look for its result first and put on record how it ended."""
    if given.root and given.run and given.task:
        from trilho_runtime.steps.remote import RemoteStep, is_mounted

        if is_mounted(given.root):
            remote = RemoteStep(
                given.step, request, given.root, given.run, given.task, source=source, cache=not given.no_cache
            )
            return remote.perform(call)
    return call()


def _stopped(reference: str, request: Mapping[str, Any], fact: str) -> None:
    """Say that a step was ended from outside."""
    leave_error(request, "StepFailed", fact)
    print(f"step {reference} failed: {fact}", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":  # the module of record is the imported one, whose In and Out a step's module sees
    sys.exit(importlib.import_module("trilho_runtime.step").main())
