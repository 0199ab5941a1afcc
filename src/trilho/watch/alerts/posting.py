"""One HTTP POST with an end: whatever the receiver does, an answer or a problem comes within the budget."""

from __future__ import annotations

import http.client
import socket
import threading
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import SplitResult, urlsplit

from trilho.watch.alerts.letter import Undelivered

BUDGET_SECONDS = 10.0
LONGEST_ANSWER = 4096
LONGEST_WAIT = 6 * 3600.0
CHANNEL_WIDE = frozenset({401, 403, 404, 408, 410, 429})  # these say something of the channel, others of the message


@dataclass(frozen=True)
class Answer:
    """What a receiver answered."""

    status: int
    headers: Mapping[str, str]
    text: str


def post(what: str, address: str, body: bytes, headers: Mapping[str, str], budget: float = BUDGET_SECONDS) -> Answer:
    """Post a body; give the answer where it is a success. Raises Undelivered.

    A redirection is none: to follow it would turn the message into a GET. The address is a secret; no problem names it.
    """
    parts = urlsplit(address)
    connection = _connection(parts, budget)
    watchdog = threading.Timer(budget, _cut, [connection])  # a socket's own timeout begins anew with each byte
    watchdog.daemon = True
    begun = False
    try:
        watchdog.start()
        connection.connect()
        begun = True
        path = address if _proxied(parts) and parts.scheme == "http" else _path(parts)
        connection.request("POST", path, body, dict(headers))
        response = connection.getresponse()
        answer = Answer(response.status, dict(response.getheaders()), _text(response))
    except (OSError, http.client.HTTPException, ValueError) as error:
        said = "no answer in time" if isinstance(error, TimeoutError) else _said(error)
        raise Undelivered(f"{what}: {said}", unsure=begun) from None
    finally:
        watchdog.cancel()
        connection.close()
    if not 200 <= answer.status < 300:
        everyone = answer.status in CHANNEL_WIDE or answer.status >= 500 or answer.status < 400
        raise Undelivered(f"{what} answered {answer.status}", wait=_wait(answer.headers), everyone=everyone)
    return answer


def _connection(parts: SplitResult, budget: float) -> http.client.HTTPConnection:
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    proxy = _proxied(parts)
    if not proxy:
        return kind(parts.hostname or "", parts.port, timeout=budget)
    via = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    connection = kind(via.hostname or "", via.port or 3128, timeout=budget)
    if parts.scheme == "https":
        connection.set_tunnel(parts.hostname or "", parts.port or 443)
    return connection


def _proxied(parts: SplitResult) -> str:
    """Give the proxy for an address, as the environment names it; none for what it excepts."""
    host = parts.hostname or ""
    return "" if urllib.request.proxy_bypass(host) else urllib.request.getproxies().get(parts.scheme, "")


def _path(parts: SplitResult) -> str:
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _text(response: http.client.HTTPResponse) -> str:
    return response.read(LONGEST_ANSWER).decode("utf-8", "replace")


def _cut(connection: http.client.HTTPConnection) -> None:
    found = connection.sock
    if found is not None:
        with suppress(OSError):
            found.shutdown(socket.SHUT_RDWR)


def _said(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:200]


def _wait(headers: Mapping[str, str]) -> float | None:
    asked = next((value.strip() for name, value in headers.items() if name.lower() == "retry-after"), "")
    return parse_wait(asked)


def parse_wait(asked: str) -> float | None:
    """Read a Retry-After header, seconds or a date; at most six hours.

    >>> parse_wait("30"), parse_wait("soon"), parse_wait("Thu, 01 Jan 1970 00:00:00 GMT")
    (30.0, None, 0.0)
    """
    if asked.isascii() and asked.isdigit():
        return min(float(asked), LONGEST_WAIT)
    try:
        moment = parsedate_to_datetime(asked)
    except (TypeError, ValueError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max((moment - datetime.now(UTC)).total_seconds(), 0.0), LONGEST_WAIT)
