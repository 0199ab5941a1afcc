"""What calls do to rows, by their names: which drop rows or sort them, which learn from all of them."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable

from trilho.adopt.slice.program import Program
from trilho.adopt.trace import Value

DROPS = frozenset(
    {
        "drop_duplicates",
        "dropna",
        "head",
        "nlargest",
        "nsmallest",
        "query",
        "sample",
        "sort_index",
        "sort_values",
        "tail",
        "truncate",
    }
)
NEUTRAL = frozenset({"copy", "reset_index"})
UNEQUAL = frozenset({"TargetEncoder", "PLSRegression", "LeaveOneOutEncoder", "CatBoostEncoder"})
"""Estimators whose fit_transform gives the rows that they were fitted to other values than transform."""
WHOLE_COLUMN = frozenset({"minmax_scale", "robust_scale", "quantile_transform", "power_transform", "zscore", "boxcox"})
SUMMARY = frozenset(
    {
        "agg",
        "aggregate",
        "corr",
        "count",
        "cov",
        "describe",
        "first",
        "last",
        "max",
        "mean",
        "median",
        "min",
        "mode",
        "nunique",
        "pivot_table",
        "quantile",
        "size",
        "std",
        "sum",
        "unique",
        "value_counts",
        "var",
    }
)
STATISTICS = frozenset({"count", "max", "mean", "median", "min", "nunique", "size", "std", "sum", "var"})
Values = Callable[[ast.expr], Value | None]


def keyword(node: ast.expr, name: str) -> ast.expr | None:
    """Give the argument that a call was given by a keyword."""
    return next((k.value for k in node.keywords if k.arg == name), None) if isinstance(node, ast.Call) else None


def is_method(node: ast.expr, name: str) -> bool:
    """Say whether an expression is a call of a method of this name."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name


def assigns(node: ast.stmt, name: str) -> bool:
    """Say whether a statement binds this one name."""
    return (
        isinstance(node, ast.Assign)
        and len(node.targets) == 1
        and (isinstance(node.targets[0], ast.Name) and node.targets[0].id == name)
    )


def is_count(node: ast.expr) -> bool:
    """Say whether an expression is a number of rows or columns: `len(df)`, `df.shape[0]`."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id == "len"
    if isinstance(node, ast.Subscript):
        node = node.value
    return isinstance(node, ast.Attribute) and node.attr in ("shape", "size", "index")


def is_filter_call(node: ast.Call, value: Values) -> bool:
    """Say whether a call of a method drops rows or sorts them."""
    if not isinstance(node.func, ast.Attribute):
        return False
    word = node.func.attr
    if word == "drop":
        along = keyword(node, "axis")
        columns = keyword(node, "columns") is not None or (
            isinstance(along, ast.Constant) and along.value in (1, "columns")
        )
        return (
            not columns
            and bool(node.args or keyword(node, "index"))
            and not (
                len(node.args) > 1 and isinstance(node.args[1], ast.Constant) and node.args[1].value in (1, "columns")
            )
        )
    if word == "dropna":
        along = keyword(node, "axis")
        return not (isinstance(along, ast.Constant) and along.value in (1, "columns"))
    if word in ("head", "tail"):
        inner = value(node.func.value)
        return inner is not None and inner.kind in ("frame", "series")
    return word in DROPS


def row_selector(node: ast.Subscript) -> ast.expr | None:
    """Give what a subscript may choose rows by: a mask, or a slice of positions."""
    if (
        isinstance(node.slice, ast.Tuple)
        and isinstance(node.value, ast.Attribute)
        and node.value.attr in ("loc", "iloc")
    ):
        first = node.slice.elts[0]
        return None if isinstance(first, ast.Slice) and not (first.lower or first.upper) else first
    if isinstance(node.slice, ast.Constant | ast.List):
        return None
    return node.slice


def _receiver(node: ast.expr) -> ast.expr | None:
    """Give what one operation of a chain was done to."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.value
    if isinstance(node, ast.Subscript):
        inner = node.value
        return inner.value if isinstance(inner, ast.Attribute) and inner.attr in ("loc", "iloc") else inner
    return None


