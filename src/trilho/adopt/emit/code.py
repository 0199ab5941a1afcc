"""A function of the plan as text: signature, one line that says what, its parts with a gap between cells, a return."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import pairwise

from trilho.adopt.emit.describing import described
from trilho.adopt.emit.naming import cells_phrase, changed_parameter, docstring, free_names, indent
from trilho.adopt.plan import Function, Part

DOCS = {
    "load": "Read the rows as the notebook read them.",
    "build": "Give one row of features for each raw row.",
    "fit": "Fit the model that the notebook ships.",
    "train_model": "Fit the notebook's model.",
    "prepare": "Prepare raw rows.",
    "split": "Part the rows into those that train and those that judge, as the notebook did.",
    "evaluate": "Fit on one part, judge on the other, and give the notebook's metrics.",
}


def function_text(function: Function, method: bool = False, changing: Collection[str] = ()) -> str:
    """Write a function; `changing` names functions that change the table that they are given."""
    names = [f"{name}: {kind}" if kind else name for name, kind in function.parameters]
    parameters = ", ".join(["self", *names] if method else names)
    arrow = f" -> {function.returns_type}" if function.returns_type else ""
    said = (
        function.doc
        or DOCS.get(function.name.rstrip("_"))
        or described(function.name, [n for n, _ in function.parameters])
    )
    lines = [docstring(said, cells_phrase(function.cells), "    "), body_text(function, changing)]
    return f"def {function.name}({parameters}){arrow}:\n" + indent("\n".join(lines))


def body_text(function: Function, changing: Collection[str] = ()) -> str:
    """Write a function's body."""
    parts = guarded(function, changing)
    body = joined(parts)
    ended = function.returns
    if ended and ended.isidentifier():
        folded = _folded(body, ended)
        if folded is not None:
            return folded
    if ended:
        body += f"\nreturn {ended}" if body else f"return {ended}"
    return body or "pass"


def guarded(function: Function, changing: Collection[str] = ()) -> tuple[Part, ...]:
    """Copy a table that a function, or one that it calls, would change under its caller's hands."""
    parts = function.parts
    for name, kind in function.parameters:
        body = joined(parts)
        if kind in ("pd.DataFrame", "pd.Series") and body and changed_parameter(name, body, changing):
            first = parts[0]
            parts = (replace(first, source=f"{name} = {name}.copy()"), *parts)
    return parts


def joined(parts: Sequence[Part]) -> str:
    """Write statements one after another, with an empty line between blocks of different cells."""
    blocks: list[str] = []
    cell = None
    for part in parts:
        source = part.source.strip("\n")
        if source and part.cell == cell:
            blocks[-1] += "\n" + source
        elif source:
            blocks.append(source)
            cell = part.cell
    text = blocks[0] if blocks else ""
    for before, block in pairwise(blocks):
        text += ("\n\n" if "\n" in before and "\n" in block else "\n") + block
    return text


def _folded(body: str, name: str) -> str | None:
    """Return the last value itself instead of a name that was given to it only to be returned."""
    tree = ast.parse(body)
    last = tree.body[-1] if tree.body else None
    if not isinstance(last, ast.Assign) or len(last.targets) != 1:
        return None
    target = last.targets[0]
    if not isinstance(target, ast.Name) or target.id != name:
        return None
    lines = body.encode().splitlines()
    at = last.lineno - 1
    start = lines[at][: last.col_offset].decode()
    rest = lines[at][last.col_offset :].decode()
    value, changed = re.subn(rf"^{re.escape(name)}\s*=\s*", "return ", rest, count=1)
    if not changed:
        return None
    return "\n".join(
        [*(line.decode() for line in lines[:at]), start + value, *(line.decode() for line in lines[at + 1 :])]
    )


def reads(function: Function) -> set[str]:
    """Give the names that a function needs from outside of it, those of its annotations included."""
    return free_names(function_text(function))
