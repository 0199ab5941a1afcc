"""Calls and subscripts of tables: reading, columns, filters, statistics, windows."""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import TYPE_CHECKING

from trilho.adopt.doctor.flow.events import Split
from trilho.adopt.doctor.flow.names import last
from trilho.adopt.doctor.flow.values import NOTHING, ColumnMade, Side, Value, join, onto

if TYPE_CHECKING:
    from trilho.adopt.doctor.flow.calls import Given
    from trilho.adopt.doctor.flow.interpreter import Walker

SILENT = frozenset({"print", "display", "len", "range", "plot", "hist", "show", "head_", "info", "isinstance", "type",
                    "to_csv", "to_parquet", "to_excel", "to_sql", "to_gbq", "savefig", "figure",
                    "subplots"})  # fmt: skip
READERS = frozenset({"to_dataframe", "fetchdf", "fetch_df", "toPandas", "loadtxt", "genfromtxt", "read"})
STATISTICS = frozenset({"mean", "median", "std", "var", "min", "max", "sum", "quantile", "mode", "skew", "kurt", "sem",
                        "mad", "agg", "aggregate", "describe", "corr", "corrwith", "cov", "value_counts", "nanmean",
                        "nanmedian", "nanstd", "percentile", "average", "nanpercentile", "pivot_table", "ptp",
                        "mutual_info_classif", "mutual_info_regression", "f_classif", "chi2", "f_regression",
                        "zscore"})  # fmt: skip
OVER_ROWS = frozenset({"zscore", "scale", "minmax_scale", "robust_scale", "quantile_transform", "power_transform"})
PAST = frozenset({"shift", "diff", "pct_change", "cumcount"})
WINDOWS = frozenset({"rolling", "expanding", "ewm", "resample"})
RUNNING = frozenset({"cumsum", "cummax", "cummin", "cumprod"})
MAPPINGS = frozenset({"to_dict", "items", "keys", "tolist", "item", "get"})


def subscript(walker: Walker, node: ast.Subscript) -> Value:
    """Give `x[...]`: columns, rows, or one side of a split."""
    base: ast.expr = node.value
    by_label = isinstance(base, ast.Attribute) and base.attr in ("loc", "iloc", "at", "iat")
    held = walker.value(base.value if by_label and isinstance(base, ast.Attribute) else base)
    index, columns = node.slice, None
    if isinstance(index, ast.Tuple) and len(index.elts) == 2 and (by_label or held.array):
        index, columns = index.elts
    if held.predicted or (held.parts is not None and not held.sides and isinstance(index, ast.Constant)):
        return _part(held, index)
    narrowed = held if columns is None else _columns(walker, held, columns)
    if node in walker.halves:
        return _half(walker, node, narrowed)
    if isinstance(index, ast.Slice):
        return replace(narrowed, parts=None)
    key = walker.value(index)
    if not held.sides and not held.added and held.known is None:
        return replace(join(held, key), parts=None, mask=False)
    if key.mask:
        return replace(narrowed, measured=narrowed.measured | key.measured)
    if key.sides and not key.statistics and key.role in ("train", "test", "fold"):
        return replace(narrowed, sides=key.sides, statistics=frozenset())
    if by_label and columns is not None:
        return narrowed
    return _columns(walker, held, index)


def _part(held: Value, index: ast.expr) -> Value:
    if (
        held.parts
        and isinstance(index, ast.Constant)
        and isinstance(index.value, int)
        and index.value < len(held.parts)
    ):
        return held.parts[index.value]
    return replace(held, parts=None)


def _half(walker: Walker, node: ast.expr, value: Value) -> Value:
    """Give one side; masks of one table that were told apart by name have sides of their own."""
    half = walker.halves[node]
    if half != "train":
        of = replace(value, parts=None)
        walker.events.splits.append(Split(node, walker.place(node), "rows", of, "", walker.statement))
    side = walker.side(value, "train" if half == "train" else "test", "val" if half == "val" else "")
    return replace(value, sides=side, statistics=frozenset(), parts=None)


