"""Constants of a notebook's code, as far as its text tells them: paths put together, file lists, grids, loop lengths.

Nothing is run. What is not known is UNKNOWN, never guessed; only whether files are there is looked up.
"""

from __future__ import annotations

import ast
import os
import string
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePath
from typing import Any

MANY = 200
"""Longer lists are not followed one by one."""
MOST = 100_000
"""Longer ones are not even kept."""


class _Unknown:
    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = _Unknown()


@dataclass
class Constants:
    """What names stand for at one point of the notebook, `folder` being where it runs."""

    folder: Path
    values: dict[str, Any] = field(default_factory=dict)
    modules: dict[str, str] = field(default_factory=dict)  # name -> what it was imported as

    def imported(self, node: ast.Import | ast.ImportFrom) -> None:
        """Keep what names an import binds."""
        for alias in node.names:
            if isinstance(node, ast.ImportFrom):
                self.modules[alias.asname or alias.name] = f"{node.module or ''}.{alias.name}"
            else:
                first = alias.name.partition(".")[0]
                self.modules[alias.asname or first] = alias.name if alias.asname else first

    def assign(self, target: ast.expr, value: Any) -> None:
        """Bind a target to a value, or to UNKNOWN."""
        if isinstance(target, ast.Name):
            self.modules.pop(target.id, None)
            self.values[target.id] = value
        elif isinstance(target, ast.Tuple | ast.List):
            known = isinstance(value, tuple | list) and len(value) == len(target.elts)
            for at, part in enumerate(target.elts):
                self.assign(part, value[at] if known else UNKNOWN)
        elif isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
            self.values[target.value.id] = UNKNOWN

    def dotted(self, node: ast.expr) -> str:
        """Give the full name of a function or module: `pd.read_csv` is "pandas.read_csv"; "" where it has none.

        >>> here = Constants(Path(), modules={"pd": "pandas"})
        >>> here.dotted(ast.parse("pd.read_csv", mode="eval").body)
        'pandas.read_csv'
        """
        if isinstance(node, ast.Name):
            return self.modules.get(node.id, "" if node.id in self.values else node.id)
        if isinstance(node, ast.Attribute):
            before = self.dotted(node.value)
            return f"{before}.{node.attr}" if before else ""
        return ""

    def fold(self, node: ast.expr | None) -> Any:
        """Give an expression's value, or UNKNOWN.

        >>> here = Constants(Path(), values={"DATA": "../data/"})
        >>> here.fold(ast.parse("DATA + f'sales_{2024}.csv'", mode="eval").body)
        '../data/sales_2024.csv'
        """
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        try:
            return method(node) if method is not None else UNKNOWN
        except (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError):
            return UNKNOWN

    def length(self, node: ast.expr | None) -> int | None:
        """Say how many items an expression has, or None."""
        value = self.fold(node)
        if isinstance(value, Sequence | Mapping | range) and not isinstance(value, str):
            return len(value)
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            return len(node.elts)
        return len(node.keys) if isinstance(node, ast.Dict) else None

    def _constant(self, node: ast.Constant) -> Any:
        return node.value

    def _name(self, node: ast.Name) -> Any:
        return self.values.get(node.id, UNKNOWN)

    def _list(self, node: ast.List | ast.Tuple) -> Any:
        """Fold what can be: a list keeps its length even where its items are not known."""
        items = [self.fold(item) for item in node.elts]
        return tuple(items) if isinstance(node, ast.Tuple) else items

    _tuple = _list

    def _dict(self, node: ast.Dict) -> Any:
        pairs = [(self.fold(key), self.fold(value)) for key, value in zip(node.keys, node.values, strict=True)]
        return UNKNOWN if any(key is UNKNOWN for key, _ in pairs) else dict(pairs)

    def _joinedstr(self, node: ast.JoinedStr) -> Any:
        parts = [self.fold(part) for part in node.values]
        return UNKNOWN if any(part is UNKNOWN for part in parts) else "".join(map(str, parts))

    def _formattedvalue(self, node: ast.FormattedValue) -> Any:
        value = self.fold(node.value)
        spec = self.fold(node.format_spec) if node.format_spec is not None else ""
        return UNKNOWN if UNKNOWN in (value, spec) else format(value, spec)

    def _binop(self, node: ast.BinOp) -> Any:
        left, right = self.fold(node.left), self.fold(node.right)
        if left is UNKNOWN or right is UNKNOWN or isinstance(node.op, ast.Pow | ast.LShift | ast.MatMult):
            return UNKNOWN
        if isinstance(node.op, ast.Mult) and not all(isinstance(side, int | float) for side in (left, right)):
            return UNKNOWN
        work: dict[type[ast.operator], Any] = {
            ast.Add: lambda: left + right, ast.Sub: lambda: left - right, ast.Mult: lambda: left * right,
            ast.Div: lambda: left / right, ast.Mod: lambda: left % right, ast.FloorDiv: lambda: left // right,
        }  # fmt: skip
        return work[type(node.op)]()

    def _unaryop(self, node: ast.UnaryOp) -> Any:
        value = self.fold(node.operand)
        if value is UNKNOWN:
            return UNKNOWN
        return (not value) if isinstance(node.op, ast.Not) else -value if isinstance(node.op, ast.USub) else UNKNOWN

    def _compare(self, node: ast.Compare) -> Any:
        left, right = self.fold(node.left), self.fold(node.comparators[0])
        if UNKNOWN in (left, right) or len(node.ops) > 1:
            return UNKNOWN
        work = {ast.Eq: left == right, ast.NotEq: left != right, ast.Is: left is right, ast.IsNot: left is not right}
        return work.get(type(node.ops[0]), UNKNOWN)

    def _ifexp(self, node: ast.IfExp) -> Any:
        test = self.fold(node.test)
        return UNKNOWN if test is UNKNOWN else self.fold(node.body if test else node.orelse)

    def _subscript(self, node: ast.Subscript) -> Any:
        if self.dotted(node.value) == "os.environ":
            return os.environ.get(str(self.fold(node.slice)), UNKNOWN)
        held, key = self.fold(node.value), self.fold(node.slice)
        return UNKNOWN if held is UNKNOWN or key is UNKNOWN else held[key]

    def _attribute(self, node: ast.Attribute) -> Any:
        held = self.fold(node.value)
        if isinstance(held, PurePath) and node.attr in ("parent", "name", "stem", "suffix"):
            return getattr(held, node.attr)
        return {"os.sep": os.sep, "os.curdir": "."}.get(self.dotted(node), UNKNOWN)

    def _listcomp(self, node: ast.ListComp) -> Any:
        return [value for _, value in self.each(node)] if len(node.generators) == 1 else UNKNOWN

    def each(self, node: ast.ListComp | ast.GeneratorExp | ast.SetComp) -> Iterator[tuple[Any, Any]]:
        """Give the items of a comprehension with one `for` and what it makes of them."""
        [loop] = node.generators
        items = self.fold(loop.iter)
        if items is UNKNOWN or loop.ifs or len(items) > MANY:
            raise ValueError("not known")
        inner = Constants(self.folder, dict(self.values), self.modules)
        for item in items:
            inner.assign(loop.target, item)
            yield item, inner.fold(node.elt)

    def _call(self, node: ast.Call) -> Any:
        name = self.dotted(node.func)
        known = CALLS.get(name.removeprefix("pathlib."))
        if known is not None:
            given = [self.fold(arg) for arg in node.args]
            return UNKNOWN if any(value is UNKNOWN for value in given) else known(self, *given)
        if isinstance(node.func, ast.Attribute):
            return self._method(node, node.func)
        return UNKNOWN

    def _method(self, node: ast.Call, function: ast.Attribute) -> Any:
        """Fold a method of a string, a path or a dict that is known."""
        held = self.fold(function.value)
        given = [self.fold(arg) for arg in node.args]
        words = {word.arg: self.fold(word.value) for word in node.keywords if word.arg}
        if held is UNKNOWN or any(value is UNKNOWN for value in [*given, *words.values()]):
            return UNKNOWN
        if isinstance(held, str) and function.attr == "format":
            return string.Formatter().vformat(held, given, words)
        allowed = TEXT if isinstance(held, str) else KEYED if isinstance(held, dict) else PATHS
        if isinstance(held, str | dict | PurePath) and function.attr in allowed and not words:
            value = getattr(held, function.attr)(*given)
            return list(value) if isinstance(held, dict) and function.attr != "get" else value
        if isinstance(held, PurePath) and function.attr in ("exists", "is_file", "is_dir"):
            return getattr(self.folder / held, function.attr)()
        if isinstance(held, PurePath) and function.attr == "glob":
            return [PurePath(path) for path in found_files(self.folder, str(held / given[0]))]
        return (
            held if isinstance(held, PurePath) and function.attr in ("resolve", "expanduser", "absolute") else UNKNOWN
        )


