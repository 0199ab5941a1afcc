"""Where a value came from, read backwards in the code: through names, functions and their callers, and operations."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from trilho.adopt.slice.history import Function, History, Place, argument_of, called_name, span_of
from trilho.adopt.trace import Span

DEEP = 40  # steps that one value is followed back
WIDE = 400  # expressions that a value can be made of
NESTED = 6  # functions in functions
Ends = Callable[[ast.Call, Place], bool]
PASS_ON = {"fit_transform", "transform", "inverse_transform", "concat", "concatenate", "DataFrame", "Series", "array",
           "asarray", "to_numeric", "to_datetime", "DMatrix", "Dataset", "Pool", "copy", "deepcopy"}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """An expression that a value came from."""

    node: ast.expr
    place: Place
    part: int | None = None  # which element of it, where it was unpacked
    looped: bool = False  # whether the value is one of its items
    name: str = ""  # the name that it was bound to on the way

    @property
    def code(self) -> tuple[int, Span]:
        """Give where it is written: the same for every call of a function."""
        return (self.place.cell, span_of(self.node))

    @property
    def key(self) -> tuple[object, ...]:
        """Give what tells it from others: where it is written, and the calls that led there."""
        trail, place = [], self.place
        while place.caller is not None and place.call is not None:
            trail.append(span_of(place.call))
            place = place.caller
        return (self.place.statement, *self.code, self.part, *trail)


def path(history: History, node: ast.expr, place: Place, part: int | None = None) -> Iterator[Source]:
    """Follow a value back to where it came from, one step at a time: of each operation, the data it was done to."""
    current: Source | None = Source(node, place, part)
    for _ in range(DEEP):
        if current is None:
            return
        yield current
        current = _before(history, current)


def reach(history: History, node: ast.expr, place: Place, ends: Ends | None = None) -> Iterator[Source]:
    """Give every expression that a value was made of, each once, nearest first.

    A call for which `ends` is true is given, and what it was given is not followed. What was put into a container or a
    column counts: for `df["p"]`, what was assigned to that column.
    """
    queue, met = [Source(node, place)], set[tuple[object, ...]]()
    while queue and len(met) < WIDE:
        source = queue.pop(0)
        if source.key in met:
            continue
        met.add(source.key)
        yield source
        for inner in _open_nodes(source, ends):
            queue += _sources_of(history, inner, source.place, source.part if inner is source.node else None)


def _open_nodes(source: Source, ends: Ends | None) -> Iterator[ast.expr]:
    """Give the names, columns and calls in an expression that are to be followed."""
    waiting: list[ast.AST] = [source.node]
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.Call) and ends is not None and ends(node, source.place):
            continue
        if isinstance(node, ast.Name | ast.Call) or column_of(node) is not None:
            yield node  # type: ignore[misc]
        waiting += ast.iter_child_nodes(node)


def _sources_of(history: History, node: ast.expr, place: Place, part: int | None) -> list[Source]:
    if isinstance(node, ast.Call):
        back = returned(history, node, place)
        if back is not None and part is not None and isinstance(back.node, ast.Tuple) and part < len(back.node.elts):
            return [replace(back, node=back.node.elts[part])]
        return [replace(back, part=part)] if back is not None else []
    column = column_of(node)
    if column is not None:
        return stored(history, *column, place)
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        found = definition(history, node, place)
        return [*([found] if found is not None else []), *stored(history, node.id, None, place)]
    return []


def column_of(node: ast.AST) -> tuple[str, str] | None:
    """Give the table and the column of `df["c"]` or `df.c`."""
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        key = node.slice
        return (node.value.id, key.value) if isinstance(key, ast.Constant) and isinstance(key.value, str) else None
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.value.id, node.attr
    return None


def stored(history: History, name: str, column: str | None, place: Place) -> list[Source]:
    """Give what was assigned to a column of a table, or put into a container; of any key where no column is named."""
    if place.function is not None and name in {*_parameters(place.function), *_local_names(place.function)}:
        return list(_stores(place.function.body, name, column, place))
    found: list[Source] = []
    for statement in history.notebook.statements:
        if statement.id <= place.statement:
            found += _stores([statement.node], name, column, Place(statement.id, statement.cell))
    return found[-8:]


def _stores(body: list[ast.stmt], name: str, column: str | None, place: Place) -> Iterator[Source]:
    for node in _own_nodes(body):
        if isinstance(node, ast.Assign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                into = target.value if isinstance(target, ast.Subscript) else None
                into = into.value if isinstance(into, ast.Attribute) else into  # df.loc[...]
                if isinstance(into, ast.Name) and into.id == name and _is_column(target, column):
                    yield Source(node.value, place, name=name)
        elif isinstance(node, ast.Call) and called_name(node) in ("append", "extend", "insert") and node.args:
            into = node.func.value if isinstance(node.func, ast.Attribute) else None
            if column is None and isinstance(into, ast.Name) and into.id == name:
                yield Source(node.args[-1], place, name=name)


def _is_column(target: ast.expr, column: str | None) -> bool:
    keys = [n.value for n in ast.walk(target) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return column is None or column in keys


def _local_names(function: Function) -> set[str]:
    return {n.id for n in _own_nodes(function.body) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def definition(history: History, node: ast.Name, place: Place) -> Source | None:
    """Find what a name stood for at a place. None for what no assignment of the notebook made."""
    if place.function is not None:
        own = _bound(place.function.body, node.id, place, node.lineno)
        if own is not None:
            return own
        passed = _passed(place.function, place.call, node.id) if place.call is not None else None
        if passed is not None and place.caller is not None:
            return Source(passed, place.caller, name=node.id)
        if node.id in _parameters(place.function):
            return None
    else:
        here = history.statements.get(place.statement)
        if here is not None:
            own = _bound([here.node], node.id, place, node.lineno)
            if own is not None and not isinstance(here.node, ast.Assign | ast.AugAssign | ast.AnnAssign):
                return own
            if own is not None and own.looped:
                return own
    for earlier in reversed(history.notebook.statements):
        if earlier.id < place.statement:
            found = _bound([earlier.node], node.id, Place(earlier.id, earlier.cell), None)
            if found is not None:
                return found
    return None


def returned(history: History, call: ast.Call, place: Place) -> Source | None:
    """Give what a function of the notebook returned to a call of it."""
    called = history.function_called(call)
    if called is None or place.depth >= NESTED:
        return None
    call = history.direct(call)
    cell, function = called
    values = [node.value for node in _own_nodes(function.body) if isinstance(node, ast.Return) and node.value]
    return Source(values[-1], Place(place.statement, cell, function, call, place)) if values else None


def constant(history: History, node: ast.expr, place: Place) -> object:
    """Give the literal that an expression stands for, through names; None where it is none."""
    for source in path(history, node, place):
        if isinstance(source.node, ast.Constant):
            return source.node.value
        if not isinstance(source.node, ast.Name):
            break
    seen = history.seen(node, place)
    if seen is None or seen.value.literal is None:
        return None
    try:
        return ast.literal_eval(seen.value.literal)
    except (ValueError, SyntaxError):
        return None


def _before(history: History, source: Source) -> Source | None:
    node, place = source.node, source.place
    if isinstance(node, ast.Name):
        found = definition(history, node, place)
        return found if found is None or found.part is not None else replace(found, part=source.part)
    if isinstance(node, ast.Tuple | ast.List):
        at = source.part if source.part is not None else 0
        return Source(node.elts[at], place) if at < len(node.elts) else None
    if isinstance(node, ast.Call):
        return _before_call(history, node, source)
    operand = _operand(node)
    return Source(operand, place) if operand is not None else None


def _before_call(history: History, call: ast.Call, source: Source) -> Source | None:
    place, name = source.place, called_name(call)
    if name == "train_test_split":
        at = (source.part or 0) // 2
        return Source(call.args[at], place) if at < len(call.args) else None
    back = returned(history, call, place)
    if back is not None:
        return replace(back, part=source.part)
    if isinstance(call.func, ast.Attribute) and name not in PASS_ON and not history.is_library(call.func):
        return Source(call.func.value, place)
    first = argument_of(call, 0, "data", "a", "arg")
    if first is None and isinstance(call.func, ast.Attribute) and not history.is_library(call.func):
        first = call.func.value  # df.copy()
    return Source(first, place) if first is not None else None


def _operand(node: ast.expr) -> ast.expr | None:
    """Give the data that an operation was done to."""
    match node:
        case ast.Attribute() | ast.Subscript() | ast.Starred() | ast.Await() | ast.NamedExpr():
            return node.value
        case ast.BinOp() | ast.Compare():
            return node.left if not isinstance(node.left, ast.Constant) else _right(node)
        case ast.UnaryOp():
            return node.operand
        case ast.BoolOp():
            return node.values[0]
        case ast.IfExp():
            return node.body
        case ast.ListComp() | ast.GeneratorExp() | ast.SetComp():
            return node.generators[0].iter
    return None


def _right(node: ast.BinOp | ast.Compare) -> ast.expr:
    return node.right if isinstance(node, ast.BinOp) else node.comparators[0]


def _own_nodes(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """Give the nodes of some statements, those of functions defined in them left out."""
    queue: list[ast.AST] = [*body]
    while queue:
        node = queue.pop(0)
        yield node
        if not isinstance(node, Function | ast.ClassDef | ast.Lambda):
            queue += ast.iter_child_nodes(node)


def _bound(body: list[ast.stmt], name: str, place: Place, before: int | None) -> Source | None:
    """Find the last binding of a name in some statements, up to a line."""
    found: list[tuple[int, int, Source]] = []
    for node in _own_nodes(body):
        for target, value, looped in _bindings(node):
            part = _part(target, name)
            line = target.lineno
            if part == () or (before is not None and (line > before or (line == before and not looped))):
                continue
            found.append((line, len(found), _source(value, place, part, looped, name)))
    return max(found, key=lambda item: item[:2])[2] if found else None


def _source(value: ast.expr, place: Place, part: int | tuple[()] | None, looped: bool, name: str) -> Source:
    at = part if isinstance(part, int) else None
    if at is not None and not looped and isinstance(value, ast.Tuple | ast.List) and at < len(value.elts):
        return Source(value.elts[at], place, None, looped, name)
    return Source(value, place, at, looped, name)


def _bindings(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr, bool]]:
    """Give (target, value, whether an item of it) of what a node binds."""
    match node:
        case ast.Assign():
            yield from ((target, node.value, False) for target in node.targets)
        case ast.AnnAssign(value=ast.expr() as value):
            yield node.target, value, False
        case ast.NamedExpr():
            yield node.target, node.value, False
        case ast.For() | ast.AsyncFor() | ast.comprehension():
            yield node.target, node.iter, True
        case ast.withitem(optional_vars=ast.expr() as target):
            yield target, node.context_expr, False


def _part(target: ast.expr, name: str) -> int | tuple[()] | None:
    """Say which element of a value goes to a name: None for all of it, () for nothing."""
    if isinstance(target, ast.Name):
        return None if target.id == name else ()
    if isinstance(target, ast.Tuple | ast.List):
        for at, element in enumerate(target.elts):
            inner = element.value if isinstance(element, ast.Starred) else element
            if _part(inner, name) != ():
                return at
    return ()


def _parameters(function: Function) -> list[str]:
    arguments = function.args
    return [a.arg for a in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]]


def _passed(function: Function, call: ast.Call, name: str) -> ast.expr | None:
    """Give what a call passed for a parameter, or its default."""
    arguments = function.args
    positional = [a.arg for a in [*arguments.posonlyargs, *arguments.args]]
    if name not in positional and name not in [a.arg for a in arguments.kwonlyargs]:
        return None
    bound = positional[:1] == ["self"] or positional[:1] == ["cls"]
    at = positional.index(name) - bound if name in positional else -1
    passed = argument_of(call, at, name) if at >= 0 or any(k.arg == name for k in call.keywords) else None
    if passed is not None:
        return passed
    defaults = dict(zip(positional[::-1], arguments.defaults[::-1], strict=False))
    keyword = zip([a.arg for a in arguments.kwonlyargs], arguments.kw_defaults, strict=True)
    return {**defaults, **{key: value for key, value in keyword if value is not None}}.get(name)
