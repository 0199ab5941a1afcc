"""What load does for the target, made to leave rows alone that have no true value yet: those that are to be scored."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Sequence
from dataclasses import replace

from trilho.adopt.plan import Part

WHY = "rows that are to be scored have none yet"


def where_labelled(parts: Sequence[Part], frame: str, columns: Sequence[str], target: str) -> list[Part]:
    """Put the statements that make the target under one question: whether what it is made of is there.

    `columns` are those of the table that was read. Statements that bind another name than the table's stay as they
    are, since what comes after them needs it.

    >>> made = where_labelled([Part('df["y"] = (df.pop("left") == "sim")', 2, 1, 1)], "df", ["age", "left"], "y")
    >>> print(made[0].source)
    if "left" in df.columns:  # rows that are to be scored have none yet
        df["y"] = (df.pop("left") == "sim")
    """
    asked = [name for name in columns if name in _texts(parts)] or [target]
    if not parts or _bound(parts) - {frame}:
        return list(parts)
    body = textwrap.indent("\n".join(part.source.strip("\n") for part in parts), "    ")
    first, *rest = parts
    guarded = replace(first, source=f"if {_question(asked, frame)}:  # {WHY}\n{body}")
    return [guarded, *(replace(part, source="") for part in rest)]  # which cells they are from is told all the same


def _texts(parts: Sequence[Part]) -> set[str]:
    nodes = [node for part in parts for node in ast.walk(ast.parse(part.source))]
    said = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return said | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


def _bound(parts: Sequence[Part]) -> set[str]:
    nodes = [node for part in parts for node in ast.walk(ast.parse(part.source))]
    return {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def _question(columns: Sequence[str], frame: str) -> str:
    if len(columns) == 1:
        return f"{_quoted(columns[0])} in {frame}.columns"
    return f"{{{', '.join(map(_quoted, columns))}}} <= set({frame}.columns)"


def _quoted(text: str) -> str:
    return f'"{text}"' if '"' not in text and "\\" not in text else repr(text)
