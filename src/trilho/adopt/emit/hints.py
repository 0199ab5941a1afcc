"""Type hints for the notebook's own functions: what they were really given, and what they gave back."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from trilho.adopt.emit.describing import head_end
from trilho.adopt.notebook import Notebook
from trilho.adopt.trace import Span, Trace, Value

KINDS = {"frame": "pd.DataFrame", "series": "pd.Series", "array": "np.ndarray", "text": "str"}
SCALARS = {"builtins.int": "int", "builtins.float": "float", "builtins.bool": "bool", "numpy.float64": "float",
           "numpy.int64": "int", "numpy.bool": "bool", "numpy.bool_": "bool", "int": "int", "float": "float",
           "bool": "bool"}  # fmt: skip
GUARDS = {"str", "float", "int", "isna", "isnull", "notna", "notnull", "isnan", "isinstance"}  # anything is given
MOST = 2  # types in one hint
Seen = dict[str, set[str]]  # parameter, or "return" -> hints


def hints_seen(notebook: Notebook, trace: Trace) -> dict[str, Seen]:
    """Give for each function of the notebook the hints of what its calls were seen to take and to give."""
    found: dict[str, Seen] = defaultdict(lambda: defaultdict(set))
    functions = {s.node.name: s.node for s in notebook.statements if isinstance(s.node, ast.FunctionDef)}
    values: dict[str, Value] = {}
    did = {statement.id: statement for statement in trace.statements}
    for statement in notebook.statements:
        ran = did.get(statement.id)
        if ran is None:
            continue
        seen = {(e.cell, tuple(e.span)): e.value for e in ran.expressions}
        for call in _calls(statement.node, functions):
            function = functions[call.func.id]  # type: ignore[attr-defined]
            for name, given in _bound(function, call):
                known = (
                    values.get(given.id) if isinstance(given, ast.Name) else seen.get((statement.cell, _span(given)))
                )
                found[function.name][name].add(_hint(known))
            found[function.name]["return"].add(_hint(seen.get((statement.cell, _span(call)))))
        values |= ran.values
    for statement in notebook.statements:
        if isinstance(statement.node, ast.FunctionDef):
            _add_inside(found[statement.node.name], statement.node, _seen_in(trace, statement.cell))
    return found


def _seen_in(trace: Trace, cell: int) -> dict[Span, set[str]]:
    """Give the hints of what was seen of a cell's expressions."""
    found: dict[Span, set[str]] = defaultdict(set)
    for ran in trace.statements:
        for expression in ran.expressions:
            if expression.cell == cell:
                found[tuple(expression.span)].add(_hint(expression.value))  # type: ignore[index]
    return found


def _add_inside(known: Seen, function: ast.FunctionDef, seen: Mapping[Span, set[str]]) -> None:
    """Add what its own code was seen to hold, for a function that is called by others: `rows.apply(f)`."""
    own = list(_own_nodes(function))
    for argument, default in _parameters(function):
        hints = known[argument.arg] - {""}
        if hints:
            known[argument.arg] = hints
            continue
        if default is not None:
            known[argument.arg] |= _of_constant(default)
        first = _first_read(own, argument.arg)
        known[argument.arg] |= seen.get(_span(first), set()) if first is not None else set()
    if not known["return"] - {""}:
        for node in own:
            if isinstance(node, ast.Return) and node.value is not None:
                known["return"] |= _of_constant(node.value) or seen.get(_span(node.value), {""})


def _own_nodes(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """Give the nodes of a function's body, those of functions inside it apart."""
    queue: list[ast.AST] = list(function.body)
    while queue:
        node = queue.pop(0)
        yield node
        if not isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            queue[:0] = ast.iter_child_nodes(node)


def _first_read(nodes: Iterable[ast.AST], name: str) -> ast.Name | None:
    """Find where a parameter is first read, None where it is made another value before, or may be anything."""
    nodes = list(nodes)
    for node in nodes:
        if isinstance(node, ast.Call) and any(isinstance(a, ast.Name) and a.id == name for a in node.args):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in GUARDS:
                return None
    found = [node for node in nodes if isinstance(node, ast.Name) and node.id == name]
    first = min(found, key=lambda node: (node.lineno, isinstance(node.ctx, ast.Store), node.col_offset), default=None)
    return first if first is not None and isinstance(first.ctx, ast.Load) else None


def _of_constant(node: ast.expr) -> set[str]:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float, bool, str):
        return {type(node.value).__name__}
    return set()


