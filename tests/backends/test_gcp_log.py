"""The log in BigQuery, by Google's real clients: what Vertex AI wrote and what a server published are read alike."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("google.cloud.bigquery")

from trilho.backends.gcp.cloud import Cloud
from trilho.backends.gcp.log import GcpPredictionLog
from trilho.errors import ConfigError
from trilho.serve import vertex_log
from trilho.serve.segments import LocalPredictionLog
from trilho.testing.emulator.bigquery import BigQueryService
from trilho.testing.emulator.http import Router, Server
from trilho.testing.emulator.pubsub import PubSub, find_jar
from trilho.testing.emulator.rules import Rules
from trilho.testing.emulator.storage import StorageService
from trilho_runtime.prediction.publish import Publisher, request_message

START = datetime(2024, 5, 1, tzinfo=UTC)
EVER = (datetime(1900, 1, 1, tzinfo=UTC), datetime(2999, 1, 1, tzinfo=UTC))
TABLE = "shop.served.requests"


class Log:
    """A log in an emulated BigQuery, and what was taken from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.taken: list[list[dict[str, Any]]] = []

    def open(self, take: Callable[[Sequence[Any]], None] | None = None, **more: Any) -> GcpPredictionLog:
        cloud = Cloud(project="shop", region="southamerica-east1", bucket="b")
        near = LocalPredictionLog(self.folder, "time", "cpf")
        return GcpPredictionLog(cloud, TABLE, near=near, take=take or self.take, folder=self.folder, **more)

    def take(self, rows: Sequence[Any]) -> None:
        self.taken.append([dict(row) for row in rows])
        vertex_log.append(self.folder, vertex_log.read(rows, versions={"900": 2}))


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    from google.auth import credentials

    root, rules = tmp_path / "emulator", Rules()
    storage = StorageService(root, rules, project="shop", location="southamerica-east1")
    service = BigQueryService(root, rules, storage.objects, project="shop", location="southamerica-east1")
    server = Server(Router(service.routes, rules))
    server.start()
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", server.address)
    monkeypatch.setattr(Cloud, "credentials", credentials.AnonymousCredentials())  # type: ignore[no-untyped-call]
    found = Log(tmp_path / "log")
    found.folder.mkdir()
    opened = found.open()
    opened.client.create_dataset("served")
    opened.make_table(timedelta(days=90))
    yield found
    server.stop()
    service.close()
    storage.close()


def requested(n: int, minutes: float, *, rows: int = 1, endpoint: str = "77") -> dict[str, Any]:
    """A request as Vertex AI logs it."""
    moment = START + timedelta(minutes=minutes)
    instances = [{"time": moment.replace(tzinfo=None).isoformat(), "cpf": f"p{n}", "x": n + k} for k in range(rows)]
    return {
        "endpoint": endpoint, "deployed_model_id": "900", "logging_time": moment.isoformat(), "request_id": str(n),
        "request_payload": [json.dumps(one) for one in instances],
        "response_payload": [str(n / 2) for _ in instances],
    }  # fmt: skip


def insert(opened: GcpPredictionLog, *rows: dict[str, Any]) -> None:
    assert opened.client.insert_rows_json(opened.table, list(rows)) == []


def test_the_table_has_vertex_ais_columns_and_keeps_days(log: Log) -> None:
    opened = log.open()
    table = opened.client.get_table(TABLE)
    assert [(field.name, field.field_type, field.mode) for field in table.schema] == [
        ("endpoint", "STRING", "NULLABLE"),
        ("deployed_model_id", "STRING", "NULLABLE"),
        ("logging_time", "TIMESTAMP", "NULLABLE"),
        ("request_id", "NUMERIC", "NULLABLE"),
        ("request_payload", "STRING", "REPEATED"),
        ("response_payload", "STRING", "REPEATED"),
    ]
    assert (table.time_partitioning.field, table.time_partitioning.expiration_ms) == ("logging_time", 90 * 86400 * 1000)
    opened.make_table()  # again


def test_what_vertex_logged_is_read_as_what_we_served(log: Log) -> None:
    opened = log.open()
    insert(opened, requested(1, 0, rows=2), requested(2, 5))
    assert opened.seal() == 3
    rows = opened.rows(*EVER)
    assert rows["_id"].tolist() == ["1.0", "1.1", "2.0"]
    assert rows["x"].tolist() == [1, 2, 2]
    assert rows["_prediction"].tolist() == [0.5, 0.5, 1.0]
    assert rows["_version"].tolist() == [2, 2, 2]
    assert opened.extent() == (START, START + timedelta(minutes=5))
    assert opened.newest() == 3
    (log.folder / "labels").mkdir()
    (log.folder / "labels" / "1-1.jsonl").write_text(
        '{"v": 1, "key": {"cpf": "p2"}, "y": 9.0, "t": "2024-05-02T00:00:00Z"}\n'
    )
    opened.seal()
    assert (opened.labels().served, opened.labels().labelled) == (3, 1)
    assert opened.labelled(0).value.tolist() == [9.0]
    assert opened.late(1, EVER[1])["_id"].tolist() == ["1.1", "2.0"]


