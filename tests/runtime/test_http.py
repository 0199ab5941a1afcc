"""Requests and answers in process: routes, bounds of bodies, errors of ours, and the lines written about them."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.runtime.serving import Launcher, call, until

from trilho_runtime.web.body import is_deeper, parse_json
from trilho_runtime.web.http import Answer, App, HttpError, Request
from trilho_runtime.web.notes import RequestNotes, Writer, trace_of

SERVER = "tests.runtime.protocol_server"
TRACE = "0af7651916cd43dd8448eb211c80319c"


class Scope:
    """What granian says of a request."""

    def __init__(self, method: str, path: str, headers: dict[str, str] | None = None) -> None:
        self.method, self.path, self.headers = method, path, headers or {}
        self.http_version, self.query_string = "1.1", ""


class Proto:
    """What granian gives to read a body by and to answer with."""

    def __init__(self, *chunks: bytes, never: bool = False) -> None:
        self.chunks, self.never = chunks, never
        self.answered: list[tuple[int, dict[str, str], bytes]] = []

    async def __call__(self) -> bytes:
        if self.never:
            await asyncio.Event().wait()
        return b"".join(self.chunks)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._each()

    async def _each(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            yield chunk

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.answered.append((status, dict(headers), body))


async def echo(request: Request) -> Answer:
    """Answer with what came."""
    return Answer(200, {"path": request.scope.path, "size": len(await request.body())})


async def fail(request: Request) -> Answer:
    raise RuntimeError("ours")


async def unwritable(request: Request) -> Answer:
    return Answer(200, {"x": object()})


async def surrogate(request: Request) -> Answer:
    raise HttpError(422, "row 0: x is \ud800", field="x", row=0)


ROUTES = {
    ("POST", "/echo"): echo,
    ("GET", "/below/*"): echo,
    ("GET", "/below/deeper/*"): fail,
    ("POST", "/below/*"): echo,
    ("*", "/all/*"): echo,
    ("GET", "/fail"): fail,
    ("GET", "/unwritable"): unwritable,
    ("GET", "/surrogate"): surrogate,
}


def ask(scope: Scope, proto: Proto | None = None, **options: Any) -> tuple[int, dict[str, str], Any]:
    """Have an app answer, and give status, headers and JSON."""
    proto = proto or Proto()
    asyncio.run(App(ROUTES, **options)(scope, proto))
    ((status, headers, body),) = proto.answered
    return status, headers, json.loads(body)


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("POST", "/echo", 200, None),
        ("GET", "/echo", 405, "POST"),
        ("GET", "/below/a/b", 200, None),
        ("GET", "/below/", 200, None),
        ("DELETE", "/below/a", 405, "GET, HEAD, POST"),
        ("POST", "/below/deeper/a", 405, "GET, HEAD"),
        ("GET", "/below", 404, None),
        ("GET", "/nothing", 404, None),
        ("TRACE", "/echo", 405, "POST"),
        ("HEAD", "/echo", 405, "POST"),
        ("HEAD", "/below/a", 200, None),
        ("HEAD", "/all/x", 200, None),
        ("HEAD", "/fail", 500, None),
        ("TRACE", "/all/x", 200, None),
    ],
)
def test_a_handler_is_found_by_method_and_path(method: str, path: str, status: int, allowed: str | None) -> None:
    found, headers, _ = ask(Scope(method, path))
    assert (found, headers.get("allow")) == (status, allowed)


@pytest.mark.parametrize("path", ["/fail", "/below/deeper/x", "/unwritable"])
def test_a_mistake_of_ours_is_a_500_that_tells_nothing(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, headers, payload = ask(Scope("GET", path))
    assert (status, payload) == (500, {"error": "the server failed; its log says how"})
    assert headers["content-type"] == "application/json"
    assert "Traceback" in capsys.readouterr().err


def test_half_a_surrogate_in_an_error_is_written_all_the_same() -> None:
    assert ask(Scope("GET", "/surrogate"))[2] == {"error": "row 0: x is ?", "field": "x", "row": 0}


def test_a_guard_is_asked_before_anything_is_found() -> None:
    class Guard:
        def check(self, scope: Any) -> Any:
            if scope.path == "/echo":
                return asyncio.sleep(0)
            raise HttpError(401, "no")

    assert [ask(Scope("POST", path), guard=Guard())[0] for path in ("/echo", "/fail", "/nothing")] == [200, 401, 401]


@pytest.mark.parametrize(
    ("headers", "chunks", "status"),
    [
        ({"content-length": "5"}, [b"x" * 5], 200),
        ({"content-length": "11"}, [b"x" * 11], 413),
        ({}, [b"x" * 5, b"x" * 5], 200),
        ({}, [b"x" * 6, b"x" * 6], 413),
        ({"content-length": "5", "content-encoding": "gzip"}, [b"x" * 5], 415),
        ({"content-length": "5", "content-encoding": "Identity"}, [b"x" * 5], 200),
    ],
)
def test_a_body_is_bounded_and_plain(headers: dict[str, str], chunks: list[bytes], status: int) -> None:
    found, answered, payload = ask(Scope("POST", "/echo", headers), Proto(*chunks), max_body=10)
    assert found == status
    assert status != 413 or "larger than 10 bytes" in payload["error"]
    assert status != 415 or answered["accept-encoding"] == "identity"


def test_a_body_that_does_not_come_is_408_and_the_task_lives_on() -> None:
    scope, proto = Scope("POST", "/echo", {"content-length": "5"}), Proto(never=True)

    async def both() -> None:
        await App(ROUTES, body_seconds=0.01)(scope, proto)
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    asyncio.run(both())
    assert proto.answered[0][0] == 408


def test_a_stop_is_not_taken_for_a_slow_body() -> None:
    scope, proto = Scope("POST", "/echo", {"content-length": "5"}), Proto(never=True)

    async def stopped() -> None:
        task = asyncio.ensure_future(App(ROUTES)(scope, proto))
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(stopped())


@pytest.mark.parametrize(
    ("body", "depth"),
    [
        (b"1", 0),
        (b"[]", 1),
        (b'{"a": [1, 2], "b": {}}', 2),
        (b'["[[[[", "]]]]", "\\"[[", "\\\\", []]', 2),
        (b'{"a\\u005b[": [[]], "b": "\\\\\\"[[[[["}', 3),
        (b"[[[[]], []], [[[[]]]]]", 5),
        (b'[{"x":""},{"y":"\xc3\xa9["}]', 2),
    ],
)
def test_the_depth_of_json_is_what_its_brackets_say(body: bytes, depth: int) -> None:
    orjson.loads(body)
    assert [is_deeper(body, level) for level in range(depth + 2)] == [level < depth for level in range(depth + 2)]


def test_the_depth_of_json_is_found_whatever_its_texts_hold() -> None:
    rng = random.Random(3)
    texts = ["},{", "], [", "[[", "}}", "a", '"\\', ""]

    def make(depth: int) -> Any:
        if depth == 0 or rng.random() < 0.2:
            return rng.choice([1, None, *texts])
        if rng.random() < 0.5:
            return [make(depth - 1) for _ in range(rng.randrange(4))]
        return {rng.choice(texts) + str(n): make(depth - 1) for n in range(rng.randrange(4))}

    for _ in range(300):
        value = [make(rng.randrange(7)) for _ in range(12)]
        for body in (orjson.dumps(value), json.dumps(value).encode()):
            assert next(level for level in range(99) if not is_deeper(body, level)) == levels(value)


def levels(value: Any) -> int:
    """Give how deep a value is, the slow way."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(levels, inner), default=0)


