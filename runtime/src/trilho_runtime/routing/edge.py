"""What an endpoint takes and says besides predictions: labels, health, counts, and each version's own pages."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from trilho_runtime.prediction.log import LineLog
from trilho_runtime.protocols.labelling import Labelling
from trilho_runtime.routing.routes import Table
from trilho_runtime.routing.traffic import Counts, Route
from trilho_runtime.routing.upstream import Overdue, Reply, Unanswered, wire
from trilho_runtime.web import measures
from trilho_runtime.web.access import is_loopback
from trilho_runtime.web.http import Answer, Guard, Handler, HttpError, Request, health_paths, parse_json

PROBE_SECONDS = 1.0
PAGE_SECONDS = 10.0
PAGES = ("/openapi.json", "/docs", "/profile", "/v2", "/v2/health/live", "/v2/models/*")
READY = ("/v2/health/ready",)
PASSED_BACK = ("retry-after", "inference-header-content-length")
OURS = "x-trilho-"


class Edge:
    """One model's endpoint: what it answers itself, and what it passes to the version that is trusted."""

    def __init__(self, table: Table, labels: LineLog, counts: Counts) -> None:
        self._table = table
        self._labelling = Labelling(labels, counted=self._count_labels, failed=self._count_failed)
        self._counts = counts

    def routes(self) -> dict[tuple[str, str], Handler]:
        """Give the handlers by method and path."""
        routes: dict[tuple[str, str], Handler] = {("GET", path): self.health for path in (*health_paths(), *READY)}
        routes |= {("GET", path): self.page for path in PAGES}
        routes |= {**self._labelling.routes(), ("GET", "/"): self.info}
        routes |= {("GET", "/stats"): self.stats, ("GET", "/metrics"): self.metrics}
        return routes

    def _count_labels(self, number: int) -> None:
        self._counts.labels += number

    def _count_failed(self) -> None:
        self._counts.failed += 1

    async def page(self, request: Request) -> Answer:
        """Pass a page of the version that is trusted, or of another one while it is away."""
        scope = request.scope
        query = f"?{scope.query_string}" if scope.query_string else ""
        check_path(f"{scope.path}{query}")
        asked = wire("GET", f"{scope.path}{query}", b"")
        for route in self._in_trust():
            reply = await self._probe(route, asked, PAGE_SECONDS)
            if reply is not None and reply.status != 503:
                return passed_back(reply)
        raise HttpError(503, "no version is ready", headers=[("retry-after", "1")])

    async def info(self, request: Request) -> Answer:
        """Give the info of the version with the most traffic, and every version's share."""
        routes = self._table.routes
        told = {route.version: await self._told(route) for route in routes.routes}
        shares = [
            {"version": r.version, "share": r.share, "memory_bytes": _memory(told[r.version])} for r in routes.routes
        ]
        ours: dict[str, Any] = {"versions": shares, **self._sticky()}
        for route in sorted(routes.routes, key=lambda r: -r.share):
            if told[route.version]:
                return Answer(200, {**told[route.version], **ours})
        return Answer(200, {"model": routes.model, **ours})

    def _sticky(self) -> dict[str, Any]:
        """Say by what a request's version is decided, where a key does."""
        field = self._table.routes.sticky
        if field is None:
            return {}
        rule = f"the x-trilho-key header, else {field} of the first row, decides for all rows of a request"
        return {"sticky": {"field": field, "rule": rule, "mixed_requests": self._counts.mixed_keys}}

    async def _told(self, route: Route) -> dict[str, Any]:
        """Give what a version says of itself; nothing while it is not ready."""
        reply = await self._probe(route, wire("GET", "/", b""))
        return dict(parse_json(reply.body)) if reply is not None and reply.status == 200 else {}

    async def health(self, request: Request) -> Answer:
        """Say whether any version is ready."""
        asked = wire("GET", "/health", b"")
        for route in self._in_trust():
            reply = await self._probe(route, asked)
            if reply is not None and reply.status == 200:
                ours = {"live": True, "ready": True} if request.scope.path in READY else {"status": "ready"}
                return Answer(200, ours)
        raise HttpError(503, "no version is ready", headers=[("retry-after", "1")])

    async def stats(self, request: Request) -> Answer:
        """Give the counts since the router started."""
        return Answer(200, self._counts.to_json(self._table.routes))

    async def metrics(self, request: Request) -> Answer:
        """Give the counts as Prometheus text."""
        counts, model = self._counts, self._table.routes.model
        versions = [({"model": model, "version": v}, c) for v, c in sorted(counts.versions.items())]
        shadows = [({"model": model, "version": v}, c) for v, c in sorted(counts.shadows.items())]
        shares = [({"model": model, "version": r.version}, r.share) for r in self._table.routes.routes]
        parts = [
            measures.metric("trilho_route_share", "Share of the traffic, in percent.", shares, "gauge"),
            measures.metric("trilho_route_requests_total", "Requests.", [(k, c.requests) for k, c in versions]),
            measures.metric("trilho_route_rows_total", "Rows predicted.", [(k, c.rows) for k, c in versions]),
            measures.metric("trilho_route_errors_total", "5xx or no answer.", [(k, c.errors) for k, c in versions]),
            measures.metric("trilho_route_extra_fields_total", "Ignored.", [(k, c.extra_fields) for k, c in versions]),
            measures.metric(
                "trilho_route_refused_total",
                "Refused, though the main version took the rows.",
                [(k, c.refused) for k, c in versions],
            ),
            measures.metric("trilho_route_failed_total", "5xx to callers.", [({"model": model}, counts.failed)]),
            measures.metric(
                "trilho_route_mixed_keys_total",
                "Requests whose rows had several keys; the first decided.",
                [({"model": model}, counts.mixed_keys)],
            ),
            measures.metric(
                "trilho_route_unlogged_rows_total",
                "Rows answered and not logged.",
                [({"model": model}, counts.unlogged)],
            ),
            measures.metric("trilho_labels_total", "Labels accepted.", [({"model": model}, counts.labels)]),
            measures.histogram("trilho_route_latency_seconds", "Of versions.", [(k, c.latency) for k, c in versions]),
            measures.metric("trilho_shadow_requests_total", "Asked unseen.", [(k, c.requests) for k, c in shadows]),
            measures.metric("trilho_shadow_dropped_total", "Not asked.", [(k, c.dropped) for k, c in shadows]),
            measures.metric(
                "trilho_shadow_disagreements_total",
                "Rows answered otherwise.",
                [(k, c.disagreements) for k, c in shadows],
            ),
        ]
        return measures.answer(parts)

    def _in_trust(self) -> list[Route]:
        """Give the versions in the order in which their word counts: the main one first."""
        main = self._table.routes.main
        return sorted(self._table.routes.routes, key=lambda route: (route != main, -route.share))

    async def _probe(self, route: Route, asked: bytes, seconds: float = PROBE_SECONDS) -> Reply | None:
        try:
            return await self._table.pool(route).send(asked, seconds)
        except (Unanswered, Overdue):
            return None


