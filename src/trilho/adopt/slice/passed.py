"""What a notebook function computes, written as its caller would: with what was passed for its parameters."""

from __future__ import annotations

import ast

from trilho.adopt.scopes import bound, parameters
from trilho.adopt.slice.learn import Learner
from trilho.adopt.slice.program import Program, Step
from trilho.adopt.slice.text import inside, renamed, span_of
from trilho.adopt.trace import Call

DEEP = 5


def written_out(program: Program, step: Step, call: Call, learner: Learner) -> str | None:
    """Write a call that a function of the notebook made, for a statement that called the function once.

    Names that the function binds once are written out too. None where its names are not that plain.
    """
    found = _caller(program, step, call)
    if found is None:
        return None
    function, caller = found
    passed = _passed(function, caller)
    values = {
        n: learner.code.edited(span_of(v), learner.base(v)) if in_caller else _own_text(program, function, v)
        for n, (v, in_caller) in passed.items()
    }
    node = next((n for n in ast.walk(function) if isinstance(n, ast.Call) and span_of(n) == tuple(call.span)), None)
    return _written(program, function, node, values, 0) if node is not None else None


def _caller(program: Program, step: Step, call: Call) -> tuple[ast.FunctionDef, ast.Call] | None:
    """Give the function that a call lies in, and the statement's only call of it."""
    for name, function in program.definitions.items():
        here = program.cell_of_function.get(name) == call.cell and inside(call.span, span_of(function))
        if not here or not isinstance(function, ast.FunctionDef):
            continue
        calls = [
            n
            for n in ast.walk(step.node)
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == name
        ]
        return (function, calls[0]) if len(calls) == 1 else None
    return None


def _passed(function: ast.FunctionDef, caller: ast.Call) -> dict[str, tuple[ast.expr, bool]]:
    """Give what stands for each parameter, and whether the caller said it."""
    order = list(parameters(function))
    defaults = dict(zip(order[len(order) - len(function.args.defaults) :], function.args.defaults, strict=False))
    found = {name: (value, False) for name, value in defaults.items()}
    found |= {name: (value, True) for name, value in zip(order, caller.args, strict=False)}
    return found | {k.arg: (k.value, True) for k in caller.keywords if k.arg}


def _own_text(program: Program, function: ast.FunctionDef, node: ast.expr) -> str:
    return program.code[program.cell_of_function[function.name]].at(span_of(node))


def _written(
    program: Program, function: ast.FunctionDef, node: ast.expr, values: dict[str, str], depth: int
) -> str | None:
    """Write an expression of the function with values for its names."""
    own = set(bound(function.body))
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    known: dict[str, str] = {}
    for name in sorted(names & {*own, *parameters(function)}):
        text = values.get(name) if name not in own else None
        made = _only_value(function, name) if text is None and name not in parameters(function) else None
        if made is not None and depth < DEEP:
            text = _written(program, function, made, values, depth + 1)
            text = f"({text})" if text and not isinstance(made, ast.Call | ast.Name | ast.Subscript) else text
        if text is None:
            return None
        known[name] = text
    code = program.code[program.cell_of_function[function.name]]
    return code.edited(span_of(node), renamed(node, known))


def _only_value(function: ast.FunctionDef, name: str) -> ast.expr | None:
    """Give the value of a name that the function binds once, in a statement of its own."""
    stores = [
        n for n in ast.walk(function) if isinstance(n, ast.Name) and n.id == name and not isinstance(n.ctx, ast.Load)
    ]
    made = [
        n.value
        for n in function.body
        if isinstance(n, ast.Assign) and len(n.targets) == 1 and isinstance(n.targets[0], ast.Name)
        and n.targets[0].id == name
    ]  # fmt: skip
    return made[0] if len(made) == len(stores) == 1 else None
