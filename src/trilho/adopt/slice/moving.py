"""Makes a split at a literal date or row number move with the data: counted back from the newest row, or the last.

A literal would keep every new row from training for good. On the notebook's data the split stays the same to the row,
since the distance is taken from the rows that the notebook read. A split that only `evaluate` makes moves as well.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from trilho.adopt.notebook import Notebook
from trilho.adopt.plan import Choice, Finding, Function, Part, Plan
from trilho.adopt.slice.clear import clear_names
from trilho.adopt.slice.cuts import Use, literal_of, moment_of, passed_uses, uses
from trilho.adopt.slice.distance import Unmovable, back_from, kind_of, text_back_from, year_back_from
from trilho.adopt.slice.newest import Newest
from trilho.adopt.slice.program import Program
from trilho.adopt.slice.rebinding import Found, edit_of, edited, rebound, said
from trilho.adopt.slice.roles import Roles
from trilho.adopt.slice.text import Edit
from trilho.adopt.trace import Trace, Value
from trilho.errors import TrilhoError

YEAR = re.compile(r"(?i)(^|_)(ano|year|yr|exercicio)($|_)")
DOC = "Part the rows: the newest judge, counted back from the last; the others train."


def with_moving_split(plan: Plan, program: Program, scratch: Path | None) -> Plan:
    """Give a plan whose split moves with the data, and a finding where it cannot."""
    if scratch is None or program.choice.split.kind not in ("time", "rows"):
        return plan
    return _Moving(plan, program, Newest(program.notebook, program.trace, program.choice, scratch)).plan()


class _Moving:
    def __init__(self, plan: Plan, program: Program, newest: Newest) -> None:
        self.before, self.program, self.newest = plan, program, newest
        self.choice: Choice = program.choice
        self.notebook: Notebook = program.notebook
        self.trace: Trace = program.trace
        self.old = {new: name for name, new in clear_names(program).items()}
        self.globals = [part for parts in plan.constants.values() for part in parts]
        self.called = {
            node.name: node
            for parts in plan.definitions.values()
            for part in parts
            for node in ast.parse(part.source).body
            if isinstance(node, ast.FunctionDef)
        }
        self.splits = {*self.choice.split.statements, *_splits(program)}
        self.dropped: set[tuple[str, int]] = set()
        self.found: list[Finding] = []

    def plan(self) -> Plan:
        """Move what can be moved, function by function."""
        plan = self.before
        shared = self._bound_for_all()
        for function in self._functions():
            self._find_within(function)
        moved = replace(
            plan, load=self._function(plan.load), features=tuple(map(self._function, plan.features)),
            fit=tuple(map(self._function, plan.fit)), evaluate=tuple(map(self._function, plan.evaluate)),
        )  # fmt: skip
        if any(key in self.dropped for key in shared):
            kept = {name: tuple(p for p in parts if (p.source, p.statement) not in self.dropped)
                    for name, parts in plan.constants.items()}  # fmt: skip
            moved = replace(moved, constants={name: parts for name, parts in kept.items() if parts})
        return replace(moved, findings=(*moved.findings, *dict.fromkeys(self.found)))

    def _bound_for_all(self) -> set[tuple[str, int]]:
        return {(part.source, part.statement) for part in self.globals}

    def _functions(self) -> Iterator[Function]:
        plan = self.before
        yield from (plan.load, *plan.features, *plan.fit, *plan.evaluate)

    def _is_split(self, function: Function, part: Part) -> bool:
        return function.name == "split" or part.statement in self.splits

    def _function(self, function: Function) -> Function:
        founds = list(self._in_function(function))
        done: list[Found] = []
        made: dict[Found, str] = {}
        for group in self._groups(founds):
            if self._is_beginning(group, founds):
                continue
            try:
                made |= {found: self._expression(function, found, founds) for found in group}
                self._check_alone(group)
                done += group
            except Unmovable as error:
                self._stays(function, group[0], str(error))
        return self._rewritten(function, done, made) if done else function

    def _find_within(self, function: Function) -> None:
        """Say which of the notebook's functions that split have a date in their body."""
        for part in (p for p in function.parts if self._is_split(function, p)):
            called = {n.id for n in ast.walk(_parsed(part)) if isinstance(n, ast.Name)} & set(self.called)
            for use in (u for name in sorted(called) for u in uses(self.called[name]) if u.how != "rows"):
                literal = literal_of(use.limit)
                if isinstance(literal, datetime) or (isinstance(literal, str) and moment_of(literal) is not None):
                    self._say(function, part, _shown(literal), "it stands in the body of a function")

    def _is_beginning(self, group: list[Found], founds: list[Found]) -> bool:
        """Say whether rows are only taken from there on, and all other limits are later: where training begins."""
        ends = [str(f.literal) for f in founds if not f.use.low and type(f.literal) is type(group[0].literal)]
        return bool(ends) and all(f.use.low and f.use.how != "rows" and str(f.literal) < min(ends) for f in group)

    def _groups(self, founds: list[Found]) -> list[list[Found]]:
        """Put together what has to move together: the uses of one binding, the inline uses of one literal."""
        groups: dict[object, list[Found]] = {}
        for found in founds:
            groups.setdefault(found.source or (found.use.how, str(found.literal)), []).append(found)
        return list(groups.values())

    def _in_function(self, function: Function) -> Iterator[Found]:
        for at, part in enumerate(function.parts):
            tree, split = _parsed(part), self._is_split(function, part)
            for use in (*uses(tree), *passed_uses(tree, self.called)):
                resolved = self._resolved(function, at, use.limit)
                if resolved is None:
                    continue
                node, literal, source, text = resolved
                selects = split or self._selects(function, tree, use, text)
                if selects and self._is_cut(use, literal, part):
                    yield Found(self._as(use, literal), at, literal, source, node, text)

    def _selects(self, function: Function, tree: ast.Module, use: Use, text: str) -> bool:
        """Say whether a cut outside of what is known to split is the split's own, or chooses rows inside the fit."""
        if use.how == "rows":
            return False
        chosen = (id(n) for s in ast.walk(tree) if isinstance(s, ast.Subscript) for n in ast.walk(s.slice))
        return text == self.choice.split.cut or (function in self.before.fit and id(use.limit) in set(chosen))

    def _as(self, use: Use, literal: str | int | datetime) -> Use:
        """Take a slice by a name for what its value says: labels, or numbers of rows."""
        if use.how == "rows" and not isinstance(literal, int):
            return replace(use, how="label", anchor=ast.Attribute(use.anchor, "index", ast.Load()))
        return use

    def _is_cut(self, use: Use, literal: str | int | datetime, part: Part) -> bool:
        """Say whether a literal is a time, a year or a row number that parts rows."""
        if isinstance(literal, str):
            return moment_of(literal) is not None
        if isinstance(literal, datetime):
            return True
        if use.how == "value":
            years = "dt.year" in ast.unparse(use.anchor) or bool(YEAR.search(use.column))
            return years and 1900 <= literal <= 2100
        rows = self._rows(part, use.anchor)
        return rows is not None and rows > literal > 0

    def _resolved(
        self, function: Function, at: int, limit: ast.expr
    ) -> tuple[ast.expr, str | int | datetime, tuple[str, int] | None, str] | None:
        """Follow a limit to its literal: inline, or bound by a name or an element of one, here or above."""
        literal = literal_of(limit)
        if literal is not None:
            return limit, literal, None, _shown(literal)
        by, name = (limit.slice, limit.value) if isinstance(limit, ast.Subscript) else (None, limit)
        element = by.value if isinstance(by, ast.Constant) else None
        if not isinstance(name, ast.Name):
            return None
        for part in [*function.parts[:at][::-1], *self.globals]:
            node = _bound_to(_parsed(part), name.id)
            if node is None:
                continue
            if element is not None:
                held = node.elts if isinstance(node, ast.Tuple | ast.List) else []
                if not isinstance(element, int) or not -len(held) <= element < len(held):
                    return None
                node = held[element]
            literal = literal_of(node)
            return (node, literal, (part.source, part.statement), _shown(literal)) if literal is not None else None
        return None

    def _check_alone(self, group: list[Found]) -> None:
        """Refuse to move a name that is read for anything else than a cut, or bound with something else."""
        source = group[0].source
        if source is None:
            return
        node = ast.parse(source[0]).body[-1]
        names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        value = node.value if isinstance(node, ast.Assign) else None
        literals = len(value.elts) if isinstance(value, ast.Tuple | ast.List) else 1
        moved = len({(f.node.lineno, f.node.col_offset) for f in group})
        if moved != literals or not isinstance(node, ast.Assign):
            raise Unmovable("it is bound together with something else")
        everywhere = (p.source for f in self._functions() for p in f.parts)
        more = (p.source for parts in self.before.definitions.values() for p in parts)
        more_constants = (p.source for p in self.globals)
        texts = [*everywhere, *more, *more_constants, *(f.returns for f in self._functions() if f.returns)]
        read = sum(_reads(text, names) for text in texts)
        if read != len(group):
            raise Unmovable("it is read for something else too")

    def _expression(self, function: Function, found: Found, founds: list[Found]) -> str:
        """Write what stands for a literal. Raises Unmovable."""
        use = found.use
        if use.how == "rows":
            return self._row_number(function, found, founds)
        first = next(f for f in founds if f.use.how != "rows" and f.use.column == use.column)
        anchor = ast.unparse(first.use.anchor)
        value = self._value(function.parts[first.at], first.use.anchor)
        rows = value.rows if value is not None else None
        if isinstance(found.literal, int):
            there = "dt.year" in anchor or use.column in (self.newest.read.value.columns or [])
            return year_back_from(
                anchor, found.literal, self.newest.year(use.column if there else self.choice.time, rows)
            )
        cut = moment_of(found.literal) if isinstance(found.literal, str) else found.literal
        newest = self.newest.time(use.column, cut, rows)
        if cut is None or newest is None or newest < cut:
            raise Unmovable("how far it is from the newest of the rows that are split is not known")
        kind = kind_of(value) or ("time" if isinstance(found.literal, datetime) else None)
        if kind is None:
            raise Unmovable("whether it is compared with times or with texts is not seen")
        if kind == "time" and (use.how == "value" or isinstance(found.literal, datetime)):
            return back_from(anchor, newest - cut)
        return text_back_from(anchor, str(found.literal), newest, cut, parse=kind == "text")

    def _row_number(self, function: Function, found: Found, founds: list[Found]) -> str:
        total, literal = self._rows(function.parts[found.at], found.use.anchor), found.literal
        assert isinstance(literal, int)
        if total is None:
            raise Unmovable("how many rows there are is not seen")
        same = [f for f in founds if f.use.how == "rows" and f.literal == literal]
        asked = next((p for p in self.trace.predicts if p.id == self.choice.evaluated_predict), None)
        tested = asked.X.value.rows if asked is not None and asked.X is not None else None
        if {f.use.low for f in same} != {True, False} and tested != total - literal:
            raise Unmovable("the other rows are not the ones that judge")
        alike = [f for f in same if self._rows(function.parts[f.at], f.use.anchor) == total]
        return f"len({ast.unparse(alike[0].use.anchor)}) - {total - literal}"

    def _rows(self, part: Part, table: ast.expr) -> int | None:
        value = self._value(part, table)
        return value.rows if value is not None and value.kind in ("frame", "series", "array", "sparse") else None

    def _value(self, part: Part, node: ast.expr) -> Value | None:
        """Give what an expression of a part was worth, by its text: renamed names have their old ones again."""
        step = self.program.steps.get(part.statement)
        if step is None:
            return None
        wanted = ast.unparse(_Old(self.old).visit(ast.parse(ast.unparse(node), mode="eval")))
        if wanted.isidentifier():
            return self._named(wanted, part.statement)
        for own in ast.walk(step.node):
            if isinstance(own, ast.expr) and ast.unparse(own) == wanted:
                seen = self.program.value(step.id, step.cell, own)
                if seen is not None:
                    return seen
        return self._of_column(node, part)

    def _of_column(self, node: ast.expr, part: Part) -> Value | None:
        """Give a column, or an index, by what is known of its table."""
        if isinstance(node, ast.Attribute) and node.attr == "index":
            table = self._value(part, node.value)
            times = self.newest.times("") if self.choice.time not in (table.columns or [] if table else []) else []
            return replace(table, dtypes=["datetime64"]) if table is not None and times else None
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            table = self._value(part, node.value)
            known = dict(zip(table.columns or [], table.dtypes or [], strict=False)) if table is not None else {}
            dtype = known.get(str(node.slice.value))
            return replace(table, kind="series", dtypes=[dtype]) if table is not None and dtype is not None else None
        return None

    def _named(self, name: str, before: int) -> Value | None:
        found: Value | None = None
        for did in self.trace.statements:
            if did.id < before and name in did.values:
                found = did.values[name]
        return found

    def _stays(self, function: Function, found: Found, why: str) -> None:
        self._say(function, function.parts[found.at], found.text, why)

    def _say(self, function: Function, part: Part, text: str, why: str) -> None:
        training = function not in self.before.evaluate
        self.found.append(
            Finding(
                "fixed-split", part.cell, part.line,
                f"the split stays at {text}: {why}, so it does not move with new data"
                + (", and no row past it is learnt from" if training else ""),
                "warning" if training else "note", "count it back from the newest row",
            )
        )  # fmt: skip

    def _rewritten(self, function: Function, done: list[Found], made: dict[Found, str]) -> Function:
        sources = dict.fromkeys(found.source for found in done if found.source is not None)
        taken = {*self.program.names, *(n for n, _ in function.parameters), *self.old}
        names: dict[str, str] = {}
        edits: dict[int, list[Edit]] = {}
        ahead: dict[int, list[Part]] = {}
        for source in sources:
            mine = [found for found in done if found.source == source]
            place = min(found.at for found in mine)
            bound = next(p for p in (*function.parts, *self.globals) if (p.source, p.statement) == source)
            ahead.setdefault(place, []).append(replace(bound, source=rebound(bound.source, mine, made)))
            self.dropped.add(source)
        for found in (f for f in done if f.source is None):
            text, part = made[found], function.parts[found.at]
            if text not in names:
                names[text] = _free("cut", taken)
                taken.add(names[text])
                line = f"{names[text]} = {text}  # {said([found])}"
                ahead.setdefault(found.at, []).append(replace(part, source=line))
            edit = edit_of(found, names[text])
            edits[found.at] = [*(e for e in edits.get(found.at, []) if e != edit), edit]
        parts = []
        for at, part in enumerate(function.parts):
            if (part.source, part.statement) in sources:
                continue
            parts += ahead.get(at, [])
            parts.append(replace(part, source=edited(part.source, edits.get(at, []))))
        return replace(function, parts=tuple(parts), doc=DOC if function.name == "split" else function.doc)


