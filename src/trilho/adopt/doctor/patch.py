"""The change that takes leakage out of a notebook: statistics are learnt from the training rows only.

The rows that will be the train side are worked out before the first statistic, by the notebook's own split, and every
statistic is narrowed to them where it stands. Nothing else changes, so that the metric's change is that of the leakage.
What cannot be narrowed in place is told with its reason.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field

from trilho.adopt.doctor.flow.names import RESAMPLERS
from trilho.adopt.doctor.flow.values import Statistic
from trilho.adopt.doctor.narrowing import Narrowing, Unable, narrowing
from trilho.adopt.doctor.notebook_file import with_sources
from trilho.adopt.doctor.rules.leakage import leaked, short
from trilho.adopt.doctor.rules.target import leaking_columns
from trilho.adopt.doctor.subject import Subject


@dataclass(frozen=True)
class Edit:
    """Text to put in place of a span of a cell's code; columns are bytes, as `ast` counts them."""

    cell: int
    start: tuple[int, int]
    end: tuple[int, int]
    text: str


@dataclass(frozen=True)
class Patch:
    """The cells as they would be, what is put right, and what is not."""

    sources: dict[int, str] = field(default_factory=dict)  # cell -> its new source
    fixed: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    diff: str = ""
    files: dict[str, str] = field(default_factory=dict)  # of a project: file -> its new text


def patch_notebook(subject: Subject) -> Patch:
    """Take the leakage out of a notebook, as far as that can be done in place."""
    edits: list[Edit] = []
    fixed, left = [], []
    statistics = leaked(subject.events)
    rows, why = _rows(subject, statistics)
    done: list[Statistic] = []
    for one in statistics:
        where = f"`{short(one.source)}` (cell {one.place.cell}, line {one.place.line})"
        try:
            if rows is None:
                raise Unable(why)
            edits += _narrowed(subject, one, rows)
            fixed.append(f"{where} is learnt from the training rows")
            done.append(one)
        except Unable as reason:
            left.append(f"{where}: {reason}")
    if done and rows is not None:
        edits.append(_inserted(subject, min(one.statement for one in done), rows.lines))
    for found, told in ((_without_columns(subject), fixed), (_not_fitted_again(subject), fixed)):
        edits += [edit for edit, _ in found]
        told += [text for _, text in found]
    return _applied(subject, edits, tuple(fixed), tuple(left))


def _rows(subject: Subject, statistics: list[Statistic]) -> tuple[Narrowing | None, str]:
    """Work the training rows out before the first statistic."""
    if not statistics:
        return None, ""
    for first in sorted({one.statement for one in statistics if not _copies(one)}):
        try:
            return narrowing(subject, first), ""
        except Unable as reason:
            return None, str(reason)
    return None, "rows were made before the split: split first, and resample the training rows"


def _copies(one: Statistic) -> bool:
    return any(RESAMPLERS.fullmatch(word) for word in one.what.split(", "))


def _narrowed(subject: Subject, one: Statistic, rows: Narrowing) -> list[Edit]:
    """Narrow what a statistic is learnt from to the training rows."""
    cell, node = one.place.cell, one.node
    if _copies(one):
        raise Unable("split first, and resample the training rows only")
    if cell is None or not isinstance(node, ast.Call) or one.root is None:
        raise Unable("its bins are worth a step of the pipeline: KBinsDiscretizer, or cut with limits of your own")
    if one.function and subject.events.calls.get(one.function, 0) > 1:
        raise Unable(f"`{one.function}` is called several times: give it the training rows as an argument")
    function = node.func
    if isinstance(function, ast.Attribute) and function.attr in ("fit", "fit_transform"):
        return _refitted(subject, cell, node, function, rows)
    if isinstance(function, ast.Attribute) and function.attr == "transform":
        return [_mapped(cell, node, function, rows)]
    if isinstance(function, ast.Name | ast.Attribute) and one.what in (
        "zscore",
        "scale",
        "minmax_scale",
        "robust_scale",
    ):
        raise Unable("use the scaler's class, fitted to the training rows")
    return [_put(cell, name_in(one.root), rows)]


