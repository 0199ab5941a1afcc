"""The rules of the transformers that look values up, and of imputers of texts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from trilho_runtime.compiled import NotCompiled
from trilho_runtime.compiled.codes import NOTHING, REFUSED, Codes, ImputeObjects, Lookup, OneHot
from trilho_runtime.compiled.flow import CATEGORY, Column, Flow
from trilho_runtime.compiled.rules import Made, fields_of, missing_number, rule

PLAIN = (str, bool, int, float)


def categories_of(encoder: Any, place: int, column: Column) -> tuple[list[Any], int | None]:
    """Give a column's categories as plain values, None for the one that stands for a null, and the place of that.

    A category that the column's nulls are not (None where they are NaN) can't be met, and gets a key of its own.
    """
    values = encoder.categories_[place].tolist()
    found: list[Any] = []
    missing = None
    for number, value in enumerate(values):
        kind = _null_kind(value)
        if kind and (kind == column.null or (kind == "nan" and column.numeric)):
            missing = number
            found.append(None)
        elif kind:
            found.append(f"\x00{kind}")
        else:
            found.append(_plain(value, "a category"))
    return found, missing


def _null_kind(value: Any) -> str:
    if value is None or type(value).__name__ == "NAType":
        return "none" if value is None else "NA"
    return "nan" if value != value else ""


def _check(encoder: Any, flow: Flow) -> Flow:
    if flow.container == "series":
        raise NotCompiled("it is given one column as a series")
    for column in flow.columns:
        if not column.numeric and column.dtype not in ("string", "object", CATEGORY):
            raise NotCompiled(f"its columns are of {column.dtype}")
    if len(encoder.categories_) != len(flow.columns):
        raise NotCompiled(f"{len(flow.columns)} columns instead of {len(encoder.categories_)}")
    return flow


def _infrequent(encoder: Any, place: int) -> tuple[Any, Any]:
    """Give which number each category has after the rare ones are one, and the rare ones; None where none are."""
    if not getattr(encoder, "_infrequent_enabled", False):
        return None, None
    return encoder._default_to_infrequent_mappings[place], encoder._infrequent_indices[place]


@rule("OneHotEncoder")
def one_hot(encoder: Any, flow: Flow, dtype: str = "") -> Made:
    """Give a column for each category that is not dropped; the rare ones share one."""
    _check(encoder, flow)
    widths = [int(n) for n in encoder._n_features_outs]
    keys, numbers, unknown = [], [], []
    for place, column in enumerate(flow.columns):
        names, _ = categories_of(encoder, place, column)
        codes, other = _one_hot_codes(encoder, place, len(names), sum(widths[:place]))
        keys.append(tuple(names))
        numbers.append(np.array(codes, np.intp))
        unknown.append(other)
    dtype = dtype or np.dtype(encoder.dtype).name
    node = OneHot(Codes(tuple(keys), tuple(numbers), tuple(unknown), fields_of(flow)), sum(widths), dtype)
    fields = [column.field for column, width in zip(flow.columns, widths, strict=True) for _ in range(width)]
    flow = Flow(tuple(Column(dtype, "", "", field) for field in fields), True, "array")
    return Made((node,), flow, refuses=True)


def _one_hot_codes(encoder: Any, place: int, count: int, start: int) -> tuple[list[int], int]:
    mapping, rare = _infrequent(encoder, place)
    dropped = encoder._drop_idx_after_grouping
    drop = None if dropped is None else dropped[place]

    def column(number: int) -> int:
        number = number if mapping is None else int(mapping[number])
        if drop is not None and number == drop:
            return NOTHING
        return start + (number - 1 if drop is not None and number > drop else number)

    found = [column(number) for number in range(count)]
    if encoder.handle_unknown == "error":
        return found, REFUSED
    if rare is not None and encoder.handle_unknown in ("infrequent_if_exist", "warn"):
        return found, column(int(rare[0]))
    return found, NOTHING


@rule("OrdinalEncoder")
def ordinal(encoder: Any, flow: Flow) -> Made:
    """Give a category's place."""
    _check(encoder, flow)
    dtype = np.dtype(encoder.dtype)
    absent = getattr(encoder, "_missing_indices", {})
    tables = []
    for place, column in enumerate(flow.columns):
        names, _ = categories_of(encoder, place, column)
        mapping, _ = _infrequent(encoder, place)
        values = np.arange(len(names)).astype(dtype) if mapping is None else _mapped(mapping, absent.get(place), dtype)
        if place in absent:
            values[absent[place]] = encoder.encoded_missing_value
        tables.append((names, values.reshape(-1, 1)))
    refused = encoder.handle_unknown == "error"
    unknown = None if refused else np.full((1, 1), encoder.unknown_value).astype(dtype)
    return _looked_up(tables, [unknown] * len(tables), flow, dtype)


