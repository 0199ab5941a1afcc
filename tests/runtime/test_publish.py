"""An acknowledged publish before the answer: together, in time, or shed and counted."""

from __future__ import annotations

import asyncio
import json
import threading
from base64 import b64decode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from trilho_runtime.prediction.publish import MetadataToken, Publisher, request_message, request_number

TOPIC = "projects/shop/topics/served"


class Topic(ThreadingHTTPServer):
    """Pub/Sub's publish and the metadata server's token, on loopback."""

    daemon_threads = True

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[bytes], str | None]] = []
        self.status, self.tokens = 200, 0
        self.held = threading.Event()
        self.held.set()
        super().__init__(("127.0.0.1", 0), _Handler)
        self.address = f"127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Topic

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.held.wait(10)
        messages = [b64decode(one["data"]) for one in body["messages"]]
        self.server.calls.append((self.path, messages, self.headers.get("authorization")))
        self._answer({"messageIds": [str(k) for k in range(len(messages))]})

    def do_GET(self) -> None:
        self.server.tokens += 1
        assert self.headers["metadata-flavor"] == "Google"
        self._answer({"access_token": f"t{self.server.tokens}", "expires_in": 3600, "token_type": "Bearer"})

    def _answer(self, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(self.server.status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> Iterator[Topic]:
    server = Topic()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", server.address)
    yield server
    server.held.set()
    server.shutdown()
    server.server_close()


async def publish(publisher: Publisher, *messages: bytes) -> list[bool]:
    return list(await asyncio.gather(*(publisher.publish(message) for message in messages)))


def test_a_message_is_acknowledged_before_it_counts(topic: Topic) -> None:
    publisher = Publisher(TOPIC)
    assert asyncio.run(publish(publisher, b"one")) == [True]
    assert topic.calls == [(f"/v1/{TOPIC}:publish", [b"one"], None)]
    assert (publisher.published, publisher.shed) == (1, 0)
    publisher.close()


def test_the_requests_of_one_turn_go_together(topic: Topic) -> None:
    publisher = Publisher(TOPIC)
    messages = [b"%d" % n for n in range(50)]
    assert asyncio.run(publish(publisher, *messages)) == [True] * 50
    assert [call[1] for call in topic.calls] == [messages]
    publisher.close()


def test_a_connection_that_was_closed_meanwhile_is_opened_again(topic: Topic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trilho_runtime.prediction.publish.AT_ONCE", 1)  # one thread, one connection
    publisher = Publisher(TOPIC)

    async def twice() -> list[list[bool]]:
        first = await publish(publisher, b"one")
        publisher._pool.submit(lambda: publisher._connections.one.sock.shutdown(2)).result(5)
        return [first, await publish(publisher, b"two")]

    assert asyncio.run(twice()) == [[True], [True]]
    publisher.close()


def test_a_topic_that_does_not_answer_is_not_waited_for_again(topic: Topic) -> None:
    topic.held.clear()
    publisher = Publisher(TOPIC, wait_seconds=0.2, rest_seconds=60)

    async def look() -> list[bool]:
        return [*await publish(publisher, b"one", b"two"), *await publish(publisher, b"three")]

    assert asyncio.run(look()) == [False, False, False]
    assert (publisher.published, publisher.shed) == (0, 3)
    assert publisher.why
    publisher.close()


def test_it_is_tried_again_after_a_rest(topic: Topic) -> None:
    topic.status = 503
    publisher = Publisher(TOPIC, rest_seconds=0.0)

    async def look() -> list[bool]:
        first = await publish(publisher, b"one")
        topic.status = 200
        return [*first, *await publish(publisher, b"two")]

    assert asyncio.run(look()) == [False, True]
    assert (publisher.published, publisher.shed) == (1, 1)
    assert publisher.why.startswith("503")
    publisher.close()


def test_an_address_where_nobody_is_costs_no_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "127.0.0.1:1")
    publisher = Publisher(TOPIC)
    assert asyncio.run(publish(publisher, b"one")) == [False]
    assert (publisher.shed, "refused" in publisher.why) == (1, True)
    publisher.close()


def test_a_message_that_no_topic_takes_harms_no_other(topic: Topic) -> None:
    publisher = Publisher(TOPIC, rest_seconds=60)
    assert asyncio.run(publish(publisher, b"x" * 8_000_000, b"one")) == [False, True]
    topic.status = 400
    assert asyncio.run(publish(publisher, b"bad")) == [False]
    topic.status = 200
    assert asyncio.run(publish(publisher, b"two")) == [True]
    publisher.close()


def test_the_token_is_the_instances_and_kept_while_it_is_good(topic: Topic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GCE_METADATA_HOST", topic.address)
    publisher = Publisher(TOPIC, token=MetadataToken())

    async def thrice() -> None:
        for _ in range(3):
            assert await publish(publisher, b"one") == [True]

    asyncio.run(thrice())
    assert [call[2] for call in topic.calls] == ["Bearer t1"] * 3
    assert topic.tokens == 1
    publisher.close()


@pytest.mark.parametrize("topic_name", ["served", "projects/p/subscriptions/s", "projects/p/topics/a/b"])
def test_a_topic_is_named_in_full(topic_name: str) -> None:
    with pytest.raises(ValueError, match="wanted projects/PROJECT/topics/NAME"):
        Publisher(topic_name)


def test_a_message_has_the_columns_of_vertex_ais_log() -> None:
    message = json.loads(
        request_message("bike", 3, "a9f7ba6f72dacd66a21e8ea9", [{"x": 1.5}], [{"id": "a.0", "score": 2.0}])
    )
    assert list(message) == [
        "endpoint", "deployed_model_id", "logging_time", "request_id", "request_payload", "response_payload",
    ]  # fmt: skip
    assert (message["endpoint"], message["deployed_model_id"]) == ("bike", "3")
    assert message["request_id"] == str(0xA9F7BA6F72DACD66A21E8EA9)
    assert json.loads(message["request_payload"][0]) == {"instances": [{"x": 1.5}]}
    assert json.loads(message["response_payload"][0]) == {"predictions": [{"id": "a.0", "score": 2.0}]}


@pytest.mark.parametrize("identity", ["a-b", "f" * 64, "", "0"])
def test_any_identity_has_a_number_that_fits_its_column(identity: str) -> None:
    assert 0 <= request_number(identity) < 10**29
    assert request_number(identity) == request_number(identity)
