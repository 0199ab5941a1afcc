"""A table's fields as BigQuery's schemas have them, and the DuckDB types that hold them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from trilho.testing.emulator.http import ApiError

Field = dict[str, Any]

COLUMN_TYPES = {
    "STRING": "VARCHAR", "BYTES": "BLOB", "INTEGER": "BIGINT", "FLOAT": "DOUBLE", "BOOLEAN": "BOOLEAN",
    "NUMERIC": "DECIMAL(38,9)", "BIGNUMERIC": "DECIMAL(38,18)", "TIMESTAMP": "TIMESTAMP WITH TIME ZONE", "DATE": "DATE",
    "TIME": "TIME", "DATETIME": "TIMESTAMP", "GEOGRAPHY": "VARCHAR", "JSON": "JSON", "INTERVAL": "INTERVAL",
}  # fmt: skip
OTHER_NAMES = {
    "INT64": "INTEGER", "INT": "INTEGER", "SMALLINT": "INTEGER", "BIGINT": "INTEGER", "TINYINT": "INTEGER",
    "BYTEINT": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN", "DECIMAL": "NUMERIC", "BIGDECIMAL": "BIGNUMERIC",
    "STRUCT": "RECORD",
}  # fmt: skip
FIELD_TYPES = {
    "varchar": "STRING", "blob": "BYTES", "bit": "STRING", "uuid": "STRING", "enum": "STRING", "boolean": "BOOLEAN",
    "float": "FLOAT", "double": "FLOAT", "date": "DATE", "time": "TIME", "time with time zone": "TIME",
    "timestamp with time zone": "TIMESTAMP", "timestamp": "DATETIME", "timestamp_s": "DATETIME",
    "timestamp_ms": "DATETIME", "timestamp_ns": "DATETIME", "interval": "INTERVAL", "sqlnull": "INTEGER",
    "null": "INTEGER",
}  # fmt: skip
NAME = re.compile(r"[A-Za-z_À-￿][\w\- À-￿]{0,299}")


def quoted(name: str) -> str:
    """Give a name as SQL has it.

    >>> print(quoted("price in BRL"))
    "price in BRL"
    """
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Give a text as SQL has it.

    >>> literal("it's")
    "'it''s'"
    """
    return "'" + text.replace("'", "''") + "'"


def read_fields(schema: Any) -> list[Field]:
    """Read the fields of a schema that a client sent, with the type names that BigQuery answers with."""
    given = (schema or {}).get("fields") or []
    found = [_read(field) for field in given]
    names = [field["name"].lower() for field in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ApiError(400, f"Duplicate field name: {twice[0]}", reason="invalid")
    return found


def _read(field: Any) -> Field:
    name, kind, mode = str(field.get("name", "")), str(field.get("type", "")).upper(), field.get("mode") or "NULLABLE"
    if not NAME.fullmatch(name):
        raise ApiError(400, f"Invalid field name {name!r}.", reason="invalid")
    kind = OTHER_NAMES.get(kind, kind)
    if kind not in COLUMN_TYPES and kind != "RECORD":
        raise ApiError(400, f"Invalid value for type: {kind!r} is not a valid value", reason="invalid")
    if mode not in ("NULLABLE", "REQUIRED", "REPEATED"):
        raise ApiError(400, f"Invalid value for mode: {mode!r} is not a valid value", reason="invalid")
    kept = {**field, "name": name, "type": kind, "mode": mode}
    if kind == "RECORD":
        kept["fields"] = read_fields(field)
        if not kept["fields"]:
            raise ApiError(400, f"Field {name} is type RECORD but has no schema", reason="invalid")
    return kept


def column_type(field: Field) -> str:
    """Give the DuckDB type of a field.

    >>> column_type({"name": "x", "type": "INTEGER", "mode": "REPEATED"})
    'BIGINT[]'
    """
    if field["type"] == "RECORD":
        inner = ", ".join(f"{quoted(part['name'])} {column_type(part)}" for part in field["fields"])
        kind = f"STRUCT({inner})"
    else:
        kind = COLUMN_TYPES[field["type"]]
    return f"{kind}[]" if field.get("mode") == "REPEATED" else kind


def column(field: Field) -> str:
    """Give the definition of a field's column."""
    required = " NOT NULL" if field.get("mode") == "REQUIRED" else ""
    return f"{quoted(field['name'])} {column_type(field)}{required}"


def field_of(name: str, kind: Any) -> Field:
    """Give the field that a DuckDB column is."""
    if str(kind) == "JSON":
        return {"name": name, "type": "JSON", "mode": "NULLABLE"}
    id_ = kind.id
    if id_ in ("list", "array"):
        return field_of(name, kind.children[0][1]) | {"mode": "REPEATED"}
    if id_ == "struct":
        inner = [field_of(part, part_kind) for part, part_kind in kind.children]
        return {"name": name, "type": "RECORD", "mode": "NULLABLE", "fields": inner}
    if id_ == "decimal":
        scale = dict(kind.children)["scale"]
        return {"name": name, "type": "NUMERIC" if scale <= 9 else "BIGNUMERIC", "mode": "NULLABLE"}
    known = FIELD_TYPES.get(id_) or ("INTEGER" if "int" in id_ else None)
    if known is None:
        raise ApiError(400, f"trilho emulate has no BigQuery type for {kind}", reason="invalidQuery")
    return {"name": name, "type": known, "mode": "NULLABLE"}


def fields_of(description: Iterable[Sequence[Any]]) -> list[Field]:
    """Give the fields of a DuckDB cursor's columns."""
    return [field_of(str(name), kind) for name, kind, *_ in description]


def remembered(fields: list[Field], known: list[Field]) -> list[Field]:
    """Give a table's fields with what DuckDB forgets of them: descriptions, modes, types that share a column type."""
    before = {field["name"].lower(): field for field in known}
    return [_remembered(field, before.get(field["name"].lower())) for field in fields]


def _remembered(field: Field, known: Field | None) -> Field:
    if known is None or column_type(field) != column_type(known):
        return field
    return known


def bytes_of(field: Field, value: str) -> str:
    """Give the SQL of a value's size as BigQuery counts it: 8 bytes a number, 2 and its bytes a text, 0 a null."""
    if field.get("mode") == "REPEATED":
        one = bytes_of(field | {"mode": "NULLABLE"}, "e")
        return f"coalesce(list_sum(list_transform({value}, lambda e: {one})), 0)"
    kind = field["type"]
    if kind == "RECORD":
        parts = [bytes_of(part, f"{value}.{quoted(part['name'])}") for part in field["fields"]]
        return f"({' + '.join(parts)})"
    sizes = {
        "BOOLEAN": "1",
        "NUMERIC": "16",
        "BIGNUMERIC": "32",
        "INTERVAL": "16",
        "BYTES": f"2 + octet_length({value})",
    }
    text = f"2 + strlen(CAST({value} AS VARCHAR))"
    size = text if kind in ("STRING", "JSON", "GEOGRAPHY") else sizes.get(kind, "8")
    return f"CASE WHEN {value} IS NULL THEN 0 ELSE {size} END"
