"""REST services of the emulator: one HTTP server on the loopback interface, routes by pattern, Google's errors.

A service is a list of routes; a route names the permission that it needs, so that rules of denial, injected failures
and latency meet every service in one place.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.message import Message
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from trilho.testing.emulator.rules import Refusal, Rules

Json = dict[str, Any]

REASONS = {
    400: "invalid", 401: "authError", 403: "forbidden", 404: "notFound", 409: "conflict", 410: "gone",
    411: "required", 412: "conditionNotMet", 413: "uploadTooLarge", 416: "requestedRangeNotSatisfiable",
    429: "rateLimitExceeded", 500: "backendError", 501: "notImplemented", 503: "backendError", 504: "backendError",
}  # fmt: skip
STATUSES = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 409: "ALREADY_EXISTS",
    412: "FAILED_PRECONDITION", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 501: "UNIMPLEMENTED", 503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}  # fmt: skip
DRAIN_BYTES = 1 << 20
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class ApiError(Exception):
    """An error that a client is told, as Google's services tell it."""

    def __init__(self, code: int, message: str, *, reason: str | None = None, **more: Any) -> None:
        super().__init__(message)
        self.code, self.message, self.reason = code, message, reason or REASONS.get(code, "backendError")
        self.more = more

    def document(self) -> Json:
        """Give the error's JSON body."""
        detail = {"message": self.message, "domain": "global", "reason": self.reason, **self.more}
        error = {"code": self.code, "message": self.message, "errors": [detail]}
        return {"error": error | ({"status": STATUSES[self.code]} if self.code in STATUSES else {})}


@dataclass
class Request:
    """One request, its body not yet read."""

    method: str
    path: str
    query: Mapping[str, Sequence[str]]
    headers: Message
    body: BinaryIO
    base: str
    values: dict[str, str] = field(default_factory=dict)

    def first(self, name: str, default: str = "") -> str:
        """Give a query parameter, or the default where it is absent."""
        return self.query.get(name, [default])[0]

    def flag(self, name: str) -> bool:
        """Say whether a query parameter is true."""
        return self.first(name).lower() == "true"

    def number(self, name: str, default: int) -> int:
        """Give a query parameter that must be a whole number."""
        given = self.first(name)
        if not given:
            return default
        if not re.fullmatch(r"-?\d+", given):
            raise ApiError(
                400, f"Invalid value for {name}: {given!r} is not a whole number.", reason="invalidParameter"
            )
        return int(given)

    def json(self) -> Json:
        """Give the body, which must be a JSON object; an empty one is {}."""
        return parse_object(self.body.read())


@dataclass
class Reply:
    """One answer: a status, headers, and the body as bytes or as pieces of a known length."""

    body: bytes | Iterable[bytes] = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None


Handler = Callable[[Request], Reply | Mapping[str, Any] | None]


@dataclass(frozen=True)
class Route:
    """A method and a path such as `/b/{bucket}`; each value in braces is one segment, percent-decoded.

    >>> Route("GET", "/b/{bucket}/o/{name}", "x.get", print).match("GET", "/b/one/o/a%2Fb")
    {'bucket': 'one', 'name': 'a/b'}
    """

    method: str
    pattern: str
    permission: str
    handler: Handler

    def match(self, method: str, path: str) -> dict[str, str] | None:
        """Give the path's values, or None where this is another route's request."""
        if method != self.method:
            return None
        found = _compiled(self.pattern).fullmatch(path)
        return {name: unquote(value) for name, value in found.groupdict().items()} if found else None


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+?)", pattern))


class Router:
    """Find the route of a request, pass the gate, answer."""

    def __init__(self, routes: Iterable[Route], rules: Rules) -> None:
        self._routes, self._rules = tuple(routes), rules

    def add(self, routes: Iterable[Route]) -> None:
        """Serve further routes."""
        self._routes += tuple(routes)

    def answer(self, request: Request) -> Reply:
        """Give the answer to a request; what goes wrong is an answer too."""
        try:
            return self._answer(request)
        except ApiError as error:
            return to_reply(error.document(), error.code)
        except Exception as error:  # noqa: BLE001  one broken request must not end the server, nor pass unseen
            said = ApiError(500, f"The emulator failed: {type(error).__name__}: {error}", reason="internalError")
            return to_reply(said.document(), 500)

    def _answer(self, request: Request) -> Reply:
        require_no_page(request.headers)
        for route in self._routes:
            values = route.match(request.method, request.path)
            if values is not None:
                request.values = values
                enter(self._rules, route.permission, "/".join(values.values()))
                return to_reply(route.handler(request))
        if any(route.match(other, request.path) is not None for route in self._routes for other in METHODS):
            raise ApiError(405, f"{request.method} is not allowed on {request.path}.", reason="httpMethodNotAllowed")
        raise ApiError(404, f"trilho emulate has no method {request.method} {request.path}.", reason="notFound")


def require_no_page(headers: Message) -> None:
    """Refuse what a web page sends: what is served here runs commands, and any page could reach the loopback."""
    host = urlsplit(f"//{headers.get('Host', '')}").hostname or "localhost"
    if "Origin" in headers or headers.get("Sec-Fetch-Site", "none") != "none" or host not in LOOPBACK:
        raise ApiError(403, "trilho emulate answers programs on its own machine only, no web pages.")


