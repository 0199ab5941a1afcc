"""One thread for the model: what waits while it computes is taken together in the next turn.

A table of twenty rows costs an estimator hardly more than a table of one, so callers that come at the same time do not
wait for each other twenty times over. A caller that comes alone waits for nobody.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """A job that says how many rows it has."""

    @property
    def size(self) -> int:
        """Give the number of rows."""


J = TypeVar("J", bound=Sized)
R = TypeVar("R")
Work = Callable[[Sequence[J]], Sequence["R | Exception"]]


class Worker(Generic[J, R]):
    """Does jobs in one thread, as many at once as are waiting, up to a number of rows."""

    def __init__(self, work: Callable[[Sequence[J]], Sequence[R | Exception]], rows: int) -> None:
        self._work = work
        self._rows = rows
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._waiting: deque[tuple[J, asyncio.Future[R]]] = deque()
        self._busy = False

    async def do(self, job: J) -> R:
        """Wait for a job's turn and give its result."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, future))
        self._turn()
        return await future

    @property
    def waiting(self) -> int:
        """Give the number of jobs that wait for a turn."""
        return len(self._waiting)

    def _turn(self) -> None:
        if self._busy or not self._waiting:
            return
        self._busy = True
        taken = [self._waiting.popleft()]
        rows = taken[0][0].size
        while self._waiting and rows + self._waiting[0][0].size <= self._rows:
            rows += self._waiting[0][0].size
            taken.append(self._waiting.popleft())
        done = asyncio.get_running_loop().run_in_executor(self._pool, self._work, [job for job, _ in taken])
        done.add_done_callback(partial(self._finish, [future for _, future in taken]))

    def _finish(self, futures: Sequence[asyncio.Future[R]], done: asyncio.Future[Sequence[R | Exception]]) -> None:
        self._busy = False
        failure = done.exception()
        outcomes = [failure] * len(futures) if failure is not None else done.result()
        for future, outcome in zip(futures, outcomes, strict=True):
            if future.done():
                continue  # its caller is gone
            if isinstance(outcome, BaseException):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
        self._turn()
