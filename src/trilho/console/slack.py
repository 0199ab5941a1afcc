"""The address that Slack tells of a button that was pressed: it acknowledges an incident, and nothing else."""

from __future__ import annotations

import logging

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from trilho.console.source import Source
from trilho.console.views import find_incident
from trilho.errors import TrilhoError
from trilho.watch.alerts.channels import Directory
from trilho.watch.alerts.interaction import LARGEST, Press, is_signed, read

PATH = "/slack/actions"
log = logging.getLogger("trilho")


def slack_route(source: Source) -> Route:
    """Make the route. A request counts only when Slack has signed it within the last five minutes."""

    async def actions(request: Request) -> Response:
        body = await _body(request)
        if body is None:
            return PlainTextResponse("too large", status_code=413)
        secrets = await run_in_threadpool(_secrets, source)
        if not is_signed(request.headers, body, secrets):
            return PlainTextResponse("not signed by Slack", status_code=401)
        try:
            press = read(body)
        except ValueError:
            return PlainTextResponse("not a request of Slack", status_code=400)
        if press is not None:
            await run_in_threadpool(_acknowledge, source, press)
        return PlainTextResponse("")

    return Route(PATH, actions, methods=["POST"])


async def _body(request: Request) -> bytes | None:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            return None
    return body


def _secrets(source: Source) -> list[str]:
    """Give the signing secrets of all models' Slack apps."""
    found: dict[str, None] = {}
    for name in [None, *source.models()]:
        settings = source.settings(name) if name is not None else None
        for secret in Directory(tables=settings.alerts if settings else {}).signing_secrets():
            found[secret] = None
    return list(found)


def _acknowledge(source: Source, press: Press) -> None:
    """Record an acknowledgement; a second press, or one on what is closed, changes nothing."""
    found = find_incident(source.state(), press.incident)
    if found is None:
        log.warning("Slack: %s acknowledged %s, which is no incident here", press.actor, press.incident)
        return
    model, shown = found
    if shown.closed is None and shown.acknowledged_by is None:
        try:
            source.acknowledge(model.name, press.incident, press.actor, "in Slack")
        except TrilhoError as error:
            log.error("Slack: acknowledging %s: %s", press.incident, error.fact)
            raise
