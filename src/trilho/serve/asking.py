"""Asks a server as its callers would, from one thread: as fast as it answers, or at a rate whatever it answers.

At a rate the wait of a request counts from the moment at which it was due. A server that holds everything up for a
second is then a second late for all that was due meanwhile, which a caller that waits for each answer never sees.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from urllib.parse import urlsplit

PATIENCE_SECONDS = 30.0
MOST_CONNECTIONS = 128
LENGTH = b"content-length:"


@dataclass
class Told:
    """What came back: the wait of each answer in seconds, which request it was to, and its body; refusals by status."""

    waits: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    bodies: list[tuple[int, bytes]] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    asked: int = 0
    seconds: float = 0.0

    def __add__(self, other: Told) -> Told:
        """Give both together, as one that went on."""
        both = (self.refused, other.refused)
        refused = {key: sum(one.get(key, 0) for one in both) for key in {**self.refused, **other.refused}}
        return Told(
            [*self.waits, *other.waits],
            [*self.ends, *(self.seconds + end for end in other.ends)],
            [*self.bodies, *other.bodies],
            refused,
            self.asked + other.asked,
            self.seconds + other.seconds,
        )

    @property
    def errors(self) -> int:
        """How many requests got no answer, or another one than 200."""
        return self.asked - len(self.waits)

    def milliseconds(self, share: float) -> float | None:
        """Give the wait that so large a share of answers had at most.

        >>> Told(waits=[0.003, 0.001, 0.002]).milliseconds(0.5)
        2.0
        """
        if not self.waits:
            return None
        waits = sorted(self.waits)
        return 1000 * waits[min(len(waits) - 1, int(share * len(waits)))]


class _Caller(asyncio.Protocol):
    """A connection that asks one request after the other."""

    def __init__(self, answered: Callable[[_Caller, int, bytes], None], lost: Callable[[_Caller], None]) -> None:
        self.place, self.since, self.busy = 0, 0.0, False
        self._answered, self._lost = answered, lost
        self._data = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to the server."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def ask(self, place: int, request: bytes, since: float) -> None:
        """Send a request."""
        assert self._transport is not None
        self.place, self.since, self.busy = place, since, True
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Pass an answer on once it is whole."""
        self._data += data
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._data[:end].lower()
        place = head.find(LENGTH)
        size = int(head[place + len(LENGTH) :].split(b"\r", 1)[0]) if place >= 0 else 0
        if len(self._data) >= end + 4 + size:
            body, status, self._data = self._data[end + 4 : end + 4 + size], int(head[9:12]), b""
            self.busy = False
            self._answered(self, status, body)

    def connection_lost(self, exc: Exception | None) -> None:
        """Say that nothing more comes."""
        self._lost(self)

    def close(self) -> None:
        """Let go of the connection."""
        if self._transport is not None:
            self._transport.abort()


class _Asking:
    """So many callers of one server, and what they are told."""

    def __init__(self, address: str, requests: Sequence[bytes]) -> None:
        parts = urlsplit(address)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._requests = requests
        self.callers: list[_Caller] = []
        self._next: Callable[[_Caller], None] = lambda _: None
        self._gone: Callable[[_Caller], None] = lambda _: None
        self.told = Told()
        self.began = 0.0
        self.done = asyncio.Event()

    async def connect(self, callers: int) -> list[_Caller]:
        loop = asyncio.get_running_loop()
        for _ in range(callers):
            _, made = await loop.create_connection(
                lambda: _Caller(self._on_answer, self._on_loss), self._host, self._port
            )
            self.callers.append(made)
        return self.callers

    def send(self, caller: _Caller, number: int, since: float) -> None:
        self.told.asked += 1
        place = number % len(self._requests)
        caller.ask(place, self._requests[place], since)

    def _on_answer(self, caller: _Caller, status: int, body: bytes) -> None:
        now = time.perf_counter()
        if status == 200:
            self.told.waits.append(now - caller.since)
            self.told.ends.append(now - self.began)
            self.told.bodies.append((caller.place, body))
        else:
            self.told.refused[str(status)] = self.told.refused.get(str(status), 0) + 1
        self._next(caller)

    def _on_loss(self, caller: _Caller) -> None:
        if caller.busy:
            self.told.refused["lost"] = self.told.refused.get("lost", 0) + 1
        if caller in self.callers:
            self.callers.remove(caller)
        self._gone(caller)
        if not self.callers:
            self.done.set()

    async def run(
        self,
        callers: int,
        start: Callable[[], None],
        go_on: Callable[[_Caller], None],
        gone: Callable[[_Caller], None] = lambda _: None,
    ) -> Told:
        """Connect, let `start` begin, and wait until `done`."""
        try:
            await self.connect(callers)
            self._next, self._gone = go_on, gone
            self.began = time.perf_counter()
            start()
            await self.done.wait()
        finally:
            self.told.seconds = time.perf_counter() - self.began
            self._gone = lambda _: None
            for caller in [*self.callers]:
                caller.close()
        return self.told


