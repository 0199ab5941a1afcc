"""The user's table (pandas) and the fields of a signature: which field a column is, and each as the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.schema.field import CATEGORY, MOST_CATEGORIES, NULLABLE_NUMBERS, ORDERED, TYPES, Field, Type

OBJECT, OBJECT_NAN = "object", "object, nan"  # a column of objects, whose nulls are None, or NaN
MOST_LEVELS = 10_000
_string_dtype: list[Any] = []


class ColumnError(TypeError):
    """A column is of a type that no JSON value can carry; `hint` says what to do about it."""

    def __init__(self, fact: str, hint: str) -> None:
        super().__init__(fact)
        self.hint = hint


def string_dtype() -> Any:
    """Give the type that this pandas gives a column of strings: its own since pandas 3, objects before."""
    if not _string_dtype:
        import pandas as pd

        _string_dtype.append(pd.Series([""]).dtype)
    return _string_dtype[0]


def infer_field(name: str, series: Sequence[Any]) -> Field:
    """Say which field a column is, given by the tables that hold it. Raises ColumnError for what no field can be."""
    nullable = any(bool(s.isna().any()) for s in series)
    found = _of_numpy(name, series, nullable) or _of_pandas(name, series, nullable) or _of_objects(name, series)
    return replace(found, **_range(found, series))


def _of_numpy(name: str, series: Sequence[Any], nullable: bool) -> Field | None:
    if not all(isinstance(s.dtype, np.dtype) for s in series):
        return None
    kinds = {s.dtype.kind for s in series}
    if kinds <= set("iu"):
        dtype = str(np.result_type(*(s.dtype for s in series)))
        if dtype != "float64":
            return Field(name, "integer", False, "" if dtype == "int64" else dtype)
    if kinds <= set("iuf"):
        dtype = str(series[0].dtype) if series[0].dtype.kind == "f" else "float64"
        if dtype in ("float16", "float32", "float64"):
            return Field(name, "number", nullable, "" if dtype == "float64" else dtype)
    if kinds == {"b"}:
        return Field(name, "boolean", False)
    if kinds == {"M"}:
        dtype = str(series[0].dtype)
        return Field(name, "timestamp", nullable, "" if dtype == "datetime64[us]" else dtype)
    return None


def _of_pandas(name: str, series: Sequence[Any], nullable: bool) -> Field | None:
    """Say which field a column of one of pandas' own types is."""
    dtypes = {str(s.dtype) for s in series}
    first = series[0].dtype
    if getattr(first, "tz", None) is not None:
        hint = f'frame["{name}"] = frame["{name}"].dt.tz_convert("UTC").dt.tz_localize(None), and fit again'
        raise ColumnError(f"column {name} has times of the zone {first.tz}; a served time is UTC without a zone", hint)
    if dtypes == {CATEGORY}:
        return _of_categories(name, series, nullable)
    dtype = next(iter(dtypes))
    if len(dtypes) == 1 and (match := NULLABLE_NUMBERS.fullmatch(dtype)):
        kind: Type = "number" if match[1] == "Float" else "integer"
        return Field(name, kind, nullable, dtype)
    if dtypes == {"boolean"}:
        return Field(name, "boolean", nullable, dtype)
    if dtypes == {"string"} or (dtypes == {"str"} and not all(bool(s.isna().all()) for s in series)):
        return Field(name, "string", nullable, "string" if dtypes == {"string"} else "")
    return None


def _of_categories(name: str, series: Sequence[Any], nullable: bool) -> Field:
    first = series[0].dtype
    levels = first.categories.tolist()
    kinds = {type(level) for level in levels}
    types: list[tuple[set[type], Type]] = [
        ({str}, "string"),
        ({bool}, "boolean"),
        ({int}, "integer"),
        ({int, float}, "number"),
    ]
    found = next((kind for allowed, kind in types if kinds and kinds <= allowed), None)
    if found is None or len(levels) > MOST_LEVELS or any(s.dtype != first for s in series[1:]):
        what = ", ".join(sorted(kind.__name__ for kind in kinds)) or "nothing"
        allowed = f"{MOST_LEVELS} texts, numbers or booleans"
        fact = f"column {name} has {len(levels)} categories of {what}; allowed: {allowed}, the same in each table"
        raise ColumnError(fact, f'cast it, such as frame["{name}"].astype(str), and fit again')
    return Field(name, found, nullable, ORDERED if first.ordered else CATEGORY, levels=tuple(levels))


