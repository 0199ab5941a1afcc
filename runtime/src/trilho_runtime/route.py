"""The router: one address in front of a model's version processes.

    python -m trilho_runtime.route --routes FILE --label-dir DIR [--port P] ...

It splits requests by share, and sends a request on when a version does not answer: a prediction changes nothing but the
log, where its id counts once, so that asking twice is safe. Labels are written down here, whichever version answered.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trilho_runtime import measures
from trilho_runtime.http import (
    IDENTITY_HEADER,
    Answer,
    App,
    HttpError,
    Request,
    health_paths,
    new_identity,
    note,
    parse_json,
    predict_paths,
)
from trilho_runtime.log import LabelError, LineLog, label_lines
from trilho_runtime.server import add_server_arguments
from trilho_runtime.traffic import Counts, Route, Routes, RoutesError, Split, read_routes
from trilho_runtime.upstream import Overdue, Pool, Reply, Unanswered

if TYPE_CHECKING:
    import socket

CONNECTIONS = 1024
POLL_SECONDS = 0.05
RETRY_SECONDS = 10.0
ANSWER_SECONDS = 60.0
FIRST_WAIT, LONGEST_WAIT = 0.02, 0.5
DEATHS = 3  # a request at which so many servers died is not sent to another
PASSED_ON = ("x-trilho-version", "retry-after")


class Table:
    """The routes as the supervisor last wrote them, and the connections to them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._pools: dict[str, Pool] = {}
        self._changed = asyncio.Event()
        self.routes = Routes()
        self.split = Split(())

    async def follow(self) -> None:
        """Look for a new routes file, for ever."""
        while True:
            self.look()
            await asyncio.sleep(POLL_SECONDS)

    def look(self) -> None:
        """Read the routes file if it is another one than before; keep the old routes when it is malformed."""
        try:
            stat = os.stat(self._path)  # noqa: PTH116  once in 50 ms
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        except OSError:
            seen = (0, 0, 0)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._take(read_routes(self._path))
        except RoutesError as error:
            note(str(error))

    def _take(self, routes: Routes) -> None:
        self.routes, self.split = routes, Split(routes.routes, self.split)
        wanted = {route.address for route in routes.routes}
        for address in self._pools.keys() - wanted:
            self._pools.pop(address).retire()
        self._changed.set()
        self._changed = asyncio.Event()

    def pool(self, route: Route) -> Pool:
        """Give the connections to a version."""
        return self._pools.get(route.address) or self._pools.setdefault(route.address, Pool(route.address))

    async def change(self, seconds: float) -> None:
        """Wait for other routes, but not for long."""
        waiting = asyncio.ensure_future(self._changed.wait())
        await asyncio.wait({waiting}, timeout=seconds)
        waiting.cancel()


