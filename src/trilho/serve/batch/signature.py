"""A table's columns held against what a model wants of them, all of them and all rows, before any row is predicted.

The scorer checks each part again, as a server checks a request; but a wrong type that shows in the last part should not
cost the hours of those before it, and a table with three wrong columns should be told once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from trilho.data.tables import name
from trilho_runtime.schema.field import Field
from trilho_runtime.schema.rows import shown, wanted
from trilho_runtime.schema.signature import Signature

if TYPE_CHECKING:
    import duckdb

FITTING = {
    "number": ("BIGINT", "DOUBLE"),
    "integer": ("BIGINT", "DOUBLE"),
    "boolean": ("BOOLEAN",),
    "string": ("VARCHAR",),
    "timestamp": ("TIMESTAMP", "VARCHAR"),
}


def signature_of(package: Path) -> Signature:
    """Give the fields that a package's model is asked with."""
    return Signature.from_json(json.loads((package / "manifest.json").read_text(encoding="utf-8"))["signature"])


def misfits(connection: duckdb.DuckDBPyConnection, signature: Signature) -> list[str]:
    """Say of each field that the table `t` does not hold as the model wants it what is wrong, in a request's words."""
    kinds = {row[0]: str(row[1]) for row in connection.execute("DESCRIBE t").fetchall()}
    found = [_missing(field) for field in signature.fields if field.name not in kinds and not field.nullable]
    rules = {field: _wrong(field, kinds[field.name]) for field in signature.fields if field.name in kinds}
    asked = {field: rule for field, rule in rules.items() if rule}
    return found + [_told(connection, field, row) for field, row in _first(connection, asked).items()]


def _missing(field: Field) -> str:
    return f"{field.name} is missing; wanted {wanted(field)}"


def _wrong(field: Field, kind: str) -> str:
    """Give the SQL that holds for a value that the model cannot take."""
    column = name(field.name)
    null = f"({column} IS NULL OR isnan({column}))" if kind == "DOUBLE" else f"{column} IS NULL"
    rules = [] if field.nullable else [null]
    if kind not in FITTING[field.type]:
        rules.append(f"NOT {null}")
    elif field.type == "integer":
        low, high = field.limits
        rules.append(f"(NOT {null} AND ({column} <> trunc({column}) OR {column} < {low} OR {column} > {high}))")
    elif field.type == "number" and kind == "DOUBLE":
        rules.append(f"isinf({column})")
    return " OR ".join(rules)


def _first(connection: duckdb.DuckDBPyConnection, asked: Mapping[Field, str]) -> dict[Field, int]:
    """Give the first row that is wrong of each field, in one reading of the table."""
    if not asked:
        return {}
    listed = ", ".join(f"min(rowid) FILTER (WHERE {rule})" for rule in asked.values())
    rows = connection.execute(f"SELECT {listed} FROM t").fetchall()[0]  # noqa: S608
    return {field: int(row) for field, row in zip(asked, rows, strict=True) if row is not None}


def _told(connection: duckdb.DuckDBPyConnection, field: Field, row: int) -> str:
    query = f"SELECT {name(field.name)} FROM t WHERE rowid = {row}"  # noqa: S608
    value = connection.execute(query).fetchall()[0][0]
    value = None if value != value else value
    return f"row {row}: {field.name} is {shown(value)}; wanted {wanted(field, value)}"
