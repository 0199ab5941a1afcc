"""The signature: the raw fields of a row, their types, and which may be null.

One place decides what a prediction request may hold and which table it becomes, so that a served row reaches the
user's functions with the same types as a training row. A wrong value is named by field and row.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.schema.field import TYPES, Field, RowError, Type, parse_time
from trilho_runtime.schema.rows import READERS, Row, named, shown
from trilho_runtime.schema.table import array_of, infer_field, json_values, restored, string_dtype

__all__ = ["TYPES", "Field", "Row", "RowError", "Signature", "Type", "parse_time", "string_dtype"]


@dataclass(frozen=True)
class Signature:
    """The raw fields of a model's rows, in the order of its training table."""

    fields: tuple[Field, ...]

    @property
    def names(self) -> frozenset[str]:
        """Give the names of all fields."""
        return frozenset(field.name for field in self.fields)

    @classmethod
    def infer(cls, *frames: Any) -> Signature:
        """Read the signature off tables (pandas) of raw rows; a field is nullable where any of them has a null.

        Raises TypeError for a column whose type no JSON value can carry.
        """
        first = frames[0]
        return cls(tuple(infer_field(str(name), [frame[name] for frame in frames]) for name in first.columns))

    @classmethod
    def from_json(cls, items: Sequence[Mapping[str, Any]]) -> Signature:
        """Rebuild a signature from a manifest.

        >>> Signature.from_json([{"name": "x", "type": "number", "nullable": False}]).columns([{"x": 3}])
        {'x': array([3.])}
        """
        return cls(tuple(map(Field.from_json, items)))

    def to_json(self) -> list[dict[str, Any]]:
        """Give the signature as it stands in a manifest."""
        return [field.to_json() for field in self.fields]

    def rows_of(self, instances: Sequence[Any]) -> list[Any]:
        """Give a request's instances as rows: objects as they are, arrays and bare values with the fields' names.

        Raises RowError for an array of another length, and for a bare value where there are several fields.

        >>> pair = Signature((Field("x", "number", False), Field("c", "string", True)))
        >>> pair.rows_of([[1, "a"], {"x": 2}]), Signature(pair.fields[:1]).rows_of([3, [4]])
        ([{'x': 1, 'c': 'a'}, {'x': 2}], [{'x': 3}, {'x': 4}])
        """
        if set(map(type, instances)) == {dict}:
            return list(instances)
        return [named(self.fields, instance, index) for index, instance in enumerate(instances)]

    def columns(self, rows: Sequence[Row]) -> dict[str, NDArray[Any]]:
        """Check rows of JSON values and give them by column. Raises RowError for the first wrong value.

        >>> Signature((Field("x", "number", False),)).columns([{"x": 1}, {"x": "2"}])
        Traceback (most recent call last):
            ...
        trilho_runtime.schema.field.RowError: row 1: x is "2", a string; wanted a number
        """
        for index, row in enumerate(rows):
            if not isinstance(row, dict):
                raise RowError(f"row {index} is {shown(row)}; wanted an object of fields", None, index)
        if not rows:
            return {field.name: np.empty(0, field.numpy) for field in self.fields}
        return {
            field.name: READERS[field.type](field, [row.get(field.name) for row in rows], rows) for field in self.fields
        }

    def canonical(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Give checked rows with each time in its one spelling: UTC, ISO 8601, without a zone.

        >>> Signature((Field("at", "timestamp", True),)).canonical([{"at": "2024-02-01 08:00+02:00"}])
        [{'at': '2024-02-01T06:00:00'}]
        """
        times = [field.name for field in self.fields if field.type == "timestamp"]
        if not times:
            return rows
        return [
            {**row, **{name: parse_time(row[name]).isoformat() for name in times if row.get(name) is not None}}
            for row in rows
        ]

    def breaks(self, other: Signature) -> list[str]:
        """Say what callers of an older signature would meet as errors with this one; nothing where all of it is fine.

        >>> older = Signature((Field("x", "integer", True), Field("gone", "string", False)))
        >>> Signature((Field("x", "integer", False), Field("new", "string", False))).breaks(older)
        ['x may no longer be null', 'new is new and may not be null']
        """
        known = {field.name: field for field in other.fields}
        return [
            f"{field.name} {problem}"
            for field in self.fields
            for problem in ([_new(field)] if field.name not in known else _changes(known[field.name], field))
            if problem
        ]

    def allowing(self, names: Collection[str]) -> Signature:
        """Give the signature with fields that may be null besides those that may already.

        >>> Signature((Field("x", "integer", False),)).allowing({"x"}).columns([{"x": None}, {"x": 2}])
        {'x': array([nan,  2.])}
        """
        return Signature(tuple(replace(f, nullable=f.nullable or f.name in names) for f in self.fields))

    def without_ranges(self, names: Collection[str]) -> Signature:
        """Give the signature without what some fields held at training, for who may not know it."""
        bare: dict[str, Any] = dict.fromkeys(("minimum", "maximum", "categories"))
        return Signature(tuple(replace(f, **bare) if f.name in names else f for f in self.fields))

    def frame(self, columns: Mapping[str, NDArray[Any]]) -> Any:
        """Give checked columns as a pandas table with the types of the training table."""
        import pandas as pd

        data: dict[str, Any] = dict(columns)
        for field in self.fields:
            if field.dtype or field.type == "string":
                data[field.name] = restored(columns[field.name], field)
        return pd.DataFrame(data)

    def arrays(self, frame: Any) -> dict[str, NDArray[Any]]:
        """Give a table of raw rows by column, as `columns` gives the JSON rows of a request."""
        return {field.name: array_of(frame[field.name], field) for field in self.fields}

    def rows(self, frame: Any) -> list[dict[str, Any]]:
        """Give a table of raw rows as the JSON rows that a request would hold."""
        names = [field.name for field in self.fields]
        columns = [json_values(frame[field.name], field) for field in self.fields]
        return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _new(field: Field) -> str:
    return "" if field.nullable else "is new and may not be null"


def _changes(old: Field, new: Field) -> list[str]:
    found = []
    if old.type != new.type and (old.type, new.type) != ("integer", "number"):
        found.append(f"was of type {old.type} and is of type {new.type}")
    elif old.type == new.type == "integer" and not _holds(new, old):
        found.append(f"held {old.whole} and holds {new.whole}, which has fewer values")
    if old.nullable and not new.nullable:
        found.append("may no longer be null")
    return found


def _holds(new: Field, old: Field) -> bool:
    wide, narrow = np.iinfo(new.whole), np.iinfo(old.whole)
    return wide.min <= narrow.min and narrow.max <= wide.max