def _columns(walker: Walker, held: Value, index: ast.expr) -> Value:
    """Give some of a table's columns: one by its name, or several by a list."""
    if isinstance(index, ast.Slice):
        return held if index.lower is None and index.upper is None else replace(held, opaque=True, known=None)
    key = walker.value(index)
    learnt = frozenset(one for one in key.statistics | key.learnt if one.tables & held.tables)
    held = replace(held, learnt=held.learnt | learnt, measured=held.measured | key.measured)
    if key.texts is not None:
        return column(walker, held, key.texts) if key.parts is None else held.only(key.texts)
    if key.but is not None:
        return held.without(key.but)
    return replace(held, opaque=True)


def column(walker: Walker, held: Value, names: frozenset[str]) -> Value:
    """Give one column, or one of several where the name is a loop's."""
    made = [walker.events.columns[name] for name in names if name in walker.events.columns and name in held.added]
    return replace(held, uses=names, column=next(iter(names)) if len(names) == 1 else "", known=None, parts=None,
                   added=frozenset(), dropped=frozenset(), opaque=True,
                   learnt=held.learnt.union(*(one.learnt for one in made)))  # fmt: skip


def silent(walker: Walker, given: Given) -> Value | None:
    """Handle what shows or writes, and gives nothing."""
    return NOTHING if last(given.name) in SILENT or _method(given) in SILENT else None


def _method(given: Given) -> str:
    function = given.node.func
    return function.attr if isinstance(function, ast.Attribute) else ""


def read(walker: Walker, given: Given) -> Value | None:
    """Handle what reads a table."""
    name, word = last(given.name), _method(given)
    if name.startswith(("read_", "scan_")) or name in READERS or word in READERS or word == "df" or (
        given.name.startswith("sklearn.datasets.") or (given.name == "numpy.load")
    ):  # fmt: skip
        if word in READERS and given.held.sides:
            return None
        walker.events.times |= (given.words.get("parse_dates") or NOTHING).texts or frozenset()
        table = walker.new_table()
        if given.constant("return_X_y") is True or name.startswith("make_"):
            return Value(parts=(replace(table, opaque=True), replace(table, opaque=True)))
        return table
    return None


def framed(walker: Walker, given: Given) -> Value | None:
    """Handle pandas' own functions."""
    if not given.name.startswith(("pandas.", "polars.")) and given.name not in ("concat", "merge", "DataFrame"):
        return None
    first = given.values[0] if given.values else NOTHING
    match last(given.name):
        case "DataFrame":
            return _new_frame(walker, given)
        case "to_datetime":
            walker.events.times |= first.uses
            return first
        case "concat":
            return replace(first, parts=None)
        case "merge":
            return _merged(first, given.get(1, "right") or NOTHING) if given.values else NOTHING
        case "get_dummies":
            return first
        case "qcut" | "cut" if first.role == "table":
            learnt = walker.statistic(given.node, last(given.name), first, None)
            counted = last(given.name) == "qcut" or isinstance(given.find(1, "bins"), ast.Constant)
            return replace(first, learnt=first.learnt | {learnt}) if counted else first
    return None


def _new_frame(walker: Walker, given: Given) -> Value:
    source = given.find(0, "data")
    if isinstance(source, ast.Dict):
        values = {key.value: walker.value(value) for key, value in zip(source.keys, source.values, strict=True)
                  if isinstance(key, ast.Constant) and isinstance(key.value, str)}  # fmt: skip
        whole = join(*values.values()) if values else NOTHING
        for name, value in values.items():
            walker.events.columns[name] = ColumnMade(value.uses, value.learnt, walker.place(source))
        sides = whole.sides or walker.new_table().sides
        return Value(sides, known=frozenset(values), added=frozenset(values), opaque=False, predicted=whole.predicted)
    index = given.get(-1, "index")
    if source is None and index is not None:
        return Value(index.sides, known=frozenset(), opaque=False)
    first = given.get(0, "data")
    return replace(first, array=False, parts=None) if first is not None else Value(known=frozenset(), opaque=False)


