"""A prediction server with the real one's command line and no model: what its folder's behaviour.json says, it does."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("package", type=Path)
    for name in ("--version", "--port", "--parent-pipe"):
        parser.add_argument(name, type=int, required=True)
    for name in ("--host", "--log", "--ready-file"):
        parser.add_argument(name, required=True)
    parser.add_argument("--digest")
    given, told = parser.parse_known_args()
    behaviour: dict[str, Any] = json.loads((given.package / "behaviour.json").read_text())
    if behaviour.get("broken"):
        sys.exit("PackageError: estimator.pkl was changed")
    warm_at = time.monotonic() + behaviour.get("warm_seconds", 0)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet

        def do_GET(self) -> None:
            self._answer({"version": given.version, "digest": given.digest, "told": told})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            time.sleep(behaviour.get("answer_seconds", 0))
            self._answer({"version": given.version, "pid": os.getpid()})

        def _answer(self, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(200 if time.monotonic() >= warm_at else 503)
            self.send_header("content-length", str(len(data)))
            self.send_header("x-trilho-rows", "1")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer((given.host, given.port), Handler)
    server.daemon_threads = False
    port = server.server_address[1]

    def end_with_parent() -> None:
        os.read(given.parent_pipe, 1)
        os._exit(0)

    threading.Thread(target=end_with_parent, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    draft = Path(f"{given.ready_file}.draft")
    draft.write_text(json.dumps({"pid": os.getpid(), "port": port, "address": f"http://{given.host}:{port}"}))
    draft.replace(given.ready_file)
    server.serve_forever(poll_interval=0.02)
    os._exit(0)


if __name__ == "__main__":
    main()
