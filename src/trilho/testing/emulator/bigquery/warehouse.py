"""The datasets and tables, in one DuckDB file: a dataset is a schema; what DuckDB does not know of a table is beside.

One lock is held for each request: queries run one after the other.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb

from trilho.testing.emulator.bigquery import fields as schema
from trilho.testing.emulator.bigquery.fields import Field, column_type, quoted
from trilho.testing.emulator.bigquery.fingerprint import farm_fingerprint
from trilho.testing.emulator.bigquery.naming import (
    DATASET,
    TABLE,
    DatasetName,
    TableName,
    duplicate,
    invalid,
    not_found,
)
from trilho.testing.emulator.bigquery.rewrites import MACROS
from trilho.testing.emulator.http import ApiError

TABLES = """
CREATE SCHEMA IF NOT EXISTS trilho_catalog;
CREATE TABLE IF NOT EXISTS trilho_catalog.datasets (project VARCHAR, dataset VARCHAR, document VARCHAR);
CREATE TABLE IF NOT EXISTS trilho_catalog.tables (project VARCHAR, dataset VARCHAR, name VARCHAR, document VARCHAR);
CREATE TABLE IF NOT EXISTS trilho_catalog.jobs (project VARCHAR, id VARCHAR, created BIGINT, document VARCHAR);
"""
ANONYMOUS = "_anonymous"  # where the results of queries lie; as in the cloud, no list shows it
Document = dict[str, Any]


def now_millis() -> str:
    """Give the time as BigQuery's resources have it."""
    return str(time.time_ns() // 1_000_000)


class Warehouse:
    """The DuckDB file and its catalog."""

    def __init__(self, path: Path, *, project: str, location: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.project, self.location = project, location
        self.lock = threading.RLock()
        self._db = duckdb.connect(str(path))
        self._db.execute("SET TimeZone = 'UTC'")
        self._db.execute(TABLES)
        self._db.execute(MACROS)
        self._db.create_function("farm_fingerprint", farm_fingerprint, ["VARCHAR"], "BIGINT")
        for left in self.rows("SELECT project FROM trilho_catalog.datasets WHERE dataset = ?", ANONYMOUS):
            self.delete_dataset(DatasetName(left[0], ANONYMOUS), contents=True)

    def close(self) -> None:
        """Close the file."""
        with self.lock:
            self._db.close()

    # DuckDB

    def run(self, sql: str, *values: Any) -> duckdb.DuckDBPyConnection:
        """Run one statement; the caller has the lock."""
        return self._db.execute(sql, list(values))

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Give the rows of a query."""
        return self.run(sql, *values).fetchall()

    def one(self, sql: str, *values: Any) -> Any:
        """Give the only value of a query."""
        return self.rows(sql, *values)[0][0]

    def fields_of(self, query: str) -> list[Field]:
        """Give the fields that a query has, without running it."""
        return schema.fields_of(self.run(f"SELECT * FROM ({query}) LIMIT 0").description or [])  # noqa: S608

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Do all of what is inside, or nothing; within a script's transaction it is part of that."""
        try:
            self.run("BEGIN TRANSACTION")
        except duckdb.TransactionException:
            yield
            return
        try:
            yield
        except BaseException:
            self.run("ROLLBACK")
            raise
        self.run("COMMIT")

    def end_transaction(self) -> None:
        """Undo what a script began and did not commit."""
        with suppress(duckdb.TransactionException):
            self.run("ROLLBACK")

    # Datasets

    def has_dataset(self, name: DatasetName) -> bool:
        """Say whether a dataset exists."""
        return self._has_schema(name)

    def dataset(self, name: DatasetName) -> Document:
        """Give a dataset's document; 404 where there is none."""
        found = self.rows("SELECT document FROM trilho_catalog.datasets WHERE project = ? AND dataset = ?", *_key(name))
        if not found:
            raise not_found(name, self.location)
        return dict(json.loads(found[0][0]))

    def datasets(self, project: str) -> list[Document]:
        """Give a project's datasets in the order of their names."""
        chosen = "SELECT document FROM trilho_catalog.datasets WHERE project = ? ORDER BY dataset"
        return [json.loads(row[0]) for row in self.rows(chosen, project)]

    def results(self, project: str, job: str) -> TableName:
        """Give the table for a query's result, in a dataset that is made when it is needed."""
        name = DatasetName(project, ANONYMOUS)
        if not self._has_schema(name):
            self.create_dataset(name, {})
        return TableName(name, f"anon{job.replace('-', '_')}")

    def create_dataset(self, name: DatasetName, document: Document) -> Document:
        """Make a dataset; 409 where there is one of this name."""
        if not DATASET.fullmatch(name.dataset):
            raise invalid(f'Invalid dataset ID "{name.dataset}". Dataset IDs must be alphanumeric (plus underscores).')
        if self._has_schema(name):
            raise duplicate(name)
        at = now_millis()
        made: Document = {"location": self.location} | document
        made |= {"datasetReference": name.reference, "creationTime": at, "lastModifiedTime": at}
        with self.whole():
            self.run(f"CREATE SCHEMA {quoted(name.schema)}")
            self.keep_dataset(name, made)
        return made

    def keep_dataset(self, name: DatasetName, document: Document) -> None:
        """Write a dataset's document."""
        self.run("DELETE FROM trilho_catalog.datasets WHERE project = ? AND dataset = ?", *_key(name))
        self.run("INSERT INTO trilho_catalog.datasets VALUES (?, ?, ?)", *_key(name), json.dumps(document))

    def delete_dataset(self, name: DatasetName, *, contents: bool) -> None:
        """Remove a dataset; 400 where it has tables and they are not to go with it."""
        self.dataset(name)
        if self.tables(name) and not contents:
            raise ApiError(400, f"Dataset {name} is still in use", reason="resourceInUse")
        with self.whole():
            self.run(f"DROP SCHEMA {quoted(name.schema)} CASCADE")
            for table in ("tables", "datasets"):
                self.run(f"DELETE FROM trilho_catalog.{table} WHERE project = ? AND dataset = ?", *_key(name))  # noqa: S608

    def _has_schema(self, name: DatasetName) -> bool:
        chosen = "SELECT count(*) FROM duckdb_schemas() WHERE lower(schema_name) = lower(?)"
        return bool(self.one(chosen, name.schema))

    # Tables

    def table(self, name: TableName) -> Document:
        """Give a table's document; 404 where it, or its dataset, does not exist."""
        self.dataset(name.dataset)
        found = self.rows(
            "SELECT document FROM trilho_catalog.tables WHERE project = ? AND dataset = ? AND name = ?", *_key(name)
        )
        if not found:
            raise not_found(name, self.location)
        return dict(json.loads(found[0][0]))

    def has_table(self, name: TableName) -> bool:
        """Say whether a table exists; 404 where its dataset does not."""
        try:
            self.table(name)
        except ApiError as error:
            if str(error).startswith("Not found: Dataset"):
                raise
            return False
        return True

    def tables(self, name: DatasetName) -> list[Document]:
        """Give a dataset's tables in the order of their names."""
        self.dataset(name)
        chosen = "SELECT document FROM trilho_catalog.tables WHERE project = ? AND dataset = ? ORDER BY name"
        return [json.loads(row[0]) for row in self.rows(chosen, *_key(name))]

    def create_table(self, name: TableName, fields: list[Field], document: Document) -> Document:
        """Make a table; 409 where there is one of this name."""
        if not TABLE.fullmatch(name.table):
            raise invalid(f'Invalid table ID "{name.table}".')
        if self.has_table(name):
            raise duplicate(name)
        with self.whole():
            columns = ", ".join(schema.column(field) for field in fields) or f"{quoted('trilho_none')} INTEGER"
            try:
                self.run(f"CREATE TABLE {name.sql} ({columns})")
            except duckdb.CatalogException:  # names that differ by case alone
                raise duplicate(name) from None
            return self.keep_table(name, document | {"schema": {"fields": fields}, "type": "TABLE"}, new=True)

    def create_view(self, name: TableName, query: str, document: Document) -> Document:
        """Make a view of a query that was translated."""
        if self.has_table(name):
            raise duplicate(name)
        with self.whole():
            self.run(f"CREATE VIEW {name.sql} AS {query}")
            fields = self.fields_of(f"SELECT * FROM {name.sql}")  # noqa: S608
            return self.keep_table(name, document | {"schema": {"fields": fields}, "type": "VIEW"}, new=True)

    def keep_table(self, name: TableName, document: Document, *, new: bool = False) -> Document:
        """Write a table's document."""
        at = now_millis()
        kept = document | {"tableReference": name.reference, "lastModifiedTime": at}
        kept |= {"creationTime": at} if new else {}
        self.forget_table(name)
        self.run("INSERT INTO trilho_catalog.tables VALUES (?, ?, ?, ?)", *_key(name), json.dumps(kept))
        return kept

    def forget_table(self, name: TableName) -> None:
        """Remove a table's document."""
        self.run("DELETE FROM trilho_catalog.tables WHERE project = ? AND dataset = ? AND name = ?", *_key(name))

    def drop_table(self, name: TableName) -> None:
        """Remove a table or a view."""
        kind = self.table(name)["type"]
        with self.whole():
            self.run(f"DROP {'VIEW' if kind == 'VIEW' else 'TABLE'} {name.sql}")
            self.forget_table(name)

    def settle_table(self, name: TableName, document: Document | None = None) -> Document:
        """Make a table's document what DuckDB says after a statement that made or changed it."""
        known = self.table(name) if self.has_table(name) else None
        found = schema.fields_of(self.run(f"SELECT * FROM {name.sql} LIMIT 0").description or [])  # noqa: S608
        self.widen(name.sql, found)
        base = (known or {"type": "TABLE"}) | (document or {})
        fields = schema.remembered(found, (base.get("schema") or {}).get("fields", []))
        return self.keep_table(name, base | {"schema": {"fields": fields}}, new=known is None)

    def widen(self, table: str, fields: list[Field]) -> None:
        """Give each column of a table the one type that its field has."""
        actual = {row[0]: str(row[1]) for row in self.run(f"SELECT * FROM {table} LIMIT 0").description or []}  # noqa: S608
        for field in fields:
            kind = column_type(field)
            if actual[field["name"]].lower() != kind.lower().replace('"', "") and field["type"] != "RECORD":
                self.run(f"ALTER TABLE {table} ALTER {quoted(field['name'])} TYPE {kind}")

    def size_of(self, name: TableName, columns: set[str] | None = None) -> int:
        """Give the bytes of a table, or of some of its columns, as BigQuery counts them."""
        document = self.table(name)
        fields = document["schema"]["fields"]
        chosen = [field for field in fields if columns is None or field["name"].lower() in columns]
        if document["type"] == "VIEW" or not chosen:
            return 0
        parts = " + ".join(schema.bytes_of(field, quoted(field["name"])) for field in chosen)
        return int(self.one(f"SELECT coalesce(sum({parts}), 0) FROM {name.sql}"))  # noqa: S608


def _key(name: DatasetName | TableName) -> tuple[str, ...]:
    if isinstance(name, TableName):
        return (*_key(name.dataset), name.table)
    return (name.project, name.dataset)
