"""A request that is sent again says so, and the log's line says which time it was; what the caller got counts."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.runtime.planes import lines_of
from tests.runtime.serving import Launcher, Reply, call, notebooks_environment, until, write_routes
from tests.runtime.test_predict import log_in, rows, work
from tests.runtime.test_route import OK, Fakes, ask_canary
from tests.runtime.test_upstream import OK as ANSWER
from tests.runtime.test_upstream import REQUEST, play

from trilho.serve import vertex_log
from trilho.serve.segments import LocalPredictionLog
from trilho_runtime.prediction.job import Job
from trilho_runtime.prediction.log import LineLog
from trilho_runtime.routing.attempts import Asked
from trilho_runtime.routing.router import Router
from trilho_runtime.routing.upstream import Pool, Unanswered, wire
from trilho_runtime.routing.upstream import Reply as Wire
from trilho_runtime.serving.topic import Topic
from trilho_runtime.web.http import attempt_of

EVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
BROKE = Unanswered("the connection broke", sent=True)
DYING = """
import json, os, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

folder, told = Path(sys.argv[1]), Path(sys.argv[2])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        line = {"v": 2, "id": self.headers["x-trilho-identity"] + ".0", "t": "2026-01-01T10:00:00.000Z", "n": 1,
                "x": body["instances"][0], "y": 0.5, "c": "high"}
        if self.headers["x-trilho-attempt"] is not None:
            line["a"] = int(self.headers["x-trilho-attempt"])
        with (folder / f"v1-{os.getpid()}-1000.jsonl").open("ab") as file:
            file.write(json.dumps(line).encode() + b"\\n")
        while not (told / "die").exists():
            time.sleep(0.005)
        os._exit(9)

    def log_message(self, *_):
        pass


folder.mkdir(parents=True, exist_ok=True)
server = HTTPServer(("127.0.0.1", 0), Handler)
(told / "ready.part").write_text(str(server.server_address[1]))
(told / "ready.part").rename(told / "ready")
server.serve_forever()
"""


def number_of(request: bytes) -> int:
    """Give the attempt that a request's bytes say."""
    head = request.partition(b"\r\n\r\n")[0].decode()
    found = [line for line in head.split("\r\n") if line.startswith("x-trilho-attempt: ")]
    return int(found[0].partition(": ")[2]) if found else 0


def numbers(tmp_path: Path, *behaviours: Exception | Wire) -> list[int]:
    table = Fakes(*behaviours)
    router = Router(table, LineLog(tmp_path), retry_seconds=1)
    sent = wire("POST", "/predict", b"{}", "x-trilho-identity: a\r\n")
    assert asyncio.run(router.attempts.ask(Asked(sent))).status == 200
    assert all(request.endswith(b"\r\n\r\n{}") and b"x-trilho-identity: a\r\n" in request for _, request in table.asked)
    return [number_of(request) for _, request in table.asked]


@pytest.mark.parametrize(
    ("behaviours", "wanted"),
    [
        ([], [0]),
        ([BROKE], [0, 1]),
        ([BROKE, BROKE], [0, 1, 2]),
        ([Unanswered("no connection", sent=False), BROKE, Wire(503, {}, b"")], [0, 0, 1, 2]),
    ],
)
def test_each_attempt_has_a_higher_number(
    tmp_path: Path, behaviours: list[Exception | Wire], wanted: list[int]
) -> None:
    assert numbers(tmp_path, *behaviours, OK) == wanted


@pytest.mark.parametrize(("status", "wanted"), [(500, 1), (422, 0)])
def test_what_a_canary_may_have_logged_is_an_earlier_attempt_and_what_it_refused_is_none(
    tmp_path: Path, status: int, wanted: int
) -> None:
    reply, _, table = ask_canary(tmp_path, Wire(status, {}, b"{}"), OK)
    assert reply == OK
    assert [(version, number_of(request)) for version, request in table.asked] == [(2, 0), (1, wanted)]


def test_a_broken_connection_and_the_next_attempt_have_numbers_of_their_own(tmp_path: Path) -> None:
    table = Fakes()
    heard: list[bytes] = []

    class Breaking(Pool):
        async def send(self, request: bytes, seconds: float, again: Callable[[], bytes] | None = None) -> Wire:
            assert again is not None
            heard.extend([request, again()] if not heard else [request])
            if len(heard) == 2:
                raise BROKE
            return OK

    table.pool = lambda route: Breaking(route.address)  # type: ignore[method-assign]
    router = Router(table, LineLog(tmp_path), retry_seconds=1)
    assert asyncio.run(router.attempts.ask(Asked(REQUEST))) == OK
    assert list(map(number_of, heard)) == [0, 1, 2]


