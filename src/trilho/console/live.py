"""Pages that stay true: a stream that says when something changed, so that a page fetches itself anew."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from hashlib import sha256

from trilho.console.source import Source
from trilho.console.views import names

PERIOD = 1.0
LIFETIME = 300.0  # browsers connect again by themselves; a stream never holds a server up for longer


class Pulse:
    """A short text that differs when anything shown has changed; read from the source once a second at most."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._read = 0.0
        self._token = ""

    def token(self) -> str:
        """Give the present token; one thread reads, the others wait for it."""
        with self._lock:
            if time.monotonic() - self._read >= PERIOD * 0.8:
                self._token = self._look()
                self._read = time.monotonic()
            return self._token

    def _look(self) -> str:
        state = self._source.state()
        facts = [repr(state.seq)]
        for name in names(self._source, state):
            readings = self._source.readings(name)
            endpoint = self._source.endpoint(name)
            facts.append(
                f"{name} {len(readings)} {sum(x.labelled for x in readings[-50:])} {self._source.labels(name)}"
            )
            if endpoint is not None:
                facts.append(f"{endpoint.running} {endpoint.versions} {endpoint.stats}")
        return sha256("\n".join(facts).encode()).hexdigest()[:16]


async def events(pulse: Pulse, stopping: threading.Event | None) -> AsyncIterator[bytes]:
    """Send the token whenever it changes, and a comment now and then so that a dead line is noticed."""
    yield b"retry: 1500\n\n"
    last, begun, spoke = "", time.monotonic(), time.monotonic()
    while time.monotonic() - begun < LIFETIME and not (stopping and stopping.is_set()):
        token = await asyncio.to_thread(pulse.token)
        if token != last:
            last, spoke = token, time.monotonic()
            yield f"data: {token}\n\n".encode()
        elif time.monotonic() - spoke > 15:
            spoke = time.monotonic()
            yield b": still here\n\n"
        await _pause(stopping)


async def _pause(stopping: threading.Event | None) -> None:
    for _ in range(10):
        if stopping is not None and stopping.is_set():
            return
        await asyncio.sleep(PERIOD / 10)
