"""The order in which a notebook's statements are run, where it is not the order in which they are written.

People run cells out of order and save. Document order is taken wherever it defines every name before it is read; else
the order of the saved execution counts, if that does; else a definition that stands further down is brought up.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from trilho.adopt.dataflow import Effects, Flow, closure, definitions, flow
from trilho.adopt.plan import Finding

GIVEN = frozenset(dir(builtins)) | {
    "In", "Out", "_", "__", "___", "__builtins__", "__doc__", "__file__", "__name__", "_dh", "_i", "_ih", "_oh",
    "display", "exit", "get_ipython", "quit",
}  # fmt: skip
"""What every notebook has without defining it."""
SIMPLE = (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Expr, ast.Delete)
MOVABLE = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)


@dataclass(frozen=True)
class Placed:
    """A statement in its cell."""

    cell: int
    source: str
    node: ast.stmt


@dataclass(frozen=True)
class Missing:
    """A name that is read where nothing has defined it yet."""

    at: int  # position of the statement in the order
    name: str


def put_in_order(
    placed: Sequence[Placed], counts: Mapping[int, int | None]
) -> tuple[Literal["document", "counts"], list[Placed], list[Finding]]:
    """Give the order of execution, how it was found, and what there is to say of it."""
    document = list(placed)
    missing = undefined(document)
    findings = _out_of_order(document, counts)
    if not missing:
        return "document", document, findings
    for saved in _by_counts(document, counts):
        if not undefined(saved):
            return "counts", saved, [_taken(document, missing[0], counts), *findings]
    hoisted, moved = _hoisted(document)
    if not undefined(hoisted):
        return "document", hoisted, [*findings, *moved]
    return "document", document, [*findings, *(_never(document, one) for one in missing)]


def undefined(placed: Sequence[Placed]) -> list[Missing]:
    """Find the names that are read before any statement defines them, each once."""
    defined = definitions(item.node for item in placed)
    functions = closure({name: node for name, node in defined.items() if not isinstance(node, ast.ClassDef)})
    known: set[str] = set(GIVEN)
    found: list[Missing] = []
    for at, item in enumerate(placed):
        one = flow(item.node)
        absent = _needed(item.node, one, functions) - known
        found += [Missing(at, name) for name in sorted(absent - {missing.name for missing in found})]
        known = (known - one.deletes) | one.writes
        for name in one.reads & functions.keys():
            known |= functions[name].writes
        if one.open:
            break
    return found


def _needed(node: ast.stmt, one: Flow, functions: Mapping[str, Effects]) -> frozenset[str]:
    """Give the names that must be there: what it reads, and what the notebook functions that it calls read."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return one.reads
    called = {n.func.id for n in ast.walk(node) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    through = [functions[name] for name in called & one.reads & functions.keys()]
    reads = one.reads.union(*(each.reads - each.writes for each in through))
    return reads if isinstance(node, SIMPLE) else reads - one.writes  # a loop's next turn reads what this one binds


def _by_counts(placed: Sequence[Placed], counts: Mapping[int, int | None]) -> list[list[Placed]]:
    """Give the orders that the saved counts tell: cells that were never run left out, then at their place."""
    if all(counts.get(item.cell) is None for item in placed):
        return []
    ran = sorted(
        (item for item in placed if counts.get(item.cell) is not None), key=lambda item: counts[item.cell] or 0
    )
    last, keys = 0, {}
    for item in placed:
        count = counts.get(item.cell)
        last = last if count is None else count
        keys[item.cell] = (last, count is None)
    return [ran, sorted(placed, key=lambda item: keys[item.cell])]


def _hoisted(placed: Sequence[Placed]) -> tuple[list[Placed], list[Finding]]:
    """Bring definitions up to where they are first needed."""
    order, findings = list(placed), []
    for _ in placed:
        move = next((found for found in (_move(order, one) for one in undefined(order)) if found), None)
        if move is None:
            break
        source, target, name = move
        item = order.pop(source)
        order.insert(target, item)
        findings.append(Finding("hidden-state", item.cell, item.node.lineno, f"`{name}` is read in cell "
                                f"{order[target + 1].cell} and defined only here: it was run first", "warning",
                                f"move the definition above cell {order[target + 1].cell}"))  # fmt: skip
    return order, findings


def _move(order: Sequence[Placed], missing: Missing) -> tuple[int, int, str] | None:
    for at in range(missing.at + 1, len(order)):
        if missing.name in flow(order[at].node).writes:
            return (at, missing.at, missing.name) if isinstance(order[at].node, MOVABLE) else None
    return None


def _taken(placed: Sequence[Placed], missing: Missing, counts: Mapping[int, int | None]) -> Finding:
    item = placed[missing.at]
    left = sorted({other.cell for other in placed if counts.get(other.cell) is None})
    never = f"; never run, and so left out unless needed: {', '.join(map(str, left))}" if left else ""
    said = f"`{missing.name}` is read before any cell above defines it: from top to bottom the notebook fails, so its "
    return Finding("hidden-state", item.cell, item.node.lineno, f"{said}cells are run in the order of their saved "
                   f"counts{never}", "warning", "put the cells in the order in which they were run")  # fmt: skip


def _out_of_order(placed: Sequence[Placed], counts: Mapping[int, int | None]) -> list[Finding]:
    cells = dict.fromkeys(item.cell for item in placed)
    ran = [(cell, counts[cell]) for cell in cells if counts.get(cell) is not None]
    for (before, first), (after, second) in pairwise(ran):
        if (first or 0) > (second or 0):
            return [Finding("out-of-order", after, 1, f"this cell was run before cell {before}, which stands above it: "
                            "the saved outputs may not be what the notebook gives from top to bottom", "warning",
                            "restart the kernel, run all cells, and save")]  # fmt: skip
    return []


def _never(placed: Sequence[Placed], missing: Missing) -> Finding:
    item = placed[missing.at]
    direct = missing.name in flow(item.node).reads and isinstance(item.node, SIMPLE)
    effect = "the cell fails in a clean kernel" if direct else "where it is needed, the cell fails in a clean kernel"
    return Finding("undefined-name", item.cell, item.node.lineno, f"`{missing.name}` is read here and nothing before "
                   f"defines it: {effect}", "error" if direct else "warning",
                   "bring back the cell that defined it")  # fmt: skip
