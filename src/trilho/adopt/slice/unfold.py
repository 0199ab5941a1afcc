"""Writes out what one statement does at once: a call of a notebook function that fits and judges, pairs of assignments.

`model, auc = run(RandomForestClassifier(), X_train, y_train, X_test, y_test)` becomes the function's statements with
the caller's names, and `a, b = prep(train), prep(test)` two assignments, each with what the run saw of it. Each then
goes where it belongs: the fit into the fit, the metric into the experiment. Ids of statements make room between them
meanwhile; `folded` gives a plan with the notebook's own again.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from trilho.adopt.dataflow import closure, definitions, flow
from trilho.adopt.notebook import Cell, Notebook, Statement
from trilho.adopt.plan import Choice, Function, Part, Plan
from trilho.adopt.scopes import bound, parameters
from trilho.adopt.slice.text import Code, comments_above, inside, renamed, span_of
from trilho.adopt.trace import Argument, Expression, Span, StatementTrace, Trace, Value

ROOM = 1000  # ids between one statement and the next
Event = TypeVar("Event")


@dataclass
class Piece:
    """One of the statements that a statement is written out as."""

    text: str
    cell: int  # whose code it was
    span: Span  # where it stood there
    pairs: list[tuple[ast.AST, ast.AST]]  # the notebook's nodes, and those of `text`
    node: ast.stmt
    names: dict[str, str] = field(default_factory=dict)  # of the function's names, what they are here
    spans: dict[Span, Span] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Match the nodes."""
        for old, new in self.pairs:
            for one, other in zip(ast.walk(old), ast.walk(new), strict=False):
                if isinstance(one, ast.expr | ast.stmt):
                    self.spans.setdefault(span_of(one), span_of(other))


