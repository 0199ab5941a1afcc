"""What the log of predictions must not hold: columns that are left out of it, or stand in it as a keyed hash.

A hash is the same for the same value everywhere, so that a label whose key is masked by the same key still finds its
prediction. It is keyed since a plain one of a person's number is undone by trying all numbers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Literal, get_args

from trilho_runtime.schema.signature import parse_time

Rule = Literal["hash", "drop"]
RULES: tuple[str, ...] = get_args(Rule)
HASH_BYTES = 8
MOST_KEY_BYTES = blake2b.MAX_KEY_SIZE
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d.*)?|\d{8}T\d\d.*|\d{4}-?W\d\d.*")
WHOLE = re.compile(r"(0|-?[1-9]\d*)\.0+")


class Mask:
    """Rules by column, and the key of the hashes.

    >>> mask = Mask.parse('{"cpf": "hash", "name": "drop"}', "a secret")
    >>> mask.apply({"cpf": 123, "name": "Ana", "x": 1})
    {'cpf': '167138fffb8f3853', 'x': 1}
    >>> mask.apply({"cpf": "123"}) == mask.apply({"cpf": 123.0})
    True
    """

    def __init__(self, rules: Mapping[str, Rule] | None = None, key: bytes = b"") -> None:
        self.rules = dict(rules or {})
        self._dropped = frozenset(name for name, rule in self.rules.items() if rule == "drop")
        self._hashed = tuple(name for name, rule in self.rules.items() if rule == "hash")
        if self._hashed and not key:
            raise ValueError(
                f"the columns {', '.join(self._hashed)} are to be hashed, and there is no key to do it with"
            )
        self._key = key if len(key) <= MOST_KEY_BYTES else blake2b(key).digest()

    @classmethod
    def parse(cls, rules: str | bytes | Mapping[str, Any] | None, key: str | bytes = b"") -> Mask:
        """Read rules, as JSON or a mapping of columns to "hash" or "drop". Raises ValueError for anything else."""
        found = json.loads(rules) if isinstance(rules, (str, bytes)) else rules or {}
        if not isinstance(found, Mapping):
            raise ValueError(f"a mask is {found!r}; wanted an object of columns, such as {{'cpf': 'hash'}}")
        for name, rule in found.items():
            if rule not in RULES:
                raise ValueError(f"the mask of {name} is {rule!r}; allowed: {', '.join(RULES)}")
        return cls(found, key.encode() if isinstance(key, str) else key)

    def __bool__(self) -> bool:
        return bool(self.rules)

    def apply(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """Give a row, or a label's key, as the log may hold it; null stays null."""
        if self.rules.keys().isdisjoint(row):
            return row
        return {
            name: self.hash(value) if name in self._hashed and value is not None else value
            for name, value in row.items()
            if name not in self._dropped
        }

    def hash(self, value: Any) -> str:
        """Give a value's hash: 16 hexadecimal digits of its canonical text."""
        text = canonical_text(value).encode("utf-8", "surrogatepass")
        return blake2b(text, digest_size=HASH_BYTES, key=self._key).hexdigest()


def canonical_text(value: Any) -> str:
    """Give the one text of a value, so that 7, 7.0, "7" and all spellings of one moment are the same.

    A time without a zone is one in UTC. A text is otherwise taken as it is: "007" is not 7.

    >>> [canonical_text(value) for value in (7.0, "7.0", "2012-01-01 05:00-03:00", True, "007")]
    ['7', '7', '2012-01-01T08:00:00', 'true', '007']
    """
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if not isinstance(value, str):
        return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else json.dumps(value)
    if WHOLE.fullmatch(value):  # a column of integers that pandas wrote as floats, since one was missing
        return value.partition(".")[0]
    if TIMESTAMP.fullmatch(value):
        return _moment_text(value)
    return value


def _moment_text(text: str) -> str:
    try:
        return parse_time(text).isoformat()
    except (ValueError, OverflowError):
        return text