def test_each_request_is_brought_once_also_one_that_lands_late(log: Log) -> None:
    opened = log.open()
    insert(opened, requested(1, 0), requested(2, 20), requested(2, 20))
    assert opened.seal() == 2
    assert opened.seal() == 0
    insert(opened, requested(3, 10), requested(4, 21))
    again = log.open()  # another process
    assert again.seal() == 2
    assert [[int(row["request_id"]) for row in page] for page in log.taken] == [[1, 2], [3, 4]]
    assert again.labels().served == 4


def test_a_crash_before_the_rows_are_remembered_brings_them_again_and_counts_them_once(log: Log) -> None:
    def crash(rows: Sequence[Any]) -> None:
        log.take(rows)
        raise KeyboardInterrupt

    opened = log.open(crash)
    insert(opened, requested(1, 0))
    with pytest.raises(KeyboardInterrupt):
        opened.seal()
    opened = log.open()
    opened.seal()
    assert len(log.taken) == 2
    assert opened.labels().served == 1


def test_pages_are_taken_one_after_the_other(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trilho.backends.gcp.log.PAGE_ROWS", 3)
    opened = log.open()
    insert(opened, *(requested(n, n) for n in range(8)))
    assert opened.seal() == 8
    assert [len(page) for page in log.taken] == [3, 3, 2]


def test_one_endpoint_of_a_shared_table_is_read(log: Log) -> None:
    opened = log.open(endpoint="78")
    insert(opened, requested(1, 0), requested(2, 0, endpoint="78"))
    assert opened.seal() == 1
    assert opened.rows(*EVER)["_id"].tolist() == ["2.0"]


@pytest.mark.parametrize("table", ["served.requests", "p.d.t`", "p..t"])
def test_the_table_is_named_in_full(log: Log, table: str) -> None:
    with pytest.raises(ConfigError, match=r"PROJECT\.DATASET\.TABLE is wanted"):
        GcpPredictionLog(log.open().cloud, table, near=log.open(), take=log.take, folder=log.folder)


@pytest.fixture
def pubsub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PubSub]:
    jar = find_jar()
    if jar is None or shutil.which("java") is None:
        pytest.skip("Google's Pub/Sub emulator is not installed: gcloud components install pubsub-emulator")
    child = PubSub(jar, tmp_path / "pubsub")
    child.start()
    child.wait()
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", child.address)
    yield child
    child.stop()


def test_what_a_server_published_to_googles_emulator_lands_in_the_log(log: Log, pubsub: PubSub) -> None:
    """The emulator writes no BigQuery table: here the messages are carried there as the subscription would."""
    from google.cloud import pubsub_v1  # type: ignore[attr-defined]

    topic, subscription = "projects/shop/topics/served", "projects/shop/subscriptions/bigquery"
    pubsub_v1.PublisherClient().create_topic(name=topic)
    subscriber = pubsub_v1.SubscriberClient()
    subscriber.create_subscription(name=subscription, topic=topic)
    entries = [{"id": "ff.0", "score": 0.7, "version": 3, "decision": "offer", "decision_version": "1"}]
    rows = [{"time": "2024-05-01T00:00:00", "cpf": "p1", "x": 1}]

    async def serve() -> list[bool]:
        publisher = Publisher(topic, wait_seconds=20)
        messages = [request_message("bike", 3, identity, rows, entries) for identity in ("ff", "fe")]
        answers = await asyncio.gather(*map(publisher.publish, messages))
        publisher.close()
        return list(answers)

    assert asyncio.run(serve()) == [True, True]
    received: list[dict[str, Any]] = []
    for _ in range(20):
        pulled = subscriber.pull(subscription=subscription, max_messages=10, timeout=20).received_messages
        received += [json.loads(one.message.data) for one in pulled]
        if len(received) >= 2:
            break
    subscriber.close()
    opened = log.open()
    insert(opened, *received)
    assert opened.seal() == 2
    found = opened.rows(*EVER)
    assert found["_id"].tolist() == ["ff.0"]  # the second was the same prediction
    assert (found["_decision"].tolist(), found["_version"].tolist(), found["x"].tolist()) == (["offer"], [3], [1])
