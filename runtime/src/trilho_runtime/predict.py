"""The prediction app: JSON rows in, predictions out, a log line written before the answer.

Nothing that a caller sends ends in a 500: wrong rows are 422 with field and row, and so is an exception that the
project's own code raises on them. A prediction that cannot be logged is refused with 507.

A model with a history may be told newer rows than its package has, with their targets, by each request:
{"instances": [...], "parameters": {"past": [{...}, ...]}}. Nothing of that is kept, so that any process can answer.
"""

from __future__ import annotations

import time
import traceback
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from trilho_runtime import measures
from trilho_runtime.batch import Worker
from trilho_runtime.history import STATES
from trilho_runtime.http import (
    Answer,
    App,
    HttpError,
    Request,
    health_paths,
    identity_of,
    note,
    parse_json,
    predict_paths,
)
from trilho_runtime.log import LineLog, prediction_lines
from trilho_runtime.package import ModelError, Package, Predictor, check_digest, open_package
from trilho_runtime.signature import RowError

MAX_ROWS = 1000
NAMED_EXTRAS = 100  # unknown fields beyond so many are counted together
TRACEBACKS_A_MINUTE = 10
AHEAD = timedelta(days=366)  # forecasts are of the future; a year on, the caller's clock is wrong


@dataclass(frozen=True)
class Loaded:
    """A model that is ready to answer."""

    package: Package
    predictor: Predictor
    names: frozenset[str]


@dataclass(frozen=True)
class Job:
    """One request's rows, and what names their predictions."""

    identity: str
    rows: list[Any]
    past: Sequence[Any] = ()

    @property
    def size(self) -> int:
        """Give the number of rows."""
        return len(self.rows)


def load_model(folder: Path, digest: str | None = None) -> Loaded:
    """Open, load and prove a package; the proof also warms what the first prediction would wait for.

    `digest` is what somebody else knows the package by: its manifest could have been changed with its files.
    """
    if digest is not None:
        check_digest(folder, digest)
    package = open_package(folder)
    predictor = package.load()
    package.prove(predictor)
    return Loaded(package, predictor, predictor.signature.names)


