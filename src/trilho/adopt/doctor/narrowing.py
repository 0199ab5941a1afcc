"""The training rows, worked out before the notebook splits: by its own split, brought forward."""

from __future__ import annotations

import ast
import builtins
from dataclasses import dataclass

from trilho.adopt.dataflow import flow
from trilho.adopt.doctor.flow.events import Split
from trilho.adopt.doctor.flow.halves import halves
from trilho.adopt.doctor.subject import Subject

NAME = "train_rows"
CHANGES_ROWS = frozenset({"dropna", "drop_duplicates", "sort_values", "sort_index", "sample", "query", "merge",
                          "explode", "head", "tail", "nlargest", "nsmallest", "concat", "truncate", "melt", "stack",
                          "iloc", "shuffle"})  # fmt: skip
POSITIONAL = frozenset({"test_size", "train_size", "random_state", "shuffle"})


class Unable(Exception):
    """The reason why something can't be done in place."""


@dataclass(frozen=True)
class Narrowing:
    """Lines that work the training rows out, and how a table is narrowed to them."""

    lines: tuple[str, ...]
    way: str  # ".iloc[{}]"

    def of(self, name: str, array: bool = False) -> str:
        """Give a table's training rows as source.

        >>> Narrowing((), ".loc[train_rows]").of("df")
        'df.loc[train_rows]'
        """
        inside = self.way[self.way.index("[") :]
        return f"{name}{inside if array and self.way.startswith('.iloc') else self.way}"


def narrowing(subject: Subject, first: int) -> Narrowing:
    """Bring the notebook's split forward to before a statement. Raises Unable with the reason."""
    splits = [split for split in subject.events.splits if split.kind != "folds"]
    if not splits:
        raise Unable(
            "the rows are split by cross validation only: make it a step of a Pipeline, fitted anew in each fold"
        )
    split = splits[0]
    if split.kind == "random":
        return _random(subject, first, split)
    return _cut(subject, first, split)


def _random(subject: Subject, first: int, split: Split) -> Narrowing:
    call = split.node
    if not isinstance(call, ast.Call):
        raise Unable("the split is no call")
    words = {word.arg: word.value for word in call.keywords}
    if "random_state" not in words and not _is(words.get("shuffle"), False):
        raise Unable("the split has no seed: give train_test_split a random_state first")
    table = _table(subject, first)
    _same_rows(subject, first, split.statement)
    given = [f"{name}={_early(subject, value, first)}" for name, value in words.items() if name in POSITIONAL]
    if set(words) - POSITIONAL - {"stratify"} or len(words) != len(call.keywords):
        raise Unable("the split's arguments can't be told before it")
    stratify = words.get("stratify")
    if stratify is not None and not _is(stratify, None):
        column = next(iter(subject.events.target)) if subject.events.named else ""
        made = subject.events.columns.get(column)
        if not column or made is not None:
            raise Unable("the split is stratified by what is worked out later")
        given.append(f"stratify={table}[{column!r}]")
    lines = [f"{NAME} = train_test_split(range(len({table})), {', '.join(given)})[0]"]
    if not _bound_before(subject, "train_test_split", first):
        lines.insert(0, "from sklearn.model_selection import train_test_split")
    if ast.unparse(call.func) != "train_test_split":
        lines = ["from sklearn.model_selection import train_test_split", lines[-1]]
    return Narrowing(tuple(lines), f".iloc[{NAME}]")


