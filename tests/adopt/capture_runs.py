"""Runs small notebooks, written in the test, through capture."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from trilho.adopt.capture import Interpreter, Progress, capture
from trilho.adopt.notebook import Notebook, read_notebook
from trilho.adopt.trace import StatementTrace, Trace, Value

ROOT = Path(__file__).parents[2]
INTERPRETERS = (
    ROOT / "tests" / "notebooks" / ".venv" / "bin" / "python",
    ROOT / "examples" / ".venv" / "bin" / "python",
)


def notebook_python(*modules: str) -> str:
    """Give an interpreter with pandas, sklearn and `modules`; skip the test where there is none."""
    for python in INTERPRETERS:
        wanted = ", ".join(("pandas", "sklearn", *modules))
        if python.exists() and not subprocess.run([python, "-c", f"import {wanted}"], capture_output=True).returncode:
            return str(python)
    pytest.skip(f"no interpreter with {' '.join(('pandas', 'sklearn', *modules))}: make notebooks")


def write_notebook(folder: Path, cells: Sequence[str]) -> Notebook:
    """Write a notebook of code cells and read it."""
    told: list[dict[str, Any]] = [
        {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": cell} for cell in cells
    ]
    path = folder / "work" / "notebook.ipynb"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"cells": told, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}), encoding="utf-8")
    return read_notebook(path)


def run(folder: Path, *cells: str, modules: Sequence[str] = (), **options: Any) -> Trace:
    """Run cells and give the trace; the notebook is in folder/work, the scratch folder beside it."""
    notebook = write_notebook(folder, cells)
    interpreter = Interpreter(notebook_python(*modules), "3.11", "test")
    trace = capture(notebook, interpreter, folder / "scratch", **options)
    problems = json.loads((folder / "scratch" / "trace.json").read_text(encoding="utf-8"))["problems"]
    assert problems == []
    return trace


def ran(trace: Trace) -> Trace:
    """Give a trace, of which every statement ran."""
    failed = [f"{s.state}: {s.error}\n{s.output}" for s in trace.statements if s.state != "ran"]
    assert not failed, failed[0]
    return trace


def value(trace: Trace, name: str) -> Value:
    """Give what a variable was at last."""
    return next(s.values[name] for s in reversed(trace.statements) if name in s.values)


def at(trace: Trace, cell: int, number: int = -1) -> StatementTrace:
    """Give a cell's last statement, or the one with that number; cells have no id in the trace but in expressions."""
    found = [s for s in trace.statements if any(e.cell == cell for e in s.expressions)]
    return found[number]


def collect(said: list[Progress]) -> Any:
    """Give a function that collects progress."""
    return said.append
