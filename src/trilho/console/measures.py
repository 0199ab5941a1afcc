"""The address that Prometheus scrapes: the watch of all models as OpenMetrics text."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from trilho.console.source import Source
from trilho.watch.exports.metrics import expose
from trilho.watch.exports.openmetrics import CONTENT_TYPE

PATH = "/metrics"


def metrics_route(source: Source, clock: Callable[[], str]) -> Route:
    """Make the route; it reads and changes nothing."""

    async def metrics(request: Request) -> Response:
        text = await run_in_threadpool(expose, source, datetime.fromisoformat(clock()))
        return Response(text, headers={"content-type": CONTENT_TYPE, "cache-control": "no-store"})

    return Route(PATH, metrics)
