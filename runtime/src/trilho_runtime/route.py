"""The router: one address in front of a model's version processes.

    python -m trilho_runtime.route --routes FILE --label-dir DIR [--port P] ...

It splits requests by share, and sends a request on when a version does not answer: a prediction changes nothing but the
log, where its id counts once, so that asking twice is safe. Labels are written down here, whichever version answered.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trilho_runtime.prediction.log import LineLog
from trilho_runtime.routing.edge import Edge, Inside, check_path, passed_back
from trilho_runtime.routing.routes import Table
from trilho_runtime.routing.scores import bin_of, read_scores
from trilho_runtime.routing.shadow import SHADOW_HEADER, Answered, Mirror
from trilho_runtime.routing.sticky import KEY_HEADER, key_of
from trilho_runtime.routing.traffic import Counts, Route
from trilho_runtime.routing.upstream import Overdue, Pool, Reply, Unanswered, wire
from trilho_runtime.serving.arguments import add_caller_arguments, add_server_arguments, read_access
from trilho_runtime.web.body import MAX_BODY
from trilho_runtime.web.http import IDENTITY_HEADER, Answer, App, HttpError, Request, new_identity, predict_paths
from trilho_runtime.web.notes import RequestNotes, use_format

if TYPE_CHECKING:
    import socket

CONNECTIONS = 1024
RETRY_SECONDS = 10.0
ANSWER_SECONDS = 60.0
FIRST_WAIT, LONGEST_WAIT = 0.02, 0.5
DEATHS = 3  # a request at which so many servers died is not sent to another
PASSED_ON = ("content-type", "inference-header-content-length", "traceparent")
PREDICT, V2 = "/predict", "/v2/"
INFER = ("/v2/models/*",)


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
        self._answer_seconds = answer_seconds
        self._retry_seconds = retry_seconds
        self._mirror: Mirror | None = None
        self.counts = Counts()
        self._edge = Edge(table, labels, self.counts)

    def app(self, **more: Any) -> App:
        """Give the app that a service runs; `more` is who may call, and what is written of it."""
        routes = {("POST", path): self.predict for path in (*predict_paths(), *INFER)}
        return App({**self._edge.routes(), **routes}, **more)

    async def predict(self, request: Request) -> Answer:
        """Pass a prediction request to a version and its answer back."""
        body = await request.body()
        scope, routes = request.scope, self._table.routes
        path = (
            scope.path if scope.path.startswith(V2) else PREDICT
        )  # the versions' own, whatever Vertex AI calls it here
        check_path(path)
        headers = scope.headers
        key = headers.get(KEY_HEADER)
        if key is None and routes.sticky is not None and self._table.split.several:
            key = key_of(body, routes.sticky, routes.fields)
        passed = _passed_on(headers, new_identity(), request.id)
        asked = wire("POST", path, body, passed)
        started = time.perf_counter()
        try:
            reply = await self._ask(asked, key, _version_in(path))
        except HttpError:
            self.counts.failed += 1
            raise
        self.counts.failed += reply.status >= 500
        if routes.shadow is not None or self._mirror is not None:
            self._shadow(path, passed, body, reply, time.perf_counter() - started)
        answered = reply.headers
        request.rows = _number(answered.get("x-trilho-rows"))
        request.version = _number(answered.get("x-trilho-version")) or None
        return passed_back(reply)

    def _shadow(self, path: str, passed: str, body: bytes, reply: Reply, seconds: float) -> None:
        """Have a version asked unseen, where it is the turn of this request."""
        routes, mirror = self._table.routes, self._mirror
        shadow = routes.shadow
        if mirror is not None and (
            shadow is None or (mirror.version, mirror.pool.url) != (shadow.version, shadow.address)
        ):
            mirror.stop()
            mirror = self._mirror = None
        if shadow is None or not (reply.status == 200 or reply.status >= 500):
            return  # a caller's mistake compares nothing
        if mirror is None:
            count = self.counts.shadow_of(shadow.version)
            mirror = self._mirror = Mirror(shadow.version, Pool(shadow.address), count)
        if mirror.due(shadow.share):
            asked = wire("POST", path, body, f"{passed}{SHADOW_HEADER}: 1\r\n")
            mirror.offer(Answered(asked, body, reply, seconds, routes.edges, routes.fields, routes.slices))

    async def _ask(self, wire: bytes, key: str | None, version: int | None = None) -> Reply:
        """Ask versions until one answers. Raises HttpError when none did in time."""
        until = time.monotonic() + self._retry_seconds
        avoid: set[int] = set()
        blamed: set[int] = set()
        wait, deaths, why = FIRST_WAIT, 0, "no version is serving"
        while True:
            route = self._table.choose(key, avoid, version)
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
                if reply.status == 503:
                    why = f"version {route.version} is not ready"
                elif reply.status == 422 or reply.status >= 500:
                    return await self._hear_main(route, reply, wire, blamed)
                else:
                    return reply
            avoid.add(route.version)

    async def _hear_main(self, route: Route, refusal: Reply, wire: bytes, blamed: set[int]) -> Reply:
        """Ask the main version about rows that another has refused, or has failed on.

        Only what the main version takes is held against the other one: a caller whose own mistakes all go to a canary
        would have it rolled back. Nothing was answered under this identity yet, so the main version's answer may be.
        """
        main = self._table.routes.main
        if main is None or main.version == route.version:
            return refusal
        try:
            reply = await self._attempt(main, wire, blamed)
        except (Unanswered, HttpError):
            return refusal
        if reply.status == 200 and refusal.status == 422:
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
            count.rows += _number(reply.headers.get("x-trilho-rows"))
            count.extra_fields += _number(reply.headers.get("x-trilho-extra-fields"))
            if reply.status == 200 and self._table.split.several:
                scores = read_scores(reply.body)
                if scores:
                    count.add_score(bin_of(scores[0], self._table.routes.edges))
        return reply


def _passed_on(headers: Any, identity: str, request_id: str) -> str:
    """Give the lines that go on to a version; all attempts of one request carry the same identity."""
    lines = f"{IDENTITY_HEADER}: {identity}\r\nx-request-id: {request_id}\r\n"
    for name in PASSED_ON:
        value = headers.get(name)
        if value is not None:
            lines += f"{name}: {value}\r\n"
    return lines


def _version_in(path: str) -> int | None:
    """Give the version that a path of the Open Inference Protocol names.

    >>> _version_in("/v2/models/bikes/versions/2/infer"), _version_in("/predict")
    (2, None)
    """
    _, found, rest = path.rpartition("/versions/")
    return _number(rest.partition("/")[0]) or None if found else None


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdigit() else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve one model's versions at one address."""
    from trilho_runtime.web.service import CannotStart, bind, check_folder, serve

    given = _parser().parse_args(arguments)
    given.platform = None
    use_format(given.notes)
    try:
        check_folder(given.label_dir)
        access = read_access(given)
        listener = bind(given.host, given.port)
    except CannotStart as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return serve(_run(given, listener, access))


