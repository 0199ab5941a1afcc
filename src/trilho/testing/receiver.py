"""A local stand-in for Slack and Teams: keeps each message it is sent in a file."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

LARGEST = 1_000_000


class Receiver:
    """Receive webhooks on the loopback interface while it is open.

    Messages are kept as FOLDER/<channel>/<number>.json. `failures` says how many requests to refuse with 503 first.
    """

    def __init__(self, folder: Path, failures: int = 0) -> None:
        self.folder, self.failures = folder, failures
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def address(self, channel: str) -> str:
        """Give the webhook address of a channel."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/{channel}"

    def messages(self, channel: str) -> list[Any]:
        """Give what a channel has received, oldest first."""
        return [json.loads(path.read_text()) for path in sorted((self.folder / channel).glob("*.json"))]

    def take(self, path: str, body: bytes) -> int:
        """Keep one message; give the HTTP status."""
        channel = path.strip("/")
        try:
            message = json.loads(body)
        except ValueError:
            return 400
        if not channel.isalnum():
            return 404
        with self._lock:
            if self.failures > 0:
                self.failures -= 1
                return 503
            folder = self.folder / channel
            folder.mkdir(parents=True, exist_ok=True)
            number = len(list(folder.glob("*.json"))) + 1
            draft = folder / f"{number:06d}.draft"
            draft.write_text(json.dumps(message, indent=2))
            draft.replace(draft.with_suffix(".json"))
        return 200

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                status = receiver.take(self.path, self.rfile.read(length)) if length <= LARGEST else 413
                self.send_response(status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Keep the terminal quiet."""

        return Handler
