"""A small HTTP client for our own servers: kept-alive connections, answers with a length, nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

CONNECT_SECONDS = 2.0
LONGEST_HEAD = 65536


class Unanswered(Exception):
    """No answer came; `sent` says whether the request had reached the server."""

    def __init__(self, why: str, *, sent: bool) -> None:
        super().__init__(why)
        self.sent = sent


class Overdue(Exception):
    """The answer did not come in time; the server may still be at it."""


class Reply(NamedTuple):
    """A server's answer."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Reply] | None = None
        self._buffer = bytearray()
        self._head: tuple[int, dict[str, str], int] | None = None
        self.open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note that requests can be sent."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.open = True

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the caller who waits that no answer will come."""
        self.open = False
        self._pool.forget(self)
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Unanswered("the connection broke", sent=True))

    def data_received(self, data: bytes) -> None:
        """Collect an answer until it is whole."""
        self._buffer += data
        try:
            self._read()
        except ValueError:
            self.close()

    def _read(self) -> None:
        if self._head is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > LONGEST_HEAD:
                    self.close()
                return
            self._head = _parse_head(bytes(self._buffer[:end]))
            del self._buffer[: end + 4]
        status, headers, length = self._head
        if len(self._buffer) < length:
            return
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        self._head = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(Reply(status, headers, body))
        if headers.get("connection", "").lower() == "close" or self._buffer:
            self.close()

    async def send(self, request: bytes, seconds: float) -> Reply:
        """Send a request and wait for its answer. Raises Unanswered or Overdue."""
        loop = asyncio.get_running_loop()
        if self._transport is None or not self.open:
            raise Unanswered("the connection is closed", sent=False)
        self._answer = loop.create_future()
        timer = loop.call_later(seconds, self._overdue, seconds)
        self._transport.write(request)
        try:
            return await self._answer
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            timer.cancel()
            self._answer = None

    def _overdue(self, seconds: float) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Overdue(f"no answer within {seconds:g} s"))
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.open = False
        if self._transport is not None:
            self._transport.abort()


def wire(method: str, path: str, body: bytes, headers: str = "") -> bytes:
    """Give a request as it goes over the wire; `headers` are whole lines.

    >>> wire("GET", "/health", b"")
    b'GET /health HTTP/1.1\\r\\nhost: trilho\\r\\ncontent-length: 0\\r\\n\\r\\n'
    """
    head = f"{method} {path} HTTP/1.1\r\nhost: trilho\r\n{headers}content-length: {len(body)}\r\n\r\n"
    return head.encode("latin-1") + body


def _parse_head(head: bytes) -> tuple[int, dict[str, str], int]:
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return int(first.split(" ", 2)[1]), headers, int(headers.get("content-length", ""))


@dataclass
class Address:
    """Where a server listens."""

    host: str
    port: int

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read http://host:port.

        >>> Address.parse("http://[::1]:80")
        Address(host='::1', port=80)
        """
        host, _, port = url.removeprefix("http://").rpartition(":")
        return cls(host.strip("[]"), int(port))


class Pool:
    """Connections to one server; as many as there are requests at once."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._address = Address.parse(url)
        self._idle: list[Connection] = []
        self._retired = False

    async def send(self, request: bytes, seconds: float, again: Callable[[], bytes] | None = None) -> Reply:
        """Send a request. Raises Unanswered or Overdue.

        A kept connection may have been closed by the server just now: then the request goes out once more on a new one,
        as `again` gives it where the server may have had it.
        """
        sent = False
        while self._idle and not sent:
            connection = self._idle.pop()
            if connection.open:
                try:
                    return await self._on(connection, request, seconds)
                except Unanswered as error:
                    sent = error.sent
        try:
            connection = await self._connect()
            return await self._on(connection, again() if sent and again is not None else request, seconds)
        except Unanswered as error:
            raise Unanswered(str(error), sent=sent or error.sent) from None

    def retire(self) -> None:
        """Close what is idle, and what is busy once it is done."""
        self._retired = True
        for connection in list(self._idle):
            connection.close()
        self._idle.clear()

    def forget(self, connection: Connection) -> None:
        """Drop a connection that was lost."""
        if connection in self._idle:
            self._idle.remove(connection)

    async def _on(self, connection: Connection, request: bytes, seconds: float) -> Reply:
        reply = await connection.send(request, seconds)
        if self._retired:
            connection.close()
        elif connection.open:
            self._idle.append(connection)
        return reply

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        making = loop.create_task(
            loop.create_connection(lambda: Connection(self), self._address.host, self._address.port)
        )
        done, _ = await asyncio.wait({making}, timeout=CONNECT_SECONDS)
        if not done:
            making.cancel()
            raise Unanswered(f"no connection to {self.url} within {CONNECT_SECONDS:g} s", sent=False)
        try:
            return making.result()[1]
        except OSError as error:
            raise Unanswered(f"no connection to {self.url}: {error.strerror or error}", sent=False) from None
