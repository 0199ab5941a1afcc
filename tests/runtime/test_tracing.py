"""Traces of requests and of runs: what a collector gets, and that nothing depends on it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest
from tests.runtime.collector import collector

from trilho.config import Telemetry
from trilho.core.records import TaskResult
from trilho.project.tracing import RunTrace
from trilho_runtime.routing.router import _passed_on
from trilho_runtime.web import tracing
from trilho_runtime.web.http import Answer, App, HttpError, Request
from trilho_runtime.web.tracing import Span, Traces, open_traces

CALLER = f"00-{'a' * 32}-{'b' * 16}-01"


class Proto:
    """The half of granian that an answer goes to."""

    def __init__(self) -> None:
        self.status = 0

    def response_bytes(self, status: int, headers: Any, body: bytes) -> None:
        self.status = status


def ask(app: App, **headers: str) -> int:
    proto = Proto()
    scope = SimpleNamespace(method="POST", path="/predict", headers=headers, query_string="")
    asyncio.run(app(scope, proto))
    return proto.status


def app_of(traces: Traces | None, forward: list[str] | None = None) -> App:
    async def predict(request: Request) -> Answer:
        request.rows, request.version = 3, 7
        if forward is not None:
            told = request.trace.traceparent if request.trace else None
            forward.append(_passed_on(request.scope.headers, "0" * 24, "r", told))
        return Answer(200, {"predictions": [1]})

    async def fail(request: Request) -> Answer:
        raise HttpError(503, "no version is ready")

    return App({("POST", "/predict"): predict, ("POST", "/fail"): fail}, traces=traces)


def test_a_trace_goes_from_the_caller_through_the_router_to_the_server() -> None:
    with collector() as told:
        router, server = (
            Traces(told.url, "trilho-router", model="bike"),
            Traces(told.url, "trilho-server", model="bike"),
        )
        passed: list[str] = []
        assert ask(app_of(router, passed), traceparent=CALLER) == 200
        [line] = [line for line in passed[0].splitlines() if line.startswith("traceparent")]
        assert ask(app_of(server), traceparent=line.partition(": ")[2]) == 200
        spans = {span["service"]: span for span in told.wait(2)}
        router.close()
        server.close()
    edge, inner = spans["trilho-router"], spans["trilho-server"]
    assert edge["trace"] == inner["trace"] == "a" * 32
    assert (edge["parent"], inner["parent"]) == ("b" * 16, edge["span"])
    assert (inner["trilho.model"], inner["trilho.version"], inner["trilho.rows"]) == ("bike", 7, 3)
    assert (inner["url.path"], inner["http.response.status_code"], inner["failed"]) == ("/predict", 200, False)
    assert 0 < inner["seconds"] < 60
    assert inner["kind"] == 2


def test_the_caller_decides_what_is_kept_and_else_the_share() -> None:
    none, every = Traces("http://127.0.0.1:1", "s", 0.0), Traces("http://127.0.0.1:1", "s", 1.0)
    assert every.begin(CALLER[:-1] + "0").sampled is False
    assert none.begin(CALLER).sampled is True
    assert not any(none.begin().sampled for _ in range(50))
    assert all(every.begin().sampled for _ in range(50))
    assert every.begin("00-nonsense").parent == ""
    none.add(Span(none.begin(), "x", 0, 1))
    assert none._thread is None  # what is not kept starts nothing


def test_a_collector_that_is_away_costs_no_request_anything(capfd: pytest.CaptureFixture[str]) -> None:
    traces = Traces("http://127.0.0.1:9", "s")
    app = app_of(traces)
    assert {ask(app) for _ in range(20)} == {200}
    assert traces._thread is not None
    until = time.monotonic() + 30
    said = ""
    while "do not reach" not in said and time.monotonic() < until:
        traces._thread.join(0.1)
        said += capfd.readouterr().err
    assert said.count("do not reach") == 1


def test_the_queue_is_bounded_while_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    traces = Traces("http://127.0.0.1:9", "s")
    monkeypatch.setattr(traces, "_start", lambda: None)
    for _ in range(tracing.QUEUED + 10):
        traces.add(Span(traces.begin(), "x", 0, 1))
    assert len(traces._queue) == tracing.QUEUED


@pytest.mark.parametrize(("share", "kept"), [("0.25", 0.25), ("7", 1.0), ("much", 1.0), ("", 1.0)])
def test_the_environment_says_where_and_how_much(share: str, kept: float) -> None:
    traces = open_traces("s", {"TRILHO_TRACES": "http://127.0.0.1:4318/", "TRILHO_TRACES_SHARE": share})
    assert traces is not None
    assert (traces._share, traces._endpoint) == (kept, "http://127.0.0.1:4318")


def test_nothing_of_it_is_imported_when_it_is_off() -> None:
    code = (
        "import sys, trilho_runtime.server, trilho_runtime.route, trilho_runtime.web.http\n"
        "import trilho.project.tracing as t; from trilho.config import Telemetry\n"
        "t.RunTrace(Telemetry(), 'm', 'r').end()\n"
        "print([m for m in sys.modules if m.startswith('opentelemetry') or m.endswith('web.tracing')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_run_is_a_trace_with_a_span_for_each_task() -> None:
    seen: list[str] = []
    with collector() as told:
        trace = RunTrace(Telemetry(endpoint=told.url), "bike", "bike-001", "a person")
        follow = trace.following(lambda task: seen.append(task["name"]))
        assert follow is not None
        for name, state in (("extract", "ran"), ("fit", "failed")):
            follow(TaskResult(name=name, state=state, seconds=2.0, needs=[], reason=""))  # type: ignore[typeddict-item]
        trace.end(4, failed=True)
        spans = {span["name"]: span for span in told.wait(3)}
    run, fit = spans["train"], spans["fit"]
    assert seen == ["extract", "fit"]
    assert {span["parent"] for span in (spans["extract"], fit)} == {run["span"]}
    assert run["parent"] == ""
    assert len({span["trace"] for span in spans.values()}) == 1
    assert (fit["failed"], spans["extract"]["failed"], fit["seconds"]) == (True, False, 2.0)
    assert (run["trilho.run"], run["trilho.version"], fit["trilho.task"]) == ("bike-001", 4, "fit")
