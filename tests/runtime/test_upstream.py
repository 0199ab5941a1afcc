"""The router's client, against a server that misbehaves on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from trilho_runtime.routing.upstream import Overdue, Pool, Reply, Unanswered

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]
REQUEST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-trilho-rows: 3\r\n\r\nok"


async def play(script: Script, use: Callable[[Pool], Awaitable[None]]) -> int:
    """Run a pool against a scripted server and give the number of connections that it made."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            await script(reader, writer, connections)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    pool = Pool(f"http://127.0.0.1:{port}")
    try:
        await use(pool)
    finally:
        pool.retire()
        server.close()
    return connections


async def asked(reader: asyncio.StreamReader) -> bool:
    return bool(await reader.read(4096))


def answer_in_pieces(*pieces: bytes) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> None:
        while await asked(reader):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)

    return script


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_answer_may_come_in_pieces_and_the_connection_is_kept(size: int) -> None:
    async def use(pool: Pool) -> None:
        for _ in range(3):
            assert await pool.send(REQUEST, 5) == Reply(200, {"content-length": "2", "x-trilho-rows": "3"}, b"ok")

    pieces = [OK[i : i + size] for i in range(0, len(OK), size)]
    assert asyncio.run(play(answer_in_pieces(*pieces), use)) == 1


def test_requests_at_once_have_connections_of_their_own() -> None:
    async def use(pool: Pool) -> None:
        replies = await asyncio.gather(*(pool.send(REQUEST, 5) for _ in range(5)))
        assert {reply.body for reply in replies} == {b"ok"}
        await pool.send(REQUEST, 5)

    assert asyncio.run(play(answer_in_pieces(OK), use)) == 5


def test_a_connection_that_the_server_closed_meanwhile_costs_no_request() -> None:
    async def close_after_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> None:
        await asked(reader)
        writer.write(OK)
        await writer.drain()
        if connection == 1:
            await asked(reader)  # the second request arrives and gets no answer

    async def use(pool: Pool) -> None:
        assert (await pool.send(REQUEST, 5)).body == b"ok"
        assert (await pool.send(REQUEST, 5)).body == b"ok"

    assert asyncio.run(play(close_after_one, use)) == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\n\r\nok",
        b"nonsense\r\n\r\n",
        b"x" * 100_000,
    ],
)
def test_half_an_answer_is_none(answer: bytes) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> None:
        await asked(reader)
        writer.write(answer)
        await writer.drain()

    async def use(pool: Pool) -> None:
        with pytest.raises(Unanswered) as caught:
            await pool.send(REQUEST, 5)
        assert caught.value.sent

    asyncio.run(play(script, use))


def test_a_server_that_hangs_is_overdue() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> None:
        await reader.read()

    async def use(pool: Pool) -> None:
        with pytest.raises(Overdue, match=r"no answer within 0\.05 s"):
            await pool.send(REQUEST, 0.05)

    asyncio.run(play(script, use))


def test_no_server_is_known_before_anything_is_sent() -> None:
    async def run() -> None:
        with pytest.raises(Unanswered, match=r"no connection to http://127\.0\.0\.1:1: ") as caught:
            await Pool("http://127.0.0.1:1").send(REQUEST, 5)
        assert not caught.value.sent

    asyncio.run(run())


def test_a_caller_that_leaves_takes_its_connection_along() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> None:
        await asked(reader)
        if connection == 2:
            writer.write(OK)
            await writer.drain()
        await reader.read()

    async def use(pool: Pool) -> None:
        waiting = asyncio.ensure_future(pool.send(REQUEST, 5))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (await pool.send(REQUEST, 5)).body == b"ok"

    assert asyncio.run(play(script, use)) == 2
