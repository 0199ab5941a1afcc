"""Rewrites the notebook's own functions: one that learns, or reads what was learnt, takes the state."""

from __future__ import annotations

import ast

from trilho.adopt.scopes import parameters
from trilho.adopt.slice.learn import Learner
from trilho.adopt.slice.shared import Shared
from trilho.adopt.slice.text import finished, span_of


def rewrite_function(shared: Shared, name: str, step: int, kinds: dict[str, str]) -> None:
    """Rewrite a notebook function as a step called it, once; one that is no part of the features only if it must be."""
    node = shared.program.definitions.get(name)
    if name in shared.functions or name in shared.plain or name in shared.busy or not isinstance(node, ast.FunctionDef):
        return
    shared.busy.add(name)
    cell = shared.program.cell_of_function[name]
    effects = shared.program.effects[name]
    learnt = {
        n for n in {*effects.reads, *effects.mutates} if kinds.get(n) in ("state", "rows") and n not in parameters(node)
    }
    inner = {n: k for n, k in kinds.items() if n in learnt or n in shared.program.definitions}
    shared.globals |= learnt
    learner = Learner(shared, step, cell, {**inner, **_parameter_kinds(shared, node, step, cell)}, function=node,
                      aliases={n: f"state.{n}" for n in learnt})  # fmt: skip
    learner.learning = name not in shared.transforming
    learner.keys = _keys(shared, node, step, cell)
    learner.block(node.body)
    shared.busy.discard(name)
    if not (learner.uses_state or learnt):
        shared.plain.add(name)
    else:
        shared.functions[name] = with_state(learner, node, shared)
        shared.learns = True
        return
    if any("\0" in edit.text for edit in learner.edits) or learner.edits:
        shared.functions.pop(name, None)
        shared.plain_texts[name] = finished(learner.code.edited(_whole(node), learner.edits))


def with_state(learner: Learner, node: ast.FunctionDef, shared: Shared) -> str:
    """Give a function's text with a parameter `state`."""
    given = node.args
    start = (node.body[0].lineno, node.body[0].col_offset)
    head = learner.code.at((node.lineno, node.col_offset, *start))
    cut = head.rstrip().rstrip(":").rstrip()
    at = cut.rfind(")") if "->" not in cut else cut.rfind(")", 0, cut.rfind("->"))
    inner = cut[cut.find("(") + 1 : at].rstrip().rstrip(",")
    keyword_only = bool(given.defaults or given.vararg or given.kwonlyargs)
    if given.kwarg:
        place = inner.rfind("**")
        inner = f"{inner[:place]}{'' if given.vararg or given.kwonlyargs else '*, '}state, {inner[place:]}"
    elif keyword_only:
        inner = f"{inner}{'' if given.vararg or given.kwonlyargs else ', *'}, state"
    else:
        inner = f"{inner}, state" if inner else "state"
    name = shared.renames.get(node.name, node.name)
    body = learner.code.edited((*start, *span_of(node)[2:]), learner.edits)
    return finished(f"def {name}({inner}){cut[at + 1 :]}:\n{' ' * start[1]}{body}")


def _whole(node: ast.FunctionDef) -> tuple[int, int, int, int]:
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    return (first, node.col_offset, node.end_lineno or first, node.end_col_offset or 0)


def _parameter_kinds(shared: Shared, node: ast.FunctionDef, step: int, cell: int) -> dict[str, str]:
    sizes = shared.roles.sizes(step)
    kinds = dict.fromkeys(parameters(node), "constant")
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and part.id in kinds and isinstance(part.ctx, ast.Load):
            value = shared.program.value(step, cell, part)
            if shared.roles.is_rows(value, sizes) and value is not None and value.kind != "sequence":
                kinds[part.id] = "rows"
    return kinds


def _keys(shared: Shared, node: ast.FunctionDef, step: int, cell: int) -> list[str]:
    """Give the parameters that tell one call from another: texts, and names of columns."""
    found = []
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and part.id in parameters(node):
            value = shared.program.value(step, cell, part)
            if value is not None and value.kind in ("text", "scalar"):
                found.append(part.id)
            elif value is not None and value.kind == "series":
                shared.names.series.add(part.id)
    return list(dict.fromkeys(found))
