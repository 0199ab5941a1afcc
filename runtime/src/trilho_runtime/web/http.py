"""Requests and answers: handlers by method and path, who may call them, an answer whatever happens."""

from __future__ import annotations

import os
import re
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from trilho_runtime.web.answer import Answer, Headers, HttpError
from trilho_runtime.web.body import BODY_SECONDS, MAX_BODY, MAX_DEPTH, parse_json, read_body
from trilho_runtime.web.notes import RequestNotes, note

if TYPE_CHECKING:
    from trilho_runtime.web.tracing import Context, Traces

__all__ = [
    "ALL",
    "ATTEMPT_HEADER",
    "IDENTITY_HEADER",
    "MAX_BODY",
    "MAX_DEPTH",
    "READING",
    "SHADOW_HEADER",
    "Answer",
    "App",
    "Handler",
    "Headers",
    "HttpError",
    "Request",
    "attempt_of",
    "health_paths",
    "identity_of",
    "is_shadow",
    "new_identity",
    "note",
    "parse_json",
    "predict_paths",
    "read_body",
    "request_id",
]

REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
IDENTITY = re.compile(r"[0-9a-f]{24}")
IDENTITY_HEADER = "x-trilho-identity"
SHADOW_HEADER = "x-trilho-shadow"
ATTEMPT_HEADER = "x-trilho-attempt"
MOST_DIGITS = 6  # of an attempt's number
FAILED = b'{"error":"the server failed; its log says how"}'
ANY = "/*"
ALL = "*"
HEAD = "HEAD"
READING = ("GET", HEAD)


class Request:
    """A request under way: its id, what granian gives to read it by, and what its handler says for the log."""

    __slots__ = ("_limit", "_seconds", "id", "proto", "rows", "scope", "started", "trace", "version")

    def __init__(self, scope: Any, proto: Any, limit: int = MAX_BODY, seconds: float = BODY_SECONDS) -> None:
        self.started = time.perf_counter()
        self.id = request_id(scope)
        self.scope = scope
        self.proto = proto
        self.rows = 0
        self.version: int | None = None
        self.trace: Context | None = None  # None where nothing is traced
        self._limit = limit
        self._seconds = seconds

    async def body(self) -> bytes:
        """Read the body. Raises HttpError when it is too large, too slow, compressed or broken."""
        return await read_body(self.scope, self.proto, self._limit, self._seconds)


Handler = Callable[[Request], Awaitable[Answer]]


class Guard(Protocol):
    """Who may call; `access.Access` is the one there is."""

    def check(self, scope: Any) -> Awaitable[None] | None:
        """Let a caller in at once (None), or after a wait. Raises HttpError for one who may not."""


