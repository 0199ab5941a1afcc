"""How far lags look back, and over whose rows: read from the code, as far as it says so."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Iterator

from trilho.adopt.plan import Lag, Lookback
from trilho.adopt.slice.history import called_name, calls_in
from trilho.adopt.slice.program import Program
from trilho.adopt.slice.shared import Unsliceable

ENDLESS = {
    "cumsum", "cumprod", "cummax", "cummin", "cumcount", "expanding", "ewm", "bfill", "backfill", "ffill", "pad",
    "interpolate", "resample", "asfreq", "rank", "merge_asof",
}  # fmt: skip
STEPS = ("shift", "diff", "pct_change")
KEYWORDS = {"shift": "periods", "diff": "periods", "pct_change": "periods", "rolling": "window"}


def look_back(program: Program) -> Lookback:
    """Say which past rows the lags of a notebook's choice look at.

    Raises Unsliceable where no number of past rows is enough: running sums, centred windows, rows that come later.
    """
    reading = _Reading(program)
    lags = program.choice.lags
    depths = {lag: reading.depth(lag) for lag in lags}
    total = max((depths[lag] + _beneath(lag, depths) for lag in lags), default=0)
    return Lookback(reading.entity(lags), total)


def _beneath(lag: Lag, depths: dict[Lag, int]) -> int:
    """Give how far the columns look back that a lag is itself made of."""
    under = [depth for other, depth in depths.items()
             if other.column and other.column != lag.column and repr(other.column) in lag.source]  # fmt: skip
    return max(under, default=0)


class _Reading:
    """A notebook's code, with what its names stood for."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.trees = [s.node for s in program.notebook.statements]
        self.values: dict[str, list[object]] = {}
        for statement in program.trace.statements:
            for name, value in statement.values.items():
                if value.literal is not None:
                    with contextlib.suppress(ValueError, SyntaxError):
                        self.values[name] = [ast.literal_eval(value.literal)]
        for loop in (n for tree in self.trees for n in ast.walk(tree) if isinstance(n, ast.For | ast.comprehension)):
            if isinstance(loop.target, ast.Name):
                self.values[loop.target.id] = self._items(loop.iter)

    def depth(self, lag: Lag) -> int:
        """Count the rows that a lag looks back, 0 where the code does not say."""
        node = ast.parse(lag.source, mode="eval").body
        for call in calls_in(node):
            centred = any(k.arg == "center" and ast.unparse(k.value) != "False" for k in call.keywords)
            if called_name(call) in ENDLESS or centred:
                raise self.refusal(lag, f"no number of past rows is enough for {called_name(call)}")
        return self._depth(node, lag)

    def _depth(self, node: ast.AST, lag: Lag) -> int:
        if isinstance(node, ast.Attribute | ast.Subscript):
            return self._depth(node.value, lag)
        if not isinstance(node, ast.Call):
            return 0
        name = called_name(node)
        inner = self._depth(node.func, lag)
        if name not in KEYWORDS:
            return inner
        counts = self._counts(node, name)
        if any(count < 0 for count in counts):
            raise self.refusal(lag, "it looks at rows that come later")
        return inner + max([*counts, 0]) - (1 if name == "rolling" and counts else 0)

    def _counts(self, call: ast.Call, name: str) -> list[int]:
        given = next((k.value for k in call.keywords if k.arg == KEYWORDS[name]), call.args[0] if call.args else None)
        if given is None:
            return [1] if name in STEPS else []
        try:
            found: list[object] = [ast.literal_eval(given)]
        except ValueError:
            found = self.values.get(given.id, []) if isinstance(given, ast.Name) else []
        return [value for value in found if isinstance(value, int)]

    def _items(self, node: ast.expr) -> list[object]:
        with contextlib.suppress(ValueError):
            return list(ast.literal_eval(node))
        if isinstance(node, ast.Name):
            known = self.values.get(node.id, [])
            return list(known[0]) if known and isinstance(known[0], list | tuple) else []
        if isinstance(node, ast.Call) and called_name(node) == "range":
            with contextlib.suppress(ValueError, TypeError):
                return list(range(*(ast.literal_eval(argument) for argument in node.args)))
        return []

    def entity(self, lags: tuple[Lag, ...]) -> tuple[str, ...]:
        """Give the columns whose rows all lags keep apart."""
        found = [self._keys(lag) for lag in lags]
        common = [name for name in (found[0] if found else ()) if all(name in keys for keys in found)]
        return tuple(common)

    def _keys(self, lag: Lag) -> list[str]:
        holding = next((tree for tree in self._simple() if lag.source in ast.unparse(tree)), None)
        groups = [call for call in calls_in(holding) if called_name(call) == "groupby"] if holding else []
        around = [g for g in groups if lag.source.startswith(ast.unparse(g))] or [
            call for call in groups if lag.source in ast.unparse(holding or call)
        ]
        if not around:
            root = ast.parse(lag.source, mode="eval").body
            names = {n.id for part in (root, holding) if part for n in ast.walk(part) if isinstance(n, ast.Name)}
            around = [
                call
                for tree in self._simple()
                if isinstance(tree, ast.Assign) and any(isinstance(t, ast.Name) and t.id in names for t in tree.targets)
                for call in calls_in(tree.value)
                if called_name(call) == "groupby"
            ]
        return self._texts(around[0]) if around else []

    def _texts(self, group: ast.Call) -> list[str]:
        given = next((k.value for k in group.keywords if k.arg == "by"), group.args[0] if group.args else None)
        if isinstance(given, ast.Name):
            known = self.values.get(given.id, [])
            return [str(v) for v in (known[0] if known and isinstance(known[0], list | tuple) else known)]
        parts = ast.walk(given) if given is not None else iter(())
        return [n.value for n in parts if isinstance(n, ast.Constant) and isinstance(n.value, str)]

    def _simple(self) -> Iterator[ast.stmt]:
        for tree in self.trees:
            for node in ast.walk(tree):
                if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Expr | ast.Return):
                    yield node

    def refusal(self, lag: Lag, why: str) -> Unsliceable:
        """Say why a lag cannot be looked up."""
        return Unsliceable(lag.source, lag.cell, lag.line, why)
