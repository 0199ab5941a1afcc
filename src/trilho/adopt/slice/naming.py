"""Names for what is learnt: short, of the notebook's own words, each once."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

QUIET = frozenset({
    "apply", "astype", "columns", "copy", "dropna", "dt", "fillna", "fit", "fit_transform", "groupby", "iloc", "index",
    "item", "items", "loc", "map", "reset_index", "set_index", "sort_index", "sort_values", "str", "to_dict", "to_list",
    "tolist", "transform", "values",
})  # fmt: skip


class StateNames:
    """The names that were given so far."""

    def __init__(self) -> None:
        self.given: dict[str, str] = {}  # name -> the text that it is of
        self.learnt: list[str] = []  # labels as they stand in the code
        self.series: set[str] = set()  # names of parameters that are columns

    def of(self, node: ast.AST, end: str = "") -> str:
        """Make a name from an expression's columns and its last method.

        >>> StateNames().of(ast.parse("df['age'].median()", mode="eval").body)
        'age_median'
        """
        words = [*self._words(node), *([end] if end else [])]
        kept = [word for word in dict.fromkeys(words) if word][-3:]
        return _clean("_".join(kept)) or "value"

    def columns_of(self, node: ast.AST) -> str:
        """Give the columns that an expression names, joined."""
        texts = [p.value for p in ast.walk(node) if isinstance(p, ast.Constant) and isinstance(p.value, str)]
        return _clean("_".join(texts[:2]))

    def label(self, name: str, varying: Sequence[str], text: str, *, own: str = "", function: bool = False) -> str:
        """Give the name as it is written in the call: a text, or an f-string with what varies."""
        name = _clean(name) or "value"
        shown = [f"{{{v}.name}}" if v in self.series else f"{{{v}}}" for v in varying]
        rest = "_".join(part for part in re.split(r"_+", name) if part not in varying) or name
        key = "|".join([*shown, rest])
        number, base = 2, key
        while self.given.get(key, text) != text or (key in self.given and not function and not own):
            key = f"{base}_{number}"
            number += 1
        self.given[key] = text
        rest = key.rpartition("|")[2]
        return (
            f'f"{rest}_{"_".join(shown)}"'
            if shown and own
            else f'f"{"_".join([*shown, rest])}"'
            if shown
            else f'"{rest}"'
        )

    def _words(self, node: ast.AST) -> list[str]:
        match node:
            case ast.Call(func=function, args=args):
                inner = self._words(function)
                return inner if inner else [w for a in args for w in self._words(a)]
            case ast.Attribute(value=value, attr=attr):
                before = self._words(value) if not isinstance(value, ast.Name) else []
                return [*before, *([] if attr in QUIET else [attr])]
            case ast.Subscript(value=value, slice=inner):
                before = self._words(value) if not isinstance(value, ast.Name) else []
                return [*before, *self._words(inner)]
            case ast.Constant(value=str(text)):
                return [_clean(text)]
            case ast.Name(id=name):
                return [name]
            case ast.List(elts=parts) | ast.Tuple(elts=parts):
                return [w for p in parts[:2] for w in self._words(p)]
            case ast.BinOp(left=left, right=right):
                return [*self._words(left), *self._words(right)]
            case ast.Compare(left=left):
                return self._words(left)
            case _:
                return []


def _clean(text: str) -> str:
    return re.sub(r"\W+", "_", text).strip("_")