def is_neutral(node: ast.expr) -> bool:
    """Say whether an operation leaves rows as they are, but for their labels."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in NEUTRAL


def outermost_filter(node: ast.expr, is_filter: Callable[[ast.expr], bool]) -> ast.expr | None:
    """Give the last operation of a chain that drops rows, with the neutral ones after it."""
    current: ast.expr | None = node
    start: ast.expr | None = None
    while current is not None:
        if is_filter(current):
            return start if start is not None else current
        start = (start or current) if is_neutral(current) else None
        current = _receiver(current)
    return None


def unfiltered(node: ast.expr, is_filter: Callable[[ast.expr], bool]) -> ast.expr:
    """Give what a chain's filters were done to, without the filters and the neutral operations between them."""
    current = outermost_filter(node, is_filter)
    while current is not None and (is_filter(current) or is_neutral(current)):
        inner = _receiver(current)
        if inner is None:
            return current
        current = inner
    return current if current is not None else node


def only_sorts(node: ast.expr) -> bool:
    """Say whether a chain does nothing but sort.

    >>> only_sorts(ast.parse("df.sort_values('t').reset_index(drop=True)", mode="eval").body)
    True
    """
    current: ast.expr | None = node
    sorts = False
    while isinstance(current, ast.Call):
        word = current.func.attr if isinstance(current.func, ast.Attribute) else ""
        sorts |= word in ("sort_values", "sort_index")
        if word not in ("sort_values", "sort_index", *NEUTRAL):
            return False
        current = _receiver(current)
    return sorts and isinstance(current, ast.Name)


def has_own_work(node: ast.expr) -> bool:
    """Say whether an expression is more than a name."""
    return not isinstance(node, ast.Name)


def grouped(node: ast.Call) -> tuple[ast.expr, ast.expr, ast.expr | str, str | ast.Lambda] | None:
    """Read `table.groupby(key)[column].transform(how)`: a statistic's name, or a function of values and statistics."""
    function = node.func
    if not (isinstance(function, ast.Attribute) and len(node.args) == 1 and not node.keywords):
        return None
    how, of = node.args[0], function.value
    column: ast.expr | str
    if isinstance(of, ast.Subscript):
        group, column = of.value, of.slice
    elif isinstance(of, ast.Attribute):
        group, column = of.value, of.attr
    else:
        return None
    if not isinstance(group, ast.Call) or not is_method(group, "groupby") or len(group.args) != 1 or group.keywords:
        return None
    assert isinstance(group.func, ast.Attribute)
    if isinstance(how, ast.Constant) and how.value in STATISTICS:
        return group.func.value, group.args[0], column, str(how.value)
    if isinstance(how, ast.Attribute) and how.attr in STATISTICS:
        return group.func.value, group.args[0], column, how.attr
    if isinstance(how, ast.Lambda) and _is_row_by_row(how):
        return group.func.value, group.args[0], column, how
    return None


def statistic_of(node: ast.AST, name: str) -> str | None:
    """Give the statistic of `x.median()`."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id=of), attr=word), args=[], keywords=[]):
            return word if of == name and word in STATISTICS else None
    return None


def _is_row_by_row(node: ast.Lambda) -> bool:
    """Say whether a function of a group's values uses, beside statistics, each value for itself."""
    names = [a.arg for a in node.args.args]
    if len(names) != 1:
        return False
    return all(
        statistic_of(part, names[0]) is not None or part.func.attr in ("fillna", "clip", "abs", "round", "astype")
        for part in ast.walk(node.body)
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute)
    )


