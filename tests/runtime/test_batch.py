from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from trilho_runtime.batch import Worker


@dataclass(frozen=True)
class Job:
    name: str
    size: int = 1


class Recorder:
    """Does jobs, noting which came together; the first turn waits until it may go."""

    def __init__(self) -> None:
        self.turns: list[list[str]] = []
        self.go = threading.Event()

    def work(self, jobs: Sequence[Job]) -> list[str | Exception]:
        self.turns.append([job.name for job in jobs])
        assert self.go.wait(10)
        return [ValueError(job.name) if job.name == "bad" else job.name.upper() for job in jobs]


def test_what_waits_is_done_together_up_to_the_limit_of_rows_and_in_order() -> None:
    async def run() -> list[str]:
        recorder = Recorder()
        worker: Worker[Job, str] = Worker(recorder.work, 10)
        jobs = [Job("a"), Job("b", 4), Job("c", 6), Job("d", 1), Job("e", 20), Job("f", 1)]
        tasks = [asyncio.ensure_future(worker.do(job)) for job in jobs]
        await asyncio.sleep(0)
        assert worker.waiting == 5
        recorder.go.set()
        answers = await asyncio.gather(*tasks)
        assert recorder.turns == [["a"], ["b", "c"], ["d"], ["e"], ["f"]]
        return list(answers)

    assert asyncio.run(run()) == ["A", "B", "C", "D", "E", "F"]


def test_an_error_is_its_own_jobs_only_and_a_caller_that_left_harms_nobody() -> None:
    async def run() -> None:
        recorder = Recorder()
        worker: Worker[Job, str] = Worker(recorder.work, 10)
        first = asyncio.ensure_future(worker.do(Job("first")))
        bad, left, good = (asyncio.ensure_future(worker.do(Job(name))) for name in ("bad", "left", "good"))
        await asyncio.sleep(0)
        left.cancel()
        recorder.go.set()
        assert await first == "FIRST"
        with pytest.raises(ValueError, match="bad"):
            await bad
        assert await good == "GOOD"

    asyncio.run(run())


def test_work_that_fails_as_a_whole_fails_every_job_and_the_next_turn_runs() -> None:
    failing = [True]

    def work(jobs: Sequence[Job]) -> list[str | Exception]:
        if failing.pop() if failing else False:
            raise RuntimeError("broken")
        return [job.name for job in jobs]

    async def run() -> None:
        worker: Worker[Job, str] = Worker(work, 10)
        with pytest.raises(RuntimeError, match="broken"):
            await worker.do(Job("a"))
        assert await worker.do(Job("b")) == "b"

    asyncio.run(run())
