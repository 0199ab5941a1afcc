"""Why a cell is not in the project, in plain words."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable

from trilho.adopt.notebook import Cell
from trilho.adopt.plan import Dropped
from trilho.adopt.scopes import root
from trilho.adopt.slice.program import Program

PLOTS = frozenset({"plt", "sns", "px", "go", "alt", "ax", "fig", "axes", "plotly"})
PLOT_METHODS = frozenset(
    {"barplot", "boxplot", "countplot", "hist", "heatmap", "plot", "plot_importance", "plot_tree", "scatter"}
)


def dropped_cells(program: Program, used: Iterable[int]) -> tuple[Dropped, ...]:
    """Give every cell with code of which nothing is used, and the reason."""
    live = {program.steps[i].cell for i in used if i in program.steps}
    live |= {
        s.cell
        for s in program.steps.values()
        if isinstance(s.node, ast.Import | ast.ImportFrom) and _only_imports(program, s.cell)
    }
    first: dict[str, int] = {}
    found = []
    for cell in program.notebook.cells:
        if cell.kind != "code":
            continue
        text = cell.source.strip()
        earlier = first.setdefault(text, cell.index) if text else cell.index
        if cell.index not in live:
            found.append(Dropped(cell.index, _reason(program, cell, earlier)))
    return tuple(found)


def _only_imports(program: Program, cell: int) -> bool:
    return any(s.cell == cell for s in program.steps.values())


def _reason(program: Program, cell: Cell, earlier: int) -> str:
    text = cell.source.strip()
    if not text:
        return "empty"
    if earlier != cell.index:
        return f"the same as cell {earlier}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if all(line.startswith("#") for line in lines):
        return "all of it is commented out"
    if all(re.match(r"[%!#]", line) for line in lines):
        return "only magics and shell commands"
    steps = [s for s in program.steps.values() if s.cell == cell.index]
    if not steps:
        return "it did not run"
    if any(save.cell == cell.index for save in program.trace.saves):
        return "it saves results"
    choice = program.choice
    family = {choice.shipped, choice.evaluated}
    fits = [f for f in program.trace.fits if f.cell == cell.index and f.object not in family]
    if fits:
        names = [n for o in program.trace.objects if o.id in {f.object for f in fits} for n in o.names]
        return f"another model: {names[0]}" if names else "other models"
    if any(p.cell == cell.index and p.object not in family for p in program.trace.predicts):
        return "another model's predictions"
    calls = [n for s in steps for n in ast.walk(s.node) if isinstance(n, ast.Call)]
    if any(root(c.func) in PLOTS or (isinstance(c.func, ast.Attribute) and c.func.attr in PLOT_METHODS) for c in calls):
        return "plots"
    if all(isinstance(s.node, ast.FunctionDef | ast.ClassDef) for s in steps):
        return "functions that the model does not need"
    if all(isinstance(s.node, ast.Expr) for s in steps):
        return "exploration"
    return "what it makes is not needed for the model or its metrics"
