"""Tables that are none: `events_*` is all tables of that prefix, INFORMATION_SCHEMA.TABLES and .COLUMNS the catalog."""

from __future__ import annotations

from typing import Any

import sqlglot

from trilho.testing.emulator.bigquery.fields import Field, literal
from trilho.testing.emulator.bigquery.naming import TableName, invalid_query, not_found
from trilho.testing.emulator.bigquery.warehouse import Warehouse

INFORMATION = "INFORMATION_SCHEMA."


class Expansion:
    """Give the query that stands for such a table."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self.read: list[TableName] = []
        """The tables that wildcards stood for."""

    def __call__(self, name: TableName) -> Any:
        """Give the query, or None where the name is that of a table."""
        if name.table.upper().startswith(INFORMATION):
            return sqlglot.parse_one(self._information(name), read="duckdb")
        if name.table.endswith("*"):
            return sqlglot.parse_one(self._wildcard(name), read="duckdb")
        return None

    def _wildcard(self, name: TableName) -> str:
        prefix = name.table[:-1]
        tables = [document["tableReference"]["tableId"] for document in self._warehouse.tables(name.dataset)]
        found = [TableName(name.dataset, table) for table in tables if table.startswith(prefix)]
        if not found:
            raise not_found(name, self._warehouse.location)
        self.read += found
        return " UNION ALL BY NAME ".join(
            f"SELECT *, {literal(table.table[len(prefix) :])} AS _TABLE_SUFFIX FROM {table.sql}"  # noqa: S608
            for table in found
        )

    def _information(self, name: TableName) -> str:
        views = {"TABLES": self._tables, "COLUMNS": self._columns}
        view = views.get(name.table[len(INFORMATION) :].upper())
        if view is None:
            raise invalid_query(f"trilho emulate has no {name.table}; it has {', '.join(sorted(views))}")
        columns, rows = view(name)
        values = ", ".join(f"({', '.join(literal(str(value)) for value in row)})" for row in rows)
        if not rows:
            return f"SELECT {', '.join(f'CAST(NULL AS VARCHAR) AS {column}' for column in columns)} WHERE false"
        return f"SELECT * FROM (VALUES {values}) AS t({', '.join(columns)})"  # noqa: S608

    def _tables(self, name: TableName) -> tuple[list[str], list[list[object]]]:
        kinds = {"TABLE": "BASE TABLE"}
        rows = [
            [
                name.dataset.project,
                name.dataset.dataset,
                at["tableReference"]["tableId"],
                kinds.get(at["type"], at["type"]),
            ]
            for at in self._warehouse.tables(name.dataset)
        ]
        return ["table_catalog", "table_schema", "table_name", "table_type"], list(rows)

    def _columns(self, name: TableName) -> tuple[list[str], list[list[object]]]:
        rows: list[list[object]] = []
        for document in self._warehouse.tables(name.dataset):
            for number, field in enumerate(document["schema"]["fields"], 1):
                nullable = "NO" if field.get("mode") == "REQUIRED" else "YES"
                table = document["tableReference"]["tableId"]
                rows.append([name.dataset.dataset, table, field["name"], number, nullable, _type_name(field)])
        return ["table_schema", "table_name", "column_name", "ordinal_position", "is_nullable", "data_type"], rows


def _type_name(field: Field) -> str:
    """Give a field's type as GoogleSQL writes it.

    >>> _type_name({"name": "x", "type": "INTEGER", "mode": "REPEATED"})
    'ARRAY<INT64>'
    """
    names = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}
    kind = str(field["type"])
    if kind == "RECORD":
        parts = [f"{part['name']} {_type_name(part)}" for part in field["fields"]]
        kind = f"STRUCT<{', '.join(parts)}>"
    name = names.get(kind, kind)
    return f"ARRAY<{name}>" if field.get("mode") == "REPEATED" else name
