"""A compiled pipeline as text: YAML with sorted keys, the same bytes for the same pipeline on any machine.

Written here and not by a YAML library, whose builds break long lines in different places; read by any of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./@-]*(:[A-Za-z0-9_./@-]+)*")
WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf"})
TYPES = {"STRING": "str", "NUMBER_INTEGER": "int", "NUMBER_DOUBLE": "float", "BOOLEAN": "bool", "LIST": "list",
         "STRUCT": "dict"}  # fmt: skip


def dump(ir: Mapping[str, Any]) -> str:
    """Write a compiled pipeline; a comment at the top says what it takes."""
    return "\n".join([*_heading(ir), *_lines(ir, "")]) + "\n"


def _heading(ir: Mapping[str, Any]) -> Iterator[str]:
    yield "# PIPELINE DEFINITION"
    yield f"# Name: {ir['pipelineInfo']['name']}"
    parameters = ir["root"].get("inputDefinitions", {}).get("parameters", {})
    if parameters:
        yield "# Inputs:"
    for name, declared in sorted(parameters.items()):
        kind = TYPES.get(declared["parameterType"], declared["parameterType"])
        default = f" [Default: {_quoted(declared['defaultValue'])}]" if "defaultValue" in declared else ""
        yield f"#    {name}: {kind}{default}"


def _quoted(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _lines(value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key in sorted(value):
            yield from _entry(f"{indent}{_scalar(key)}:", value[key], indent, within="  ")
    else:
        for item in value:
            yield from _entry(f"{indent}-", item, indent, within="  ")


def _entry(head: str, value: Any, indent: str, *, within: str) -> Iterator[str]:
    if not isinstance(value, (Mapping, list, tuple)):
        yield f"{head} {_scalar(value)}"
    elif not value:
        yield f"{head} {'{}' if isinstance(value, Mapping) else '[]'}"
    elif head.endswith("-"):
        lines = list(_lines(value, indent + within))
        yield f"{head} {lines[0].lstrip()}"
        yield from lines[1:]
    else:
        yield head
        yield from _lines(value, indent + (within if isinstance(value, Mapping) else ""))


def _scalar(value: Any) -> str:
    r"""Write a text, a number or a truth value; a text that could be taken for something else is quoted.

    >>> _scalar("comp-fit"), _scalar("{{$}}"), _scalar("no"), _scalar(0.5), _scalar("1e3"), _scalar("a\tb")
    ('comp-fit', '"{{$}}"', '"no"', '0.5', '"1e3"', '"a\\tb"')
    """
    if not isinstance(value, str):
        return _number(value) if isinstance(value, float) else json.dumps(value)
    if PLAIN.fullmatch(value) and value.lower() not in WORDS:
        return value
    return '"' + "".join(_escaped(character) for character in value) + '"'


def _number(value: float) -> str:
    text = repr(value)
    mantissa, exponent, power = text.partition("e")  # YAML takes 1e-05 for a text
    return text if not exponent else f"{mantissa}{'' if '.' in mantissa else '.0'}e{power}"


def _escaped(character: str) -> str:
    if character in '"\\' or character in "\n\t\r\b\f":
        return json.dumps(character)[1:-1]
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
