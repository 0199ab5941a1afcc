"""Lambdas that are held by an estimator: written as functions of a module, since a fitted model is pickled by name."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterator

from trilho.adopt.scopes import bound, parameters
from trilho.adopt.slice.text import Code, span_of
from trilho.adopt.trace import Value

HELD = ("estimator", "booster")


def held_lambdas(
    node: ast.AST, value: Callable[[ast.expr], Value | None], own: Collection[str], step: str = ""
) -> Iterator[tuple[ast.Lambda, str]]:
    """Give the lambdas that estimators are built with, each with words to name it by.

    One that reads what is the `own` of the function around it stays where it is.
    """
    if isinstance(node, ast.FunctionDef):
        own = {*own, *parameters(node), *bound(node.body)}
    if isinstance(node, ast.Tuple) and node.elts and isinstance(node.elts[0], ast.Constant):
        step = str(node.elts[0].value)
    if isinstance(node, ast.Call):
        seen = value(node)
        if seen is not None and seen.kind in HELD:
            yield from (found for found in _given(node, step) if is_closed(found[0], own))
    for child in ast.iter_child_nodes(node):
        yield from held_lambdas(child, value, own, step)


def _given(call: ast.Call, step: str) -> Iterator[tuple[ast.Lambda, str]]:
    kind = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    for argument in [*call.args, *call.keywords]:
        inner = argument.value if isinstance(argument, ast.keyword) else argument
        word = (argument.arg or "") if isinstance(argument, ast.keyword) else ""
        if kind == "FunctionTransformer" and word in ("", "func"):
            word = "transform"
        for part in _lambdas(inner):
            yield part, "_".join(w for w in (word or kind.lower(), step) if w)


def _lambdas(node: ast.AST) -> Iterator[ast.Lambda]:
    """Give the lambdas of an argument that no other call takes."""
    if isinstance(node, ast.Lambda):
        yield node
    elif not isinstance(node, ast.Call):
        for child in ast.iter_child_nodes(node):
            yield from _lambdas(child)


def is_closed(node: ast.Lambda, own: Collection[str]) -> bool:
    """Say whether a lambda reads nothing of the function that it stands in."""
    inner = set(parameters(node))
    return not {n.id for n in ast.walk(node.body) if isinstance(n, ast.Name)} & (set(own) - inner)


def as_function(name: str, node: ast.Lambda, code: Code, body: str) -> str:
    """Write a lambda as a function.

    >>> made = ast.parse("lambda d, k=1: d + k", mode="eval").body
    >>> as_function("add", made, Code("lambda d, k=1: d + k"), "d + k")
    'def add(d, k=1):\\n    return d + k'
    """
    head = code.at((*span_of(node)[:2], *span_of(node.body)[:2])).removeprefix("lambda").strip().rstrip("(").rstrip()
    given = head.removesuffix(":").strip()
    if "\n" in body:
        body = f"({body})"
    return f"def {name}({given}):\n    return {body}"


def plain_name(words: str, taken: Collection[str]) -> str:
    """Make a name of words that nothing else has.

    >>> plain_name("transform_Flags 2", {"transform_flags_2"})
    'transform_flags_2_2'
    """
    name = "".join(c if c.isalnum() else "_" for c in words.lower()).strip("_") or "transform"
    name = name if name.isidentifier() else f"f_{name}"
    number, made = 2, name
    while made in taken:
        made, number = f"{name}_{number}", number + 1
    return made