def test_json_that_is_too_deep_is_400_and_the_limit_is_not() -> None:
    assert parse_json(b"[" * 32 + b"]" * 32)
    with pytest.raises(HttpError, match="nested more than 32 levels"):
        parse_json(b"[" * 33 + b"]" * 33)
    with pytest.raises(HttpError, match="not JSON"):
        parse_json(b"[" * 100_000)
    wide = b'{"instances": [' + b",".join([b'{"x": "["}'] * 500) + b"]}"
    assert len(parse_json(wide)["instances"]) == 500


def written(notes_of: str, wanted: Any, scope: Scope, answer: Answer, capsys: Any) -> list[Any]:
    """Give the lines that a request makes."""
    writer = Writer("json" if notes_of == "json" else "text", "p1")
    request = Request(scope, None)
    request.rows, request.version = 2, 3
    RequestNotes(wanted, writer).add(request, answer, 12)
    lines = capsys.readouterr().err.splitlines()
    return [json.loads(line) if notes_of == "json" else line for line in lines]


def test_a_request_is_one_json_line_in_cloud_loggings_shape(capsys: pytest.CaptureFixture[str]) -> None:
    headers = {
        "x-request-id": "r1",
        "content-length": "40",
        "user-agent": "u" * 300,
        "traceparent": f"00-{TRACE}-b7ad6b7169203331-01",
        "authorization": "Bearer secret",
    }
    (line,) = written("json", "all", Scope("POST", "/predict", headers), Answer(200, b"{}"), capsys)
    request = line.pop("httpRequest")
    assert float(request.pop("latency").removesuffix("s")) >= 0
    assert request == {
        "requestMethod": "POST",
        "requestUrl": "/predict",
        "status": 200,
        "requestSize": "40",
        "responseSize": "12",
        "userAgent": "u" * 200,
        "protocol": "HTTP/1.1",
    }
    assert line.pop("time").endswith("Z")
    assert line == {
        "severity": "INFO",
        "message": "POST /predict 200",
        "request_id": "r1",
        "rows": 2,
        "version": 3,
        "logging.googleapis.com/trace": f"projects/p1/traces/{TRACE}",
        "logging.googleapis.com/spanId": "b7ad6b7169203331",
        "logging.googleapis.com/trace_sampled": True,
    }