class Router:
    """Answers a model's callers by asking its versions."""

    def __init__(
        self,
        table: Table,
        labels: LineLog,
        answer_seconds: float = ANSWER_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._table = table
        self._labels = labels
        self._answer_seconds = answer_seconds
        self._retry_seconds = retry_seconds
        self.counts = Counts()

    def app(self) -> App:
        """Give the app that a service runs."""
        routes = {("POST", path): self.predict for path in predict_paths()}
        routes |= {("GET", path): self.health for path in health_paths()}
        routes |= {("POST", "/labels"): self.label, ("GET", "/"): self.info}
        routes |= {("GET", "/stats"): self.stats, ("GET", "/metrics"): self.metrics}
        return App(routes)

    async def predict(self, request: Request) -> Answer:
        """Pass a prediction request to a version and its answer back."""
        body = await request.body()
        wire = _wire("POST", "/predict", body, new_identity())
        try:
            reply = await self._ask(wire, request.scope.headers.get("x-trilho-key"))
        except HttpError:
            self.counts.failed += 1
            raise
        self.counts.failed += reply.status >= 500
        passed = [(name, reply.headers[name]) for name in PASSED_ON if name in reply.headers]
        return Answer(reply.status, reply.body, passed)

    async def _ask(self, wire: bytes, key: str | None) -> Reply:
        """Ask versions until one answers. Raises HttpError when none did in time."""
        until = time.monotonic() + self._retry_seconds
        avoid: set[int] = set()
        blamed: set[int] = set()
        wait, deaths, why = FIRST_WAIT, 0, "no version is serving"
        while True:
            route = self._table.split.choose(key, avoid)
            if route is None:
                if time.monotonic() + wait > until:
                    raise HttpError(
                        503, f"no answer in {self._retry_seconds:g} s: {why}", headers=[("retry-after", "1")]
                    )
                await self._table.change(wait)
                wait = min(2 * wait, LONGEST_WAIT)
                avoid.clear()
                continue
            try:
                reply = await self._attempt(route, wire, blamed)
            except Unanswered as error:
                deaths, why = deaths + error.sent, f"version {route.version}: {error}"
                if deaths >= DEATHS:
                    raise HttpError(503, f"{deaths} servers ended while they had this request: {why}") from None
            else:
                if reply.status == 422:
                    return await self._hear_main(route, reply, wire, blamed)
                if reply.status != 503:
                    return reply
                why = f"version {route.version} is not ready"
            avoid.add(route.version)

    async def _hear_main(self, route: Route, refusal: Reply, wire: bytes, blamed: set[int]) -> Reply:
        """Ask the main version about rows that another has refused.

        Only what the main version takes is held against the other one: a caller whose own mistakes all go to a canary
        would have it rolled back. Nothing was logged under this identity yet, so the main version's answer may be.
        """
        main = self._table.routes.main
        if main is None or main.version == route.version:
            return refusal
        try:
            reply = await self._attempt(main, wire, blamed)
        except (Unanswered, HttpError):
            return refusal
        if reply.status == 200:
            count = self.counts.of(route.version)
            count.requests += 1
            count.refused += 1
        return reply if reply.status < 500 else refusal

    async def _attempt(self, route: Route, wire: bytes, blamed: set[int]) -> Reply:
        """Ask one version and count what came of it, an error once for each request; a refusal is judged elsewhere."""
        count, main = self.counts.of(route.version), self._table.routes.main
        started = time.perf_counter()
        failed, judged = True, True
        try:
            reply = await self._table.pool(route).send(wire, self._answer_seconds)
            failed = reply.status >= 500
            judged = reply.status != 422 or main is None or main.version == route.version
        except Overdue as error:
            raise HttpError(504, f"version {route.version}: {error}") from None
        finally:
            if judged and route.version not in blamed:
                count.requests += 1
                count.errors += failed
            if failed:
                blamed.add(route.version)
        if judged and not failed:
            count.latency.add(time.perf_counter() - started)
            count.rows += int(reply.headers.get("x-trilho-rows", 0))
            count.extra_fields += int(reply.headers.get("x-trilho-extra-fields", 0))
        return reply

    async def label(self, request: Request) -> Answer:
        """Write labels down, then say how many."""
        payload = parse_json(await request.body())
        try:
            lines, number = label_lines(payload)
            self._labels.append(lines)
        except LabelError as error:
            raise HttpError(422, str(error), field="labels", row=error.row) from None
        except OSError as error:
            self.counts.failed += 1
            raise HttpError(507, f"the labels could not be kept: {error.strerror or error}") from None
        self.counts.labels += number
        return Answer(200, {"accepted": number})

    async def info(self, request: Request) -> Answer:
        """Give the info of the version with the most traffic, and every version's share."""
        routes = self._table.routes
        shares = [{"version": r.version, "share": r.share} for r in routes.routes]
        for route in sorted(routes.routes, key=lambda r: -r.share):
            reply = await self._probe(route, "/")
            if reply is not None and reply.status == 200:
                return Answer(200, {**parse_json(reply.body), "versions": shares})
        return Answer(200, {"model": routes.model, "versions": shares})

    async def health(self, request: Request) -> Answer:
        """Say whether any version is ready."""
        for route in self._table.routes.routes:
            reply = await self._probe(route, "/health")
            if reply is not None and reply.status == 200:
                return Answer(200, {"status": "ready"})
        raise HttpError(503, "no version is ready", headers=[("retry-after", "1")])

    async def _probe(self, route: Route, path: str) -> Reply | None:
        try:
            return await self._table.pool(route).send(_wire("GET", path, b""), 1.0)
        except (Unanswered, Overdue):
            return None

    async def stats(self, request: Request) -> Answer:
        """Give the counts since the router started."""
        return Answer(200, self.counts.to_json(self._table.routes))

    async def metrics(self, request: Request) -> Answer:
        """Give the counts as Prometheus text."""
        model = self._table.routes.model
        versions = [({"model": model, "version": v}, c) for v, c in sorted(self.counts.versions.items())]
        shares = [({"model": model, "version": r.version}, r.share) for r in self._table.routes.routes]
        parts = [
            measures.metric("trilho_route_share", "Share of the traffic, in percent.", shares, "gauge"),
            measures.metric("trilho_route_requests_total", "Requests.", [(k, c.requests) for k, c in versions]),
            measures.metric("trilho_route_rows_total", "Rows predicted.", [(k, c.rows) for k, c in versions]),
            measures.metric("trilho_route_errors_total", "5xx or no answer.", [(k, c.errors) for k, c in versions]),
            measures.metric("trilho_route_extra_fields_total", "Ignored.", [(k, c.extra_fields) for k, c in versions]),
            measures.metric(
                "trilho_route_refused_total",
                "422, though the main version took the rows.",
                [(k, c.refused) for k, c in versions],
            ),
            measures.metric("trilho_route_failed_total", "5xx to callers.", [({"model": model}, self.counts.failed)]),
            measures.metric("trilho_labels_total", "Labels accepted.", [({"model": model}, self.counts.labels)]),
            measures.histogram("trilho_route_latency_seconds", "Of versions.", [(k, c.latency) for k, c in versions]),
        ]
        return measures.answer(parts)


def _wire(method: str, path: str, body: bytes, identity: str = "") -> bytes:
    """Give a request as it goes over the wire; all attempts of one carry the same identity."""
    named = f"{IDENTITY_HEADER}: {identity}\r\n" if identity else ""
    return f"{method} {path} HTTP/1.1\r\nhost: trilho\r\n{named}content-length: {len(body)}\r\n\r\n".encode() + body


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve one model's versions at one address."""
    from trilho_runtime.service import CannotStart, bind, check_folder, serve

    given = _parser().parse_args(arguments)
    try:
        check_folder(given.label_dir)
        listener = bind(given.host, given.port)
    except CannotStart as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return serve(_run(given, listener))


async def _run(given: argparse.Namespace, listener: socket.socket) -> int:
    from trilho_runtime.service import Service, allow_connections

    table = Table(given.routes)
    table.look()
    following = asyncio.ensure_future(table.follow())
    router = Router(table, LineLog(given.label_dir, fsync=given.fsync), given.answer_seconds, given.retry_seconds)
    service = Service(router.app(), listener, allow_connections(2 * CONNECTIONS) // 2)
    code = await service.run(given.ready_file, given.parent_pipe)
    following.cancel()
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trilho_runtime.route", description=main.__doc__)
    parser.add_argument("--routes", type=Path, required=True, help="the file that says which versions get what share")
    parser.add_argument("--label-dir", type=Path, required=True, metavar="DIR", help="where labels are written")
    add_server_arguments(parser, "0")
    parser.add_argument("--fsync", action="store_true", help="labels survive a power cut as well")
    parser.add_argument("--answer-seconds", type=float, default=ANSWER_SECONDS, help="a version may take so long")
    parser.add_argument("--retry-seconds", type=float, default=RETRY_SECONDS, help="other versions are asked so long")
    return parser


if __name__ == "__main__":
    sys.exit(main())
