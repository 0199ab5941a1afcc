"""The router as a process in front of real version servers, and its retries by themselves."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.runtime.serving import ANSWER, ROW, Launcher, Reply, alive, call, until, write_routes

from trilho_runtime.prediction.log import LineLog
from trilho_runtime.routing.attempts import REFUSALS_V2, Asked
from trilho_runtime.routing.router import Router
from trilho_runtime.routing.routes import Table
from trilho_runtime.routing.traffic import Route, Routes, Split
from trilho_runtime.routing.upstream import Pool, Unanswered
from trilho_runtime.routing.upstream import Reply as Wire
from trilho_runtime.web.http import HttpError


@dataclass
class Endpoint:
    """A router before two versions."""

    address: str
    versions: dict[int, str]
    routes: Path
    labels: Path
    pid: int
    generation: int = 1

    def share(self, **shares: float) -> None:
        self.generation += 1
        versions = [(int(v[1:]), self.versions[int(v[1:])], share) for v, share in shares.items()]
        write_routes(self.routes, self.generation, *versions)
        until(lambda: self.stats()["generation"] == self.generation, what="the routes to be read")

    def stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = call(self.address, "/stats").json
        return stats

    def predict(self, *rows: object, **headers: str) -> Reply:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return call(self.address, "/predict", {"instances": list(rows)}, named)


def more_than(replies: list[Reply], number: int) -> Callable[[], bool]:
    """Wait for so many more replies than there are now."""
    wanted = len(replies) + number
    return lambda: len(replies) > wanted


@pytest.fixture(scope="module")
def endpoint(launch_many: Launcher, package: Path) -> Endpoint:
    servers = {version: launch_many.server(package, version=version) for version in (1, 2)}
    versions = {version: server.wait_until_ready() for version, server in servers.items()}
    routes, labels = launch_many.folder / "routes.json", launch_many.folder / "labels"
    write_routes(routes, 1, (1, versions[1], 100))
    router = launch_many.router(routes, "--label-dir", labels, "--retry-seconds", 1)
    return Endpoint(router.wait_until_ready(), versions, routes, labels, router.process.pid)


def test_requests_are_split_by_share_and_counted(endpoint: Endpoint) -> None:
    endpoint.share(v1=80, v2=20)
    before = endpoint.stats()["versions"]
    replies = [endpoint.predict(ROW, ROW) for _ in range(20)]
    assert {reply.status for reply in replies} == {200}
    assert Counter(reply.headers["x-trilho-version"] for reply in replies) == {"1": 16, "2": 4}
    assert all(reply.json["predictions"] == [ANSWER, ANSWER] for reply in replies)
    assert len({i for reply in replies for i in reply.json["ids"]}) == 40
    after = endpoint.stats()["versions"]

    def moved(version: str, name: str) -> int:
        return int(after[version][name] - before.get(version, {name: 0})[name])

    assert [moved("1", n) for n in ("requests", "rows", "errors")] == [16, 32, 0]
    assert [moved("2", n) for n in ("requests", "rows", "errors")] == [4, 8, 0]
    assert sum(after["2"]["latency"]["counts"]) >= 4


def test_fields_that_the_model_does_not_know_are_counted_at_the_endpoint(endpoint: Endpoint) -> None:
    def counted() -> float:
        text = call(endpoint.address, "/metrics").body.decode()
        lines = [line for line in text.splitlines() if line.startswith("trilho_route_extra_fields_total{")]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    before = counted()
    assert endpoint.predict({**ROW, "colour": "red", "size": 3}, ROW).status == 200
    assert counted() == before + 2


def test_a_key_stays_with_its_version(endpoint: Endpoint) -> None:
    endpoint.share(v1=50, v2=50)
    found = {key: {endpoint.predict(ROW, x_trilho_key=key).json["version"] for _ in range(3)} for key in "abcdefgh"}
    assert all(len(versions) == 1 for versions in found.values())
    assert set.union(*found.values()) == {1, 2}


def test_the_first_row_decides_and_a_request_with_several_keys_is_told(endpoint: Endpoint) -> None:
    endpoint.share(v1=50, v2=50)
    told = json.loads(endpoint.routes.read_text())
    endpoint.generation += 1
    endpoint.routes.write_text(json.dumps({**told, "sticky": "x", "generation": endpoint.generation}))
    until(lambda: endpoint.stats()["generation"] == endpoint.generation, what="the routes to be read")
    one, two = ({**ROW, "x": value} for value in (1.5, 2.5))
    assert "x-trilho-mixed-keys" not in endpoint.predict(one, one).headers
    mixed = endpoint.predict(one, two, one)
    assert (mixed.status, mixed.headers["x-trilho-mixed-keys"]) == (200, "2")
    assert mixed.json["version"] == endpoint.predict(one).json["version"]
    assert "x-trilho-mixed-keys" not in endpoint.predict(one, two, x_trilho_key="mine").headers
    sticky = call(endpoint.address, "/").json["sticky"]
    assert (sticky["field"], sticky["mixed_requests"]) == ("x", 1)
    assert sticky["rule"] == "the x-trilho-key header, else x of the first row, decides for all rows of a request"
    assert 'trilho_route_mixed_keys_total{model="tiny"} 1' in call(endpoint.address, "/metrics").body.decode()
    endpoint.share(v1=100)
    assert "sticky" not in call(endpoint.address, "/").json


def test_a_callers_mistake_is_passed_back_and_is_no_error(endpoint: Endpoint) -> None:
    endpoint.share(v1=100)
    before = endpoint.stats()
    wrong = endpoint.predict({**ROW, "x": "1"}, x_request_id="mine")
    assert (wrong.status, wrong.json["field"], wrong.json["row"]) == (422, "x", 0)
    assert wrong.headers["x-request-id"] == "mine"
    assert call(endpoint.address, "/predict", b"{").status == 400
    assert call(endpoint.address, "/predict", b"x" * 1_600_000).status == 413
    assert call(endpoint.address, "/nothing").status == 404
    after = endpoint.stats()
    assert after["failed"] == before["failed"]
    assert after["versions"]["1"]["errors"] == before["versions"]["1"]["errors"]
    assert after["versions"]["1"]["requests"] == before["versions"]["1"]["requests"] + 2


def test_labels_are_written_before_the_answer(endpoint: Endpoint) -> None:
    before = endpoint.stats()["labels"]
    good = [{"id": "a.0", "value": 1}, {"key": {"id": "b"}, "value": 2.5}]
    reply = call(endpoint.address, "/labels", {"labels": good})
    assert (reply.status, reply.json) == (200, {"accepted": 2, "repeated": 0, "refused": 0})
    lines = [json.loads(line) for path in endpoint.labels.iterdir() for line in path.read_bytes().splitlines()]
    assert [(line.get("id") or line["key"], line["y"]) for line in lines] == [("a.0", 1.0), ({"id": "b"}, 2.5)]
    bad = call(endpoint.address, "/labels", {"labels": [*good, {"id": "c", "value": [1]}]})
    assert (bad.status, bad.json["field"], bad.json["row"]) == (422, "labels", 2)
    assert call(endpoint.address, "/labels", b"{").status == 400
    assert endpoint.stats()["labels"] == before + 2


def test_the_info_health_and_metrics_are_of_the_whole_endpoint(endpoint: Endpoint) -> None:
    endpoint.share(v1=90, v2=10)
    info = call(endpoint.address, "/").json
    assert (info["model"], info["version"]) == ("tiny", 1)
    assert [(x["version"], x["share"]) for x in info["versions"]] == [(1, 90.0), (2, 10.0)]
    assert call(endpoint.address, "/health").status == 200
    metrics = call(endpoint.address, "/metrics").body.decode()
    assert 'trilho_route_share{model="tiny",version="2"} 10.0' in metrics
    assert 'trilho_route_latency_seconds_count{model="tiny",version="1"}' in metrics


def test_malformed_routes_leave_the_old_ones(endpoint: Endpoint) -> None:
    endpoint.share(v1=100)
    endpoint.routes.write_text("{")
    time.sleep(0.15)  # longer than the router takes to look; nothing to wait for, since nothing may happen
    assert endpoint.predict(ROW).status == 200
    endpoint.share(v1=100)


def test_without_a_version_requests_wait_then_are_refused(endpoint: Endpoint) -> None:
    endpoint.share()
    started = time.monotonic()
    reply = endpoint.predict(ROW)
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")
    assert 0.4 < time.monotonic() - started < 3
    assert call(endpoint.address, "/health").status == 503
    late = threading.Timer(0.3, lambda: endpoint.share(v2=100))
    late.start()
    assert endpoint.predict(ROW).json["version"] == 2
    late.join()


def test_a_version_that_does_not_answer_is_stepped_over_and_blamed(endpoint: Endpoint) -> None:
    dead = endpoint.versions | {3: "http://127.0.0.1:1"}
    write_routes(endpoint.routes, 1000, (3, dead[3], 50), (1, dead[1], 50))
    endpoint.generation = 1000
    until(lambda: endpoint.stats()["generation"] == 1000)
    replies = [endpoint.predict(ROW) for _ in range(10)]
    assert {(reply.status, reply.json["version"]) for reply in replies} == {(200, 1)}
    stats = endpoint.stats()["versions"]["3"]
    assert 1 <= stats["requests"] == stats["errors"] <= 5  # a crash within a quarter of a second is one
    endpoint.share(v1=100)


def test_a_rollout_under_load_drops_nothing(endpoint: Endpoint) -> None:
    endpoint.share(v1=100)
    replies: list[Reply] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            replies.append(endpoint.predict(ROW))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for share in (10, 50, 100, 0, 50):
        endpoint.share(**{k: v for k, v in {"v1": 100 - share, "v2": share}.items() if v})
        until(more_than(replies, 20), what="requests at this share")
    over.set()
    for thread in threads:
        thread.join()
    assert {reply.status for reply in replies} == {200}
    assert {reply.json["version"] for reply in replies} == {1, 2}


def test_a_killed_version_server_loses_no_request(launch: Launcher, package: Path, tmp_path: Path) -> None:
    log, routes = tmp_path / "log", tmp_path / "routes.json"
    first = launch.server(package, "--log", log)
    write_routes(routes, 1, (1, first.wait_until_ready(), 100))
    router = launch.router(routes)
    address = router.wait_until_ready()
    replies: list[Reply] = []
    over = threading.Event()

    def ask(name: int) -> None:
        number = 0
        while not over.is_set():
            number += 1
            own = f"{name}-{number % 5}"
            replies.append(call(address, "/predict", {"instances": [ROW]}, {"x-request-id": own}))

    threads = [threading.Thread(target=ask, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for generation in (2, 3):
        until(more_than(replies, 30), what="requests")
        launch.started[-1 if generation == 3 else 0].process.kill()
        again = launch.server(package, "--log", log)
        write_routes(routes, generation, (1, again.wait_until_ready(), 100))
    until(more_than(replies, 30), what="requests")
    over.set()
    for thread in threads:
        thread.join()
    assert {reply.status for reply in replies} == {200}
    assert call(address, "/stats").json["failed"] == 0
    logged = [json.loads(line)["id"] for path in log.iterdir() for line in path.read_bytes().splitlines()]
    answered = [i for reply in replies for i in reply.json["ids"]]
    assert len(set(answered)) == len(answered) == len(replies)
    assert set(answered) <= set(logged)


def test_a_port_in_use_is_exit_2_and_one_clear_line(launch: Launcher, tmp_path: Path) -> None:
    routes = write_routes(tmp_path / "routes.json", 1)
    port = launch.router(routes).wait_until_bound().rpartition(":")[2]
    second = launch.router(routes, "--port", port)
    assert second.process.wait(15) == 2
    assert second.errors.read_text().splitlines()[0] == f"port {port} of 127.0.0.1: Address already in use"


def test_a_stopped_router_answers_what_it_has(launch: Launcher, package: Path, tmp_path: Path) -> None:
    server = launch.server(package)
    routes = write_routes(tmp_path / "routes.json", 1, (1, server.wait_until_ready(), 100))
    router = launch.router(routes)
    address = router.wait_until_ready()
    replies: list[Reply] = []
    slow = {"instances": [{**ROW, "wish": "sleep"}]}
    thread = threading.Thread(target=lambda: replies.append(call(address, "/predict", slow)))
    thread.start()
    time.sleep(0.2)  # until the request is under way; the server's thread is busy then and shows nothing
    assert router.stop() == 0
    thread.join()
    assert replies[0].status == 200


def test_a_router_ends_with_its_parents_pipe(launch: Launcher, tmp_path: Path) -> None:
    read, write = os.pipe()
    router = launch.router(tmp_path / "absent.json", "--parent-pipe", read, pass_fds=[read])
    os.close(read)
    router.wait_until_bound()
    assert alive(router.process.pid)
    os.close(write)
    assert router.process.wait(2.5) == 0


class Fakes(Table):
    """Routes whose servers do what they are told."""

    def __init__(self, *behaviours: Exception | Wire) -> None:
        super().__init__(Path("/nowhere"))
        self.behaviours = list(behaviours)
        self.split = Split([Route(n, f"http://127.0.0.1:{n}", 100 / 4) for n in (1, 2, 3, 4)])
        self.asked: list[tuple[int, bytes]] = []

    def pool(self, route: Route) -> Pool:
        behaviours, asked = self.behaviours, self.asked

        class Fake(Pool):
            async def send(self, request: bytes, seconds: float, again: Callable[[], bytes] | None = None) -> Wire:
                asked.append((route.version, request))
                found = behaviours.pop(0)
                if isinstance(found, Exception):
                    raise found
                return found

        return Fake(route.address)


def ask(tmp_path: Path, *behaviours: Exception | Wire) -> tuple[Wire | HttpError, Router]:
    router = Router(Fakes(*behaviours), LineLog(tmp_path), retry_seconds=1)

    async def run() -> Wire | HttpError:
        try:
            return await router.attempts.ask(Asked(b""))
        except HttpError as error:
            return error

    return asyncio.run(run()), router


OK = Wire(200, {"x-trilho-rows": "1"}, b"{}")


def test_a_version_that_is_not_ready_is_asked_again_later(tmp_path: Path) -> None:
    warming = Wire(503, {}, b"{}")
    found, router = ask(tmp_path, *[warming] * 6, OK)
    assert found == OK
    assert sum(count.errors for count in router.counts.versions.values()) == 4  # each version once
    assert sum(count.requests for count in router.counts.versions.values()) == 4


def test_a_request_that_kills_servers_is_not_tried_on_all_of_them(tmp_path: Path) -> None:
    found, _ = ask(tmp_path, *[Unanswered("broke", sent=True)] * 3, OK)
    assert isinstance(found, HttpError)
    assert found.answer.status == 503
    assert "3 servers ended while they had this request" in str(found)


def test_a_crash_with_many_requests_under_way_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr("trilho_runtime.routing.attempts.time.monotonic", lambda: clock.now)
    behaviours: list[Exception | Wire] = [Unanswered("broke", sent=True), OK]
    table = Fakes(*behaviours * 4)
    table.routes = Routes("tiny", 1, (Route(1, "http://127.0.0.1:1", 90), Route(2, "http://127.0.0.1:2", 10)), 1)
    table.split = Split(table.routes.routes)
    router = Router(table, LineLog(tmp_path))

    async def run() -> None:
        for after in (0.0, 0.1, 0.1, 0.3):
            clock.now += after
            table.split = Split((Route(2, "http://127.0.0.1:2", 100), Route(1, "http://127.0.0.1:1", 1)))
            assert await router.attempts.ask(Asked(b"")) == OK

    asyncio.run(run())
    assert counted(router) == {1: (4, 0, 0), 2: (2, 2, 0)}


def test_a_full_disk_is_passed_on(tmp_path: Path) -> None:
    found, router = ask(tmp_path, Wire(507, {}, b"{}"))
    assert isinstance(found, Wire)
    assert found.status == 507
    assert sum(count.errors for count in router.counts.versions.values()) == 1


REFUSED = Wire(422, {}, b'{"error": "no"}')


def ask_canary(
    tmp_path: Path, *behaviours: Exception | Wire, champion: int | None = None, asked: Asked | None = None
) -> tuple[Wire, Router, Fakes]:
    """Ask version 2, the canary, first."""
    table = Fakes(*behaviours)
    routes = (Route(1, "http://127.0.0.1:1", 90), Route(2, "http://127.0.0.1:2", 10))
    table.routes, table.split = Routes("tiny", 1, routes, champion), Split(routes[1:])
    router = Router(table, LineLog(tmp_path), retry_seconds=1)
    return asyncio.run(router.attempts.ask(asked or Asked(b"wire"))), router, table


def counted(router: Router) -> dict[int, tuple[int, int, int]]:
    return {version: (c.requests, c.errors, c.refused) for version, c in sorted(router.counts.versions.items())}


def test_rows_that_only_a_canary_refuses_are_answered_by_the_main_version(tmp_path: Path) -> None:
    reply, router, table = ask_canary(tmp_path, REFUSED, OK)
    assert reply == OK
    assert counted(router) == {1: (1, 0, 0), 2: (1, 0, 1)}
    assert table.asked == [(2, b"wire"), (1, b"wire")]  # the same identity: a canary that refused has logged nothing


def test_what_the_other_protocol_calls_a_refusal_is_one(tmp_path: Path) -> None:
    """All refusals of the Open Inference Protocol are 400; ours are 422, and 400 is a body that no version can read."""
    refused = Wire(400, {}, b'{"error": "no"}')
    reply, router, _ = ask_canary(tmp_path, refused, OK, asked=Asked(b"wire", refusals=REFUSALS_V2))
    assert reply == OK
    assert counted(router) == {1: (1, 0, 0), 2: (1, 0, 1)}
    reply, router, _ = ask_canary(tmp_path, refused)
    assert reply == refused
    assert counted(router) == {2: (1, 0, 0)}


@pytest.mark.parametrize("said", [Wire(400, {}, b"{}"), Wire(500, {}, b"{}")])
def test_who_names_a_version_hears_that_one(tmp_path: Path, said: Wire) -> None:
    asked = Asked.at("/v2/models/tiny/versions/2/infer", b"wire", None)
    assert asked == Asked(b"wire", None, 2, REFUSALS_V2)
    reply, _, table = ask_canary(tmp_path, said, asked=asked)
    assert reply == said
    assert [version for version, _ in table.asked] == [2]


def test_a_version_that_ends_at_a_request_is_not_asked_again_while_the_champion_is_away(tmp_path: Path) -> None:
    """The champion's server was killed by chance, and only the canary, which ends at these rows, is routed to."""
    canary, champion = Route(2, "http://127.0.0.1:2", 100), Route(1, "http://127.0.0.1:1", 90)
    table = Fakes(Unanswered("broke", sent=True), OK)
    table.routes, table.split = Routes("tiny", 1, (canary,), 1), Split((canary,))
    router = Router(table, LineLog(tmp_path), retry_seconds=5)

    async def run() -> Wire:
        asking = asyncio.ensure_future(router.attempts.ask(Asked(b"wire")))
        while not table.asked:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.1)  # it looks again after 20 ms
        table.routes, table.split = Routes("tiny", 2, (champion, canary), 1), Split((champion, canary))
        return await asking

    assert asyncio.run(run()) == OK
    assert [version for version, _ in table.asked] == [2, 1]
    assert counted(router) == {1: (1, 0, 0), 2: (1, 1, 0)}


