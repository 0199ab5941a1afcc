"""Where code cuts a table by a literal: comparisons, slices, queries, by which column, and what the literal is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

ORDERED = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
MAKERS = {"Timestamp", "to_datetime", "datetime", "date", "datetime64"}
SHAPES = ("%Y-%m-%d", "%Y-%m", "%Y%m%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y/%m/%d", "%Y")
QUERY = re.compile(r"\b([^\W\d]\w*)\s*(?:<=?|>=?)\s*(@[^\W\d]\w*|'[^']*'|\"[^\"]*\")")


@dataclass(frozen=True)
class Use:
    """A place where code cuts: `limit` is a literal or the name of one; `anchor` is what it is compared with.

    How: "value" compares a column or an index, "label" slices by labels, "rows" counts rows.
    """

    how: Literal["value", "label", "rows"]
    limit: ast.expr
    anchor: ast.expr  # the column or index; of "rows" the table
    column: str = ""  # "" for an index
    within: ast.Constant | None = None  # the query that it stands in
    text: str = ""  # how it is written there
    low: bool = False  # whether rows from there on are taken
    keyword: str = ""  # of a call that leaves the limit to the default of this parameter
    call: ast.Call | None = None  # that call


def uses(tree: ast.AST) -> Iterator[Use]:
    """Find the cuts in some code, in its order."""
    nodes = [n for n in ast.walk(tree) if isinstance(n, ast.Compare | ast.Subscript | ast.Call)]
    for node in sorted(nodes, key=lambda n: (n.lineno, n.col_offset)):
        if isinstance(node, ast.Compare):
            yield from _of_compare(node)
        elif isinstance(node, ast.Subscript):
            yield from _of_slice(node)
        elif isinstance(node.func, ast.Attribute):
            yield from _of_call(node, node.func)


def _of_compare(node: ast.Compare) -> Iterator[Use]:
    parts = [node.left, *node.comparators]
    for left, operator, right in zip(parts, node.ops, parts[1:], strict=False):
        for anchor, limit in ((left, right), (right, left)):
            column = column_of(anchor)
            years = isinstance(operator, ast.Eq) and isinstance(literal_of(limit), int)
            if column is not None and (isinstance(operator, ORDERED) or years) and is_limit(limit):
                low = isinstance(operator, ast.Gt | ast.GtE) == (anchor is left) and not years
                yield Use("value", limit, anchor, column, low=low)
                break


def _of_slice(node: ast.Subscript) -> Iterator[Use]:
    by = node.slice.elts[0] if isinstance(node.slice, ast.Tuple) and node.slice.elts else node.slice
    if not isinstance(by, ast.Slice) or by.step is not None:
        return
    table = node.value
    if isinstance(table, ast.Attribute) and table.attr in ("loc", "iloc"):
        table = table.value
    for limit, low in ((by.lower, True), (by.upper, False)):
        if limit is not None and is_limit(limit):
            index = ast.Attribute(table, "index", ast.Load())
            kind = literal_of(limit)
            if isinstance(kind, str) or isinstance(limit, ast.Call):
                yield Use("label", limit, index, low=low)
            elif isinstance(limit, ast.Name | ast.Subscript) or (isinstance(kind, int) and kind > 0):
                yield Use("rows", limit, table, low=low)


def _of_call(node: ast.Call, function: ast.Attribute) -> Iterator[Use]:
    if function.attr == "query" and node.args and isinstance(node.args[0], ast.Constant):
        held = node.args[0]
        for found in QUERY.finditer(held.value) if isinstance(held.value, str) else ():
            limit = found[2]
            inner: ast.expr = ast.Name(limit[1:], ast.Load()) if limit[0] == "@" else ast.Constant(limit[1:-1])
            anchor = ast.Subscript(function.value, ast.Constant(found[1]), ast.Load())
            yield Use("value", inner, anchor, found[1], held, limit, low=">" in found[0])
    elif function.attr == "between" and len(node.args) == 2 and not node.keywords:
        column = column_of(function.value)
        for limit in node.args if column is not None else ():
            if is_limit(limit):
                yield Use("value", limit, function.value, column or "", low=limit is node.args[0])
    elif function.attr == "head" and len(node.args) == 1 and is_limit(node.args[0]):
        yield Use("rows", node.args[0], function.value)


def passed_uses(tree: ast.AST, functions: Mapping[str, ast.FunctionDef]) -> Iterator[Use]:
    """Find the literals that calls of the notebook's functions pass for a limit, or leave to its default."""
    for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)):
        function = functions.get(getattr(call.func, "id", ""))
        if function is None or any(isinstance(a, ast.Starred) for a in call.args) or function.args.posonlyargs:
            continue
        names = [a.arg for a in function.args.args]
        given = {**dict(zip(names, call.args, strict=False)), **{k.arg: k.value for k in call.keywords if k.arg}}
        kept = dict(zip(names[::-1], function.args.defaults[::-1], strict=False))
        for use in uses(function):
            name = use.limit.id if isinstance(use.limit, ast.Name) else ""
            limit = given.get(name) or kept.get(name)
            if name in names and limit is not None and is_limit(limit) and use.within is None:
                anchor = _Given(given).visit(ast.parse(ast.unparse(use.anchor), mode="eval")).body
                yield replace(use, limit=limit, anchor=anchor, keyword="" if name in given else name,
                              call=None if name in given else call)  # fmt: skip


