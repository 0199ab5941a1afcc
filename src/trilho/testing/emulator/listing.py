"""How lists are asked for: filters (AIP-160), order (AIP-132), pages (AIP-158), and masks of fields (AIP-161).

Of the filter language it knows comparisons, `:` with wildcards and key existence, AND, OR (which binds tighter, as the
AIP has it), NOT, parentheses, and the functions that a service adds. Every field of the resource can be filtered and
ordered by, where the real services know some fields only.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from google.protobuf.json_format import MessageToDict

from trilho.testing.emulator.resources import Message
from trilho.testing.emulator.rules import Refusal

PAGE, LARGEST_PAGE = 100, 1000
TOKEN = re.compile(r"""\s+|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[<>!]=|[=<>:(),]|[^\s"'()=<>!:,]+""")
SIGNS = ("=", "!=", "<", "<=", ">", ">=", ":")
KINDS_OF_VALUE = ("number_value", "string_value", "bool_value")  # how a filter names a value within a Struct

Test = Callable[[Message], bool]
Function = Callable[[Message, list[str]], bool]
Field = Callable[[Message], Any]


def read_filter(
    text: str,
    kind: type[Message],
    functions: Mapping[str, Function] | None = None,
    fields: Mapping[str, Field] | None = None,
) -> Test:
    """Make a test of a filter for resources of a kind. Raises Refusal for what it cannot read.

    `fields` are those that only filters know, such as `model`, the last part of a model's name.
    """
    if not text.strip():
        return lambda _: True
    return _Filter(text, kind, functions or {}, fields or {}).read()


def order(found: list[Any], order_by: str, kind: type[Message]) -> list[Any]:
    """Sort resources by "field, other desc"."""
    for part in reversed([part for part in order_by.split(",") if part.strip()]):
        words = part.split()
        if len(words) > 2 or words[1:] not in ([], ["desc"], ["asc"]):
            raise Refusal("INVALID_ARGUMENT", f"Invalid order_by: {order_by!r}.")
        path = _known_path(words[0], kind)
        found = sorted(found, key=_key(path), reverse=words[1:] == ["desc"])
    return found


def page(found: Sequence[Any], size: int, token: str) -> tuple[Sequence[Any], str]:
    """Give the page that a token names, and the token of the next; no next page is no token."""
    if size < 0:
        raise Refusal("INVALID_ARGUMENT", f"page_size must not be negative: {size}.")
    try:
        start = int(base64.urlsafe_b64decode(token.encode())) if token else 0
    except ValueError:
        raise Refusal("INVALID_ARGUMENT", f"Invalid page_token: {token!r}.") from None
    end = start + min(size or PAGE, LARGEST_PAGE)
    return found[start:end], base64.urlsafe_b64encode(str(end).encode()).decode() if end < len(found) else ""


def masked(message: Message, paths: Iterable[str]) -> Message:
    """Give a copy with only these fields; a path may lead into a Struct (`pipeline_spec.pipelineInfo`)."""
    source = type(message).pb(message)
    result = type(message)()
    for path in {"name", *paths}:
        _copy_path(source, type(message).pb(result), path.split("."))
    return result


def merge(target: Message, source: Message, paths: Sequence[str]) -> None:
    """Set the fields that an update mask names as they are in `source`; without a mask, those that it fills."""
    given, kept = type(source).pb(source), type(target).pb(target)
    if not paths or list(paths) == ["*"]:
        paths = [field.name for field, _ in given.ListFields()]
    for path in paths:
        first, *rest = path.split(".")
        field = _field(given.DESCRIPTOR, first)
        if field is None:
            raise Refusal("INVALID_ARGUMENT", f"Invalid update mask path {path!r} for {given.DESCRIPTOR.name}.")
        if not rest or not _set_within(given, kept, field, rest):
            kept.ClearField(field.name)
            _copy_path(given, kept, [field.name])


def _set_within(given: Any, kept: Any, field: Any, rest: list[str]) -> bool:
    """Set a part of a field: a key of a map, or a field of a message. False where the whole field must be set."""
    if field.message_type is None or not rest:
        return False
    if field.message_type.GetOptions().map_entry and field.message_type.fields_by_name["value"].message_type is None:
        source, target = getattr(given, field.name), getattr(kept, field.name)
        if rest[0] in source:
            target[rest[0]] = source[rest[0]]
        else:
            target.pop(rest[0], None)
        return True
    if field.is_repeated or field.message_type.full_name == "google.protobuf.Struct":
        return False
    inner = _field(field.message_type, rest[0])
    if inner is None:
        raise Refusal("INVALID_ARGUMENT", f"Invalid update mask path {rest[0]!r} for {field.message_type.name}.")
    source, target = getattr(given, field.name), getattr(kept, field.name)
    if not _set_within(source, target, inner, rest[1:]):
        target.ClearField(inner.name)
        _copy_path(source, target, [inner.name])
    return True


def _copy_path(source: Any, target: Any, path: list[str]) -> None:
    if source.DESCRIPTOR.full_name == "google.protobuf.Struct":
        key = next((key for key in source.fields if _snake(key) == path[0]), None)
        if key is not None:
            target.fields[key].CopyFrom(source.fields[key])
        return
    field = _field(source.DESCRIPTOR, path[0])
    if field is None:
        raise Refusal("INVALID_ARGUMENT", f"Invalid field path {'.'.join(path)!r} for {source.DESCRIPTOR.name}.")
    if field.is_repeated:
        getattr(target, field.name).MergeFrom(getattr(source, field.name))
    elif field.message_type is None:
        if not field.has_presence or source.HasField(field.name):
            setattr(target, field.name, getattr(source, field.name))
    elif source.HasField(field.name):
        inner = getattr(target, field.name)
        inner.SetInParent()
        if path[1:]:
            _copy_path(getattr(source, field.name), inner, path[1:])
        else:
            inner.CopyFrom(getattr(source, field.name))


