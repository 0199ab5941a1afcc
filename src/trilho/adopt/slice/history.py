"""A notebook and what was seen of its run, indexed: which call an event was, and in whose name it was made.

A *place* is where an expression stands: at the top of a statement, or in a function of the notebook that a statement
called, with the call that led there.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from trilho.adopt.notebook import Notebook, Statement
from trilho.adopt.trace import Call, Expression, Fit, Object, Predict, Read, Span, StatementTrace, Trace

Function = ast.FunctionDef | ast.AsyncFunctionDef
Event = Fit | Predict | Call | Read
DEEP = 5  # functions that call functions
MANY = 64  # calls of one function in one statement


@dataclass(frozen=True)
class Place:
    """Where an expression stands: in a statement, or in a function that a statement called."""

    statement: int
    cell: int
    function: Function | None = None
    call: ast.Call | None = None  # of that function
    caller: Place | None = None  # where the call stands

    @property
    def depth(self) -> int:
        """Give the number of functions that it stands in."""
        return 0 if self.caller is None else 1 + self.caller.depth


class History:
    """A notebook and its trace, to be asked."""

    def __init__(self, notebook: Notebook, trace: Trace) -> None:
        self.notebook = notebook
        self.trace = trace
        self.statements: dict[int, Statement] = {s.id: s for s in notebook.statements}
        self.did: dict[int, StatementTrace] = {s.id: s for s in trace.statements}
        self.objects: dict[int, Object] = {o.id: o for o in trace.objects}
        self._known_places: dict[tuple[int, int, Span], list[Place]] = {}

    @cached_property
    def functions(self) -> dict[str, tuple[int, Function]]:
        """The notebook's functions and methods by name, each with its cell; the last of a name counts."""
        return {
            node.name: (statement.cell, node)
            for statement in self.notebook.statements
            for node in ast.walk(statement.node)
            if isinstance(node, Function)
        }

    @cached_property
    def imported(self) -> set[str]:
        """The names that are modules, or were imported from one."""
        return {
            (alias.asname or alias.name).split(".")[0]
            for statement in self.notebook.statements
            for node in ast.walk(statement.node)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }

    def call_of(self, event: Event) -> ast.Call | None:
        """Give the call in the code that an event was."""
        return self._calls.get((event.cell, event.span))

    def seen(self, node: ast.expr, place: Place) -> Expression | None:
        """Give what was seen of an expression when its statement ran."""
        return self._seen.get((place.statement, place.cell, span_of(node)))

    def expression_at(self, cell: int, span: Span) -> ast.expr | None:
        """Give the expression at a place in the code; of several the outermost."""
        return self._expressions.get((cell, span))

    def around(self, cell: int, span: Span) -> list[ast.expr]:
        """Give the expressions that a piece of code is a part of."""
        return [
            node for at, node in self._nodes if at == cell and is_inside(span, span_of(node)) and span_of(node) != span
        ]

    def parents_of(self, node: ast.expr) -> list[ast.AST]:
        """Give what a node of the notebook's code lies in, the nearest first."""
        found = list[ast.AST]()
        above = self._above.get(node)
        while above is not None:
            found.append(above)
            above = self._above.get(above)
        return found

    def place_of(self, event: Event) -> Place:
        """Give the place of an event: where it lies in a function, the call of it that the statement made.

        Of a function that a statement calls several times, each event is of the call in its turn.
        """
        places = self._places(event.statement, event.cell, event.span)
        same = self._together.get((type(event).__name__, event.statement, event.cell, event.span), [])
        return places[same.index(event.id)] if len(same) == len(places) and event.id in same else places[0]

    def place_at(self, statement: int, cell: int, span: Span) -> Place:
        """Give the place of what stands at a span when a statement ran: of several calls the last, as values are."""
        return self._places(statement, cell, span)[-1]

    def _places(self, statement: int, cell: int, span: Span) -> list[Place]:
        key = (statement, cell, span)
        if key not in self._known_places:
            function, top = self._enclosing(cell, span), self.statements.get(statement)
            found = [Place(statement, cell)]
            if function is not None and top is not None:
                called = list(self._called(function, cell, top.node, Place(top.id, top.cell)))
                found = called[:MANY] or [Place(statement, cell, function)]
            self._known_places[key] = found
        return self._known_places[key]

    def function_called(self, call: ast.Call) -> tuple[int, Function] | None:
        """Give the notebook's own function that a call is of, with its cell; for a class, its __init__ is not it."""
        call = self.direct(call)
        own = isinstance(call.func, ast.Name) or (
            isinstance(call.func, ast.Attribute) and not self.is_library(call.func)
        )
        return self.functions.get(called_name(call)) if own else None

    def direct(self, call: ast.Call) -> ast.Call:
        """Write `df.pipe(f, a)` as the call `f(df, a)` that it is; any other call stays."""
        function = call.args[0] if call.args else None
        if called_name(call) != "pipe" or not isinstance(function, ast.Name) or function.id not in self.functions:
            return call
        assert isinstance(call.func, ast.Attribute)
        return ast.copy_location(ast.Call(function, [call.func.value, *call.args[1:]], call.keywords), call)

    def is_library(self, node: ast.expr) -> bool:
        """Say whether an expression is a name of an imported module: `np`, `pd.Series`."""
        while isinstance(node, ast.Attribute):
            node = node.value
        return isinstance(node, ast.Name) and node.id in self.imported

    def lineage(self, names: set[str], before: int) -> list[int]:
        """Give the statements that made what some names held before a statement, in order."""
        needed, live = set(names), list[int]()
        for statement in reversed(self.notebook.statements):
            did = self.did.get(statement.id)
            if statement.id >= before or did is None or did.state in ("skipped", "failed"):
                continue
            if needed & {*did.writes, *did.mutates}:
                live.append(statement.id)
                needed = (needed - (set(did.writes) - set(did.mutates) - set(did.reads))) | self.reads_of(statement.id)
        return live[::-1]

    def reads_of(self, statement: int) -> set[str]:
        """Give the names that a statement read, those that its functions read included."""
        did = self.did.get(statement)
        names = set(did.reads) if did is not None else set[str]()
        for name in [*names]:
            names |= set(self.trace.functions.get(name, []))
        return names

    def made_of(self, event: Fit | Predict) -> list[int]:
        """Give the statements that made what an estimator was given, its own included."""
        return [*self.lineage(self.reads_of(event.statement), event.statement), event.statement]

    @cached_property
    def _above(self) -> dict[ast.AST, ast.AST]:
        nodes = (node for s in self.notebook.statements for node in ast.walk(s.node))
        return {child: node for node in nodes for child in ast.iter_child_nodes(node)}

    @cached_property
    def _nodes(self) -> list[tuple[int, ast.expr]]:
        return [(s.cell, node) for s in self.notebook.statements for node in ast.walk(s.node)
                if isinstance(node, ast.expr)]  # fmt: skip

    @cached_property
    def _calls(self) -> dict[tuple[int, Span], ast.Call]:
        return {(cell, span_of(node)): node for cell, node in self._nodes if isinstance(node, ast.Call)}

    @cached_property
    def _expressions(self) -> dict[tuple[int, Span], ast.expr]:
        return {(cell, span_of(node)): node for cell, node in reversed(self._nodes)}

    @cached_property
    def _seen(self) -> dict[tuple[int, int, Span], Expression]:
        return {(s.id, e.cell, e.span): e for s in self.trace.statements for e in s.expressions}

    def _enclosing(self, cell: int, span: Span) -> Function | None:
        inside = [
            node
            for statement in self.notebook.statements
            if statement.cell == cell
            for node in ast.walk(statement.node)
            if isinstance(node, Function) and is_inside(span, span_of(node))
        ]
        return min(inside, key=lambda node: (node.end_lineno or 0) - node.lineno, default=None)

    @cached_property
    def _together(self) -> dict[tuple[str, int, int, Span], list[int]]:
        """The events of one kind at one place of the code in one statement, in their order."""
        found: dict[tuple[str, int, int, Span], list[int]] = {}
        events: list[Fit | Predict | Call] = [*self.trace.fits, *self.trace.predicts, *self.trace.calls]
        for event in events:
            found.setdefault((type(event).__name__, event.statement, event.cell, event.span), []).append(event.id)
        return found

    def _called(self, function: Function, at: int, node: ast.AST, place: Place) -> Iterator[Place]:
        """Give the calls, from the statement down, that reach a function, in the order in which they are made."""
        for call in _in_order(node):
            call = self.direct(call)
            for name in self._names(call):
                if name == function.name:
                    yield Place(place.statement, at, function, call, place)
                elif name in self.functions and place.depth < DEEP and self.functions[name][1] is not node:
                    cell, inner = self.functions[name]
                    yield from self._called(function, at, inner, Place(place.statement, cell, inner, call, place))

    def _names(self, call: ast.Call) -> list[str]:
        name = called_name(call)
        classes = (s.node for s in self.notebook.statements if isinstance(s.node, ast.ClassDef))
        return ["__init__"] if any(node.name == name for node in classes) else [name]


