"""What a field allows, in the words of a refusal: its type with the limits, null or not, what training saw."""

from __future__ import annotations

import numpy as np

from trilho_runtime.schema.field import Field

MOST_SHOWN = 8
LONGEST = 40
FLOATS = ("float16", "float32")
WANTED = {
    "number": "a number",
    "integer": "an integer",
    "boolean": "true or false",
    "string": "a string",
    "timestamp": 'an ISO 8601 time such as "2013-07-01T12:00:00"',
}


def wanted(field: Field, value: object = None) -> str:
    """Say what a field allows. Values beyond those of the training are taken too, and so stand in brackets.

    >>> wanted(Field("n", "integer", False, "int8"), 300)
    'an integer, -128 to 127'
    >>> wanted(Field("x", "number", True, minimum=0.5, maximum=9.0), "2")
    'a number or null (at training 0.5 to 9)'
    >>> wanted(Field("c", "string", False, categories=("a", "b")))
    'a string (at training "a", "b", never null)'
    """
    told = [at_training(field)] if at_training(field) else []
    told += ["never null"] if value is None and not field.nullable else []
    null = " or null" if field.nullable else ""
    return f"{WANTED[field.type]}{_limits(field, value)}{null}" + (f" ({', '.join(told)})" if told else "")


def at_training(field: Field) -> str:
    """Give the range or the categories of the training; nothing where they are not known.

    >>> at_training(Field("c", "string", False, categories=tuple("abcdefghijk")))
    'at training "a", "b", "c", "d", "e", "f", "g", "h" and 3 more'
    """
    if field.categories:
        return f"at training {_few([_text(c) for c in field.categories])}"
    if field.minimum is None or field.maximum is None:
        return ""
    return f"at training {_number(field.minimum)} to {_number(field.maximum)}"


def _limits(field: Field, value: object) -> str:
    if field.type == "integer":
        return ", {} to {}".format(*field.limits)
    if field.type == "number" and (field.numpy in FLOATS or type(value) in (int, float)):
        largest = float(np.finfo(field.numpy).max)
        return f", {-largest:.6g} to {largest:.6g}"
    return ""


def _few(texts: list[str]) -> str:
    more = len(texts) - MOST_SHOWN
    return ", ".join(texts[:MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _text(value: str) -> str:
    return f'"{value if len(value) <= LONGEST else value[: LONGEST - 3] + "..."}"'


def _number(value: float | str) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)[:LONGEST]
