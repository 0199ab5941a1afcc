"""What is predicted: the column that the model's y was, how it was derived, and which class counts as 1."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from trilho.adopt.plan import Target
from trilho.adopt.slice.history import History, Place, argument_of, called_name
from trilho.adopt.slice.origin import Source, column_of, constant, path
from trilho.adopt.slice.tables import table_columns
from trilho.adopt.trace import Fit, Read

TRANSFORMS = {"log1p", "log", "log2", "log10", "sqrt", "cbrt", "arcsinh", "boxcox"}
SAME = {
    "copy", "ravel", "to_numpy", "reset_index", "squeeze", "flatten", "tolist", "reshape", "to_frame", "dropna", "drop",
    "sort_index", "sort_values", "head", "tail", "sample", "asarray", "array", "Series", "DataFrame", "list", "take",
    "train_test_split", "DMatrix", "Dataset", "Pool", "concat", "query", "iloc", "loc", "reindex",
}  # fmt: skip
NUMBERS = {"int", "float", "int8", "int32", "int64", "float32", "float64"}
DATASETS = {"DMatrix", "QuantileDMatrix", "Dataset", "Pool"}


@dataclass
class _Story:
    """What was found on the way back from y."""

    column: str = ""
    transform: str = ""
    derived: list[int] = field(default_factory=list)
    name: str = ""
    position: int | None = None  # of the column, where it was taken by number


def find_target(history: History, fit: Fit, main: Read | None, wanted: str = "") -> Target | None:
    """Find the target of a fit. None where it cannot be told."""
    code = target_code(history, fit)
    story = _follow(history, *code, _columns(history, main)) if code is not None else _Story()
    raw = table_columns(history, main) if main is not None else []
    column = wanted or story.column or _series_name(fit) or _told_by_name(story.name, raw)
    if not column and fit.y is None:
        return None
    features = set(fit.X.value.columns or []) if fit.X is not None and fit.X.value.kind == "frame" else set()
    if not column or (column in features and story.derived and not set(raw) <= features):
        column = "target"
    assigned = dict(_assigning(history, fit, column))
    transformed = [(id_, *told) for id_, value in assigned.items() if (told := _transform(history, id_, value))]
    if len(assigned) == 1 and transformed:
        id_, transform, inner = transformed[0]
        if inner in raw:
            return Target(inner, inner != column, (id_,), transform)
    statements = sorted({*assigned, *story.derived} - {fit.statement})
    is_raw = column in raw and not assigned and not story.derived
    return Target(column, is_raw, () if is_raw else tuple(statements), story.transform)


def _transform(history: History, statement: int, value: ast.expr) -> tuple[str, str] | None:
    """Give transform and column of `np.log1p(df["price"])`."""
    if not isinstance(value, ast.Call) or called_name(value) not in TRANSFORMS or not value.args:
        return None
    inner = column_of(value.args[0])
    if inner is None and isinstance(value.args[0], ast.Subscript):
        key = constant(history, value.args[0].slice, Place(statement, history.statements[statement].cell))
        inner = ("", key) if isinstance(key, str) else None
    return (ast.unparse(value.func), inner[1]) if inner is not None else None


def target_code(history: History, fit: Fit) -> tuple[ast.expr, Place] | None:
    """Give the code of a fit's y, and where it stands."""
    call, place = history.call_of(fit), history.place_of(fit)
    if call is None:
        return None
    if fit.how == "train":
        data = argument_of(call, 1, "dtrain", "train_set", "pool")
        for source in path(history, data, place) if data is not None else ():
            if isinstance(source.node, ast.Call) and called_name(source.node) in DATASETS:
                label = argument_of(source.node, 1, "label")
                return (label, source.place) if label is not None else None
        return None
    given = argument_of(call, 1, "y", "Y", "label", "target", "y_train")
    if given is not None:
        return given, place
    made = call.func.value if isinstance(call.func, ast.Attribute) else None  # OLS(y, X).fit()
    for source in path(history, made, place) if made is not None else ():
        if isinstance(source.node, ast.Call):
            endog = argument_of(source.node, 0, "endog")
            if _formula(source.node) or endog is None:
                return source.node, source.place
            return endog, source.place
    return None


def classes_of(reprs: Iterable[str]) -> list[object]:
    """Read a model's classes from what they look like.

    >>> classes_of(["np.int64(0)", "np.str_('sim')", "False"])
    [0, 'sim', False]
    """
    found: list[object] = []
    for text in reprs:
        plain = (
            re.sub(r"^(?:np|numpy)\.\w+\((.*)\)$", r"\1", text)
            .replace("np.True_", "True")
            .replace("np.False_", "False")
        )
        try:
            value = ast.literal_eval(plain)
        except (ValueError, SyntaxError):
            value = plain
        found.append(int(value) if isinstance(value, float) and value.is_integer() else value)
    return found


def positive_of(classes: list[object], pos_label: object = None) -> tuple[str, str]:
    """Give the class that counts as 1, and the other, as code; nothing where they are 0 and 1.

    >>> positive_of(["no", "yes"]), positive_of([0, 1]), positive_of([1, 2])
    (("'yes'", "'no'"), ('', ''), ('2', '1'))
    """
    if len(classes) != 2 or (pos_label is None and [*classes] == [0, 1] and not isinstance(classes[0], bool)):
        return "", ""
    one = pos_label if pos_label in classes else classes[1]
    return repr(one), repr(classes[0] if one == classes[1] else classes[1])


