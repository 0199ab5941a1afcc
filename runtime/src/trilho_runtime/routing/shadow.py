"""The shadow: a version is asked about requests that another has answered, and what it says is only compared.

A caller's answer is never delayed nor changed by it. Requests wait for their turn in a short queue; when the version is
slow or away they are dropped, and counted. The request carries the same identity, so that the label of the answered
prediction belongs to the unseen one too, and a header by which the version's server keeps it out of what was served.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from trilho_runtime.routing.scores import CUTS, LABELS, Score, bin_of, difference, disagree, far_apart, read_scores
from trilho_runtime.routing.slower import allowed_edges, place
from trilho_runtime.routing.upstream import Overdue, Pool, Reply, Unanswered
from trilho_runtime.web.measures import EDGES_MS, Latency

SHADOW_HEADER = "x-trilho-shadow"
WAITING = 64
AT_ONCE = 4
ANSWER_SECONDS = 10.0
AWAY_SECONDS = 0.25  # after a broken connection nothing is sent for so long: one crash is one error, not a thousand
NO_ANSWER, NOT_ASKED = Reply(502, {}, b""), Reply(503, {}, b"")
WORST = 20
VALUES = 50  # of a field, beyond which they are counted together


@dataclass
class ShadowCount:
    """What came of a version's unseen answers, as sums that add up; of the worst rows, the first few."""

    requests: int = 0
    dropped: int = 0
    errors: int = 0
    champion_errors: int = 0
    refused: int = 0
    rows: int = 0
    disagreements: int = 0
    sum: float = 0.0
    squares: float = 0.0
    pairs: int = 0
    moved: int = 0
    scores: dict[str, int] = field(default_factory=dict)
    slow: list[int] = field(default_factory=lambda: [0] * len(allowed_edges()))
    fast: list[int] = field(default_factory=lambda: [0] * len(allowed_edges()))
    latency: Latency = field(default_factory=Latency)
    champion_latency: Latency = field(default_factory=Latency)
    slices: dict[str, dict[str, float]] = field(default_factory=dict)
    _worst: list[tuple[float, str, float]] = field(default_factory=list)  # a heap by the size of the difference

    def add_pair(self, seconds: float, champion_seconds: float) -> None:
        """Count how long both took for a request."""
        self.latency.add(seconds)
        self.champion_latency.add(champion_seconds)
        new, old = place(seconds), place(champion_seconds)
        for edge, allowed in enumerate(allowed_edges()):
            over, champion_over = new > allowed, old > edge
            self.slow[edge] += over and not champion_over
            self.fast[edge] += champion_over and not over

    def add_scores(
        self,
        new: Sequence[Score],
        old: Sequence[Score],
        ids: Sequence[str],
        edges: Sequence[float] = (),
        slices: Sequence[Sequence[str]] = (),
    ) -> None:
        """Compare what both said of a request's rows; answers of another length are a refusal."""
        if not new or len(new) != len(old):
            self.refused += 1
            return
        self.pairs += 1
        mine, theirs = bin_of(new[0], edges), bin_of(old[0], edges)
        self.moved += far_apart(mine, theirs)
        if mine in self.scores or len(self.scores) < CUTS + LABELS:
            self.scores[mine] = self.scores.get(mine, 0) + 1
        for row, (ours, champions) in enumerate(zip(new, old, strict=True)):
            gap, other = difference(ours, champions), disagree(ours, champions)
            self.rows += 1
            self.disagreements += other
            self.sum += gap
            self.squares += gap * gap
            for name in slices[row] if row < len(slices) else ():
                self._add_slice(name, gap, other)
            if gap and row < len(ids):
                self._keep(abs(gap), ids[row], gap)

    def _add_slice(self, name: str, gap: float, other: bool) -> None:
        if name not in self.slices and len(self.slices) >= VALUES:
            name = "(others)"
        found = self.slices.setdefault(name, {"rows": 0, "disagreements": 0, "sum": 0.0})
        found["rows"] += 1
        found["disagreements"] += other
        found["sum"] += gap

    def _keep(self, size: float, id_: str, gap: float) -> None:
        if len(self._worst) < WORST:
            heapq.heappush(self._worst, (size, id_, gap))
        elif size > self._worst[0][0]:
            heapq.heapreplace(self._worst, (size, id_, gap))

    def to_json(self) -> dict[str, Any]:
        """Give the counts as the supervisor reads them."""
        shown = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        worst = [{"id": id_, "difference": gap} for _, id_, gap in sorted(self._worst, reverse=True)]
        latencies = {name: shown[name].to_json() for name in ("latency", "champion_latency")}
        return {**shown, **latencies, "edges_ms": list(EDGES_MS), "worst": worst}