def test_rows_that_every_version_refuses_are_held_against_none(tmp_path: Path) -> None:
    told = Wire(422, {"x-trilho-version": "1"}, b"{}")
    reply, router, _ = ask_canary(tmp_path, REFUSED, told)
    assert reply == told
    assert counted(router) == {1: (1, 0, 0), 2: (0, 0, 0)}


def test_a_main_version_that_fails_leaves_the_refusal(tmp_path: Path) -> None:
    reply, router, _ = ask_canary(tmp_path, REFUSED, Wire(507, {}, b"{}"))
    assert reply == REFUSED
    assert counted(router) == {1: (1, 1, 0), 2: (0, 0, 0)}


@pytest.mark.parametrize("trouble", [Unanswered("broke", sent=True), Wire(503, {}, b"{}")])
def test_a_main_version_that_is_away_for_a_moment_is_waited_for(tmp_path: Path, trouble: Exception | Wire) -> None:
    reply, router, table = ask_canary(tmp_path, REFUSED, trouble, OK)
    assert reply == OK
    assert [version for version, _ in table.asked] == [2, 1, 1]
    assert (router.counts.of(2).requests, router.counts.of(2).refused) == (1, 1)


def test_a_champion_that_does_not_come_back_leaves_the_refusal(tmp_path: Path) -> None:
    """Its server is gone, and the canary has all the traffic that there is."""
    table = Fakes(REFUSED)
    routes = (Route(2, "http://127.0.0.1:2", 100),)
    table.routes, table.split = Routes("tiny", 1, routes, 1), Split(routes)
    router = Router(table, LineLog(tmp_path), retry_seconds=0.1)
    assert asyncio.run(router.attempts.ask(Asked(b"wire"))) == REFUSED
    assert counted(router) == {2: (0, 0, 0)}


