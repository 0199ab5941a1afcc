"""What the test side reads of the training rows: `a.columns`, `train["y"].mean()`. It is learnt with the model."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from trilho.adopt.scopes import root
from trilho.adopt.slice.naming import StateNames
from trilho.adopt.slice.program import Step
from trilho.adopt.slice.roles import Roles
from trilho.adopt.slice.shared import Unsliceable
from trilho.adopt.slice.text import span_of
from trilho.adopt.trace import Span


@dataclass(frozen=True)
class Frozen:
    """An expression of training rows that is one value for all of them."""

    cell: int
    span: Span
    label: str
    source: str
    names: frozenset[str]
    step: int


def freeze(roles: Roles, step: Step, node: ast.AST, names: StateNames) -> list[Frozen]:
    """Find what an expression of the test side reads of the train side. Raises Unsliceable for rows themselves."""
    found: list[Frozen] = []
    _visit(roles, step, node, names, found)
    return found


def _visit(roles: Roles, step: Step, node: ast.AST, names: StateNames, found: list[Frozen]) -> None:
    sides = _sides(roles, step, node)
    if "train" not in sides:
        return
    if isinstance(node, ast.Name):
        raise Unsliceable(node.id, step.cell, node.lineno, "the test rows are made together with the training rows")
    if isinstance(node, ast.expr) and sides == {"train"} and _is_value(roles, step, node):
        source = roles.program.code[step.cell].at(span_of(node))
        same = next((f for f in found if f.source == source), None)
        label = same.label if same else _label(node, names)
        read = frozenset(n.id for n in ast.walk(node) if isinstance(n, ast.Name))
        found.append(Frozen(step.cell, span_of(node), label, source, read, step.id))
        return
    for child in ast.iter_child_nodes(node):
        _visit(roles, step, child, names, found)


def _sides(roles: Roles, step: Step, node: ast.AST) -> set[str]:
    """Give the sides of the rows that code reads."""
    before = roles.before[step.id]
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    return {before[n].side for n in names if n in before and before[n].kind == "rows"}


def _is_value(roles: Roles, step: Step, node: ast.expr) -> bool:
    value = roles.program.value(step.id, step.cell, node)
    if value is None or value.kind in ("function", "module", "none", "other", "estimator", "booster"):
        return False
    return not roles.is_rows(value, roles.sizes(step.id))


def _label(node: ast.expr, names: StateNames) -> str:
    last = node.attr if isinstance(node, ast.Attribute) else ""
    words = [root(node) or "", last or names.of(node)]
    label = "_".join(dict.fromkeys(word for word in words if word and word != "value"))
    number = 2
    while f"frozen|{label}" in names.given:
        label, number = f"{label}_{number}", number + 1
    names.given[f"frozen|{label}"] = label
    return label