def _parameters(function: ast.FunctionDef) -> Iterator[tuple[ast.arg, ast.expr | None]]:
    given = function.args
    plain = [*given.posonlyargs, *given.args]
    missing: list[ast.expr | None] = [None] * (len(plain) - len(given.defaults))
    yield from zip(plain, [*missing, *given.defaults], strict=True)
    yield from zip(given.kwonlyargs, given.kw_defaults, strict=True)


def with_hints(source: str, seen: Mapping[str, Seen]) -> str:
    """Annotate a function that has no hints of its own with what was seen; Any where that is nothing, or too much.

    >>> print(with_hints("def f(d, k, state):\\n    return d", {"f": {"d": {"pd.DataFrame"}, "k": {"int", "str"}}}))
    def f(d: pd.DataFrame, k: int | str, state: State) -> Any:
        return d
    """
    tree = ast.parse(source)
    node = tree.body[0] if len(tree.body) == 1 else None
    if not isinstance(node, ast.FunctionDef) or node.returns is not None:
        return source
    known = seen.get(node.name, {})
    edits: list[tuple[int, int, str]] = []
    for argument, default in _parameters(node):
        hint = "State" if argument.arg == "state" else _agreed(known.get(argument.arg, set()))
        if isinstance(default, ast.Constant) and default.value is None:
            hint = hint if hint == "Any" else f"{hint} | None"
        if argument.annotation is None:
            edits.append((argument.end_lineno or 0, argument.end_col_offset or 0, f": {hint}"))
    line, column = head_end(source, node)
    before = source.splitlines()[line - 1][:column]
    edits.append((line, len(before.encode()), f" -> {_returned(node, known)}"))
    lines = [line.encode() for line in source.splitlines()]
    for line, column, text in sorted(edits, reverse=True):
        lines[line - 1] = lines[line - 1][:column] + text.encode() + lines[line - 1][column:]
    return "\n".join(line.decode() for line in lines)


def _returned(node: ast.FunctionDef, known: Mapping[str, set[str]]) -> str:
    own = list(_own_nodes(node))
    if any(isinstance(inner, ast.Yield | ast.YieldFrom) for inner in own):
        return "Any"
    given = [inner for inner in own if isinstance(inner, ast.Return) and inner.value is not None]
    return _agreed(known.get("return", set())) if given else "None"


def _calls(node: ast.stmt, functions: Mapping[str, ast.FunctionDef]) -> Iterator[ast.Call]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Name) and inner.func.id in functions:
            yield inner


def _bound(function: ast.FunctionDef, call: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    names = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    if not any(isinstance(argument, ast.Starred) for argument in call.args):
        yield from zip(names, call.args, strict=False)
    yield from ((keyword.arg, keyword.value) for keyword in call.keywords if keyword.arg)


def _span(node: ast.expr) -> Span:
    return (node.lineno, node.col_offset, node.end_lineno or 0, node.end_col_offset or 0)


def _hint(value: Value | None) -> str:
    if value is None:
        return ""
    return SCALARS.get(value.type, "") if value.kind == "scalar" else KINDS.get(value.kind, "")


def _agreed(hints: set[str]) -> str:
    """Write several hints as one, "Any" where one of them is not known.

    >>> _agreed({"int", "float"}), _agreed({"int", "str"}), _agreed({"int", ""})
    ('float', 'int | str', 'Any')
    """
    hints = hints - {"int"} if hints == {"int", "float"} else hints
    return " | ".join(sorted(hints)) if hints and "" not in hints and len(hints) <= MOST else "Any"
