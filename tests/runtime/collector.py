"""A collector of traces on loopback: OTLP over HTTP, as far as the tests ask it."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Collector:
    """What was exported: spans as dictionaries, by the order in which they came."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.asked = 0
        self.spans: list[dict[str, Any]] = []
        self.url = ""
        self._came = threading.Condition()

    def take(self, body: bytes) -> None:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        message = ExportTraceServiceRequest.FromString(body)
        with self._came:
            self.asked += 1
            for group in message.resource_spans:
                service = {x.key: x.value.string_value for x in group.resource.attributes}["service.name"]
                for scope in group.scope_spans:
                    self.spans += [_told(span, service) for span in scope.spans]
            self._came.notify_all()

    def wait(self, count: int, seconds: float = 20.0) -> list[dict[str, Any]]:
        """Wait for so many spans."""
        with self._came:
            assert self._came.wait_for(lambda: len(self.spans) >= count, seconds), self.spans
            return list(self.spans)


def _told(span: Any, service: str) -> dict[str, Any]:
    values = {x.key: getattr(x.value, x.value.WhichOneof("value")) for x in span.attributes}
    return {
        "name": span.name, "trace": span.trace_id.hex(), "span": span.span_id.hex(), "service": service,
        "parent": span.parent_span_id.hex(), "failed": span.status.code == 2, "kind": span.kind,
        "seconds": (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9, **values,
    }  # fmt: skip


@contextmanager
def collector(status: int = 200) -> Iterator[Collector]:
    """Run a collector on a free port."""
    told = Collector(status)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            assert self.path == "/v1/traces"
            told.take(body)
            self.send_response(told.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    told.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
