"""The console's HTTP server: a thread of the platform's process, with an event loop of its own."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from granian.constants import Interfaces

from trilho.console.app import create_app
from trilho.console.source import Source
from trilho.errors import TrilhoError, Unreachable
from trilho_runtime.web.service import CannotStart, HttpServer, address_of, bind

LIMIT_SECONDS = 10.0
CONNECTIONS = 256


class ConsoleServer:
    """Serves the console of a source until stopped."""

    def __init__(self, source: Source, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._source, self._host, self._port = source, host, port
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: HttpServer | None = None
        self._started = threading.Event()

    def start(self) -> str:
        """Take the port, serve, and give the address. Raises TrilhoError when the port is taken."""
        try:
            listener = bind(self._host, self._port)
        except CannotStart as error:
            fact = str(error).partition("\n")[0]
            raise TrilhoError(
                f"the console cannot be served: {fact}", hint="give another --port, or 0 for a free one"
            ) from None
        self._thread = threading.Thread(target=self._run, args=(listener,), name="console", daemon=True)
        self._thread.start()
        if not self._started.wait(LIMIT_SECONDS):
            raise Unreachable(f"the console did not start in {LIMIT_SECONDS:.0f} s")
        return address_of(listener)

    def stop(self) -> None:
        """Let open pages go, and end."""
        self._stopping.set()
        if self._loop is not None and self._server is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._server.stop)
        if self._thread is not None:
            self._thread.join(LIMIT_SECONDS)

    def _run(self, listener: Any) -> None:
        asyncio.run(self._serve(listener))

    async def _serve(self, listener: Any) -> None:
        self._loop = asyncio.get_running_loop()
        app = create_app(self._source, hosts=[self._host], stopping=self._stopping)
        self._server = HttpServer(app, listener, CONNECTIONS, Interfaces.ASGINL)
        self._loop.call_soon(self._started.set)
        await self._server.serve()