def test_who_asks_whether_a_model_is_there_yet_is_not_noted(capsys: pytest.CaptureFixture[str]) -> None:
    answer = Answer(503, {"error": "e"})
    assert not list(written("json", "errors", Scope("GET", "/health"), answer, capsys))
    assert len(list(written("json", "all", Scope("GET", "/health"), answer, capsys))) == 1


@pytest.mark.parametrize(("wanted", "statuses"), [("none", []), ("errors", [400, 503]), ("all", [200, 400, 503])])
def test_what_is_written_is_what_is_wanted(
    wanted: str, statuses: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        line
        for status in (200, 400, 503)
        for line in written("json", wanted, Scope("POST", "/"), Answer(status, {"error": "e"}), capsys)
    ]
    assert [line["httpRequest"]["status"] for line in lines] == statuses
    severities = {200: "INFO", 400: "WARNING", 503: "ERROR"}
    assert [line["severity"] for line in lines] == [severities[status] for status in statuses]
    assert [line.get("error") for line in lines if line["httpRequest"]["status"] >= 400] == ["e"] * len(
        [s for s in statuses if s >= 400]
    )


def test_values_of_rows_stand_in_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    payload = {"error": 'row 0: cpf is "12345678900", a string', "field": "cpf", "row": 0}
    (line,) = written("json", "errors", Scope("POST", "/predict"), Answer(422, payload), capsys)
    assert (line["field"], line["row"]) == ("cpf", 0)
    assert "12345678900" not in json.dumps(line)


def test_a_text_line_says_what_when_and_which(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = written("text", "all", Scope("GET", "/", {"x-request-id": "r1"}), Answer(404, {}), capsys)
    assert line.startswith("GET / 404 in ")
    assert line.endswith(" ms, request r1")


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({}, {}),
        ({"traceparent": "00-zz-b7ad6b7169203331-01"}, {}),
        ({"traceparent": f"00-{'0' * 32}-b7ad6b7169203331-01"}, {}),
        (
            {"x-cloud-trace-context": f"{TRACE}/255;o=1"},
            {"trace": TRACE, "spanId": "00000000000000ff", "trace_sampled": True},
        ),
        ({"x-cloud-trace-context": TRACE}, {"trace": TRACE, "trace_sampled": False}),
        ({"x-cloud-trace-context": f"{TRACE}/x"}, {"trace": TRACE, "trace_sampled": False}),
        ({"x-cloud-trace-context": "é"}, {}),
        (
            {"traceparent": f"00-{TRACE}-b7ad6b7169203331-00"},
            {"trace": TRACE, "spanId": "b7ad6b7169203331", "trace_sampled": False},
        ),
    ],
)
def test_a_trace_is_read_in_both_spellings(headers: dict[str, str], told: dict[str, Any]) -> None:
    assert trace_of(headers, "") == {f"logging.googleapis.com/{name}": value for name, value in told.items()}


def test_a_server_writes_json_lines_and_its_own_failures_too(tmp_path: Path) -> None:
    launcher = Launcher(tmp_path, Path(sys.executable))
    running = launcher.run(Path(sys.executable), SERVER, "--log-format", "json", "--log-requests", "errors")
    address = running.wait_until_ready()
    assert call(address, "/predict", {"instances": [{"x": "secret"}]}).status == 422
    assert call(address, "/fail").status == 500

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in running.errors.read_text().splitlines()]

    until(lambda: len(lines()) == 3, what="three lines")
    refused, traceback, failed = lines()
    assert (refused["severity"], refused["httpRequest"]["status"], refused["field"]) == ("WARNING", 422, "x")
    assert traceback["severity"] == failed["severity"] == "ERROR"
    assert "RuntimeError: a mistake" in traceback["message"]
    assert failed["httpRequest"]["status"] == 500
    assert "secret" not in running.errors.read_text()
    launcher.end()


def test_a_line_survives_a_log_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def write(self, text: str) -> None:
            raise OSError("full")

    monkeypatch.setattr(sys, "stderr", Broken())
    Writer("json").write("lost")