TEXT = frozenset({"format", "join", "lower", "replace", "strip", "upper", "rstrip", "lstrip", "removesuffix"})
KEYED = frozenset({"get", "items", "keys", "values"})
PATHS = frozenset({"joinpath", "with_suffix", "with_name"})


def found_files(folder: Path, pattern: str) -> list[str]:
    """List the files that a pattern means where the notebook runs, in order, named as the notebook would.

    A pattern that goes nowhere gives none.
    """
    base, names = Path(os.path.expanduser(pattern)), []  # noqa: PTH111  a tilde alone
    parts = base.parts
    first = next((at for at, part in enumerate(parts) if any(mark in part for mark in "*?[")), len(parts) - 1)
    root = folder.joinpath(*parts[:first])
    for path in sorted(islice(root.glob(str(PurePath(*parts[first:]))), MOST)):
        names.append(str(PurePath(*parts[:first], path.relative_to(root))))
        if len(names) > MANY:
            break
    return names


def _exists(here: Constants, path: Any) -> bool:
    return Path(here.folder, os.path.expanduser(path)).exists()  # noqa: PTH111


def _few(items: Any) -> list[Any]:
    """Make a list of a thing that is not too long to be kept. Raises ValueError."""
    if len(items) > MOST:
        raise ValueError("too many")
    return list(items)


