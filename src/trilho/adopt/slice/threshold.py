"""The limit above which the notebook says yes, and on which rows it was chosen."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Literal

from trilho.adopt.plan import Threshold
from trilho.adopt.slice.history import History, Place, names_in
from trilho.adopt.slice.metrics import predicts_in
from trilho.adopt.slice.models import Candidate, Models, held_out
from trilho.adopt.slice.origin import constant, definition, reach
from trilho.adopt.slice.scores import number

BEST = {"argmax", "argmin", "idxmax", "idxmin", "max", "min", "sorted"}


def find_threshold(history: History, models: Models, evaluated: Candidate) -> Threshold | None:
    """Find the last comparison of the model's scores with a limit, loops over limits left out."""
    found = None
    for node, place in _comparisons(history):
        score, limit, operator = _sides(node)
        if limit is None or _is_swept(history, limit, place):
            continue
        value = _number(history, limit, place)
        predicts = predicts_in(history, models, score, place, float("inf")) if value is not None else []
        if value is None or not any(models.owner(p.object) == evaluated for p in predicts) or not 0 < value < 1:
            continue
        source = ast.unparse(limit)
        found = Threshold(source, value, place.statement, place.cell, node.lineno, operator,
                          _tuned_on(history, models, limit, place))  # fmt: skip
    return found or _chosen(history, models, evaluated)


def _comparisons(history: History) -> Iterator[tuple[ast.Compare, Place]]:
    for did in history.trace.statements:
        for seen in did.expressions:
            node = history.expression_at(seen.cell, seen.span)
            if isinstance(node, ast.Compare) and len(node.ops) == 1:
                yield node, history.place_at(did.id, seen.cell, seen.span)


def _sides(node: ast.Compare) -> tuple[ast.expr, ast.expr | None, Literal[">", ">="]]:
    """Give score, limit and operator; no limit where it is no such comparison."""
    left, right, how = node.left, node.comparators[0], node.ops[0]
    if isinstance(how, ast.Gt | ast.GtE):
        return left, right, ">" if isinstance(how, ast.Gt) else ">="
    if isinstance(how, ast.Lt | ast.LtE):  # 0.3 < p, or the complement of p >= 0.3
        is_limit = isinstance(left, ast.Constant | ast.Name) and not isinstance(right, ast.Constant)
        return (right, left, ">" if isinstance(how, ast.Lt) else ">=") if is_limit else (left, None, ">")
    return left, None, ">"


def _number(history: History, limit: ast.expr, place: Place) -> float | None:
    told = constant(history, limit, place)
    if isinstance(told, int | float) and not isinstance(told, bool):
        return float(told)
    seen = history.seen(limit, place)
    return number(seen.value.literal) if seen is not None else None


def _is_swept(history: History, limit: ast.expr, place: Place) -> bool:
    """Say whether a limit is the variable of the loop that it is compared in."""
    for name in (n for n in ast.walk(limit) if isinstance(n, ast.Name)):
        found = definition(history, name, place)
        while found is not None and not found.looped and isinstance(found.node, ast.Name):
            found = definition(history, found.node, found.place)
        if found is not None and found.looped and found.place.statement == place.statement:
            return True
    return False


def _tuned_on(history: History, models: Models, limit: ast.expr, place: Place) -> Literal["test", "train", "constant"]:
    """Say whether a limit was looked for, and on rows that the model was fitted to or not."""
    for source in reach(history, limit, place):
        for node in (source.node, *_looked_at(history, source.place)):
            for predict in predicts_in(history, models, node, source.place, float("inf"))[-1:]:
                owner = models.owner(predict.object)
                fit = owner.fit_before(predict.order) if owner is not None else None
                return "test" if fit is not None and held_out(predict, fit) else "train"
    return "constant"


def _looked_at(history: History, place: Place) -> list[ast.expr]:
    """Give the comparisons in the loop that chose a limit."""
    statement = history.statements.get(place.statement)
    if statement is None or not isinstance(statement.node, ast.For | ast.While):
        return []
    return [node for node in ast.walk(statement.node) if isinstance(node, ast.Compare)]


def _chosen(history: History, models: Models, evaluated: Candidate) -> Threshold | None:
    """Find a limit that was picked from many, and is compared with nothing afterwards."""
    for statement in reversed(history.notebook.statements):
        did = history.did.get(statement.id)
        if did is None or not isinstance(statement.node, ast.Assign):
            continue
        picked = isinstance(statement.node.value, ast.Subscript) and names_in(statement.node.value)
        target = statement.node.targets[0]
        if not picked or not isinstance(target, ast.Name) or target.id not in did.values:
            continue
        value, place = number(did.values[target.id].literal), Place(statement.id, statement.cell)
        is_best = any(getattr(n, "attr", getattr(n, "id", "")) in BEST for n in ast.walk(statement.node.value))
        if value is None or not 0 < value < 1:
            continue
        found = predicts_in(history, models, statement.node.value, place, float("inf"))
        if (is_best or "ix" in names_in(statement.node.value)) and any(
            models.owner(p.object) == evaluated for p in found
        ):
            return Threshold(target.id, value, statement.id, statement.cell, statement.line, ">",
                             _tuned_on(history, models, statement.node.value, place))  # fmt: skip
    return None
