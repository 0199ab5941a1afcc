"""The routes as the supervisor last wrote them, followed for as long as the router runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection
from pathlib import Path

from trilho_runtime.routing.traffic import Route, Routes, RoutesError, Split, read_routes
from trilho_runtime.routing.upstream import Pool
from trilho_runtime.web.http import note

POLL_SECONDS = 0.05


class Table:
    """The routes as the supervisor last wrote them, and the connections to them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._pools: dict[str, Pool] = {}
        self._changed = asyncio.Event()
        self.routes = Routes()
        self.split = Split(())

    async def follow(self) -> None:
        """Look for a new routes file, for ever."""
        while True:
            self.look()
            await asyncio.sleep(POLL_SECONDS)

    def look(self) -> None:
        """Read the routes file if it is another one than before; keep the old routes when it is malformed."""
        try:
            stat = os.stat(self._path)  # noqa: PTH116  once in 50 ms
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except OSError:
            seen = (0, 0, 0)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._take(read_routes(self._path))
        except RoutesError as error:
            note(str(error))

    def _take(self, routes: Routes) -> None:
        self.routes, self.split = routes, Split(routes.routes, self.split)
        wanted = {route.address for route in routes.routes}
        for address in self._pools.keys() - wanted:
            self._pools.pop(address).retire()
        self._changed.set()
        self._changed = asyncio.Event()

    def choose(self, key: str | None, avoid: Collection[int], version: int | None = None) -> Route | None:
        """Choose who answers; a version that was asked for by number is the only choice while it is routed to."""
        if version is not None:
            named = [route for route in self.routes.routes if route.version == version]
            if named:
                return None if version in avoid else named[0]
        return self.split.choose(key, avoid)

    def pool(self, route: Route) -> Pool:
        """Give the connections to a version."""
        return self._pools.get(route.address) or self._pools.setdefault(route.address, Pool(route.address))

    async def change(self, seconds: float) -> None:
        """Wait for other routes, but not for long."""
        waiting = asyncio.ensure_future(self._changed.wait())
        await asyncio.wait({waiting}, timeout=seconds)
        waiting.cancel()
