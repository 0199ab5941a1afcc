"""Conditions as text: the small part of CEL in which KFP says when a task is triggered.

Numbers are read as the type that was declared, since all of them travel as doubles; where two types meet, the wider
one is compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from trilho.pipeline.compile.scopes import Channel
from trilho.pipeline.definition.document import GraphError

Find = Callable[[Mapping[str, Any]], Channel]
NUMBERS = ("NUMBER_INTEGER", "NUMBER_DOUBLE")
CONSTANTS = {str: "STRING", bool: "BOOLEAN", int: "NUMBER_INTEGER", float: "NUMBER_DOUBLE"}
WORDS = {"NUMBER_INTEGER": "int", "NUMBER_DOUBLE": "float", "STRING": "str", "BOOLEAN": "bool", "LIST": "list",
         "STRUCT": "dict"}  # fmt: skip


def condition_text(condition: Mapping[str, Any] | None, before: list[Mapping[str, Any]], find: Find) -> str:
    """Write when a branch runs: none of the branches before it does, and its own condition holds."""
    parts = [f"!({_text(other, find)})" for other in before]
    if condition is not None:
        own = _text(condition, find)
        parts.append(f"({own})" if "any" in condition and before else own)
    return " && ".join(parts)


def operands(condition: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """Give what a condition reads, in the order in which it is written."""
    if condition is None:
        return
    if "op" in condition:
        yield from (side for side in (condition["left"], condition["right"]) if "const" not in side)
        return
    inner = [condition["not"]] if "not" in condition else condition.get("all") or condition["any"]
    for one in inner:
        yield from operands(one)


def _text(condition: Mapping[str, Any], find: Find) -> str:
    if "op" in condition:
        return _comparison(condition, find)
    if "not" in condition:
        return f"!({_text(condition['not'], find)})"
    sign, inner = ("&&", condition["all"]) if "all" in condition else ("||", condition["any"])
    texts = [_text(one, find) for one in inner]
    if len(texts) == 1:
        return texts[0]
    return f" {sign} ".join(
        f"({text})" if "all" in one or "any" in one else text for one, text in zip(inner, texts, strict=True)
    )


def _comparison(condition: Mapping[str, Any], find: Find) -> str:
    sides = [condition["left"], condition["right"]]
    kinds = [CONSTANTS.get(type(side["const"]), "") if "const" in side else find(side).type for side in sides]
    common = _common(kinds, sides)
    texts = [_operand(side, kind, common, find) for side, kind in zip(sides, kinds, strict=True)]
    return f"{texts[0]} {condition['op']} {texts[1]}"


def _common(kinds: list[str], sides: list[Mapping[str, Any]]) -> str:
    if kinds[0] == kinds[1] and kinds[0] in (*NUMBERS, "STRING", "BOOLEAN"):
        return kinds[0]
    if set(kinds) <= set(NUMBERS):
        return "NUMBER_DOUBLE"
    said = " with ".join(_said(side, kind) for side, kind in zip(sides, kinds, strict=True))
    raise GraphError(f"a condition compares {said}", hint="compare a text, a number or a truth value with its like")


def _said(side: Mapping[str, Any], kind: str) -> str:
    return repr(side["const"]) if "const" in side else f"a {WORDS.get(kind, 'value')}"


def _operand(side: Mapping[str, Any], kind: str, common: str, find: Find) -> str:
    if "const" not in side:
        text = f"inputs.parameter_values['{find(side).handed}']"
        text = f"int({text})" if kind == "NUMBER_INTEGER" else text
    else:
        text = _literal(side["const"])
    return f"double({text})" if kind == "NUMBER_INTEGER" and common == "NUMBER_DOUBLE" else text


def _literal(value: Any) -> str:
    r"""Write a constant.

    >>> _literal(True), _literal("it's"), _literal(-0.5)
    ('true', "'it\\'s'", '-0.5')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "'" + "".join(_escaped(character) for character in value) + "'"
    if not math.isfinite(value):
        raise GraphError(f"a condition compares with {value}", hint="compare with a finite number")
    return str(value)


def _escaped(character: str) -> str:
    if character in "'\\":
        return "\\" + character
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
