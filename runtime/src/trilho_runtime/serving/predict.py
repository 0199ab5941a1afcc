"""The prediction app: the one data plane behind every protocol, and what it says of itself.

A job's rows are checked, predicted, decided on and logged before its outcome is given. Nothing that a caller sends ends
in a 500: wrong rows are 422 with field and row, and so is an exception that the project's own code raises on them. More
requests than can be answered soon are refused with 429: the server is well, and another one would not be.

A model with a history may be told newer rows than its package has, with their targets, by each request:
{"instances": [...], "parameters": {"past": [{...}, ...]}}. Nothing of that is kept, so that any process can answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trilho_runtime.history import STATES
from trilho_runtime.prediction.commit import Commits
from trilho_runtime.prediction.job import Entries, Job, Outcome
from trilho_runtime.prediction.live import LiveProfile
from trilho_runtime.prediction.mask import Mask
from trilho_runtime.prediction.served import ServedLog
from trilho_runtime.protocols.inference import Inference
from trilho_runtime.protocols.plane import MAX_ROWS
from trilho_runtime.protocols.vertex import Vertex
from trilho_runtime.serving.batch import Inline, Worker
from trilho_runtime.serving.loaded import Loaded, load_model
from trilho_runtime.serving.work import Rules, Work
from trilho_runtime.web import measures
from trilho_runtime.web.http import READING, Answer, App, Handler, HttpError, Request
from trilho_runtime.web.memory import memory_bytes

if TYPE_CHECKING:
    from trilho_runtime.serving.lookup import Lookup
    from trilho_runtime.serving.topic import Topic

__all__ = ["MAX_ROWS", "Loaded", "PredictionApp", "load_model"]

WAITING = 1000  # requests that may wait for their turn, and
WAITING_ROWS = 20_000  # rows that they may have together, or those of four requests of the largest size
HELD = ("minimum", "maximum", "categories", "levels")
Routes = dict[tuple[str, str], Handler]


class PredictionApp:
    """Answers jobs with one model version; until `model` is set, with 503."""

    def __init__(
        self,
        version: int,
        log: ServedLog | None = None,
        *,
        fsync: bool = False,
        mask: Mask | None = None,
        rules: Rules | None = None,
        lookup: Lookup | None = None,
        topic: Topic | None = None,
        refuse_extra_fields: bool = False,
        entries: Entries = "plain",
        max_rows: int = MAX_ROWS,
        name: str = "",
    ) -> None:
        self.version = version
        self.live: LiveProfile | None = None
        self._log = log
        self._mask = mask
        self._rules = rules
        self._lookup = lookup
        self._topic = topic
        self._refuse_extra = refuse_extra_fields
        self._entries = entries
        self._max_rows = max_rows
        self._name = name
        self._tally = measures.Tally()
        self._commits = Commits(log) if fsync and log is not None else None
        self._model: Loaded | None = None
        self._work: Work | None = None
        self._inline_rows = 0
        self._open = self._asking = 0  # requests under way, and those of them whose rows are here
        self._worker: Worker[Job, Outcome] = Worker(self._do, max_rows)
        self._inline: Inline[Job, Outcome] = Inline(self._do, 1, coming=self._coming)
        self._most_rows = max(WAITING_ROWS, 4 * max_rows)

    @property
    def model(self) -> Loaded | None:
        """Give the model; None while it is loading."""
        return self._model

    @model.setter
    def model(self, model: Loaded) -> None:
        """Begin to answer with a model."""
        if self._name:
            manifest = {**model.package.manifest, "name": self._name}
            model = replace(model, package=replace(model.package, manifest=manifest))
        self._work = Work(
            model, self.version, self._tally, log=self._log, mask=self._mask, live=self.live, rules=self._rules,
            refuse_extra_fields=self._refuse_extra, lookup=self._lookup,
        )  # fmt: skip
        self._inline_rows = self._work.inline_rows()
        self._inline = Inline(self._do, self._inline_rows, coming=self._coming)
        self._model = model

    def decide_by(self, rules: Rules | None) -> None:
        """Decide by a rule, from the next model on."""
        self._rules = rules

    @property
    def decides(self) -> bool:
        """Say whether a rule decides on the scores."""
        return self._rules is not None and self._rules.current is not None

    def ready(self) -> Loaded:
        """Give the model. Raises HttpError 503 until there is one."""
        if self._model is None:
            raise HttpError(503, f"version {self.version} is loading", headers=[("retry-after", "1")])
        return self._model

    async def answer(self, job: Job) -> Outcome:
        """Have rows predicted, decided on and logged. Raises HttpError with field and row for wrong ones."""
        self.ready()
        self._admit(job)
        inline = job.size <= self._inline_rows and not job.past and not self._worker.busy
        self._asking += 1
        try:
            outcome = await (self._inline if inline else self._worker).do(job)
            return await self._told(job, outcome)
        finally:
            self._asking -= 1

    def routes(self) -> Routes:
        """Give the handlers by method and path: both protocols', and what the server says of itself."""
        tensors = Inference(self, max_rows=self._max_rows)
        vertex = Vertex(self, entries=self._entries, max_rows=self._max_rows, tensors=tensors)
        asked = {route: self._counted(handler) for route, handler in {**tensors.routes(), **vertex.routes()}.items()}
        own: Routes = {("GET", "/metrics"): self.metrics, ("GET", "/profile"): self.profile}
        return {**asked, ("GET", "/"): self.info, **own}

    def app(self, more: Routes | None = None, **options: Any) -> App:
        """Give the app that a service runs; `options` are those of `http.App`."""
        return App({**self.routes(), **(more or {})}, [("x-trilho-version", str(self.version))], **options)

    async def publish(self, seconds: float) -> None:
        """Publish the live profile every few seconds, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(seconds)
            if self.live is not None:
                await loop.run_in_executor(None, self.live.write, self.live.news())

    def close(self) -> None:
        """Leave nothing that was counted or written behind."""
        if self.live is not None:
            self.live.publish()
        if self._log is not None:
            self._log.close()
        if self._topic is not None:
            self._topic.close()

    async def info(self, request: Request) -> Answer:
        """Say which model this is, what its rows hold, how it is reached and how its log stands."""
        model = self.ready()
        manifest, predictor = model.package.manifest, model.predictor
        told: dict[str, Any] = {
            "model": model.name,
            "version": self.version,
            "task": manifest["task"],
            "path": predictor.path,
            "why": predictor.why,
            "stages": list(predictor.stages),
            "outputs": predictor.outputs.to_json(),
            "signature": self._shown_fields(manifest["signature"]),
            "inline_rows": self._inline_rows,
            "extra_fields": self._tally.extra.copy(),
            "log": {"state": "off"} if self._log is None else self._log.to_json(),
            **({} if self._topic is None else {"topic": self._topic.to_json()}),
            "memory_bytes": memory_bytes(),
        }
        if predictor.history is not None:
            store = {"store": self._lookup.to_json()} if self._lookup is not None else {}
            told["history"] = {**predictor.history.to_json(), "asked": self._asked(), **store}
        if self._rules is not None:
            told["decision"] = self._decision()
        return Answer(200, told)

    def _shown_fields(self, fields: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Give the fields without what masked ones held at training."""
        if self._mask is None:
            return fields
        hidden = self._mask.rules
        return [{k: v for k, v in f.items() if k not in HELD} if f["name"] in hidden else f for f in fields]

    async def profile(self, request: Request) -> Answer:
        """Give the counts of what this process has served."""
        self.ready()
        if self.live is None:
            raise HttpError(404, "this model's package holds no reference to count in")
        return Answer(200, self.live.to_json())

    async def metrics(self, request: Request) -> Answer:
        """Give counters as Prometheus text."""
        return measures.answer(self._metrics())

    def _do(self, jobs: Any) -> list[Outcome | Exception]:
        assert self._work is not None
        return self._work.do(jobs)

    async def _told(self, job: Job, outcome: Outcome) -> Outcome:
        """Wait for what was written to be where it lasts, and have the outcome say how much of it is there."""
        logged, rows = outcome.logged, job.size if outcome.logged else outcome.kept
        if self._topic is not None and self._work is not None and not job.shadow:
            logged = await self._topic.keep(self._work, job, outcome) and logged
        if self._commits is not None and rows and not await self._commits.wait(rows):
            return replace(outcome, logged=False, kept=0)
        return outcome if logged == outcome.logged else replace(outcome, logged=logged)

    def _coming(self) -> int:
        """Count the requests whose bodies are still on their way."""
        return self._open - self._asking

    def _admit(self, job: Job) -> None:
        """Refuse what would have to wait for too long, before it takes up memory."""
        waiting = self._worker.waiting + self._inline.waiting
        rows = self._worker.rows + self._inline.rows
        if waiting >= WAITING or (waiting and rows + job.size > self._most_rows):
            fact = f"{waiting} requests with {rows} rows wait for the model already; ask again a little later"
            raise HttpError(429, fact, headers=[("retry-after", "1")])

    def _counted(self, handler: Handler) -> Handler:
        """Count a protocol's predictions by their status, and how long they took."""

        async def counted(request: Request) -> Answer:
            if request.scope.method in READING:
                return await handler(request)
            self._open += 1
            try:
                answer = await handler(request)
            except HttpError as error:
                self._tally.codes[error.answer.status] += 1
                raise
            finally:
                self._open -= 1
            self._tally.codes[answer.status] += 1
            self._tally.latency.add(time.perf_counter() - request.started)
            return answer

        return counted

    def _asked(self) -> dict[str, int]:
        """Count the rows predicted by how the history stood to them; "stale" ones lack rows that happened since."""
        return {state: self._tally.past[state] for state in STATES}

    def _decision(self) -> Mapping[str, Any]:
        current = self._rules.current if self._rules is not None else None
        told: dict[str, Any] = {"version": None if current is None else current[0], "undecided": self._tally.undecided}
        if current is not None:
            told |= {name: getattr(current[1], name, "") for name in ("reference", "digest")}
        problem = getattr(self._rules, "problem", "")
        told |= {"problem": problem} if problem else {}
        return {**told, "why": self._tally.undecided_why} if self._tally.undecided else told

    def _metrics(self) -> list[str]:
        tally, version = self._tally, {"version": self.version}
        codes = [({**version, "code": code}, n) for code, n in sorted(tally.codes.items())]
        extra = [({**version, "field": name}, n) for name, n in sorted(tally.extra.copy().items())]
        waiting = self._worker.waiting + self._inline.waiting

        def one(name: str, text: str, value: float, kind: str = "counter") -> str:
            return measures.metric(name, text, [(version, value)], kind)

        parts = [
            one("trilho_ready", "Whether the model is loaded.", int(self._model is not None), "gauge"),
            measures.metric("trilho_requests_total", "Prediction requests by status.", codes),
            one("trilho_rows_total", "Rows that were predicted.", tally.rows),
            one("trilho_shadow_rows_total", "Rows that were predicted for nobody to see.", tally.shadow_rows),
            measures.metric("trilho_extra_fields_total", "Fields that the model does not know.", extra),
            one("trilho_waiting", "Requests that wait for a turn.", waiting, "gauge"),
            measures.histogram("trilho_latency_seconds", "From request to answer.", [(version, tally.latency)]),
        ]
        if self._log is not None:
            parts.append(one("trilho_log_shed_total", "Rows that were answered and not logged.", self._log.shed))
        if self._topic is not None:
            parts += [one(f"trilho_topic_{name}_total", text, value) for name, text, value in self._topic.counts()]
        if self._rules is not None:
            parts.append(one("trilho_undecided_total", "Rows on which the decision failed.", tally.undecided))
            held = self._rules.current
            known = [({**version, "decision_version": held[0]}, 1)] if held is not None else []
            parts.append(measures.metric("trilho_decision_info", "The decision that holds.", known, "gauge"))
        if self._model is not None and self._model.predictor.history is not None:
            past = [({**version, "past": state}, count) for state, count in self._asked().items()]
            parts.append(measures.metric("trilho_past_total", "Rows predicted by the past they were given.", past))
            if self._lookup is not None:
                said = "Entities that were not looked up: the store could not be read."
                parts.append(one("trilho_history_failed_total", said, self._lookup.failed))
        return parts
