"""Bodies of requests: bounded in size, in time and in depth before anything works on them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import orjson

from trilho_runtime.web.answer import HttpError

MAX_BODY = 1_500_000  # what a shared public endpoint of Vertex AI passes on
MAX_DEPTH = 32
SMALL = 4096  # bytes whose brackets are quicker counted than taken apart
DRAINED = 16_000_000  # a refused body is read on up to here, so that the caller gets to see the refusal
BODY_SECONDS = 30.0
STRUCTURE = b'[]{}"\\'
BRACKETS = bytes.maketrans(b"{}", b"[]")
OTHERS = bytes(set(range(256)) - set(STRUCTURE))
ESCAPED = re.compile(rb"\\.")
STRING = re.compile(rb'"[^"]*"')


class Hurry:
    """The bodies that are awaited, and how long any may take: less once the process is to end."""

    def __init__(self) -> None:
        self.seconds = float("inf")
        self.waiting: set[Callable[[], None]] = set()

    def up(self) -> None:
        """Await no body any longer; whoever has not sent it by now may ask another server."""
        self.seconds = 0.0
        for give_up in list(self.waiting):
            give_up()


HURRY = Hurry()


async def read_body(scope: Any, proto: Any, limit: int = MAX_BODY, seconds: float = BODY_SECONDS) -> bytes:
    """Read a request's body. Raises HttpError when it is too large, too slow, compressed or broken."""
    headers = scope.headers
    encoding = headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        refusal = f"content-encoding is {encoding[:60]!r}; send the body uncompressed"
        raise HttpError(415, refusal, headers=[("accept-encoding", "identity")])
    declared = headers.get("content-length")
    if declared is not None and int(declared) > DRAINED:  # nobody waits for so much, only to refuse it
        raise HttpError(413, f"the body is larger than {limit} bytes; send fewer rows in one request")
    too_large = declared is not None and int(declared) > limit
    whole = declared is not None and not too_large and "transfer-encoding" not in headers
    body = await _in_time(_collect(proto) if whole else _stream(proto, limit), seconds)
    if too_large or len(body) > limit:
        raise HttpError(413, f"the body is larger than {limit} bytes; send fewer rows in one request")
    return body


async def _in_time(reading: Any, seconds: float) -> bytes:
    """Await a body, but not for ever: a timer costs a hundredth of the task that asyncio.wait_for would make."""
    task = asyncio.current_task()
    late = False
    seconds = min(seconds, HURRY.seconds)

    def give_up() -> None:
        nonlocal late
        late = True
        if task is not None:
            task.cancel()

    timer = asyncio.get_running_loop().call_later(seconds, give_up)
    HURRY.waiting.add(give_up)
    try:
        body: bytes = await reading
    except asyncio.CancelledError:
        if not late:
            raise
        if task is not None and hasattr(task, "uncancel"):
            task.uncancel()
        if HURRY.seconds < seconds or not seconds:
            raise HttpError(408, "the body did not arrive before this server had to stop; send it again") from None
        raise HttpError(408, f"the body did not arrive within {seconds:g} s") from None
    except RuntimeError as error:  # what granian raises when the connection breaks or a chunk is malformed
        raise HttpError(400, f"the body is broken: {error}") from None
    finally:
        timer.cancel()
        HURRY.waiting.discard(give_up)
    return body


async def _collect(proto: Any) -> bytes:
    body: bytes = await proto()
    return body


async def _stream(proto: Any, limit: int) -> bytes:
    """Read chunk by chunk, keeping no more than is needed to know that it is too much."""
    kept, size = [], 0
    async for chunk in proto:
        size += len(chunk)
        if size - len(chunk) <= limit:
            kept.append(chunk)
        if size > DRAINED:
            break
    return b"".join(kept)


def parse_json(body: bytes, depth: int = MAX_DEPTH) -> Any:
    """Read a JSON body. Raises HttpError 400 with what is wrong and where.

    >>> parse_json(b'{"instances": [{"x": 1}]}')
    {'instances': [{'x': 1}]}
    """
    few = len(body) < SMALL and body.count(b"[") + body.count(b"{") <= depth
    if not few and is_deeper(body, depth):
        raise HttpError(400, f"the body is JSON nested more than {depth} levels deep; send it flatter")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise HttpError(400, f"the body is not JSON: {error}") from None


def is_deeper(body: bytes, depth: int) -> bool:
    """Say whether JSON is nested deeper than so many levels, without building any of it.

    Only its brackets are kept, then empty pairs are taken out level by level. Brackets that do not pair are left to
    the parser, which can say where they are.

    >>> is_deeper(b'[["]]]]", {"a\\\\"[": []}]]', 3), is_deeper(b'[["]]]]", {"a\\\\"[": []}]]', 4)
    (True, False)
    """
    left = body.translate(None, OTHERS)
    plain = left.replace(b'""', b"")
    if b'"' in plain or b"\\" in plain:  # some string holds a bracket or an escape
        plain = STRING.sub(b"", ESCAPED.sub(b"", left))
    plain = plain.translate(BRACKETS)
    for _ in range(depth):
        fewer = plain.replace(b"[]", b"")
        if len(fewer) == len(plain):
            return False
        plain = fewer
    return b"[]" in plain
