"""Many calls in one body, as `with client.batch():` sends them."""

from __future__ import annotations

import io
import uuid
from collections.abc import Sequence
from email import message_from_bytes
from urllib.parse import parse_qs, urlsplit

from trilho.testing.emulator.http import ApiError, Reply, Request, Route, Router
from trilho.testing.emulator.rules import Rules
from trilho.testing.emulator.uploads import split_parts

MOST_CALLS = 100
PHRASES = {200: "OK", 204: "No Content", 304: "Not Modified"}


def batch_route(methods: Sequence[Route], rules: Rules) -> Route:
    """Make the route that answers a batch of calls to the other methods."""
    router = Router(methods, rules)

    def answer(request: Request) -> Reply:
        parts = split_parts(request)
        if not 1 <= len(parts) <= MOST_CALLS:
            raise ApiError(400, f"A batch has 1 to {MOST_CALLS} calls; received {len(parts)}.")
        boundary = f"batch_{uuid.uuid4().hex}"
        body = b"".join(_part(boundary, router.answer(_inner(content, request)), head) for head, content in parts)
        kind = f"multipart/mixed; boundary={boundary}"
        return Reply(body + f"--{boundary}--\r\n".encode(), headers={"Content-Type": kind})

    return Route("POST", "/batch/storage/v1", "", answer)


def _inner(content: bytes, outer: Request) -> Request:
    """Read one call: a request line, headers, a body."""
    line, _, rest = content.lstrip(b"\r\n").partition(b"\n")
    words = line.decode("latin-1").split()
    if len(words) < 2:
        raise ApiError(400, "A part of the batch has no request line.", reason="badRequest")
    message = message_from_bytes(rest)
    body = message.get_payload(decode=False)
    text = body.encode() if isinstance(body, str) else b""
    url = urlsplit(words[1])
    query = parse_qs(url.query, keep_blank_values=True)
    return Request(words[0], url.path, query, message, io.BytesIO(text), outer.base)


def _part(boundary: str, reply: Reply, head: bytes) -> bytes:
    number = message_from_bytes(head + b"\r\n\r\n").get("Content-ID", "").strip("<>")
    body = reply.body if isinstance(reply.body, bytes) else b"".join(reply.body)
    headers = "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
    lines = (
        f"--{boundary}\r\nContent-Type: application/http\r\nContent-ID: <response-{number}>\r\n\r\n"
        f"HTTP/1.1 {reply.status} {PHRASES.get(reply.status, 'Error')}\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    )
    return lines.encode() + body + b"\r\n"