def learns_bins(node: ast.Call, bins: Value | None) -> bool:
    """Say whether a cut makes its edges itself: always for qcut, for cut where it is given a number."""
    word = node.func.attr if isinstance(node.func, ast.Attribute) else ""
    return word == "qcut" or (bins is not None and bins.kind == "scalar")


def is_bound_fit_transform(node: ast.expr) -> bool:
    """Say whether an expression is `encoder.fit_transform`, not called."""
    return isinstance(node, ast.Attribute) and node.attr == "fit_transform"


def factorized(node: ast.expr) -> tuple[ast.Call, ast.expr] | None:
    """Read `pd.factorize(x)`, or its first part."""
    call = node.value if isinstance(node, ast.Subscript) else node
    if isinstance(node, ast.Subscript) and not (isinstance(node.slice, ast.Constant) and node.slice.value == 0):
        return None
    if not is_method(call, "factorize") or not isinstance(call, ast.Call):
        return None
    assert isinstance(call.func, ast.Attribute)
    return call, call.args[0] if call.args else call.func.value


def summarises(node: ast.expr, value: Value | None) -> bool:
    """Say whether a chain ends in a summary of rows, and is not row by row for all that its length says."""
    if value is not None and value.aligned is not None and value.aligned.how != "length":
        return False
    current: ast.expr | None = node
    while current is not None:
        if isinstance(current, ast.Call) and isinstance(current.func, ast.Attribute) and current.func.attr in SUMMARY:
            along = keyword(current, "axis")
            return not (isinstance(along, ast.Constant) and along.value in (1, "columns"))
        current = current.value if isinstance(current, ast.Attribute) else _receiver(current)
    return False


def guard(test: ast.expr) -> str:
    """Give the container that `x not in NAME` asks.

    >>> guard(ast.parse("c not in MEDIANS", mode="eval").body)
    'MEDIANS'
    """
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.NotIn):
        inside = test.comparators[0]
        return inside.id if isinstance(inside, ast.Name) else ""
    return ""


def mask_assigned(node: ast.AST) -> ast.expr | None:
    """Give the mask of an assignment to some rows, of what was mapped or applied to them."""
    match node:
        case ast.Assign(
            targets=[ast.Subscript(value=ast.Attribute(attr="loc"), slice=ast.Tuple(elts=[mask, _]))], value=value
        ):
            words = {n.attr for n in ast.walk(value) if isinstance(n, ast.Attribute)}
            return mask if words & {"map", "apply"} else None
    return None


def words_asked(node: ast.Call) -> set[str]:
    """Give the names in the text that a table is asked by: `df.query("y > 0 and a < 3")`."""
    if not (is_method(node, "query") or is_method(node, "eval")):
        return set()
    texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    return {word for text in texts for word in re.findall(r"\w+", text)}


def column_of(node: ast.expr) -> str:
    """Give the column that an assignment's target is: `df["y"]`, `df.y`, `df.loc[:, "y"]`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Subscript):
        last = node.slice.elts[-1] if isinstance(node.slice, ast.Tuple) and node.slice.elts else node.slice
        return str(last.value) if isinstance(last, ast.Constant) else ""
    return ""


def with_keyword(text: str, argument: str) -> str:
    """Add an argument at the end of a call's text.

    >>> with_keyword("pd.qcut(x, 4)", "retbins=True")
    'pd.qcut(x, 4, retbins=True)'
    """
    inner = text.rstrip()[:-1].rstrip()
    return f"{inner}{'' if inner.endswith(('(', ',')) else ', '}{argument})"


def state_argument(program: Program, call: ast.Call) -> str:
    """Write the argument `state` as a call of a notebook function takes it."""
    node = program.definitions.get(call.func.id) if isinstance(call.func, ast.Name) else None
    given = node.args if isinstance(node, ast.FunctionDef) else None
    plain = given is not None and not (given.defaults or given.vararg or given.kwonlyargs or given.kwarg)
    return "state" if plain and not call.keywords else "state=state"
