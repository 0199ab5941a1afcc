"""How the target's column comes of the raw table, where the notebook renames, parses or maps it: load does that.

The statements that did it in the notebook are left out of the features then, and a raw column that was for nothing
else is taken out of the table, so that a served row has no true value in it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from trilho.adopt.plan import Part
from trilho.adopt.scopes import parameters, root
from trilho.adopt.slice import calls
from trilho.adopt.slice.live import Live
from trilho.adopt.slice.program import Program, Step
from trilho.adopt.slice.shared import Unsliceable
from trilho.adopt.slice.text import Edit, comments_above, renamed, span_of
from trilho.adopt.trace import Span

Place = tuple[int, Span]
RENAMES = frozenset({"rename", "set_axis", "columns", "clean_names", "add_prefix", "add_suffix"})


@dataclass(frozen=True)
class Write:
    """An assignment to the target's column: where it stands, and what a loop's variable was."""

    step: Step
    cell: int
    node: ast.Assign
    loops: dict[str, str]  # the loop's variable that names the column -> the column's name, as code
    tables: frozenset[str]  # names that the table has there
    names: dict[str, str] = field(default_factory=dict)  # raw names of columns by those that they have there


@dataclass
class Labels:
    """What load does for the target, and what the features leave out for it."""

    raw: str = ""  # the raw column; "" where load has nothing to do
    gone: str = ""  # what the notebook calls a raw column that load takes out of the table
    pops: bool = False  # whether load takes the raw column out of the table
    parts: list[Part] = field(default_factory=list)
    left_out: set[Place] = field(default_factory=set)  # statements, and items of loops


def find_labels(program: Program, live: Live, frame: str, naming: list[int]) -> Labels:
    """Find what is done to the target's column before the model is fitted. Raises Unsliceable.

    `naming` are the steps that give the columns their names, where load does that already.
    """
    target = program.choice.target
    if target.transform or not program.read.value.columns:
        return Labels()
    finder = _Finder(program, live, frame, naming)
    finder.follow()
    return finder.labels()


class _Finder:
    """Follows the main table from its read to the fit."""

    def __init__(self, program: Program, live: Live, frame: str, naming: list[int]) -> None:
        self.program, self.live, self.frame, self.naming = program, live, frame, naming
        self.column = program.choice.target.column
        self.raw = list(program.read.value.columns or [])
        self.names = {name: name for name in self.raw}  # as the notebook calls a column now -> raw
        self.writes: list[Write] = []
        self.seen: set[Place] = set()
        self.items: set[Place] = set()

    def follow(self) -> None:
        """Go through the statements that make rows, before they are taken apart."""
        ids = {*self.live.shared, *self.live.training}
        for id_ in sorted(i for i in ids if i <= self.live.fit.statement):
            if self.live.kind(id_) not in ("rows", "read") or self.live.roles.side_of(id_) == "test":
                continue
            step = self.program.steps[id_]
            tables = {n for n in step.reads | step.defines if self._is_table(step, n)}
            self.writes += self._writes(step, step.cell, [step.node], frozenset(tables), {})
            self._rename(step)
            if self.naming and id_ == self.naming[-1]:
                self.names = {name: name for name in self.names}

    def _is_table(self, step: Step, name: str) -> bool:
        for now in (self.live.roles.before[step.id], self.live.roles.after[step.id]):
            if name in now and now[name].kind == "rows" and now[name].columns is not None:
                return True
        return False

    def _rename(self, step: Step) -> None:
        """Follow columns to their new names, where a statement gives all of them new ones."""
        words = {n.attr for n in ast.walk(step.node) if isinstance(n, ast.Attribute)} | {
            n.attr
            for part in ast.walk(step.node)
            if isinstance(part, ast.Call) and isinstance(part.func, ast.Name)
            for n in ast.walk(self.program.definitions.get(part.func.id, ast.Pass()))
            if isinstance(n, ast.Attribute)
        }
        if not words & RENAMES:
            return
        for name in step.defines:
            before, after = self.live.roles.before[step.id].get(name), self.live.roles.after[step.id].get(name)
            old = list(before.columns or ()) if before is not None and before.kind == "rows" else self.raw
            new = list(after.columns or ()) if after is not None and after.kind == "rows" else []
            if len(old) == len(new) and old != new:
                self.names = {b: self.names[a] for a, b in zip(old, new, strict=True) if a in self.names}

    def _writes(
        self, step: Step, cell: int, body: list[ast.stmt], tables: frozenset[str], loops: dict[str, str]
    ) -> Iterator[Write]:
        """Find the assignments to the target's column, also in loops over columns and in functions that were called."""
        for node in body:
            if isinstance(node, ast.Assign):
                column = self._column(node, tables, loops)
                if column == self.column and (cell, span_of(node)) not in self.seen:
                    self.seen.add((cell, span_of(node)))
                    yield Write(step, cell, node, dict(loops), tables, dict(self.names))
            elif isinstance(node, ast.For) and isinstance(node.target, ast.Name):
                yield from self._in_loop(step, cell, node, tables, loops)
            yield from self._in_functions(step, node)

    def _column(self, node: ast.Assign, tables: frozenset[str], loops: dict[str, str]) -> str:
        if len(node.targets) != 1 or root(node.targets[0]) not in tables:
            return ""
        place = node.targets[0]
        last = place.slice if isinstance(place, ast.Subscript) else None
        last = last.elts[-1] if isinstance(last, ast.Tuple) and last.elts else last
        if isinstance(last, ast.Name) and last.id in loops:
            return str(ast.literal_eval(loops[last.id]))
        return calls.column_of(place)

    def _in_loop(
        self, step: Step, cell: int, node: ast.For, tables: frozenset[str], loops: dict[str, str]
    ) -> Iterator[Write]:
        """Read a loop over columns as the target's turn in it."""
        assert isinstance(node.target, ast.Name)
        listed = node.iter.elts if isinstance(node.iter, ast.List | ast.Tuple) else []
        mine = [e for e in listed if isinstance(e, ast.Constant) and e.value == self.column]
        inner = {**loops, node.target.id: repr(self.column)} if mine else loops
        found = list(self._writes(step, cell, node.body, tables, inner))
        by_turn = [w for w in found if node.target.id in w.loops]
        if by_turn and len(by_turn) < len(node.body):
            raise Unsliceable(self.column, step.cell, node.lineno, "the target is derived in a loop that does more")
        if by_turn:
            self.items |= {(cell, span_of(e)) for e in mine}
        yield from found

    def _in_functions(self, step: Step, node: ast.stmt) -> Iterator[Write]:
        """Look into the notebook functions that a statement calls with the table."""
        if isinstance(node, ast.For | ast.If | ast.With | ast.FunctionDef | ast.ClassDef):
            return
        for part in ast.walk(node):
            name = part.func.id if isinstance(part, ast.Call) and isinstance(part.func, ast.Name) else ""
            function = self.program.definitions.get(name)
            if not isinstance(function, ast.FunctionDef):
                continue
            cell = self.program.cell_of_function[name]
            tables = {p for p in parameters(function) if self._is_row_table(step, cell, function, p)}
            tables |= {
                n.targets[0].id
                for n in function.body
                if isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Name) and root(n.value) in tables
            }
            if tables:
                yield from self._writes(step, cell, function.body, frozenset(tables), {})

    def _is_row_table(self, step: Step, cell: int, function: ast.FunctionDef, name: str) -> bool:
        for part in ast.walk(function):
            if isinstance(part, ast.Name) and part.id == name and isinstance(part.ctx, ast.Load):
                value = self.program.value(step.id, cell, part)
                if value is not None and value.kind == "frame" and self.column in (value.columns or []):
                    return True
        return False

    def labels(self) -> Labels:
        """Write what load does. Raises Unsliceable where the target takes more than raw columns."""
        first = self.program.steps[self.live.read]
        if not self.writes:
            raw = self.column if self.naming else self.names.get(self.column, self.column)
            if raw == self.column or self.column in self.raw:
                return Labels()
            text = f"{self.frame} = {self.frame}.rename(columns={{{raw!r}: {self.column!r}}})"
            return Labels(raw, parts=[self._part(first, text)])
        found = Labels(left_out={(w.cell, span_of(w.node)) for w in self.writes if not w.loops} | self.items)
        previous = ""
        for write in self.writes:
            source = previous or self._source(write)
            if not previous:
                found.raw = write.names[source] if source else ""
                found.gone = source if source and source != self.column and not self._is_used(source) else ""
                once = sum(c == source for c in self._columns(write)) == 1
                found.pops = once and found.raw != self.column and source in (found.gone, self.column)
                found.gone = found.gone if found.pops else ""
            found.parts.append(self._part(write.step, self._text(write, source, found, first=not previous)))
            previous = self.column
        return found

    def _source(self, write: Write) -> str:
        """Give the one column that the target is made of, as the notebook calls it; "" where it is made of several."""
        used = {c for c in self._columns(write) if c in write.names}
        return used.pop() if len(used) == 1 else ""

    def _columns(self, write: Write) -> list[str]:
        return [column for _, column in _taken(write)]

    def _text(self, write: Write, source: str, found: Labels, *, first: bool) -> str:
        code = self.program.code[write.cell]
        edits = [Edit(span_of(n), self._column_text(write, c, found, first=first)) for n, c in _taken(write)]
        inner = {id(m) for n, _ in _taken(write) for m in ast.walk(n)}
        for name in {n.id for n in ast.walk(write.node.value) if isinstance(n, ast.Name) and id(n) not in inner}:
            self._check(write, name)
        edits += renamed(write.node.value, write.loops)
        value = code.edited(span_of(write.node.value), edits)
        return f"{comments_above(write.step.statement.source)}{self.frame}[{self.column!r}] = {value}"

    def _column_text(self, write: Write, column: str, found: Labels, *, first: bool) -> str:
        if not first and column == self.column:
            return f"{self.frame}[{column!r}]"
        if column not in write.names:
            reason = f"the target is derived from {column}, which is no column of the table that was read"
            raise Unsliceable(self.column, write.cell, write.node.lineno, reason)
        raw = write.names[column]
        return f"{self.frame}.pop({raw!r})" if found.pops and raw == found.raw else f"{self.frame}[{raw!r}]"

    def _check(self, write: Write, name: str) -> None:
        """Refuse a target that takes more than raw columns and constants."""
        now = self.live.roles.before[write.step.id].get(name)
        of_rows = name in write.tables or (now is not None and now.kind in ("rows", "state"))
        if of_rows and name not in write.loops:
            reason = f"the target is derived with {name}, which is computed from rows"
            raise Unsliceable(self.column, write.cell, write.node.lineno, reason)

    def _is_used(self, column: str) -> bool:
        """Say whether anything but the target needs a column: what drops it does not."""
        places = [(w.cell, span_of(w.node)) for w in self.writes]
        for id_ in {*self.live.shared, *self.live.served, *self.live.training}:
            step = self.program.steps[id_]
            if self.live.kind(id_) not in ("rows", "read") or (step.cell, span_of(step.node)) in places:
                continue
            dropped = {id(n) for part in ast.walk(step.node) if _drops(part) for n in ast.walk(part)}
            for node in _with_functions(self.program, step.node):
                said = isinstance(node, ast.Constant) and node.value == column
                said |= isinstance(node, ast.Call) and column in calls.words_asked(node)
                if (said or (isinstance(node, ast.Attribute) and node.attr == column)) and id(node) not in dropped:
                    return True
        return False

    def _part(self, step: Step, text: str) -> Part:
        return Part(text, step.cell, step.node.lineno, step.id)