@dataclass(frozen=True)
class Unfolded:
    """A run whose statements were written out, and what of it is the notebook's."""

    notebook: Notebook
    trace: Trace
    choice: Choice
    cells: dict[int, int]  # a written-out statement's cell -> the notebook's
    callers: frozenset[int]  # cells of the statements that were written out

    def folded(self, plan: Plan) -> Plan:
        """Give a plan with the notebook's own statements and cells."""
        used = {p.cell for f in _functions(plan) for p in f.parts}
        live = {self.cells[cell] for cell in used if cell in self.cells} | self.callers

        def part(one: Part) -> Part:
            return replace(one, cell=self.cells.get(one.cell, one.cell), statement=one.statement // ROOM)

        def function(one: Function) -> Function:
            return replace(one, parts=tuple(map(part, one.parts)))

        def group(parts: dict[str, tuple[Part, ...]]) -> dict[str, tuple[Part, ...]]:
            return {name: tuple(map(part, those)) for name, those in parts.items()}

        return replace(
            plan,
            load=function(plan.load),
            features=tuple(map(function, plan.features)),
            fit=tuple(map(function, plan.fit)),
            predict=function(plan.predict) if plan.predict is not None else None,
            evaluate=tuple(map(function, plan.evaluate)),
            definitions=group(plan.definitions),
            constants=group(plan.constants),
            dropped=tuple(d for d in plan.dropped if d.cell not in live),
            findings=tuple(
                replace(f, cell=self.cells.get(f.cell, f.cell)) if f.cell is not None else f for f in plan.findings
            ),
        )


def unfold_fits(notebook: Notebook, trace: Trace, choice: Choice) -> Unfolded | None:
    """Write out the functions that fit the chosen models and judge them too. None where there are none of that kind."""
    fits = {f.id: f for f in trace.fits if f.id in (choice.shipped_fit, choice.evaluated_fit)}
    known = _straight_functions(notebook)
    wanted: dict[int, list[Piece]] = {}
    for fit in fits.values():
        statement = next((s for s in notebook.statements if s.id == fit.statement), None)
        call = _only_call(statement.node, known) if statement is not None else None
        if statement is None or call is None or fit.statement in choice.target.statements:
            continue
        cell, function = known[call.func.id]  # type: ignore[attr-defined]
        judged = [(e.statement, e.cell) for e in trace.metrics] + [(e.statement, e.cell) for e in trace.predicts]
        here = (fit.statement, cell) in judged
        if fit.cell == cell and inside(fit.span, span_of(function)) and here:
            pieces = _inlined(notebook, statement, call, cell, function)
            wanted |= {statement.id: pieces} if pieces is not None else {}
    for metric in choice.metrics:
        statement = next((s for s in notebook.statements if s.id == metric.statement), None)
        call = _only_call(statement.node, known) if statement is not None else None
        if statement is None or call is None or statement.id in wanted:
            continue
        cell, function = known[call.func.id]  # type: ignore[attr-defined]
        if _tables(trace) & closure({function.name: function})[function.name].reads:
            pieces = _inlined(notebook, statement, call, cell, function)
            wanted |= {statement.id: pieces} if pieces is not None else {}
    return _rebuilt(notebook, trace, choice, wanted) if wanted else None


def _tables(trace: Trace) -> set[str]:
    """Give the names that held rows."""
    return {n for s in trace.statements for n, v in s.values.items() if v.kind in ("frame", "series", "array")}


def unfold_pairs(notebook: Notebook, trace: Trace, choice: Choice) -> Unfolded | None:
    """Write assignments of several names as several assignments. None where there are none."""
    wanted: dict[int, list[Piece]] = {}
    for statement in notebook.statements:
        if statement.id not in choice.target.statements:
            pieces = _paired(notebook, statement)
            wanted |= {statement.id: pieces} if pieces else {}
    return _rebuilt(notebook, trace, choice, wanted) if wanted else None


def _straight_functions(notebook: Notebook) -> dict[str, tuple[int, ast.FunctionDef]]:
    """Give the functions that go from their first statement to one `return` at their end."""
    found: dict[str, tuple[int, ast.FunctionDef]] = {}
    for statement in notebook.statements:
        node = statement.node
        if not isinstance(node, ast.FunctionDef) or node.args.vararg or node.args.kwarg or node.decorator_list:
            continue
        last = node.body[-1]
        leaves = [
            n
            for n in ast.walk(node)
            if isinstance(n, ast.Return | ast.Yield | ast.YieldFrom | ast.Global | ast.Nonlocal)
        ]
        if all(n is last for n in leaves):
            found[node.name] = (statement.cell, node)
    return found


def _only_call(node: ast.stmt, known: Collection[str]) -> ast.Call | None:
    """Give the call that a statement consists of, beside the names that it binds."""
    value = node.value if isinstance(node, ast.Assign | ast.Expr) else None
    if isinstance(node, ast.Assign) and len(node.targets) > 1:
        return None
    plain = isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in known
    starred = plain and any(isinstance(a, ast.Starred) for a in value.args)  # type: ignore[union-attr]
    return value if plain and not starred and isinstance(value, ast.Call) else None


def _paired(notebook: Notebook, statement: Statement) -> list[Piece]:
    """Take `a, b = f(x), g(y)` apart, where no value reads a name that an earlier one binds."""
    node, code = statement.node, _code(notebook, statement.cell)
    if not isinstance(node, ast.Assign) or len(node.targets) != 1 or not isinstance(node.value, ast.Tuple):
        return []
    target = node.targets[0]
    if not isinstance(target, ast.Tuple) or len(target.elts) != len(node.value.elts):
        return []
    names = [e.id for e in target.elts if isinstance(e, ast.Name)]
    reads = [{n.id for n in ast.walk(v) if isinstance(n, ast.Name)} for v in node.value.elts]
    earlier = any(set(names[:at]) & read for at, read in enumerate(reads))
    if len(names) < len(target.elts) or earlier or not any(reads):
        return []
    pieces: list[Piece] = []
    for name, value in zip(names, node.value.elts, strict=True):
        head = comments_above(statement.source) if not pieces else ""
        pieces.append(_assignment(name, code.at(span_of(value)), value, statement.cell, head))
    return pieces


def _assignment(name: str, text: str, value: ast.expr, cell: int, head: str = "", names: Any = None) -> Piece:
    made = ast.parse(f"{name} = {text}").body[0]
    assert isinstance(made, ast.Assign)
    return Piece(f"{head}{name} = {text}", cell, span_of(value), [(value, made.value)], made, dict(names or {}))


def _inlined(
    notebook: Notebook, statement: Statement, call: ast.Call, cell: int, function: ast.FunctionDef
) -> list[Piece] | None:
    """Write a function's statements with the caller's names."""
    caller, own = _code(notebook, statement.cell), _code(notebook, cell)
    order = list(parameters(function))
    given: dict[str, ast.expr] = dict(zip(order, call.args, strict=False))
    given |= {k.arg: k.value for k in call.keywords if k.arg}
    defaults = dict(zip(order[len(order) - len(function.args.defaults) :], function.args.defaults, strict=False))
    if any(name not in given and name not in defaults for name in order):
        return None
    names, pieces = _local_names(notebook, statement, function, given), list[Piece]()
    for name in order:
        value = given.get(name, defaults.get(name))
        code, where = (caller, statement.cell) if name in given else (own, cell)
        if value is not None and not (name in given and isinstance(value, ast.Name)):
            pieces.append(_assignment(names[name], code.at(span_of(value)), value, where))
    for node in function.body:
        if isinstance(node, ast.Return):
            pieces += _returned(statement, node, own, cell, names)
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            text = own.edited(span_of(node), renamed(node, names))
            text = "\n".join(_dedented(line, node.col_offset, at) for at, line in enumerate(text.split("\n")))
            pieces.append(
                Piece(text, cell, span_of(node), [(node, ast.parse(text).body[0])], ast.parse(text).body[0], names)
            )
    return pieces


def _dedented(line: str, column: int, at: int) -> str:
    return line[column:] if at and not line[:column].strip() else line


def _local_names(
    notebook: Notebook, statement: Statement, function: ast.FunctionDef, given: dict[str, ast.expr]
) -> dict[str, str]:
    """Give the names that a function's own have where it is written out: the caller's, else one that is not taken."""
    taken = {
        n.id
        for s in notebook.statements
        for n in ast.walk(s.node)
        if isinstance(n, ast.Name) and s.node is not function
    }
    targets = statement.node.targets[0] if isinstance(statement.node, ast.Assign) else None
    last = function.body[-1]
    back = last.value if isinstance(last, ast.Return) else None
    pairs = (
        zip(targets.elts, back.elts, strict=False)
        if isinstance(targets, ast.Tuple) and isinstance(back, ast.Tuple)
        else [(targets, back)]
    )
    results = {r.id: t.id for t, r in pairs if isinstance(t, ast.Name) and isinstance(r, ast.Name) and t.id != "_"}
    rebound = set(bound(function.body))
    found = {}
    for name in [*parameters(function), *sorted(rebound)]:
        value = given.get(name)
        if isinstance(value, ast.Name) and name not in rebound:
            found[name] = value.id
        elif name in results:
            found[name] = results[name]
        elif name not in found:
            found[name] = f"{name}_" if name in taken else name
    return found


def _returned(statement: Statement, node: ast.Return, code: Code, cell: int, names: dict[str, str]) -> list[Piece]:
    """Write what is returned as assignments to the caller's names."""
    if not isinstance(statement.node, ast.Assign) or node.value is None:
        return []
    target = statement.node.targets[0]
    both = isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)
    pairs = (
        zip(target.elts, node.value.elts, strict=False)
        if both and isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple)
        else [(target, node.value)]
    )
    found = []
    for one, value in pairs:
        text = code.edited(span_of(value), renamed(value, names))
        if ast.unparse(one) != text:
            found.append(_assignment(ast.unparse(one), text, value, cell, names=names))
    return found


