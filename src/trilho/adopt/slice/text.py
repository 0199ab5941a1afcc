"""Pieces of a notebook's own code, and edits at places in them: all else stays as its author wrote it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from trilho.adopt.scopes import bound, declared, parameters
from trilho.adopt.trace import Span


@dataclass(frozen=True)
class Edit:
    """Text in place of what stands at a span."""

    span: Span
    text: str


def span_of(node: ast.AST) -> Span:
    """Give where a node stands, as a trace names places; a definition begins with its decorators."""
    at = (getattr(node, "lineno", 0), getattr(node, "col_offset", 0))
    for decorator in getattr(node, "decorator_list", [])[:1]:
        at = (decorator.lineno, at[1])
    return (*at, getattr(node, "end_lineno", 0), getattr(node, "end_col_offset", 0))


def inside(inner: Span, outer: Span) -> bool:
    """Say whether a span lies in another.

    >>> inside((1, 4, 1, 9), (1, 0, 2, 0))
    True
    """
    return outer[:2] <= inner[:2] and inner[2:] <= outer[2:]


class Code:
    """The code of one cell, by byte positions as `ast` counts them."""

    def __init__(self, text: str) -> None:
        self.lines = [line.encode() for line in text.split("\n")]

    def at(self, span: Span) -> str:
        """Give the text at a span."""
        kept = self.lines[span[0] - 1 : span[2]]
        if not kept:
            return ""
        kept = [*kept[:-1], kept[-1][: span[3]]]
        kept[0] = kept[0][span[1] :]
        return b"\n".join(kept).decode()

    def edited(self, span: Span, edits: Iterable[Edit]) -> str:
        """Give the text at a span with edits made; of edits in one another the outer one counts.

        >>> code = Code("y = df.a.mean() + 1")
        >>> code.edited((1, 4, 1, 19), [Edit((1, 4, 1, 15), "MEAN")])
        'MEAN + 1'
        """
        made: list[Edit] = []
        ordered = sorted(edits, key=lambda e: (e.span[:2], e.span[:2] != e.span[2:], (-e.span[2], -e.span[3])))
        for edit in ordered:
            if inside(edit.span, span) and not (made and edit.span[:2] < made[-1].span[2:]):
                made.append(edit)
        text, here = "", span[:2]
        for edit in made:
            text += self.at((*here, *edit.span[:2])) + edit.text
            here = edit.span[2:]
        return text + self.at((*here, *span[2:]))


def renamed(node: ast.AST, names: Mapping[str, str]) -> list[Edit]:
    """Give the edits that put expressions in place of names, where the node's own scope means these names.

    Names that an inner function, lambda or comprehension binds for itself are left alone.
    """
    return list(_renames(node, dict(names)))


def _renames(node: ast.AST, names: dict[str, str]) -> Iterable[Edit]:
    if not names:
        return
    if isinstance(node, ast.Name):
        if node.id in names:
            yield Edit(span_of(node), names[node.id])
        return
    inner = _without_own(node, names)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        for outer in [
            *node.args.defaults,
            *(d for d in node.args.kw_defaults if d),
            *getattr(node, "decorator_list", []),
        ]:
            yield from _renames(outer, names)
        body = [node.body] if isinstance(node, ast.Lambda) else node.body
        for part in body:
            yield from _renames(part, inner)
        return
    if isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp):
        yield from _renames(node.generators[0].iter, names)
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.comprehension):
                rest = [child.target, *child.ifs]
                rest += [] if child is node.generators[0] else [child.iter]
                for part in rest:
                    yield from _renames(part, inner)
            else:
                yield from _renames(child, inner)
        return
    for child in ast.iter_child_nodes(node):
        yield from _renames(child, inner)


def _without_own(node: ast.AST, names: dict[str, str]) -> dict[str, str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        body = [] if isinstance(node, ast.Lambda) else node.body
        own = set(parameters(node)) | (set(bound(body)) - declared(body))
    elif isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp):
        own = {n.id for g in node.generators for n in ast.walk(g.target) if isinstance(n, ast.Name)}
    else:
        return names
    return {name: text for name, text in names.items() if name not in own}


def comments_above(source: str) -> str:
    """Give the comment lines that a statement's source begins with.

    >>> comments_above("# why\\nx = 1")
    '# why\\n'
    """
    kept = []
    for line in source.split("\n"):
        if not line.startswith("#"):
            break
        kept.append(line + "\n")
    return "".join(kept)


def end_comment(source: str, node: ast.AST) -> str:
    """Give the comment at a simple statement's end, two spaces before it, or nothing."""
    last = source.split("\n")[-1]
    if isinstance(node, ast.For | ast.If | ast.With | ast.Try | ast.While | ast.FunctionDef | ast.ClassDef):
        return ""
    at = last.rfind("  #")
    if at < 0 or last.lstrip().startswith("#"):
        return ""
    try:
        before = ast.dump(ast.parse(source[: len(source) - len(last) + at]))
    except SyntaxError:
        return ""
    return last[at:] if before == ast.dump(ast.parse(source)) else ""


def finished(text: str) -> str:
    """Take out the lines whose statements were left out.

    >>> finished("a = 1\\n\\0\\nb = 2")
    'a = 1\\nb = 2'
    """
    if "\0" not in text:
        return text
    lines = []
    for line in text.split("\n"):
        rest = line.replace("\0;", "").replace("; \0", "").replace("\0", "")
        if "\0" in line and (not rest.strip() or rest.strip().startswith("#")):
            continue
        lines.append(rest)
    return "\n".join(lines)


def end_of(node: ast.AST) -> Span:
    """Give the place before a call's closing bracket."""
    line, column = span_of(node)[2:]
    return (line, column - 1, line, column)
