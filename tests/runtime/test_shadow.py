"""The shadow: what it compares, and that nothing of it reaches a caller."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from trilho_runtime.prediction.log import LineLog
from trilho_runtime.routing.router import Router
from trilho_runtime.routing.routes import Table
from trilho_runtime.routing.scores import Score
from trilho_runtime.routing.shadow import WAITING, WORST, Answered, Mirror, ShadowCount, slices_of
from trilho_runtime.routing.traffic import Route, Routes, Split
from trilho_runtime.routing.upstream import Overdue, Pool, Reply, Unanswered
from trilho_runtime.web.http import Answer, Request

Behaviour = Callable[[bytes], Awaitable[Reply]]


def answer(*predictions: object, status: int = 200) -> Reply:
    ids = [f"a.{row}" for row in range(len(predictions))]
    return Reply(status, {}, json.dumps({"predictions": predictions, "ids": ids}).encode())


class Told(Pool):
    """A server that does what it is told."""

    def __init__(self, behaviour: Behaviour) -> None:
        super().__init__("http://127.0.0.1:2")
        self.behaviour, self.asked = behaviour, list[bytes]()

    async def send(self, request: bytes, seconds: float, again: Callable[[], bytes] | None = None) -> Reply:
        self.asked.append(request)
        return await self.behaviour(request)


def told(*replies: Reply | Exception) -> Behaviour:
    left = list(replies)

    async def behave(request: bytes) -> Reply:
        found = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(found, Exception):
            raise found
        return found

    return behave


def mirrored(behaviour: Behaviour, *champion: Reply, body: bytes = b"{}", **more: Any) -> ShadowCount:
    """Have a version asked about what the champion answered; give what was counted."""
    count = ShadowCount()

    async def run() -> None:
        mirror = Mirror(2, Told(behaviour), count)
        for reply in champion:
            mirror.offer(Answered(b"wire", body, reply, 0.001, **more))
            await mirror.settle()
        mirror.stop()

    asyncio.run(run())
    return count


def test_answers_to_the_same_rows_are_compared() -> None:
    count = mirrored(told(answer(110.0, 100.0)), answer(100.0, 130.0), edges=(105.0,))
    assert (count.requests, count.rows, count.disagreements) == (1, 2, 1)  # 110 is no more than a tenth from 100
    assert (count.sum, count.squares) == (-20.0, 1000.0)
    assert (count.pairs, count.moved) == (1, 0)
    assert count.to_json()["worst"] == [{"id": "a.1", "difference": -30.0}, {"id": "a.0", "difference": 10.0}]
    assert sum(count.latency.counts) == sum(count.champion_latency.counts) == 1


def test_a_score_has_moved_that_is_not_near_the_champions() -> None:
    edges = tuple(float(x) for x in range(1, 32))
    count = mirrored(told(answer(9.0), answer(10.0)), answer(1.0), answer(1.0), edges=edges)
    assert (count.pairs, count.moved) == (2, 1)


def test_the_worst_rows_are_few_and_hold_nothing_but_an_id_and_a_number() -> None:
    count = ShadowCount()
    for row in range(200):
        count.add_scores([Score(float(row))], [Score(0.0)], [f"id{row}"])
    worst = count.to_json()["worst"]
    assert [item["id"] for item in worst] == [f"id{row}" for row in range(199, 199 - WORST, -1)]
    assert set(worst[0]) == {"id", "difference"}


def test_differences_are_told_apart_by_slices() -> None:
    body = b'{"instances": [{"origin": "JFK", "cpf": "1"}, {"origin": "GRU", "cpf": "2"}]}'
    count = mirrored(told(answer(2.0, 5.0)), answer(1.0, 5.0), body=body, slices=("origin",))
    assert count.slices == {
        "origin=JFK": {"rows": 1, "disagreements": 1, "sum": 1.0},
        "origin=GRU": {"rows": 1, "disagreements": 0, "sum": 0.0},
    }
    assert slices_of(b'{"instances": [[1, "JFK"]]}', ["origin"], ["x", "origin"]) == [["origin=JFK"]]


def test_slices_stay_few() -> None:
    count = ShadowCount()
    for shop in range(500):
        count.add_scores([Score(1.0)], [Score(1.0)], ["a"], slices=[[f"shop={shop}"]])
    assert len(count.slices) == 51
    assert sum(part["rows"] for part in count.slices.values()) == 500


def test_failures_count_for_whoever_fails_alone() -> None:
    assert mirrored(told(Reply(500, {}, b"")), answer(1.0)).errors == 1
    assert mirrored(told(answer(1.0)), Reply(500, {}, b"")).champion_errors == 1
    both = mirrored(told(Reply(500, {}, b"")), Reply(500, {}, b""))
    assert (both.requests, both.errors, both.champion_errors) == (1, 0, 0)
    assert mirrored(told(Reply(422, {}, b"{}")), answer(1.0)).refused == 1
    assert mirrored(told(answer(1.0)), answer(1.0, 2.0)).refused == 1  # an answer to other rows is none
    loading = mirrored(told(Reply(503, {}, b"{}")), answer(1.0))
    assert (loading.requests, loading.dropped) == (0, 1)


@pytest.mark.parametrize("trouble", [Unanswered("broke", sent=True), Overdue("slow")])
def test_a_crash_is_one_error_and_then_nothing_is_sent_for_a_while(trouble: Exception) -> None:
    count = mirrored(told(trouble), *[answer(1.0)] * 50)
    assert (count.errors, count.dropped, count.requests) == (1, 49, 1)


def test_a_server_that_is_being_started_again_was_not_asked() -> None:
    count = mirrored(told(Unanswered("refused", sent=False)), *[answer(1.0)] * 3)
    assert (count.errors, count.requests, count.dropped) == (0, 0, 3)


def test_one_crash_with_several_requests_under_way_is_one_error() -> None:
    count = ShadowCount()

    async def run() -> None:
        crash = asyncio.Event()

        async def wait(request: bytes) -> Reply:
            await crash.wait()
            raise Unanswered("broke", sent=True)

        mirror = Mirror(2, Told(wait), count)
        for _ in range(4):
            mirror.offer(Answered(b"wire", b"{}", answer(1.0), 0.001))
        await asyncio.sleep(0)
        crash.set()
        await mirror.settle()
        mirror.stop()

    asyncio.run(run())
    assert (count.errors, count.requests, count.dropped) == (1, 1, 3)


def test_what_makes_no_sense_ends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    odd = Reply(200, {}, b'{"predictions": [{"0": 1e999, "1": null}]}')
    count = mirrored(told(odd, answer(1.0)), answer(1.0), answer(1.0))
    assert (count.requests, count.rows) == (2, 1)


def test_another_class_has_moved() -> None:
    cat, dog = {"cat": 0.6, "dog": 0.3, "eel": 0.1}, {"cat": 0.1, "dog": 0.8, "eel": 0.1}
    count = mirrored(told(answer(cat)), answer(dog))
    assert (count.pairs, count.moved, count.disagreements) == (1, 1, 1)


def test_a_queue_that_is_full_drops_and_counts_what_comes_next() -> None:
    count = ShadowCount()

    async def run() -> None:
        open_ = asyncio.Event()

        async def wait(request: bytes) -> Reply:
            await open_.wait()
            return answer(1.0)

        mirror = Mirror(2, Told(wait), count)
        for _ in range(WAITING + 36):
            mirror.offer(Answered(b"wire", b"{}", answer(1.0), 0.001))
        assert count.dropped == 36
        open_.set()
        await mirror.settle()
        mirror.stop()

    asyncio.run(run())
    assert count.requests == WAITING


# ---- in the router ---------------------------------------------------------------------------------------------


class Routed(Table):
    """One version serves, another is asked unseen."""

    def __init__(self, share: float) -> None:
        super().__init__(Path("/nowhere"))
        serving = (Route(1, "http://127.0.0.1:1", 100.0),)
        self.routes = Routes("m", 1, serving, 1, shadow=Route(2, "http://127.0.0.1:2", share))
        self.split = Split(serving)
        self.asked: list[bytes] = []

    def pool(self, route: Route) -> Pool:
        serving = Told(told(answer(1.0)))
        serving.asked = self.asked
        return serving


def request_of(body: bytes) -> Request:
    async def read() -> bytes:
        return body

    made = SimpleNamespace(
        id="r", body=read, scope=SimpleNamespace(path="/predict", headers={}), rows=0, version=None, trace=None
    )
    return cast(Request, made)


def ask(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, share: float, behaviour: Behaviour, times: int
) -> tuple[list[Answer], Router, Told, Routed]:
    shadow, table = Told(behaviour), Routed(share)
    monkeypatch.setattr("trilho_runtime.routing.router.Pool", lambda address: shadow)
    router = Router(table, LineLog(tmp_path))

    async def run() -> list[Answer]:
        answers = []
        for _ in range(times):
            answers.append(await router.predict(request_of(b'{"instances": [{}]}')))
            if router._mirror is not None and share < 100:
                await router._mirror.settle()
        return answers

    return asyncio.run(run()), router, shadow, table


def test_a_share_of_requests_is_asked_again_with_the_same_identity(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answers, router, shadow, table = ask(monkeypatch, tmp_path, 25, told(answer(3.0)), 20)
    assert {a.payload for a in answers} == {answer(1.0).body}
    assert router.counts.shadows[2].requests == len(shadow.asked) == 5

    def lines(wire: bytes) -> set[bytes]:
        return set(wire.split(b"\r\n"))

    assert all(b"x-trilho-shadow: 1" in lines(wire) for wire in shadow.asked)
    assert all(lines(wire) - {b"x-trilho-shadow: 1"} in [lines(x) for x in table.asked] for wire in shadow.asked)
    assert router.counts.to_json(table.routes)["shadow"]["2"]["disagreements"] == 5
    assert set(router.counts.versions) == {1}


async def never(request: bytes) -> Reply:
    await asyncio.Event().wait()
    return answer(1.0)


@pytest.mark.parametrize("behaviour", [never, told(Unanswered("broke", sent=True)), told(Reply(500, {}, b""))])
def test_a_version_that_hangs_or_crashes_unseen_is_nobodys_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, behaviour: Behaviour
) -> None:
    answers, router, _, table = ask(monkeypatch, tmp_path, 100, behaviour, WAITING + 50)
    assert {(a.status, a.payload) for a in answers} == {(200, answer(1.0).body)}
    told_ = router.counts.to_json(table.routes)
    assert (told_["failed"], told_["versions"]["1"]["errors"]) == (0, 0)


def test_a_shadow_that_ends_is_asked_no_longer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shadow, table = Told(told(answer(3.0))), Routed(100)
    monkeypatch.setattr("trilho_runtime.routing.router.Pool", lambda address: shadow)
    router = Router(table, LineLog(tmp_path))

    async def run() -> None:
        await router.predict(request_of(b"{}"))
        assert router._mirror is not None
        await router._mirror.settle()
        table.routes = Routes("m", 2, table.routes.routes, 1)
        for _ in range(3):
            await router.predict(request_of(b"{}"))

    asyncio.run(run())
    assert router._mirror is None
    assert len(shadow.asked) == 1
