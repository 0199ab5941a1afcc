"""Features that are made of other rows: lags, differences, moving windows, running sums, values carried forward."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from trilho.adopt.plan import Lag
from trilho.adopt.slice.history import History, Place, argument_of, called_name, calls_in, span_of
from trilho.adopt.slice.origin import constant, path
from trilho.adopt.trace import Fit, Span

METHODS = {
    "shift", "diff", "rolling", "expanding", "ewm", "pct_change", "cumsum", "cumprod", "cummax", "cummin", "cumcount",
    "ffill", "bfill", "pad", "backfill", "interpolate", "resample", "asfreq",
}  # fmt: skip
FUNCTIONS = {"roll", "cumsum", "cumprod", "diff", "ediff1d", "merge_asof"}
ROWS = {"frame", "series", "array", "other", "sparse"}


def find_lags(history: History, fit: Fit, target: str) -> list[Lag]:
    """Find what of a fit's features looks at other rows than its own."""
    live = _live_columns(history, fit)
    found: dict[tuple[int, Span], list[Lag]] = {}
    for place, node in _code(history, fit):
        for call, pattern in _calls(history, node, place):
            columns = [c for c in live or () if pattern and re.fullmatch(pattern, c)]
            columns = columns or [re.sub(r"\\(.)", r"\1", pattern)]
            if target in columns or (pattern and live is not None and columns[0] not in live):
                continue
            entity = _entity(history, call, place)
            found[place.cell, span_of(call)] = [
                Lag(place.cell, call.lineno, place.statement, ast.unparse(call), called_name(call), column, entity)
                for column in columns
            ]
    return _outermost(found)


def _code(history: History, fit: Fit) -> Iterator[tuple[Place, ast.AST]]:
    """Give the code that made a fit's features: statements, and the functions that they call."""
    done = set[str]()
    for id_ in history.made_of(fit):
        statement = history.statements.get(id_)
        if statement is None or isinstance(statement.node, ast.FunctionDef | ast.ClassDef):
            continue
        queue: list[tuple[Place, ast.AST]] = [(Place(id_, statement.cell), statement.node)]
        while queue:
            place, node = queue.pop(0)
            yield place, node
            for call in map(history.direct, calls_in(node)):
                called = history.function_called(call)
                if called is not None and called_name(call) not in done:
                    done.add(called_name(call))
                    queue.append((Place(id_, called[0], called[1], call, place), called[1]))


def _calls(history: History, code: ast.AST, place: Place) -> Iterator[tuple[ast.Call, str]]:
    """Give each call that looks at other rows, with a pattern of the columns that its result goes to."""
    statements = [
        n for n in ast.walk(code) if isinstance(n, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Expr | ast.Return)
    ]
    met = set[Span]()
    for statement in reversed(statements):
        for call in calls_in(statement):
            if span_of(call) not in met and _is_lag(history, call, place):
                met.add(span_of(call))
                yield call, _column_to(history, statement, call, place)


def _is_lag(history: History, call: ast.Call, place: Place) -> bool:
    name = called_name(call)
    if name == "fillna":
        return any(k.arg == "method" for k in call.keywords)
    if not isinstance(call.func, ast.Attribute):
        return name in FUNCTIONS - {"roll", "diff"}
    if history.is_library(call.func):
        return name in FUNCTIONS
    seen = history.seen(call, place)
    return name in METHODS and (seen is None or seen.value.kind in ROWS)


def _column_to(history: History, statement: ast.stmt, call: ast.Call, place: Place) -> str:
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Subscript):
        key = statement.targets[0].slice
        pattern = _pattern(key)
        if pattern:
            return pattern
        told = constant(history, key, place)
        return re.escape(told) if isinstance(told, str) else ""
    for keyword in (k for c in calls_in(statement) if called_name(c) == "assign" for k in c.keywords):
        if keyword.arg and span_of(call) in {span_of(c) for c in calls_in(keyword.value)}:
            return re.escape(keyword.arg)
    return ""


def _pattern(key: ast.expr) -> str:
    """Give the names that `f"lag_{n}"` or `col + "_mean"` can be; "" for what is no such text."""
    if isinstance(key, ast.JoinedStr):
        return "".join(re.escape(str(p.value)) if isinstance(p, ast.Constant) else ".+" for p in key.values)
    if isinstance(key, ast.BinOp) and isinstance(key.op, ast.Add):
        sides = [re.escape(n.value) if isinstance(n, ast.Constant) and isinstance(n.value, str) else _pattern(n) or ".+"
                 for n in (key.left, key.right)]  # fmt: skip
        return "".join(sides) if sides != [".+", ".+"] else ""
    return ""


def _entity(history: History, call: ast.Call, place: Place) -> str:
    """Give the column whose rows are kept apart: of `groupby("loja")["vendas"].shift(1)`, loja.

    The groups may have a name (`g = df.groupby("loja")`), and a lambda is of the groups that it is handed to.
    """
    for given in (call, *_applied_to(history, call)):
        for source in path(history, given, place):
            if isinstance(source.node, ast.Call) and called_name(source.node) == "groupby":
                by = argument_of(source.node, 0, "by", "level")
                keys = [n.value for n in ast.walk(by) if isinstance(n, ast.Constant)] if by is not None else []
                return ", ".join(str(key) for key in keys)
    return ""


def _applied_to(history: History, call: ast.Call) -> list[ast.expr]:
    """Give what the lambda that a call stands in is applied to: g of `g.transform(lambda s: s.shift(1))`."""
    around = [n for n in history.parents_of(call) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
    return [n.func.value for n in around for a in n.args if isinstance(a, ast.Lambda) and call in ast.walk(a)
            if isinstance(n.func, ast.Attribute)]  # fmt: skip


def _live_columns(history: History, fit: Fit) -> set[str] | None:
    """Give the columns that the features are, or that other features are made of; None where they are not known."""
    value = fit.X.value if fit.X is not None else None
    if value is None or value.kind != "frame" or not value.columns:
        return None
    live = set(value.columns)
    for _, node in _code(history, fit):
        for part in ast.walk(node):
            read = isinstance(part, ast.Subscript | ast.Attribute) and isinstance(part.ctx, ast.Load)
            if read and isinstance(part, ast.Subscript) and isinstance(part.slice, ast.Constant):
                live.add(str(part.slice.value))
            elif read and isinstance(part, ast.Attribute):
                live.add(part.attr)
    return live


def _outermost(found: dict[tuple[int, Span], list[Lag]]) -> list[Lag]:
    """Leave out a call that is the beginning of a longer chain: `x.shift(1)` of `x.shift(1).rolling(3)`."""
    chains = {(cell, span[:2]): span for cell, span in sorted(found, key=lambda key: key[1][2:])}
    kept = [lag for (cell, span), lags in found.items() if chains[cell, span[:2]] == span for lag in lags]
    return sorted(kept, key=lambda lag: (lag.statement, lag.cell, lag.line, lag.column))