def span_of(node: ast.AST) -> Span:
    """Give a node's place in its cell.

    >>> span_of(ast.parse("f(x)", mode="eval").body)
    (1, 0, 1, 4)
    """
    return (node.lineno, node.col_offset, node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]


def is_inside(span: Span, outer: Span) -> bool:
    """Say whether a span lies within another.

    >>> is_inside((1, 4, 1, 8), (1, 0, 2, 1)), is_inside((3, 0, 3, 1), (1, 0, 2, 1))
    (True, False)
    """
    return outer[:2] <= span[:2] and span[2:] <= outer[2:]


def _in_order(node: ast.AST) -> Iterator[ast.Call]:
    """Give the calls in a piece of code as they are made: arguments before what takes them."""
    for child in ast.iter_child_nodes(node):
        yield from _in_order(child)
    if isinstance(node, ast.Call):
        yield node


def calls_in(node: ast.AST) -> Iterator[ast.Call]:
    """Give the calls in a piece of code."""
    return (inner for inner in ast.walk(node) if isinstance(inner, ast.Call))


def called_name(call: ast.Call) -> str:
    """Give the last part of the name of what is called.

    >>> called_name(ast.parse("np.mean(x)", mode="eval").body)
    'mean'
    """
    return getattr(call.func, "attr", "") or getattr(call.func, "id", "")


def argument_of(call: ast.Call, index: int, *names: str) -> ast.expr | None:
    """Give a call's argument by one of its keywords, or else by position."""
    for keyword in call.keywords:
        if keyword.arg in names:
            return keyword.value
    plain = [argument for argument in call.args if not isinstance(argument, ast.Starred)]
    return plain[index] if 0 <= index < len(plain) else None


def names_in(node: ast.AST) -> set[str]:
    """Give the names that are read in a piece of code."""
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