def _refitted(
    subject: Subject, cell: int, node: ast.Call, function: ast.Attribute, rows: Narrowing
) -> list[Edit]:  # fmt: skip
    """`s.fit_transform(X)` becomes `s.fit(X of the training rows).transform(X)`."""
    if not node.args or node.keywords:
        raise Unable("its arguments are given by name")
    if function.attr == "fit":
        return [_put(cell, name_in(argument), rows, subject) for argument in node.args]
    given = ", ".join(_text_with(argument, rows, subject) for argument in node.args)
    text = f"{ast.unparse(function.value)}.fit({given}).transform({ast.unparse(node.args[0])})"
    return [Edit(cell, *span_of(node), text)]


def _mapped(cell: int, node: ast.Call, function: ast.Attribute, rows: Narrowing) -> Edit:
    """`t.groupby(k)[c].transform("mean")` becomes a mean by group of the training rows, mapped to all."""
    how = node.args[0] if node.args else None
    group: ast.expr = function.value
    while isinstance(group, ast.Attribute | ast.Subscript):
        group = group.value
    filled = _filling(how)
    if not (
        (filled or (isinstance(how, ast.Constant) and isinstance(how.value, str)))
        and isinstance(group, ast.Call)
        and isinstance(group.func, ast.Attribute)
        and group.args
        and isinstance(group.args[0], ast.Constant)
    ):
        raise Unable("it spreads over groups in a way of its own: learn a table of the training rows, and merge it")
    table, key = ast.unparse(group.func.value), ast.unparse(group.args[0])
    learnt = _text_with(function.value, rows, None)
    if filled:
        column = ast.unparse(function.value).replace(ast.unparse(group), table, 1)
        return Edit(cell, *span_of(node), f"{column}.fillna({table}[{key}].map({learnt}.{filled}()))")
    word = str(how.value) if isinstance(how, ast.Constant) else ""
    return Edit(cell, *span_of(node), f"{table}[{key}].map({learnt}.{word}())")


def _filling(how: ast.expr | None) -> str:
    """Read `lambda x: x.fillna(x.median())`: the statistic's name."""
    match how:
        case ast.Lambda(
            body=ast.Call(
                func=ast.Attribute(attr="fillna"),
                args=[ast.Call(func=ast.Attribute(value=ast.Name(), attr=word), args=[])],
            )
        ):
            return word
    return ""


def name_in(node: ast.expr) -> ast.Name:
    """Find the table's name at the bottom of an expression."""
    inner: ast.expr = node
    while not isinstance(inner, ast.Name):
        match inner:
            case ast.Attribute(value=value) | ast.Subscript(value=value):
                inner = value
            case ast.Call(func=ast.Attribute() as function):
                inner = function
            case ast.Call(args=[first, *_]):
                inner = first
            case ast.BinOp(left=left):
                inner = left
            case _:
                raise Unable("the table that it is learnt from has no name of its own")
    return inner


def _put(cell: int, name: ast.Name, rows: Narrowing, subject: Subject | None = None) -> Edit:
    return Edit(cell, *span_of(name), rows.of(name.id, _is_array(subject, name.id)))


def _is_array(subject: Subject | None, name: str) -> bool:
    return subject is not None and name in subject.events.values and subject.events.values[name].array


