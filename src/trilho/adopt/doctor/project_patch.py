"""The change that takes leakage out of an adopted project: `fit` learns its state from the rows of the train side.

`fit` replays the notebook, its split included; the split is brought forward, and what was learnt from all rows is
learnt from the train side. `evaluate` fits by the same function, so that its metric is then an honest one.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trilho.adopt.doctor.flow.events import Events
from trilho.adopt.doctor.flow.interpreter import Located, interpret
from trilho.adopt.doctor.flow.values import Statistic
from trilho.adopt.doctor.narrowing import NAME, Unable
from trilho.adopt.doctor.patch import Edit, Patch, difference, edited, name_in, span_of
from trilho.adopt.doctor.report import Change
from trilho.adopt.doctor.rules.leakage import leaked, short
from trilho.adopt.doctor.subject import Chunk, Subject

GOLDEN = "the tests hold the notebook's own answers: those of the model change with this commit"
ASK = """
import json, sys
from importlib import import_module
from pathlib import Path
package, source, target = sys.argv[1:4]
rows = import_module(package + ".load").load(Path(source))
found = import_module(package + ".evaluate").evaluate(rows.drop(columns=target), rows[target])
print(json.dumps({name: float(value) for name, value in found.items()}))
"""


@dataclass(frozen=True)
class Fitting:
    """A project's own fit function, and what was seen on following its rows."""

    chunk: Chunk
    node: ast.FunctionDef
    events: Events
    before: int  # statements that stand before the function's own


def patch_project(subject: Subject) -> Patch:
    """Take the leakage out of a project's fit, as far as that can be done in place."""
    fitting = _fitting(subject)
    statistics = leaked(fitting.events) if fitting is not None else []
    if fitting is None or not statistics:
        return Patch()
    edits, fixed, left = [], [], []
    split = _split(fitting)
    done: list[int] = []
    for one in statistics:
        where = f"`{short(one.source)}` ({one.place.file}, line {one.place.line})"
        try:
            edits.append(_narrowed(fitting, one, split))
            done.append(one.statement - fitting.before)
            fixed.append(f"{where} is learnt from the training rows")
        except Unable as reason:
            left.append(f"{where}: {reason}")
    if not edits or split is None:
        return Patch(left=tuple(left))
    first = fitting.node.body[min(done)]
    indent = " " * first.col_offset
    line = f"{indent}{NAME} = {ast.unparse(split)}[0]\n"
    edits.append(Edit(0, (first.lineno, 0), (first.lineno, 0), line))
    source = fitting.chunk.source
    after = edited(source, source, edits)
    return Patch(
        {}, tuple(fixed), (*left, GOLDEN), difference(fitting.chunk.file, source, after), {fitting.chunk.file: after}
    )


def _fitting(subject: Subject) -> Fitting | None:
    """Follow the rows through the function that [steps] train names."""
    if subject.settings is None:
        return None
    module, _, name = subject.settings.steps.train.rpartition(":")
    file = f"{module.replace('.', '/')}.py"
    chunk = next((one for one in subject.chunks if one.file.endswith(file)), None)
    node = (
        next((n for n in chunk.tree.body if isinstance(n, ast.FunctionDef) and n.name == name), None) if chunk else None
    )
    if chunk is None or node is None or len(node.args.args) < 2:
        return None
    rows, target = (argument.arg for argument in node.args.args[:2])
    column = subject.settings.model.target
    given = ast.parse(f"import pandas\n{rows} = pandas.read_csv('')\n{target} = {rows}[{column!r}]").body
    outer = [Located(n, None, other.file) for other in subject.chunks for n in other.tree.body
             if isinstance(n, ast.FunctionDef | ast.ClassDef | ast.Assign)]  # fmt: skip
    statements = [*outer, *(Located(n, None, chunk.file) for n in [*given, *node.body])]
    events = interpret(statements, {**subject.known, "pandas": "pandas"}, target=[column])
    return Fitting(chunk, node, events, len(statements) - len(node.body))


def _split(fitting: Fitting) -> ast.Call | None:
    """Find the call of the project's own `split` in fit: one table in, its two sides out."""
    for node in ast.walk(fitting.node):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "split":
            return node if len(node.args) == 1 and isinstance(node.args[0], ast.Name) else None
    return None


def _narrowed(fitting: Fitting, one: Statistic, split: ast.Call | None) -> Edit:
    if split is None:
        raise Unable("fit has no split of one table that could be brought forward")
    if one.place.file != fitting.chunk.file or one.statement < fitting.before or one.root is None:
        raise Unable("it is learnt in another function: give that the training rows")
    name = name_in(one.root)
    table = split.args[0]
    if not isinstance(table, ast.Name) or name.id != table.id:
        raise Unable(f"it is learnt from `{name.id}`, and the rows are split as `{ast.unparse(table)}`")
    first = fitting.node.body[one.statement - fitting.before]
    bound = [
        n
        for n in ast.walk(fitting.node)
        if isinstance(n, ast.Name) and n.id == name.id and isinstance(n.ctx, ast.Store)
    ]
    if any(n.lineno >= first.lineno for n in bound):
        raise Unable(f"`{name.id}` is another table when it is split")
    return Edit(0, *span_of(name), NAME)


def measure_project(subject: Subject, files: Mapping[str, str], python: Path) -> tuple[list[Change], str]:
    """Run the project's evaluate as it is and as patched, in its own environment; gives the change, or why not."""
    old, why_not = _evaluated(subject, {}, python)
    new, why_not = _evaluated(subject, files, python) if old else ({}, why_not)
    return [Change(name, old[name], new[name]) for name in old if name in new], why_not


def _evaluated(subject: Subject, files: Mapping[str, str], python: Path) -> tuple[dict[str, float], str]:
    settings = subject.settings
    sources = sorted(subject.folder.glob(settings.data.source)) if settings is not None else []
    if settings is None or not sources:
        return {}, "the project's data is not here"
    package = settings.steps.train.partition(".")[0]
    with tempfile.TemporaryDirectory(prefix="trilho-doctor-") as folder:
        shutil.copytree(subject.folder / "src", Path(folder) / "src")
        for name, text in files.items():
            (Path(folder) / name).write_text(text, encoding="utf-8")
        done = subprocess.run(
            [str(python), "-c", ASK, package, str(sources[0]), settings.model.target], cwd=folder, text=True,
            capture_output=True, env={**os.environ, "PYTHONPATH": str(Path(folder) / "src")}, check=False,
        )  # fmt: skip
    try:
        return {str(name): float(value) for name, value in json.loads(done.stdout.splitlines()[-1]).items()}, ""
    except (ValueError, IndexError, AttributeError):
        said = (done.stderr.strip().splitlines() or ["it printed no metrics"])[-1]
        return {}, f"evaluate failed: {said}"