def _merged(left: Value, right: Value) -> Value:
    more = right.added | (right.known or frozenset())
    both = onto(left, replace(right, uses=frozenset(), added=frozenset()))
    if left.known is not None and right.known is None:
        both = replace(both, known=None)
    return replace(both.with_columns(more), uses=left.uses, parts=None)


def windowed(walker: Walker, given: Given) -> Value | None:
    """Handle what looks at other rows in their order: the past is no statistic, and no part of the row's own truth."""
    word = _method(given)
    held = given.held
    if not held.sides:
        return None
    if word in PAST:
        periods = given.find(0, "periods")
        ahead = isinstance(periods, ast.UnaryOp) and isinstance(periods.op, ast.USub)
        if ahead or word in ("diff", "pct_change"):
            return replace(held, grouped=False)
        return replace(held, uses=frozenset(), column="", grouped=False)
    if word in WINDOWS:
        return replace(held, windowed=True, grouped=False)
    if word in RUNNING:
        return replace(held, grouped=False, column="")
    if held.windowed:
        return replace(held, windowed=word == "groupby", column="")
    if word == "groupby":
        return replace(held, grouped=True)
    return None


def aggregated(walker: Walker, given: Given) -> Value | None:
    """Handle statistics: of a table's rows as a whole, by group, or brought back to every row."""
    word, held = _method(given), given.held
    root: ast.expr | None = given.node.func
    if not held.sides:
        word, held = last(given.name), given.values[0] if given.values else NOTHING
        root = given.node.args[0] if given.node.args else None
        if given.name == word and word not in STATISTICS:
            return None
    if word == "transform" and held.grouped:
        return _spread(walker, given, held)
    if held.sides and word in OVER_ROWS:
        learnt = walker.statistic(given.node, word, held, root) if held.role == "table" else None
        return replace(held, learnt=held.learnt | ({learnt} if learnt else frozenset()), column="")
    if word not in STATISTICS or not held.sides or _by_row(given):
        return None
    if held.mask and not held.uses:
        return None
    found = frozenset({walker.statistic(given.node, word, _seen(held, given), root)} if held.role == "table" else ())
    found |= held.statistics
    if held.grouped or word in ("value_counts", "pivot_table", "describe", "corr"):
        walker.tables += 1
        side = Side("table", walker.tables, frozenset({walker.tables}))
        return Value(frozenset({side}), statistics=found, uses=frozenset(), opaque=False, added=held.added)
    return Value(statistics=found)


def _seen(held: Value, given: Given) -> Value:
    """Give the value with the columns that a statistic of it sees: those named in its arguments, else its own."""
    named = frozenset(
        node.value for argument in [*given.node.args, *(word.value for word in given.node.keywords)]
        for node in ast.walk(argument) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )  # fmt: skip
    return held if held.uses else replace(held, uses=named)


def _by_row(given: Given) -> bool:
    node = given.word_nodes.get("axis") or (given.node.args[0] if given.node.args else None)
    return isinstance(node, ast.Constant) and node.value in (1, "columns") and not isinstance(node.value, bool)


def _spread(walker: Walker, given: Given, held: Value) -> Value:
    """Handle `groupby(...).transform(how)`."""
    how = given.find(0, "func")
    text = ast.unparse(how) if how is not None else ""
    if any(word in text for word in (*PAST, *WINDOWS, *RUNNING, "rank")):
        past = "shift" in text
        return replace(held, grouped=False, column="", uses=frozenset() if past else held.uses)
    learnt = frozenset({walker.statistic(given.node, f"transform({text})", held, given.node.func)}
                       if held.role == "table" else ())  # fmt: skip
    return replace(held, grouped=False, learnt=held.learnt | learnt, uses=frozenset(), column="")


