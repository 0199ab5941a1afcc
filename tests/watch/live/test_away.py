"""Profiles pushed by a server's live profile, and read where the watcher is: a bucket, a topic."""

from __future__ import annotations

import json
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.runtime.test_live import REFERENCE, columns

from trilho.errors import Unreachable
from trilho.testing.emulator.http import Router, Server
from trilho.testing.emulator.rules import Rules
from trilho.testing.emulator.storage import StorageService
from trilho.watch.live.away import BucketProfiles, PubSubProfiles
from trilho.watch.live.ledger import Profile
from trilho_runtime.prediction.live import LiveProfile
from trilho_runtime.profile import add
from trilho_runtime.serving.profiles import BucketPush, TopicPush, open_pushes

TOPIC, SUBSCRIPTION = "projects/shop/topics/profiles", "projects/shop/subscriptions/profiles"


class PubSub(ThreadingHTTPServer):
    """One topic with one subscription: delivers again until it is acknowledged, the newest first."""

    daemon_threads = True

    def __init__(self) -> None:
        self.messages: dict[str, dict[str, Any]] = {}
        self.published: list[dict[str, Any]] = []
        self.failing = False
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = f"127.0.0.1:{self.server_port}"

    def ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if path == f"/v1/{TOPIC}:publish":
            for message in body["messages"]:
                number = str(len(self.published))
                self.published.append(message)
                self.messages[number] = {
                    **message,
                    "messageId": number,
                    "publishTime": "2026-01-01T13:00:00.123456789Z",
                }
            return {"messageIds": ["0"] * len(body["messages"])}
        if path == f"/v1/{SUBSCRIPTION}:pull":
            given = list(self.messages.items())[::-1][: body["maxMessages"]]
            return {"receivedMessages": [{"ackId": number, "message": message} for number, message in given]}
        assert path == f"/v1/{SUBSCRIPTION}:acknowledge"
        for number in body["ackIds"]:
            self.messages.pop(number, None)
        return {}


class _Handler(BaseHTTPRequestHandler):
    server: PubSub

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        data = json.dumps(self.server.ask(self.path, body) if not self.server.failing else {}).encode()
        self.send_response(503 if self.server.failing else 200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def pubsub(monkeypatch: pytest.MonkeyPatch) -> Iterator[PubSub]:
    server = PubSub()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", server.address)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    rules = Rules()
    service = StorageService(tmp_path / "gcs", rules, project="p", location="southamerica-east1")
    server = Server(Router(service.routes, rules))
    server.start()
    (tmp_path / "gcs" / "buckets" / "shop").mkdir(parents=True)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.address)
    yield tmp_path / "gcs" / "buckets" / "shop"
    server.stop()
    service.close()


def live(*pushes: Any) -> LiveProfile:
    return LiveProfile(REFERENCE, model="tiny", version=3, pushes=pushes)


def totals(parts: list[Profile]) -> dict[str, list[int]]:
    return {name: counts.tolist() for name, counts in add(*(part.counts for part in parts)).items()}


def test_processes_push_to_a_bucket_and_each_row_is_read_once(bucket: Path) -> None:
    reader = BucketProfiles("gs://shop/live")
    assert reader.read() == []
    served = [live(BucketPush("gs://shop/live")) for _ in range(2)]
    parts: list[Profile] = []
    for seed in range(3):
        for one in served:
            one.add(columns(20, seed), np.zeros(20))
            one.publish()
        parts += reader.read()
    assert sum(part.rows for part in parts) == 120
    whole = add(*({k: np.array(v) for k, v in one.to_json()["counts"].items()} for one in served))
    assert totals(parts) == {name: counts.tolist() for name, counts in whole.items()}
    assert len(list(bucket.rglob("live/tiny/*.json"))) == 2
    again = BucketProfiles("gs://shop/live")
    again.restore(json.loads(json.dumps(reader.state())))
    assert (again.read(), reader.read()) == ([], [])


