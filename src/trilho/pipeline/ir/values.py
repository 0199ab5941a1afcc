"""The values that pass between tasks, typed as KFP types them: a JSON number may be an integer, text is never one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from trilho.pipeline.ir.expression import text_of
from trilho.pipeline.ir.spec import ParameterType

SAFE = 2**53
WORDS: dict[str, str] = {
    "STRING": "text",
    "NUMBER_INTEGER": "a whole number",
    "NUMBER_DOUBLE": "a number",
    "BOOLEAN": "true or false",
    "LIST": "a list",
    "STRUCT": "a map",
    "TASK_FINAL_STATUS": "a map",
    "TASK_CONFIG": "a map",
}
TRUTHS = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}


class ValueMismatch(ValueError):
    """A value is not of the type that is wanted."""


def coerced(value: Any, wanted: ParameterType, literals: Sequence[Any] = ()) -> Any:
    """Give a value as its type has it. Raises ValueMismatch with what was received and what is wanted.

    >>> coerced(3.0, "NUMBER_INTEGER"), coerced(3, "NUMBER_DOUBLE"), coerced(3.0, "STRING"), coerced([1.0], "LIST")
    (3, 3.0, '3', [1])
    """
    found = _coerced(value, wanted)
    if literals and found not in [_coerced(one, wanted) for one in literals]:
        raise ValueMismatch(f"{shown(found)} is none of {', '.join(map(shown, literals))}")
    return found


def _coerced(value: Any, wanted: ParameterType) -> Any:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    match wanted:
        case "STRING":
            return text_of(value)
        case "NUMBER_INTEGER" if number and (isinstance(value, int) or value.is_integer()):
            return int(value)
        case "NUMBER_DOUBLE" if number:
            return float(value)
        case "BOOLEAN" if isinstance(value, bool):
            return value
        case "LIST" if isinstance(value, (list, tuple)):
            return plain(value)
        case "STRUCT" | "TASK_FINAL_STATUS" | "TASK_CONFIG" if isinstance(value, Mapping):
            return plain(value)
    raise ValueMismatch(f"{shown(value)} is not {WORDS[wanted]}")


def plain(value: Any) -> Any:
    """Give JSON with whole numbers as integers, since YAML that the compiler wrote has 3.0 where 3 was meant.

    >>> plain({"a": [1.0, 2.5, "x", True]})
    {'a': [1, 2.5, 'x', True]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < SAFE:
        return int(value)
    return value


def read_text(text: str, wanted: ParameterType) -> Any:
    """Read what a step wrote to an output parameter's file.

    >>> read_text("3\\n", "NUMBER_INTEGER"), read_text("True", "BOOLEAN"), read_text('{"a": 1}', "STRUCT")
    (3, True, {'a': 1})
    """
    if wanted == "STRING":
        return text
    word = text.strip()
    try:
        if wanted == "BOOLEAN":
            return TRUTHS[word.lower()]
        value = float(word) if wanted == "NUMBER_DOUBLE" else json.loads(word)
    except (ValueError, KeyError, RecursionError):
        raise ValueMismatch(f"{shown(text)} is not {WORDS[wanted]}") from None
    return coerced(value, wanted)


def from_old(value: Any) -> Any:
    """Read a value of the older schema, {"intValue": "3"}; anything else is given back.

    >>> from_old({"intValue": "3"}), from_old({"stringValue": "a"}), from_old("b")
    (3, 'a', 'b')
    """
    if isinstance(value, Mapping) and len(value) == 1:
        kind, held = next(iter(value.items()))
        reads = {"intValue": int, "doubleValue": float, "stringValue": str}
        if kind in reads:
            return reads[kind](held)
    return value


def to_old(value: Any) -> dict[str, Any]:
    """Write a value in the older schema.

    >>> to_old(3), to_old(0.5), to_old("a"), to_old([1])
    ({'intValue': '3'}, {'doubleValue': 0.5}, {'stringValue': 'a'}, {'stringValue': '[1]'})
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return {"intValue": str(value)}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": text_of(value)}


def is_json(value: Any) -> bool:
    """Say whether a value can be written as JSON, which has no NaN and no infinity.

    >>> is_json([1.5]), is_json([float("nan")])
    (True, False)
    """
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


def shown(value: Any) -> str:
    """Show a value in a message, shortened."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."