def _code(notebook: Notebook, cell: int) -> Code:
    return Code(next(c.code for c in notebook.cells if c.index == cell))


class _Rebuild:
    """Writes notebook, trace and choice anew."""

    def __init__(self, notebook: Notebook, trace: Trace, wanted: dict[int, list[Piece]]) -> None:
        self.wanted = wanted
        self.effects = closure(definitions(s.node for s in notebook.statements))
        first = max(c.index for c in notebook.cells) + 1
        order = [(id_, k) for id_ in sorted(wanted) for k in range(len(wanted[id_]))]
        self.cells = {place: first + n for n, place in enumerate(order)}
        self.did = {s.id: s for s in trace.statements}

    def place(self, statement: int, cell: int, span: Span) -> tuple[int, int, Span, dict[str, str]]:
        """Give where an event is now, and the names that its arguments have there."""
        pieces = self.wanted.get(statement, [])
        for k, piece in enumerate(pieces):
            line = span[0] == span[2] and span[1] == span[3] == 0  # where no more is known than the line
            within = piece.span[0] <= span[0] <= piece.span[2] if line else inside(span, piece.span)
            if piece.cell == cell and within:
                return statement * ROOM + k, self.cells[statement, k], piece.spans.get(span, span), piece.names
        for k, piece in enumerate(pieces):
            if flow(piece.node).reads & self.effects.keys():
                return statement * ROOM + k, cell, span, {}
        return statement * ROOM, cell, span, {}

    def event(self, one: Event) -> Event:
        """Put an event to its new place, with the names that hold there."""
        given: Any = one
        statement, cell, span, names = self.place(given.statement, given.cell, given.span)
        changes: dict[str, Any] = {"statement": statement, "cell": cell, "span": span}
        for name in ("X", "y"):
            value = getattr(given, name, None)
            if isinstance(value, Argument):
                changes[name] = _named(value, names)
        for name in ("arguments", "others"):
            values = getattr(given, name, None)
            if isinstance(values, list):
                changes[name] = [_named(v, names) for v in values]
        return replace(given, **changes)  # type: ignore[no-any-return]

    def statements(self, did: StatementTrace) -> Iterator[StatementTrace]:
        """Give what each written-out statement did."""
        pieces = self.wanted.get(did.id)
        if pieces is None:
            yield replace(did, id=did.id * ROOM)
            return
        seen = {(e.cell, e.span): e for e in did.expressions}
        for k, piece in enumerate(pieces):
            found = flow(piece.node, self.effects)
            expressions = list(self._expressions(did, pieces, k))
            local = set(piece.names.values()) - did.values.keys()
            mutates = [n for n in found.mutates if n in did.mutates or n in local]
            values = {n: v for n in [*found.writes, *mutates] if (v := self._value(n, did, pieces, seen)) is not None}
            yield StatementTrace(
                did.id * ROOM + k, did.seconds, did.state, sorted(found.reads), sorted(found.writes), mutates,
                values, expressions, did.output, did.error, did.error_line,
            )  # fmt: skip

    def _expressions(self, did: StatementTrace, pieces: list[Piece], k: int) -> Iterator[Expression]:
        cell = self.cells[did.id, k]
        for one in did.expressions:
            if one.cell == pieces[k].cell and inside(one.span, pieces[k].span):
                yield replace(one, cell=cell, span=pieces[k].spans.get(one.span, one.span))
            elif not any(one.cell == p.cell and inside(one.span, p.span) for p in pieces):
                yield one

    def _value(
        self, name: str, did: StatementTrace, pieces: list[Piece], seen: dict[tuple[int, Span], Expression]
    ) -> Value | None:
        """Give what a name was worth: the statement's own, else where it was read in the function, or was made."""
        if name in did.values:
            return did.values[name]
        found: Value | None = None
        for piece in pieces:
            for old, new in piece.pairs:
                for one, other in zip(ast.walk(old), ast.walk(new), strict=False):
                    if isinstance(other, ast.Name) and other.id == name and isinstance(one, ast.expr):
                        at = seen.get((piece.cell, span_of(one)))
                        found = at.value if at is not None else found
            if found is None and isinstance(piece.node, ast.Assign) and ast.unparse(piece.node.targets[0]) == name:
                value = piece.pairs[-1][0]
                value = value.value if isinstance(value, ast.Assign) else value
                made = seen.get((piece.cell, span_of(value)))
                found = made.value if made is not None else None
        return found