def ask_in_turn(
    address: str, requests: Sequence[bytes], *, seconds: float, callers: int = 1, least: int = 1, most: int = 10**9
) -> Told:
    """Ask as fast as the server answers, each caller one request after the other.

    It ends after `seconds`, but not before `least` answers, and after `most`; a server that hangs is waited for half a
    minute more.
    """

    async def ask() -> Told:
        asking = _Asking(address, requests)
        numbers = count()

        def go_on(caller: _Caller) -> None:
            told, now = asking.told, time.perf_counter()
            late = now - asking.began >= seconds and len(told.waits) + sum(told.refused.values()) >= least
            if not late and told.asked < most:
                asking.send(caller, next(numbers), now)
            elif not any(each.busy for each in asking.callers):
                asking.done.set()

        def start() -> None:
            for caller in [*asking.callers]:
                go_on(caller)

        def gone(_: _Caller) -> None:
            if not any(each.busy for each in asking.callers):
                asking.done.set()

        return await _bounded(asking, asking.run(callers, start, go_on, gone), seconds)

    return asyncio.run(ask())


def ask_at_rate(
    address: str, requests: Sequence[bytes], *, rate: float, seconds: float, patience: float = PATIENCE_SECONDS
) -> Told:
    """Ask `rate` requests a second, evenly spaced, whether the server has answered those before or not.

    What is not answered `patience` seconds after the last was due is not waited for.
    """
    total = max(1, round(rate * seconds))

    async def ask() -> Told:
        asking = _Asking(address, requests)
        loop = asyncio.get_running_loop()
        free: deque[_Caller] = deque()
        due: deque[tuple[int, float]] = deque()
        handled, planned = 0, 0

        def dispatch() -> None:
            while due and free:
                number, since = due.popleft()
                asking.send(free.popleft(), number, since)

        def tick() -> None:
            nonlocal planned
            now = time.perf_counter()
            while planned < total and asking.began + planned / rate <= now:
                due.append((planned, asking.began + planned / rate))
                planned += 1
            dispatch()
            if planned < total:
                loop.call_later(max(0.0, asking.began + planned / rate - time.perf_counter()), tick)

        def go_on(caller: _Caller) -> None:
            nonlocal handled
            handled += 1
            free.append(caller)
            dispatch()
            if handled >= total:
                asking.done.set()

        def gone(caller: _Caller) -> None:
            nonlocal handled
            handled += caller.busy
            if caller in free:
                free.remove(caller)
            if handled >= total:
                asking.done.set()

        def start() -> None:
            free.extend(asking.callers)
            tick()

        callers = min(MOST_CONNECTIONS, max(8, total))
        told = await _bounded(asking, asking.run(callers, start, go_on, gone), seconds, patience)
        told.asked = total  # what was due and could not be sent any more was not answered either
        return told

    return asyncio.run(ask())


async def _bounded(asking: _Asking, running: Any, seconds: float, patience: float = PATIENCE_SECONDS) -> Told:
    """Wait for what is asked no longer than that; a server that is gone has refused what it was to be asked."""
    try:
        return await asyncio.wait_for(running, seconds + patience)
    except OSError:  # TimeoutError is one
        asking.told.asked = max(asking.told.asked, 1)
        return asking.told


def requests_for(rows: Sequence[Any], size: int) -> list[bytes]:
    """Give the requests that ask for all rows, so many in each.

    >>> [request.partition(b"\\r\\n\\r\\n")[2] for request in requests_for([{"x": 1}, {"x": 2}, {"x": 3}], 2)]
    [b'{"instances":[{"x":1},{"x":2}]}', b'{"instances":[{"x":3}]}']
    """
    bodies = [
        json.dumps({"instances": list(rows[at : at + size])}, separators=(",", ":")).encode()
        for at in range(0, len(rows), size)
    ]
    head = "POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: "
    return [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]
