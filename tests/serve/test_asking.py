"""Asking a server: every answer is counted once, and a wait begins when the request was due."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from trilho.serve.asking import ask_at_rate, ask_in_turn, requests_for

ROWS = [{"x": at} for at in range(5)]


class Hub:
    """A server in a thread; what it does with request number n is up to `act`."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.stall_at, self.stall_seconds, self.hang_up_at, self.split = -1, 0.0, -1, False

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r")[0]))
                number = len(self.asked)
                self.asked.append(json.loads(body)["instances"])
                if number == self.hang_up_at:
                    writer.close()
                    return
                if number == self.stall_at:
                    import time

                    time.sleep(self.stall_seconds)
                told = json.dumps({"predictions": self.asked[number]}).encode()
                whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(told) + told
                parts = [whole[:20], whole[20:60], whole[60:]] if self.split else [whole]
                for part in parts:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@contextmanager
def serving(hub: Hub) -> Iterator[str]:
    loop, ready, found = asyncio.new_event_loop(), threading.Event(), list[int]()

    async def start() -> None:
        server = await asyncio.start_server(hub.converse, "127.0.0.1", 0)
        found.append(server.sockets[0].getsockname()[1])
        ready.set()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.create_task(start())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield f"http://127.0.0.1:{found[0]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("callers", [1, 4])
def test_each_request_is_asked_once_and_its_answer_kept(callers: int, split: bool) -> None:
    hub, requests = Hub(), requests_for(ROWS, 2)
    hub.split = split
    with serving(hub) as address:
        told = ask_in_turn(address, requests, seconds=0.0, callers=callers, least=9, most=9)
    assert (told.asked, len(told.waits), told.errors) == (9, 9, 0)
    assert len(hub.asked) == 9
    for place, body in told.bodies:
        assert json.loads(body)["predictions"] == ROWS[place * 2 : place * 2 + 2]


def test_what_is_due_while_the_server_stalls_waits_from_then_on() -> None:
    hub = Hub()
    hub.stall_at, hub.stall_seconds = 10, 0.3
    with serving(hub) as address:
        told = ask_at_rate(address, requests_for(ROWS, 1), rate=100.0, seconds=0.5)
    assert (told.asked, told.errors) == (50, 0)
    late = [wait for wait in told.waits if wait > 0.05]
    assert len(late) >= 15  # those that were due in these 300 ms, not the one that was under way


def test_a_connection_that_ends_is_an_error_and_no_hang() -> None:
    hub = Hub()
    hub.hang_up_at = 7
    with serving(hub) as address:
        told = ask_at_rate(address, requests_for(ROWS, 1), rate=200.0, seconds=0.2)
    assert (told.asked, told.errors, told.refused) == (40, 1, {"lost": 1})
    hub = Hub()
    hub.hang_up_at = 3
    with serving(hub) as address:
        told = ask_in_turn(address, requests_for(ROWS, 1), seconds=0.0, callers=1, least=9, most=9)
    assert (told.errors, told.refused) == (1, {"lost": 1})


def test_nobody_at_the_address_is_an_error() -> None:
    with serving(Hub()) as address:
        pass
    gone = address.rpartition(":")[0] + ":9"
    assert ask_in_turn(gone, requests_for(ROWS, 1), seconds=0.0).errors == 1
