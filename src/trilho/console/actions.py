"""What a person can do about an incident on the console: acknowledge, mute, let it be told again, close."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, quote

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from trilho.console.pages import Pages
from trilho.console.source import Source
from trilho.console.views import find_incident
from trilho.core.journal import whoami
from trilho.core.projection import Incident
from trilho.core.records import Payload
from trilho.errors import NotYet, UsageError
from trilho.watch.incidents import acts

LARGEST = 16_000  # bytes of a form
Check = Callable[[Any], None]


def incident_routes(source: Source, pages: Pages, check: Check, clock: Callable[[], str]) -> list[Route]:
    """Make the routes. `check` refuses a form that another site has sent."""

    async def act(request: Request) -> Response:
        check(request.headers)
        incident, verb = request.path_params["incident"], request.path_params["act"]
        if verb not in VERBS:
            raise HTTPException(404)
        form = await _form(request)
        try:
            found = await run_in_threadpool(_carry_out, source, incident, verb, form, clock())
        except NotYet:
            found = True  # somebody else did it meanwhile: the page says what it is now
        except UsageError as error:
            text = await run_in_threadpool(pages.problem, "Refused", error.fact)
            return HTMLResponse(text, status_code=422)
        if not found:
            raise HTTPException(404)
        lang = f"?lang={quote(form['lang'])}" if form.get("lang") else ""
        return RedirectResponse(f"/incidents/{quote(incident)}{lang}", status_code=303)

    return [Route("/incidents/{incident}/{act}", act, methods=["POST"])]


def _carry_out(source: Source, incident: str, verb: str, form: Mapping[str, str], now: str) -> bool:
    found = find_incident(source.state(), incident)
    if found is None:
        return False
    model, shown = found
    name = acts.person(form.get("name", ""))
    actor, why = f"{name} (console)" if name else whoami(), " ".join(form.get("why", "").split())[:500]
    if verb == "acknowledge":
        if shown.closed is None and shown.acknowledged_by is None:
            source.acknowledge(model.name, incident, actor, why or "on the console")
        return True
    source.act(model.name, VERBS[verb](model.name, shown, why, form, datetime.fromisoformat(now)), actor)
    return True


def _mute(model: str, shown: Incident, why: str, form: Mapping[str, str], now: datetime) -> Payload:
    for_ = acts.MUTES.get(form.get("for", ""))
    if for_ is None:
        raise UsageError(f"for is {form.get('for', '')!r}; allowed: {', '.join(acts.MUTES)}", hint="choose one of them")
    return acts.mute(model, shown, for_, why, now)


def _unmute(model: str, shown: Incident, why: str, form: Mapping[str, str], now: datetime) -> Payload:
    return acts.unmute(model, shown, why, now)


def _close(model: str, shown: Incident, why: str, form: Mapping[str, str], now: datetime) -> Payload:
    return acts.close(model, shown, why)


def _acknowledge(model: str, shown: Incident, why: str, form: Mapping[str, str], now: datetime) -> Payload:
    return acts.acknowledge(model, shown, why)


VERBS = {"acknowledge": _acknowledge, "mute": _mute, "unmute": _unmute, "close": _close}


async def _form(request: Request) -> dict[str, str]:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise HTTPException(413)
    try:
        fields = parse_qs(body.decode("utf-8"), max_num_fields=20)
    except ValueError:
        raise HTTPException(400) from None
    return {name: values[0] for name, values in fields.items()}
