from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from trilho_runtime.serving.batch import Inline, Worker


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
        assert (worker.waiting, worker.rows, worker.busy) == (5, 32, True)
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


def test_what_comes_in_one_round_of_the_loop_is_done_together_on_the_loop() -> None:
    turns: list[list[str]] = []
    threads: set[int] = set()

    def work(jobs: Sequence[Job]) -> list[str | Exception]:
        threads.add(threading.get_ident())
        turns.append([job.name for job in jobs])
        return [ValueError(job.name) if job.name == "bad" else job.name.upper() for job in jobs]

    async def run() -> None:
        inline: Inline[Job, str] = Inline(work, 10)

        async def ask(name: str, size: int = 1) -> str:
            return await inline.do(Job(name, size))

        asked = [ask("a", 4), ask("bad"), ask("b", 6), ask("c")]
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert [str(answer) for answer in found] == ["A", "bad", "B", "C"]
        assert (inline.waiting, inline.rows) == (0, 0)
        assert await ask("alone") == "ALONE"

    asyncio.run(run())
    assert turns == [["a", "bad"], ["b", "c"], ["alone"]]
    assert threads == {threading.get_ident()}


def test_a_caller_that_left_and_a_turn_that_failed_leave_the_next_ones_alone() -> None:
    failing = [True]

    def work(jobs: Sequence[Job]) -> list[str | Exception]:
        if failing.pop() if failing else False:
            raise RuntimeError("broken")
        return [job.name for job in jobs]

    async def run() -> None:
        inline: Inline[Job, str] = Inline(work, 10)
        left, failed = inline.do(Job("left")), inline.do(Job("failed"))
        left.cancel()
        with pytest.raises(RuntimeError, match="broken"):
            await failed
        assert await inline.do(Job("next")) == "next"

    asyncio.run(run())


def test_a_turn_waits_a_few_rounds_for_requests_that_are_on_their_way() -> None:
    async def turns(coming: list[int], late: int) -> tuple[list[list[str]], int]:
        done: list[list[str]] = []
        aside = 0

        def step_aside() -> None:
            nonlocal aside
            aside += 1
            if aside == late:
                coming.clear()
                asyncio.get_running_loop().call_soon(lambda: asked.append(inline.do(Job("late"))))

        def work(jobs: Sequence[Job]) -> list[str | Exception]:
            done.append([job.name for job in jobs])
            return [job.name for job in jobs]

        inline: Inline[Job, str] = Inline(work, 10, coming=lambda: len(coming), step_aside=step_aside)
        asked = [inline.do(Job("first"))]
        while not all(one.done() for one in asked):
            await asyncio.sleep(0)
        return done, aside

    assert asyncio.run(turns([], 1)) == ([["first", "late"]], 1)
    assert asyncio.run(turns([1], 3)) == ([["first", "late"]], 3)
    assert asyncio.run(turns([1], 99)) == ([["first"]], 3)
