"""A notebook function that takes train and test apart, read for what it does to the rows before it does."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from trilho.adopt.scopes import parameters
from trilho.adopt.slice.program import Program, Step
from trilho.adopt.slice.text import renamed, span_of


@dataclass(frozen=True)
class Halves:
    """The statements of such a function that make the rows, and which of its names each result is a part of."""

    cell: int
    body: tuple[ast.Assign, ...]
    names: dict[str, str]  # parameters, and what the call gave for them
    sources: tuple[ast.expr, ...]  # what each result is a part of, in order


def read_halves(program: Program, step: Step) -> Halves | None:
    """Read a step that unpacks a call of a notebook function with `train_test_split` at its end."""
    node = step.node
    if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
        return None
    call = node.value
    name = call.func.id if isinstance(call.func, ast.Name) else ""
    function = program.definitions.get(name)
    if not isinstance(function, ast.FunctionDef):
        return None
    body = [n for n in function.body if not isinstance(n, ast.Expr)]
    if not body or not isinstance(body[-1], ast.Return) or not all(isinstance(n, ast.Assign) for n in body[:-1]):
        return None
    cell = program.cell_of_function[name]
    sources = _sources(body)
    if sources is None:
        return None
    made = tuple(n for n in body[:-1] if isinstance(n, ast.Assign) and not _is_split(n.value))
    return Halves(cell, made, _given(program, step, function, call), sources)


def _sources(body: list[ast.stmt]) -> tuple[ast.expr, ...] | None:
    """Give what each returned value is a part of."""
    last = body[-1]
    assert isinstance(last, ast.Return)
    if last.value is not None and _is_split(last.value):
        assert isinstance(last.value, ast.Call)
        return tuple(a for a in last.value.args for _ in range(2))
    halves: dict[str, ast.expr] = {}
    for node in body[:-1]:
        if isinstance(node, ast.Assign) and _is_split(node.value) and isinstance(node.targets[0], ast.Tuple):
            assert isinstance(node.value, ast.Call)
            for place, target in enumerate(node.targets[0].elts):
                if isinstance(target, ast.Name) and place // 2 < len(node.value.args):
                    halves[target.id] = node.value.args[place // 2]
    if not halves or not isinstance(last.value, ast.Tuple):
        return None
    found = [halves.get(e.id) if isinstance(e, ast.Name) else None for e in last.value.elts]
    return tuple(f for f in found if f is not None) if None not in found else None


def _given(program: Program, step: Step, function: ast.FunctionDef, call: ast.Call) -> dict[str, str]:
    order = list(parameters(function))
    code, own = program.code[step.cell], program.code[program.cell_of_function[function.name]]
    defaults = dict(zip(order[len(order) - len(function.args.defaults) :], function.args.defaults, strict=False))
    given = {name: own.at(span_of(value)) for name, value in defaults.items()}
    given |= {name: code.at(span_of(value)) for name, value in zip(order, call.args, strict=False)}
    return given | {k.arg: code.at(span_of(k.value)) for k in call.keywords if k.arg}


def _is_split(node: ast.expr) -> bool:
    if not isinstance(node, ast.Call):
        return False
    word = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return word == "train_test_split"


def inlined(program: Program, halves: Halves, wanted: set[str], names: dict[str, str]) -> list[tuple[ast.Assign, str]]:
    """Give the statements that make some names, with the caller's values for the function's parameters."""
    kept: list[tuple[ast.Assign, str]] = []
    needed = set(wanted)
    code = program.code[halves.cell]
    for node in reversed(halves.body):
        made = {n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)}
        if made & needed:
            needed |= {n.id for n in ast.walk(node.value) if isinstance(n, ast.Name)}
            given = {name: names.get(text, text) for name, text in halves.names.items()}
            kept.append((node, code.edited(span_of(node), renamed(node, given))))
    return kept[::-1]