def columnar(walker: Walker, given: Given) -> Value | None:
    """Handle methods that change which columns a table has."""
    held, function = given.held, given.node.func
    word = _method(given)
    if not (held.sides or held.known is not None) or not isinstance(function, ast.Attribute):
        return None
    changed: Value | None = None
    match word:
        case "drop":
            changed = _dropped(walker, given, held)
        case "assign":
            changed = _assigned(walker, given, held)
        case "rename":
            changed = _renamed(walker, given, held)
        case "pop":
            names = (given.get(0, "item") or NOTHING).texts or frozenset()
            taken = column(walker, held, names)
            if isinstance(function.value, ast.Name):
                walker.scope.change(function.value.id, held.without(names))
            return taken
        case "merge" | "join":
            changed = _merged(held, given.get(0, "right", "other") or NOTHING)
        case "select_dtypes" | "filter" | "nlargest" | "stack" | "unstack":
            changed = replace(held, opaque=True, known=None)
        case "apply" | "pipe" | "map" | "applymap":
            return _applied(walker, given, held)
        case "to_numpy":
            return replace(held, array=True)
        case "query" | "sample" | "head" | "tail" if given.node in walker.halves:
            return _half(walker, given.node, held)
        case _ if word in MAPPINGS and held.statistics:
            return replace(held, sides=frozenset(), added=frozenset(), known=None)
        case _ if given.node in walker.halves:
            return _half(walker, given.node, held)
    if changed is not None and given.constant("inplace") is True and isinstance(function.value, ast.Name):
        walker.scope.change(function.value.id, changed)
        return NOTHING
    if given.constant("inplace") is True and isinstance(function.value, ast.Name):
        walker.scope.change(function.value.id, onto(held, *given.all))
        return NOTHING
    return changed


def _dropped(walker: Walker, given: Given, held: Value) -> Value:
    if given.node in walker.halves:
        return _half(walker, given.node, held)
    axis = given.word_nodes.get("axis") or (given.node.args[1] if len(given.node.args) > 1 else None)
    by_column = isinstance(axis, ast.Constant) and axis.value in (1, "columns")
    named = given.words.get("columns") or ((given.get(0, "labels") or NOTHING) if by_column else None)
    if named is None:
        return held
    return held.without(named.texts) if named.texts is not None else replace(held, opaque=True)


def _assigned(walker: Walker, given: Given, held: Value) -> Value:
    for name, node in given.word_nodes.items():
        value = walker.enter(node, {node.args.args[0].arg: held}, []) if isinstance(node, ast.Lambda) and (
            node.args.args) else given.words[name]  # fmt: skip
        met = frozenset(one for one in value.statistics if one.tables & held.tables)
        walker.events.columns[name] = ColumnMade(value.uses, value.learnt | met, walker.place(node), ast.unparse(node))
    return held.with_columns(given.word_nodes)


def _renamed(walker: Walker, given: Given, held: Value) -> Value:
    node = given.word_nodes.get("columns")
    for old, new in zip(node.keys, node.values, strict=True) if isinstance(node, ast.Dict) else ():
        if isinstance(old, ast.Constant) and isinstance(new, ast.Constant):
            before, after = str(old.value), str(new.value)
            if before in walker.events.columns:
                walker.events.columns[after] = walker.events.columns[before]
            elif before in walker.events.target:
                walker.events.target |= {after}
            held = held.without({before}).with_columns({after} if before in walker.events.columns else ())
    return held


def _applied(walker: Walker, given: Given, held: Value) -> Value:
    """Handle `apply`, `map` and `pipe` of a notebook function, a lambda or a mapping."""
    node = given.find(0, "func", "arg")
    function = node
    if isinstance(node, ast.Name):
        located = walker.functions.get(node.id)
        function = located.node if located is not None else walker.lambdas.get(node.id)  # type: ignore[assignment]
    if isinstance(function, ast.Lambda | ast.FunctionDef) and function.args.args:
        made = walker.enter(function, {function.args.args[0].arg: held}, [])
        return replace(made, parts=None, grouped=False) if made.sides else replace(onto(held, made), grouped=False)
    return replace(onto(held, *given.all), grouped=False)