def test_processes_push_to_a_topic_whose_messages_come_twice_and_in_no_order(pubsub: PubSub) -> None:
    served, reader = [live(TopicPush(TOPIC)) for _ in range(2)], PubSubProfiles(SUBSCRIPTION)
    parts: list[Profile] = []
    for seed in range(3):
        for one in served:
            one.add(columns(20, seed), np.zeros(20))
            one.publish()
        parts += reader.read()
    assert sum(part.rows for part in parts) == 120
    assert len(pubsub.messages) == 6
    reader.commit()
    assert (pubsub.messages, reader.read()) == ({}, [])
    first = pubsub.published[0]
    assert first["orderingKey"] == first["attributes"]["name"] == pubsub.published[2]["orderingKey"]
    assert first["attributes"].items() >= {"kind": "trilho.profile", "schema": "1", "model": "tiny"}.items()
    assert json.loads(b64decode(first["data"]))["rows"] == 20


def test_what_was_not_acknowledged_counts_once_after_a_restart(pubsub: PubSub) -> None:
    one, reader = live(TopicPush(TOPIC)), PubSubProfiles(SUBSCRIPTION)
    one.add(columns(20), np.zeros(20))
    one.publish()
    assert sum(part.rows for part in reader.read()) == 20
    again = PubSubProfiles(SUBSCRIPTION)
    again.restore(json.loads(json.dumps(reader.state())))
    assert again.read() == []
    again.commit()
    assert pubsub.messages == {}


def test_a_message_that_is_no_profile_is_passed_over(pubsub: PubSub) -> None:
    body = {"messages": [{"data": b64encode(b"{").decode(), "attributes": {"name": "a"}}, {"data": ""}]}
    pubsub.ask(f"/v1/{TOPIC}:publish", body)
    reader = PubSubProfiles(SUBSCRIPTION)
    assert (reader.read(), reader.broken) == ([], 8)  # it was pulled four times
    reader.commit()
    assert pubsub.messages == {}


def test_a_push_that_fails_is_made_up_for_and_said_once(pubsub: PubSub, capsys: pytest.CaptureFixture[str]) -> None:
    pubsub.failing = True
    one = live(TopicPush(TOPIC))
    for seed in range(2):
        one.add(columns(20, seed), np.zeros(20))
        one.publish()
    assert capsys.readouterr().err.count("503: {}: the live profile is not pushed") == 1
    with pytest.raises(Unreachable, match="answered 503"):
        PubSubProfiles(SUBSCRIPTION).read()
    pubsub.failing = False
    one.publish()
    assert [part.rows for part in PubSubProfiles(SUBSCRIPTION).read()] == [40]


def test_a_push_that_raises_whatever_it_likes_hurts_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(files: Any) -> None:
        raise RuntimeError("a bug")

    pushed: list[Any] = []
    one = LiveProfile(REFERENCE, model="tiny", version=3, folder=tmp_path, pushes=[broken, pushed.append])
    one.add(columns(20), np.zeros(20))
    one.publish()
    assert (len(list(tmp_path.iterdir())), len(pushed), one.rows) == (1, 1, 20)
    assert "RuntimeError: a bug: the live profile is not pushed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("profiles", "topic", "said"),
    [
        ("s3://a/b", None, "'s3://a/b' is no place for profiles; wanted a folder or gs://BUCKET/PATH"),
        (None, "served", "the profile topic is 'served'; wanted projects/PROJECT/topics/NAME"),
    ],
)
def test_what_is_no_place_is_refused(profiles: str | None, topic: str | None, said: str) -> None:
    with pytest.raises(ValueError, match="wanted") as caught:
        open_pushes(profiles, topic)
    assert str(caught.value) == said


def test_a_folder_and_a_topic_may_be_had_together(tmp_path: Path) -> None:
    folder, pushes = open_pushes(str(tmp_path), TOPIC)
    assert (folder, [type(push) for push in pushes]) == (tmp_path, [TopicPush])
    assert open_pushes(None, None) == (None, [])
    assert open_pushes("gs://shop/x", None)[0] is None