def _mapped(mapping: Any, absent: int | None, dtype: Any) -> Any:
    """Give the numbers after the rare categories are one; the mapping leaves the category of nulls out, the last."""
    values = np.array(mapping).astype(dtype)
    return values if absent is None or absent < len(values) else np.append(values, np.zeros(1, dtype))


@rule("TargetEncoder")
def target(encoder: Any, flow: Flow) -> Made:
    """Give a category's encoding, by class where there are several."""
    _check(encoder, flow)
    several = len(encoder.classes_) if encoder.target_type_ == "multiclass" else 1
    tables = []
    for place, column in enumerate(flow.columns):
        names, _ = categories_of(encoder, place, column)
        own = encoder.encodings_[place * several : (place + 1) * several]
        tables.append((names, np.stack([np.asarray(e, np.float64) for e in own], axis=1)))
    means = np.atleast_1d(np.asarray(encoder.target_mean_, np.float64)).reshape(1, several)
    return _looked_up(tables, [means] * len(tables), flow, np.dtype(np.float64))


def _looked_up(tables: list[tuple[list[Any], Any]], unknown: list[Any], flow: Flow, dtype: Any) -> Made:
    parts, numbers, others, start = [], [], [], 0
    for (names, values), other in zip(tables, unknown, strict=True):
        numbers.append(np.arange(start, start + len(names)))
        parts += [values[: len(names)]] if other is None else [values[: len(names)], other]
        start += len(names) + (other is not None)
        others.append(REFUSED if other is None else start - 1)
    keys = tuple(tuple(names) for names, _ in tables)
    values = np.concatenate(parts).astype(dtype)
    node = Lookup(Codes(keys, tuple(numbers), tuple(others), fields_of(flow)), values)
    null = "nan" if np.isnan(values).any() else ""
    fields = [column.field for column in flow.columns for _ in range(values.shape[1])]
    columns = tuple(Column(str(dtype), "", null, field) for field in fields)
    return Made((node,), Flow(columns, True, "array"), refuses=True)


def impute_objects(imputer: Any, flow: Flow) -> Made:
    """Give what is missing among objects its statistic."""
    if flow.container == "series" or flow.matrix:
        raise NotCompiled("it was fitted to objects and is given something else")
    statistics = imputer.statistics_.tolist()
    kept = [i for i, v in enumerate(statistics) if imputer.keep_empty_features or v is None or v == v]
    fills = [_plain(statistics[i], "its statistic") for i in kept]
    missing = tuple(_missing(imputer.missing_values, column) for column in flow.columns)
    indicated = [int(i) for i in imputer.indicator_.features_] if imputer.add_indicator else []
    node = ImputeObjects(tuple(fills), missing, tuple(kept), tuple(indicated), fields_of(flow))
    after = [_filled(flow.columns[i], missing[i][0]) for i in kept]
    marks = [Column("bool", "", "", flow.columns[i].field) for i in indicated]
    return Made((node,), replace(flow, columns=(*after, *marks), container="array"), refuses=True)


def _filled(column: Column, null: bool) -> Column:
    return column._replace(dtype="object", null="" if null else column.null, source=None)


def _plain(value: Any, what: str) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    if not isinstance(value, PLAIN):
        raise NotCompiled(f"{what} is {value!r}, of {type(value).__name__}")
    return value


def _missing(marker: Any, column: Column) -> tuple[bool, Any, bool]:
    """Say whether a column's nulls count as missing, which other value does, and whether nulls are refused."""
    if type(marker).__name__ == "NAType":
        return True, None, False
    if marker is None:
        return column.null == "none", None, column.null == "nan"
    if isinstance(marker, str):
        return False, marker, column.null == "nan"
    number = missing_number(marker)
    return (column.null == "nan", None, False) if number is None else (False, number, column.null == "nan")
