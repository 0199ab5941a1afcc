"""Turns: what waits is taken together.

A table of twenty rows costs an estimator hardly more than a table of one, so callers that come at the same time do not
wait for each other twenty times over. A caller that comes alone waits for nobody. A slow model gets a thread, so that
the loop goes on answering; for a quick one the way to a thread and back would take longer than the work.

What has come over the network is in the hands of other threads until Python lets them run, which a busy loop does for
microseconds only. So before its turn the loop steps aside once, and again while requests are on their way.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

ROUNDS = 3  # of the loop, at most, that a turn waits for requests on their way


class Sized(Protocol):
    """A job that says how many rows it has."""

    @property
    def size(self) -> int:
        """Give the number of rows."""


J = TypeVar("J", bound=Sized)
R = TypeVar("R")
Work = Callable[[Sequence[J]], Sequence["R | Exception"]]


class Queue(Generic[J, R]):
    """Jobs that wait for a turn, in order, and where their results go."""

    def __init__(self, rows: int) -> None:
        self._most = rows
        self._jobs: deque[tuple[J, asyncio.Future[R]]] = deque()
        self.rows = 0

    def __len__(self) -> int:
        return len(self._jobs)

    def put(self, job: J) -> asyncio.Future[R]:
        """Append a job and give its result to come."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._jobs.append((job, future))
        self.rows += job.size
        return future

    def take(self) -> tuple[list[J], list[asyncio.Future[R]]]:
        """Take the first job, and those after it as long as they have no more than so many rows together."""
        jobs: list[J] = []
        futures: list[asyncio.Future[R]] = []
        rows = 0
        while self._jobs and (not jobs or rows + self._jobs[0][0].size <= self._most):
            job, future = self._jobs.popleft()
            rows += job.size
            jobs.append(job)
            futures.append(future)
        self.rows -= rows
        return jobs, futures


class Inline(Generic[J, R]):
    """Does jobs on the loop: those that came within a few of its rounds together, up to a number of rows.

    `coming` says how many more are on their way: their turn is the same where they arrive in the next rounds.
    """

    def __init__(
        self,
        work: Callable[[Sequence[J]], Sequence[R | Exception]],
        rows: int,
        *,
        coming: Callable[[], int] = lambda: 0,
        step_aside: Callable[[], Any] | None = None,
    ) -> None:
        self._work = work
        self._queue: Queue[J, R] = Queue(rows)
        self._called = False
        self._coming = coming
        self._step_aside = step_aside or yielding()
        self._rounds = 0

    def do(self, job: J) -> asyncio.Future[R]:
        """Give a job's result to come, a few rounds of the loop from now at the latest."""
        future = self._queue.put(job)
        self._call()
        return future

    @property
    def waiting(self) -> int:
        """Give the number of jobs that wait for a turn."""
        return len(self._queue)

    @property
    def rows(self) -> int:
        """Give the number of rows that wait for a turn."""
        return self._queue.rows

    def _call(self) -> None:
        if not self._called:
            self._called = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        if not self._rounds or (self._rounds < ROUNDS and self._coming()):
            self._rounds += 1
            self._step_aside()
            asyncio.get_running_loop().call_soon(self._turn)
            return
        self._called, self._rounds = False, 0
        jobs, futures = self._queue.take()
        try:
            outcomes: Sequence[R | Exception] = self._work(jobs)
        except Exception as error:  # noqa: BLE001  each of them has to hear of it
            outcomes = [error] * len(jobs)
        _settle(futures, outcomes)
        if len(self._queue):
            self._call()


@functools.cache
def yielding() -> Callable[[], Any]:
    """Give what lets other threads run, Python's lock and the processor both free for them, and comes back at once."""
    import ctypes

    try:
        step_aside: Callable[[], Any] = ctypes.CDLL(None).sched_yield  # that of `os` keeps Python's lock
    except (AttributeError, OSError, TypeError):
        return lambda: None
    return step_aside


class Worker(Generic[J, R]):
    """Does jobs in one thread, as many at once as are waiting, up to a number of rows."""

    def __init__(self, work: Callable[[Sequence[J]], Sequence[R | Exception]], rows: int) -> None:
        self._work = work
        self._queue: Queue[J, R] = Queue(rows)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="model")
        self.busy = False

    async def do(self, job: J) -> R:
        """Wait for a job's turn and give its result."""
        future = self._queue.put(job)
        self._turn()
        return await future

    @property
    def waiting(self) -> int:
        """Give the number of jobs that wait for a turn."""
        return len(self._queue)

    @property
    def rows(self) -> int:
        """Give the number of rows that wait for a turn."""
        return self._queue.rows

    def _turn(self) -> None:
        if self.busy or not len(self._queue):
            return
        self.busy = True
        jobs, futures = self._queue.take()
        done = asyncio.get_running_loop().run_in_executor(self._pool, self._work, jobs)
        done.add_done_callback(partial(self._finish, futures))

    def _finish(self, futures: Sequence[asyncio.Future[R]], done: asyncio.Future[Sequence[R | Exception]]) -> None:
        self.busy = False
        failure = done.exception()
        _settle(futures, [failure] * len(futures) if failure is not None else done.result())
        self._turn()


def _settle(futures: Sequence[asyncio.Future[R]], outcomes: Sequence[R | BaseException]) -> None:
    for future, outcome in zip(futures, outcomes, strict=True):
        if future.done():
            continue  # its caller is gone
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