def test_the_main_version_is_the_champion_whatever_its_share(tmp_path: Path) -> None:
    reply, router, _ = ask_canary(tmp_path, REFUSED, champion=2)
    assert reply == REFUSED
    assert counted(router) == {2: (1, 0, 0)}
    half = (Route(2, "http://127.0.0.1:2", 50), Route(3, "http://127.0.0.1:3", 50))
    main = Routes("tiny", 1, half, 3).main
    assert main is not None
    assert main.version == 3
    assert [r.version for r in (Routes("tiny", 1, half, n).main for n in (None, 7)) if r is not None] == [2, 2]


def test_a_callers_own_mistakes_are_not_held_against_a_canary(endpoint: Endpoint) -> None:
    endpoint.share(v1=90, v2=10)
    key = next(k for k in map(str, range(99)) if endpoint.predict(ROW, x_trilho_key=k).json["version"] == 2)
    before = endpoint.stats()["versions"]
    replies = [endpoint.predict({**ROW, "x": "1"}, x_trilho_key=key) for _ in range(5)]
    assert {(reply.status, reply.json["field"]) for reply in replies} == {(422, "x")}
    after = endpoint.stats()["versions"]
    assert [after[v]["refused"] for v in "12"] == [before[v]["refused"] for v in "12"] == [0, 0]
    assert after["2"]["requests"] == before["2"]["requests"]


