"""What the words of the company's own answer column stand for: seen on the notebook's rows, before load maps them."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

MOST = 20


def label_facts(request: dict[str, Any], table: Any) -> dict[str, Any]:
    """Give the raw column of the true values, and the class of each of its words; nothing where load changes none."""
    source = (Path(request["src"]) / request["package"] / "load.py").read_text(encoding="utf-8")
    column, before = before_labels(source, Path(request["data"]))
    if not column or not before.index.is_unique or not table.index.isin(before.index).all():
        return {}
    raw, target = before.loc[table.index, column], table[request["target"]]
    known = raw.notna() & target.notna()
    if _is_number(raw) and _is_number(target) and bool((raw == target)[known].all()):
        return {"column": column, "classes": {}}
    pairs = sorted({(word_of(word), float(truth)) for word, truth in zip(raw[known], target[known], strict=True)})
    if not pairs or len(pairs) > MOST or len({word for word, _ in pairs}) < len(pairs):
        return {}
    return {"column": column, "classes": dict(pairs)}


def before_labels(source: str, data: Path) -> tuple[str, Any]:
    """Run load up to where it asks for the answer column; give that column and the rows; "" where it asks for none."""
    tree = ast.parse(source)
    load = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "load")
    for at, node in enumerate(load.body):
        column, frame = asked(node.test) if isinstance(node, ast.If) else ("", None)
        if column and frame is not None:
            load.body[at:] = [ast.copy_location(ast.Return(frame), node)]
            names: dict[str, Any] = {"__name__": "load", "__file__": ""}
            code = compile(ast.fix_missing_locations(tree), "load.py", "exec")
            exec(code, names)  # noqa: S102  the project's own code
            return column, names["load"](data)
    return "", None


def asked(test: ast.expr) -> tuple[str, ast.expr | None]:
    """Give the column and the table of the question that load asks of its rows.

    >>> asked(ast.parse('"churn" in df.columns', mode="eval").body)[0]
    'churn'
    """
    if not isinstance(test, ast.Compare) or not isinstance(test.ops[0], ast.In):
        return "", None
    column, place = test.left, test.comparators[0]
    if not isinstance(column, ast.Constant) or not isinstance(place, ast.Attribute) or place.attr != "columns":
        return "", None
    return str(column.value), place.value


def word_of(value: Any) -> str:
    """Write a value as tables have it: 1 for 1.0, true for True."""
    import numpy as np

    if isinstance(value, (bool, np.bool_)):
        return str(value).lower()
    whole = isinstance(value, (float, np.floating)) and float(value).is_integer()
    return str(int(value)) if whole else str(value)


def _is_number(column: Any) -> bool:
    return str(getattr(column.dtype, "kind", "O")) in "iuf"
