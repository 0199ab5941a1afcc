"""The signature: the raw fields of a row, their types, and which may be null.

One place decides what a prediction request may hold and which table it becomes, so that a served row reaches the
user's functions with the same types as a training row. A wrong value is named by field and row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal, NoReturn, cast, get_args

import numpy as np
from numpy.typing import NDArray

Type = Literal["number", "integer", "boolean", "string", "timestamp"]
TYPES: tuple[str, ...] = get_args(Type)
Row = Mapping[str, Any]
JSON_NAMES = {str: "string", bool: "boolean", int: "integer", float: "number", list: "list", dict: "object"}
LARGEST_EXACT = 2**53
NoneType = type(None)


class RowError(ValueError):
    """A row is not what the signature says; `field` and `row` say where."""

    def __init__(self, message: str, field: str | None = None, row: int | None = None) -> None:
        super().__init__(message)
        self.field = field
        self.row = row


@dataclass(frozen=True)
class Field:
    """One raw column: its JSON type, whether null is allowed, and the numpy type that it had at training."""

    name: str
    type: Type
    nullable: bool
    dtype: str = ""

    def to_json(self) -> dict[str, Any]:
        """Give the field as it stands in a manifest; the numpy type only where it is not the usual one."""
        data: dict[str, Any] = {"name": self.name, "type": self.type, "nullable": self.nullable}
        return {**data, "dtype": self.dtype} if self.dtype else data


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
        return cls(tuple(_infer_field(str(name), [frame[name] for frame in frames]) for name in first.columns))

    @classmethod
    def from_json(cls, items: Sequence[Mapping[str, Any]]) -> Signature:
        """Rebuild a signature from a manifest.

        >>> Signature.from_json([{"name": "x", "type": "number", "nullable": False}]).columns([{"x": 3}])
        {'x': array([3.])}
        """
        return cls(tuple(Field(i["name"], i["type"], i["nullable"], i.get("dtype", "")) for i in items))

    def to_json(self) -> list[dict[str, Any]]:
        """Give the signature as it stands in a manifest."""
        return [field.to_json() for field in self.fields]

    def columns(self, rows: Sequence[Row]) -> dict[str, NDArray[Any]]:
        """Check rows of JSON values and give them by column. Raises RowError for the first wrong value.

        >>> Signature((Field("x", "number", False),)).columns([{"x": 1}, {"x": "2"}])
        Traceback (most recent call last):
            ...
        trilho_runtime.signature.RowError: row 1: x is "2", a string; wanted a number
        """
        for index, row in enumerate(rows):
            if not isinstance(row, dict):
                raise RowError(f"row {index} is {_shown(row)}; wanted an object of fields", None, index)
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

    def frame(self, columns: Mapping[str, NDArray[Any]]) -> Any:
        """Give checked columns as a pandas table with the types of the training table."""
        import pandas as pd

        texts = string_dtype()
        data: dict[str, Any] = dict(columns)
        for field in self.fields:
            if field.type == "string":
                data[field.name] = pd.array(columns[field.name], dtype=texts)
        return pd.DataFrame(data)

    def arrays(self, frame: Any) -> dict[str, NDArray[Any]]:
        """Give a table of raw rows by column, as `columns` gives the JSON rows of a request."""
        return {field.name: _array(frame[field.name], field) for field in self.fields}

    def rows(self, frame: Any) -> list[dict[str, Any]]:
        """Give a table of raw rows as the JSON rows that a request would hold."""
        names = [field.name for field in self.fields]
        columns = [_json_values(frame[field.name], field) for field in self.fields]
        return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


_string_dtype: list[Any] = []


def string_dtype() -> Any:
    """Give the type that this pandas gives a column of strings: its own since pandas 3, objects before."""
    if not _string_dtype:
        import pandas as pd

        _string_dtype.append(pd.Series([""]).dtype)
    return _string_dtype[0]


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


def _infer_field(name: str, series: Sequence[Any]) -> Field:
    kinds = {s.dtype.kind for s in series}
    nullable = any(bool(s.isna().any()) for s in series)
    if kinds <= set("iu") and all(isinstance(s.dtype, np.dtype) for s in series):
        dtype = str(np.result_type(*(s.dtype for s in series)))
        return Field(name, "integer", False, "" if dtype == "int64" else dtype)
    if kinds <= set("iuf") and all(isinstance(s.dtype, np.dtype) for s in series):
        dtype = str(series[0].dtype) if series[0].dtype.kind == "f" else "float64"
        return Field(name, "number", nullable, "" if dtype == "float64" else dtype)
    if kinds == {"b"}:
        return Field(name, "boolean", False)
    if kinds == {"M"} and not any(getattr(s.dtype, "tz", None) for s in series):
        return Field(name, "timestamp", nullable)
    seen = {kind for s in series for kind in map(type, s.dropna().tolist())}
    if seen == {str}:
        return Field(name, "string", nullable)
    if seen == {bool}:
        return Field(name, "boolean", nullable)
    what = ", ".join(sorted(t.__name__ for t in seen)) or "nothing but null"
    raise TypeError(f"column {name} has type {series[0].dtype} ({what}); a served field is one of {', '.join(TYPES)}")


def _json_values(series: Any, field: Field) -> list[Any]:
    if field.type == "timestamp":
        return [
            None if v is None else v.isoformat()
            for v in series.astype("datetime64[us]").astype(object).where(series.notna(), None)
        ]
    values = series.tolist()
    return [None if v is None or v != v else v for v in values] if field.nullable else values


def _array(series: Any, field: Field) -> NDArray[Any]:
    if field.type == "timestamp":
        found = series.to_numpy("datetime64[us]")
    elif field.type == "number":
        found = series.to_numpy(field.dtype or np.float64, na_value=np.nan)
    elif field.type == "string" or field.nullable:
        found = series.astype(object).where(series.notna(), None).to_numpy(object)
    else:
        found = series.to_numpy(bool if field.type == "boolean" else field.dtype or np.int64)
    return cast("NDArray[Any]", found)


def _shown(value: object) -> str:
    kind = "null" if value is None else JSON_NAMES.get(type(value), type(value).__name__)
    if value is None:
        return kind
    text = f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    article = "an" if kind[0] in "aeiou" else "a"
    return f"{text if len(text) <= 60 else text[:57] + '...'}, {article} {kind}"


WANTED = {
    "number": "a number",
    "integer": "an integer",
    "boolean": "true or false",
    "string": "a string",
    "timestamp": 'an ISO 8601 time such as "2013-07-01T12:00:00"',
}


def _refuse(field: Field, values: Sequence[Any], rows: Sequence[Row], right: Callable[[Any], bool]) -> NoReturn:
    """Raise for the first value that is not right."""
    for index, value in enumerate(values):
        if value is None and field.nullable:
            continue
        if value is None or not right(value):
            missing = value is None and field.name not in rows[index]
            what = "missing" if missing else _shown(value)
            raise RowError(f"row {index}: {field.name} is {what}; wanted {WANTED[field.type]}", field.name, index)
    raise RowError(f"{field.name}: wanted {WANTED[field.type]}", field.name)


def _read_numbers(field: Field, values: list[Any], rows: Sequence[Row]) -> NDArray[Any]:
    kinds = set(map(type, values))
    if not kinds <= ({float, int, NoneType} if field.nullable else {float, int}):
        _refuse(field, values, rows, lambda v: type(v) in (int, float))
    nulls = values.count(None) if NoneType in kinds else 0
    try:
        array = np.array([np.nan if v is None else v for v in values] if nulls else values, field.dtype or np.float64)
    except OverflowError:
        _refuse(field, values, rows, _is_finite)
    if int(np.isfinite(array).sum()) != len(values) - nulls:
        _refuse(field, values, rows, _is_finite)
    return array


def _read_integers(field: Field, values: list[Any], rows: Sequence[Row]) -> NDArray[Any]:
    limits = np.iinfo(field.dtype or np.int64)
    low, high = int(limits.min), int(limits.max)

    def right(value: object) -> bool:
        whole = type(value) is int or (type(value) is float and value.is_integer() and abs(value) <= LARGEST_EXACT)
        return whole and low <= cast("int", value) <= high

    if set(map(type, values)) != {int} or not low <= min(values) <= max(values) <= high:
        for value in values:
            if not right(value):
                _refuse(field, values, rows, right)
    return np.array(values, limits.dtype)


def _read_booleans(field: Field, values: list[Any], rows: Sequence[Row]) -> NDArray[Any]:
    if not set(map(type, values)) <= ({bool, NoneType} if field.nullable else {bool}):
        _refuse(field, values, rows, lambda v: type(v) is bool)
    return np.array(values, object if field.nullable else bool)


def _read_strings(field: Field, values: list[Any], rows: Sequence[Row]) -> NDArray[Any]:
    if not set(map(type, values)) <= ({str, NoneType} if field.nullable else {str}):
        _refuse(field, values, rows, lambda v: type(v) is str)
    return np.array(values, object)


def _read_times(field: Field, values: list[Any], rows: Sequence[Row]) -> NDArray[Any]:
    try:
        times = [None if v is None and field.nullable else parse_time(v) for v in values]
    except (TypeError, ValueError, OverflowError):
        _refuse(field, values, rows, _is_time)
    return np.array(times, "datetime64[us]")


def _is_finite(value: object) -> bool:
    try:
        return bool(np.isfinite(float(cast("float", value))))
    except OverflowError:
        return False


def _is_time(value: object) -> bool:
    try:
        parse_time(cast(str, value))
    except (TypeError, ValueError, OverflowError, AttributeError):
        return False
    return True


READERS: dict[str, Callable[[Field, list[Any], Sequence[Row]], NDArray[Any]]] = {
    "number": _read_numbers,
    "integer": _read_integers,
    "boolean": _read_booleans,
    "string": _read_strings,
    "timestamp": _read_times,
}