class _Old(ast.NodeTransformer):
    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.Name:
        """Give a name as the notebook has it."""
        return ast.Name(self.names.get(node.id, node.id), node.ctx)


def _splits(program: Program) -> set[int]:
    try:
        return set(Roles.of(program).splits)
    except TrilhoError:
        return set()


def _parsed(part: Part) -> ast.Module:
    return ast.parse(part.source)


def _bound_to(tree: ast.Module, name: str) -> ast.expr | None:
    """Give what an assignment binds to a name, also as one of several."""
    for node in tree.body:
        if not isinstance(node, ast.Assign) or len(node.targets) != 1:
            continue
        target, value = node.targets[0], node.value
        if isinstance(target, ast.Name) and target.id == name:
            return value
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            for one, its in zip(target.elts, value.elts, strict=True):
                if isinstance(one, ast.Name) and one.id == name:
                    return its
    return None


def _reads(text: str, names: set[str]) -> int:
    tree = ast.parse(text)
    told = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load) and n.id in names]
    held = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return len(told) + sum(len(re.findall(rf"@{name}\b", value)) for value in held for name in names)


def _shown(literal: str | int | datetime | None) -> str:
    return f"row {literal}" if isinstance(literal, int) and literal not in range(1900, 2101) else (
        str(literal).removesuffix(" 00:00:00"))  # fmt: skip


def _free(name: str, taken: set[str]) -> str:
    return next(one for one in [name, *(f"{name}_{n}" for n in range(2, 100))] if one not in taken)
