"""A field: one raw column of a model's rows, as a request, a manifest and a table of the user's library hold it."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal, get_args

import numpy as np

Type = Literal["number", "integer", "boolean", "string", "timestamp"]
TYPES: tuple[str, ...] = get_args(Type)
CATEGORY, ORDERED = "category", "ordered category"
MOST_CATEGORIES = 100
LARGEST_EXACT = 2**53  # up to here a float holds every integer
NULLABLE_NUMBERS = re.compile(r"(U?Int|Float)(8|16|32|64)")  # pandas' own types, which have a null of their own
EXTRAS = ("dtype", "minimum", "maximum", "categories", "levels")


class RowError(ValueError):
    """A row is not what the signature says; `field` and `row` say where."""

    def __init__(self, message: str, field: str | None = None, row: int | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.row = row


@dataclass(frozen=True)
class Field:
    """One raw column: its JSON type, whether null is allowed, and what it held at training.

    `dtype` is the type that the column had in the user's table, where it is not the usual one: a numpy type, one of
    pandas' nullable ones ("Int64"), "object", or "category" with its `levels`. `minimum`, `maximum` and `categories`
    tell callers what the model has seen; a value beyond them is not refused.
    """

    name: str
    type: Type
    nullable: bool
    dtype: str = ""
    minimum: float | str | None = None
    maximum: float | str | None = None
    categories: tuple[str, ...] | None = None
    levels: tuple[Any, ...] | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Field:
        """Rebuild a field from a manifest. Raises ValueError for what is no field."""
        if not isinstance(data, Mapping) or data.get("type") not in TYPES or not isinstance(data.get("name"), str):
            raise ValueError(f"{data!r:.80} is no field: it has a name and a type, one of {', '.join(TYPES)}")
        categories, levels = (tuple(data[key]) if key in data else None for key in ("categories", "levels"))
        ends = (data.get("minimum"), data.get("maximum"))
        return cls(data["name"], data["type"], bool(data["nullable"]), data.get("dtype", ""), *ends, categories, levels)

    def to_json(self) -> dict[str, Any]:
        """Give the field as it stands in a manifest, without what is not known or the usual."""
        data: dict[str, Any] = {"name": self.name, "type": self.type, "nullable": self.nullable}
        for key in EXTRAS:
            value = getattr(self, key)
            if value is not None and value != "":
                data[key] = list(value) if isinstance(value, tuple) else value
        return data

    @functools.cached_property
    def numpy(self) -> str:
        """Give the numpy type of the field's column; an integer that may be null is a float, as numpy has no other.

        >>> Field("n", "integer", False, "Int8").numpy, Field("n", "integer", True, "Int8").numpy
        ('int8', 'float64')
        """
        if self.type == "timestamp":
            return "datetime64[us]"
        if self.type == "string" or self.type == "boolean":
            return "object" if self.type == "string" or self.nullable else "bool"
        usual = "float64" if self.type == "number" or self.nullable else "int64"
        if not self.dtype or self.levels is not None or (self.type == "integer" and self.nullable):
            return usual
        return self.dtype.lower()

    @functools.cached_property
    def whole(self) -> str:
        """Give the numpy type that an integer's values must fit into.

        >>> Field("n", "integer", True, "UInt8").whole
        'uint8'
        """
        return (self.dtype or "int64").lower() if self.levels is None else "int64"

    @functools.cached_property
    def limits(self) -> tuple[int, int]:
        """Give the least and the largest integer that is taken; a nullable one is held as a float, exactly.

        >>> Field("n", "integer", False, "int8").limits
        (-128, 127)
        """
        limits = np.iinfo(self.whole)
        low, high = int(limits.min), int(limits.max)
        return (max(low, -LARGEST_EXACT), min(high, LARGEST_EXACT)) if self.nullable else (low, high)


def parse_time(text: str) -> datetime:
    """Read an ISO 8601 time as a naive one in UTC; a time without a zone is taken as it is.

    >>> parse_time("2013-07-01T12:30:00-03:00"), parse_time("2013-07-01")
    (datetime.datetime(2013, 7, 1, 15, 30), datetime.datetime(2013, 7, 1, 0, 0))
    """
    try:
        value = datetime.fromisoformat(text)
    except ValueError:  # Python 3.10 knows neither Z nor fractions of other lengths than 3 and 6
        plain = re.sub(r"[Zz]$", "+00:00", text.strip())
        value = datetime.fromisoformat(re.sub(r"\.(\d+)", lambda m: "." + m[1][:6].ljust(6, "0"), plain))
    return value if value.tzinfo is None else value.astimezone(timezone.utc).replace(tzinfo=None)  # noqa: UP017
