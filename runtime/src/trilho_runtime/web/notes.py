"""The server's own log: notes as text, or one JSON object a line in the shape that Cloud Logging reads.

Nothing that a caller sent stands in a line: no values of rows, no query, no header but the user agent.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from dataclasses import dataclass
from typing import Any, Literal

import orjson

Wanted = Literal["none", "errors", "all"]
Format = Literal["text", "json"]
LONGEST_TEXT = 200
NOT_YET = 503
TRACE_LENGTH, SPAN_LENGTH = 32, 16


@dataclass
class Writer:
    """How this process writes its log; `project` makes a trace one of Cloud Trace's."""

    format: Format = "text"
    project: str = ""

    def write(self, text: str, severity: str = "ERROR", **more: Any) -> None:
        """Write one entry, whatever the state of the disk or pipe under it."""
        if self.format == "json":
            text = orjson.dumps({"severity": severity, "time": _now(), "message": text, **more}).decode()
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()


WRITER = Writer()


def note(text: str, severity: str = "ERROR") -> None:
    """Write a line to the server's own log, whatever the state of the disk under it."""
    WRITER.write(text, severity)


def use_format(wanted: Format, project: str | None = None) -> None:
    """Choose how this process writes its log, before it writes anything."""
    WRITER.format = wanted
    WRITER.project = project or os.environ.get("GOOGLE_CLOUD_PROJECT", "")


class RequestNotes:
    """Writes a line for a request that is answered: for none, for those that failed, or for all."""

    def __init__(self, wanted: Wanted = "errors", writer: Writer = WRITER) -> None:
        self._from = {"none": 1000, "errors": 400, "all": 0}[wanted]
        self._writer = writer

    def add(self, request: Any, answer: Any, size: int) -> None:
        """Write down what became of a request, if that is wanted."""
        if answer.status < self._from:
            return
        if self._from and answer.status == NOT_YET and request.scope.method in ("GET", "HEAD"):
            return  # whoever waits for a model asks again and again
        scope, seconds = request.scope, time.perf_counter() - request.started
        text = f"{scope.method} {scope.path[:LONGEST_TEXT]} {answer.status}"
        if self._writer.format == "text":
            self._writer.write(f"{text} in {seconds * 1000:.1f} ms, request {request.id}")
            return
        told = {
            "httpRequest": {
                "requestMethod": scope.method,
                "requestUrl": scope.path[:LONGEST_TEXT],
                "status": answer.status,
                "requestSize": scope.headers.get("content-length", "0"),
                "responseSize": str(size),
                "latency": f"{seconds:.6f}s",
                "userAgent": scope.headers.get("user-agent", "")[:LONGEST_TEXT],
                "protocol": f"HTTP/{scope.http_version}",
            },
            "request_id": request.id,
            **({"rows": request.rows} if request.rows else {}),
            **({"version": request.version} if request.version is not None else {}),
            **_failure(answer),
            **trace_of(scope.headers, self._writer.project),
        }
        self._writer.write(text, severity_of(answer.status), **told)


def severity_of(status: int) -> str:
    """Give the severity of an answer: ERROR is ours, WARNING the caller's.

    >>> [severity_of(status) for status in (200, 422, 503)]
    ['INFO', 'WARNING', 'ERROR']
    """
    return "INFO" if status < 400 else "WARNING" if status < 500 else "ERROR"


def _failure(answer: Any) -> dict[str, Any]:
    """Give what failed; of rows only field and row, since the text of that error quotes the value."""
    payload = answer.payload
    if answer.status < 400 or not isinstance(payload, dict):
        return {}
    kept = ("field", "row") if answer.status in (400, 422) and "row" in payload else ("error", "field")
    return {name: payload[name] for name in kept if name in payload}


def trace_of(headers: Any, project: str) -> dict[str, Any]:
    """Give the trace that a request belongs to, by W3C's traceparent or else X-Cloud-Trace-Context.

    >>> trace_of({"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}, "p")["logging.googleapis.com/trace"][:19]
    'projects/p/traces/a'
    """
    told = read_traceparent(headers.get("traceparent", ""))
    trace, span, sampled = told or _google(headers.get("x-cloud-trace-context", ""))
    if not trace:
        return {}
    return {
        "logging.googleapis.com/trace": f"projects/{project}/traces/{trace}" if project else trace,
        **({"logging.googleapis.com/spanId": span} if span else {}),
        "logging.googleapis.com/trace_sampled": sampled,
    }


def read_traceparent(text: str) -> tuple[str, str, bool] | None:
    """Give trace, span and whether it is sampled, of W3C's header; None for what is none."""
    parts = text.split("-")
    if len(parts) < 4 or not (_is_hex(parts[1], TRACE_LENGTH) and _is_hex(parts[2], SPAN_LENGTH)):
        return None
    return parts[1], parts[2], parts[3][-1:] in set("13579bdf")


def _google(text: str) -> tuple[str, str, bool]:
    trace, _, rest = text.partition("/")
    if not _is_hex(trace, TRACE_LENGTH):
        return "", "", False
    span, _, options = rest.partition(";")
    number = int(span) if span.isascii() and span.isdigit() and len(span) <= 20 else 0
    return trace, f"{number:016x}" if 0 < number < 2**64 else "", options == "o=1"


def _is_hex(text: str, length: int) -> bool:
    return len(text) == length and set(text) <= set("0123456789abcdef") and set(text) != {"0"}


def _now() -> str:
    seconds, rest = divmod(time.time_ns() // 1_000_000, 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:03d}Z"
