"""The console as an ASGI application: routes, the rules of the door, and nothing else."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Callable, Collection
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trilho.console.actions import incident_routes
from trilho.console.language import language_of
from trilho.console.live import Pulse, events
from trilho.console.measures import metrics_route
from trilho.console.pages import STATIC, Pages, stylesheet
from trilho.console.slack import PATH as SLACK
from trilho.console.slack import slack_route
from trilho.console.source import Source
from trilho.core.journal import now
from trilho.errors import TrilhoError

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


def create_app(
    source: Source,
    *,
    hosts: Collection[str] = (),
    stopping: threading.Event | None = None,
    clock: Callable[[], str] = now,
) -> Starlette:
    """Make the console for a source.

    `hosts` are names under which it may be reached besides addresses, localhost and this machine's own name: any
    other is refused, since a foreign site could point a name of its own here. Streams end when `stopping` is set.
    """
    pages, pulse = Pages(source, clock), Pulse(source)

    def page(render: Any, *keys: str) -> Any:
        async def answer(request: Request) -> Response:
            values = [request.path_params[key] for key in keys]
            fragment = {"fragment": True} if "x-fragment" in request.headers else {}
            text = await run_in_threadpool(render, *values, **fragment)
            if text is None:
                raise HTTPException(404)
            return HTMLResponse(text, headers={"cache-control": "no-store", "vary": "x-fragment"})

        return answer

    def spoken(render: Any, *keys: str) -> Any:
        """Serve a page in the language that is asked for; without keys it is told what its address asks."""

        async def answer(request: Request) -> Response:
            values: list[Any] = [request.path_params[key] for key in keys]
            how: dict[str, Any] = {"fragment": "x-fragment" in request.headers}
            asked = request.query_params.get("lang", "")
            how["language"] = language_of(asked, request.headers.get("accept-language", ""))
            if keys:
                how["asked"] = how["language"] if asked else ""
            else:
                values = [dict(request.query_params)]
            text = await run_in_threadpool(render, *values, **how)
            if text is None:
                raise HTTPException(404)
            headers = {"cache-control": "no-store", "vary": "x-fragment, accept-language"}
            return HTMLResponse(text, headers={**headers, "content-language": how["language"]})

        return answer

    async def log(request: Request) -> Response:
        text = await run_in_threadpool(pages.log, request.path_params["run"], request.path_params["task"])
        if text is None:
            raise HTTPException(404)
        return HTMLResponse(text, headers={"cache-control": "no-store"})

    async def report_json(request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(pages.report_data), headers={"cache-control": "no-store"})

    async def stream(request: Request) -> Response:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(events(pulse, stopping), media_type="text/event-stream", headers=headers)

    style = stylesheet()

    async def styles(request: Request) -> Response:
        return Response(style, media_type="text/css")

    async def report_file(request: Request) -> Response:
        headers = {"content-disposition": 'attachment; filename="handover.html"', "cache-control": "no-store"}
        return HTMLResponse(await run_in_threadpool(pages.handover), headers=headers)

    async def alive(request: Request) -> Response:
        return PlainTextResponse("ok")

    async def refused(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        title, text = PROBLEMS.get(status, (f"Refused ({status})", "The console does not do this."))
        return HTMLResponse(await run_in_threadpool(pages.problem, title, text), status_code=status)

    async def unreadable(request: Request, error: Exception) -> Response:
        fact = error.fact if isinstance(error, TrilhoError) else str(error)
        text = await run_in_threadpool(pages.problem, "The journal cannot be read now", fact)
        return HTMLResponse(text, status_code=503, headers={"retry-after": "2"})

    routes = [
        Route("/", page(pages.overview)),
        Route("/models/{name}", page(pages.model, "name")),
        Route("/runs/{run}", page(pages.run, "run")),
        Route("/runs/{run}/logs/{task:path}", log),
        Route("/incidents", spoken(pages.incidents)),
        Route("/incidents/{incident}", spoken(pages.incident, "incident")),
        *incident_routes(source, pages, _same_origin, clock),
        slack_route(source),
        Route("/report", page(pages.report)),
        Route("/report.json", report_json),
        Route("/report.html", report_file),
        Route("/style.css", styles),
        Route("/events", stream),
        Route("/health", alive),
        metrics_route(source, clock),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: refused, TrilhoError: unreadable})
    app.add_middleware(Door, hosts=frozenset(hosts) | {"localhost", socket.gethostname().lower()})
    return app


PROBLEMS = {
    403: ("Refused", "This form was sent from another site."),
    404: ("Nothing here", "There is no such page: the model, run or incident is not in this journal."),
    405: ("Refused", "This address takes no such request."),
    413: ("Refused", "The form is too large."),
}


class Door:
    """Refuse names that are not this machine's, and send the security headers with every answer."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                if scope["path"].startswith(("/static/", "/style.css")):
                    headers["cache-control"] = "public, max-age=86400"
            await send(message)

        signed = scope["path"] == SLACK  # by whatever name it came: only what Slack has signed counts there
        if not signed and not self._known(Headers(scope=scope).get("host", "")):
            answer = PlainTextResponse("This console is not known under that name.", status_code=421)
            await answer(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)

    def _known(self, host: str) -> bool:
        name = (urlsplit(f"//{host}").hostname or "").lower()
        if name in self._hosts or name.endswith(".localhost"):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def _same_origin(headers: Headers) -> None:
    """Let a form through only from the console's own pages. Raises HTTPException (403)."""
    origin = headers.get("origin")
    if origin is None or urlsplit(origin).netloc != headers.get("host"):
        raise HTTPException(403)