class _Filter:
    def __init__(
        self, text: str, kind: type[Message], functions: Mapping[str, Function], fields: Mapping[str, Field]
    ) -> None:
        self.text, self.kind, self.functions, self.fields = text, kind, functions, fields
        found = TOKEN.findall(text)
        if "".join(found) != text:
            raise self.wrong("A quote is not closed.")
        self.tokens = [token for token in found if token.strip()]

    def wrong(self, why: str = "") -> Refusal:
        return Refusal("INVALID_ARGUMENT", f"Invalid filter: {self.text!r}.{why and ' '}{why}")

    def peek(self) -> str:
        return self.tokens[0] if self.tokens else ""

    def take(self) -> str:
        if not self.tokens:
            raise self.wrong("It ends early.")
        word: str = self.tokens.pop(0)
        return word

    def read(self) -> Test:
        test = self.all_of()
        if self.tokens:
            raise self.wrong(f"It goes on after its end: {self.tokens[0]!r}.")
        return test

    def all_of(self) -> Test:
        tests = [self.any_of()]
        while self.peek() and self.peek() != ")":
            if self.peek().upper() == "AND":
                self.take()
            tests.append(self.any_of())
        return lambda item: all(test(item) for test in tests)

    def any_of(self) -> Test:
        tests = [self.term()]
        while self.peek().upper() == "OR":
            self.take()
            tests.append(self.term())
        return lambda item: any(test(item) for test in tests)

    def term(self) -> Test:
        word = self.take()
        if word.upper() == "NOT" or word == "-":
            inner = self.term()
            return lambda item: not inner(item)
        if word == "(":
            test = self.all_of()
            if self.take() != ")":
                raise self.wrong("A parenthesis is not closed.")
            return test
        if word in SIGNS or word in "),":
            raise self.wrong(f"{word!r} is not expected there.")
        return self.call(word) if self.peek() == "(" else self.comparison(word)

    def call(self, name: str) -> Test:
        function = self.functions.get(name)
        if function is None:
            raise self.wrong(f"There is no function {name}.")
        self.take()
        given: list[str] = []
        while (word := self.take()) != ")":
            given += [] if word == "," else [_unquoted(word)]
        return lambda item: function(item, given)

    def comparison(self, name: str) -> Test:
        while name.endswith(".") or self.peek().startswith("."):
            name += _unquoted(self.take())
        value_of = self.fields.get(name) or _reading(_known_path(name, self.kind, self.wrong))
        if self.peek() not in SIGNS:
            raise self.wrong(f"{name} is compared with nothing.")
        sign, values = self.take(), [_unquoted(self.take())]
        while self.peek() == "," and sign == ":":
            self.take()
            values.append(_unquoted(self.take()))
        return lambda item: any(_compare(value_of(item), sign, value) for value in values)


def _key(path: list[str]) -> Callable[[Message], tuple[int, Any]]:
    return lambda item: _sortable(_value(item, path))


def _reading(path: list[str]) -> Field:
    return lambda item: _value(item, path)


def _unquoted(word: str) -> str:
    return re.sub(r"\\(.)", r"\1", word[1:-1]) if word[:1] in ('"', "'") else word


def _known_path(
    name: str, kind: type[Message], wrong: Callable[[str], Refusal] = lambda why: Refusal("INVALID_ARGUMENT", why)
) -> list[str]:
    first, *rest = name.split(".")
    field = _field(kind.pb().DESCRIPTOR, first)
    if field is None:
        raise wrong(f"{kind.__name__} has no field {first}.")
    return [field.name, *rest]


def _field(descriptor: Any, name: str) -> Any:
    return descriptor.fields_by_name.get(name) or descriptor.fields_by_camelcase_name.get(name)


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _value(item: Message, path: list[str]) -> Any:
    whole = type(item).pb(item)
    field = whole.DESCRIPTOR.fields_by_name[path[0]]
    if not field.is_repeated and field.message_type is None:
        value = getattr(whole, field.name)
        return field.enum_type.values_by_number[value].name if field.enum_type is not None else value
    if not field.is_repeated and field.has_presence and not whole.HasField(field.name):
        return None
    only = type(whole)()
    _copy_path(whole, only, [field.name])
    value = MessageToDict(only, preserving_proto_field_name=True).get(field.name)
    for key in path[1:]:
        if key in KINDS_OF_VALUE and not isinstance(value, dict):
            continue
        value = value.get(key, value.get(_snake(key))) if isinstance(value, dict) else None
    return value


def _compare(value: Any, sign: str, text: str) -> bool:
    if sign == "!=":
        return not _compare(value, "=", text)
    if isinstance(value, (dict, list)):
        return text == "*" or any(_compare(one, sign, text) for one in value)
    if value is None:
        return False
    if sign in "=:":
        return _same(value, text)
    left, right = _sortable(value), _sortable(text)
    if left[0] != right[0]:
        return False
    return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[sign]


def _same(value: Any, text: str) -> bool:
    if isinstance(value, bool):
        return str(value).lower() == text.lower()
    if isinstance(value, str) and "*" in text:
        return fnmatchcase(value, re.sub(r"([\[\]?])", r"[\1]", text))
    return value == text if isinstance(value, str) else _sortable(value) == _sortable(text)


def _sortable(value: Any) -> tuple[int, Any]:
    if value is None:
        return (0, "")
    try:
        return (1, float(value))
    except (TypeError, ValueError):
        pass
    try:
        return (2, datetime.fromisoformat(value).timestamp())
    except (TypeError, ValueError):
        return (3, str(value))
