"""Which names a piece of code binds in its own scope, and which name a chain of attributes and items hangs on."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

IN_PLACE = frozenset({
    "add", "add_column", "append", "clear", "difference_update", "discard", "extend", "fill", "fit",
    "fit_predict", "fit_resample", "fit_transform", "insert", "intersection_update", "itemset", "partial_fit",
    "pop", "popitem", "put", "remove", "resize", "reverse", "seed", "set_params", "setdefault", "setflags",
    "sort", "symmetric_difference_update", "update",
})  # fmt: skip
"""Methods that change the object that they are called on, whatever it is; `seed` changes its module."""


QUERIES = frozenset({"query", "eval"})
IN_QUERY = re.compile(r"(?<![\w@])@([A-Za-z_]\w*)")


def queried(node: ast.AST) -> set[str]:
    """Give the variables that the texts of pandas' `query` and `eval` name with an @, but for a function's own.

    >>> sorted(queried(ast.parse("a = df.query('day < @cut and city in @cities')")))
    ['cities', 'cut']
    >>> queried(ast.parse("def f(d, cut):\\n    return d.query('day < @cut')"))
    set()
    """
    found: set[str] = set()
    for child in ast.iter_child_nodes(node):
        found |= queried(child)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in QUERIES and node.args:
        texts = [part.value for part in ast.walk(node.args[0]) if isinstance(part, ast.Constant)]
        found |= {name for text in texts if isinstance(text, str) for name in IN_QUERY.findall(text)}
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        found -= {a.arg for a in ast.walk(node.args) if isinstance(a, ast.arg)}
        found -= {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return found


def root(node: ast.expr) -> str | None:
    """Give the name at the bottom of `a.b[c].d(...)`, or None where there is none.

    >>> root(ast.parse("df.loc[m].x", mode="eval").body)
    'df'
    """
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Starred | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def holder(node: ast.expr) -> str | None:
    """Give the name whose object changes when this one does: what a call gives is new, but for methods of access."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Starred | ast.Call):
        if not isinstance(node, ast.Call):
            node = node.value
        elif isinstance(node.func, ast.Attribute) and node.func.attr in IN_PLACE | {"get"}:
            node = node.func.value
        else:
            return None
    return node.id if isinstance(node, ast.Name) else None


def parameters(node: Function) -> Iterator[str]:
    """Give a function's parameters, those that are given by position first."""
    given = node.args
    for arg in [*given.posonlyargs, *given.args, *given.kwonlyargs]:
        yield arg.arg
    for rest in (given.vararg, given.kwarg):
        if rest is not None:
            yield rest.arg


def annotated(node: Function) -> Iterator[ast.expr]:
    """Give the annotations of a function's parameters and of what it returns."""
    given = node.args
    for arg in [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]:
        if arg is not None and arg.annotation is not None:
            yield arg.annotation
    returned = getattr(node, "returns", None)
    if returned is not None:
        yield returned


def declared(body: Iterable[ast.stmt]) -> set[str]:
    """Give the names that a function's body says are global."""
    return {name for node in own_nodes(body) if isinstance(node, ast.Global) for name in node.names}


def own_nodes(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Walk statements without going into what has a scope of its own."""
    todo = list(body)
    while todo:
        node = todo.pop()
        yield node
        if isinstance(node, ast.comprehension):
            todo += [node.iter, *node.ifs]
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            todo += ast.iter_child_nodes(node)


def bound(body: Iterable[ast.stmt]) -> Iterator[str]:
    """Give every name that statements bind in their own scope."""
    for node in own_nodes(body):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                yield from (alias.asname or alias.name.partition(".")[0] for alias in names)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name
            case ast.MatchMapping(rest=str(name)):
                yield name
            case _:
                pass