def _named(argument: Argument, names: dict[str, str]) -> Argument:
    return replace(argument, source=_source(argument.source, names))


def _source(source: str, names: dict[str, str]) -> str:
    try:
        node = ast.parse(source.strip(), mode="eval").body
    except SyntaxError:
        return source
    return Code(source.strip()).edited(span_of(node), renamed(node, names)) if names else source


def _rebuilt(notebook: Notebook, trace: Trace, choice: Choice, wanted: dict[int, list[Piece]]) -> Unfolded:
    work = _Rebuild(notebook, trace, wanted)
    statements, cells = list[Statement](), list(notebook.cells)
    for statement in notebook.statements:
        if statement.id not in wanted:
            statements.append(replace(statement, id=statement.id * ROOM))
        for k, piece in enumerate(wanted.get(statement.id, [])):
            cell = work.cells[statement.id, k]
            node = ast.parse(piece.text).body[0]
            shift = node.lineno - piece.node.lineno
            piece.spans = {old: (a + shift, b, c + shift, d) for old, (a, b, c, d) in piece.spans.items()}
            piece.node = node
            cells.append(Cell(cell, "raw", piece.text, piece.text))
            statements.append(Statement(statement.id * ROOM + k, cell, node.lineno, piece.text, node))
    now = replace(
        trace,
        statements=[one for did in trace.statements for one in work.statements(did)],
        calls=[work.event(e) for e in trace.calls],
        reads=[work.event(e) for e in trace.reads],
        fits=[work.event(e) for e in trace.fits],
        predicts=[work.event(e) for e in trace.predicts],
        metrics=[work.event(e) for e in trace.metrics],
        splits=[work.event(e) for e in trace.splits],
        saves=[replace(s, statement=s.statement * ROOM) for s in trace.saves],
        connections=[replace(c, statement=c.statement * ROOM) for c in trace.connections],
    )
    return Unfolded(
        replace(notebook, cells=tuple(cells), statements=tuple(statements)),
        now,
        _chosen(choice, work, now),
        {cell: wanted[id_][k].cell for (id_, k), cell in work.cells.items()},
        frozenset(s.cell for s in notebook.statements if s.id in wanted),
    )


