"""Load, copy and extract jobs: files in buckets or in the request, other tables."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import duckdb

from trilho.testing.emulator.bigquery import fields as schema
from trilho.testing.emulator.bigquery.fields import Field, column_type, literal, quoted
from trilho.testing.emulator.bigquery.inserts import json_file, reading
from trilho.testing.emulator.bigquery.naming import TableName, invalid
from trilho.testing.emulator.bigquery.rows import Unfit, fit_row
from trilho.testing.emulator.bigquery.warehouse import Warehouse
from trilho.testing.emulator.bigquery.writes import (
    Disposition,
    split_partition,
    telling,
    told,
    write,
    write_partition,
)
from trilho.testing.emulator.drafts import Draft, blocks
from trilho.testing.emulator.http import ApiError, Json
from trilho.testing.emulator.storage.objects import Objects

FORMATS = ("CSV", "NEWLINE_DELIMITED_JSON", "PARQUET")
COMPRESSIONS = {"GZIP": "gzip", "SNAPPY": "snappy", "ZSTD": "zstd"}


class Loads:
    """Carry out jobs that move tables."""

    def __init__(self, warehouse: Warehouse, objects: Objects) -> None:
        self._warehouse, self._objects = warehouse, objects

    # Load

    def load(self, config: Json, project: str, upload: Path | None = None) -> Json:
        """Load files into a table; give the job's statistics."""
        given = TableName.of({"projectId": project, **(config.get("destinationTable") or {})})
        name, partition = split_partition(given)
        kind = config.get("sourceFormat") or "CSV"
        if kind not in FORMATS:
            raise invalid(f"trilho emulate loads {', '.join(FORMATS)}, not {kind}", "notImplemented")
        declared = schema.read_fields(config.get("schema"))
        exists = self._warehouse.has_table(name)
        how = Disposition.of(config, "WRITE_APPEND")
        known = self._warehouse.table(name)["schema"]["fields"] if exists and how.write != "WRITE_TRUNCATE" else []
        with ExitStack() as stack:
            files = [_suffixed(upload)] if upload else self._files(config.get("sourceUris") or [], stack)
            size = sum(path.stat().st_size for path in files)
            source, rejected = stack.enter_context(self._source(kind, files, declared or known, config))
            with telling("invalid"):
                if partition and exists:
                    rows = write_partition(self._warehouse, name, partition, source, how, declared)
                else:
                    rows = write(self._warehouse, name, source, how, declared)
        return {"inputFiles": str(len(files)), "inputFileBytes": str(size), "outputRows": str(rows),
                "outputBytes": str(self._warehouse.size_of(name)), "badRecords": str(rejected)}  # fmt: skip

    @contextmanager
    def _source(self, kind: str, files: list[Path], fields: list[Field], config: Json) -> Iterator[tuple[str, int]]:
        listed = "[" + ", ".join(literal(str(path)) for path in files) + "]"
        if kind == "PARQUET":
            yield f"SELECT * FROM read_parquet({listed}, union_by_name = true)", 0  # noqa: S608
        elif kind == "CSV":
            yield self._csv(listed, fields, config)
        elif fields:
            rows, rejected = _json_rows(files, fields, config)
            with json_file(rows) as path:
                yield reading(path, fields), rejected
        else:
            yield f"SELECT * FROM read_json({listed}, format = 'newline_delimited')", 0  # noqa: S608

    def _csv(self, listed: str, fields: list[Field], config: Json) -> tuple[str, int]:
        """Read CSV strictly; with maxBadRecords, that many rows may be left out."""
        source = f"SELECT * FROM read_csv({listed}, {_csv_options(fields, config)})"  # noqa: S608
        allowed = int(config.get("maxBadRecords") or 0)
        try:
            self._warehouse.run(f"SELECT count(COLUMNS(*)) FROM ({source})").fetchall()  # noqa: S608
        except duckdb.Error as error:
            if not allowed:
                raise _bad_csv(error) from None
            with telling("invalid"):
                return self._forgiving(source, allowed)
        return source, 0

    def _forgiving(self, source: str, allowed: int) -> tuple[str, int]:
        lenient = source.removesuffix(")") + ", store_rejects = true)"
        self._warehouse.run("DROP TABLE IF EXISTS reject_errors")
        self._warehouse.run("DROP TABLE IF EXISTS reject_scans")
        self._warehouse.run("CREATE OR REPLACE TEMP TABLE trilho_load AS " + lenient)
        rejected = int(self._warehouse.one("SELECT count(DISTINCT line) FROM reject_errors"))
        if rejected > allowed:
            raise invalid(f"Error while reading data, error message: CSV processing encountered too many errors, "
                          f"giving up. Rows: {rejected}; max bad: {allowed}")  # fmt: skip
        return "SELECT * FROM trilho_load", rejected

    def _files(self, uris: list[str], stack: ExitStack) -> list[Path]:
        """Give the files of objects, copied, so that they stay as they are while they are read."""
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if not uris:
            raise invalid("Required parameter is missing: sourceUris", "required")
        found: list[Path] = []
        for uri in uris:
            bucket, pattern = split_uri(uri)
            names = [pattern] if "*" not in pattern else self._matching(bucket, pattern)
            if not names:
                raise ApiError(404, f"Not found: URI {uri}", reason="notFound")
            found += [self._copy(bucket, name, folder / f"{len(found)}-{at}", uri) for at, name in enumerate(names)]
        return found

    def _matching(self, bucket: str, pattern: str) -> list[str]:
        head, _, tail = pattern.partition("*")
        names = [record.name for record in self._objects.list(bucket, head)]
        return [name for name in names if name.endswith(tail) and len(name) >= len(head) + len(tail)]

    def _copy(self, bucket: str, name: str, to: Path, uri: str) -> Path:
        try:
            _, file = self._objects.open(bucket, name)
        except ApiError as error:
            raise ApiError(404, f"Not found: URI {uri}", reason="notFound") if error.code == 404 else error from None
        with file, to.open("wb") as copy:
            copy.writelines(blocks(file))
        return _suffixed(to)

    # Copy and extract

    def copy(self, config: Json, project: str) -> Json:
        """Copy tables into one."""
        sources = config.get("sourceTables") or [config.get("sourceTable") or {}]
        names = [TableName.of({"projectId": project, **one}) for one in sources]
        to = TableName.of({"projectId": project, **(config.get("destinationTable") or {})})
        documents = [self._warehouse.table(name) for name in names]
        source = " UNION ALL BY NAME ".join(f"SELECT * FROM {name.sql}" for name in names)  # noqa: S608
        how, fields = Disposition.of(config, "WRITE_EMPTY"), documents[0]["schema"]["fields"]
        with telling("invalid"):
            if to in names:
                self._warehouse.run(f"CREATE OR REPLACE TEMP TABLE trilho_copy AS {source}")
                source = "SELECT * FROM trilho_copy"
            rows = write(self._warehouse, to, source, how, fields)
        return {"copiedRows": str(rows), "copiedLogicalBytes": str(self._warehouse.size_of(to))}

    def extract(self, config: Json, project: str) -> Json:
        """Write a table to objects, one for each URI."""
        name = TableName.of({"projectId": project, **(config.get("sourceTable") or {})})
        fields = self._warehouse.table(name)["schema"]["fields"]
        kind = config.get("destinationFormat") or "CSV"
        if kind not in FORMATS:
            raise invalid(f"trilho emulate extracts {', '.join(FORMATS)}, not {kind}", "notImplemented")
        uris = config.get("destinationUris") or [config.get("destinationUri") or ""]
        for uri in uris:
            bucket, pattern = split_uri(uri)
            draft = self._extracted(name, fields, kind, config)
            self._objects.put(bucket, pattern.replace("*", "0" * 12), draft, {})
        return {"destinationUriFileCounts": ["1"] * len(uris)}

    def _extracted(self, name: TableName, fields: list[Field], kind: str, config: Json) -> Draft:
        path = self._objects.content.drafts.new()
        compression = COMPRESSIONS.get(str(config.get("compression") or "NONE").upper())
        options = {
            "CSV": f"FORMAT csv, HEADER {config.get('printHeader', True) is not False}, "
                   f"DELIMITER {literal(_delimiter(config))}",
            "NEWLINE_DELIMITED_JSON": "FORMAT json", "PARQUET": "FORMAT parquet",
        }[kind] + (f", COMPRESSION {literal(compression)}" if compression else "")  # fmt: skip
        if kind == "CSV" and any(field["type"] == "RECORD" or field.get("mode") == "REPEATED" for field in fields):
            raise invalid("Operation cannot be performed on a nested schema.")
        with telling("invalid"):
            columns = "*" if kind == "PARQUET" else _as_text(fields)
            self._warehouse.run(f"COPY (SELECT {columns} FROM {name.sql}) TO {literal(str(path))} ({options})")  # noqa: S608
        return self._objects.content.drafts.read(path)


