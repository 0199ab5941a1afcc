"""Asks a project's function for its pipeline and prints the definition, for the platform to read."""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import os
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path

from trilho_runtime.pipeline import Pipeline, shown
from trilho_runtime.step import own_frames
from trilho_runtime.steps.function import StepError, load_function
from trilho_runtime.steps.reference import PipelineError
from trilho_runtime.steps.watch import Watch

OURS, IMPORTER = str(Path(__file__).parents[1]), str(Path(importlib.__file__).parent)
LONGEST = 200  # of a value that is told


def define(reference: str, standard: Pipeline | None = None) -> Pipeline:
    """Call a project's function that writes a pipeline; one that takes an argument is given the standard pipeline."""
    function = load_function(reference)
    wanted = [x for x in inspect.signature(function).parameters.values() if x.default is x.empty]
    if len(wanted) > 1:
        raise PipelineError(f"{reference} takes {len(wanted)} arguments; none is wanted, or one: the standard pipeline")
    if wanted and standard is None:
        raise PipelineError(f"{reference} takes the standard pipeline, and there is none outside of a trilho project")
    made = function(standard) if wanted else function()
    made = standard if made is None and wanted else made
    if not isinstance(made, Pipeline):
        if inspect.iscoroutine(made):
            made.close()  # else it complains of that it was never awaited
        code = getattr(inspect.unwrap(function), "__code__", None)
        where = f"{shown({'file': code.co_filename, 'line': code.co_firstlineno})}: " if code is not None else ""
        raise PipelineError(f"{where}{reference} returned {_short(made)}; a Pipeline is wanted")
    return made


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def main(arguments: list[str] | None = None) -> int:
    """Print the definition that a project's function writes."""
    parser = argparse.ArgumentParser(prog="python -m trilho_runtime.pipeline", description=main.__doc__)
    parser.add_argument("function", help="package.module:name")
    parser.add_argument("--path", action="append", default=[], help="a folder to import from; may be repeated")
    parser.add_argument("--standard", type=Path, metavar="FILE", help="the standard pipeline's definition")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="give up after so long, and say where it is")
    given = parser.parse_args(arguments)
    sys.path[:0] = given.path
    answer, watch = os.dup(1), Watch()
    os.dup2(2, 1)  # what the project prints is no definition, whenever it does
    try:
        if given.timeout:
            _limit(given.timeout, given.function)
        standard = json.loads(given.standard.read_text(encoding="utf-8")) if given.standard else None
        watch.begin()
        made = define(given.function, Pipeline.from_definition(standard) if standard else None)
        text = json.dumps({**made.definition(), "read": watch.found()}, allow_nan=False)
    except BaseException as error:  # noqa: BLE001  the project's code may raise anything, and may call exit()
        return _tell(error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    with os.fdopen(answer, "w", encoding="utf-8") as handle:
        handle.write(text + "\n")
    return 0


class _TooLong(BaseException):
    """The project's code has not said in time which pipeline it is."""


def _limit(seconds: float, function: str) -> None:
    def stop(*_: object) -> None:
        raise _TooLong(f"{function} did not say within {seconds:g} seconds which pipeline it is")

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _tell(error: BaseException) -> int:
    ours = isinstance(error, (PipelineError, StepError))
    if not ours and not isinstance(error, (SystemExit, _TooLong)):
        with suppress(Exception):
            traceback.print_exception(type(error), error, own_frames(error.__traceback__))
    said = str(error) if ours else f"{_raised_at(error)}{_in_words(error)}"
    said = " ".join(said.split())  # in one line, which is the last
    with suppress(OSError):
        os.write(2, f"{said}\n".encode(errors="backslashreplace"))
    return 1


def _in_words(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"it called exit({error.code!r})"
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    return said if isinstance(error, _TooLong) else ": ".join(filter(None, (type(error).__name__, said)))


def _raised_at(error: BaseException) -> str:
    """Give the last line of the project's that was under way, or that is no Python."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{shown({'file': error.filename, 'line': error.lineno})}: "
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith((OURS, "<", IMPORTER))]
    return f"{shown({'file': own[-1].filename, 'line': own[-1].lineno})}: " if own else ""
