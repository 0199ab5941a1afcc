"""A server's limits and its end: bodies that stall, callers that send nothing, more connections than it holds."""

from __future__ import annotations

import asyncio
import http.client
import json
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.protocol_server import ROW
from tests.runtime.serving import Launcher, until

from trilho_runtime.web import doorman
from trilho_runtime.web.body import Hurry, read_body
from trilho_runtime.web.doorman import queue_of, refuse, refuse_beyond
from trilho_runtime.web.http import HttpError

SERVER = "tests.runtime.protocol_server"
BODY = json.dumps({"instances": [ROW]}).encode()
HEAD = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"


@pytest.fixture(scope="module")
def launch_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    launcher = Launcher(tmp_path_factory.mktemp("drain"), Path(sys.executable))
    yield launcher
    launcher.end()


@pytest.fixture(scope="module")
def address(launch_here: Launcher) -> str:
    return launch_here.run(Path(sys.executable), SERVER).wait_until_ready()


def connect(address: str) -> socket.socket:
    host, _, port = address.removeprefix("http://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=20)


def everything(connection: socket.socket) -> bytes:
    found = b""
    while piece := connection.recv(65536):
        found += piece
    return found


def test_head_is_answered_as_get_is_without_a_body(address: str) -> None:
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=20)
    paths = ["/health", "/v1/health", "/metrics", "/openapi.json", "/docs", "/v2", "/v2/health/live"]
    for path in [*paths, "/v2/health/ready", "/v2/models/tiny", "/v2/models/tiny/ready"]:
        told = []
        for method in ("GET", "HEAD"):
            connection.request(method, path)
            answer = connection.getresponse()
            told.append((answer.status, answer.getheader("content-length"), answer.getheader("content-type")))
            size = len(answer.read())
            assert size == (0 if method == "HEAD" else int(told[0][1] or -1)), path
        assert told[0] == told[1]
        assert told[0][0] == 200
    connection.request("HEAD", "/predict")
    refused = connection.getresponse()
    assert (refused.status, refused.getheader("allow"), refused.read()) == (405, "POST", b"")


def test_requests_that_come_at_once_are_answered_in_order(address: str) -> None:
    wrong = HEAD % 1 + b"{"
    last = b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    with connect(address) as connection:
        connection.sendall((HEAD % len(BODY) + BODY) * 3 + wrong + (HEAD % len(BODY) + BODY) + last)
        answers = everything(connection)
    statuses = [int(part[:3]) for part in answers.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200, 200, 200, 400, 200, 200]


def test_who_asks_before_sending_is_told_to_go_on_or_refused(address: str) -> None:
    expect = b"expect: 100-continue\r\nconnection: close\r\n\r\n"
    with connect(address) as connection:
        connection.sendall((HEAD % len(BODY)).replace(b"\r\n\r\n", b"\r\n") + expect)
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(BODY)
        assert everything(connection).startswith(b"HTTP/1.1 200 ")
    with connect(address) as connection:
        connection.sendall((HEAD % 99_000_000).replace(b"\r\n\r\n", b"\r\n") + expect)
        assert everything(connection).startswith(b"HTTP/1.1 413 ")


def test_a_stop_waits_for_slow_callers_and_not_for_silent_ones(launch_here: Launcher) -> None:
    server = launch_here.run(Path(sys.executable), SERVER)
    address = server.wait_until_ready()
    with ExitStack() as stack:
        slow, _, half, never = (stack.enter_context(connect(address)) for _ in range(4))
        slow.sendall(HEAD % len(BODY) + BODY[:5])
        half.sendall(b"POST /pre")
        never.sendall(HEAD % 100 + b"{")
        with connect(address) as other:  # what was sent before has been taken up once this is answered
            other.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert everything(other).startswith(b"HTTP/1.1 200 ")
        server.process.send_signal(signal.SIGTERM)
        until(lambda: refused(address), what="closed for others")
        slow.sendall(BODY[5:])
        answer = everything(slow)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" in answer.lower()
        told = everything(never)
        assert told.startswith(b"HTTP/1.1 408 ")
        assert b"before this server had to stop" in told
        assert server.process.wait(15) == 0
        assert "under way" not in server.errors.read_text()


def refused(address: str) -> bool:
    try:
        with connect(address):
            return False
    except ConnectionRefusedError:
        return True


def test_bodies_on_their_way_are_given_up_when_it_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry = Hurry()
    monkeypatch.setattr("trilho_runtime.web.body.HURRY", hurry)

    class Scope:
        def __init__(self) -> None:
            self.headers = {"content-length": "5"}

    async def never() -> bytes:
        await asyncio.Event().wait()
        return b""

    async def give_up() -> list[Any]:
        waiting = [asyncio.ensure_future(read_body(Scope(), never)) for _ in range(3)]
        while len(hurry.waiting) < 3:
            await asyncio.sleep(0)
        hurry.up()
        late = asyncio.ensure_future(read_body(Scope(), never))
        return await asyncio.gather(*waiting, late, return_exceptions=True)

    found = asyncio.run(give_up())
    assert [type(error) for error in found] == [HttpError] * 4
    assert [error.answer.status for error in found] == [408] * 4
    assert not hurry.waiting


linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how many callers wait")


@linux
def test_who_waits_beyond_the_connections_there_are_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doorman, "LOOK_SECONDS", 0.01)
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener, ExitStack() as stack:
        stop = refuse_beyond(listener)
        callers = [stack.enter_context(socket.create_connection(listener.getsockname(), 10)) for _ in range(5)]
        answers = [everything(caller) for caller in callers]
        stop.set()
        assert all(answer.startswith(b"HTTP/1.1 503 ") for answer in answers)
        head, body = answers[0].split(b"\r\n\r\n")
        assert b"retry-after: 1" in head
        assert int(head.split(b"content-length: ")[1]) == len(body)
        assert "as many connections as it can" in json.loads(body)["error"]


@linux
def test_nobody_is_refused_while_others_are_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = [(1, 9), (2, 9), (3, 9), (2, 9), (2, 9), (0, 9), (0, 9), (1, 9), (0, 9)] * 3
    seen: list[int] = []

    def look(listener: Any) -> tuple[int, int]:
        if not looks:
            raise OSError("closed")
        return looks.pop(0)

    monkeypatch.setattr(doorman, "queue_of", look)
    monkeypatch.setattr(doorman, "refuse", lambda listener, count: seen.append(count))
    monkeypatch.setattr(doorman, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(doorman, "PATIENCE", 4)
    doorman._watch(socket.socket(), threading.Event())
    assert seen == []
    looks[:] = [(3, 9)] * 4 + [(0, 9)]
    doorman._watch(socket.socket(), threading.Event())
    assert seen == [3]


@linux
def test_a_caller_that_sent_something_reads_its_refusal_too() -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=16))
        caller = stack.enter_context(socket.create_connection(listener.getsockname(), 10))
        caller.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        until(lambda: queue_of(listener)[0] == 1, what="waiting")
        refuse(listener, 9)
        assert everything(caller).startswith(b"HTTP/1.1 503 ")
        assert queue_of(listener)[0] == 0
