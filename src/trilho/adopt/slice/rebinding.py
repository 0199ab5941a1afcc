"""A cut's literal as it is found in a function, and the code that binds a name to what moves in its place."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from datetime import datetime

from trilho.adopt.slice.cuts import Use
from trilho.adopt.slice.text import Code, Edit, end_of, span_of


@dataclass(frozen=True)
class Found:
    """A use in a function, and the literal that its limit is."""

    use: Use
    at: int  # the part of the function
    literal: str | int | datetime
    source: tuple[str, int] | None  # what binds it: a part's text and statement; None where it stands inline
    node: ast.expr  # the literal, in that part or inline
    text: str  # as it was written, for people


def said(founds: list[Found]) -> str:
    """Say where the notebook cut."""
    shown = [f"row {f.literal}" if f.use.how == "rows" else f.text for f in founds]
    return f"the notebook cut at {' and '.join(dict.fromkeys(shown))}"


def edit_of(found: Found, name: str) -> Edit:
    """Give the edit that puts a name in place of an inline literal, or passes it to a call."""
    held, call = found.use.within, found.use.call
    if call is not None:
        return Edit(
            (*end_of(call)[:2], *end_of(call)[:2]),
            f"{', ' * bool(call.args or call.keywords)}{found.use.keyword}={name}",
        )
    if held is None:
        return Edit(span_of(found.node), name)
    return Edit(span_of(held), found.use.text + "\0" + name)


def edited(source: str, edits: list[Edit]) -> str:
    """Put names in place of literals; in a query's text, `@name`."""
    if not edits:
        return source
    tree, code = ast.parse(source), Code(source)
    queries = {span_of(n) for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    plain = [e for e in edits if "\0" not in e.text]
    for span in {e.span for e in edits if "\0" in e.text} & queries:
        text = code.at(span)
        for edit in (e for e in edits if "\0" in e.text and e.span == span):
            old, name = edit.text.split("\0")
            text = text.replace(old, f"@{name}")
        plain.append(Edit(span, text))
    whole = (1, 0, len(code.lines), len(code.lines[-1]))
    return code.edited(whole, plain)


def rebound(source: str, founds: list[Found], made: dict[Found, str]) -> str:
    """Bind the same name to what moves, and say what the notebook had."""
    edits = {span_of(found.node): Edit(span_of(found.node), made[found]) for found in founds[::-1]}
    ordered = sorted({span_of(f.node): f for f in founds}.values(), key=lambda f: span_of(f.node))
    text, note = edited(source, list(edits.values())), said(ordered)
    last = text.split("\n")[-1]
    return f"{text}; {note}" if "  #" in last else f"{text}  # {note}"
