"""Writing rows into a table by the dispositions that queries, loads and copies have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import duckdb

from trilho.testing.emulator.bigquery.fields import Field, column, column_type, quoted
from trilho.testing.emulator.bigquery.naming import TableName, duplicate, invalid, not_found
from trilho.testing.emulator.bigquery.warehouse import Warehouse
from trilho.testing.emulator.http import ApiError

DISPOSITIONS = ("WRITE_APPEND", "WRITE_EMPTY", "WRITE_TRUNCATE", "WRITE_TRUNCATE_DATA")


@dataclass(frozen=True)
class Disposition:
    """What to do where the table exists, where it does not, and where the fields differ."""

    write: str
    create: bool = True
    add_fields: bool = False
    document: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, config: dict[str, Any], default: str) -> Disposition:
        """Read a job's configuration."""
        write = config.get("writeDisposition") or default
        if write not in DISPOSITIONS:
            raise invalid(f"Invalid value for writeDisposition: {write!r} is not a valid value")
        kept = ("timePartitioning", "rangePartitioning", "clustering")
        document = {key: config[key] for key in kept if config.get(key)}
        document |= {key: value for key, value in (config.get("destinationTableProperties") or {}).items() if value}
        create = config.get("createDisposition") != "CREATE_NEVER"
        return cls(write, create, "ALLOW_FIELD_ADDITION" in (config.get("schemaUpdateOptions") or ()), document)


def write(warehouse: Warehouse, name: TableName, source: str, how: Disposition, declared: list[Field]) -> int:
    """Write the rows of a query into a table, all or none; give how many there were.

    `declared` are the fields that the table is to have, where the client says so; else they are the query's.
    """
    with warehouse.whole():
        exists = warehouse.has_table(name)
        if not exists and not how.create:
            raise not_found(name, warehouse.location)
        if exists and how.write == "WRITE_EMPTY" and warehouse.one(f"SELECT count(*) FROM {name.sql}"):  # noqa: S608
            raise duplicate(name)
        if exists and not warehouse.table(name)["schema"]["fields"]:
            exists = False
            warehouse.run(f"DROP TABLE {name.sql}")
        if exists and how.write == "WRITE_TRUNCATE_DATA":
            warehouse.run(f"DELETE FROM {name.sql}")  # noqa: S608
        if exists and how.write != "WRITE_TRUNCATE":
            return _append(warehouse, name, source, how, declared)
        return _replace(warehouse, name, source, how, declared)


def split_partition(name: TableName) -> tuple[TableName, str]:
    """Give a table, and the day of its partition where the name has one: `t$20260131`.

    >>> from trilho.testing.emulator.bigquery.naming import DatasetName
    >>> split_partition(TableName(DatasetName("p", "d"), "t$20260131"))[1]
    '2026-01-31'
    """
    table, mark, day = name.table.partition("$")
    if mark and not re.fullmatch(r"\d{8}", day):
        raise invalid(f"Invalid partition: trilho emulate knows those of days, as {table}$20260131, not ${day}")
    return TableName(name.dataset, table), f"{day[:4]}-{day[4:6]}-{day[6:]}" if mark else ""


def write_partition(
    warehouse: Warehouse, name: TableName, day: str, source: str, how: Disposition, declared: list[Field]
) -> int:
    """Write the rows of a query into one day of a table that is partitioned by a column, all or none."""
    column = (warehouse.table(name).get("timePartitioning") or {}).get("field")
    if not column:
        raise invalid(f"Table {name} is not partitioned by a column: there is no partition of {day}")
    with warehouse.whole():
        there = f"CAST({quoted(column)} AS DATE) IS DISTINCT FROM DATE '{day}'"
        if warehouse.one(f"SELECT count(*) FROM ({source}) WHERE {there}"):  # noqa: S608
            raise invalid(f"Some rows belong to different partitions rather than destination partition {day}")
        held = warehouse.one(f"SELECT count(*) FROM {name.sql} WHERE NOT ({there})")  # noqa: S608
        if how.write == "WRITE_EMPTY" and held:
            raise duplicate(name)
        if how.write.startswith("WRITE_TRUNCATE"):
            warehouse.run(f"DELETE FROM {name.sql} WHERE NOT ({there})")  # noqa: S608
        return _append(warehouse, name, source, how, declared)


