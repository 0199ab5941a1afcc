"""Where the notebook's constants and definitions stand: in the function that reads them, or above several."""

from __future__ import annotations

import ast
import symtable
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

from trilho.adopt.plan import Function, Part, Plan
from trilho.adopt.scopes import queried
from trilho.adopt.slice.program import Program, Step
from trilho.adopt.slice.shared import Shared
from trilho.adopt.slice.text import comments_above, end_comment, renamed, span_of

MODULES = ("load", "features", "predict", "fit", "evaluate")
PLAIN = ("scalar", "text", "mapping", "sequence", "time")


@dataclass
class _Place:
    """What is to stand above functions, and in which module."""

    texts: dict[int, str]  # of definitions and constants, by their steps
    makers: dict[str, list[int]]  # name -> the steps that make it
    module: dict[int, str] = field(default_factory=dict)

    def need(self, names: Collection[str], module: str) -> None:
        """Put what makes these names into a module, unless an earlier one has it, and what that needs in turn."""
        for name in sorted(names):
            for id_ in self.makers.get(name, []):
                held = self.module.get(id_)
                if held is None or MODULES.index(module) < MODULES.index(held):
                    self.module[id_] = module
                    self.need(free_names(self.texts[id_]), module)


def place_constants(
    program: Program, shared: Shared, plan: Plan, definitions: list[Step], text: Callable[[Step], str],
    constants: Collection[int],
) -> Plan:  # fmt: skip
    """Lift what several functions or a definition read to their modules, with what that reads in turn."""
    functions = _functions(plan)
    texts = {step.id: text(step) for step in definitions}
    texts |= {id_: _constant_text(program.steps[id_], shared) for id_ in constants}
    makers: dict[str, list[int]] = {}
    for id_ in sorted(texts):
        for name in program.steps[id_].defines:
            makers.setdefault(shared.renames.get(name, name), []).append(id_)
    for name, ids in makers.items():
        own = [id_ for id_ in ids if id_ not in constants]
        makers[name] = own[-1:] or ids
    place = _Place(texts, makers)
    shared_names = _read_by_several(program, shared, functions, constants, texts)
    for module in MODULES:
        for function in functions[module]:
            reads = free_names(function_text(function))
            place.need(reads, module)
            place.need(shared_names & {n for part in function.parts for n in _names(part.source)}, module)
    lifted = {id_ for id_ in place.module if id_ in constants}

    def rest(function: Function) -> Function:
        return replace(function, parts=tuple(
            part for part in function.parts if not (part.statement in lifted and part.source == texts[part.statement])
        ))  # fmt: skip

    return replace(
        plan, load=rest(plan.load), features=tuple(map(rest, plan.features)), fit=tuple(map(rest, plan.fit)),
        evaluate=tuple(map(rest, plan.evaluate)), predict=rest(plan.predict) if plan.predict else None,
        constants=_grouped(program, place, lifted),
        definitions=_grouped(program, place, {id_ for id_ in place.module if id_ not in constants}),
    )  # fmt: skip


def _functions(plan: Plan) -> dict[str, tuple[Function, ...]]:
    return {"load": (plan.load,), "features": plan.features, "predict": (plan.predict,) if plan.predict else (),
            "fit": plan.fit, "evaluate": plan.evaluate}  # fmt: skip


def _read_by_several(
    program: Program, shared: Shared, functions: dict[str, tuple[Function, ...]], constants: Collection[int],
    texts: dict[int, str],
) -> set[str]:  # fmt: skip
    """Give the constants that stand in more than one function, and those that are written in capitals."""
    found: set[str] = set()
    places: dict[int, set[str]] = {}
    for module, group in functions.items():
        for function in group:
            for part in function.parts:
                if part.statement in constants and part.source == texts[part.statement]:
                    places.setdefault(part.statement, set()).add(f"{module}.{function.name}")
    for id_, where in places.items():
        step = program.steps[id_]
        names = {shared.renames.get(n, n) for n in step.defines}
        if _is_plain(step) and (len(where) > 1 or any(name.isupper() for name in names)):
            found |= names
    return found


def _is_plain(step: Step) -> bool:
    values = [step.did.values.get(name) for name in step.defines]
    return bool(values) and all(v is not None and v.literal is not None and v.kind in PLAIN for v in values)


def _grouped(program: Program, place: _Place, ids: Collection[int]) -> dict[str, tuple[Part, ...]]:
    found: dict[str, list[Part]] = {}
    for id_ in sorted(ids):
        step = program.steps[id_]
        part = Part(place.texts[id_], step.cell, step.node.lineno, id_)
        found.setdefault(place.module[id_], []).append(part)
    return {module: tuple(parts) for module, parts in found.items()}


def _constant_text(step: Step, shared: Shared) -> str:
    code = shared.program.code[step.cell]
    text = code.edited(span_of(step.node), renamed(step.node, shared.renames))
    return comments_above(step.statement.source) + text + end_comment(step.statement.source, step.node)


def function_text(function: Function) -> str:
    """Write a function plainly, to ask which names it needs."""
    names = ", ".join(f"{name}: {kind}" if kind.isidentifier() else name for name, kind in function.parameters)
    body = [part.source for part in function.parts if part.source.strip()]
    body.append(f"return {function.returns}" if function.returns else "pass")
    return f"def {function.name}({names}):\n" + "\n".join("    " + line for part in body for line in part.split("\n"))


def free_names(text: str) -> set[str]:
    """Give the names that code reads and does not bind.

    >>> sorted(free_names("def f(x):\\n    return [y + K for y in x]"))
    ['K']
    """
    table = symtable.symtable(text, "module", "exec")
    bound = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported() or s.is_namespace()}
    return (_read(table) | queried(ast.parse(text))) - bound


def _read(table: symtable.SymbolTable) -> set[str]:
    top = table.get_type() == "module"
    found = {s.get_name() for s in table.get_symbols() if s.is_referenced() and (top or s.is_global())}
    return found.union(*(_read(child) for child in table.get_children()))


def _names(source: str) -> set[str]:
    return {n.id for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Name)}
