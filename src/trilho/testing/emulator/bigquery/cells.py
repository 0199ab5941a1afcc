"""Rows as BigQuery's answers have them, `{"f": [{"v": ...}]}`: the SQL that makes DuckDB write them itself."""

from __future__ import annotations

from trilho.testing.emulator.bigquery.fields import Field, literal, quoted


def row_of(fields: list[Field], *, micros: bool = True) -> str:
    """Give the SQL of one row's JSON; `micros`: timestamps as whole microseconds, as newer clients ask for them."""
    cells = [f"json_object('v', {cell_of(field, quoted(field['name']), micros=micros)})" for field in fields]
    return f"json_object('f', json_array({', '.join(cells)}))"


def cell_of(field: Field, value: str, *, micros: bool = True, depth: int = 0) -> str:
    """Give the SQL of one value's JSON. A null array is an empty one, as in BigQuery."""
    if field.get("mode") == "REPEATED":
        name = f"e{depth}"
        one = cell_of(field | {"mode": "NULLABLE"}, name, micros=micros, depth=depth + 1)
        filled = f"list_transform({value}, lambda {name}: json_object('v', {one}))"
        return f"CASE WHEN {value} IS NULL THEN json_array() ELSE to_json({filled}) END"
    if field["type"] == "RECORD":
        parts = [
            f"json_object('v', {cell_of(part, f'struct_extract({value}, {_text(part)})', micros=micros, depth=depth)})"
            for part in field["fields"]
        ]
        return f"CASE WHEN {value} IS NULL THEN NULL ELSE json_object('f', json_array({', '.join(parts)})) END"
    return _scalar(field["type"], value, micros)


def _text(part: Field) -> str:
    return literal(part["name"])


def _scalar(kind: str, value: str, micros: bool) -> str:
    text = f"CAST({value} AS VARCHAR)"
    if kind == "FLOAT":
        return (
            f"CASE WHEN isnan({value}) THEN 'NaN' WHEN isinf({value}) AND {value} > 0 THEN 'Infinity' "
            f"WHEN isinf({value}) THEN '-Infinity' ELSE {text} END"
        )
    if kind in ("NUMERIC", "BIGNUMERIC"):
        return f"CASE WHEN contains({text}, '.') THEN rtrim(rtrim({text}, '0'), '.') ELSE {text} END"
    if kind == "TIMESTAMP":
        return f"CAST(epoch_us({value}) {'' if micros else '/ 1e6 '}AS VARCHAR)"
    if kind == "DATETIME":
        return _with_micros(f"replace({text}, ' ', 'T')", 26)
    if kind == "TIME":
        return _with_micros(text, 15)
    if kind == "BYTES":
        return f"to_base64({value})"
    return _interval(value) if kind == "INTERVAL" else text


def _with_micros(text: str, size: int) -> str:
    """Write a fraction of a second with six digits."""
    return f"CASE WHEN contains({text}, '.') THEN rpad({text}, {size}, '0') ELSE {text} END"


def _interval(value: str) -> str:
    """Write an interval as `Y-M D H:M:S`."""
    parts = ", ".join(f"datepart('{part}', {value})" for part in ("year", "month", "day", "hour", "minute", "second"))
    return f"CASE WHEN {value} IS NULL THEN NULL ELSE printf('%d-%d %d %d:%d:%d', {parts}) END"