class PredictionApp:
    """Answers requests with one model version; until `model` is set, with 503."""

    def __init__(self, version: int, log: LineLog | None = None, *, refuse_extra_fields: bool = False) -> None:
        self.version = version
        self.model: Loaded | None = None
        self._log = log
        self._refuse_extra = refuse_extra_fields
        self._worker: Worker[Job, Answer] = Worker(self._work, MAX_ROWS)
        self._codes: Counter[int] = Counter()
        self._extra: Counter[str] = Counter()
        self._past: Counter[str] = Counter()
        self._rows = 0
        self._latency = measures.Latency()
        self._noted: deque[float] = deque(maxlen=TRACEBACKS_A_MINUTE)

    def app(self) -> App:
        """Give the app that a service runs."""
        routes = {("POST", path): self.predict for path in predict_paths()}
        routes |= {("GET", path): self.health for path in health_paths()}
        routes |= {("GET", "/"): self.info, ("GET", "/metrics"): self.metrics}
        return App(routes, [("x-trilho-version", str(self.version))])

    async def predict(self, request: Request) -> Answer:
        """Predict the rows of a request."""
        try:
            body = await request.body()
            self._ready()
            payload = parse_json(body)
            job = Job(identity_of(request.scope), read_instances(payload), read_past(payload))
            answer = await self._worker.do(job)
        except HttpError as error:
            self._codes[error.answer.status] += 1
            raise
        self._codes[answer.status] += 1
        self._latency.add(time.perf_counter() - request.started)
        return answer

    async def health(self, request: Request) -> Answer:
        """Say whether the model is loaded."""
        self._ready()
        return Answer(200, {"status": "ready"})

    async def info(self, request: Request) -> Answer:
        """Say which model this is and what its rows hold."""
        model = self._ready()
        manifest, history = model.package.manifest, model.predictor.history
        past = {"history": {**history.to_json(), "asked": self._asked()}} if history is not None else {}
        return Answer(
            200,
            {
                "model": manifest["name"],
                "version": self.version,
                "task": manifest["task"],
                "path": model.predictor.path,
                "signature": manifest["signature"],
                "extra_fields": self._extra.copy(),
                **past,
            },
        )

    async def metrics(self, request: Request) -> Answer:
        """Give counters as Prometheus text."""
        version = {"version": self.version}
        codes = [({**version, "code": code}, n) for code, n in sorted(self._codes.items())]
        extra = [({**version, "field": name}, n) for name, n in sorted(self._extra.copy().items())]
        parts = [
            measures.metric(
                "trilho_ready", "Whether the model is loaded.", [(version, int(self.model is not None))], "gauge"
            ),
            measures.metric("trilho_requests_total", "Prediction requests by status.", codes),
            measures.metric("trilho_rows_total", "Rows that were predicted.", [(version, self._rows)]),
            measures.metric("trilho_extra_fields_total", "Fields that the model does not know.", extra),
            measures.metric(
                "trilho_waiting", "Requests that wait for a turn.", [(version, self._worker.waiting)], "gauge"
            ),
            measures.histogram("trilho_latency_seconds", "From request to answer.", [(version, self._latency)]),
        ]
        if self.model is not None and self.model.predictor.history is not None:
            past = [({**version, "past": state}, count) for state, count in self._asked().items()]
            parts.append(measures.metric("trilho_past_total", "Rows predicted by the past they were given.", past))
        return measures.answer(parts)

    def _asked(self) -> dict[str, int]:
        """Count the rows predicted by how the history stood to them; "stale" ones lack rows that happened since."""
        return {state: self._past[state] for state in STATES}

    def _ready(self) -> Loaded:
        if self.model is None:
            raise HttpError(503, f"version {self.version} is loading", headers=[("retry-after", "1")])
        return self.model

    def _work(self, jobs: Sequence[Job]) -> list[Answer | Exception]:
        """Answer the requests that were waiting; each gets its own answer or its own error."""
        model = self._ready()
        outcomes: list[Answer | Exception | None] = [None] * len(jobs)
        columns: dict[int, Mapping[str, NDArray[Any]]] = {}
        renewed: dict[int, Loaded] = {}  # for requests that tell a past of their own
        for index, job in enumerate(jobs):
            try:
                checked = self._check(model, job)
                if job.past:
                    renewed[index] = replace(model, predictor=model.predictor.renewed(job.past, checked))
                columns[index] = checked
            except RowError as error:
                outcomes[index] = _refused(error)
        predicted = self._predict_together(model, {i: part for i, part in columns.items() if i not in renewed})
        for index, own in renewed.items():
            predicted |= self._predict_together(own, {index: columns[index]})
        for index, predictions in predicted.items():
            job = jobs[index]
            if isinstance(predictions, Exception):
                outcomes[index] = predictions
                continue
            outcomes[index] = self._keep(model, job, predictions)
            history = renewed.get(index, model).predictor.history
            if history is not None:
                self._past.update(past.state for past in history.find(columns[index]))
        return [outcome or RuntimeError("a request was not answered") for outcome in outcomes]

    def _check(self, model: Loaded, job: Job) -> Mapping[str, NDArray[Any]]:
        columns = model.predictor.signature.columns(job.rows)
        check_clock(columns, model.package.manifest.get("time") or None)
        for row, instance in enumerate(job.rows):
            for name in instance:
                if name not in model.names:
                    if self._refuse_extra:
                        raise RowError(f"row {row}: {name[:60]} is not a field of this model", name[:60], row)
                    self._extra[name if len(self._extra) < NAMED_EXTRAS or name in self._extra else "(others)"] += 1
        return columns

    def _predict_together(
        self, model: Loaded, columns: Mapping[int, Mapping[str, NDArray[Any]]]
    ) -> dict[int, list[float] | Exception]:
        """Predict several requests' rows as one table; where that fails, each by itself."""
        if not columns:
            return {}
        sizes = [len(next(iter(part.values()))) for part in columns.values()]
        try:
            whole = model.predictor.predict_columns(_joined(list(columns.values())))
        except ModelError as error:
            if len(columns) > 1:
                alone = [self._predict_together(model, {index: part}) for index, part in columns.items()]
                return {index: outcome for one in alone for index, outcome in one.items()}
            self._complain()
            return dict.fromkeys(columns, HttpError(422, str(error), row=0 if sizes == [1] else None))
        parts = np.split(whole, np.cumsum(sizes)[:-1])
        return {index: part.tolist() for index, part in zip(columns, parts, strict=True)}

    def _keep(self, model: Loaded, job: Job, predictions: list[float]) -> Answer | Exception:
        """Log a request's predictions, then build its answer."""
        try:
            if self._log is not None:
                rows = model.predictor.signature.canonical(job.rows)
                self._log.append(prediction_lines(job.identity, self.version, rows, model.names, predictions))
        except OSError as error:
            return HttpError(507, f"the prediction could not be logged, so it is not given: {error.strerror or error}")
        self._rows += len(predictions)
        classes = model.package.manifest["task"] == "classification"
        shown = [{"0": 1 - p, "1": p} for p in predictions] if classes else predictions
        ids = [f"{job.identity}.{index}" for index in range(len(predictions))]
        payload = {"predictions": shown, "ids": ids, "model": model.package.manifest["name"], "version": self.version}
        extra = sum(name not in model.names for instance in job.rows for name in instance)
        counts = [("x-trilho-rows", str(len(predictions))), ("x-trilho-extra-fields", str(extra))]
        return Answer(200, orjson.dumps(payload), counts)

    def _complain(self) -> None:
        """Write a traceback of the project's code to the server's log, a few a minute at most."""
        now = time.monotonic()
        if len(self._noted) == TRACEBACKS_A_MINUTE and now - self._noted[0] < 60:
            return
        self._noted.append(now)
        note(traceback.format_exc())


