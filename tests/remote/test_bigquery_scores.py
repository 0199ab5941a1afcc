"""Tables of scores in BigQuery, by the real client: replaced whole, served in one step, errors in two lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from datetime import date as Date  # noqa: N812
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("google.cloud.bigquery")

from tests.serve import test_batch as batches

from trilho.backends.gcp.bigquery import BigQuery, TableName
from trilho.backends.gcp.cloud import Cloud
from trilho.backends.gcp.scores import BigQueryScores
from trilho.backends.gcp.tables import BigQueryTables
from trilho.core.retry import Patience
from trilho.core.warehouse import Span, Standing
from trilho.errors import ConfigError, TrilhoError, Unreachable, UsageError
from trilho.serve.batch.run import score
from trilho.serve.batch.scorer import Scorers
from trilho.serve.batch.warehouse import WarehouseTable
from trilho.testing.emulator.bigquery import BigQueryService
from trilho.testing.emulator.http import Router, Server
from trilho.testing.emulator.rules import Rules
from trilho.testing.emulator.storage import StorageService

tiny, scorers = batches.tiny, batches.scorers
NAME = TableName("shop-1", "crm", "scores")
DAY = batches.DAY


@dataclass
class World:
    """A BigQuery that runs, and how it is reached."""

    bigquery: BigQuery
    rules: Rules
    folder: Path

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.bigquery.rows("asking", sql)

    def table(self, owner: str = "me", folder: str = "scores") -> WarehouseTable:
        return WarehouseTable(self.folder / folder, "tiny", BigQueryScores(self.bigquery, NAME), owner)

    def served(self) -> dict[str, tuple[int, float]]:
        found = self.rows(f"SELECT id, _version, _prediction FROM {NAME.sql}")
        assert len({row[0] for row in found}) == len(found)
        return {row[0]: row[1:] for row in found}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[BigQuery, Rules]]:
    from google.auth.credentials import AnonymousCredentials

    root, rules = tmp_path_factory.mktemp("warehouse"), Rules()
    storage = StorageService(root, rules, project="shop-1", location="southamerica-east1")
    service = BigQueryService(root, rules, storage.objects, project="shop-1", location="southamerica-east1")
    server = Server(Router([*service.routes, *storage.routes], rules))
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BIGQUERY_EMULATOR_HOST", server.address)
        patch.setenv("STORAGE_EMULATOR_HOST", server.address)
        cloud = Cloud(project="shop-1", region="southamerica-east1", bucket="exchange", patience=Patience(seconds=0.1))
        cloud.__dict__["credentials"] = AnonymousCredentials()  # type: ignore[no-untyped-call]
        storage.objects.create_bucket({"name": "exchange"})
        yield BigQuery(cloud), rules
    server.stop()
    service.close()
    storage.close()


@pytest.fixture
def world(running: tuple[BigQuery, Rules], tmp_path: Path) -> Iterator[World]:
    bigquery, rules = running
    bigquery.client.create_dataset("crm")
    yield World(bigquery, rules, tmp_path)
    rules.deny.clear()
    bigquery.client.delete_dataset("crm", delete_contents=True)


def expected(n: int, version: int = 1, times: float = 2.0) -> dict[str, tuple[int, Any]]:
    return {id_: (version, value) for id_, value in batches.expected(n, times)}


def test_a_date_is_scored_served_and_replaced(world: World, tiny: Path, scorers: Scorers, tmp_path: Path) -> None:
    table, file = world.table().open(), tmp_path / "in.parquet"
    asked = batches.batch(tiny, scorers, batches.rows(file), part_rows=20)
    first = score(table, asked)
    assert world.served() == expected(50)
    assert score(table, asked).unchanged == [1]
    score(table, replace(asked, again=True))
    assert world.served() == expected(50)
    batches.rows(file, 20)
    score(table, asked)
    assert world.served() == expected(20)
    table.close()
    assert world.table(folder="elsewhere").open().dates[str(DAY)].served == {1: 100}
    fields = world.bigquery.client.get_table(str(NAME.beside("v1")))
    assert fields.time_partitioning.field == "_date"
    kinds = {one.name: one.field_type for one in fields.schema}
    assert (kinds["_date"], kinds["at"], kinds["flag"], kinds["count"]) == ("DATE", "TIMESTAMP", "BOOLEAN", "INTEGER")
    assert first.scored[1].rows == 50


def test_a_cohort_is_served_and_a_rollback_moves_no_rows(
    world: World, tiny: Path, scorers: Scorers, tmp_path: Path
) -> None:
    table = world.table().open()
    asked = batches.batch(tiny, scorers, batches.rows(tmp_path / "in.parquet", 200), models=batches.both(tiny))
    score(table, replace(asked, shares={1: 80, 2: 20}))
    one, two, found = expected(200), expected(200, 2, 3.0), world.served()
    cohort = {id_ for id_, (version, _) in found.items() if version == 2}
    assert 15 < len(cohort) < 65
    assert found == {id_: (two if id_ in cohort else one)[id_] for id_ in one}
    modified = [world.bigquery.client.get_table(str(NAME.beside(f"v{n}"))).modified for n in (1, 2)]
    table.serve({str(DAY): {1: 100}})
    assert world.served() == one
    assert [world.bigquery.client.get_table(str(NAME.beside(f"v{n}"))).modified for n in (1, 2)] == modified


def test_a_version_in_the_shadow_is_a_second_table(world: World, tiny: Path, scorers: Scorers, tmp_path: Path) -> None:
    table = world.table().open()
    score(table, batches.batch(tiny, scorers, batches.rows(tmp_path / "in.parquet"), models=batches.both(tiny)))
    assert world.served() == expected(50)
    pairs = f"SELECT count(*) FROM {NAME.beside('v1').sql} a JOIN {NAME.beside('v2').sql} b USING (_id)"
    assert world.rows(pairs) == [(50,)]


def test_what_was_cut_off_before_it_was_served_is_not_scored_again(
    world: World, tiny: Path, scorers: Scorers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = batches.batch(tiny, scorers, batches.rows(tmp_path / "in.parquet"), part_rows=20)

    def cut(*given: object) -> None:
        raise KeyboardInterrupt

    table = world.table().open()
    with monkeypatch.context() as patch:
        patch.setattr(BigQueryScores, "serve", cut)
        with pytest.raises(KeyboardInterrupt):
            score(table, asked)
    table._lease.release()  # as a kill does: the lease in BigQuery stays
    again = world.table().open()
    assert again.dates == {}
    assert score(again, asked).resumed == 3
    assert world.served() == expected(50)


def test_a_new_column_is_added_for_all_dates(world: World, tiny: Path, scorers: Scorers, tmp_path: Path) -> None:
    table = world.table().open()
    score(table, batches.batch(tiny, scorers, batches.rows(tmp_path / "in.parquet")))
    query = batches.ROWS.replace("AS level", "AS level, 'new' AS \"a segment\"")
    score(table, batches.batch(tiny, scorers, batches.rows(tmp_path / "b.parquet", 5, query), date=Date(2024, 3, 2)))
    found = world.rows(f"SELECT `a segment`, count(*) FROM {NAME.sql} GROUP BY 1 ORDER BY 1")
    assert sorted(found, key=str) == [("new", 5), (None, 50)]


def test_one_writes_at_a_time(world: World) -> None:
    first, second = world.table("me").open(), world.table("you", "other")
    with pytest.raises(Unreachable, match=r"shop-1\.crm\.scores is being written by another process"):
        second.open()
    first.close()
    second.open()
    late = BigQueryScores(world.bigquery, NAME)
    late._owner, late._kept = "me", "Scores of tiny, kept by trilho"
    with pytest.raises(Unreachable, match="another process"):
        late._merge([Standing(date="2024-03-01", version=1, low=0.0, high=100.0)])


def test_a_table_of_somebody_else_is_left_alone(world: World) -> None:
    world.bigquery.query("making", f"CREATE TABLE {NAME.sql} AS SELECT 1 AS x")
    with pytest.raises(ConfigError, match=r"--to shop-1\.crm\.scores is there already: a table"):
        world.table().open()


@pytest.mark.parametrize("bucket", [None, "gs://exchange/trilho/tiny"])
def test_a_table_is_read_as_it_is(world: World, tmp_path: Path, bucket: str | None) -> None:
    world.bigquery.query(
        "making",
        "CREATE TABLE crm.people AS SELECT 1 AS n, 0.1 AS x, 'é\"\\n' AS s, TRUE AS b, DATE '2024-03-01' AS d, "
        "TIMESTAMP '2024-03-01 02:59:59.5+00' AS at, CAST(NULL AS STRING) AS nothing "
        "UNION ALL SELECT 2, NULL, 'b', NULL, NULL, TIMESTAMP '2024-03-01 03:00:00+00', NULL",
    )
    said: list[str] = []
    tables = BigQueryTables(world.bigquery, bucket, said.append)
    name = TableName("shop-1", "crm", "people")
    whole = tables.fetch(name, tmp_path / "whole")
    listed = ", ".join(f"'{file}'" for file in whole)
    found = batches.told(f"SELECT n, x, s, b, CAST(d AS VARCHAR), CAST(epoch(\"at\") AS DOUBLE), nothing "
                         f"FROM read_parquet([{listed}]) ORDER BY n")  # fmt: skip
    moment = datetime(2024, 3, 1, 3, tzinfo=UTC).timestamp()
    assert found == [
        (1, 0.1, 'é"\n', True, "2024-03-01", moment - 0.5, None),
        (2, None, "b", None, None, moment, None),
    ]
    assert said[0].startswith("Reads ")
    assert said[0].endswith(" of shop-1.crm.people.")
    span = Span(first=DAY, last=DAY, start=datetime(2024, 3, 1, 3), end=datetime(2024, 3, 2, 3))
    some = tables.fetch(name, tmp_path / "some", "at", span)
    assert batches.told(f"SELECT n FROM '{some[0]}'") == [(2,)]
    some = tables.fetch(name, tmp_path / "some", "d", span)
    assert batches.told(f"SELECT n FROM '{some[0]}'") == [(1,)]
    with pytest.raises(UsageError, match="has no column moment and no partitions by time"):
        tables.fetch(name, tmp_path / "some", "moment", span)
    left = list(world.bigquery.cloud.storage.list_blobs("exchange"))
    assert left == []


def test_nothing_is_read_of_a_table_without_rows(world: World, tmp_path: Path) -> None:
    world.bigquery.query("making", "CREATE TABLE crm.none (n INT64, s STRING)")
    files = BigQueryTables(world.bigquery).fetch(TableName("shop-1", "crm", "none"), tmp_path / "none")
    assert batches.told(f"SELECT count(*) FROM '{files[0]}'") == [(0,)]


def test_what_is_not_there_is_named(world: World, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--from shop-1\.crm\.no: there is no such table"):
        BigQueryTables(world.bigquery).fetch(TableName("shop-1", "crm", "no"), tmp_path / "to")
    with pytest.raises(UsageError, match="Not found: Dataset shop-1:nowhere") as told:
        BigQueryScores(world.bigquery, TableName("shop-1", "nowhere", "scores")).take("tiny", "me")
    assert told.value.hint == ("bq mk --location=southamerica-east1 --dataset shop-1:nowhere, or correct the name")


@pytest.mark.parametrize("address", ["bigquery://x", "bigquery://a.b.c.d", "bigquery://shop-1.crm.t?x=1"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="is no table"):
        TableName.parse(address)


def test_a_permission_that_is_missing_is_named_with_its_role(world: World) -> None:
    world.rules.deny.append("bigquery.tables.get")
    with pytest.raises(TrilhoError, match=r"bigquery\.tables\.get") as told:
        world.table().open()
    assert "roles/bigquery." in str(told.value.hint)


def test_a_dead_network_is_unreachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from google.auth.credentials import AnonymousCredentials

    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "http://127.0.0.1:9")
    cloud = Cloud(project="shop-1", region="us", bucket="", patience=Patience(seconds=0.1))
    cloud.__dict__["credentials"] = AnonymousCredentials()  # type: ignore[no-untyped-call]
    with pytest.raises(Unreachable) as told:
        WarehouseTable(tmp_path, "tiny", BigQueryScores(BigQuery(cloud), NAME), "me").open()
    assert told.value.exit_code == 5