def test_a_request_id_that_is_used_again_is_echoed_and_names_nothing(endpoint: Endpoint) -> None:
    endpoint.share(v1=100)
    replies = [endpoint.predict(ROW, x_request_id="again", x_trilho_identity="0" * 24) for _ in range(2)]
    assert {reply.headers["x-request-id"] for reply in replies} == {"again"}
    assert len({id_ for reply in replies for id_ in reply.json["ids"]} - {"0" * 24 + ".0"}) == 2


def test_a_canary_that_fails_leaves_the_answer_to_the_main_version(tmp_path: Path) -> None:
    reply, router, table = ask_canary(tmp_path, Wire(500, {}, b"{}"), OK)
    assert reply == OK
    assert counted(router) == {1: (1, 0, 0), 2: (1, 1, 0)}
    assert [version for version, _ in table.asked] == [2, 1]


def test_scores_are_counted_while_two_versions_share_the_traffic(tmp_path: Path) -> None:
    scored = Wire(200, {}, b'{"predictions": [0.4, 9.0]}')
    table = Fakes(*[scored] * 4)
    table.routes = Routes("tiny", 1, tuple(Route(n, f"http://127.0.0.1:{n}", 50) for n in (1, 2)), edges=(0.25, 0.5))
    table.split = Split(table.routes.routes)
    router = Router(table, LineLog(tmp_path))

    async def run() -> None:
        for _ in range(3):
            await router.attempts.ask(Asked(b""))
        table.split = Split(table.routes.routes[:1])
        await router.attempts.ask(Asked(b""))

    asyncio.run(run())
    assert sum(count.scores.get("1", 0) for count in router.counts.versions.values()) == 3
    assert set(router.counts.of(1).scores) == {"1"}


