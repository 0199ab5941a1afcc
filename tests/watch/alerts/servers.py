"""Receivers on the loopback interface that take, refuse, stall and lose; and a small stand-in for Slack's API."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from tests.watch.alerts.limits import check_blocks

Act = int | str | tuple[int, dict[str, str]]  # a status, "stall", "close", "lose", "trickle", or a status with headers


class Got(NamedTuple):
    """A request that has arrived."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class _Loopback:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.released = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Any:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/"

    def answer(self, got: Got, handler: BaseHTTPRequestHandler) -> None:
        raise NotImplementedError

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.answer(Got(self.path, {k.lower(): v for k, v in self.headers.items()}, body), self)

            do_GET = do_POST  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Keep the terminal quiet."""

        return Handler


def reply(handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
    """Answer a request."""
    handler.send_response(status)
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


class Faulty(_Loopback):
    """A webhook's receiver that does what its script says, one act a request, and then takes everything."""

    def __init__(self, *script: Act) -> None:
        super().__init__()
        self.script = list(script)
        self.got: list[Got] = []  # whatever arrived
        self.taken: list[Got] = []  # what it has kept
        self.stalling = threading.Event()

    def answer(self, got: Got, handler: BaseHTTPRequestHandler) -> None:
        with self.lock:
            act: Act = self.script.pop(0) if self.script else 200
            self.got.append(got)
            if act in (200, 202, "lose"):
                self.taken.append(got)
        if isinstance(act, int):
            reply(handler, act, b"ok")
        elif isinstance(act, tuple):
            reply(handler, act[0], b"no", act[1])
        elif act == "stall":
            self.stalling.set()
            self.released.wait(60)
        elif act == "trickle":
            handler.wfile.write(b"HTTP/1.1 2")
            until = time.monotonic() + 60
            while not self.released.wait(0.02) and time.monotonic() < until:
                try:
                    handler.wfile.write(b"x")
                except OSError:
                    return
        handler.close_connection = True  # "close" and "lose" say nothing at all


class FakeSlack(_Loopback):
    """chat.postMessage, chat.update, conversations.history and .replies, and the upload of files."""

    TOKEN = "xoxb-test"  # not-a-secret

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[dict[str, Any]] = []
        self.files: list[dict[str, Any]] = []
        self.uploads: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.faults: dict[str, list[Act | str]] = {}  # by method: an error's name, a status, "lose" (done, not said)
        self.scopes = {"chat:write", "files:write", "channels:history"}

    def answer(self, got: Got, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(got.path)
        method = parts.path.strip("/")
        with self.lock:
            self.calls.append(method)
            fault = self.faults[method].pop(0) if self.faults.get(method) else None
            if method.startswith("upload"):
                self.uploads[method] = got.body
                reply(handler, 200, b"OK")
                return
            if isinstance(fault, int):
                reply(handler, fault, b"{}")
                return
            if isinstance(fault, tuple):
                reply(handler, fault[0], b'{"ok": false, "error": "ratelimited"}', fault[1])
                return
            body = {"ok": False, "error": fault} if fault not in (None, "lose") else self._do(method, parts.query, got)
        if fault == "lose":
            handler.close_connection = True
            return
        reply(handler, 200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _do(self, method: str, query: str, got: Got) -> dict[str, Any]:
        if got.headers.get("authorization") != f"Bearer {self.TOKEN}":
            return {"ok": False, "error": "invalid_auth"}
        kind = got.headers.get("content-type", "")
        form = {k: v[0] for k, v in parse_qs(query or got.body.decode()).items()} if "json" not in kind else got.json
        acts: dict[str, tuple[str, Callable[[dict[str, Any]], dict[str, Any]]]] = {
            "chat.postMessage": ("chat:write", self._post),
            "chat.update": ("chat:write", self._update),
            "conversations.history": ("channels:history", self._history),
            "conversations.replies": ("channels:history", self._replies),
            "files.getUploadURLExternal": ("files:write", self._upload),
            "files.completeUploadExternal": ("files:write", self._complete),
        }
        scope, act = acts[method]
        if scope not in self.scopes:
            return {"ok": False, "error": "missing_scope", "needed": scope}
        return act(form)

    def _post(self, form: dict[str, Any]) -> dict[str, Any]:
        check_blocks(_read(form["blocks"]))
        message = {**form, "blocks": _read(form["blocks"]), "metadata": _read(form["metadata"])}
        message["ts"] = f"{1700000000 + len(self.messages)}.000100"
        self.messages.append(message)
        return {"ok": True, "ts": message["ts"], "channel": form["channel"]}

    def _update(self, form: dict[str, Any]) -> dict[str, Any]:
        check_blocks(_read(form["blocks"]))
        for message in self.messages:
            if message["ts"] == form["ts"]:
                message |= {"text": form["text"], "blocks": _read(form["blocks"]), "metadata": _read(form["metadata"])}
                return {"ok": True, "ts": form["ts"], "channel": form["channel"]}
        return {"ok": False, "error": "message_not_found"}

    def _history(self, form: dict[str, Any]) -> dict[str, Any]:
        return self._shown(form, [m for m in reversed(self.messages) if "thread_ts" not in m])

    def _replies(self, form: dict[str, Any]) -> dict[str, Any]:
        found = [m for m in self.messages if form["ts"] in (m["ts"], m.get("thread_ts"))]
        files = [{"ts": "1", "files": [f]} for f in self.files if f["thread_ts"] == form["ts"]]
        return self._shown(form, [*found, *files])

    def _shown(self, form: dict[str, Any], found: list[dict[str, Any]]) -> dict[str, Any]:
        whole = str(form.get("include_all_metadata", "")).lower() in ("1", "true")
        messages = found if whole else [{k: v for k, v in m.items() if k != "metadata"} for m in found]
        first = int(form.get("cursor") or 0)
        more = str(first + 2) if len(messages) > first + 2 else ""  # two a page
        return {"ok": True, "messages": messages[first : first + 2], "response_metadata": {"next_cursor": more}}

    def _upload(self, form: dict[str, Any]) -> dict[str, Any]:
        number = f"F{len(self.files)}"
        self.files.append({"id": number, "name": form["filename"], "thread_ts": ""})
        return {"ok": True, "file_id": number, "upload_url": f"{self.address}upload/{number}"}

    def _complete(self, form: dict[str, Any]) -> dict[str, Any]:
        (named,) = _read(form["files"])
        found = next(f for f in self.files if f["id"] == named["id"])
        found |= {"thread_ts": form["thread_ts"], "title": named["title"]}
        return {"ok": True, "files": [found]}


def _read(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value
