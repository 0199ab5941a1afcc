"""What the parts of a pipeline's document have to be: maps, lists, texts, numbers. What is not so is told by place.

Nothing is read before the whole is known to be of a size that can be: a few lines of YAML whose aliases stand for each
other are a billion values, or one that holds itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from trilho.pipeline.ir.spec import IrError
from trilho.pipeline.ir.values import from_old

NAME = re.compile(r"\w[\w.-]*")
DEEPEST = 200
SPARE = 1_000_000  # so many values may aliases stand for, or twice as many as are written
T = TypeVar("T")


def check_extent(document: Any) -> None:
    """Raise IrError for a document that is nested too deep, holds itself, or grows beyond reason by its aliases.

    >>> check_extent({"a": [1, {"b": 2}]})
    """
    known: dict[int, tuple[int, int]] = {}
    written = 0

    def extent(node: Any, depth: int) -> tuple[int, int]:
        """Give how many values a node stands for, and how deep it goes."""
        nonlocal written
        if id(node) not in known:
            if depth > DEEPEST:
                raise IrError(f"it is nested deeper than {DEEPEST} levels, or holds itself")
            parts = list(node.values()) if isinstance(node, Mapping) else node
            inside = [extent(part, depth + 1) for part in parts if isinstance(part, (Mapping, list))]
            written += len(parts)
            sizes, heights = [size for size, _ in inside], [height for _, height in inside]
            known[id(node)] = (len(parts) + sum(sizes), 1 + max(heights, default=0))
        if depth + known[id(node)][1] > DEEPEST + 1:
            raise IrError(f"it is nested deeper than {DEEPEST} levels, or holds itself")
        return known[id(node)]

    size, _ = extent([document], 0)
    if size > SPARE + 2 * written:
        raise IrError(f"its aliases make {size} values of the {written} that are written, which is more than is read")


def as_map(found: Any, where: str) -> dict[str, Any]:
    """Give a map."""
    if not isinstance(found, Mapping):
        raise IrError(f"{where} is {_kind(found)}, and a map is wanted")
    return {str(key): value for key, value in found.items()}


def as_known(found: Any, where: str, *keys: str) -> dict[str, Any]:
    """Give a map that has none but these keys."""
    held = as_map(found, where)
    unknown = sorted(set(held) - set(keys))
    if unknown:
        raise IrError(f"{where} has {unknown[0]!r}, which is not known here; known are {', '.join(keys)}")
    return held


def as_named(found: Any, where: str, make: Callable[[str, Any], T]) -> dict[str, T]:
    """Give a map of names, each with what is made of what it stands for."""
    held = as_map(found, where)
    for name in held:
        if NAME.fullmatch(name) is None:
            raise IrError(f"{where} has the name {name!r}; names are of letters, digits, '_', '-' and '.'")
    return {name: make(f"{where} {name}", item) for name, item in held.items()}


def as_list(found: Any, where: str) -> list[Any]:
    """Give a list."""
    if not isinstance(found, list):
        raise IrError(f"{where} is {_kind(found)}, and a list is wanted")
    return found


def as_text(found: Any, where: str) -> str:
    """Give a text."""
    if not isinstance(found, str):
        raise IrError(f"{where} is {_kind(found)}, and text is wanted")
    return found


def as_texts(found: Any, where: str) -> tuple[str, ...]:
    """Give the texts of a list; a number that was written without quotes is one."""
    listed = as_list(found, where)
    for one in listed:
        if isinstance(one, (Mapping, list)) or one is None:
            raise IrError(f"{where} holds {_kind(one)}, and text is wanted")
    return tuple(map(str, listed))


def as_number(found: Any, where: str) -> float:
    """Give a number that is not negative."""
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not 0 <= found < float("inf"):
        raise IrError(f"{where} is {found!r}, and a number from 0 on is wanted")
    return float(found)


def as_value(found: Any, where: str) -> Any:
    """Give a value as it is, or of the older schema ({"intValue": "3"})."""
    try:
        return from_old(found)
    except (TypeError, ValueError):
        raise IrError(f"{where} is {found!r}, which is no value") from None


def as_whole(found: Any, where: str) -> int:
    """Give a whole number that is not negative; a protobuf int64 is written as text."""
    number = found
    if isinstance(found, str) and found.isdecimal():
        number = int(found)
    if (
        isinstance(number, bool)
        or not isinstance(number, (int, float))
        or number != number
        or number not in range(2**31)
    ):
        raise IrError(f"{where} is {found!r}, and a whole number from 0 on is wanted")
    return int(number)


def _kind(found: Any) -> str:
    words = ((bool, "true or false"), ((int, float), "a number"), (str, "text"), (list, "a list"), (Mapping, "a map"))
    return next((word for kind, word in words if isinstance(found, kind)), "empty" if found is None else "no JSON")