def _of_objects(name: str, series: Sequence[Any]) -> Field:
    nullable = any(bool(s.isna().any()) for s in series)
    seen = {kind for s in series for kind in map(type, s.dropna().tolist())}
    if seen and all(issubclass(kind, str) for kind in seen):
        return Field(name, "string", nullable, _object_dtype(series))
    if seen == {bool}:
        return Field(name, "boolean", nullable)
    what = ", ".join(sorted(t.__name__ for t in seen)) or "nothing but null"
    fact = f"column {name} has type {series[0].dtype} ({what}); a served field is one of {', '.join(TYPES)}"
    raise ColumnError(fact, f"leave {name} out, or give it one type with astype, and fit again")


def _object_dtype(series: Sequence[Any]) -> str:
    """Name how a column of texts is held, where it is not as this pandas holds texts by itself."""
    if any(s.dtype != object for s in series):
        return ""
    nulls = {type(value) for s in series for value in s[s.isna()].tolist()}
    if float in nulls and type(None) not in nulls:
        return OBJECT_NAN
    return "" if isinstance(string_dtype(), np.dtype) else OBJECT


def _range(field: Field, series: Sequence[Any]) -> dict[str, Any]:
    """Say what the column held: the ends of its values, or its few texts."""
    if field.type == "string":
        seen = {str(value) for s in series for value in s.dropna().unique().tolist()}
        return {"categories": tuple(sorted(seen))} if len(seen) <= MOST_CATEGORIES else {}
    if field.type == "boolean":
        return {}
    values = np.concatenate([array_of(s.dropna(), replace(field, nullable=False)) for s in series])
    values = values if field.type == "timestamp" else values[np.isfinite(values)]
    if not len(values):
        return {}
    ends = {"minimum": values.min().item(), "maximum": values.max().item()}
    return {end: value.isoformat() for end, value in ends.items()} if field.type == "timestamp" else ends


def array_of(series: Any, field: Field) -> NDArray[Any]:
    """Give a column of a table as the checked column that the same values have in a request."""
    if field.levels is not None:
        series = series.astype(object)
    if field.type == "timestamp":
        found = series.to_numpy("datetime64[us]")
    elif field.type == "number" or (field.type == "integer" and field.nullable):
        found = series.to_numpy(field.numpy, na_value=np.nan)
    elif field.type == "string" or field.nullable:
        found = series.astype(object).where(series.notna(), None).to_numpy(object)
    else:
        found = series.to_numpy(field.numpy)
    return cast("NDArray[Any]", found)


def restored(column: NDArray[Any], field: Field) -> Any:
    """Give a checked column as the table's column of the type that it had at training."""
    import pandas as pd

    if field.levels is not None:
        return pd.Categorical(column, categories=list(field.levels), ordered=field.dtype == ORDERED)
    if field.type == "timestamp":
        return column.astype(field.dtype)
    if field.type == "string":
        return _texts(column, field)
    if field.dtype == "boolean" or NULLABLE_NUMBERS.fullmatch(field.dtype):
        return pd.array(column, dtype=field.dtype)
    return column


def _texts(column: NDArray[Any], field: Field) -> Any:
    import pandas as pd

    if field.dtype in (OBJECT, OBJECT_NAN):
        null = np.nan if field.dtype == OBJECT_NAN else None
        values = np.array([null if value is None else value for value in column], object)
        return pd.Series(values, dtype=object)
    return pd.array(column, dtype=field.dtype or string_dtype())


def json_values(series: Any, field: Field) -> list[Any]:
    """Give a column of a table as the JSON values that a request would hold."""
    if field.type == "timestamp":
        times = series.astype("datetime64[us]").astype(object).where(series.notna(), None)
        return [None if v is None else v.isoformat() for v in times]
    if field.nullable:
        return [_plain(v) for v in series.astype(object).where(series.notna(), None)]
    return [_plain(v) for v in series.tolist()]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
