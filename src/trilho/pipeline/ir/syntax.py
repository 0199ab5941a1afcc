"""Reads the part of the Common Expression Language that pipelines use into a tree."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

TOKEN = re.compile(
    r"""\s*(?:
      (?P<number>0[xX][0-9a-fA-F]+|(?:\d+\.\d*|\.\d+|\d+)(?:[eE][+-]?\d+)?)[uU]?
    | (?P<text>[rR]?(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"))
    | (?P<name>[A-Za-z_]\w*)
    | (?P<sign>&&|\|\||==|!=|<=|>=|[-+*/%<>!?:.,()\[\]{}])
    )""",
    re.VERBOSE | re.DOTALL,
)
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
LEVELS = (("||",), ("&&",), ("==", "!=", "<", "<=", ">", ">=", "in"), ("+", "-"), ("*", "/", "%"))
CONSTANTS = {"true": True, "false": False, "null": None}
METHODS = ("size", "startsWith", "endsWith", "contains", "matches")
FUNCTIONS = ("int", "uint", "double", "string", "bool", "size", "parseJson", "has")


class ExpressionError(ValueError):
    """An expression cannot be read, or cannot be resolved with the values that it was given."""


@dataclass(frozen=True)
class Node:
    """A part of an expression: a constant, name, member, index, call, unary or binary operation, choice, list, map."""

    kind: str
    value: Any = None
    parts: tuple[Node, ...] = ()


def read(text: str) -> Node:
    """Read an expression. Raises ExpressionError with the place where it stops being one."""
    return _Parser(text).whole()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.tokens: list[tuple[str, str, int]] = []
        stripped = len(text.rstrip())
        while self.at < stripped:
            found = TOKEN.match(text, self.at)
            if found is None or found.lastgroup is None:
                raise ExpressionError(f"it cannot be read from {text[self.at :].strip()[:40]!r} on")
            self.tokens.append((found.lastgroup, found[found.lastgroup], found.start(found.lastgroup)))
            self.at = found.end()
        self.tokens.append(("end", "", len(text)))
        self.at = 0

    def whole(self) -> Node:
        node = self.choice()
        if self.tokens[self.at][0] != "end":
            self.fail()
        return node

    def fail(self) -> None:
        rest = self.text[self.tokens[self.at][2] :].strip()
        raise ExpressionError(f"it cannot be read from {rest[:40]!r} on" if rest else "it ends too early")

    def take(self, *words: str) -> str | None:
        kind, word, _ = self.tokens[self.at]
        if kind in ("sign", "name") and word in words:
            self.at += 1
            return word
        return None

    def want(self, word: str) -> None:
        if self.take(word) is None:
            self.fail()

    def choice(self) -> Node:
        node = self.binary(0)
        if self.take("?") is None:
            return node
        yes = self.binary(0)
        self.want(":")
        return Node("choice", None, (node, yes, self.choice()))

    def binary(self, level: int) -> Node:
        if level == len(LEVELS):
            return self.unary()
        node = self.binary(level + 1)
        while (sign := self.take(*LEVELS[level])) is not None:
            node = Node("binary", sign, (node, self.binary(level + 1)))
        return node

    def unary(self) -> Node:
        sign = self.take("!", "-")
        return self.postfix() if sign is None else Node("unary", sign, (self.unary(),))

    def postfix(self) -> Node:
        node = self.primary()
        while (sign := self.take(".", "[")) is not None:
            if sign == "[":
                node = Node("index", None, (node, self.choice()))
                self.want("]")
                continue
            kind, name, _ = self.tokens[self.at]
            if kind != "name":
                self.fail()
            self.at += 1
            node = Node("member", name, (node,)) if self.take("(") is None else self.call(name, METHODS, (node,))
        return node

    def call(self, name: str, known: tuple[str, ...], first: tuple[Node, ...]) -> Node:
        if name not in known:
            raise ExpressionError(f"{name} is no function that is known here; known are {', '.join(sorted(known))}")
        return Node("call", name, (*first, *self.listed(")")))

    def listed(self, end: str) -> tuple[Node, ...]:
        found: list[Node] = []
        while self.take(end) is None:
            if found:
                self.want(",")
            found.append(self.choice())
        return tuple(found)

    def primary(self) -> Node:
        kind, word, _ = self.tokens[self.at]
        if kind == "end" or (kind == "sign" and word not in "([{"):
            self.fail()
        self.at += 1
        if kind == "number":
            whole = re.fullmatch(r"0[xX][0-9a-fA-F]+|\d+", word)
            return Node("constant", int(word, 0 if word[:2] in ("0x", "0X") else 10) if whole else float(word))
        if kind == "text":
            return Node("constant", _unquoted(word))
        if kind == "name":
            if self.take("(") is not None:
                return self.call(word, FUNCTIONS, ())
            return Node("constant", CONSTANTS[word]) if word in CONSTANTS else Node("name", word)
        if word == "(":
            node = self.choice()
            self.want(")")
            return node
        return Node("list", None, self.listed("]")) if word == "[" else self.mapped()

    def mapped(self) -> Node:
        found: list[Node] = []
        while self.take("}") is None:
            if found:
                self.want(",")
            found.append(self.choice())
            self.want(":")
            found.append(self.choice())
        return Node("map", None, tuple(found))


def _unquoted(word: str) -> str:
    if word[0] in "rR":
        return word[2:-1]
    pattern = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)

    def plain(found: re.Match[str]) -> str:
        code = found[1] or found[2] or found[3]
        return chr(int(code, 16)) if code else ESCAPES.get(found[4], found[4])

    return pattern.sub(plain, word[1:-1])
