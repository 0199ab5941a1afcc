"""Walks statements in the order of execution, with stand-ins for values. Nothing of the code is run.

Both branches of an `if` are taken, a loop's body once. A notebook function is walked at each call, with what it is
given; two passes find the target first and then what is derived from it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from trilho.adopt.doctor.flow import calls
from trilho.adopt.doctor.flow.events import Chosen, Events, Measured
from trilho.adopt.doctor.flow.halves import Half, halves
from trilho.adopt.doctor.flow.values import (
    NOTHING,
    ColumnMade,
    Place,
    Role,
    Scope,
    Side,
    Statistic,
    Value,
    gather,
    join,
)

DEPTH = 4  # notebook functions that call each other
Function = ast.FunctionDef | ast.Lambda


@dataclass(frozen=True)
class Located:
    """A top-level statement and where it stands."""

    node: ast.stmt
    cell: int | None
    file: str = ""


def interpret(
    statements: Sequence[Located],
    known: Mapping[str, str],
    *,
    target: Iterable[str] = (),
    train: Iterable[str] = (),
    test: Iterable[str] = (),
    tables: Iterable[str] = (),
) -> Events:
    """Follow the rows of every table through the statements.

    `known` says what imported names stand for. What is known from elsewhere may be told: the target's column, names of
    the two sides, and `tables`: parameters of functions that hold a whole table, as a project's `rows`.
    """
    split = halves([one.node for one in statements], train, test)
    functions = {one.node.name: one for one in statements if isinstance(one.node, ast.FunctionDef)}
    classes = {one.node.name: one.node for one in statements if isinstance(one.node, ast.ClassDef)}
    first = Walker(dict(known), functions, classes, split)
    first.walk(statements, tables)
    named, columns = target_of(first.events, frozenset(target))
    second = Walker(dict(known), functions, classes, split)
    second.events.target, second.events.named = columns, named
    second.walk(statements, tables)
    return second.events


def target_of(events: Events, told: frozenset[str]) -> tuple[bool, frozenset[str]]:
    """Find the target's column among what models were fitted to, else the columns that it is computed from."""
    if told:
        return True, told
    names = [fit.y.column for fit in events.fits if fit.model and fit.y is not None and fit.y.column]
    if names:
        return True, frozenset(names[-1:])
    used = [fit.y.uses for fit in events.fits if fit.model and fit.y is not None and fit.y.uses]
    return False, used[-1] if used else frozenset()


