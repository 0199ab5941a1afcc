"""What really reaches an estimator inside the project's model, and what it answers, seen by standing in between."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterator
from typing import Any

DEPTH = 6


def find_inside(model: Any, type_: str) -> Any:
    """Find the estimator of a type in a model: in its attributes, else itself; None where there is none.

    A class that the notebook defined is found by its name alone, also where the project had to add "_" to it.
    """
    inside = _find_in(model, type_, DEPTH, {id(model)})
    return inside if inside is not None or not _is_of(model, type_) else model


def _find_in(value: Any, type_: str, depth: int, seen: set[int]) -> Any:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else None
    if parts is None:
        parts = vars(value).values() if hasattr(value, "__dict__") and not isinstance(value, type) else ()
    for part in list(parts) if depth else ():
        if id(part) in seen:
            continue
        seen.add(id(part))
        found = part if _is_of(part, type_) else _find_in(part, type_, depth - 1, seen)
        if found is not None:
            return found
    return None


def _is_of(value: Any, type_: str) -> bool:
    name = full_name(type(value))
    module, _, own = type_.rpartition(".")
    return name == type_ or (module == "__main__" and type(value).__qualname__.rstrip("_") == own.rstrip("_"))


def full_name(kind: type) -> str:
    """Give a class's name with its module.

    >>> full_name(dict)
    'builtins.dict'
    """
    return f"{kind.__module__}.{kind.__qualname__}"


@contextlib.contextmanager
def recorded(estimator: Any, method: str) -> Iterator[list[tuple[Any, Any]]]:
    """Record the first argument and the result of every call of an estimator's method."""
    calls: list[tuple[Any, Any]] = []
    original = getattr(estimator, method)

    @functools.wraps(original)
    def standing_between(*given: Any, **named: Any) -> Any:
        result = original(*given, **named)
        calls.append((given[0] if given else next(iter(named.values()), None), result))
        return result

    with _matrices() as made_of:
        object.__setattr__(estimator, method, standing_between)
        try:
            yield calls
        finally:
            object.__delattr__(estimator, method)
            calls[:] = [(made_of.get(id(rows), (None, rows))[1], result) for rows, result in calls]


@contextlib.contextmanager
def _matrices() -> Iterator[dict[int, tuple[Any, Any]]]:
    """Record what each DMatrix is made of, with the matrix itself, so that no other takes its place in memory."""
    made_of: dict[int, tuple[Any, Any]] = {}
    module = sys.modules.get("xgboost")
    if module is None:
        yield made_of
        return
    kind = module.DMatrix
    original = kind.__init__

    @functools.wraps(original)
    def making(self: Any, *given: Any, **named: Any) -> None:
        original(self, *given, **named)
        made_of[id(self)] = (self, given[0] if given else named.get("data"))

    kind.__init__ = making
    try:
        yield made_of
    finally:
        kind.__init__ = original