def _follow(history: History, node: ast.expr, place: Place, known: set[str]) -> _Story:
    story = _Story()
    for source in path(history, node, place):
        story.name = story.name or (source.name if source.name not in ("y", "Y") else "")
        column = _column(history, source, known) or _by_position(history, source, story)
        if column:
            story.column = column
            return story
        _note(history, source, story)
    return story


def _column(history: History, source: Source, known: set[str]) -> str:
    """Give the column that an expression takes out of a table."""
    node, place = source.node, source.place
    if isinstance(node, ast.Attribute):
        return node.attr if node.attr in known else ""
    if isinstance(node, ast.Call) and called_name(node) in ("pop", "get") and node.args:
        key = constant(history, node.args[0], place)
        return key if isinstance(key, str) and (key in known or called_name(node) == "pop") else ""
    if isinstance(node, ast.Call) and _formula(node):
        return _formula(node)
    if not isinstance(node, ast.Subscript):
        return ""
    keys = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    key = constant(history, keys[-1], place)
    if isinstance(key, list) and len(key) == 1:
        key = key[0]
    if isinstance(key, str):
        return key
    return ""


def _by_position(history: History, source: Source, story: _Story) -> str:
    """Give the column that `df.iloc[:, -1]` or `df.values[:, 3]` takes, once the table is reached that it is of."""
    node = source.node
    if story.position is None:
        keys = node.slice.elts if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple) else []
        at = _whole(keys[1]) if len(keys) == 2 and isinstance(keys[0], ast.Slice) else None
        story.position = at
        return ""
    seen = history.seen(node, source.place)
    columns = seen.value.columns if seen is not None and seen.value.kind == "frame" else None
    return columns[story.position] if columns and -len(columns) <= story.position < len(columns) else ""


def _whole(node: ast.expr) -> int | None:
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return None
    return value if isinstance(value, int) else None


def _note(history: History, source: Source, story: _Story) -> None:
    """Note what a step did to the values."""
    node = source.node
    if isinstance(node, ast.Compare | ast.BoolOp | ast.BinOp):
        story.derived.append(source.place.statement)
    elif isinstance(node, ast.Call):
        name = called_name(node)
        applied = next((a.attr for a in node.args if isinstance(a, ast.Attribute) and a.attr in TRANSFORMS), "")
        if name in TRANSFORMS or applied:
            story.transform = story.transform or (ast.unparse(node.func) if not applied else ast.unparse(node.args[0]))
        elif name == "astype":
            kind = ast.unparse(node.args[0]).rpartition(".")[2].strip("'\"") if node.args else ""
            is_test = any(isinstance(n, ast.Compare) for n in ast.walk(node.func))
            story.derived += [] if kind in NUMBERS and not is_test else [source.place.statement]
        elif name not in SAME and history.function_called(node) is None:
            story.derived.append(source.place.statement)


def _assigning(history: History, fit: Fit, column: str) -> Iterator[tuple[int, ast.expr]]:
    """Give the statements before a fit that do nothing but put something into a column, with what they put there."""
    for id_ in history.made_of(fit):
        statement = history.statements.get(id_)
        if statement is None or not isinstance(statement.node, ast.Assign | ast.AugAssign):
            continue
        node, place = statement.node, Place(id_, statement.cell)
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            key: object = target.attr if isinstance(target, ast.Attribute) else None
            if isinstance(target, ast.Subscript):
                keys = target.slice.elts if isinstance(target.slice, ast.Tuple) else [target.slice]
                key = constant(history, keys[-1], place)
            if key == column:
                yield id_, node.value
        called = called_name(node.value) if isinstance(node.value, ast.Call) else ""
        if called == "assign" and isinstance(node.value, ast.Call) and [k.arg for k in node.value.keywords] == [column]:
            yield id_, node.value


def _formula(call: ast.Call) -> str:
    """Give the left side of a formula such as "price ~ rooms + area"."""
    for node in [*call.args, *(k.value for k in call.keywords)]:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "~" in node.value:
            match = re.search(r"([A-Za-z_]\w*)\s*\)?\s*$", node.value.partition("~")[0])
            return match[1] if match else ""
    return ""


def _series_name(fit: Fit) -> str:
    value = fit.y.value if fit.y is not None else None
    if value is None or value.kind not in ("series", "frame") or len(value.columns or []) != 1:
        return ""
    name = (value.columns or [""])[0]
    return "" if name in ("None", "0", "") else name


def _told_by_name(name: str, raw: list[str]) -> str:
    same = [column for column in raw if column.lower() == name.lower()]
    return same[0] if same else ""


def _columns(history: History, main: Read | None) -> set[str]:
    """Give every column name that a table of the run had."""
    found = set(main.value.columns or []) if main is not None else set[str]()
    found |= {"target"} if main is not None and main.kind == "dataset" else set()
    for statement in history.trace.statements:
        for value in statement.values.values():
            if value.kind == "frame":
                found |= set(value.columns or [])
    return found
