"""The console over HTTP, as an ASGI application is called."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from starlette.applications import Starlette
from tests.console.memory import NOW, MemorySource

from trilho.console.app import create_app
from trilho.console.live import Pulse, events
from trilho.core import records as r
from trilho.errors import JournalError

OPEN = "i-bike-2019-09-08-perf"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    text: str


def call(app: Starlette, path: str, method: str = "GET", body: str = "", **headers: str) -> Answer:
    """Send one request to the application."""
    given = {"host": "127.0.0.1:8000", **{name.replace("_", "-"): value for name, value in headers.items()}}
    sent: list[Any] = []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path.partition("?")[0],
        "raw_path": path.partition("?")[0].encode(),
        "query_string": path.partition("?")[2].encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }

    asked = iter([{"type": "http.request", "body": body.encode(), "more_body": False}])

    async def receive() -> Any:
        message = next(asked, None)
        return message if message is not None else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    start = sent[0]
    told = b"".join(message.get("body", b"") for message in sent[1:])
    return Answer(start["status"], {k.decode(): v.decode() for k, v in start["headers"]}, told.decode())


@pytest.fixture
def app(source: MemorySource) -> Starlette:
    return create_app(source, clock=NOW.isoformat)


@pytest.mark.parametrize(
    "path",
    ["/", "/models/bike-demand", "/runs/bike-006a7", "/runs/chur-001a7/logs/fit-all", f"/incidents/{OPEN}", "/report"],
)
def test_pages_come_with_a_strict_policy(app: Starlette, path: str) -> None:
    answer = call(app, path)
    assert answer.status == 200
    assert "default-src 'none'; script-src 'self'" in answer.headers["content-security-policy"]
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert "<script>" not in answer.text


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/style.css", "text/css"), ("/static/live.js", "javascript"), ("/static/favicon.svg", "image/svg+xml")],
)
def test_what_pages_need_is_served_from_here(app: Starlette, path: str, kind: str) -> None:
    answer = call(app, path)
    assert answer.status == 200
    assert kind in answer.headers["content-type"]
    assert "max-age" in answer.headers["cache-control"]


def test_the_report_is_a_file_and_json_too(app: Starlette) -> None:
    file = call(app, "/report.html")
    assert 'attachment; filename="handover.html"' in file.headers["content-disposition"]
    assert "<link" not in file.text
    assert "<script" not in file.text
    data = json.loads(call(app, "/report.json").text)
    assert [model["name"] for model in data["models"]] == ["bike-demand", "churn", "credit-risk", "flight-delay"]


@pytest.mark.parametrize("path", ["/models/none", "/runs/none", "/incidents/none", "/runs/chur-001a7/logs/none", "/x"])
def test_an_unknown_address_is_told_so(app: Starlette, path: str) -> None:
    answer = call(app, path)
    assert answer.status == 404
    assert "There is no such page" in answer.text


def test_a_form_from_the_console_acknowledges_once(app: Starlette, source: MemorySource) -> None:
    for _ in range(2):
        answer = call(app, f"/incidents/{OPEN}/acknowledge", "POST", origin="http://127.0.0.1:8000")
        assert (answer.status, answer.headers["location"]) == (303, f"/incidents/{OPEN}")
    assert [(model, incident) for model, incident, _, _ in source.acknowledged] == [("bike-demand", OPEN)]
    assert source.state().models["bike-demand"].incidents[OPEN].acknowledged_by


@pytest.mark.parametrize("headers", [{}, {"origin": "http://evil.example"}, {"origin": "null"}])
def test_a_form_from_elsewhere_is_refused(app: Starlette, source: MemorySource, headers: dict[str, str]) -> None:
    assert call(app, f"/incidents/{OPEN}/acknowledge", "POST", **headers).status == 403
    assert source.acknowledged == []


def test_a_name_that_is_not_this_machines_is_refused(source: MemorySource) -> None:
    assert call(create_app(source), "/", host="evil.example:8000").status == 421
    assert call(create_app(source, hosts=["models.intern"]), "/", host="models.intern").status == 200
    assert call(create_app(source), "/", host="[::1]:8000").status == 200
    assert call(create_app(source), "/", host="localhost:8000").status == 200


def test_reading_by_post_is_refused(app: Starlette) -> None:
    assert call(app, "/", "POST").status == 405


def test_a_broken_journal_is_told_and_may_pass(source: MemorySource) -> None:
    def broken() -> Any:
        raise JournalError("the journal is locked", hint="try again")

    source.state = broken  # type: ignore[method-assign]
    answer = call(create_app(source), "/")
    assert answer.status == 503
    assert "the journal is locked" in answer.text


def test_a_fragment_is_asked_for_by_header(app: Starlette) -> None:
    answer = call(app, "/", x_fragment="1")
    assert "<html" not in answer.text
    assert answer.headers["vary"] == "x-fragment"


def test_the_stream_tells_of_changes(source: MemorySource) -> None:
    stopping = threading.Event()

    async def listen(change: Callable[[], None]) -> list[bytes]:
        heard = []
        async for message in events(Pulse(source), stopping):
            heard.append(message)
            if len(heard) == 2:
                change()
            if len(heard) == 3:
                stopping.set()
        return heard

    def change() -> None:
        source.write(NOW, r.IncidentUpdated(model="bike-demand", incident=OPEN, change="acknowledged", note=""))

    retry, first, second = asyncio.run(asyncio.wait_for(listen(change), 20))
    assert retry.startswith(b"retry:")
    assert first.startswith(b"data: ")
    assert second.startswith(b"data: ")
    assert first != second


HERE = {"origin": "http://127.0.0.1:8000"}


def test_a_form_says_who_and_why(app: Starlette, source: MemorySource) -> None:
    body = "name=Ana+%3Cb%3E&why=on+it&lang=pt-BR"
    answer = call(app, f"/incidents/{OPEN}/acknowledge", "POST", body, **HERE)
    assert (answer.status, answer.headers["location"]) == (303, f"/incidents/{OPEN}?lang=pt-BR")
    assert source.acknowledged == [("bike-demand", OPEN, "Ana b (console)", "on it")]


def test_an_incident_is_muted_told_again_and_closed(app: Starlette, source: MemorySource) -> None:
    def incident() -> Any:
        return source.state().models["bike-demand"].incidents[OPEN]

    assert call(app, f"/incidents/{OPEN}/mute", "POST", "name=Ana&why=fair&for=3+days", **HERE).status == 303
    assert (incident().muted_until, incident().muted_by) == ("2026-03-07T16:20:00+00:00", "Ana (console)")
    assert incident().standing(NOW.isoformat()) == "muted"
    assert "Muted until 7 Mar 2026 16:20:00 by Ana (console)" in call(app, f"/incidents/{OPEN}").text
    assert call(app, f"/incidents/{OPEN}/unmute", "POST", "", **HERE).status == 303
    assert incident().muted_until is None
    assert call(app, f"/incidents/{OPEN}/close", "POST", "why=as+planned", **HERE).status == 303
    assert (incident().state, incident().reason) == ("closed", "as planned")
    assert call(app, f"/incidents/{OPEN}/close", "POST", "why=again", **HERE).status == 303
    assert incident().reason == "as planned"


@pytest.mark.parametrize(
    ("act", "body", "status"),
    [("close", "", 422), ("mute", "why=x&for=9+years", 422), ("mute", "for=3+days", 422), ("sing", "why=x", 404),
     ("close", "why=" + "x" * 20_000, 413), ("close", "&".join(f"a{i}=b" for i in range(40)), 400)],
)  # fmt: skip
def test_a_form_that_makes_no_sense_is_refused(
    app: Starlette, source: MemorySource, act: str, body: str, status: int
) -> None:
    assert call(app, f"/incidents/{OPEN}/{act}", "POST", body, **HERE).status == status
    assert source.state().models["bike-demand"].incidents[OPEN].closed is None


@pytest.mark.parametrize("act", ["mute", "unmute", "close"])
def test_no_other_site_can_act(app: Starlette, source: MemorySource, act: str) -> None:
    before = len(source.texts)
    body = "why=x&for=1+day"
    assert call(app, f"/incidents/{OPEN}/{act}", "POST", body, origin="http://evil.example").status == 403
    assert len(source.texts) == before


def test_a_page_comes_in_the_browsers_language(app: Starlette) -> None:
    preferred = call(app, f"/incidents/{OPEN}", accept_language="pt-BR,pt;q=0.9,en;q=0.5")
    assert preferred.headers["content-language"] == "pt-BR"
    assert "O que olhar primeiro" in preferred.text
    asked = call(app, f"/incidents/{OPEN}?lang=en", accept_language="pt-BR")
    assert "What to look at first" in asked.text
    assert "Incidentes" in call(app, "/incidents?lang=pt-BR&show=all").text