def _replace(warehouse: Warehouse, name: TableName, source: str, how: Disposition, declared: list[Field]) -> int:
    if not declared:
        warehouse.run(f"CREATE OR REPLACE TABLE {name.sql} AS {source}")
    else:
        warehouse.run(f"CREATE OR REPLACE TABLE {name.sql} ({', '.join(column(one) for one in declared)})")
        _insert(warehouse, name, source, declared)
    document = how.document | ({"schema": {"fields": declared}} if declared else {})
    warehouse.settle_table(name, document)
    return int(warehouse.one(f"SELECT count(*) FROM {name.sql}"))  # noqa: S608


def _append(warehouse: Warehouse, name: TableName, source: str, how: Disposition, declared: list[Field]) -> int:
    document = warehouse.table(name)
    known: list[Field] = document["schema"]["fields"]
    incoming = declared or warehouse.fields_of(source)
    names = {one["name"].lower() for one in known}
    new = [one | {"mode": "NULLABLE"} if one.get("mode") == "REQUIRED" else one
           for one in incoming if one["name"].lower() not in names]  # fmt: skip
    if new and not how.add_fields:
        listed = ", ".join(one["name"] for one in new)
        raise invalid(f"Provided Schema does not match Table {name}. Cannot add fields (field: {listed})")
    for one in new:
        warehouse.run(f"ALTER TABLE {name.sql} ADD COLUMN {quoted(one['name'])} {column_type(one)}")
    rows = _insert(warehouse, name, source, [*known, *new])
    warehouse.keep_table(name, document | {"schema": {"fields": [*known, *new]}})
    return rows


def _insert(warehouse: Warehouse, name: TableName, source: str, fields: list[Field]) -> int:
    """Insert the columns of a query that the table has, each as the table's type."""
    present = {str(row[0]).lower() for row in warehouse.run(f"SELECT * FROM ({source}) LIMIT 0").description or []}  # noqa: S608
    chosen = [one for one in fields if one["name"].lower() in present]
    if not chosen:
        raise invalid(f"No field of the data is a field of Table {name}.")
    columns = ", ".join(quoted(one["name"]) for one in chosen)
    values = ", ".join(f"CAST({quoted(one['name'])} AS {column_type(one)})" for one in chosen)
    inserted = warehouse.rows(f"INSERT INTO {name.sql} ({columns}) SELECT {values} FROM ({source})")  # noqa: S608
    return int(inserted[0][0])


@contextmanager
def telling(reason: str) -> Iterator[None]:
    """Tell DuckDB's errors as BigQuery's, with a reason."""
    try:
        yield
    except duckdb.Error as error:
        raise told(error, reason) from None


def told(error: duckdb.Error, reason: str) -> ApiError:
    """Give BigQuery's error for one of DuckDB's.

    >>> told(duckdb.BinderException('Referenced column "x" not found in FROM clause!'), "invalidQuery").message
    'Unrecognized name: x'
    """
    text = str(error).strip()
    for pattern, words in (
        (r'Referenced column "([^"]+)" not found', "Unrecognized name: {}"),
        (r"(?:Scalar|Aggregate|Table) Function with name (\S+) does not exist", "Function not found: {}"),
        (r'NOT NULL constraint failed: (?:\S+\.)?"?([^."]+)"?$', "Required field {} cannot be null"),
    ):
        found = re.search(pattern, text, re.MULTILINE)
        if found:
            return ApiError(400, words.format(found[1]), reason=reason)
    first = re.sub(r"^(?:[A-Z]\w+ )+Error: ", "", text.splitlines()[0])
    return ApiError(400, first, reason=reason)