@pytest.fixture
def sticky(endpoint: Endpoint) -> Iterator[Endpoint]:
    data = json.loads(endpoint.routes.read_text())
    endpoint.generation += 1
    versions = [{"version": n, "address": a, "share": 50} for n, a in endpoint.versions.items()]
    told = {**data, "generation": endpoint.generation, "versions": versions, "sticky": "id", "fields": list(ROW)}
    endpoint.routes.write_text(json.dumps(told))
    until(lambda: endpoint.stats()["generation"] == endpoint.generation, what="the routes to be read")
    yield endpoint
    endpoint.share(v1=100)


def test_rows_with_the_same_value_of_a_field_stay_with_their_version(sticky: Endpoint) -> None:
    rows = [{**ROW, "id": f"customer-{n}"} for n in range(12)]
    found = [{sticky.predict(row).json["version"] for _ in range(3)} for row in rows]
    assert all(len(versions) == 1 for versions in found)
    assert set.union(*found) == {1, 2}
    first = [sticky.predict(row, *reversed(rows)).json["version"] for row in rows]
    assert [{version} for version in first] == found  # the first row decides
    by_header = {sticky.predict(row, x_trilho_key="k").json["version"] for row in rows}
    assert len(by_header) == 1


def test_the_open_inference_protocol_passes_through(endpoint: Endpoint) -> None:
    endpoint.share(v1=50, v2=50)
    inputs = [
        {"name": "id", "shape": [1], "datatype": "BYTES", "data": ["a"]},
        {"name": "at", "shape": [1], "datatype": "BYTES", "data": [ROW["at"]]},
        {"name": "x", "shape": [1], "datatype": "FP64", "data": [ROW["x"]]},
        {"name": "count", "shape": [1], "datatype": "INT64", "data": [ROW["count"]]},
        {"name": "flag", "shape": [1], "datatype": "BOOL", "data": [True]},
    ]
    before = endpoint.stats()["versions"]
    answers = [call(endpoint.address, "/v2/models/tiny/infer", {"inputs": inputs}) for _ in range(4)]
    assert [(a.status, a.json["outputs"][0]["data"]) for a in answers] == [(200, [ANSWER])] * 4
    after = endpoint.stats()["versions"]
    assert [after[v]["requests"] - before[v]["requests"] for v in "12"] == [2, 2]
    assert all(sum(after[v]["scores"].values()) >= 2 for v in "12")
    named = [call(endpoint.address, "/v2/models/tiny/versions/2/infer", {"inputs": inputs}) for _ in range(3)]
    assert {a.headers["x-trilho-version"] for a in named if a.status == 200} == {"2"}
    assert call(endpoint.address, "/v2/models/tiny").json["name"] == "tiny"
    assert call(endpoint.address, "/v2/health/ready").status == 200
    assert call(endpoint.address, "/v2/models/nobody").status == 404
    endpoint.share(v1=100)


