"""OpenTelemetry traces of requests, where TRILHO_TRACES says to which collector: http://HOST:4318.

A request costs an append to a bounded queue. A thread of its own makes spans of them and sends them; when the collector
is slow or away, spans are lost, and no request waits or fails. Nothing of OpenTelemetry is imported before that thread
runs.
"""

from __future__ import annotations

import atexit
import os
import random
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from trilho_runtime.web.notes import note, read_traceparent

ENDPOINT, SHARE = "TRILHO_TRACES", "TRILHO_TRACES_SHARE"
QUEUED = 4096  # spans that wait for the thread; later ones are lost
BATCH = 512
EVERY_SECONDS = 0.5
SEND_SECONDS = 5
CLOSE_SECONDS = 2.0
SERVER, INTERNAL = "SERVER", "INTERNAL"


class Context(NamedTuple):
    """Where a span stands: its trace, itself, its parent, and whether it is kept."""

    trace: str
    span: str
    parent: str
    sampled: bool

    @property
    def traceparent(self) -> str:
        """Give W3C's header for whoever is called from within the span.

        >>> Context("a" * 32, "b" * 16, "", True).traceparent[-20:]
        '-bbbbbbbbbbbbbbbb-01'
        """
        return f"00-{self.trace}-{self.span}-{'01' if self.sampled else '00'}"


@dataclass(frozen=True)
class Span:
    """One span that has ended; times are nanoseconds since 1970."""

    context: Context
    name: str
    start: int
    end: int
    kind: str = INTERNAL
    failed: bool = False
    attributes: Mapping[str, Any] = field(default_factory=dict)


class Traces:
    """Spans on their way to a collector."""

    def __init__(self, endpoint: str, service: str, share: float = 1.0, model: str = "") -> None:
        self.model = model
        self._endpoint, self._service, self._share = endpoint.rstrip("/"), service, share
        self._queue: deque[Span] = deque(maxlen=QUEUED)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closing = threading.Event()

    def begin(self, traceparent: str = "") -> Context:
        """Begin a span: the caller decided whether its trace is kept; without one the share does."""
        told = read_traceparent(traceparent) if traceparent else None
        span = os.urandom(8).hex()
        if told is not None:
            return Context(told[0], span, told[1], told[2])
        return Context(os.urandom(16).hex(), span, "", random.random() < self._share)

    def child(self, of: Context) -> Context:
        """Begin a span within another."""
        return Context(of.trace, os.urandom(8).hex(), of.span, of.sampled)

    def add(self, span: Span) -> None:
        """Take a span that has ended; it never waits."""
        if not span.context.sampled:
            return
        self._queue.append(span)
        if self._thread is None:
            self._start()

    def add_request(self, request: Any, status: int) -> None:
        """Take a request that was answered; its rows' values stand nowhere in it."""
        if not request.trace.sampled:
            return
        scope, end = request.scope, time.time_ns()
        attributes: dict[str, Any] = {
            "http.request.method": scope.method,
            "http.response.status_code": status,
            "url.path": scope.path[:200],
            "trilho.rows": request.rows,
        }
        attributes |= {"trilho.model": self.model} if self.model else {}
        attributes |= {"trilho.version": request.version} if request.version is not None else {}
        start = end - int((time.perf_counter() - request.started) * 1e9)
        name = f"{scope.method} {scope.path[:200]}"
        self.add(Span(request.trace, name, start, end, SERVER, status >= 500, attributes))

    def close(self) -> None:
        """Send what waits, for a moment at most."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._carry, name="traces", daemon=True)
                self._thread.start()
                atexit.register(self.close)

    def _carry(self) -> None:
        try:
            exporter = Exporter(self._endpoint, self._service)
        except ImportError:
            note(f'{ENDPOINT} is set and no trace is sent: pip install "trilho-runtime[otel]"', "WARNING")
            self._share = 0.0
            return
        while True:
            last = self._closing.wait(EVERY_SECONDS)
            while self._queue:
                exporter.send([self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))])
            if last:
                return


class Exporter:
    """OpenTelemetry's own exporter over HTTP; imported here and nowhere else."""

    def __init__(self, endpoint: str, service: str) -> None:
        import logging

        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource

        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # what fails is said once, below
        self._exporter = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", timeout=SEND_SECONDS)
        self._resource = Resource.create({"service.name": service})
        self._endpoint, self._said = endpoint, False

    def send(self, spans: list[Span]) -> None:
        """Send spans; what the collector does not take is lost, and that is said once."""
        try:
            ok = self._exporter.export([self._span(span) for span in spans]).name == "SUCCESS"
        except Exception:  # noqa: BLE001  traces must not end anything
            ok = False
        if not ok and not self._said:
            note(f"traces do not reach {self._endpoint}; they are lost meanwhile", "WARNING")
        self._said = not ok

    def _span(self, span: Span) -> Any:
        from opentelemetry.sdk.trace import ReadableSpan
        from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

        trace, flags = int(span.context.trace, 16), TraceFlags(TraceFlags.SAMPLED)
        parent = None
        if span.context.parent:
            parent = SpanContext(trace, int(span.context.parent, 16), is_remote=True, trace_flags=flags)
        return ReadableSpan(
            span.name,
            context=SpanContext(trace, int(span.context.span, 16), is_remote=False, trace_flags=flags),
            parent=parent,
            resource=self._resource,
            attributes=dict(span.attributes),
            kind=SpanKind[span.kind],
            status=Status(StatusCode.ERROR if span.failed else StatusCode.UNSET),
            start_time=span.start,
            end_time=span.end,
        )


def open_traces(service: str, environ: Mapping[str, str] | None = None, *, model: str = "") -> Traces | None:
    """Give where spans go; None where the environment names no collector.

    >>> open_traces("server", {}) is None
    True
    """
    environ = os.environ if environ is None else environ
    endpoint = environ.get(ENDPOINT)
    if not endpoint:
        return None
    try:
        share = min(1.0, max(0.0, float(environ.get(SHARE) or 1.0)))
    except ValueError:
        share = 1.0
    return Traces(endpoint, service, share, model)