async def _run(given: argparse.Namespace, listener: socket.socket, access: Any) -> int:
    from trilho_runtime.web.service import Service, allow_connections

    table = Table(given.routes)
    table.look()
    following = asyncio.ensure_future(table.follow())
    router = Router(table, LineLog(given.label_dir, fsync=given.fsync), given.answer_seconds, given.retry_seconds)
    guard = Inside(access) if access is not None else None
    app = router.app(guard=guard, notes=RequestNotes(given.requests), max_body=given.max_body)
    service = Service(app, listener, allow_connections(2 * CONNECTIONS) // 2)
    code = await service.run(given.ready_file, given.parent_pipe)
    following.cancel()
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trilho_runtime.route", description=main.__doc__)
    parser.add_argument("--routes", type=Path, required=True, help="the file that says which versions get what share")
    parser.add_argument("--label-dir", type=Path, required=True, metavar="DIR", help="where labels are written")
    add_server_arguments(parser, "0")
    parser.add_argument("--fsync", action="store_true", help="labels survive a power cut as well")
    parser.add_argument("--max-body", type=int, default=MAX_BODY, metavar="BYTES", help="of one request")
    parser.add_argument("--requests", choices=["none", "errors", "all"], default="errors", help="said of each request")
    parser.add_argument("--notes", choices=["text", "json"], default="text", help="json is what Cloud Logging reads")
    add_caller_arguments(parser)
    parser.add_argument("--answer-seconds", type=float, default=ANSWER_SECONDS, help="a version may take so long")
    parser.add_argument("--retry-seconds", type=float, default=RETRY_SECONDS, help="other versions are asked so long")
    return parser


if __name__ == "__main__":
    sys.exit(main())