class _Given(ast.NodeTransformer):
    def __init__(self, given: Mapping[str, ast.expr]) -> None:
        self.given = given

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Put what was passed for a parameter in its place."""
        return self.given.get(node.id, node)


def column_of(node: ast.expr) -> str | None:
    """Name the column that an expression gives, "" for an index, None for anything else.

    >>> column_of(ast.parse("df['day'].dt.year", mode="eval").body), column_of(ast.parse("df.index", mode="eval").body)
    ('day', '')
    """
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
        return node.slice.value
    if isinstance(node, ast.Attribute):
        inner = node.value
        if isinstance(inner, ast.Attribute) and inner.attr == "dt":
            return column_of(inner.value) if node.attr == "year" else None
        if node.attr == "values":
            return column_of(inner)
        return "" if node.attr == "index" else node.attr if isinstance(inner, ast.Name) else None
    return None


def is_limit(node: ast.expr) -> bool:
    """Say whether an expression is a literal limit, or the name or an element of what can be one."""
    if isinstance(node, ast.Subscript):
        return isinstance(node.value, ast.Name) and isinstance(node.slice, ast.Constant)
    return isinstance(node, ast.Name) or literal_of(node) is not None


def literal_of(node: ast.expr) -> str | int | datetime | None:
    """Give the literal text, number or time that an expression is.

    >>> literal_of(ast.parse("pd.Timestamp('2024-10-01')", mode="eval").body)
    datetime.datetime(2024, 10, 1, 0, 0)
    """
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str | int) and not isinstance(node.value, bool) else None
    if not isinstance(node, ast.Call) or node.keywords:
        return None
    name = getattr(node.func, "attr", "") or getattr(node.func, "id", "")
    given = [a.value for a in node.args if isinstance(a, ast.Constant)]
    if name not in MAKERS or len(given) != len(node.args) or not given:
        return None
    if len(given) == 1:
        return moment_of(given[0]) if isinstance(given[0], str) else None
    numbers = [n for n in given if isinstance(n, int)]
    try:
        return datetime(*numbers) if len(numbers) == len(given) else None  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def shape_of(text: str) -> str | None:
    """Give how a text writes a time, so that what is written so sorts as times do; None where it is none.

    >>> shape_of("2024-10"), shape_of("01/10/2024")
    ('%Y-%m', None)
    """
    for shape in SHAPES:
        try:
            if datetime.strptime(text, shape).strftime(shape) == text:
                return shape
        except ValueError:
            continue
    return None


def moment_of(text: str) -> datetime | None:
    """Give the time that a text says, where there is but one reading of it."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        shape = shape_of(text)
        if shape is None:
            return None
        found = datetime.strptime(text, shape)
    return found if found.tzinfo is None and 1900 <= found.year <= 2100 else None
