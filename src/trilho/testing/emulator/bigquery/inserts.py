"""Streaming inserts: rows that are there at once, an insertId that comes again is not, errors by row."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trilho.testing.emulator.bigquery.fields import Field, column_type, literal, quoted
from trilho.testing.emulator.bigquery.naming import TableName, invalid
from trilho.testing.emulator.bigquery.rows import Unfit, fit_row
from trilho.testing.emulator.bigquery.warehouse import Warehouse
from trilho.testing.emulator.bigquery.writes import telling
from trilho.testing.emulator.http import Json

REMEMBERED_SECONDS = 60.0
MOST_ROWS = 50_000


class Inserts:
    """Answer insertAll."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._seen: dict[tuple[TableName, str], float] = {}

    def insert(self, name: TableName, request: Json) -> Json:
        """Insert rows; where one is wrong none is inserted, unless the request says to skip those."""
        if request.get("templateSuffix"):
            raise invalid("trilho emulate does not make tables by templateSuffix")
        rows = request.get("rows") or []
        if not 1 <= len(rows) <= MOST_ROWS:
            raise invalid("No rows present in the request." if not rows else f"too many rows: {len(rows)}")
        document = self._warehouse.table(name)
        if document["type"] != "TABLE":
            raise invalid(f"Cannot add rows to {name}: it is a {document['type']}")
        fit, errors = _checked(rows, document["schema"]["fields"], bool(request.get("ignoreUnknownValues")))
        if errors and not request.get("skipInvalidRows"):
            stopped = {"reason": "stopped", "location": "", "debugInfo": "", "message": ""}
            errors |= {index: [stopped] for index in range(len(rows)) if index not in errors}
            fit = {}
        self._store(name, document["schema"]["fields"], {index: rows[index].get("insertId") for index in fit}, fit)
        listed = [{"index": index, "errors": errors[index]} for index in sorted(errors)]
        return {"kind": "bigquery#tableDataInsertAllResponse"} | ({"insertErrors": listed} if listed else {})

    def _store(self, name: TableName, fields: list[Field], ids: dict[int, Any], rows: dict[int, Json]) -> None:
        now = time.monotonic()
        self._seen = {key: until for key, until in self._seen.items() if until > now}
        new = []
        for index, row in rows.items():
            key = (name, str(ids[index]))
            if ids[index] and key in self._seen:
                continue
            if ids[index]:
                self._seen[key] = now + REMEMBERED_SECONDS
            new.append(row)
        if new:
            with telling("invalid"), json_file(new) as path:
                self._warehouse.run(f"INSERT INTO {name.sql} BY NAME {reading(path, fields)}")


def _checked(
    rows: list[Any], fields: list[Field], ignore_unknown: bool
) -> tuple[dict[int, Json], dict[int, list[Json]]]:
    fit: dict[int, Json] = {}
    errors: dict[int, list[Json]] = {}
    for index, row in enumerate(rows):
        try:
            fit[index] = fit_row(row.get("json"), fields, ignore_unknown=ignore_unknown)
        except Unfit as unfit:
            errors[index] = [{"reason": "invalid", "location": unfit.where, "debugInfo": "", "message": unfit.why}]
    return fit, errors


@contextmanager
def json_file(rows: Iterable[Json]) -> Iterator[Path]:
    """Write rows to a file, one JSON object a line, that is there as long as the block."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
        file.flush()
        yield Path(file.name)


def reading(path: Path, fields: list[Field]) -> str:
    """Give the SQL that reads such a file into the fields' types; bytes come as a text that is cast."""
    columns = ", ".join(f"{quoted(field['name'])}: {literal(column_type(_as_text(field)))}" for field in fields)
    values = ", ".join(
        f"CAST({quoted(field['name'])} AS {column_type(field)}) AS {quoted(field['name'])}" for field in fields
    )
    options = f"format = 'newline_delimited', columns = {{{columns}}}, maximum_object_size = 104857600"
    return f"SELECT {values} FROM read_json({literal(str(path))}, {options})"  # noqa: S608


def _as_text(field: Field) -> Field:
    if field["type"] == "RECORD":
        return field | {"fields": [_as_text(part) for part in field["fields"]]}
    return field | {"type": "STRING"} if field["type"] == "BYTES" else field
