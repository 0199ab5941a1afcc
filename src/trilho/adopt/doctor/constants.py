"""Constant texts in code: what a name, a sum or a joined path comes to, where that can be told without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from trilho.adopt.doctor.flow.names import full_name

JOINERS = frozenset({"os.path.join", "posixpath.join", "pathlib.Path", "pathlib.PurePath", "pathlib.PurePosixPath"})
THROUGH = frozenset({"os.path.abspath", "os.path.normpath", "os.path.expanduser", "str", "os.fspath"})
DEPTH = 12


class Constants:
    """The names that are bound once, to a constant text."""

    def __init__(self, statements: Iterable[ast.stmt], known: Mapping[str, str]) -> None:
        self.known = dict(known)
        bound: dict[str, list[ast.expr]] = {}
        for statement in statements:
            for node in ast.walk(statement):
                if isinstance(node, ast.Assign):
                    for target in node.targets:
                        if isinstance(target, ast.Name):
                            bound.setdefault(target.id, []).append(node.value)
                elif isinstance(node, ast.FunctionDef):
                    given = zip(reversed(node.args.args), reversed(node.args.defaults), strict=False)
                    for argument, default in given:
                        bound.setdefault(argument.arg, []).append(default)
        self.values = {name: values[0] for name, values in bound.items() if len(values) == 1}

    def text(self, node: ast.expr | None, depth: int = 0) -> str | None:
        """Give an expression's text, None where it is no constant.

        >>> made = Constants(ast.parse("import os\\nD = '/data'").body, {"os": "os"})
        >>> made.text(ast.parse("os.path.join(D, f'{D}.csv')", mode="eval").body)
        '/data.csv'
        """
        if depth > DEPTH:
            return None
        match node:
            case ast.Constant(value=str(text)):
                return text
            case ast.Name(id=name) if name in self.values:
                return self.text(self.values[name], depth + 1)
            case ast.BinOp(left=left, op=ast.Add() | ast.Div() as op, right=right):
                return self._both(left, right, isinstance(op, ast.Div), depth)
            case ast.JoinedStr(values=values):
                return self._joined(values, depth)
            case ast.FormattedValue(value=value):
                return self.text(value, depth + 1)
            case ast.Call(func=function, args=arguments) if arguments:
                return self._called(full_name(function, self.known), arguments, depth)
        return None

    def _both(self, left: ast.expr, right: ast.expr, path: bool, depth: int) -> str | None:
        first, second = self.text(left, depth + 1), self.text(right, depth + 1)
        if first is None or second is None:
            return None
        return str(PurePosixPath(first) / second) if path else first + second

    def _joined(self, values: list[ast.expr], depth: int) -> str | None:
        parts = [self.text(value, depth + 1) for value in values]
        return None if None in parts else "".join(part for part in parts if part is not None)

    def _called(self, name: str, arguments: list[ast.expr], depth: int) -> str | None:
        if name in THROUGH:
            return self.text(arguments[0], depth + 1)
        if name not in JOINERS:
            return None
        parts = [self.text(argument, depth + 1) for argument in arguments]
        if any(part is None for part in parts):
            return None
        return str(PurePosixPath(*(part for part in parts if part is not None)))
