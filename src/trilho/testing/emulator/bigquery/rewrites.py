"""What sqlglot leaves of GoogleSQL: the parts of a statement that DuckDB reads, and means something else by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlglot import exp
from sqlglot.optimizer.annotate_types import annotate_types

Tree = Any  # the base class of sqlglot's trees has another name in each of its versions
SCALES = {exp.DataType.Type.DECIMAL: 9, exp.DataType.Type.BIGDECIMAL: 18}


def named_structs(tree: Tree) -> Tree:
    """Give all structs of an array the names of the first, as `[STRUCT(1 AS a), (2)]` means; DuckDB wants them."""
    for array in tree.find_all(exp.Array):
        first, *rest = array.expressions or [None]
        if not isinstance(first, exp.Struct):
            continue
        names = [part.this for part in first.expressions if isinstance(part, exp.PropertyEQ)]
        for one in rest:
            values = [part.expression if isinstance(part, exp.PropertyEQ) else part for part in one.expressions]
            if isinstance(one, (exp.Struct, exp.Tuple)) and len(values) == len(names) == len(first.expressions):
                pairs = zip(names, values, strict=True)
                one.replace(exp.Struct(expressions=[_named(name, value) for name, value in pairs]))
        if isinstance(array.parent, exp.Unnest) and not array.parent.args.get("offset"):
            array.parent.set("explode_array", True)  # its fields are columns
    return annotate_types(tree, dialect="bigquery")


def widen_decimals(tree: Tree) -> None:
    """Give NUMERIC and BIGNUMERIC their scales; a type is shared between nodes, and so it is set anew in each."""
    for node in tree.walk():
        for key in ("to", "kind"):
            if isinstance(node.args.get(key), exp.DataType):
                copy = node.args[key].copy()
                for kind in copy.find_all(exp.DataType):
                    if kind.this in SCALES and not kind.expressions:
                        sizes = (exp.Literal.number(38), exp.Literal.number(SCALES[kind.this]))
                        kind.set("expressions", [exp.DataTypeParam(this=size) for size in sizes])
                node.set(key, copy)


def _named(name: Tree, value: Tree) -> Tree:
    return exp.PropertyEQ(this=name.copy(), expression=value.copy())


def _decimal(node: Tree) -> Tree:
    """1.5 is FLOAT64 in GoogleSQL; DuckDB would take it for a decimal."""
    if (
        node.is_string
        or not any(character in node.name for character in ".eE")
        or isinstance(node.parent, exp.DataTypeParam)
    ):
        return node
    return exp.cast(node.copy(), "double", dialect="duckdb") if not isinstance(node.parent, exp.Cast) else node


def _division(node: Tree) -> Tree:
    """A division by zero is an error in GoogleSQL."""
    divisor = node.expression
    if isinstance(divisor, exp.Literal) and divisor.name.strip("0."):
        return node
    zero = exp.EQ(this=exp.paren(divisor.copy()), expression=exp.Literal.number(0))
    error = exp.Anonymous(this="error", expressions=[exp.Literal.string("division by zero")])
    node.set("expression", exp.Case(ifs=[exp.If(this=zero, true=error)], default=divisor.copy()))
    return node


def _date(node: Tree) -> Tree:
    return exp.cast(node.copy(), "date")


def _extract(node: Tree) -> Tree:
    """Count days of a week from 1, Sunday, and weeks from Sundays."""
    if node.name.upper() == "DAYOFWEEK":
        return exp.paren(exp.Add(this=node.copy(), expression=exp.Literal.number(1)))
    if node.name.upper() == "WEEK":
        week = exp.Anonymous(this="strftime", expressions=[node.expression.copy(), exp.Literal.string("%U")])
        return exp.cast(week, "bigint", dialect="duckdb")
    if node.name.upper() == "ISOWEEK":
        return exp.Extract(this=exp.var("WEEK"), expression=node.expression.copy())
    if node.name.upper() in ("DATE", "TIME"):
        return exp.cast(node.expression.copy(), node.name, dialect="duckdb")
    return node


def _now(node: Tree) -> Tree:
    zone = node.this.copy() if isinstance(node.this, exp.Literal) else exp.Literal.string("UTC")
    return exp.AtTimeZone(this=exp.CurrentTimestamp(), zone=zone)


def _format(node: Tree) -> Tree:
    return exp.Anonymous(this="printf", expressions=[node.this, *node.expressions])


def _array_agg(node: Tree) -> Tree:
    """Do ARRAY_AGG([DISTINCT] x [IGNORE NULLS] [ORDER BY y] [LIMIT n]) with a filter and a slice."""
    inner = node.this
    if isinstance(node.parent, exp.IgnoreNulls):
        return node
    limit = inner.expression if isinstance(inner, exp.Limit) else None
    ordered = inner.this if limit is not None else inner
    node.set("this", ordered)
    if limit is None:
        return node
    return exp.Anonymous(this="list_slice", expressions=[node.copy(), exp.Literal.number(1), limit])


def _ignoring_nulls(node: Tree) -> Tree:
    inner = node.this
    if not isinstance(inner, exp.ArrayAgg):
        return node
    value = inner.this
    while isinstance(value, (exp.Limit, exp.Order, exp.Distinct)):
        value = value.this if not isinstance(value, exp.Distinct) else value.expressions[0]
    present = exp.Not(this=exp.Is(this=value.copy(), expression=exp.Null()))
    limited = inner.this if isinstance(inner.this, exp.Limit) else None
    inner.set("this", limited.this if limited is not None else inner.this)
    inner.set("nulls_excluded", None)
    kept = exp.Filter(this=inner.copy(), expression=exp.Where(this=present))
    if limited is None:
        return kept
    return exp.Anonymous(this="list_slice", expressions=[kept, exp.Literal.number(1), limited.expression])


def _date_trunc(node: Tree) -> Tree:
    """DATE_TRUNC of a date is a date, of a timestamp a timestamp: MACROS tells them apart."""
    unit = node.args["unit"]
    if isinstance(unit, exp.WeekStart) and unit.name.upper() != "MONDAY":
        return node  # it is written out
    if isinstance(unit, exp.WeekStart) or unit.name.upper() == "ISOWEEK":
        unit = exp.Literal.string("WEEK")
    return exp.Anonymous(this="trilho_date_trunc", expressions=[unit.copy(), node.this.copy()])


def _with_offset(node: Tree) -> Tree:
    """Count from 0 what UNNEST gives; WITH ORDINALITY counts from 1."""
    offset, alias = node.args.get("offset"), node.args.get("alias")
    if not offset or isinstance(node.parent, exp.Explode):
        return node
    given = alias.columns[0] if alias is not None and alias.columns else exp.to_identifier("_value")
    number = offset if isinstance(offset, exp.Identifier) else exp.to_identifier("offset")
    counted = node.copy()
    counted.set("alias", exp.TableAlias(columns=[given.copy()]))
    counted.set("offset", number.copy())
    less = exp.Sub(this=exp.column(number.copy()), expression=exp.Literal.number(1))
    inner = exp.select(exp.column(given.copy()), exp.alias_(less, number.copy())).from_(counted)
    return exp.Subquery(this=inner, alias=exp.TableAlias(this=exp.to_identifier("_unnested")))


def _timestamp(node: Tree) -> Tree:
    """Give a TIMESTAMP its time zone, which is UTC."""
    return exp.cast(node.copy(), "timestamptz", dialect="duckdb")


def _safe(node: Tree) -> Tree:
    """SAFE.F(x) is NULL where F(x) is an error."""
    return exp.Anonymous(this="TRY", expressions=[node.this.copy()])


MACROS = """
CREATE OR REPLACE TEMP MACRO trilho_date_trunc
    (unit, x DATE) AS CAST(date_trunc(unit, x) AS DATE),
    (unit, x TIMESTAMP) AS date_trunc(unit, x),
    (unit, x TIMESTAMPTZ) AS date_trunc(unit, x),
    (unit, x VARCHAR) AS CAST(date_trunc(unit, CAST(x AS DATE)) AS DATE);
