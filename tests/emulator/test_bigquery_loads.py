"""BigQuery's rows come in and go out: load jobs, streaming inserts, copies, extracts."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

pytest.importorskip("google.cloud.bigquery")

from google.api_core import exceptions
from google.cloud import bigquery

from trilho.testing.emulator.bigquery import BigQueryService
from trilho.testing.emulator.http import Router, Server
from trilho.testing.emulator.rules import Rules
from trilho.testing.emulator.storage import StorageService


def anonymous() -> Any:
    from google.auth import credentials

    return credentials.AnonymousCredentials()  # type: ignore[no-untyped-call]


SCHEMA = [
    bigquery.SchemaField("id", "INTEGER", "REQUIRED"),
    bigquery.SchemaField("name", "STRING"),
    bigquery.SchemaField("at", "TIMESTAMP"),
]
NESTED = [
    *SCHEMA,
    bigquery.SchemaField("amount", "NUMERIC"),
    bigquery.SchemaField("raw", "BYTES"),
    bigquery.SchemaField("more", "JSON"),
    bigquery.SchemaField("tags", "STRING", "REPEATED"),
    bigquery.SchemaField(
        "who", "RECORD", fields=[bigquery.SchemaField("day", "DATE"), bigquery.SchemaField("x", "FLOAT")]
    ),
]
MOMENT = dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


@dataclass
class Emulated:
    """A BigQuery that runs, and the buckets beside it."""

    client: Any
    root: Path
    rules: Rules

    def put(self, name: str, content: str | bytes) -> str:
        path = self.root / "buckets" / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return f"gs://files/{name}"

    def load(self, uris: Any, table: str = "t", **config: Any) -> Any:
        job = self.client.load_table_from_uri(uris, f"shop.{table}", job_config=bigquery.LoadJobConfig(**config))
        return job.result()

    def rows(self, sql: str) -> list[Any]:
        return [tuple(row) for row in self.client.query(sql).result()]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulated]:
    root, rules = tmp_path_factory.mktemp("bigquery"), Rules()
    storage = StorageService(root, rules, project="p-1", location="southamerica-east1")
    service = BigQueryService(root, rules, storage.objects, project="p-1", location="southamerica-east1")
    server = Server(Router(service.routes, rules))
    server.start()
    client = bigquery.Client("p-1", anonymous(), client_options={"api_endpoint": server.address})
    storage.objects.create_bucket({"name": "files"})
    yield Emulated(client, root, rules)
    client.close()  # type: ignore[no-untyped-call]
    server.stop()
    service.close()
    storage.close()


@pytest.fixture
def emulated(running: Emulated) -> Iterator[Emulated]:
    running.client.create_dataset("shop")
    yield running
    running.rules.deny.clear()
    for dataset in running.client.list_datasets():
        running.client.delete_dataset(dataset.reference, delete_contents=True)


class TestFiles:
    def test_csv_with_a_schema(self, emulated: Emulated) -> None:
        uri = emulated.put("a.csv", 'id,name,at\n1,"x, y",2024-01-02 03:04:05 UTC\n2,,\n')
        job = emulated.load(uri, schema=SCHEMA, skip_leading_rows=1)
        assert (job.output_rows, job.input_files, job.input_file_bytes) == (2, 1, 48)
        assert emulated.rows("SELECT * FROM shop.t ORDER BY id") == [(1, "x, y", MOMENT), (2, None, None)]
        assert emulated.client.get_table("shop.t").schema[0].mode == "REQUIRED"

    def test_csv_whose_schema_is_found(self, emulated: Emulated) -> None:
        uris = [emulated.put(f"part-{n}.csv", f"n;day\n{n};2024-01-0{n}\n") for n in (1, 2)]
        job = emulated.load("gs://files/part-*.csv", autodetect=True, field_delimiter=";", skip_leading_rows=1)
        assert job.output_rows == len(uris)
        assert emulated.rows("SELECT n, day FROM shop.t ORDER BY n") == [
            (1, dt.date(2024, 1, 1)),
            (2, dt.date(2024, 1, 2)),
        ]
        with pytest.raises(exceptions.BadRequest, match="No schema specified on job or table"):
            emulated.load(uris[0], "other")

    def test_a_bad_row_fails_the_load_unless_it_may_be_left_out(self, emulated: Emulated) -> None:
        uri = emulated.put("bad.csv", "1,a,\nx,b,\n3,c,\n")
        with pytest.raises(exceptions.BadRequest, match="Error while reading data"):
            emulated.load(uri, schema=SCHEMA)
        with pytest.raises(exceptions.NotFound):
            emulated.client.get_table("shop.t")
        assert emulated.load(uri, schema=SCHEMA, max_bad_records=1).output_rows == 2
        assert emulated.rows("SELECT id FROM shop.t ORDER BY id") == [(1,), (3,)]

    def test_json_with_every_kind_of_field(self, emulated: Emulated) -> None:
        row = {"id": "7", "name": "é", "at": "2024-01-02T03:04:05Z", "amount": "1.10", "raw": "AP8=",
               "more": '{"a": [1]}',
               "tags": ["x", "y"], "who": {"day": "2024-02-29", "x": "NaN"}}  # fmt: skip
        uri = emulated.put("a.json.gz", gzip.compress("\n".join([json.dumps(row), '{"id": 8}']).encode()))
        assert emulated.load(uri, schema=NESTED, source_format="NEWLINE_DELIMITED_JSON").output_rows == 2
        first, second = (dict(row) for row in emulated.client.list_rows("p-1.shop.t", selected_fields=NESTED))
        who = first.pop("who")
        assert first == {"id": 7, "name": "é", "at": MOMENT, "amount": Decimal("1.1"), "raw": b"\x00\xff",
                         "more": {"a": [1]}, "tags": ["x", "y"]}  # fmt: skip
        assert (who["day"], who["x"] != who["x"]) == (dt.date(2024, 2, 29), True)
        assert (second["tags"], second["who"], second["id"]) == ([], None, 8)
        unknown = emulated.put("b.json", '{"id": 1, "nope": 2}\n')
        with pytest.raises(exceptions.BadRequest, match="no such field: nope"):
            emulated.load(unknown, source_format="NEWLINE_DELIMITED_JSON")
        emulated.load(unknown, source_format="NEWLINE_DELIMITED_JSON", ignore_unknown_values=True)

    def test_parquet(self, emulated: Emulated, tmp_path: Path) -> None:
        rows = "SELECT i::INTEGER AS i, 'x' AS s, TIMESTAMPTZ '2024-01-02 03:04:05+00' AS at, [1, 2] AS l "
        rows += "FROM range(3) t(i)"
        duckdb.connect().execute(f"COPY ({rows}) TO '{tmp_path / 'x.parquet'}' (FORMAT parquet)")
        uri = emulated.put("x.parquet", (tmp_path / "x.parquet").read_bytes())
        emulated.load(uri, source_format="PARQUET")
        kinds = [(field.name, field.field_type, field.mode) for field in emulated.client.get_table("shop.t").schema]
        assert kinds == [("i", "INTEGER", "NULLABLE"), ("s", "STRING", "NULLABLE"), ("at", "TIMESTAMP", "NULLABLE"),
                         ("l", "INTEGER", "REPEATED")]  # fmt: skip
        assert emulated.rows("SELECT SUM(i), MAX(at), ANY_VALUE(l) FROM shop.t") == [(3, MOMENT, [1, 2])]

    def test_dispositions_and_new_fields(self, emulated: Emulated) -> None:
        uri = emulated.put("a.csv", "1,a,\n")
        for write, rows in (("WRITE_APPEND", 1), ("WRITE_APPEND", 2), ("WRITE_TRUNCATE", 1)):
            emulated.load(uri, schema=SCHEMA, write_disposition=write)
            assert emulated.client.get_table("shop.t").num_rows == rows
        with pytest.raises(exceptions.Conflict, match="Already Exists"):
            emulated.load(uri, schema=SCHEMA, write_disposition="WRITE_EMPTY")
        wide = emulated.put("wide.json", '{"id": 2, "extra": "new"}\n')
        schema = [*SCHEMA, bigquery.SchemaField("extra", "STRING")]
        with pytest.raises(exceptions.BadRequest, match=r"Cannot add fields \(field: extra\)"):
            emulated.load(wide, schema=schema, source_format="NEWLINE_DELIMITED_JSON")
        emulated.load(wide, schema=schema, source_format="NEWLINE_DELIMITED_JSON",
                      schema_update_options=["ALLOW_FIELD_ADDITION"])  # fmt: skip
        assert emulated.rows("SELECT id, extra FROM shop.t ORDER BY id") == [(1, None), (2, "new")]

    def test_what_is_absent_or_unknown_is_refused(self, emulated: Emulated) -> None:
        with pytest.raises(exceptions.NotFound, match=r"Not found: URI gs://files/none\.csv"):
            emulated.load("gs://files/none.csv", schema=SCHEMA)
        with pytest.raises(exceptions.MethodNotImplemented, match="not AVRO"):
            emulated.load(emulated.put("x.avro", "x"), source_format="AVRO")
        with pytest.raises(exceptions.NotFound, match="Dataset p-1:none"):
            emulated.client.load_table_from_uri("gs://files/x", "none.t").result()


class TestUploads:
    def test_rows_from_memory(self, emulated: Emulated) -> None:
        config = bigquery.LoadJobConfig(schema=NESTED)
        rows = [{"id": 1, "tags": ["a"], "who": {"x": 1.5}}, {"id": 2, "amount": "3.25"}]
        assert emulated.client.load_table_from_json(rows, "shop.t", job_config=config).result().output_rows == 2
        assert emulated.rows("SELECT id, who.x, amount FROM shop.t ORDER BY id") == [
            (1, 1.5, None),
            (2, None, Decimal("3.25")),
        ]

    @pytest.mark.parametrize("zipped", [False, True])
    def test_a_file(self, emulated: Emulated, zipped: bool) -> None:
        content = "".join(f"{n},name {n},\n" for n in range(1000)).encode()
        content = gzip.compress(content) if zipped else content
        config = bigquery.LoadJobConfig(schema=SCHEMA, source_format="CSV")
        emulated.client.load_table_from_file(io.BytesIO(content), "shop.t", job_config=config).result()
        assert emulated.rows("SELECT COUNT(*), MAX(id) FROM shop.t") == [(1000, 999)]
        assert list((emulated.root / "bigquery" / "drafts").iterdir()) == []


class TestStreaming:
    @pytest.fixture
    def table(self, emulated: Emulated) -> Any:
        return emulated.client.create_table(bigquery.Table("p-1.shop.t", schema=NESTED))

    def test_rows_are_there_at_once(self, emulated: Emulated, table: Any) -> None:
        row = {"id": 1, "name": "a", "at": MOMENT.timestamp(), "raw": b"\x01", "tags": ["x"], "more": '{"k": 1}',
               "who": {"day": "2024-01-01", "x": 2}, "amount": "9.99"}  # fmt: skip
        assert emulated.client.insert_rows(table, [row | {"at": MOMENT}]) == []
        assert emulated.client.insert_rows_json(table, [{"id": 2, "at": MOMENT.timestamp()}]) == []
        assert emulated.rows("SELECT id, name, at, raw, tags, who.day, amount FROM shop.t ORDER BY id") == [
            (1, "a", MOMENT, b"\x01", ["x"], dt.date(2024, 1, 1), Decimal("9.99")),
            (2, None, MOMENT, None, [], None, None),
        ]  # fmt: skip

    def test_a_row_that_comes_again_is_dropped(self, emulated: Emulated, table: Any) -> None:
        for _ in range(3):
            assert emulated.client.insert_rows_json(table, [{"id": 1}, {"id": 2}], row_ids=["one", "two"]) == []
        assert emulated.client.insert_rows_json(table, [{"id": 3}, {"id": 3}], row_ids=[None, None]) == []
        assert emulated.rows("SELECT id FROM shop.t ORDER BY id") == [(1,), (2,), (3,), (3,)]

    def test_errors_are_told_by_row(self, emulated: Emulated, table: Any) -> None:
        rows: list[Any] = [{"id": 1}, {"id": "x"}, {"name": "no id"}, {"id": 4, "nope": 1}, {"id": 5, "tags": "x"}]
        errors = {error["index"]: error["errors"][0] for error in emulated.client.insert_rows_json(table, rows)}
        assert {index: error["reason"] for index, error in errors.items()} == {
            0: "stopped", 1: "invalid", 2: "invalid", 3: "invalid", 4: "invalid",
        }  # fmt: skip
        assert errors[1]["message"] == "Cannot convert value to int64 (bad value): x"
        assert (errors[2]["location"], errors[3]["message"]) == ("id", "no such field: nope.")
        assert emulated.rows("SELECT id FROM shop.t") == []
        kept = emulated.client.insert_rows_json(table, rows, skip_invalid_rows=True, ignore_unknown_values=True)
        assert [error["index"] for error in kept] == [1, 2, 4]
        assert emulated.rows("SELECT id FROM shop.t ORDER BY id") == [(1,), (4,)]

    def test_only_a_table_takes_rows(self, emulated: Emulated) -> None:
        with pytest.raises(exceptions.NotFound, match=r"Not found: Table p-1:shop\.none"):
            emulated.client.insert_rows_json("p-1.shop.none", [{"id": 1}], retry=None)
        emulated.rules.deny.append("bigquery.tables.updateData")
        with pytest.raises(exceptions.Forbidden, match=r"Permission bigquery\.tables\.updateData denied"):
            emulated.client.insert_rows_json("p-1.shop.none", [{"id": 1}], retry=None)


class TestOut:
    def test_bytes_are_extracted_in_base64(self, emulated: Emulated) -> None:
        emulated.client.query("CREATE TABLE shop.keys AS SELECT b'\\xff\\x00' AS one, [b'hi'] AS more").result()
        config: Any = bigquery.ExtractJobConfig(destination_format="NEWLINE_DELIMITED_JSON")  # type: ignore[no-untyped-call]
        emulated.client.extract_table("shop.keys", "gs://files/keys.json", job_config=config).result()
        assert json.loads((emulated.root / "buckets/files/keys.json").read_bytes()) == {"one": "/wA=", "more": ["aGk="]}

    def test_tables_are_copied_and_extracted(self, emulated: Emulated) -> None:
        emulated.load(emulated.put("a.csv", '1,"a, b",\n2,c,2024-01-02 03:04:05 UTC\n'), schema=SCHEMA)
        emulated.client.copy_table("shop.t", "shop.copy").result()
        emulated.client.copy_table(
            ["shop.t", "shop.copy"], "shop.copy", job_config=bigquery.CopyJobConfig(write_disposition="WRITE_TRUNCATE")
        ).result()
        assert emulated.rows("SELECT COUNT(*), COUNT(at) FROM shop.copy") == [(4, 2)]
        with pytest.raises(exceptions.Conflict, match=r"Already Exists: Table p-1:shop\.copy"):
            emulated.client.copy_table("shop.t", "shop.copy").result()
        emulated.client.extract_table("shop.t", "gs://files/out-*.csv").result()
        lines = (emulated.root / "buckets/files/out-000000000000.csv").read_text().splitlines()
        assert lines[:2] == ["id,name,at", '1,"a, b",']
        config = bigquery.ExtractJobConfig(  # type: ignore[no-untyped-call]
            destination_format="NEWLINE_DELIMITED_JSON", compression="GZIP"
        )
        emulated.client.extract_table("shop.t", "gs://files/out.json.gz", job_config=config).result()
        content = gzip.decompress((emulated.root / "buckets/files/out.json.gz").read_bytes())
        assert json.loads(content.splitlines()[0])["name"] == "a, b"


def test_tables_outlive_the_emulator(tmp_path: Path) -> None:
    rules = Rules()
    storage = StorageService(tmp_path, rules, project="p-1", location="l")
    for turn in (1, 2):
        service = BigQueryService(tmp_path, rules, storage.objects, project="p-1", location="l")
        server = Server(Router(service.routes, rules))
        server.start()
        client = bigquery.Client("p-1", anonymous(), client_options={"api_endpoint": server.address})
        client.create_dataset("shop", exists_ok=True)
        client.query(f"CREATE TABLE IF NOT EXISTS shop.t AS SELECT {turn} AS turn").result()
        assert [row.turn for row in client.query("SELECT turn FROM shop.t").result()] == [1]
        assert [found.dataset_id for found in client.list_datasets()] == ["shop"]
        client.close()  # type: ignore[no-untyped-call]
        server.stop()
        service.close()
    storage.close()