def test_a_versions_own_pages_pass_through(endpoint: Endpoint) -> None:
    endpoint.share(v1=100)
    assert "/predict" in call(endpoint.address, "/openapi.json").json["paths"]
    assert call(endpoint.address, "/docs").headers["content-type"].startswith("text/html")


def test_a_shadow_is_asked_and_changes_nothing(endpoint: Endpoint) -> None:
    endpoint.share(v1=100)
    data = json.loads(endpoint.routes.read_text())
    endpoint.generation += 1
    shadow = {"version": 2, "address": endpoint.versions[2], "share": 100}
    endpoint.routes.write_text(json.dumps({**data, "generation": endpoint.generation, "shadow": shadow}))
    until(lambda: endpoint.stats()["generation"] == endpoint.generation, what="the routes to be read")
    before = endpoint.stats()["versions"]["2"]["requests"]
    replies = [endpoint.predict(ROW, {**ROW, "x": 9.0}) for _ in range(10)]
    assert {reply.json["version"] for reply in replies} == {1}
    seen = until(lambda: endpoint.stats()["shadow"].get("2", {}).get("requests") == 10 and endpoint.stats()["shadow"])
    assert (seen["2"]["rows"], seen["2"]["disagreements"], seen["2"]["errors"]) == (20, 0, 0)
    assert endpoint.stats()["versions"]["2"]["requests"] == before
    assert (
        'trilho_shadow_requests_total{model="tiny",version="2"} 10' in call(endpoint.address, "/metrics").body.decode()
    )
    endpoint.share(v1=100)


