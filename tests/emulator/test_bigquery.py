"""BigQuery, spoken to by its real client: datasets, tables, queries, results."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

pytest.importorskip("google.cloud.bigquery")

from google.api_core import exceptions
from google.cloud import bigquery

from trilho.testing.emulator.bigquery import BigQueryService
from trilho.testing.emulator.http import Router, Server
from trilho.testing.emulator.rules import Failure, Rules
from trilho.testing.emulator.storage import StorageService

UTC = dt.UTC


def anonymous() -> Any:
    from google.auth import credentials

    return credentials.AnonymousCredentials()  # type: ignore[no-untyped-call]


@dataclass
class Emulated:
    """A BigQuery that runs, with the rules before it and the storage beside it."""

    client: Any
    rules: Rules
    storage: StorageService

    def rows(self, sql: str, *parameters: Any, **config: Any) -> list[Any]:
        job = bigquery.QueryJobConfig(query_parameters=list(parameters), **config)
        return [tuple(row) for row in self.client.query(sql, job_config=job).result()]

    def schema(self, sql: str) -> list[tuple[str, str, str]]:
        found = self.client.query(sql).result().schema
        return [(field.name, field.field_type, field.mode) for field in found]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulated]:
    root, rules = tmp_path_factory.mktemp("bigquery"), Rules()
    storage = StorageService(root, rules, project="p-1", location="southamerica-east1")
    service = BigQueryService(root, rules, storage.objects, project="p-1", location="southamerica-east1")
    server = Server(Router(service.routes, rules))
    server.start()
    client = bigquery.Client("p-1", anonymous(), client_options={"api_endpoint": server.address})
    yield Emulated(client, rules, storage)
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


@pytest.fixture
def sales(emulated: Emulated) -> str:
    emulated.rows(
        "CREATE TABLE shop.sales (day DATE NOT NULL, store STRING, amount NUMERIC, units INT64) AS "
        "SELECT * FROM UNNEST([STRUCT(DATE '2024-01-01' AS day, 'a' AS store, NUMERIC '10.50' AS amount, 2 AS units), "
        "(DATE '2024-01-01', 'b', NUMERIC '1', 1), (DATE '2024-01-02', 'a', NUMERIC '5', NULL)])"
    )
    return "p-1.shop.sales"


class TestDatasets:
    def test_they_are_made_listed_changed_and_deleted(self, emulated: Emulated) -> None:
        made = bigquery.Dataset("p-1.ml")
        made.description, made.labels = "models", {"team": "ml"}
        dataset = emulated.client.create_dataset(made)
        assert (dataset.full_dataset_id, dataset.location) == ("p-1:ml", "southamerica-east1")
        dataset.labels = {"team": "data"}
        emulated.client.update_dataset(dataset, ["labels"])
        assert emulated.client.get_dataset("ml").labels == {"team": "data"}
        assert emulated.client.get_dataset("ml").description == "models"
        assert [found.dataset_id for found in emulated.client.list_datasets()] == ["ml", "shop"]
        assert [found.dataset_id for found in emulated.client.list_datasets(filter="labels.team:data")] == ["ml"]
        emulated.client.delete_dataset("ml")
        with pytest.raises(exceptions.NotFound, match="Not found: Dataset p-1:ml"):
            emulated.client.get_dataset("ml")

    def test_mistakes_are_told_as_the_real_one_does(self, emulated: Emulated, sales: str) -> None:
        with pytest.raises(exceptions.Conflict, match="Already Exists: Dataset p-1:shop") as caught:
            emulated.client.create_dataset("shop")
        assert caught.value.errors[0]["reason"] == "duplicate"
        with pytest.raises(exceptions.BadRequest, match="Dataset p-1:shop is still in use"):
            emulated.client.delete_dataset("shop")
        with pytest.raises(exceptions.BadRequest, match="Invalid dataset ID"):
            emulated.client.create_dataset("a-b")
        emulated.client.delete_dataset("shop", delete_contents=True)
        emulated.client.delete_dataset("shop", not_found_ok=True)


class TestTables:
    def test_a_table_keeps_its_schema(self, emulated: Emulated) -> None:
        fields = [
            bigquery.SchemaField("id", "INT64", "REQUIRED", description="the key"),
            bigquery.SchemaField("tags", "STRING", "REPEATED"),
            bigquery.SchemaField("at", "TIMESTAMP"),
            bigquery.SchemaField("price", "BIGNUMERIC"),
            bigquery.SchemaField("who", "RECORD", fields=[bigquery.SchemaField("name", "STRING")]),
        ]
        table = bigquery.Table("p-1.shop.orders", schema=fields)
        table.time_partitioning = bigquery.TimePartitioning(field="at")
        table.clustering_fields = ["id"]
        made = emulated.client.create_table(table)
        seen = emulated.client.get_table("shop.orders")
        assert [(at.name, at.field_type, at.mode) for at in seen.schema] == [
            ("id", "INTEGER", "REQUIRED"), ("tags", "STRING", "REPEATED"), ("at", "TIMESTAMP", "NULLABLE"),
            ("price", "BIGNUMERIC", "NULLABLE"), ("who", "RECORD", "NULLABLE"),
        ]  # fmt: skip
        assert (seen.schema[0].description, seen.time_partitioning.field) == ("the key", "at")
        assert (seen.num_rows, seen.num_bytes, seen.table_type, seen.etag) == (0, 0, "TABLE", made.etag)
        with pytest.raises(exceptions.Conflict, match=r"Already Exists: Table p-1:shop.orders"):
            emulated.client.create_table(table)

    def test_columns_are_added_and_nothing_else_of_a_schema_changes(self, emulated: Emulated, sales: str) -> None:
        table = emulated.client.get_table(sales)
        before = list(table.schema)
        table.schema = [*before, bigquery.SchemaField("note", "STRING")]
        emulated.client.update_table(table, ["schema"])
        assert emulated.rows("SELECT note FROM shop.sales LIMIT 1") == [(None,)]
        for wrong, said in (
            (before[1:], "Field day is missing in new schema"),
            ([*before, bigquery.SchemaField("x", "STRING", "REQUIRED")], "Cannot add required fields"),
            ([bigquery.SchemaField("day", "STRING", "REQUIRED"), *before[1:]], "has changed type from DATE to STRING"),
        ):
            table = emulated.client.get_table(sales)
            table.schema = [*wrong, bigquery.SchemaField("note", "STRING")]
            with pytest.raises(exceptions.BadRequest, match=said):
                emulated.client.update_table(table, ["schema"])

    def test_a_stale_change_is_refused(self, emulated: Emulated, sales: str) -> None:
        stale, table = emulated.client.get_table(sales), emulated.client.get_table(sales)
        table.description = "first"
        emulated.client.update_table(table, ["description"])
        stale.description = "second"
        with pytest.raises(exceptions.PreconditionFailed):
            emulated.client.update_table(stale, ["description"])

    def test_tables_are_listed_and_deleted(self, emulated: Emulated, sales: str) -> None:
        view = bigquery.Table("p-1.shop.by_store")
        view.view_query = "SELECT store, SUM(amount) AS total FROM `p-1.shop.sales` GROUP BY store"
        emulated.client.create_table(view)
        assert [(at.table_id, at.table_type) for at in emulated.client.list_tables("shop")] == [
            ("by_store", "VIEW"), ("sales", "TABLE"),
        ]  # fmt: skip
        assert emulated.rows("SELECT * FROM shop.by_store ORDER BY store") == [("a", Decimal("15.5")), ("b", 1)]
        emulated.client.delete_table("shop.by_store")
        emulated.client.delete_table(sales)
        assert list(emulated.client.list_tables("shop")) == []
        with pytest.raises(exceptions.NotFound, match=r"Not found: Table p-1:shop.sales was not found in location"):
            emulated.client.delete_table(sales)

    def test_rows_of_a_table_come_in_pages(self, emulated: Emulated) -> None:
        emulated.rows(
            "CREATE TABLE shop.numbers AS SELECT n, [n, n + 1] AS two FROM UNNEST(GENERATE_ARRAY(1, 25)) AS n"
        )
        table = emulated.client.get_table("shop.numbers")
        pages = [[row.n for row in page] for page in emulated.client.list_rows(table, page_size=10).pages]
        assert [len(page) for page in pages] == [10, 10, 5]
        assert [row.n for row in emulated.client.list_rows(table, start_index=23)] == [24, 25]
        chosen = emulated.client.list_rows(table, selected_fields=[table.schema[1]], max_results=1)
        assert [dict(row) for row in chosen] == [{"two": [1, 2]}]


class TestQueries:
    def test_every_common_type_comes_back_as_itself(self, emulated: Emulated) -> None:
        (row,) = emulated.client.query(
            "SELECT 1 AS i, 1.5 AS f, NUMERIC '1.25' AS n, BIGNUMERIC '2.000000000001' AS b, 'é' AS s, b'\\x01' AS y, "
            "TRUE AS t, DATE '2024-02-29' AS d, TIME '10:11:12.5' AS c, DATETIME '2024-02-29 10:11:12' AS dt, "
            "TIMESTAMP '2024-02-29 10:11:12.000345+00' AS ts, JSON '{\"a\": 1}' AS j, [1, 2] AS a, "
            "STRUCT(1 AS x, [STRUCT('q' AS z)] AS y) AS r, "
            "CAST(NULL AS STRING) AS nothing, CAST('nan' AS FLOAT64) AS nan"
        ).result()
        assert dict(row) | {"nan": None} == {
            "i": 1, "f": 1.5, "n": Decimal("1.25"), "b": Decimal("2.000000000001"), "s": "é", "y": b"\x01", "t": True,
            "d": dt.date(2024, 2, 29), "c": dt.time(10, 11, 12, 500000), "dt": dt.datetime(2024, 2, 29, 10, 11, 12),
            "ts": dt.datetime(2024, 2, 29, 10, 11, 12, 345, UTC), "j": {"a": 1}, "a": [1, 2],
            "r": {"x": 1, "y": [{"z": "q"}]}, "nothing": None, "nan": None,
        }  # fmt: skip
        assert row.nan != row.nan
        kinds = [kind for _, kind, _ in emulated.schema("SELECT 1, 1.5, NUMERIC '1', 'x', SUM(n) FROM UNNEST([1]) n")]
        assert kinds == ["INTEGER", "FLOAT", "NUMERIC", "STRING", "INTEGER"]

    def test_columns_without_a_name_are_numbered(self, emulated: Emulated) -> None:
        assert [name for name, _, _ in emulated.schema("SELECT 1, 2 AS b, 3")] == ["f0_", "b", "f1_"]

    @pytest.mark.parametrize(
        ("sql", "expected"),
        [
            ("SELECT SAFE_DIVIDE(1, 0), COUNTIF(x > 1), 7 / 2, DIV(7, 2) FROM UNNEST([1, 2, 3]) x", (None, 2, 3.5, 3)),
            ("SELECT FORMAT_DATE('%Y-%m', DATE '2024-02-03'), EXTRACT(DAYOFWEEK FROM DATE '2024-01-07')",
             ("2024-02", 1)),
            ("SELECT DATE_SUB(DATE '2024-03-01', INTERVAL 1 MONTH), DATE_DIFF(DATE '2024-01-05', '2024-01-01', DAY)",
             (dt.date(2024, 2, 1), 4)),
            ("SELECT TIMESTAMP_TRUNC(TIMESTAMP '2024-01-02 03:04:05+00', HOUR)",
             (dt.datetime(2024, 1, 2, 3, tzinfo=UTC),)),
            ("SELECT ARRAY_AGG(x IGNORE NULLS ORDER BY x DESC LIMIT 2) FROM UNNEST([1, NULL, 3, 2]) x", ([3, 2],)),
            ("SELECT STRING_AGG(x, ',' ORDER BY x DESC), ARRAY_LENGTH([1, 2]) FROM UNNEST(['a', 'b']) x", ("b,a", 2)),
            ("SELECT ABS(MOD(FARM_FINGERPRINT('1footrue'), 10)), FORMAT('%s-%d', 'a', 3)", (1, "a-3")),
            ("SELECT JSON_VALUE('{\"a\": \"b\"}', '$.a'), REGEXP_EXTRACT('ab12', r'[0-9]+'), SPLIT('a,b', ',')",
             ("b", "12", ["a", "b"])),
            ("WITH t AS (SELECT 1 AS id, [1, 2] AS v) SELECT id, SUM(x) FROM t, UNNEST(v) AS x GROUP BY id", (1, 3)),
            ("SELECT id, x FROM (SELECT 1 AS id, [7] AS v) AS t, t.v AS x", (1, 7)),
            ("SELECT * EXCEPT (b) FROM (SELECT 1 AS a, 2 AS b) QUALIFY ROW_NUMBER() OVER (ORDER BY a) = 1", (1,)),
            ("SELECT IF(TRUE, 1, 2), IFNULL(NULL, 3), SAFE_CAST('x' AS INT64), CAST('1.5' AS NUMERIC)",
             (1, 3, None, Decimal("1.5"))),
            ("SELECT DATE_TRUNC(d, MONTH), DATE_TRUNC(d, WEEK), DATE_TRUNC(d, ISOWEEK), DATE_TRUNC(t, YEAR) FROM"
             " (SELECT DATE '2024-03-15' AS d, TIMESTAMP '2024-03-15 10:00:00+00' AS t)",
             (dt.date(2024, 3, 1), dt.date(2024, 3, 10), dt.date(2024, 3, 11), dt.datetime(2024, 1, 1, tzinfo=UTC))),
            ("SELECT EXTRACT(ISOWEEK FROM t), EXTRACT(DATE FROM t) FROM (SELECT TIMESTAMP '2024-01-07 10:00:00Z' AS t)",
             (1, dt.date(2024, 1, 7))),
            ("SELECT TIMESTAMP_MILLIS(1500), PARSE_TIMESTAMP('%Y', '2024')",
             (dt.datetime(1970, 1, 1, 0, 0, 1, 500000, UTC), dt.datetime(2024, 1, 1, tzinfo=UTC))),
            ("SELECT STRING_AGG(FORMAT('%d:%s', n, x), ' ' ORDER BY n) FROM UNNEST(['a', 'b']) AS x WITH OFFSET AS n",
             ("0:a 1:b",)),
            ("SELECT id, x, offset FROM (SELECT 1 AS id, [5] AS v), UNNEST(v) AS x WITH OFFSET", (1, 5, 0)),
            ("SELECT IEEE_DIVIDE(1, 0), RANGE_BUCKET(20, [0, 10, 20]), SAFE_ADD(9223372036854775807, 1)",
             (math.inf, 3, None)),
            ("SELECT SAFE.PARSE_DATE('%Y', 'x'), ARRAY_FIRST([7, 8]), ARRAY_LAST([7, 8])", (None, 7, 8)),
            ("CREATE TEMP FUNCTION twice(x INT64) AS (x * 2); SELECT twice(3)", (6,)),
            ("SELECT a.b, ARRAY(SELECT y * 2 FROM UNNEST([1, 2]) y) FROM (SELECT STRUCT(5 AS b) AS a)", (5, [2, 4])),
        ],
    )  # fmt: skip
    def test_googlesql(self, emulated: Emulated, sql: str, expected: tuple[Any, ...]) -> None:
        assert emulated.rows(sql) == [expected]

    def test_nulls_come_first(self, emulated: Emulated) -> None:
        assert emulated.rows("SELECT x FROM UNNEST([3, 1, NULL]) x ORDER BY x") == [(None,), (1,), (3,)]

    def test_parameters(self, emulated: Emulated) -> None:
        named = [
            bigquery.ScalarQueryParameter("n", "INT64", 3),
            bigquery.ScalarQueryParameter("s", "STRING", "it's"),
            bigquery.ScalarQueryParameter("at", "TIMESTAMP", dt.datetime(2024, 1, 1, tzinfo=UTC)),
            bigquery.ScalarQueryParameter("y", "BYTES", b"\x00\xff"),  # type: ignore[arg-type]
            bigquery.ArrayQueryParameter("a", "STRING", ["x", "y"]),
            bigquery.StructQueryParameter("r", bigquery.ScalarQueryParameter("k", "NUMERIC", Decimal("1.5"))),
            bigquery.ScalarQueryParameter("none", "DATE", None),
        ]
        assert emulated.rows("SELECT @n + 1, @s, @at, @y, @a, @r.k, @none", *named) == [
            (4, "it's", dt.datetime(2024, 1, 1, tzinfo=UTC), b"\x00\xff", ["x", "y"], Decimal("1.5"), None)
        ]
        ordered = [bigquery.ScalarQueryParameter(None, "STRING", text) for text in ("a", "b", "c")]
        sql = "WITH t AS (SELECT ? AS x) SELECT x, ?, '?' FROM t WHERE x != ?"
        assert emulated.rows(sql, *ordered) == [("a", "b", "?")]
        with pytest.raises(exceptions.BadRequest, match="Query parameter 'gone' not found"):
            emulated.rows("SELECT @gone")

    def test_results_come_in_pages(self, emulated: Emulated) -> None:
        job = emulated.client.query("SELECT n FROM UNNEST(GENERATE_ARRAY(1, 1000)) n ORDER BY n DESC")
        pages = [[row.n for row in page] for page in job.result(page_size=300).pages]
        assert [len(page) for page in pages] == [300, 300, 300, 100]
        assert pages[3][-1] == 1
        assert job.result().total_rows == 1000
        assert [row.n for row in emulated.client.list_rows(job.destination, max_results=2)] == [1000, 999]

    def test_query_and_wait_is_one_call(self, emulated: Emulated, sales: str) -> None:
        rows = emulated.client.query_and_wait("SELECT store FROM shop.sales ORDER BY store", page_size=2)
        assert ([row.store for row in rows], rows.total_rows) == (["a", "a", "b"], 3)

    def test_a_dry_run_says_what_it_would_read(self, emulated: Emulated, sales: str) -> None:
        def plan(sql: str) -> Any:
            return emulated.client.query(sql, job_config=bigquery.QueryJobConfig(dry_run=True))

        job = plan("SELECT units FROM shop.sales")
        assert (job.total_bytes_processed, job.state, job.schema[0].field_type) == (16, "DONE", "INTEGER")
        assert plan("SELECT store FROM shop.sales").total_bytes_processed == 9
        assert plan("SELECT * FROM shop.sales").total_bytes_processed == 3 * 8 + 9 + 3 * 16 + 16
        assert plan("SELECT COUNT(*) FROM shop.sales").total_bytes_processed == 0
        assert plan("DELETE FROM shop.sales WHERE TRUE").statement_type == "DELETE"
        assert len(emulated.rows("SELECT 1 FROM shop.sales")) == 3
        with pytest.raises(exceptions.BadRequest, match="Unrecognized name: nope"):
            plan("SELECT nope FROM shop.sales")
        with pytest.raises(exceptions.GoogleAPICallError, match="Query exceeded limit for bytes billed: 5"):
            emulated.rows("SELECT * FROM shop.sales", maximum_bytes_billed=5)

    @pytest.mark.parametrize(
        ("sql", "reason", "message"),
        [
            ("SELECT * FROM shop.nothing", "notFound", "Not found: Table p-1:shop.nothing was not found in location"),
            ("SELECT * FROM nowhere.t", "notFound", "Not found: Dataset p-1:nowhere was not found in location"),
            ("SELEC 1", "invalidQuery", "Syntax error"),
            ("SELECT nope FROM shop.sales", "invalidQuery", "Unrecognized name: nope"),
            ("SELECT NOPE(1)", "invalidQuery", "Function not found"),
            ("SELECT 1 / 0", "invalidQuery", "division by zero"),
            ("SELECT a, a FROM (SELECT 1 AS a)", "invalidQuery", "Duplicate column names"),
            ("SELECT * FROM sales", "invalid", 'Table "sales" must be qualified with a dataset'),
            ("DELETE FROM shop.sales", "invalidQuery", "DELETE must have a WHERE clause"),
            ("CREATE TABLE shop.sales (a INT64)", "duplicate", "Already Exists: Table p-1:shop.sales"),
            ("CREATE MODEL shop.m OPTIONS (model_type = 'linear_reg') AS SELECT 1", "invalidQuery", "does not run"),
        ],
    )
    def test_a_job_that_fails_says_why(
        self, emulated: Emulated, sales: str, sql: str, reason: str, message: str
    ) -> None:
        job = emulated.client.query(sql)
        with pytest.raises(exceptions.GoogleAPICallError, match=message):
            job.result(retry=None)
        assert job.error_result["reason"] == reason
        with pytest.raises(exceptions.GoogleAPICallError, match=message):
            emulated.client.query_and_wait(sql, retry=None)

    def test_a_default_dataset(self, emulated: Emulated, sales: str) -> None:
        assert len(emulated.rows("SELECT * FROM sales", default_dataset="p-1.shop")) == 3

    def test_wildcards_and_the_catalog(self, emulated: Emulated, sales: str) -> None:
        for year in (2023, 2024):
            emulated.rows(f"CREATE TABLE shop.events_{year} AS SELECT {year} AS y")
        sql = "SELECT y, _TABLE_SUFFIX FROM `p-1.shop.events_*` WHERE _TABLE_SUFFIX > '2023'"
        assert emulated.rows(sql) == [(2024, "2024")]
        names = emulated.rows("SELECT table_name FROM shop.INFORMATION_SCHEMA.TABLES ORDER BY 1")
        assert names == [("events_2023",), ("events_2024",), ("sales",)]
        columns = emulated.rows(
            "SELECT column_name, data_type FROM `p-1`.shop.INFORMATION_SCHEMA.COLUMNS WHERE table_name = 'sales'"
        )
        assert dict(columns) == {"day": "DATE", "store": "STRING", "amount": "NUMERIC", "units": "INT64"}


class TestChanges:
    def test_dml_counts_its_rows(self, emulated: Emulated, sales: str) -> None:
        def change(sql: str) -> int | None:
            job = emulated.client.query(sql)
            job.result()
            return int(job.num_dml_affected_rows)

        assert change("INSERT INTO shop.sales (day, store) VALUES ('2024-01-03', 'c'), ('2024-01-04', 'c')") == 2
        assert change("UPDATE shop.sales SET amount = 0 WHERE store = 'c'") == 2
        assert change("DELETE shop.sales WHERE store = 'b'") == 1
        merged = change(
            "MERGE shop.sales AS t USING (SELECT DATE '2024-01-03' AS day, 9 AS units UNION ALL SELECT '2024-02-01', 1)"
            " AS s ON t.day = s.day WHEN MATCHED THEN UPDATE SET units = s.units "
            "WHEN NOT MATCHED THEN INSERT (day, units) VALUES (s.day, s.units)"
        )
        assert merged == 2
        assert emulated.rows("SELECT COUNT(*), SUM(units) FROM shop.sales") == [(5, 12)]
        assert change("TRUNCATE TABLE shop.sales") == 5
        with pytest.raises(exceptions.BadRequest, match="Required field day cannot be null"):
            change("INSERT INTO shop.sales (store) VALUES ('x')")

    def test_tables_are_made_and_replaced_by_sql(self, emulated: Emulated, sales: str) -> None:
        sql = "CREATE OR REPLACE TABLE shop.daily PARTITION BY day OPTIONS (description = 'by day') AS SELECT day, COUNT(*) AS n FROM shop.sales GROUP BY day"  # noqa: E501
        job = emulated.client.query(sql)
        job.result()
        assert (job.ddl_operation_performed, job.statement_type) == ("CREATE", "CREATE_TABLE_AS_SELECT")
        table = emulated.client.get_table("shop.daily")
        assert (table.num_rows, table.description, table.time_partitioning.field) == (2, "by day", "day")
        again = emulated.client.query(sql)
        again.result()
        assert again.ddl_operation_performed == "REPLACE"
        emulated.rows("CREATE TABLE IF NOT EXISTS shop.daily (x INT64)")
        emulated.rows("ALTER TABLE shop.daily ADD COLUMN note STRING")
        assert [field.name for field in emulated.client.get_table("shop.daily").schema] == ["day", "n", "note"]
        emulated.rows("CREATE VIEW shop.v AS SELECT n FROM shop.daily")
        assert emulated.client.get_table("shop.v").table_type == "VIEW"
        emulated.rows("DROP VIEW shop.v; DROP TABLE shop.daily; DROP TABLE IF EXISTS shop.daily")
        assert [at.table_id for at in emulated.client.list_tables("shop")] == ["sales"]

    def test_a_query_writes_into_a_table(self, emulated: Emulated, sales: str) -> None:
        def write(disposition: str, sql: str = "SELECT store FROM shop.sales") -> int:
            emulated.rows(sql, destination="p-1.shop.copy", write_disposition=disposition)
            return int(emulated.client.get_table("shop.copy").num_rows)

        assert [write("WRITE_EMPTY"), write("WRITE_APPEND"), write("WRITE_TRUNCATE")] == [3, 6, 3]
        with pytest.raises(exceptions.Conflict, match=r"Already Exists: Table p-1:shop\.copy"):
            write("WRITE_EMPTY")
        with pytest.raises(exceptions.BadRequest, match="Cannot add fields"):
            write("WRITE_APPEND", "SELECT store, units FROM shop.sales")
        with pytest.raises(exceptions.NotFound, match=r"Table p-1:shop\.other"):
            emulated.rows("SELECT 1 AS a", destination="p-1.shop.other", create_disposition="CREATE_NEVER")

    def test_a_script_gives_its_last_result_and_undoes_what_it_did_not_commit(
        self, emulated: Emulated, sales: str
    ) -> None:
        script = (
            "BEGIN TRANSACTION; DELETE FROM shop.sales WHERE TRUE; COMMIT TRANSACTION; SELECT COUNT(*) FROM shop.sales"
        )
        assert emulated.rows(script) == [(0,)]
        emulated.rows("BEGIN TRANSACTION; INSERT INTO shop.sales (day) VALUES ('2024-01-01')")
        assert emulated.rows("SELECT COUNT(*) FROM shop.sales") == [(0,)]


class TestJobs:
    def test_jobs_are_remembered(self, emulated: Emulated) -> None:
        job = emulated.client.query("SELECT 1", job_id="mine", job_config=bigquery.QueryJobConfig(labels={"run": "7"}))
        job.result()
        seen = emulated.client.get_job("mine")
        assert (seen.state, seen.labels, seen.user_email) == (
            "DONE",
            {"run": "7"},
            "emulator@p-1.iam.gserviceaccount.com",
        )
        assert seen.ended >= seen.created
        assert [found.job_id for found in emulated.client.list_jobs(max_results=1)] == ["mine"]
        assert emulated.client.cancel_job("mine").state == "DONE"
        with pytest.raises(exceptions.Conflict, match="Already Exists: Job"):
            emulated.client._connection.api_request(
                method="POST", path="/projects/p-1/jobs",
                data={"jobReference": {"jobId": "mine"}, "configuration": {"query": {"query": "SELECT 1"}}},
            )  # fmt: skip
        emulated.client.delete_job_metadata("mine")
        with pytest.raises(exceptions.NotFound, match="Not found: Job"):
            emulated.client.get_job("mine")

    @pytest.mark.parametrize(
        ("permission", "sql"),
        [
            ("bigquery.jobs.create", "SELECT 1"),
            ("bigquery.tables.getData", "SELECT * FROM shop.sales"),
            ("bigquery.tables.updateData", "DELETE FROM shop.sales WHERE TRUE"),
            ("bigquery.tables.create", "CREATE TABLE shop.x AS SELECT 1 AS a"),
        ],
    )
    def test_a_denied_permission_is_named(self, emulated: Emulated, sales: str, permission: str, sql: str) -> None:
        emulated.rules.deny.append(permission)
        with pytest.raises(exceptions.Forbidden, match=f"Permission {permission} denied") as caught:
            emulated.client.query(sql).result(retry=None)
        assert "accessDenied" in str(caught.value.errors)

    def test_an_injected_failure_passes_after_a_retry(self, emulated: Emulated) -> None:
        emulated.rules.failures.append(Failure("bigquery.jobs.create", "UNAVAILABLE", 1))
        assert emulated.rows("SELECT 1") == [(1,)]
        assert emulated.rules.failures[0].left == 0