def _cut(subject: Subject, first: int, split: Split) -> Narrowing:
    """Bring a mask or a slice forward: the condition of the train side, with what it is made of."""
    train = [node for node, half in halves([one.node for one in subject.statements]).items() if half == "train"]
    if not train:
        raise Unable("the condition of the train side was not found")
    node = train[0]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("query", "head"):
        _same_rows(subject, first, split.statement)
        return Narrowing((), f".{node.func.attr}({', '.join(_early(subject, a, first) for a in node.args)})")
    if not isinstance(node, ast.Subscript):
        raise Unable("the split is drawn at random: draw it before the first statistic")
    index: ast.expr = node.slice.elts[0] if isinstance(node.slice, ast.Tuple) else node.slice
    if isinstance(index, ast.Slice):
        _same_rows(subject, first, split.statement)
        low = _early(subject, index.lower, first) if index.lower is not None else ""
        high = _early(subject, index.upper, first) if index.upper is not None else ""
        by_label = isinstance(node.value, ast.Attribute) and node.value.attr == "loc"
        return Narrowing((), f".{'loc' if by_label else 'iloc'}[{low}:{high}]")
    condition = _early(subject, index, first)
    return Narrowing((f"{NAME} = {condition}",), f".loc[{NAME}]")


def _early(subject: Subject, node: ast.expr | None, first: int, depth: int = 0) -> str:
    """Give an expression's source at an earlier statement: names bound since are written out."""
    if node is None:
        return ""
    if depth > 6:
        raise Unable("the split depends on too much that comes later")
    copy = ast.parse(ast.unparse(node), mode="eval").body

    class Inline(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            if _bound_before(subject, node.id, first) or hasattr(builtins, node.id):
                return node
            value = _definition(subject, node.id)
            return ast.parse(_early(subject, value, first, depth + 1), mode="eval").body

    made = ast.unparse(Inline().visit(copy))
    _columns_there(subject, made, first)
    return made


def _definition(subject: Subject, name: str) -> ast.expr:
    for one in subject.statements:
        if isinstance(one.node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in one.node.targets):
            return one.node.value
    raise Unable(f"the split depends on `{name}`, which is worked out later")


def _columns_there(subject: Subject, source: str, first: int) -> None:
    """Refuse a condition on a column that is made after the first statistic."""
    texts = {n.value for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    texts |= {n.attr for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Attribute)}
    places = {(one.cell, line) for one in subject.statements[:first]
              for line in range(one.node.lineno, (one.node.end_lineno or one.node.lineno) + 1)}  # fmt: skip
    for name in texts:
        made = subject.events.columns.get(name)
        if made is not None and (made.place.cell, made.place.line) not in places:
            raise Unable(f"the split depends on the column `{name}`, which is made later")


def _bound_before(subject: Subject, name: str, first: int) -> bool:
    return any(name in flow(one.node).writes for one in subject.statements[:first])


def _table(subject: Subject, first: int) -> str:
    """Give the name of the table that is there before a statement and whose rows are split."""
    reads = flow(subject.statements[first].node).reads
    names = [name for name, value in subject.events.values.items() if name in reads and value.role == "table"]
    names = [name for name in names if _bound_before(subject, name, first)]
    if not names:
        raise Unable("the table has no name before the first statistic")
    return names[0]


def _same_rows(subject: Subject, first: int, last: int) -> None:
    """Refuse where rows are dropped or reordered between the first statistic and the split."""
    for one in subject.statements[first:last]:
        for node in ast.walk(one.node) if _acts(one.node) else ():
            called = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr
            if called in CHANGES_ROWS and not (called == "merge" and _left(node)):
                raise Unable(f"rows are dropped or reordered between it and the split (`{called}` in cell {one.cell})")
        value = one.node.value if isinstance(one.node, ast.Assign) else None
        if isinstance(value, ast.Subscript) and isinstance(value.slice, ast.Compare | ast.BoolOp | ast.UnaryOp):
            raise Unable(f"rows are dropped between it and the split (cell {one.cell})")


def _acts(node: ast.stmt) -> bool:
    """Whether a statement keeps what it works out: `df.head()` alone only shows."""
    return not isinstance(node, ast.Expr) or "inplace=True" in ast.unparse(node)


def _left(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and any(word.arg == "how" and _is(word.value, "left") for word in node.keywords)


def _is(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value == value
