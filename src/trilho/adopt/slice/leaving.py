"""Takes out of the features what load does already."""

from __future__ import annotations

import ast

from trilho.adopt.slice.text import Code, Edit, span_of
from trilho.adopt.trace import Span


def left_out(node: ast.AST, cell: int, places: set[tuple[int, Span]], code: Code) -> list[Edit]:
    """Give the edits that take out statements, and items of the lists that loops go through."""
    edits = []
    for part in ast.walk(node):
        if isinstance(part, ast.stmt) and (cell, span_of(part)) in places:
            edits.append(Edit(span_of(part), "\0"))
        elif isinstance(part, ast.List | ast.Tuple):
            kept = [e for e in part.elts if (cell, span_of(e)) not in places]
            if len(kept) < len(part.elts):
                shown = ", ".join(code.at(span_of(e)) for e in kept)
                comma = "," if isinstance(part, ast.Tuple) and len(kept) == 1 else ""
                text = f"[{shown}]" if isinstance(part, ast.List) else f"({shown}{comma})"
                edits.append(Edit(span_of(part), text))
    return edits
