"""Values and their declared types: what a pipeline can pass between steps, and how it is held against a type.

Services pass whole numbers as 5.0 and read text back as it is written; a step is given what it asked for.
"""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Mapping
from typing import Any

KINDS: dict[Any, str] = {str: "str", int: "int", float: "float", bool: "bool", list: "list", dict: "dict"}
UNIONS = (typing.Union, types.UnionType)


class ValueTypeError(TypeError):
    """A value is not of the type that was declared."""


def convert(value: Any, annotation: Any, what: str) -> Any:
    """Give a value as its declared type asks for it. Raises ValueTypeError when it is of another.

    >>> convert(5.0, int, "parameter rows"), convert(1, float, "parameter rate"), convert(None, int | None, "x")
    (5, 1.0, None)
    """
    origin = typing.get_origin(annotation)
    if origin in UNIONS:
        if value is None and type(None) in typing.get_args(annotation):
            return None
        kinds = [typing.get_origin(x) or x for x in typing.get_args(annotation) if x is not type(None)]
    else:
        kinds = [origin or annotation]
    if not all(kind in KINDS for kind in kinds):
        return value
    for kind in kinds:
        if fits(value, kind):
            return kind(value) if kind in (int, float) else _with_numbers(value, annotation)
    raise ValueTypeError(f"{what} is {value!r}; {describe_type(annotation)} is wanted")


def _with_numbers(value: Any, annotation: Any) -> Any:
    """Give what a list or an object holds as its type asks for it; what is of another type is left as it is.

    >>> convert([5, 0.5], list[float], "scores"), convert({"a": 5.0}, dict[str, int], "sizes")
    ([5.0, 0.5], {'a': 5})
    """
    options = typing.get_args(annotation) if typing.get_origin(annotation) in UNIONS else (annotation,)
    wanted = next((x for x in options if typing.get_origin(x) is type(value)), None)
    inner = typing.get_args(wanted)[-1] if wanted is not None else None
    kind: Any = typing.get_origin(inner) or inner

    def one(item: Any) -> Any:
        if kind in KINDS and fits(item, kind):
            return kind(item) if kind in (int, float) else _with_numbers(item, inner)
        return item

    if kind not in KINDS:
        return value
    return {key: one(item) for key, item in value.items()} if isinstance(value, dict) else [one(x) for x in value]


def fits(value: Any, kind: type) -> bool:
    """Say whether a JSON value can stand for a type: 5.0 is a whole number, True is none.

    >>> [fits(5.0, int), fits(5, float), fits(True, int), fits("5", int)]
    [True, True, False, False]
    """
    if isinstance(value, bool):
        return kind is bool
    if kind is int:
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return isinstance(value, (int, float) if kind is float else kind)


def describe_type(annotation: Any) -> str:
    """Write a type as its author would.

    >>> describe_type(list[str]), describe_type(int)
    ('list[str]', 'int')
    """
    return annotation.__name__ if isinstance(annotation, type) and not typing.get_args(annotation) else str(annotation)


def fields_of(annotation: Any) -> dict[str, Any] | None:
    """Give the fields of a NamedTuple or TypedDict class; None for everything else."""
    if not isinstance(annotation, type) or not (hasattr(annotation, "_fields") or _is_typed_dict(annotation)):
        return None
    return typing.get_type_hints(annotation, vars(sys.modules[annotation.__module__]))


def _is_typed_dict(annotation: Any) -> bool:
    return hasattr(annotation, "__total__") and hasattr(annotation, "__required_keys__")


def is_mapping(value: Any) -> bool:
    """Say whether a value names other values."""
    return isinstance(value, Mapping)
