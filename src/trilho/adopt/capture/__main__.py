"""For developers: `python -m trilho.adopt.capture NOTEBOOK --python PATH --scratch DIR`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from trilho.adopt.capture import Progress, capture, find_interpreter
from trilho.adopt.notebook import read_notebook
from trilho.errors import TrilhoError

COUNTED = ("statements", "calls", "reads", "fits", "predicts", "metrics", "splits", "saves", "objects", "golden")


def main() -> int:
    """Run a notebook and say what was seen."""
    parser = argparse.ArgumentParser(prog="python -m trilho.adopt.capture")
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--python", default="")
    parser.add_argument("--scratch", type=Path, required=True)
    given = parser.parse_args()
    try:
        notebook = read_notebook(given.notebook)
        trace = capture(notebook, find_interpreter(notebook, given.python), given.scratch, _show)
    except TrilhoError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return error.exit_code
    counts = {name: len(getattr(trace, name)) for name in COUNTED}
    print(given.scratch / "trace.json", trace.enforcement, f"{trace.seconds:.1f} s", counts)  # noqa: T201
    failed = [statement for statement in trace.statements if statement.state == "failed"]
    for statement in failed:
        print(f"statement {statement.id}: {statement.error}", file=sys.stderr)  # noqa: T201
    return 1 if failed else 0


def _show(progress: Progress) -> None:
    print(f"cell {progress.cell + 1} of {progress.of}, {progress.seconds:.1f} s: {progress.what}", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
