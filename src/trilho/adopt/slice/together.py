"""A second table that is prepared in the same lines, and only ever asked about: Kaggle's test.csv.

`for d in [train, test]` and `full_data = [train, test]` do to it what they do to the rows that a model learns from. A
project answers any rows by the same code; so what is done to the second table alone is left out, and out of the lists
it is taken.
"""

from __future__ import annotations

import ast
import copy
from dataclasses import replace

from trilho.adopt.slice.program import Program, Step
from trilho.adopt.slice.text import Edit, span_of

ALIKE = 0.8  # of the second table's columns, how many must be columns of the first


def without_second_table(program: Program) -> Program:
    """Give the run as if there were no second table; the same one where there is none, or where it leaves a trace."""
    seconds = _second_tables(program)
    if not seconds:
        return program
    own = copy.copy(program)
    own.steps, own.taken_out = {}, {}
    own.alike = {
        r.id: r.value.rows or 0 for r in program.trace.reads
        if r.id != program.main and r.statement in program.steps and program.steps[r.statement].writes & seconds
    }  # fmt: skip
    lists: dict[str, list[str]] = {}
    for id_, step in sorted(program.steps.items()):
        changed = _changed(program, own, step, seconds, lists)
        if changed is None:
            return program
        own.steps[id_] = changed
    return own


def _second_tables(program: Program) -> set[str]:
    """Give the names that other tables are read to, where their columns are those of the first but for the target."""
    first = set(program.read.value.columns or [])
    found = set()
    for read in program.trace.reads:
        columns = set(read.value.columns or [])
        step = program.steps.get(read.statement)
        if read.id == program.main or step is None or not columns or program.choice.target.column in columns:
            continue
        if len(columns & first) >= ALIKE * len(columns) and len(columns & first) > len(first) / 2:
            found |= {n for n in step.writes if n in step.did.values and step.did.values[n].kind == "frame"}
    return found


def _changed(program: Program, own: Program, step: Step, seconds: set[str], lists: dict[str, list[str]]) -> Step | None:
    """Give a step without the second table; None where it makes something of both. Notes what is bound to what."""
    node = step.node
    used = (step.reads | step.mutates) & {*seconds, *lists}
    if isinstance(node, ast.Assign):
        for name in step.writes & set(lists):
            del lists[name]
    if not used:
        read = any(r.statement == step.id for r in program.trace.reads)
        seconds -= step.writes if isinstance(node, ast.Assign) and not read else set()
        return step
    listed = _names_listed(node.value) if isinstance(node, ast.Assign) else None
    if listed is not None and isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        lists[node.targets[0].id] = listed
        return _quiet(step)
    if isinstance(node, ast.For):
        return _loop(own, step, seconds, lists)
    made = {n for n in step.writes if not _is_first(program, step, n)}
    kept = step.writes - made
    if kept and not all(_is_same(program, step, name) for name in kept):
        return None
    seconds |= made
    return _quiet(step)


def _loop(own: Program, step: Step, seconds: set[str], lists: dict[str, list[str]]) -> Step | None:
    """Let a loop over both tables be one over the first."""
    node = step.node
    assert isinstance(node, ast.For)
    names = lists.get(node.iter.id) if isinstance(node.iter, ast.Name) else _names_listed(node.iter)
    if names is None or {n.id for b in node.body for n in ast.walk(b) if isinstance(n, ast.Name)} & seconds:
        return None
    kept = [n for n in names if n not in seconds]
    changed = copy.deepcopy(node)
    items = [ast.copy_location(ast.Name(n, ast.Load()), node.iter) for n in kept]
    changed.iter = ast.copy_location(ast.List(items, ast.Load()), node.iter)  # type: ignore[arg-type]
    own.taken_out[step.cell, span_of(node.iter)] = Edit(span_of(node.iter), f"[{', '.join(kept)}]")
    gone = seconds | set(lists)
    return replace(step, statement=replace(step.statement, node=changed), reads=(step.reads - gone) | set(kept),
                   writes=step.writes - gone, mutates=step.mutates - gone)  # fmt: skip


def _names_listed(node: ast.expr) -> list[str] | None:
    if isinstance(node, ast.List | ast.Tuple) and node.elts and all(isinstance(e, ast.Name) for e in node.elts):
        return [e.id for e in node.elts if isinstance(e, ast.Name)]
    return None


def _quiet(step: Step) -> Step:
    """Give a step that nothing needs."""
    return replace(step, reads=frozenset(), writes=frozenset(), mutates=frozenset())


def _is_first(program: Program, step: Step, name: str) -> bool:
    value = step.did.values.get(name)
    return value is not None and value.aligned is not None and value.aligned.read == program.main


def _is_same(program: Program, step: Step, name: str) -> bool:
    """Say whether a step leaves a table what it was: `train, test = train.align(test, join="left", axis=1)`."""
    before = [s.did.values[name].digest for i, s in program.steps.items() if i < step.id and name in s.did.values]
    return bool(before) and bool(before[-1]) and before[-1] == step.did.values[name].digest
