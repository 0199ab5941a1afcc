"""The attempts at one request: versions are asked until one answers, and what came of each is counted.

A prediction changes nothing but the log, where its id counts once, so that asking twice is safe. A server may have
written its lines and ended before it answered: a request that is sent again says which attempt it is, and of an id that
is in the log more than once the latest counts, which is what the caller was told.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from trilho_runtime.routing.routes import Table
from trilho_runtime.routing.scores import bin_of, read_scores
from trilho_runtime.routing.traffic import Counts, Route
from trilho_runtime.routing.upstream import Overdue, Reply, Unanswered
from trilho_runtime.web.http import ATTEMPT_HEADER, HttpError

FIRST_WAIT, LONGEST_WAIT = 0.02, 0.5
CRASH_SECONDS = 0.25  # one crash breaks many connections: within so long they are one error of the version
DEATHS = 3  # a request at which so many servers died is not sent to another
REFUSAL, REFUSALS_V2 = frozenset({422}), frozenset({400, 422})  # all of the Open Inference Protocol's are 400
V2 = "/v2/"


@dataclass(frozen=True)
class Asked:
    """A request as it goes to versions: the bytes, the key that decides for one, and the version that it names."""

    wire: bytes
    key: str | None = None
    version: int | None = None
    refusals: frozenset[int] = REFUSAL
    """The statuses by which a version refuses rows."""

    def sent(self, before: int) -> bytes:
        """Give the bytes as they are sent where they may have left lines before, so often.

        >>> Asked(b"POST /predict HTTP/1.1\\r\\nhost: trilho\\r\\n\\r\\n").sent(2)
        b'POST /predict HTTP/1.1\\r\\nx-trilho-attempt: 2\\r\\nhost: trilho\\r\\n\\r\\n'
        """
        if not before:
            return self.wire
        first, end, rest = self.wire.partition(b"\r\n")
        return b"%b\r\n%b: %d%b%b" % (first, ATTEMPT_HEADER.encode(), before, end, rest)

    @classmethod
    def at(cls, path: str, wire: bytes, key: str | None) -> Asked:
        """Give what is asked at a path of the versions.

        >>> Asked.at("/v2/models/bikes/versions/2/infer", b"", None).version
        2
        """
        return cls(wire, key, _version_in(path), REFUSALS_V2 if path.startswith(V2) else REFUSAL)


@dataclass
class Tried:
    """What happened to a request until now."""

    blamed: set[int] = field(default_factory=set)
    """Versions that an error was counted of: one for each request."""
    died: set[int] = field(default_factory=set)
    """Versions whose server ended while it had the request."""
    deaths: int = 0
    lost: int = 0
    """How often it was sent to a server that may have written its lines, and has not answered."""
    refusal: Reply | None = None
    """What a version said that is not trusted, and refused or failed; `refused` is its number."""
    refused: int = 0
    why: str = "no version is serving"


class Attempts:
    """Asks the versions of a table."""

    def __init__(self, table: Table, counts: Counts, answer_seconds: float, retry_seconds: float) -> None:
        self._table, self._counts = table, counts
        self._answer_seconds, self._retry_seconds = answer_seconds, retry_seconds
        self._crashed: dict[int, float] = {}

    async def ask(self, asked: Asked) -> Reply:
        """Ask versions until one answers. Raises HttpError when none did in time."""
        until = time.monotonic() + self._retry_seconds
        tried, avoid, wait = Tried(), set[int](), FIRST_WAIT
        while True:
            route = self._next(asked, tried, avoid)
            if route is None:
                if time.monotonic() + wait > until:
                    return self._given_up(tried)
                await self._table.change(wait)
                wait = min(2 * wait, LONGEST_WAIT)
                avoid = self._unfit(tried)
                continue
            reply = await self._reply(route, asked, tried)
            if reply is not None:
                return reply
            avoid.add(route.version)

    def _next(self, asked: Asked, tried: Tried, avoid: set[int]) -> Route | None:
        """Choose who is asked: once another has refused, the trusted version alone."""
        if tried.refusal is None:
            return self._table.choose(asked.key, avoid, asked.version)
        trusted = self._table.routes.trusted
        named = [route for route in self._table.routes.routes if route.version == trusted]
        return named[0] if named and trusted not in avoid else None

    def _given_up(self, tried: Tried) -> Reply:
        if tried.refusal is not None:
            return tried.refusal
        late = f"no answer in {self._retry_seconds:g} s: {tried.why}"
        raise HttpError(503, late, headers=[("retry-after", "1")])

    async def _reply(self, route: Route, asked: Asked, tried: Tried) -> Reply | None:
        """Ask one version; give what the caller is to be given, None where another is to be asked.

        The trusted version is heard about rows that another has refused, or has failed on. Only what it takes is held
        against the other one: a caller whose own mistakes all go to a canary would have it rolled back. Nothing was
        answered under this identity yet, so that its answer may be. Who names a version wants to hear that one.
        """
        try:
            reply = await self._attempt(route, asked, tried)
        except Unanswered as error:
            self._note_death(route, error, tried)
            return None
        except HttpError:
            if tried.refusal is None:
                raise
            return tried.refusal
        if reply.status == 503:
            tried.why = f"version {route.version} is not ready"
            return None
        if tried.refusal is not None:
            return self._settled(reply, asked, tried, tried.refusal)
        odd = reply.status in asked.refusals or reply.status >= 500
        if odd and route.version not in (self._table.routes.trusted, asked.version):
            tried.refusal, tried.refused = reply, route.version
            return None
        return reply

    def _settled(self, reply: Reply, asked: Asked, tried: Tried, refusal: Reply) -> Reply:
        """Give the trusted version's word, or the other one's where it has none either."""
        if reply.status == 200 and refusal.status in asked.refusals:
            count = self._counts.of(tried.refused)
            count.requests += 1
            count.refused += 1
        return reply if reply.status < 500 else refusal

    def _note_death(self, route: Route, error: Unanswered, tried: Tried) -> None:
        """Raise HttpError 503 for a request that is not to be sent to one more server."""
        tried.why = f"version {route.version}: {error}"
        if error.sent:
            tried.deaths += 1
            tried.died.add(route.version)
        if tried.deaths >= DEATHS:
            raise HttpError(503, f"{tried.deaths} servers ended while they had this request: {tried.why}")

    def _unfit(self, tried: Tried) -> set[int]:
        """Give the versions not to be asked again: others than the trusted one, whose server died.

        The trusted version's own server may have been killed by chance while it had the request. Until it is back, a
        version that ends at these very rows must not end again and again, and the request with it.
        """
        return tried.died - {self._table.routes.trusted}

    async def _attempt(self, route: Route, asked: Asked, tried: Tried) -> Reply:
        """Ask one version and count what came of it, an error once for each request; a refusal is judged elsewhere."""
        count, trusted = self._counts.of(route.version), self._table.routes.trusted
        started = time.perf_counter()
        failed, judged = True, True
        try:
            reply = await self._send(route, asked, tried)
            failed = reply.status >= 500
            judged = reply.status not in asked.refusals or trusted in (None, route.version)
        except Overdue as error:
            raise HttpError(504, f"version {route.version}: {error}") from None
        except Unanswered:
            judged = self._is_crash(route.version)
            raise
        finally:
            if judged and route.version not in tried.blamed:
                count.requests += 1
                count.errors += failed
            if failed:
                tried.blamed.add(route.version)
        if judged and not failed:
            self._add(route.version, reply, time.perf_counter() - started)
        return reply

    async def _send(self, route: Route, asked: Asked, tried: Tried) -> Reply:
        """Send a request to a version, with the number of the attempt."""

        def again() -> bytes:
            tried.lost += 1
            return asked.sent(tried.lost)

        try:
            reply = await self._table.pool(route).send(asked.sent(tried.lost), self._answer_seconds, again)
        except Unanswered as error:
            tried.lost += error.sent
            raise
        tried.lost += reply.status >= 500
        return reply

    def _is_crash(self, version: int) -> bool:
        """Say whether a broken connection is news: a test that took one crash for many failures would be no test."""
        now = time.monotonic()
        if now - self._crashed.get(version, -CRASH_SECONDS) < CRASH_SECONDS:
            return False
        self._crashed[version] = now
        return True

    def _add(self, version: int, reply: Reply, seconds: float) -> None:
        count = self._counts.of(version)
        count.latency.add(seconds)
        count.rows += number_in(reply.headers.get("x-trilho-rows"))
        count.extra_fields += number_in(reply.headers.get("x-trilho-extra-fields"))
        if reply.status == 200 and self._table.split.several:
            scores = read_scores(reply.body)
            if scores:
                count.add_score(bin_of(scores[0], self._table.routes.edges))


def _version_in(path: str) -> int | None:
    """Give the version that a path of the Open Inference Protocol names.

    >>> _version_in("/v2/models/bikes/versions/2/infer"), _version_in("/predict")
    (2, None)
    """
    _, found, rest = path.rpartition("/versions/")
    return number_in(rest.partition("/")[0]) or None if found else None


def number_in(text: str | None) -> int:
    """Give the number that a header holds; 0 for none.

    >>> number_in("12"), number_in(None)
    (12, 0)
    """
    return int(text) if text is not None and text.isdigit() else 0
