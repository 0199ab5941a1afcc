"""The part of the Common Expression Language that pipelines use, parsed and never eval'ed.

Conditions ("inputs.parameter_values['n'] > 3 && !(...)") and selectors ("parseJson(string_value)['a']") are read into
a tree; what cannot be resolved (a name that is not there, types that cannot be compared) is an error, not false. As
in a protobuf Value every number is a double, and `int()` makes an integer of it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from trilho.pipeline.ir.syntax import METHODS, ExpressionError, Node, read

__all__ = ["Expression", "ExpressionError", "parse", "text_of"]

ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
TRUTHS = {"true": True, "True": True, "false": False, "False": False}


class Untyped(str):
    """A value of any type that is passed on as text: the compiler does not know what type a loop's item is of.

    It writes `item['n'] < 3` as a comparison with '3', which is one of numbers where both are.
    """


@dataclass(frozen=True)
class Expression:
    """An expression that was read."""

    text: str
    tree: Node

    def value(self, variables: Mapping[str, Any]) -> Any:
        """Give what it comes to. Raises ExpressionError where that can't be said.

        >>> parse("parseJson(string_value)['a'] + 1.5").value({"string_value": '{"a": 2}'})
        3.5
        """
        return _value(self.tree, variables)

    def holds(self, variables: Mapping[str, Any]) -> bool:
        """Say whether a condition is true.

        >>> condition = parse("int(inputs.parameter_values['n']) > 2 && inputs.parameter_values['s'] != 'x'")
        >>> condition.holds({"inputs": {"parameter_values": {"n": 3, "s": "y"}}})
        True
        """
        found = self.value(variables)
        if not isinstance(found, bool):
            raise ExpressionError(f"it comes to {_shown(found)}, which is neither true nor false")
        return found


@functools.lru_cache(maxsize=4096)
def parse(text: str) -> Expression:
    """Read an expression. Raises ExpressionError with the place where it stops being one."""
    return Expression(text, read(text))


def _value(node: Node, variables: Mapping[str, Any]) -> Any:
    match node.kind:
        case "constant":
            return node.value
        case "name":
            if node.value not in variables:
                raise ExpressionError(f"there is no {node.value}; there are: {', '.join(sorted(variables)) or 'none'}")
            return _doubles(variables[node.value])
        case "member":
            return _member(_value(node.parts[0], variables), node.value)
        case "index":
            return _member(*(_value(part, variables) for part in node.parts))
        case "choice":
            asked, yes, no = node.parts
            return _value(yes if _truth(_value(asked, variables), "?") else no, variables)
        case "list":
            return [_value(part, variables) for part in node.parts]
        case "map":
            values = [_value(part, variables) for part in node.parts]
            return dict(zip(values[::2], values[1::2], strict=True))
        case "unary":
            return _unary(node.value, _value(node.parts[0], variables))
        case "binary":
            return _binary(node, variables)
    return _call(node, variables)


def _doubles(found: Any) -> Any:
    """Give what was given from outside as a protobuf Value would have it: every number is a double."""
    if isinstance(found, Mapping):
        return {key: _doubles(value) for key, value in found.items()}
    if isinstance(found, (list, tuple)):
        return [_doubles(value) for value in found]
    return float(found) if isinstance(found, int) and not isinstance(found, bool) else found


def _member(of: Any, key: Any) -> Any:
    if isinstance(of, Mapping) and not isinstance(key, (list, dict)):
        if key not in of:
            names = ", ".join(repr(name) for name in sorted(map(str, of)))
            raise ExpressionError(f"there is no {key!r}; there are: {names or 'none'}")
        return of[key]
    if isinstance(of, list) and isinstance(key, (int, float)) and not isinstance(key, bool) and key == int(key):
        if not 0 <= key < len(of):
            raise ExpressionError(f"there is no item {int(key)} in a list of {len(of)}")
        return of[int(key)]
    raise ExpressionError(f"{_shown(of)} has no {key!r}")


def _unary(sign: str, found: Any) -> Any:
    if sign == "!":
        return not _truth(found, "!")
    if _kind(found) != "number":
        raise ExpressionError(f"- of {_shown(found)}")
    return -found


def _truth(found: Any, sign: str) -> bool:
    if not isinstance(found, bool):
        raise ExpressionError(f"{sign} wants true or false, not {_shown(found)}")
    return found


def _binary(node: Node, variables: Mapping[str, Any]) -> Any:
    sign, left = node.value, _value(node.parts[0], variables)
    if sign in ("&&", "||"):
        if _truth(left, sign) is (sign == "||"):
            return left
        return _truth(_value(node.parts[1], variables), sign)
    right = _value(node.parts[1], variables)
    if sign == "in":
        if not isinstance(right, (list, dict)):
            raise ExpressionError(f"{_shown(left)} in {_shown(right)}")
        return any(_kind(left) == _kind(one) and left == one for one in right)
    if sign in ("==", "!="):
        if _kind(left) != _kind(right) and left is not None and right is not None:
            raise ExpressionError(f"{_shown(left)} cannot be compared with {_shown(right)}")
        return (left == right) is (sign == "==")
    if sign in ORDER:
        left, right = _numbers(left, right)
        if _kind(left) != _kind(right) or _kind(left) not in ("number", "text", "truth value"):
            raise ExpressionError(f"{_shown(left)} cannot be compared with {_shown(right)}")
        return ORDER[sign](left, right)
    return _arithmetic(sign, left, right)


def _numbers(left: Any, right: Any) -> tuple[Any, Any]:
    """Give what is compared by size as numbers, where one of both is Untyped and both can be."""
    if isinstance(left, Untyped) or isinstance(right, Untyped):
        with contextlib.suppress(TypeError, ValueError):
            return _double(left), _double(right)
    return left, right


def _arithmetic(sign: str, left: Any, right: Any) -> Any:
    numbers = _kind(left) == _kind(right) == "number"
    if sign == "+" and (numbers or (_kind(left) == _kind(right) and _kind(left) in ("text", "list"))):
        return left + right
    if not numbers:
        raise ExpressionError(f"{_shown(left)} {sign} {_shown(right)}")
    if sign in "-*":
        return left - right if sign == "-" else left * right
    whole = isinstance(left, int) and isinstance(right, int)
    if right == 0:
        raise ExpressionError(f"{_shown(left)} {sign} 0")
    if sign == "%":
        return math.fmod(left, right) if not whole else int(math.fmod(left, right))
    return int(left / right) if whole else left / right


def _call(node: Node, variables: Mapping[str, Any]) -> Any:
    name = node.value
    if name == "has":
        return _has(node, variables)
    given = [_value(part, variables) for part in node.parts]
    wanted = 2 if name in METHODS and name != "size" else 1
    if len(given) != wanted:
        raise ExpressionError(f"{name} takes {wanted} argument{'s' if wanted > 1 else ''}, not {len(given)}")
    try:
        return CALLS[name](*given)
    except (TypeError, ValueError, KeyError, OverflowError, re.error):
        raise ExpressionError(f"{name}({', '.join(_shown(one) for one in given)}) has no value") from None


def _has(node: Node, variables: Mapping[str, Any]) -> bool:
    if len(node.parts) != 1 or node.parts[0].kind not in ("member", "index"):
        raise ExpressionError("has() takes one field, as in has(inputs.x)")
    part = node.parts[0]
    of = _value(part.parts[0], variables)
    key = part.value if part.kind == "member" else _value(part.parts[1], variables)
    return isinstance(of, Mapping) and key in of


def _integer(given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, (int, float, str)):
        raise TypeError
    return int(given.strip()) if isinstance(given, str) else int(given)


def _double(given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, (int, float, str)):
        raise TypeError
    return float(given)


def _boolean(given: Any) -> bool:
    if isinstance(given, bool):
        return given
    return TRUTHS[given]


def text_of(value: Any) -> str:
    """Write a value as text, as the pipelines' backends do where a text is wanted.

    >>> [text_of(x) for x in ("a", 3.0, 0.5, True, [1, "b"], None)]
    ['a', '3', '0.5', 'true', '[1, "b"]', 'null']
    """
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return json.dumps(value, ensure_ascii=False)


def _size(given: Any) -> int:
    if not isinstance(given, (str, list, dict)):
        raise TypeError
    return len(given)


def _texts(function: Callable[[str, str], bool]) -> Callable[[Any, Any], bool]:
    def checked(of: Any, part: Any) -> bool:
        if not isinstance(of, str) or not isinstance(part, str):
            raise TypeError
        return function(of, part)

    return checked


CALLS: dict[str, Callable[..., Any]] = {
    "int": _integer,
    "uint": _integer,
    "double": _double,
    "string": text_of,
    "bool": _boolean,
    "size": _size,
    "parseJson": functools.partial(json.loads, parse_int=float),
    "startsWith": _texts(str.startswith),
    "endsWith": _texts(str.endswith),
    "contains": _texts(lambda of, part: part in of),
    "matches": _texts(lambda of, part: re.search(part, of) is not None),
}


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "truth value"
    kinds = ((str, "text"), ((int, float), "number"), (list, "list"), (Mapping, "map"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "null")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return f"the {_kind(value)} {text if len(text) <= 60 else text[:57] + '...'}" if value is not None else "null"
