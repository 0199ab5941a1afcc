"""A worker's side of a server with several: when it may answer, what the others have counted, when to end.

One stream joins each worker with their parent (workers.py), a line of JSON at a time. Whoever is asked for /metrics, /
or /profile asks the others first, through the parent, so that a caller is told of everything that was answered before.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import orjson

from trilho_runtime.processes.sums import add_json, add_metrics
from trilho_runtime.web.http import Answer, Handler, HttpError, Request

if TYPE_CHECKING:
    from trilho_runtime.web.service import Service

KEEP_SECONDS = 0.5
OTHERS_SECONDS = 2.0
ORPHAN_SECONDS = 1.5
LARGEST_LINE = 2**26

SUMMED = ("metrics", "info", "profile")

Own = Callable[[Any], Awaitable[Answer]]


class Member:
    """One of a server's workers, on the running loop."""

    def __init__(self, channel: int) -> None:
        self._socket = socket.socket(fileno=channel)
        self._loop = asyncio.get_running_loop()
        self._own: dict[str, Own] = {}
        self._others: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._kept: dict[str, str] = {}
        self._asked = 0
        self._writer: asyncio.StreamWriter | None = None
        self._turn: asyncio.Future[bool] = self._loop.create_future()
        self._stop: Callable[[], None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def listen(self) -> None:
        """Begin to listen to the parent."""
        reader, self._writer = await asyncio.open_connection(sock=self._socket, limit=LARGEST_LINE)
        self._tasks = [asyncio.ensure_future(self._listen(reader)), asyncio.ensure_future(self._keep())]

    def ready(self) -> None:
        """Say, from any thread, that the model is loaded."""
        self._loop.call_soon_threadsafe(self._say, {"ready": True})

    def failed(self) -> None:
        """Say, from any thread, that it will never be."""
        self._loop.call_soon_threadsafe(self._let, False)

    def around(self, what: str, own: Handler) -> Handler:
        """Make a handler that answers for all workers of one that answers for this one."""
        self._own[what] = own

        async def everybody(request: Request) -> Answer:
            mine = await own(request)
            told = await self._ask(what)
            return _together(what, mine, told)

        return everybody

    async def serve(self, service: Service) -> int:
        """Wait for the turn, serve until told to stop, and give the exit code."""
        self._stop, service.shared = service.stop, True
        if not await self._turn:
            return 1
        code = await service.run(None, None)
        await self.leave()
        return code

    async def leave(self) -> None:
        """Tell the parent what was counted to the end."""
        for task in self._tasks:
            task.cancel()
        with contextlib.suppress(OSError):
            await self._tell_kept()
            if self._writer is not None:
                await self._writer.drain()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError, ValueError):
            while line := await reader.readline():
                await self._hear(orjson.loads(line))
        self._let(False)
        self._loop.call_later(ORPHAN_SECONDS, os._exit, 0)
        if self._stop is not None:
            self._stop()

    async def _hear(self, told: Mapping[str, Any]) -> None:
        if "go" in told:
            self._let(True)
        elif "give" in told:
            self._say({"given": told["give"], "what": told["what"], "text": await self._text(told["what"])})
        elif "answer" in told:
            waiting = self._others.pop(told["answer"], None)
            if waiting is not None and not waiting.done():
                waiting.set_result(dict(told))

    async def _ask(self, what: str) -> Mapping[str, Any]:
        """Give what the others say; nothing when the parent does not answer in time."""
        self._asked += 1
        waiting = self._others[self._asked] = self._loop.create_future()
        self._say({"ask": self._asked, "what": what})
        done, _ = await asyncio.wait({waiting}, timeout=OTHERS_SECONDS)
        self._others.pop(self._asked, None)
        return waiting.result() if done else {}

    async def _text(self, what: str) -> str | None:
        """Give what this worker alone answers; None while it has nothing to say."""
        try:
            answer = await self._own[what](None)
        except (HttpError, KeyError):
            return None
        payload = answer.payload if isinstance(answer.payload, bytes) else orjson.dumps(answer.payload)
        return payload.decode()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(KEEP_SECONDS)
            await self._tell_kept()

    async def _tell_kept(self) -> None:
        """Tell the parent what has changed since: it speaks for this worker once that has ended."""
        news = {}
        for what in self._own:
            text = await self._text(what)
            if text is not None and text != self._kept.get(what):
                news[what] = self._kept[what] = text
        if news:
            self._say({"keep": news})

    def _say(self, data: Mapping[str, Any]) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(orjson.dumps(data, option=orjson.OPT_APPEND_NEWLINE))

    def _let(self, may: bool) -> None:
        if not self._turn.done():
            self._turn.set_result(may)


async def join(channel: int, predictions: Any) -> Member:
    """Join the other workers: what the app says of itself it says of all from then on."""
    member = Member(channel)
    for what in SUMMED:
        if hasattr(predictions, what):
            setattr(predictions, what, member.around(what, getattr(predictions, what)))
    await member.listen()
    return member


def _together(what: str, mine: Answer, told: Mapping[str, Any]) -> Answer:
    """Add what the others said, and what those said that have ended, to an answer."""
    parts = [text for text in told.get("parts", []) if text is not None]
    ended = [text for text in told.get("ended", []) if text is not None]
    payload = mine.payload if isinstance(mine.payload, bytes) else orjson.dumps(mine.payload)
    if what == "metrics":
        whole: Any = add_metrics([payload.decode(), *parts], ended).encode() + b"\n"
    else:
        whole = add_json([orjson.loads(text) for text in (payload, *parts, *ended)])
    if what == "info":
        whole["workers"] = told.get("workers", [])
    return Answer(mine.status, whole, mine.headers, mine.content_type)