def _as_text(fields: list[Field]) -> str:
    """Select all columns, with BYTES in base64 as in every text that BigQuery writes.

    >>> _as_text([{"name": "id", "type": "INTEGER"}, {"name": "key", "type": "BYTES"}])
    '* REPLACE (base64("key") AS "key")'
    """
    found = [(quoted(field["name"]), field.get("mode")) for field in fields if field["type"] == "BYTES"]
    texts = (
        f"list_transform({name}, lambda one: base64(one)) AS {name}"
        if mode == "REPEATED"
        else f"base64({name}) AS {name}"
        for name, mode in found
    )
    return f"* REPLACE ({', '.join(texts)})" if found else "*"


def _suffixed(path: Path) -> Path:
    """Name a zipped file so that DuckDB unzips it."""
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    return path.rename(path.with_name(f"{path.name}.gz")) if zipped else path


def split_uri(uri: str) -> tuple[str, str]:
    """Give bucket and name of a URI.

    >>> split_uri("gs://data/2024/x-*.csv")
    ('data', '2024/x-*.csv')
    """
    found = re.fullmatch(r"gs://([^/]+)/(.+)", uri)
    if found is None:
        raise invalid(f"Invalid source URI '{uri}': it must be gs://BUCKET/OBJECT")
    return found[1], found[2]