CALLS: dict[str, Any] = {
    "Path": lambda here, *parts: PurePath(*parts),
    "PurePath": lambda here, *parts: PurePath(*parts),
    "Path.cwd": lambda here: PurePath(),
    "Path.home": lambda here: PurePath("~"),
    "str": lambda here, value: str(value),
    "len": lambda here, value: len(value),
    "list": lambda here, value=(): _few(value),
    "sorted": lambda here, value: sorted(_few(value)),
    "enumerate": lambda here, value: list(enumerate(_few(value))),
    "zip": lambda here, *values: list(zip(*map(_few, values), strict=False)),
    "range": lambda here, *given: range(*given),
    "numpy.arange": lambda here, *given: [UNKNOWN] * len(_few(range(max(0, _steps(*given))))),
    "numpy.linspace": lambda here, low, high, number=50: [UNKNOWN] * len(_few(range(number))),
    "numpy.logspace": lambda here, low, high, number=50: [UNKNOWN] * len(_few(range(number))),
    "os.path.join": lambda here, *parts: os.path.join(*map(str, parts)),  # noqa: PTH118  as text
    "os.path.expanduser": lambda here, path: str(path),
    "os.path.abspath": lambda here, path: str(path),
    "os.path.dirname": lambda here, path: os.path.dirname(path),  # noqa: PTH120
    "os.path.basename": lambda here, path: os.path.basename(path),  # noqa: PTH119
    "os.path.exists": _exists,
    "os.path.isfile": _exists,
    "os.path.isdir": _exists,
    "os.getcwd": lambda here: ".",
    "os.getenv": lambda here, name, default=UNKNOWN: os.environ.get(name, default),
    "os.environ.get": lambda here, name, default=UNKNOWN: os.environ.get(name, default),
    "glob.glob": lambda here, pattern: found_files(here.folder, str(pattern)),
    "tempfile.gettempdir": lambda here: tempfile.gettempdir(),
}
"""Functions whose value can be told without running anything of the notebook's."""


def _steps(*given: float) -> int:
    low, high, step = (0, given[0], 1) if len(given) == 1 else (*given, 1)[:3]
    return -int(-(high - low) // step)