def read_instances(payload: Any) -> list[Any]:
    """Give a request's rows. Raises HttpError 422 for another shape, 413 for too many."""
    instances = payload.get("instances") if isinstance(payload, dict) else None
    if not isinstance(instances, list):
        raise HttpError(422, 'wanted {"instances": [{field: value, ...}, ...]}', field="instances")
    if not instances:
        raise HttpError(422, "instances is empty", field="instances")
    if len(instances) > MAX_ROWS:
        raise HttpError(413, f"{len(instances)} instances in one request; at most {MAX_ROWS} are taken")
    return instances


def read_past(payload: Any) -> list[Any]:
    """Give the past rows that a request tells, if any. Raises HttpError 422 for another shape."""
    parameters = payload.get("parameters")
    past = parameters.get("past") if isinstance(parameters, dict) else None
    if not isinstance(past, list | None):
        raise HttpError(422, 'wanted {"parameters": {"past": [{field: value, ...}, ...]}}', field="past")
    return past or []


def check_clock(columns: Mapping[str, NDArray[Any]], time: str | None) -> None:
    """Raise RowError for a row more than a year ahead: that clock is wrong, and it would end every window watched."""
    times = columns.get(time) if time is not None else None
    if times is None or times.dtype.kind != "M":
        return
    limit = datetime.now(timezone.utc).replace(tzinfo=None) + AHEAD  # noqa: UP017
    late = np.flatnonzero(times > np.datetime64(limit, "us"))
    if len(late):
        row = int(late[0])
        fact = f"row {row}: {time} is {times[row].item().isoformat()}, more than a year ahead of this server's clock"
        raise RowError(fact, time, row)


def _refused(error: RowError) -> HttpError:
    return HttpError(422, str(error), field=error.field, row=error.row)


def _joined(parts: Sequence[Mapping[str, NDArray[Any]]]) -> Mapping[str, NDArray[Any]]:
    return parts[0] if len(parts) == 1 else {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
