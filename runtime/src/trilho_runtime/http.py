"""Requests and answers: bodies of bounded size, handlers by method and path, an answer whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

MAX_BODY = 1_500_000
DRAINED = 16_000_000  # a refused body is read on up to here, so that the caller gets to see the refusal
BODY_SECONDS = 30.0

Headers = list[tuple[str, str]]
REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
IDENTITY = re.compile(r"[0-9a-f]{24}")
IDENTITY_HEADER = "x-trilho-identity"


@dataclass(frozen=True)
class Answer:
    """What a handler answers: JSON values, or bytes as they are."""

    status: int
    payload: Any
    headers: Headers = field(default_factory=list)
    content_type: str = "application/json"


class HttpError(Exception):
    """A request that is answered with an error status."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        field: str | None = None,
        row: int | None = None,
        headers: Headers | None = None,
    ) -> None:
        super().__init__(message)
        where = {key: value for key, value in (("field", field), ("row", row)) if value is not None}
        self.answer = Answer(status, {"error": message, **where}, headers or [])


@dataclass(frozen=True)
class Request:
    """A request under way: the id that its caller is answered with, and what granian gives to read it by."""

    id: str
    scope: Any
    proto: Any
    started: float

    async def body(self) -> bytes:
        """Read the body. Raises HttpError when it is too large, too slow, compressed or broken."""
        return await read_body(self.scope, self.proto)


Handler = Callable[[Request], Awaitable[Answer]]


class App:
    """Hands requests to handlers by method and path; whatever happens, there is an answer."""

    def __init__(self, routes: Mapping[tuple[str, str], Handler], headers: Headers | None = None) -> None:
        self._routes = dict(routes)
        self._methods: dict[str, list[str]] = {}
        for method, path in routes:
            self._methods.setdefault(path, []).append(method)
        self._headers = headers or []

    async def __call__(self, scope: Any, proto: Any) -> None:
        """Answer one request."""
        request = Request(request_id(scope), scope, proto, time.perf_counter())
        try:
            answer = await self._find(scope)(request)
        except HttpError as error:
            answer = error.answer
        except Exception:  # noqa: BLE001  a mistake of ours must not take the connection with it
            note(traceback.format_exc())
            answer = Answer(500, {"error": "the server failed; its log says how"})
        body = answer.payload if isinstance(answer.payload, bytes) else orjson.dumps(answer.payload)
        headers = [("content-type", answer.content_type), ("x-request-id", request.id), *self._headers, *answer.headers]
        proto.response_bytes(answer.status, headers, body)

    def _find(self, scope: Any) -> Handler:
        handler = self._routes.get((scope.method, scope.path))
        if handler is not None:
            return handler
        allowed = self._methods.get(scope.path)
        if allowed is None:
            raise HttpError(404, f"no {scope.path} here; there is {', '.join(sorted(self._methods))}")
        raise HttpError(405, f"{scope.path} takes {', '.join(allowed)}", headers=[("allow", ", ".join(allowed))])


def request_id(scope: Any) -> str:
    """Give the request's id: the caller's where it is a well-formed one, else a new one."""
    given: str = scope.headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else new_identity()


def new_identity() -> str:
    """Make what names a request's predictions. A caller's own id would not do: who uses it twice loses predictions."""
    return os.urandom(12).hex()


def identity_of(scope: Any) -> str:
    """Give what names a request's predictions: the router's identity, one for all its attempts, else a new one."""
    given: str = scope.headers.get(IDENTITY_HEADER, "")
    return given if IDENTITY.fullmatch(given) else new_identity()


def predict_paths() -> frozenset[str]:
    """Give the paths that predict: ours, and the one that Vertex AI names in the environment."""
    return frozenset(filter(None, ("/predict", "/v1/predict", os.environ.get("AIP_PREDICT_ROUTE"))))


def health_paths() -> frozenset[str]:
    """Give the paths that say whether the server is ready."""
    return frozenset(filter(None, ("/health", "/v1/health", os.environ.get("AIP_HEALTH_ROUTE"))))


async def read_body(scope: Any, proto: Any) -> bytes:
    """Read a request's body. Raises HttpError when it is too large, too slow, compressed or broken."""
    encoding = scope.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise HttpError(415, f"content-encoding is {encoding!r}; send the body uncompressed")
    declared = scope.headers.get("content-length")
    too_large = declared is not None and int(declared) > MAX_BODY
    whole = declared is not None and not too_large and "transfer-encoding" not in scope.headers
    task = asyncio.ensure_future(_collect(proto) if whole else _stream(proto))
    done, _ = await asyncio.wait({task}, timeout=BODY_SECONDS)
    if not done:
        task.cancel()
        raise HttpError(408, f"the body did not arrive within {BODY_SECONDS:g} s")
    try:
        body = task.result()
    except RuntimeError as error:  # what granian raises when the connection breaks or a chunk is malformed
        raise HttpError(400, f"the body is broken: {error}") from None
    if too_large or len(body) > MAX_BODY:
        raise HttpError(413, f"the body is larger than {MAX_BODY} bytes; send fewer rows in one request")
    return body


async def _collect(proto: Any) -> bytes:
    body: bytes = await proto()
    return body


async def _stream(proto: Any) -> bytes:
    """Read chunk by chunk, keeping no more than is needed to know that it is too much."""
    kept, size = [], 0
    async for chunk in proto:
        size += len(chunk)
        if size - len(chunk) <= MAX_BODY:
            kept.append(chunk)
        if size > DRAINED:
            break
    return b"".join(kept)


def parse_json(body: bytes) -> Any:
    """Read a JSON body. Raises HttpError 400 with what is wrong and where."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise HttpError(400, f"the body is not JSON: {error}") from None


def note(text: str) -> None:
    """Write a line to the server's own log, whatever the state of the disk under it."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
