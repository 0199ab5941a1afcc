"""Type hints for the notebook's own functions: what they were really given, and what they gave back."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping

from trilho.adopt.notebook import Notebook
from trilho.adopt.trace import Span, Trace, Value

KINDS = {"frame": "pd.DataFrame", "series": "pd.Series", "array": "np.ndarray", "text": "str"}
SCALARS = {"builtins.int": "int", "builtins.float": "float", "builtins.bool": "bool", "numpy.float64": "float"}
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
    return found


def with_hints(source: str, seen: Mapping[str, Seen]) -> str:
    """Annotate a function that has no hints of its own, where every call agrees; the state's is known anyway.

    >>> print(with_hints("def f(d, k, state):\\n    return d", {"f": {"d": {"pd.DataFrame"}, "k": {"int", "str"}}}))
    def f(d: pd.DataFrame, k, state: State):
        return d
    """
    tree = ast.parse(source)
    node = tree.body[0] if len(tree.body) == 1 else None
    if not isinstance(node, ast.FunctionDef) or node.returns is not None:
        return source
    known = seen.get(node.name, {})
    edits: list[tuple[int, int, str]] = []
    for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
        hint = "State" if argument.arg == "state" else _agreed(known.get(argument.arg, set()))
        if hint and argument.annotation is None:
            edits.append((argument.end_lineno or 0, argument.end_col_offset or 0, f": {hint}"))
    given_back = _agreed(known.get("return", set()))
    colon = _colon(source, node) if given_back else None
    if colon is not None:
        edits.append((*colon, f" -> {given_back}"))
    lines = [line.encode() for line in source.splitlines()]
    for line, column, text in sorted(edits, reverse=True):
        lines[line - 1] = lines[line - 1][:column] + text.encode() + lines[line - 1][column:]
    return "\n".join(line.decode() for line in lines)


def _colon(source: str, node: ast.FunctionDef) -> tuple[int, int] | None:
    """Find the colon that ends a function's head, where it ends its line."""
    lines = source.splitlines()
    for number in range(node.lineno, node.body[0].lineno + 1):
        line = lines[number - 1].split("#")[0].rstrip()
        if line.endswith("):"):
            return number, len(line[:-1].encode())
    return None


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
    return next(iter(hints)) if len(hints) == 1 else ""
