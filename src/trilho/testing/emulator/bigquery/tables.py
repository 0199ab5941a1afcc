"""The methods on datasets and tables: create, get, list, change, delete."""

from __future__ import annotations

from typing import Any

from trilho.testing.emulator.bigquery.dialect import Dialect
from trilho.testing.emulator.bigquery.expansion import Expansion
from trilho.testing.emulator.bigquery.fields import Field, column_type, quoted, read_fields
from trilho.testing.emulator.bigquery.naming import DatasetName, TableName, invalid
from trilho.testing.emulator.bigquery.parameters import Parameters
from trilho.testing.emulator.bigquery.resources import (
    DATASET_FIELDS,
    TABLE_FIELDS,
    changed,
    chosen,
    dataset_resource,
    listed,
    require_etag,
    table_resource,
)  # fmt: skip
from trilho.testing.emulator.bigquery.warehouse import Warehouse
from trilho.testing.emulator.bigquery.writes import telling
from trilho.testing.emulator.http import Json, Request, Route

DATASETS = "/bigquery/v2/projects/{project}/datasets"
TABLES = DATASETS + "/{dataset}/tables"


class DatasetMethods:
    """The methods on datasets."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse

    def routes(self) -> list[Route]:
        """Give the routes."""
        one = DATASETS + "/{dataset}"
        return [
            Route("POST", DATASETS, "bigquery.datasets.create", self._create),
            Route("GET", DATASETS, "bigquery.datasets.get", self._list),
            Route("GET", one, "bigquery.datasets.get", self._get),
            Route("PATCH", one, "bigquery.datasets.update", lambda request: self._change(request, whole=False)),
            Route("PUT", one, "bigquery.datasets.update", lambda request: self._change(request, whole=True)),
            Route("DELETE", one, "bigquery.datasets.delete", self._delete),
            Route("GET", one + "/routines", "bigquery.routines.list", lambda request: {"routines": []}),
            Route("GET", one + "/models", "bigquery.models.list", lambda request: {"models": []}),
        ]

    def _create(self, request: Request) -> Json:
        given = request.json()
        name = DatasetName.of({"projectId": request.values["project"], **(given.get("datasetReference") or {})})
        document = self._warehouse.create_dataset(name, chosen(given, DATASET_FIELDS))
        return dataset_resource(document, request.base)

    def _list(self, request: Request) -> Json:
        found = self._warehouse.datasets(request.values["project"])
        for part in request.first("filter").split():
            key, _, value = part.removeprefix("labels.").partition(":")
            found = [at for at in found if key in at.get("labels", {}) and value in ("", at["labels"][key])]
        hidden = request.flag("all")
        shown = [at for at in found if hidden or not at["datasetReference"]["datasetId"].startswith("_")]
        return listed("bigquery#datasetList", "datasets", [dataset_resource(at, request.base) for at in shown], request)

    def _get(self, request: Request) -> Json:
        return dataset_resource(self._warehouse.dataset(_dataset(request)), request.base)

    def _change(self, request: Request, *, whole: bool) -> Json:
        name = _dataset(request)
        document = self._warehouse.dataset(name)
        require_etag(request, document)
        kept = changed(document, request.json(), DATASET_FIELDS, whole=whole) | {"location": document["location"]}
        self._warehouse.keep_dataset(name, kept)
        return dataset_resource(kept, request.base)

    def _delete(self, request: Request) -> None:
        self._warehouse.delete_dataset(_dataset(request), contents=request.flag("deleteContents"))


class TableMethods:
    """The methods on tables and views."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse

    def routes(self) -> list[Route]:
        """Give the routes."""
        one = TABLES + "/{table}"
        return [
            Route("POST", TABLES, "bigquery.tables.create", self._create),
            Route("GET", TABLES, "bigquery.tables.list", self._list),
            Route("GET", one, "bigquery.tables.get", self._get),
            Route("PATCH", one, "bigquery.tables.update", lambda request: self._change(request, whole=False)),
            Route("PUT", one, "bigquery.tables.update", lambda request: self._change(request, whole=True)),
            Route("DELETE", one, "bigquery.tables.delete", self._delete),
        ]

    def _create(self, request: Request) -> Json:
        given = request.json()
        reference = given.get("tableReference") or {}
        name = TableName.of({**_dataset(request).reference, **reference})
        document = chosen(given, TABLE_FIELDS)
        for kind in ("externalDataConfiguration", "materializedView", "snapshotDefinition"):
            if given.get(kind):
                raise invalid(f"trilho emulate has no tables with {kind}")
        if given.get("view"):
            with telling("invalidQuery"):
                made = self._warehouse.create_view(name, self._translated(given["view"], name), document)
        else:
            made = self._warehouse.create_table(name, read_fields(given.get("schema")), document)
        return self._shown(made, request)

    def _translated(self, view: Json, name: TableName) -> str:
        dialect = Dialect(project=name.dataset.project, default=None, parameters=Parameters([]),
                          expand=Expansion(self._warehouse))  # fmt: skip
        statements = dialect.read(str(view.get("query") or ""))
        if len(statements) != 1 or not statements[0].is_query:
            raise invalid("A view's query must be one SELECT.", "invalidQuery")
        for read in statements[0].reads:
            self._warehouse.table(read)
        return statements[0].sql

    def _list(self, request: Request) -> Json:
        found = [
            {key: value for key, value in self._shown(at, request, sized=False).items() if key != "schema"}
            for at in self._warehouse.tables(_dataset(request))
        ]
        return listed("bigquery#tableList", "tables", found, request)

    def _get(self, request: Request) -> Json:
        return self._shown(self._warehouse.table(_table(request)), request)

    def _change(self, request: Request, *, whole: bool) -> Json:
        name, given = _table(request), request.json()
        document = self._warehouse.table(name)
        require_etag(request, document)
        kept = changed(document, given, TABLE_FIELDS, whole=whole)
        with self._warehouse.whole():
            if "schema" in given:
                kept["schema"] = {
                    "fields": self._evolved(name, document["schema"]["fields"], read_fields(given["schema"]))
                }
            if given.get("view") and document["type"] == "VIEW":
                self._warehouse.run(f"CREATE OR REPLACE VIEW {name.sql} AS {self._translated(given['view'], name)}")
            return self._shown(self._warehouse.keep_table(name, kept), request)

    def _evolved(self, name: TableName, before: list[Field], after: list[Field]) -> list[Field]:
        """Add columns and relax modes; as in BigQuery nothing else of a schema can change."""
        wanted = {field["name"].lower(): field for field in after}
        for field in before:
            new = wanted.pop(field["name"].lower(), None)
            if new is None:
                raise invalid(
                    f"Provided Schema does not match Table {name}. Field {field['name']} is missing in new schema"
                )
            if column_type(new) != column_type(field):
                message = f"Field {field['name']} has changed type from {field['type']} to {new['type']}"
                raise invalid(f"Provided Schema does not match Table {name}. {message}")
            if field.get("mode") == "REQUIRED" and new.get("mode") != "REQUIRED":
                self._warehouse.run(f"ALTER TABLE {name.sql} ALTER {quoted(field['name'])} DROP NOT NULL")
            elif new.get("mode") == "REQUIRED" and field.get("mode") != "REQUIRED":
                raise invalid(
                    f"Provided Schema does not match Table {name}. Field {field['name']} cannot become REQUIRED"
                )
        for field in wanted.values():
            if field.get("mode") == "REQUIRED":
                raise invalid(f"Provided Schema does not match Table {name}. Cannot add required fields to an existing "
                              f"schema. (field: {field['name']})")  # fmt: skip
            self._warehouse.run(f"ALTER TABLE {name.sql} ADD COLUMN {quoted(field['name'])} {column_type(field)}")
        known = {field["name"].lower() for field in before}
        ordered = {field["name"].lower(): field for field in after}
        return [ordered[field["name"].lower()] for field in before] + [
            field for field in after if field["name"].lower() not in known
        ]

    def _delete(self, request: Request) -> None:
        self._warehouse.drop_table(_table(request))

    def _shown(self, document: Json, request: Request, *, sized: bool = True) -> Json:
        shown: dict[str, Any] = table_resource(document, request.base, self._warehouse.location)
        if sized and document["type"] == "TABLE":
            name = TableName.of(document["tableReference"])
            rows = self._warehouse.one(f"SELECT count(*) FROM {name.sql}")  # noqa: S608
            size = str(self._warehouse.size_of(name))
            shown |= {"numRows": str(rows), "numBytes": size, "numLongTermBytes": "0", "numTotalLogicalBytes": size}
        return shown


def _dataset(request: Request) -> DatasetName:
    return DatasetName(request.values["project"], request.values["dataset"])


def _table(request: Request) -> TableName:
    return TableName(_dataset(request), request.values["table"])