CREATE OR REPLACE TEMP MACRO ieee_divide(a, b) AS CAST(a AS DOUBLE) / CAST(b AS DOUBLE);
CREATE OR REPLACE TEMP MACRO range_bucket(x, bounds) AS len(list_filter(bounds, lambda bound: bound <= x));
CREATE OR REPLACE TEMP MACRO array_first(list) AS list[1];
CREATE OR REPLACE TEMP MACRO array_last(list) AS list[-1];
CREATE OR REPLACE TEMP MACRO safe_add(a, b) AS TRY(a + b);
CREATE OR REPLACE TEMP MACRO safe_subtract(a, b) AS TRY(a - b);
CREATE OR REPLACE TEMP MACRO safe_multiply(a, b) AS TRY(a * b);
CREATE OR REPLACE TEMP MACRO safe_negate(a) AS TRY(-a);
"""
"""Functions of GoogleSQL that DuckDB has not, or that mean something else by what they are given."""

REWRITES: dict[type[Tree], Callable[[Tree], Tree]] = {
    exp.Literal: _decimal, exp.Div: _division, exp.DateAdd: _date, exp.DateSub: _date,
    exp.Extract: _extract, exp.DateTrunc: _date_trunc, exp.Unnest: _with_offset,
    exp.SafeFunc: _safe, exp.StrToTime: _timestamp, exp.UnixToTime: _timestamp,
    exp.CurrentDatetime: _now, exp.Format: _format, exp.ArrayAgg: _array_agg, exp.IgnoreNulls: _ignoring_nulls,
}  # fmt: skip


def rewritten(node: Tree) -> Tree:
    """Give what stands for a node, the node itself where DuckDB means the same by it."""
    rewrite = REWRITES.get(type(node))
    return rewrite(node) if rewrite else node
