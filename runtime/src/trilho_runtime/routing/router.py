"""One model's callers, answered by asking its versions: by share or key, with a shadow that is asked too."""

from __future__ import annotations

import time
from typing import Any

from trilho_runtime.prediction.log import LineLog
from trilho_runtime.routing.attempts import V2, Asked, Attempts, number_in
from trilho_runtime.routing.edge import Edge, check_path, passed_back
from trilho_runtime.routing.routes import Table
from trilho_runtime.routing.shadow import SHADOW_HEADER, Answered, Mirror
from trilho_runtime.routing.sticky import KEY_HEADER, Key, key_of
from trilho_runtime.routing.traffic import Counts
from trilho_runtime.routing.upstream import Pool, Reply, wire
from trilho_runtime.web.http import IDENTITY_HEADER, Answer, App, HttpError, Request, new_identity, predict_paths

RETRY_SECONDS = 10.0
ANSWER_SECONDS = 60.0
PASSED_ON = ("content-type", "inference-header-content-length", "traceparent")
MIXED_HEADER = "x-trilho-mixed-keys"
PREDICT = "/predict"
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
        self._mirror: Mirror | None = None
        self.counts = Counts()
        self.attempts = Attempts(table, self.counts, answer_seconds, retry_seconds)
        self._edge = Edge(table, labels, self.counts)

    def app(self, **more: Any) -> App:
        """Give the app that a service runs; `more` is who may call, and what is written of it."""
        routes = {("POST", path): self.predict for path in (*predict_paths(), *INFER)}
        return App({**self._edge.routes(), **routes}, **more)

    async def predict(self, request: Request) -> Answer:
        """Pass a prediction request to a version and its answer back."""
        body = await request.body()
        path = _own_path(request.scope.path)
        check_path(path)
        headers = request.scope.headers
        key = self._key(headers.get(KEY_HEADER), body)
        passed = _passed_on(headers, new_identity(), request.id, request.trace.traceparent if request.trace else None)
        started = time.perf_counter()
        try:
            reply = await self.attempts.ask(Asked.at(path, wire("POST", path, body, passed), key.value))
        except HttpError:
            self.counts.failed += 1
            raise
        self.counts.failed += reply.status >= 500
        if self._table.routes.shadow is not None or self._mirror is not None:
            self._shadow(path, passed, body, reply, time.perf_counter() - started)
        answered = reply.headers
        request.rows = number_in(answered.get("x-trilho-rows"))
        request.version = number_in(answered.get("x-trilho-version")) or None
        if "x-trilho-logged" in answered:
            self.counts.unlogged += max(0, request.rows - number_in(answered.get("x-trilho-logged")))
        return passed_back(reply, [(MIXED_HEADER, str(key.different))] if key.different > 1 else [])

    def _key(self, told: str | None, body: bytes) -> Key:
        """Give the key that decides where there is a choice: the header's, else that of the first row."""
        routes = self._table.routes
        if told is not None or routes.sticky is None or not self._table.split.several:
            return Key(told)
        key = key_of(body, routes.sticky, routes.fields)
        self.counts.mixed_keys += key.different > 1
        return key

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


def _own_path(path: str) -> str:
    """Give the versions' own path, whatever Vertex AI calls it here."""
    return path if path.startswith(V2) else PREDICT


def _passed_on(headers: Any, identity: str, request_id: str, traceparent: str | None = None) -> str:
    """Give the lines that go on to a version; all attempts of one request carry the same identity."""
    lines = f"{IDENTITY_HEADER}: {identity}\r\nx-request-id: {request_id}\r\n"
    for name in PASSED_ON:
        value = traceparent if traceparent is not None and name == "traceparent" else headers.get(name)
        if value is not None:
            lines += f"{name}: {value}\r\n"
    return lines
