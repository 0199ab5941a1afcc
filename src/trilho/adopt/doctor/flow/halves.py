"""Tables taken apart by masks, slices and samples: which subset is the train side, which the test side."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from trilho.adopt.doctor.flow.names import VALIDATION, side_of

Half = Literal["train", "test", "val"]
BEFORE = (ast.Lt, ast.LtE)
AFTER = (ast.Gt, ast.GtE)


@dataclass(frozen=True)
class Subset:
    """`name = base[...]`: some rows of a table, under a name of their own."""

    name: str
    node: ast.expr
    base: str
    rule: str  # what selects; equal for two halves of one cut
    half: Half | None  # as the selection itself tells: before the cut is train


def halves(statements: Iterable[ast.stmt], train: Iterable[str] = (), test: Iterable[str] = ()) -> dict[ast.expr, Half]:
    """Find pairs of subsets of one table that are a train and a test side.

    They are taken for such where both halves of one cut are kept, or their names say so; `train` and `test` are names
    that are known.
    """
    groups: dict[str, list[Subset]] = defaultdict(list)
    masks: dict[str, ast.expr] = {}
    for statement in _every(statements):
        for name, value in _assigned(statement):
            if isinstance(value, ast.Compare | ast.UnaryOp | ast.BinOp):
                masks[name] = value
            subset = _subset(name, value, masks)
            if subset is not None:
                groups[subset.base].append(subset)
    named = dict.fromkeys(train, "train") | dict.fromkeys(test, "test")
    found: dict[ast.expr, Half] = {}
    for group in groups.values():
        found |= _pairs(group, named)
    return found


def _every(statements: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in statements:
        for node in ast.walk(statement):
            if isinstance(node, ast.stmt):
                yield node


def _assigned(node: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):  # a function's two results
        yield from ((f"result {at}", value) for at, value in enumerate(node.value.elts))
    if not isinstance(node, ast.Assign) or len(node.targets) != 1:
        return
    target, value = node.targets[0], node.value
    if isinstance(target, ast.Name):
        yield target.id, value
    elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        for one, of in zip(target.elts, value.elts, strict=True):
            if isinstance(one, ast.Name):
                yield one.id, of


def _subset(name: str, value: ast.expr, masks: dict[str, ast.expr]) -> Subset | None:
    """Read `t[m]`, `t.loc[m, cols]`, `t[:n]`, `t.query(q)`, `t.head(n)`, `t.sample(..)`, `t.drop(a.index)`."""
    node = value
    while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in (
        "copy", "reset_index", "drop_duplicates", "sort_values", "dropna",
    ):  # fmt: skip
        node = node.func.value
    if isinstance(node, ast.Subscript):
        return _indexed(name, node, masks)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "sample":
            return Subset(name, node, ast.dump(node.func.value), "sample", "train")
        return None
    base, first = ast.dump(node.func.value), node.args[0]
    match node.func.attr:
        case "head" | "tail":
            return Subset(name, node, base, "position", "train" if node.func.attr == "head" else "test")
        case "query":
            return Subset(name, node, base, "query", None)
        case "sample":
            return Subset(name, node, base, "sample", "train")
        case "drop" if isinstance(first, ast.Attribute) and first.attr == "index":
            return Subset(name, node, base, "sample", "test")
    return None


def _indexed(name: str, node: ast.Subscript, masks: dict[str, ast.expr]) -> Subset | None:
    base, index = node.value, node.slice
    if isinstance(base, ast.Attribute) and base.attr in ("loc", "iloc"):
        base = base.value
    while isinstance(base, ast.Attribute) and base.attr in ("values",):
        base = base.value
    table = ast.dump(_table(base))
    if isinstance(index, ast.Tuple) and index.elts:
        index = index.elts[0]
    if isinstance(index, ast.Slice):
        if index.lower is not None and index.upper is not None:
            return Subset(name, node, table, "position", None)
        if index.lower is None and index.upper is None:
            return None
        return Subset(name, node, table, "position", "train" if index.lower is None else "test")
    negated = isinstance(index, ast.UnaryOp) and isinstance(index.op, ast.Invert)
    inner = index.operand if negated and isinstance(index, ast.UnaryOp) else index
    if isinstance(inner, ast.Name):
        if inner.id not in masks and not negated:
            return None
        half = _half(masks[inner.id]) if inner.id in masks else "train"
        return Subset(name, node, table, f"mask {inner.id}", _other(half) if negated else half)
    if isinstance(inner, ast.Compare) and len(inner.ops) == 1:
        half = _half(inner)
        return Subset(name, node, table, f"cut {ast.dump(inner.left)}", _other(half) if negated else half)
    if isinstance(inner, ast.BoolOp | ast.BinOp | ast.Call):
        return Subset(name, node, table, "mask", None)
    return None


def _table(base: ast.expr) -> ast.expr:
    """Give `df` of `df["y"]`: X and y are subset side by side."""
    if isinstance(base, ast.Subscript) and isinstance(base.slice, ast.Constant | ast.List):
        return base.value
    return base


def _half(node: ast.expr) -> Half | None:
    if not isinstance(node, ast.Compare) or len(node.ops) != 1:
        return None
    if isinstance(node.ops[0], BEFORE):
        return "train"
    return "test" if isinstance(node.ops[0], AFTER) else None


def _other(half: Half | None) -> Half | None:
    return None if half is None else "test" if half == "train" else "train"


def _pairs(group: list[Subset], named: dict[str, str]) -> dict[ast.expr, Half]:
    """Name the halves within the subsets of one table; a lone subset is a filter."""
    told: dict[ast.expr, Half] = {}
    for subset in group:
        word = named.get(subset.name) or side_of(subset.name)
        if word == "train" or word == "test":
            told[subset.node] = "train" if word == "train" else "val" if VALIDATION.search(subset.name) else "test"
    if len(set(told.values())) > 1 and "train" in told.values():
        return told
    by_rule: dict[str, dict[Half, Subset]] = defaultdict(dict)
    for subset in group:
        if subset.half is not None and subset.rule not in ("mask", "query"):
            by_rule[subset.rule].setdefault(subset.half, subset)
    for both in by_rule.values():
        if len(both) == 2 and both["train"].name != both["test"].name:
            return {subset.node: half for half, subset in both.items()}
    return {}