@dataclass
class Walker:
    """The state of one pass."""

    known: dict[str, str]
    functions: Mapping[str, Located]
    classes: Mapping[str, ast.ClassDef]
    halves: Mapping[ast.expr, Half]
    events: Events = field(default_factory=Events)
    scope: Scope = field(default_factory=Scope)
    cell: int | None = None
    file: str = ""
    statement: int = 0
    depth: int = 0
    tables: int = 0
    cuts: dict[tuple[frozenset[Side], str], int] = field(default_factory=dict)
    under: list[Value] = field(default_factory=list)  # conditions that we are under
    lambdas: dict[str, ast.Lambda] = field(default_factory=dict)
    state: dict[str, Value] = field(default_factory=dict)  # what a project's State has learnt, by name

    def walk(self, statements: Sequence[Located], tables: Iterable[str]) -> None:
        """Walk the top-level statements; then, where tables are told, the functions that take them."""
        told = frozenset(tables)
        for at, one in enumerate(statements):
            self.cell, self.file, self.statement = one.cell, one.file, at
            self.run(one.node)
        for located in self.functions.values() if told else ():
            node = located.node
            if isinstance(node, ast.FunctionDef) and any(arg.arg in told for arg in node.args.args):
                self.cell, self.file = located.cell, located.file
                table = self.new_table()
                given = {arg.arg: table for arg in node.args.args if arg.arg in told}
                self.enter(node, given, [])
        self.events.values = dict(self.scope.names)

    def place(self, node: ast.AST) -> Place:
        """Give where a node stands."""
        return Place(self.cell, getattr(node, "lineno", 1), self.file)

    def new_table(self, of: frozenset[int] = frozenset()) -> Value:
        """Make the value of a table that was just read."""
        self.tables += 1
        return Value(frozenset({Side("table", self.tables, of or frozenset({self.tables}))}), opaque=False)

    def side(self, of: Value, role: Role, label: str = "") -> frozenset[Side]:
        """Give one side of a split of some rows: the same each time that the same rows are split under one label."""
        number = self.cuts.setdefault((of.sides, label), len(self.cuts) + 1)
        return frozenset({Side(role, number, of.tables or frozenset(range(1, self.tables + 1)))})

    def statistic(self, node: ast.expr, what: str, of: Value, root: ast.expr | None, target: bool = False) -> Statistic:
        """Note that something was learnt from all rows of a table."""
        known = self.events.statistics.get(node)
        if known is None:
            known = Statistic(node, self.place(node), ast.unparse(node), what, root, of.tables, of.uses, target,
                              self.scope.function, self.statement, of.role or "table")  # fmt: skip
            self.events.statistics[node] = known
        return known

    # statements

    def body(self, nodes: Iterable[ast.stmt]) -> None:
        """Walk statements one after the other."""
        for node in nodes:
            self.run(node)

    def run(self, node: ast.stmt) -> None:
        """Walk one statement."""
        match node:
            case ast.Assign(targets=targets, value=value):
                made = self.value(value)
                for target in targets:
                    self.bind(target, made, value)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self.bind(target, self.value(value), value)
            case ast.AugAssign(target=target, value=value):
                self.bind(target, join(self.value(target), self.value(value)), value)
            case ast.Expr(value=value):
                self.value(value)
            case ast.Return(value=ast.expr() as value):
                self.scope.returned.append(self.value(value))
            case ast.For():
                self.loop(node)
            case ast.If(test=test, body=body, orelse=rest):
                self.branch(test, body, rest)
            case ast.While(test=test, body=body, orelse=rest):
                self.branch(test, body, rest)
            case ast.With(items=items, body=body):
                for item in items:
                    opened = self.value(item.context_expr)
                    if item.optional_vars is not None:
                        self.bind(item.optional_vars, opened, item.context_expr)
                self.body(body)
            case ast.Try(body=body, handlers=handlers, orelse=rest, finalbody=end):
                self.body([*body, *rest, *(inner for handler in handlers for inner in handler.body), *end])
            case ast.Global(names=names):
                self.scope.shared |= set(names)
            case ast.ClassDef(name=name):
                self.known[name] = f"__main__.{name}"
            case ast.Delete(targets=targets):
                for target in targets:
                    if isinstance(target, ast.Subscript):
                        self.drop(target)
            case _:
                pass

    def loop(self, node: ast.For) -> None:
        """Walk a loop's body once. One that tries models or limits and measures each was written to pick the best."""
        iterated, events = self.value(node.iter), self.events
        before = len(events.measured), len(events.fits), len(events.chosen), len(events.splits)
        self.bind(node.target, self.item(iterated, node.target), node.iter)
        self.body([*node.body, *node.orelse])
        measured = events.measured[before[0] :]
        picked, split = len(events.chosen) > before[2], len(events.splits) > before[3]
        sides = frozenset(side for one in measured for side in one.sides if side.role == "test")
        if not sides or picked or split or iterated.folds:
            return
        if len(events.fits) > before[1]:
            events.chosen.append(Chosen(self.place(measured[0].node), "selection", sides, by_eye=True))
        elif any(one.threshold for one in measured):
            events.chosen.append(Chosen(self.place(measured[0].node), "threshold", sides, by_eye=True))

    def branch(self, test: ast.expr, body: list[ast.stmt], rest: list[ast.stmt]) -> None:
        """Walk both ways; what is bound under a condition on a metric was chosen by that metric."""
        told = self.value(test)
        if told.measured:
            self.choose(test, told)
        self.under.append(told)
        self.body([*body, *rest])
        self.under.pop()

    def choose(self, node: ast.AST, value: Value) -> None:
        """Note that a measurement decided something."""
        what = "threshold" if value.threshold else "selection"
        self.events.chosen.append(Chosen(self.place(node), what, value.measured))  # type: ignore[arg-type]

    def item(self, value: Value, target: ast.expr) -> Value:
        """Give what a loop over a value binds each time."""
        if value.folds:
            return value
        parts = value.parts or ()
        if isinstance(target, ast.Tuple) and parts and all(len(p.parts or ()) == len(target.elts) for p in parts):
            columns = zip(*(part.parts or () for part in parts), strict=True)
            return gather([join(*column) for column in columns])
        return replace(value, parts=None)

    def bind(self, target: ast.expr, value: Value, source: ast.expr) -> None:
        """Bind a name, a column, an item; what we are under is part of what it is."""
        for condition in self.under:
            if condition.measured:
                value = replace(value, measured=value.measured | condition.measured,
                                threshold=value.threshold or condition.threshold)  # fmt: skip
        match target:
            case ast.Name(id=name):
                self.scope.bind(name, value)
                if isinstance(source, ast.Lambda):
                    self.lambdas[name] = source
            case ast.Tuple(elts=targets) | ast.List(elts=targets):
                parts = value.parts if value.parts is not None and len(value.parts) == len(targets) else None
                for at, one in enumerate(targets):
                    self.bind(one, parts[at] if parts else value, source)
            case ast.Starred(value=inner):
                self.bind(inner, value, source)
            case ast.Subscript():
                self.store(target, value, source)
            case ast.Attribute(value=ast.Name(id="self"), attr=name):
                self.scope.bind(f"self.{name}", value)
            case ast.Attribute(value=ast.Name(id=name), attr=attribute):
                held = self.scope.get(name)
                if held.sides and attribute not in ("columns", "index", "name"):
                    self.column(name, frozenset({attribute}), value, source)
            case _:
                pass

    def store(self, target: ast.Subscript, value: Value, source: ast.expr) -> None:
        """Walk `x[...] = value`."""
        base: ast.expr = target.value
        index = target.slice
        if isinstance(base, ast.Attribute) and base.attr in ("loc", "iloc", "at"):
            base = base.value
            index = index.elts[1] if isinstance(index, ast.Tuple) and len(index.elts) == 2 else index
        if not isinstance(base, ast.Name):
            return
        held, key = self.scope.get(base.id), self.value(index)
        if held.sides and key.texts is not None:
            self.column(base.id, key.texts, value, source)
        elif held.sides or held.added or held.known is not None:
            self.scope.change(base.id, replace(held, learnt=held.learnt | value.learnt))
        else:
            self.scope.change(base.id, replace(join(held, value), parts=None))

    def column(self, name: str, columns: frozenset[str], value: Value, source: ast.expr) -> None:
        """Walk `frame[columns] = value`: the columns are new, or are others now."""
        held = self.scope.get(name)
        met = frozenset(one for one in value.statistics if one.tables & held.tables)
        for column in columns:
            before = self.events.columns.get(column)
            kept = before.uses - {column} if before is not None and column in value.uses else frozenset()
            learnt = before.learnt if before is not None and column in value.uses else frozenset()
            uses = value.uses if value.column != column or before is None else before.uses
            self.events.columns[column] = ColumnMade(
                uses | kept, value.learnt | met | learnt, self.place(source), ast.unparse(source)
            )
        self.scope.change(name, held.with_columns(columns))

    def drop(self, target: ast.Subscript) -> None:
        """Walk `del frame["column"]`."""
        key = self.value(target.slice)
        if isinstance(target.value, ast.Name) and key.texts is not None:
            self.scope.change(target.value.id, self.scope.get(target.value.id).without(key.texts))

    # functions

    def enter(self, node: Function, given: dict[str, Value], call: Sequence[ast.expr]) -> Value:
        """Walk a notebook function with what it is given, and give what it returns."""
        if self.depth >= DEPTH:
            return join(*given.values()) if given else NOTHING
        outer, self.depth = self.scope, self.depth + 1
        globals_ = outer
        while globals_.outer is not None:
            globals_ = globals_.outer
        name = node.name if isinstance(node, ast.FunctionDef) else ""
        self.scope = Scope(names=dict(given), outer=outer if isinstance(node, ast.Lambda) else globals_, function=name)
        if name:
            self.events.calls[name] = self.events.calls.get(name, 0) + 1
        under, self.under = self.under, []
        if isinstance(node, ast.Lambda):
            self.scope.returned.append(self.value(node.body))
        else:
            self.body(node.body)
        inner, self.scope, self.depth, self.under = self.scope, outer, self.depth - 1, under
        for parameter, argument in zip(given, call, strict=False):
            if parameter in inner.changed and isinstance(argument, ast.Name):
                self.scope.change(argument.id, inner.names[parameter])
        return _returned(inner.returned)

    def value(self, node: ast.expr) -> Value:
        """Give what is known of an expression's value."""
        return calls.value_of(self, node)

    def measure(self, node: ast.expr, name: str, values: Sequence[Value]) -> Value:
        """Note a metric, and give its value: it knows which rows' truth it is of."""
        together = join(*values) if values else NOTHING
        limit = any(value.threshold for value in values)
        self.events.measured.append(Measured(node, self.place(node), name, together.sides, together.fitted, limit))
        return Value(measured=together.sides, threshold=limit)


def _returned(values: list[Value]) -> Value:
    if not values:
        return NOTHING
    if all(value.parts is not None for value in values):
        return values[-1]
    known = [value for value in values if value != NOTHING]
    return known[-1] if known else NOTHING
