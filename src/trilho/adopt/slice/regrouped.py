"""Rows that are made of many: a customer out of invoice lines, a day out of hours. No row as read is one of them."""

from __future__ import annotations

import ast

from trilho.adopt.plan import Fallback
from trilho.adopt.slice.history import History, Place, argument_of, called_name, calls_in
from trilho.adopt.slice.holdout import input_code
from trilho.adopt.slice.origin import Source, path
from trilho.adopt.trace import Fit, Read

GROUPS = {"groupby", "pivot_table", "pivot", "crosstab", "resample", "drop_duplicates", "value_counts"}
SAME_ROWS = {"transform", "shift", "cumsum", "cumcount", "rank", "ffill", "bfill", "diff", "rolling", "head", "tail",
             "sample", "filter", "nth"}  # fmt: skip


def find_regrouped(history: History, fit: Fit, main: Read) -> Fallback | None:
    """Find where the rows that a model is fitted to stop being rows of the table that was read.

    None where they are its rows, or where the code does not tell.
    """
    if main.function.endswith("RowIterator"):
        return Fallback("rows", main.cell, main.span[0], "they are read one by one, and made a table of later")
    aligned = fit.X.value.aligned if fit.X is not None else None
    given = input_code(history, fit)
    if given is None or (aligned is not None and aligned.how != "length"):
        return None
    for source in path(history, *given):
        keys = _grouped_by(history, source)
        seen = history.seen(source.node, source.place)
        if keys is None or seen is None or seen.value.kind not in ("frame", "series") or seen.value.aligned is not None:
            continue
        rows, whole = seen.value.rows or 0, main.value.rows or 0
        if 0 < rows < whole:
            by = f" by {keys}" if keys else ""
            reason = f"its {rows} rows are groups{by} of the {whole} that were read: no row as read can be scored"
            return Fallback(_name_of(history, source.place), source.place.cell, source.node.lineno, reason)
    return None


def _grouped_by(history: History, source: Source) -> str | None:
    """Give what a call gathers rows by; None for what gathers none."""
    node = source.node
    if not isinstance(node, ast.Call) or called_name(node) in SAME_ROWS:
        return None
    chain = [call for call in calls_in(node.func) if called_name(call) in GROUPS - {"drop_duplicates"}]
    chain += [node] if called_name(node) in {"pivot_table", "pivot", "crosstab", "value_counts"} else []
    if not chain:
        chain = [s.node for s in list(path(history, node, source.place))[1:4]
                 if isinstance(s.node, ast.Call) and called_name(s.node) == "groupby"]  # fmt: skip
    if not chain or called_name(node) == "groupby":
        return None
    by = argument_of(chain[0], 0, "by", "index", "rule")
    keys = [n.value for n in ast.walk(by) if isinstance(n, ast.Constant)] if by is not None else []
    return ", ".join(str(key) for key in keys)


def _name_of(history: History, place: Place) -> str:
    did = history.did.get(place.statement)
    tables = [name for name in did.writes if did.values[name].kind in ("frame", "series")] if did is not None else []
    return tables[0] if tables else "the model's input"
