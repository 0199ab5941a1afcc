"""A server for a model.joblib or model.pkl, as Vertex AI's prebuilt images have one; run by the model's interpreter.

    PYTHON PREBUILT FOLDER       where PREBUILT is the folder of this file

It is a script that imports nothing of trilho's, since the interpreter is the user's.
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def load(folder: Path) -> Any:
    """Load the model of a folder, which its owner uploaded: unpickling runs what is in it."""
    if (file := folder / "model.joblib").exists():
        return importlib.import_module("joblib").load(file)
    with (folder / "model.pkl").open("rb") as stream:
        return pickle.load(stream)  # noqa: S301


def handler_of(model: Any) -> type[BaseHTTPRequestHandler]:
    """Make the handler that answers for a model."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(200, {"status": "ready"})

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                found = model.predict(asked["instances"])
            except Exception as error:  # noqa: BLE001  whatever the model makes of the rows is the caller's to know
                self._send(400, {"error": f"{type(error).__name__}: {error}"})
            else:
                self._send(200, {"predictions": found.tolist() if hasattr(found, "tolist") else list(found)})

        def _send(self, status: int, document: Any) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Keep the log for what goes wrong."""

    return Handler


def main() -> None:
    """Serve the model of the folder that is named."""
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["AIP_HTTP_PORT"])), handler_of(load(Path(sys.argv[1]))))
    server.serve_forever()


if __name__ == "__main__":
    main()