def test_callers_show_a_key_and_the_supervisor_none(launch: Launcher, package: Path, tmp_path: Path) -> None:
    server = launch.server(package)
    routes = write_routes(tmp_path / "routes.json", 1, (1, server.wait_until_ready(), 100))
    (tmp_path / "keys").write_text("open-sesame-open-sesame\n")
    router = launch.router(routes, "--api-key", f"file:{tmp_path / 'keys'}")
    address = router.wait_until_bound()
    until(lambda: call(address, "/health").status == 200, what="the version to answer")
    body = {"instances": [ROW]}
    assert call(address, "/predict", body).status == 401
    assert call(address, "/predict", body, {"x-api-key": "open-sesame-open-sesame"}).status == 200
    assert call(address, "/stats").status == 200
    assert call(address, "/metrics").status == 401


@pytest.mark.parametrize("path", ["/v2/models/a%20b", "/v2/models/%0d%0ax:y/infer", "/v2/models/é/infer"])
def test_no_path_becomes_a_header(endpoint: Endpoint, path: str) -> None:
    endpoint.share(v1=100)
    host, _, port = endpoint.address.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        status = connection.recv(4096).split(b" ", 2)[1]
    assert status in (b"400", b"404", b"405")
    assert endpoint.predict(ROW).status == 200