def _taken(write: Write) -> list[tuple[ast.expr, str]]:
    """Give the columns of the table that an assignment's value takes, outermost first."""
    found: list[tuple[ast.expr, str]] = []
    waiting: list[ast.AST] = [write.node.value]
    while waiting:
        node = waiting.pop(0)
        column = _column_of(write, node) if isinstance(node, ast.Subscript | ast.Attribute) else ""
        if column and isinstance(node, ast.expr):
            found.append((node, column))
        else:
            waiting += ast.iter_child_nodes(node)
    return found


def _column_of(write: Write, node: ast.Subscript | ast.Attribute) -> str:
    if not isinstance(node.value, ast.Name) or node.value.id not in write.tables:
        return ""
    last = node.slice if isinstance(node, ast.Subscript) else None
    if isinstance(last, ast.Name) and last.id in write.loops:
        return str(ast.literal_eval(write.loops[last.id]))
    return calls.column_of(node)


def _drops(node: ast.AST) -> bool:
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("drop", "pop")
    named = isinstance(node, ast.Compare) and isinstance(node.left, ast.Name)  # `c != "y"`, and not `df.y != 3`
    excluded = isinstance(node, ast.Compare) and named and any(isinstance(op, ast.NotIn | ast.NotEq) for op in node.ops)
    return called or excluded or isinstance(node, ast.Delete)


def _with_functions(program: Program, node: ast.AST) -> Iterator[ast.AST]:
    for part in ast.walk(node):
        yield part
        name = part.id if isinstance(part, ast.Name) else ""
        if name in program.definitions:
            yield from ast.walk(program.definitions[name])