def _text_with(node: ast.expr, rows: Narrowing, subject: Subject | None) -> str:
    """Give an expression's text with its table narrowed."""
    name = name_in(node)
    base = ast.parse(rows.of(name.id, _is_array(subject, name.id)), mode="eval").body

    class Put(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            return base if node is target else node

    copy = ast.parse(ast.unparse(node), mode="eval").body
    target = name_in(copy)
    return ast.unparse(Put().visit(copy))


def span_of(node: ast.expr) -> tuple[tuple[int, int], tuple[int, int]]:
    """Give where an expression begins and ends."""
    return (node.lineno, node.col_offset), (node.end_lineno or node.lineno, node.end_col_offset or 0)


def _inserted(subject: Subject, statement: int, lines: tuple[str, ...]) -> Edit:
    """Put lines before a top-level statement."""
    at = subject.statements[statement]
    place = (min([at.node.lineno, *(mark.lineno for mark in getattr(at.node, "decorator_list", []))]), 0)
    return Edit(at.cell or 0, place, place, "".join(f"{line}\n" for line in lines))


def _without_columns(subject: Subject) -> list[tuple[Edit, str]]:
    """Take features that know the answer out, right before the split, where X is a name."""
    columns = sorted({column for fit in subject.events.fits for column in leaking_columns(subject, fit)})
    for split in subject.events.splits if columns else ():
        call = split.node
        if split.function.endswith("train_test_split") and isinstance(call, ast.Call) and call.args:
            X = call.args[0]
            if isinstance(X, ast.Name) and not _is_array(subject, X.id):
                listed = ", ".join(repr(column) for column in columns)
                edit = _inserted(subject, split.statement, (f"{X.id} = {X.id}.drop(columns=[{listed}])",))
                return [(edit, f"{listed}: no feature any more")]
    return []


def _not_fitted_again(subject: Subject) -> list[tuple[Edit, str]]:
    """`s.fit_transform(X_test)` becomes `s.transform(X_test)`."""
    found = []
    for fit in subject.events.refits:
        function = fit.node.func
        if isinstance(function, ast.Attribute) and function.attr == "fit_transform" and fit.place.cell is not None:
            text = f"{ast.unparse(function.value)}.transform({', '.join(ast.unparse(a) for a in fit.node.args[:1])})"
            found.append(
                (
                    Edit(fit.place.cell, *span_of(fit.node), text),
                    f"`{short(ast.unparse(fit.node))}` transforms the test rows and is not fitted to them",
                )
            )
    return found


def _applied(subject: Subject, edits: list[Edit], fixed: tuple[str, ...], left: tuple[str, ...]) -> Patch:
    """Carry the edits out in the cells' own text, and give the difference of the files."""
    notebook = subject.notebook
    if notebook is None or not edits:
        return Patch(left=left)
    sources: dict[int, str] = {}
    for cell in notebook.cells:
        own = [edit for edit in edits if edit.cell == cell.index]
        if own:
            sources[cell.index] = edited(cell.source, cell.code, own)
    before = notebook.path.read_text(encoding="utf-8", errors="surrogateescape")
    after = with_sources(notebook, before, sources)
    name = notebook.path.name
    return Patch(sources, fixed, left, difference(name, before, after))


def difference(name: str, before: str, after: str) -> str:
    """Give the unified difference of a file's texts, as git apply takes it."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{name}", f"b/{name}"
    )
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def edited(source: str, cleaned: str, edits: Iterable[Edit]) -> str:
    """Apply edits from the last to the first; a line that a magic stands on keeps its magic."""
    lines = source.split("\n")
    code = cleaned.split("\n")
    for (first, start), (last, end), text in sorted({(e.start, e.end, e.text) for e in edits}, reverse=True):
        shift = _shift(lines[first - 1], code[first - 1])
        head = lines[first - 1].encode()[: start + shift].decode()
        tail = lines[last - 1].encode()[end + (shift if first == last else 0) :].decode()
        lines[first - 1 : last] = (head + text + tail).split("\n")
        code[first - 1 : last] = lines[first - 1 : first - 1 + len((head + text + tail).split("\n"))]
    return "\n".join(lines)


def _shift(line: str, code: str) -> int:
    """Give by how many bytes a line's code is further right than in the cleaned code: `%time x = 1`."""
    return len(line.encode()) - len(code.encode()) if line != code and line.endswith(code) else 0
