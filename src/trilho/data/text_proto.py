"""Reads and writes the text form of protocol buffers, as far as a message's fields go: names and values, no schema.

A message is a mapping of field names to the list of their values, since a field may be repeated; a value is a text, a
number, a `Word` (true, INT) or a message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

TOKEN = re.compile(
    r"""(?P<space>[\s]+|\#[^\n]*)
      | (?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<number>-?(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?[fF]?)(?![\w.]))
      | (?P<word>-?[A-Za-z_][\w./-]*)
      | (?P<sign>[{}<>\[\]:;,])""",
    re.VERBOSE,
)
ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
SHORT = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
ENDS = {"{": "}", "<": ">"}


class TextError(ValueError):
    """A text is no message: what was found where, and what was wanted."""


class Word(str):
    """A value without quotes: true, false, or a name of an enumeration."""

    __slots__ = ()


Message = dict[str, list[Any]]


@dataclass
class _Reader:
    tokens: list[tuple[str, str, int]]
    at: int = 0

    def message(self, end: str = "") -> Message:
        found: Message = {}
        while self.peek() != end:
            name = self.name()
            values = self.values()
            found.setdefault(name, []).extend(values)
            if self.peek() in (";", ","):
                self.at += 1
        self.at += 1
        return found

    def name(self) -> str:
        kind, text, _ = self.tokens[self.at]
        if text == "[":  # an extension's or Any's name
            start = self.at
            while self.peek() not in ("]", ""):
                self.at += 1
            text = "".join(one[1] for one in self.tokens[start : self.at + 1])
            kind = "word" if self.peek() else "end"
        if kind != "word":
            raise self.wrong("the name of a field")
        self.at += 1
        return text

    def values(self) -> list[Any]:
        if self.peek() in ENDS:
            return [self.one()]
        if self.peek() != ":":
            raise self.wrong('":" or "{"')
        self.at += 1
        if self.peek() != "[":
            return [self.one()]
        self.at += 1
        found: list[Any] = []
        while self.peek() != "]":
            found.append(self.one())
            if self.peek() == ",":
                self.at += 1
            elif self.peek() != "]":
                raise self.wrong('"," or "]"')
        self.at += 1
        return found

    def one(self) -> Any:
        kind, text, _ = self.tokens[self.at]
        if text in ENDS:
            self.at += 1
            return self.message(ENDS[text])
        if kind not in ("text", "number", "word"):
            raise self.wrong("a value")
        self.at += 1
        if kind == "text":
            parts = [_unquoted(text)]
            while self.tokens[self.at][0] == "text":
                parts.append(_unquoted(self.tokens[self.at][1]))
                self.at += 1
            return b"".join(parts).decode("utf-8", errors="replace")
        return _number(text) if kind == "number" else _word(text)

    def peek(self) -> str:
        return self.tokens[self.at][1]

    def wrong(self, wanted: str) -> TextError:
        _, text, line = self.tokens[self.at]
        return TextError(f"line {line}: {text!r}; {wanted} is wanted" if text else f"it ends where {wanted} is wanted")


def parse(text: str) -> Message:
    """Read a message. Raises TextError with the line.

    >>> parse('feature { name: "age" presence { min_fraction: 1.0 } } flag: [true, 2]')
    {'feature': [{'name': ['age'], 'presence': [{'min_fraction': [1.0]}]}], 'flag': ['true', 2]}
    """
    return _Reader([*_tokens(text), ("end", "", 0)]).message()


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    at = 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None:
            raise TextError(
                f"line {text.count(chr(10), 0, at) + 1}: {text[at : at + 20].splitlines()[0]!r} is no text form"
            )
        if match.lastgroup != "space":
            yield str(match.lastgroup), match[0], text.count("\n", 0, at) + 1
        at = match.end()


def _unquoted(text: str) -> bytes:
    def plain(match: re.Match[bytes]) -> bytes:
        octal, code, short, long, other = match.groups()
        if octal or code:
            return bytes([int(octal, 8) & 255 if octal else int(code, 16)])
        if short or long:
            return chr(int(short or long, 16)).encode("utf-8", errors="replace")
        return SHORT.get(other, other)

    return ESCAPE.sub(plain, text[1:-1].encode())


def _number(text: str) -> int | float:
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    if digits[:2].lower() == "0x":
        return sign * int(digits, 16)
    if digits.isdigit():
        return sign * int(digits, 8 if digits.startswith("0") and digits.strip("01234567") == "" else 10)
    return sign * float(digits.rstrip("fF"))


def _word(text: str) -> Any:
    bare = text.removeprefix("-").lower()
    if bare in ("inf", "infinity", "nan", "inff", "nanf"):
        return float(
            f"{'-' if text.startswith('-') else ''}{bare.rstrip('f') if bare.endswith(('inff', 'nanf')) else bare}"
        )
    return Word(text)


def write(message: Mapping[str, list[Any]], indent: str = "") -> str:
    r"""Write a message, fields in the order in which they are given.

    >>> print(write({"name": ["a\n"], "type": [Word("INT")], "shape": [{}]}), end="")
    name: "a\n"
    type: INT
    shape {
    }
    """
    lines = []
    for name, values in message.items():
        for value in values:
            if isinstance(value, Mapping):
                lines.append(f"{indent}{name} {{\n{write(value, indent + '  ')}{indent}}}\n")
            else:
                lines.append(f"{indent}{name}: {_written(value)}\n")
    return "".join(lines)


def _written(value: Any) -> str:
    if isinstance(value, Word):
        return str(value)
    if isinstance(value, str):
        return '"' + "".join(_quoted(character) for character in value) + '"'
    return repr(value)


def _quoted(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character.isprintable():
        return character
    short = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return short.get(character) or "".join(f"\\{byte:03o}" for byte in character.encode())
