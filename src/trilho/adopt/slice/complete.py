"""Refuses a plan whose functions read what nothing in the project makes."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable

from trilho.adopt.plan import Part, Plan
from trilho.adopt.slice.constants import free_names, function_text
from trilho.adopt.slice.program import Program
from trilho.adopt.slice.shared import Unsliceable


def check_names(program: Program, plan: Plan) -> None:
    """Raise Unsliceable for a name of the notebook that a function reads, and neither it nor its module makes."""
    predict = [plan.predict] if plan.predict is not None else []
    functions = [plan.load, *plan.features, *plan.fit, *predict, *plan.evaluate]
    above = [part for group in (plan.constants, plan.definitions) for parts in group.values() for part in parts]
    made = {f.name for f in functions} | {lookup.name for lookup in plan.lookups} | {"State", "Model"}
    made |= _bound([*(part.source for part in above), *plan.imports])
    own = _bound(s.statement.source for s in program.steps.values()) | set(program.definitions)
    for function in functions:
        for name in sorted((free_names(function_text(function)) & own) - made - {*dir(builtins)}):
            last: Part = function.parts[-1] if function.parts else Part("", 0, 0, 0)
            where = next((p for p in function.parts if name in p.source), last)
            raise Unsliceable(name, where.cell, where.line, "it is made together with what is not taken over")


def _bound(sources: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
            elif isinstance(node, ast.alias):
                found.add(node.asname or node.name.partition(".")[0])
    return found