class App:
    """Hands requests to handlers by method and path; whatever happens, there is an answer.

    A path that ends in /* takes everything below it; the method * there stands for all, and its handler refuses some.
    HEAD is answered wherever GET is, as GET, by the same handler: the server leaves the body away.
    """

    def __init__(
        self,
        routes: Mapping[tuple[str, str], Handler],
        headers: Headers | None = None,
        *,
        guard: Guard | None = None,
        notes: RequestNotes | None = None,
        max_body: int = MAX_BODY,
        body_seconds: float = BODY_SECONDS,
        traces: Traces | None = None,
    ) -> None:
        self._routes = dict(routes)
        self._methods: dict[str, list[str]] = {}
        self._routes |= {(HEAD, path): handler for (method, path), handler in routes.items() if method == "GET"}
        for method, path in self._routes:
            self._methods.setdefault(path, []).append(method)
        self._below = sorted((path[:-1] for path in self._methods if path.endswith(ANY)), key=len, reverse=True)
        self._headers = headers or []
        self._guard = guard
        self._notes = notes
        self._max_body = max_body
        self._body_seconds = body_seconds
        self._traces = traces

    async def __call__(self, scope: Any, proto: Any) -> None:
        """Answer one request."""
        request = Request(scope, proto, self._max_body, self._body_seconds)
        if self._traces is not None:
            request.trace = self._traces.begin(scope.headers.get("traceparent", ""))
        try:
            if self._guard is not None:
                waiting = self._guard.check(scope)
                if waiting is not None:
                    await waiting
            answer = await self._find(scope)(request)
            body = answer.payload if isinstance(answer.payload, bytes) else orjson.dumps(answer.payload)
        except HttpError as error:
            answer = error.answer
            body = write_error(answer.payload)
        except Exception:  # noqa: BLE001  a mistake of ours must not take the connection with it
            note(traceback.format_exc())
            answer, body = Answer(500, FAILED), FAILED
        headers = [("content-type", answer.content_type), ("x-request-id", request.id), *self._headers, *answer.headers]
        proto.response_bytes(answer.status, headers, body)
        if self._notes is not None:
            self._notes.add(request, answer, len(body))
        if self._traces is not None and scope.method == "POST":
            self._traces.add_request(request, answer.status)

    def _find(self, scope: Any) -> Handler:
        method, path = scope.method, scope.path
        handler = self._routes.get((method, path))
        if handler is not None:
            return handler
        allowed = self._methods.get(path)
        if allowed is None:
            above = next((start for start in self._below if path.startswith(start)), None)
            if above is None:
                raise HttpError(404, f"no {path[:200]} here; there is {', '.join(sorted(self._methods))}")
            handler = self._routes.get((method, f"{above}*")) or self._routes.get((ALL, f"{above}*"))
            if handler is not None:
                return handler
            allowed = self._methods[f"{above}*"]
        allowed = sorted(allowed)
        raise HttpError(405, f"{path[:200]} takes {', '.join(allowed)}", headers=[("allow", ", ".join(allowed))])


def write_error(payload: Any) -> bytes:
    """Give an error as JSON, whatever a caller's text in it holds.

    >>> write_error({"error": chr(0xD800)})
    b'{"error":"?"}'
    """
    try:
        return orjson.dumps(payload)
    except TypeError:  # half of a surrogate pair
        texts = {k: v.encode("utf-8", "replace").decode() if isinstance(v, str) else v for k, v in payload.items()}
        return orjson.dumps(texts)


def request_id(scope: Any) -> str:
    """Give the request's id: the caller's where it is a well-formed one, else a new one."""
    given: str | None = scope.headers.get("x-request-id")
    return given if given is not None and REQUEST_ID.fullmatch(given) else new_identity()


def new_identity() -> str:
    """Make what names a request's predictions. A caller's own id would not do: who uses it twice loses predictions."""
    return os.urandom(12).hex()


def identity_of(scope: Any) -> str:
    """Give what names a request's predictions: the router's identity, one for all its attempts, else a new one."""
    given: str | None = scope.headers.get(IDENTITY_HEADER)
    return given if given is not None and IDENTITY.fullmatch(given) else new_identity()


def is_shadow(scope: Any) -> bool:
    """Say whether the router asks for an answer that no caller will see."""
    return scope.headers.get(SHADOW_HEADER) is not None


def attempt_of(scope: Any) -> int:
    """Give how often the router has sent this request before; 0 for a first time, and for a caller of our own."""
    given: str | None = scope.headers.get(ATTEMPT_HEADER)
    whole = given is not None and given.isascii() and given.isdigit() and len(given) <= MOST_DIGITS
    return int(given) if given is not None and whole else 0


def predict_paths() -> frozenset[str]:
    """Give the paths that predict: ours, and the one that Vertex AI names in the environment."""
    return frozenset(filter(None, ("/predict", "/v1/predict", os.environ.get("AIP_PREDICT_ROUTE"))))


def health_paths() -> frozenset[str]:
    """Give the paths that say whether the server is ready."""
    return frozenset(filter(None, ("/health", "/v1/health", os.environ.get("AIP_HEALTH_ROUTE"))))
