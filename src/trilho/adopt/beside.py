"""Scripts of the notebook's own, beside it: `from helpers import *` says which names it means."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from pathlib import Path

BINDING = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def name_imports(folder: Path, code: str, used: Iterable[str]) -> str:
    """Write out the names that a cell takes with `*` from a script in `folder`, those of them that are used.

    Lines keep their numbers. What is imported from elsewhere stays as it is, and so does a script that can't be read.
    """
    if "*" not in code:
        return code
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return code
    lines, wanted = code.split("\n"), set(used)
    stars = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and [a.name for a in n.names] == ["*"]]
    for node in sorted(stars, key=lambda n: n.col_offset, reverse=True):
        names = sorted(set(_names_of(folder, node)) & wanted)
        if names and node.lineno == node.end_lineno:
            line = lines[node.lineno - 1].encode()
            text = f"from {node.module} import {', '.join(names)}".encode()
            lines[node.lineno - 1] = (line[: node.col_offset] + text + line[node.end_col_offset :]).decode()
    return "\n".join(lines)


def words_in(sources: Iterable[str]) -> set[str]:
    """Give all the names that some code has in it.

    >>> sorted(words_in(["x = f(1)"]))
    ['f', 'x']
    """
    return {word for source in sources for word in re.findall(r"[^\W\d]\w*", source)}


def _names_of(folder: Path, node: ast.ImportFrom) -> list[str]:
    """Give the names that a star takes from a script; none where there is no such script."""
    path = folder / f"{node.module}.py"
    if node.level or not node.module or not node.module.isidentifier() or not path.is_file():
        return []
    try:
        body = ast.parse(path.read_bytes()).body
    except (SyntaxError, ValueError, OSError):
        return []
    found: list[str] = []
    for one in body:
        if isinstance(one, BINDING):
            found.append(one.name)
        elif isinstance(one, ast.Import | ast.ImportFrom):
            found += [(alias.asname or alias.name).split(".")[0] for alias in one.names]
        else:
            found += [n.id for n in ast.walk(one) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    told = next((ast.literal_eval(one.value) for one in body if _is_all(one)), None)  # type: ignore[attr-defined]
    return list(told) if told is not None else [name for name in found if not name.startswith("_")]


def _is_all(node: ast.stmt) -> bool:
    named = isinstance(node, ast.Assign) and [getattr(t, "id", "") for t in node.targets] == ["__all__"]
    return named and isinstance(node, ast.Assign) and isinstance(node.value, ast.List | ast.Tuple)