def _chosen(choice: Choice, work: _Rebuild, trace: Trace) -> Choice:
    """Give the choice with the statements' new ids."""
    calls = {c.id: c for c in [*trace.calls, *trace.metrics]}

    def all_of(ids: Collection[int]) -> tuple[int, ...]:
        return tuple(i * ROOM + k for i in ids for k in range(len(work.wanted.get(i, [0]))))

    metrics = []
    for metric in choice.metrics:
        call = calls.get(metric.call) if metric.call is not None else None
        at = (metric.line, 0, metric.line, 0)
        statement, cell, _, names = work.place(metric.statement, metric.cell, at)
        if call is not None:
            statement, cell = call.statement, call.cell
            k = statement % ROOM
            pieces = work.wanted.get(statement // ROOM, [])
            names = pieces[k].names if k < len(pieces) else {}
        metrics.append(
            replace(
                metric,
                statement=statement,
                cell=cell,
                argument_sources=tuple(_source(s, names) for s in metric.argument_sources),
            )
        )
    threshold = choice.threshold
    if threshold is not None:
        line = (threshold.line, 0, threshold.line, 0)
        threshold = replace(threshold, statement=work.place(threshold.statement, threshold.cell, line)[0])
    return replace(
        choice,
        metrics=tuple(metrics),
        threshold=threshold,
        split=replace(choice.split, statements=all_of(choice.split.statements)),
        target=replace(choice.target, statements=all_of(choice.target.statements)),
        lags=tuple(
            replace(lag, statement=work.place(lag.statement, lag.cell, (lag.line, 0, lag.line, 0))[0])
            for lag in choice.lags
        ),
    )


def _functions(plan: Plan) -> list[Function]:
    predict = [plan.predict] if plan.predict is not None else []
    return [plan.load, *plan.features, *plan.fit, *predict, *plan.evaluate]
