"""Group commit: one sync of the log for all that was written before it began.

A disk takes as long to keep one line as to keep a hundred, so those who write while it works share the next sync.
"""

from __future__ import annotations

import asyncio

from trilho_runtime.prediction.served import ServedLog


class Commits:
    """Syncs a log in a thread, one sync at a time."""

    def __init__(self, log: ServedLog) -> None:
        self._log = log
        self._next: asyncio.Future[bool] | None = None
        self._rows = 0
        self._running = False

    async def wait(self, rows: int) -> bool:
        """Wait until what was written before is on the disk, and say whether it is there."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
            self._rows = 0
        waiting = self._next
        self._rows += rows
        self._begin()
        return await asyncio.shield(waiting)  # a caller that leaves takes nobody with it

    def _begin(self) -> None:
        if self._running or self._next is None:
            return
        self._running = True
        waiting, self._next = self._next, None
        done = asyncio.get_running_loop().run_in_executor(None, self._log.sync, self._rows)
        done.add_done_callback(lambda sync: self._end(sync, waiting))

    def _end(self, sync: asyncio.Future[bool], waiting: asyncio.Future[bool]) -> None:
        self._running = False
        waiting.set_result(sync.exception() is None and sync.result())
        self._begin()
