"""Rows of JSON values as columns: what a request may hold for each type of field, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.schema.allowed import WANTED, wanted
from trilho_runtime.schema.field import LARGEST_EXACT, Field, RowError, parse_time

__all__ = ["LARGEST_EXACT", "READERS", "WANTED", "Row", "named", "shown", "wanted"]

Row = Mapping[str, Any]
JSON_NAMES = {str: "string", bool: "boolean", int: "integer", float: "number", list: "list", dict: "object"}
NoneType = type(None)


def shown(value: object) -> str:
    """Give a value and its JSON type as an error names them.

    >>> shown("2"), shown(None), shown([1])
    ('"2", a string', 'null', '[1], a list')
    """
    kind = "null" if value is None else JSON_NAMES.get(type(value), type(value).__name__)
    if value is None:
        return kind
    text = f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    article = "an" if kind[0] in "aeiou" else "a"
    return f"{text if len(text) <= 60 else text[:57] + '...'}, {article} {kind}"


def named(fields: Sequence[Field], instance: Any, index: int) -> Row:
    """Give an instance as a row: an array holds the fields' values in their order, a bare value is the only field's."""
    if isinstance(instance, dict):
        return instance
    if isinstance(instance, list):
        if len(instance) != len(fields):
            order = ", ".join(field.name for field in fields)
            fact = f"row {index} is an array of {len(instance)} values; wanted {len(fields)}, in the order {order:.200}"
            raise RowError(fact, None, index)
        return {field.name: value for field, value in zip(fields, instance, strict=True)}
    if len(fields) != 1:
        fact = f"row {index} is {shown(instance)}; wanted an object of fields, or an array of {len(fields)} values"
        raise RowError(fact, None, index)
    return {fields[0].name: instance}


def _refuse(field: Field, values: Sequence[Any], rows: Sequence[Row], right: Callable[[Any], bool]) -> NoReturn:
    """Raise for the first value that is not right."""
    for index, value in enumerate(values):
        if value is None and field.nullable:
            continue
        if value is None or not right(value):
            missing = value is None and field.name not in rows[index]
            what = "missing" if missing else shown(value)
            raise RowError(f"row {index}: {field.name} is {what}; wanted {wanted(field, value)}", field.name, index)
    raise RowError(f"{field.name}: wanted {wanted(field)}", field.name)


def _read_numbers(field: Field, values: list[Any], rows: Sequence[Row]) -> NDArray[Any]:
    kinds = set(map(type, values))
    if not kinds <= ({float, int, NoneType} if field.nullable else {float, int}):
        _refuse(field, values, rows, lambda v: type(v) in (int, float))
    nulls = values.count(None) if NoneType in kinds else 0
    given = [np.nan if v is None else v for v in values] if nulls else values
    try:
        array = np.array(given, np.float64) if field.numpy == "float64" else _narrowed(given, field.numpy)
    except OverflowError:
        _refuse(field, values, rows, _is_finite)
    if int(np.isfinite(array).sum()) != len(values) - nulls:
        _refuse(field, values, rows, _is_finite_as(array.dtype))
    return array


def _narrowed(values: list[Any], dtype: str) -> NDArray[Any]:
    with np.errstate(over="ignore"):  # what is beyond the type is infinite then, and refused
        return np.array(values, dtype)


def _read_integers(field: Field, values: list[Any], rows: Sequence[Row]) -> NDArray[Any]:
    low, high = field.limits

    def right(value: object) -> bool:
        whole = type(value) is int or (type(value) is float and value.is_integer() and abs(value) <= LARGEST_EXACT)
        return whole and low <= cast("int", value) <= high

    if set(map(type, values)) != {int} or not low <= min(values) <= max(values) <= high:
        for value in values:
            if not right(value) and not (value is None and field.nullable):
                _refuse(field, values, rows, right)
    return np.array([np.nan if v is None else v for v in values] if field.nullable else values, field.numpy)


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


def _is_finite_as(dtype: np.dtype[Any]) -> Callable[[object], bool]:
    def right(value: object) -> bool:
        with np.errstate(over="ignore"):
            return _is_finite(value) and bool(np.isfinite(np.array(float(cast("float", value))).astype(dtype)))

    return right


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
