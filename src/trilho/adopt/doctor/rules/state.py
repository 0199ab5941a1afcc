"""State that the code does not show: globals that functions change, other notebooks, cells that failed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from trilho.adopt.dataflow import effects
from trilho.adopt.doctor.flow.values import Place
from trilho.adopt.doctor.subject import Subject, finding
from trilho.adopt.plan import Finding

OUTSIDE = re.compile(r"^\s*%(run|store\s+-r|load)\b\s*(\S*)", re.MULTILINE)
MUTABLE = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp)
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def order(subject: Subject) -> Iterator[Finding]:
    """Pass on what was seen while the notebook was read: its order, its names, its magics."""
    yield from subject.notebook.findings if subject.notebook is not None else ()


def mutable_globals(subject: Subject) -> Iterator[Finding]:
    """Find functions that change global names."""
    bound = {name for one in subject.statements for name in _bound(one.node)}
    for name, (chunk, node) in subject.functions.items():
        done = effects(node)
        for changed in sorted(name for name in done.writes | done.mutates if name in bound):
            at = _where(node, changed) or node
            yield finding(
                "mutable-global",
                chunk.place(at),
                f"`{name}` changes the global `{changed}`: what it gives depends on what it was called with before, "
                "so that one served row gets another answer than the same row in training",
                "warning",
                f"learn `{changed}` once from the training rows, keep it with the model, and only read it here",
            )


def mutable_defaults(subject: Subject) -> Iterator[Finding]:
    """Find parameters whose default is one list or dict for all calls, and is changed."""
    for chunk, node in subject.nodes():
        if not isinstance(node, ast.FunctionDef):
            continue
        given = [*node.args.posonlyargs, *node.args.args]
        defaults = dict(zip(reversed(given), reversed(node.args.defaults), strict=False))
        for argument, default in defaults.items():
            if isinstance(default, MUTABLE) and argument.arg in effects(node).parameters:
                yield finding(
                    "mutable-global",
                    chunk.place(default),
                    f"`{argument.arg}={ast.unparse(default)}` is made once and changed by every call of "
                    f"`{node.name}`: later calls see what earlier ones left",
                    "warning",
                    f"take `{argument.arg}=None` and make a new one inside",
                )


def state_from_elsewhere(subject: Subject) -> Iterator[Finding]:
    """Find names that come from another notebook or an earlier session, and star imports of own modules."""
    cells = subject.notebook.cells if subject.notebook is not None else ()
    followed = {magic.text for cell in cells for magic in cell.magics if magic.effect == "translated"}
    for text in subject.texts:
        for match in OUTSIDE.finditer(text.text) if text.kind == "source" else ():
            line = text.text.count("\n", 0, match.start(1)) + 1
            if text.text.split("\n")[line - 1].strip() in followed:
                continue  # a script beside the notebook: it is adopted with it
            yield finding(
                "hidden-state",
                Place(text.cell, line),
                f"`%{match[1]} {match[2]}` brings in names that are not in this notebook: what they were depends on "
                "another file or session",
                "error",
                "put the code that it needs into a cell or a module",
            )


def failed_cells(subject: Subject) -> Iterator[Finding]:
    """Find cells that were saved with an error."""
    for cell in subject.notebook.cells if subject.notebook is not None else ():
        for output in cell.outputs:
            if output.get("output_type") == "error":
                name = ANSI.sub("", str(output.get("ename", "an error")))
                yield finding(
                    "failed-cell",
                    Place(cell.index, 1),
                    f"this cell was saved with {name}: what came after it rests on an older run of it, or on nothing",
                    "warning",
                    "correct the cell, or delete it, and run all cells",
                )
                break


def _bound(node: ast.stmt) -> Iterator[str]:
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign | ast.AugAssign):
        targets = [node.target]
    for target in targets:
        for part in ast.walk(target):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                yield part.id


def _where(node: ast.FunctionDef, name: str) -> ast.AST | None:
    """Find the statement in a function that changes a name; `global` itself where nothing plainer is there."""
    for inner in ast.walk(node):
        match inner:
            case ast.Assign(targets=[ast.Subscript(value=ast.Name(id=found)) | ast.Name(id=found), *_]) if (
                found == name
            ):
                return inner
            case ast.AugAssign(target=ast.Name(id=found)) if found == name:
                return inner
            case ast.Call(func=ast.Attribute(value=ast.Name(id=found))) if found == name:
                return inner
    return next((n for n in ast.walk(node) if isinstance(n, ast.Global) and name in n.names), None)