def enter(rules: Rules, permission: str, resource: str) -> None:
    """Pass the rules, or raise their refusal in the words of the REST services."""
    if not permission:
        return
    try:
        rules.enter(permission, resource)
    except Refusal as refusal:
        raise _worded(refusal, permission, resource) from None


def _worded(refusal: Refusal, permission: str, resource: str) -> ApiError:
    code = next((code for code, status in STATUSES.items() if status == refusal.status), 500)
    if refusal.status != "PERMISSION_DENIED":
        return ApiError(code, refusal.message)
    if permission.startswith("bigquery."):
        message = f"Access Denied: {resource}: Permission {permission} denied on {resource} (or it may not exist)."
        return ApiError(403, message, reason="accessDenied")
    if permission.startswith("storage."):
        kind = "object" if ".objects." in permission else "bucket"
        message = f"Caller does not have {permission} access to the Google Cloud Storage {kind}. Permission"
        return ApiError(403, f"{message} '{permission}' denied on resource (or it may not exist).")
    return ApiError(403, refusal.message)


METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def to_reply(result: Reply | Mapping[str, Any] | None, status: int = 200) -> Reply:
    """Make a handler's result an answer: a document is JSON, nothing is 204."""
    if isinstance(result, Reply):
        return result
    if result is None:
        return Reply(status=204)
    body = json.dumps(result, ensure_ascii=False).encode()
    return Reply(body, status, {"Content-Type": "application/json; charset=UTF-8"})


def parse_object(text: bytes) -> Json:
    """Read a JSON object; no text is {}."""
    if not text.strip():
        return {}
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ApiError(400, f"Parse Error: {error}", reason="parseError") from None
    if not isinstance(found, dict):
        raise ApiError(400, f"Parse Error: expected an object, received {type(found).__name__}", reason="parseError")
    return found


class Body:
    """The body of a request, of a stated length or in chunks, that ends where the request ends."""

    def __init__(self, stream: BinaryIO, length: int | None) -> None:
        self._stream, self._left, self._chunked = stream, length or 0, length is None

    def read(self, size: int = -1) -> bytes:
        """Read up to `size` bytes, or all."""
        if size < 0:
            return b"".join(iter(lambda: self.read(1 << 20), b""))
        if self._chunked and not self._left:
            self._left = self._next_chunk()
        piece = self._stream.read(min(size, self._left)) if self._left else b""
        if self._left and not piece:
            raise ConnectionError("the body ended early")
        self._left -= len(piece)
        if self._chunked and piece and not self._left:
            self._stream.readline()
        return piece

    def _next_chunk(self) -> int:
        size = int(self._stream.readline().split(b";")[0] or b"0", 16)
        if not size:
            self._chunked = False
            while self._stream.readline().strip():
                pass
        return size

    def drain(self) -> bool:
        """Read what is left, where that is little; say whether the connection can be used again."""
        left = DRAIN_BYTES
        while left > 0:
            piece = self.read(min(left, 1 << 16))
            if not piece:
                return True
            left -= len(piece)
        return False


class Answers(Protocol):
    """What a server asks for its answers."""

    def answer(self, request: Request) -> Reply:
        """Give the answer to a request; what goes wrong is an answer too."""


class Server:
    """Serve a router on the loopback interface while it is open; with a file of key and certificate, over TLS."""

    def __init__(self, router: Answers, port: int = 0, identity: Path | None = None) -> None:
        self._server = _Server(("127.0.0.1", port), _handler(router))
        if identity is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(identity)
            # the handshake is the connection's own thread's: a client that says nothing holds up nobody
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.port: int = self._server.server_address[1]
        self.address = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Serve from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Serve no longer, and end the connections that are open."""
        self._server.shutdown()
        self._server.server_close()
        self._server.end_connections()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep the terminal quiet: a client that goes away is no event."""

    def end_connections(self) -> None:
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # it has ended by itself
                continue


def _handler(router: Answers) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = "trilho"
        sys_version = ""
        disable_nagle_algorithm = True
        wbufsize = 1 << 16

        def _serve(self) -> None:
            body = Body(self.rfile, self._length())  # type: ignore[arg-type]
            parts = urlsplit(self.path)
            base = f"http://{self.headers.get('Host', '127.0.0.1')}"
            query = parse_qs(parts.query, keep_blank_values=True)
            request = Request(self.command, parts.path, query, self.headers, body, base)  # type: ignore[arg-type]
            reply = router.answer(request)
            self.close_connection = not body.drain() or self.close_connection
            self._send(reply)

        def _length(self) -> int | None:
            if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
                return None
            return int(self.headers.get("Content-Length") or 0)

        def _send(self, reply: Reply) -> None:
            known = reply.length if reply.length is not None else len(reply.body)  # type: ignore[arg-type]
            self.send_response(reply.status)
            for name, value in {**reply.headers, "Content-Length": str(known)}.items():
                self.send_header(name, value)
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            for piece in _pieces(reply.body):
                self.wfile.write(piece)
            self.wfile.flush()

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Keep the terminal quiet."""

    return Handler


def _pieces(body: bytes | Iterable[bytes]) -> Iterator[bytes]:
    yield from [body] if isinstance(body, bytes) else body
