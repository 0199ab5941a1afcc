"""Asks a project's function for its pipeline and prints the definition, for the platform to read."""

from __future__ import annotations

import argparse
import inspect
import json
import os
import sys
import traceback
from pathlib import Path

from trilho_runtime.pipeline import Pipeline, shown
from trilho_runtime.reference import PipelineError
from trilho_runtime.step import StepError, load_function, own_frames


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
        raise PipelineError(f"{reference} returned {made!r}; a Pipeline is wanted")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Print the definition that a project's function writes."""
    parser = argparse.ArgumentParser(prog="python -m trilho_runtime.pipeline", description=main.__doc__)
    parser.add_argument("function", help="package.module:name")
    parser.add_argument("--path", action="append", default=[], help="a folder to import from; may be repeated")
    parser.add_argument("--standard", type=Path, metavar="FILE", help="the standard pipeline's definition")
    given = parser.parse_args(arguments)
    sys.path[:0] = given.path
    answer = os.dup(1)
    os.dup2(2, 1)  # what the project prints is no definition
    try:
        standard = json.loads(given.standard.read_text(encoding="utf-8")) if given.standard else None
        made = define(given.function, Pipeline.from_definition(standard) if standard else None)
    except Exception as error:  # noqa: BLE001  the project's code may raise anything
        return _tell(error)
    finally:
        sys.stdout.flush()
        os.dup2(answer, 1)
    print(json.dumps(made.definition(), allow_nan=False))  # noqa: T201
    return 0


def _tell(error: Exception) -> int:
    if not isinstance(error, (PipelineError, StepError)):
        traceback.print_exception(type(error), error, own_frames(error.__traceback__))
    where = "" if isinstance(error, (PipelineError, StepError)) else f"{_raised_at(error)}{type(error).__name__}: "
    print(f"{where}{error}", file=sys.stderr)  # noqa: T201
    return 1


def _raised_at(error: Exception) -> str:
    frames = traceback.extract_tb(own_frames(error.__traceback__))
    ours = str(Path(__file__).parent)
    own = [frame for frame in frames if not frame.filename.startswith((ours, "<"))]
    return f"{shown({'file': own[-1].filename, 'line': own[-1].lineno})}: " if own else ""