class Answered(NamedTuple):
    """A request that the champion has answered, to be asked again unseen."""

    wire: bytes
    body: bytes
    reply: Reply
    seconds: float
    edges: Sequence[float] = ()
    fields: Sequence[str] = ()
    slices: Sequence[str] = ()


class Mirror:
    """Asks one version about what another has answered; whoever offers never waits."""

    def __init__(self, version: int, pool: Pool, count: ShadowCount, waiting: int = WAITING) -> None:
        self.version = version
        self.pool = pool
        self.count = count
        self._waiting: asyncio.Queue[Answered] = asyncio.Queue(waiting)
        self._tasks: list[asyncio.Task[None]] = []
        self._away_until = 0.0
        self._credit = 0.0

    def due(self, share: float) -> bool:
        """Say whether it is the turn of this request, so that a share of them is mirrored, evenly spread."""
        self._credit += share
        if self._credit < 100:
            return False
        self._credit -= 100
        return True

    def offer(self, answered: Answered) -> None:
        """Take a request to be compared later, or drop it."""
        if not self._tasks:
            self._tasks = [asyncio.ensure_future(self._work()) for _ in range(AT_ONCE)]
        if time.monotonic() < self._away_until or self._waiting.full():
            self.count.dropped += 1
            return
        self._waiting.put_nowait(answered)

    def stop(self) -> None:
        """Forget what waits, and close the connections."""
        for task in self._tasks:
            task.cancel()
        self._tasks = []
        self.pool.retire()

    async def settle(self) -> None:
        """Wait until everything that was taken is compared."""
        await self._waiting.join()

    async def _work(self) -> None:
        while True:
            answered = await self._waiting.get()
            try:
                await self._compare(answered)
            finally:
                self._waiting.task_done()

    async def _compare(self, answered: Answered) -> None:
        started = time.perf_counter()
        champion_failed = answered.reply.status >= 500
        try:
            reply = await self.pool.send(answered.wire, ANSWER_SECONDS)
        except Overdue:
            self._away_until = time.monotonic() + AWAY_SECONDS
            reply = NO_ANSWER
        except Unanswered as error:
            now = time.monotonic()
            counted = error.sent and now >= self._away_until
            self._away_until = now + AWAY_SECONDS
            reply = NO_ANSWER if counted else NOT_ASKED
        if reply.status == 503:  # it is loading, or being started again: not yet asked, rather than failed
            self.count.dropped += 1
            return
        self.count.requests += 1
        failed = reply.status >= 500
        self.count.errors += failed and not champion_failed
        self.count.champion_errors += champion_failed and not failed
        if failed or champion_failed:
            return
        self.count.add_pair(time.perf_counter() - started, answered.seconds)
        if reply.status != 200:
            self.count.refused += 1
            return
        _guarded(lambda: self._add_scores(answered, reply))

    def _add_scores(self, answered: Answered, reply: Reply) -> None:
        new, old = read_scores(reply.body), read_scores(answered.reply.body)
        if not old:
            return  # a protocol whose answers are not read here
        slices = slices_of(answered.body, answered.slices, answered.fields) if answered.slices else []
        self.count.add_scores(new, old, ids_of(answered.reply.body), answered.edges, slices)


def _guarded(compare: Callable[[], None]) -> None:
    """Compare; answers that make no sense must not end the comparing of others."""
    from trilho_runtime.web.http import note

    try:
        compare()
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        note(f"a shadow's answer could not be compared: {type(error).__name__}: {error}")


def ids_of(body: bytes) -> list[str]:
    """Give the ids of an answer's predictions."""
    payload = orjson.loads(body)
    ids = payload.get("ids")
    if isinstance(ids, list):
        return [str(id_) for id_ in ids]
    entries = payload.get("predictions")
    named = entries if isinstance(entries, list) else []
    return [str(entry["id"]) for entry in named if isinstance(entry, Mapping) and "id" in entry]


def slices_of(body: bytes, slices: Iterable[str], fields: Sequence[str] = ()) -> list[list[str]]:
    """Give the slices that each row of a request belongs to, as "field=value".

    >>> slices_of(b'{"instances": [{"origin": "JFK", "x": 1}, {"x": 2}]}', ["origin"])
    [['origin=JFK'], ['origin=None']]
    """
    instances = orjson.loads(body).get("instances")
    found = []
    for row in instances if isinstance(instances, list) else []:
        values = zip(fields, row, strict=False) if isinstance(row, list) else ()
        named = row if isinstance(row, Mapping) else dict(values)
        found.append([f"{name}={str(named.get(name))[:60]}" for name in slices])
    return found