class Inside:
    """Lets the supervisor, on this machine, read the counts without the credentials that callers need."""

    def __init__(self, access: Guard) -> None:
        self._access = access

    def check(self, scope: Any) -> Awaitable[None] | None:
        """Let a caller in at once (None), or after a wait. Raises HttpError for one who may not."""
        if scope.path == "/stats" and is_loopback(scope.client.rpartition(":")[0].strip("[]")):
            return None
        return self._access.check(scope)


def _memory(told: Mapping[str, Any]) -> int | None:
    """Give the memory of a version: of its process, or of all its workers."""
    workers = [worker.get("memory_bytes") or 0 for worker in told.get("workers", [])]
    return sum(workers) if workers else told.get("memory_bytes")


def passed_back(reply: Reply, more: Sequence[tuple[str, str]] = ()) -> Answer:
    """Give a version's answer as the caller's."""
    headers = [(name, value) for name, value in reply.headers.items() if name in PASSED_BACK or name.startswith(OURS)]
    return Answer(reply.status, reply.body, [*headers, *more], reply.headers.get("content-type", "application/json"))


def check_path(path: str) -> None:
    """Raise HttpError 400 for a path that would not be one line of a request."""
    if not (path.isascii() and path.isprintable()) or " " in path:
        raise HttpError(400, "the path holds characters that a URL has percent-encoded")