def test_a_request_that_goes_out_again_on_a_new_connection_is_a_later_attempt() -> None:
    heard: list[int] = []

    async def close_after_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int) -> None:
        heard.append(number_of(await reader.read(4096)))
        writer.write(ANSWER)
        await writer.drain()
        if connection == 1:
            heard.append(number_of(await reader.read(4096)))  # it arrives and gets no answer

    async def use(pool: Pool) -> None:
        for _ in range(2):
            assert (await pool.send(REQUEST, 5, lambda: Asked(REQUEST).sent(1))).body == b"ok"

    assert asyncio.run(play(close_after_one, use)) == 2
    assert heard == [0, 0, 1]


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({}, 0),
        ({"x-trilho-attempt": "4"}, 4),
        *(({"x-trilho-attempt": wrong}, 0) for wrong in ("-1", "x", "", "9" * 7, "²")),
    ],
)
def test_a_server_reads_the_attempt(headers: Mapping[str, str], wanted: int) -> None:
    assert attempt_of(SimpleNamespace(headers=headers)) == wanted


def test_a_line_says_its_attempt_where_it_is_not_the_first(tmp_path: Path) -> None:
    served = work(log=log_in(tmp_path))
    served.do([Job("a", rows(1)), Job("b", rows(2, 3), attempt=2), Job("c", rows(4), shadow=True, attempt=1)])
    served.do([Job("d", rows(5))])
    told = [(line["id"], line.get("a"), line.get("s")) for line in lines_of(tmp_path)]
    assert told == [("a.0", None, None), ("b.0", 2, None), ("b.1", 2, None), ("c.0", None, 1), ("d.0", None, None)]


def test_a_topics_message_says_its_attempt_too() -> None:
    served, said = work(), list[bytes]()

    class Publisher:
        why = ""

        async def publish(self, message: bytes) -> bool:
            said.append(message)
            return True

    topic = Topic(Publisher())  # type: ignore[arg-type]
    for attempt in (0, 2):
        job = Job("ff", rows(1), attempt=attempt)
        (outcome,) = served.do([job])
        assert not isinstance(outcome, Exception)
        assert asyncio.run(topic.keep(served, job, outcome))
    lines = vertex_log.read(map(json.loads, said))
    assert [(line["id"], line.get("a")) for line in lines] == [("ff.0", None), ("ff.0", 2)]


@pytest.fixture
def dying(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server that writes a request's line and ends before it answers, once `die` is there."""
    command = [sys.executable, "-c", DYING, str(tmp_path / "log" / "predictions"), str(tmp_path)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    until((tmp_path / "ready").exists, what="the dying server")
    yield process
    process.kill()
    process.wait(10)


@pytest.mark.parametrize("sealed_between", [True, False])
def test_a_server_that_dies_after_its_line_leaves_the_answer_that_the_caller_got(
    launch_quick: Launcher, quick: Path, tmp_path: Path, dying: subprocess.Popen[bytes], sealed_between: bool
) -> None:
    log, lines = LocalPredictionLog(tmp_path / "log"), tmp_path / "log" / "predictions"
    options: Any = {"env": notebooks_environment(), "version": 2}
    well = launch_quick.server(quick / "package", "--log", lines, **options).wait_until_ready()
    versions = (1, f"http://127.0.0.1:{(tmp_path / 'ready').read_text()}", 99), (2, well, 1)
    routes = write_routes(tmp_path / "routes.json", 1, *versions)
    router = launch_quick.router(routes, "--label-dir", tmp_path / "labels").wait_until_bound()
    row = json.loads((quick / "told.json").read_bytes())["rows"][0]
    replies: list[Reply] = []
    caller = threading.Thread(target=lambda: replies.append(call(router, "/predict", {"instances": [row]})))
    caller.start()
    until(lambda: list(lines.glob(f"v1-{dying.pid}-*")), what="the first line")
    if sealed_between:
        until(log.seal, what="the first line to be sealed")
        assert log.rows(*EVER)["_version"].tolist() == [1]
    (tmp_path / "die").touch()
    caller.join(20)
    assert dying.wait(10) == 9
    (reply,) = replies
    assert (reply.status, reply.json["version"]) == (200, 2)
    log.seal()
    told = log.rows(*EVER)
    assert (told["_id"].tolist(), told["_version"].tolist()) == (reply.json["ids"], [2])
    assert told["_prediction"].tolist() == [max(reply.json["predictions"][0].values())]
    counted = log.counters()
    assert (counted["served"], counted["duplicates"], counted.get("torn", 0)) == (1, 1, 0)