def _csv_options(fields: list[Field], config: Json) -> str:
    options: dict[str, str] = {
        "delim": literal(_delimiter(config)), "auto_detect": "true",
        "skip": str(int(config.get("skipLeadingRows") or 0)),
        "quote": literal('"' if config.get("quote") is None else str(config["quote"])),
        "nullstr": literal(str(config.get("nullMarker") or "")),
        "null_padding": str(bool(config.get("allowJaggedRows"))),
    }  # fmt: skip
    if fields:
        typed = ", ".join(f"{literal(field['name'])}: {literal(_csv_type(field))}" for field in fields)
        options |= {"columns": f"{{{typed}}}", "auto_detect": "false", "header": "false"}
    elif not config.get("autodetect"):
        raise invalid("No schema specified on job or table.")
    else:
        options |= {"header": "true"} if config.get("skipLeadingRows") else {}
        options["skip"] = str(max(0, int(config.get("skipLeadingRows") or 0) - 1))
    return ", ".join(f"{key} = {value}" for key, value in options.items())


def _csv_type(field: Field) -> str:
    if field["type"] == "RECORD" or field.get("mode") == "REPEATED":
        raise invalid(f"CSV has no nested or repeated fields: {field['name']}")
    return column_type(field)


def _delimiter(config: Json) -> str:
    given = str(config.get("fieldDelimiter") or ",")
    return {"tab": "\t", "\\t": "\t"}.get(given, given)


def _bad_csv(error: duckdb.Error) -> ApiError:
    first = told(error, "invalid")
    return ApiError(400, f"Error while reading data, error message: {first.message}", reason="invalid")


def _json_rows(files: Sequence[Path], fields: list[Field], config: Json) -> tuple[list[Json], int]:
    rows: list[Json] = []
    rejected: list[str] = []
    for path in files:
        for number, line in enumerate(_lines(path), 1):
            try:
                rows.append(fit_row(json.loads(line), fields, ignore_unknown=bool(config.get("ignoreUnknownValues"))))
            except Unfit as unfit:
                rejected.append(f"Row {number}: {unfit.why}")
            except ValueError as error:
                rejected.append(f"Row {number}: Parser terminated before end of string: {error}")
    if len(rejected) > int(config.get("maxBadRecords") or 0):
        message = (
            f"Error while reading data, error message: JSON table encountered too many errors, giving up. {rejected[0]}"
        )
        raise invalid(message)
    return rows, len(rejected)


def _lines(path: Path) -> Iterator[str]:
    import gzip

    opener: Any = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        yield from (line for line in file if line.strip())
