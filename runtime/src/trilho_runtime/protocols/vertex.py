"""The contract of Vertex AI's custom containers, which is also the server's own protocol.

    {"instances": [...], "parameters": {...}}   ->   {"predictions": [...], "ids": [...], "model": ..., "version": ...}

An instance is an object of fields, an array in the order of the signature's fields, or, for a model of one field, its
value. A raw prediction may also hold an Open Inference request: Vertex AI passes any body on to the same route. A
shared public endpoint takes requests and answers of 1.5 MB; a dedicated one takes more (`max_body`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast, get_args

import orjson

from trilho_runtime.prediction.entries import Telling
from trilho_runtime.prediction.job import Entries, Job, Outcome
from trilho_runtime.protocols.plane import MAX_ROWS, Model, Plane, check_size, told_headers
from trilho_runtime.web.http import (
    Answer,
    Handler,
    HttpError,
    Request,
    attempt_of,
    health_paths,
    identity_of,
    is_shadow,
    parse_json,
    predict_paths,
)

EVERYWHERE = "0.0.0.0"  # noqa: S104  the contract's: a container's port is reached from outside of it
WANTED = 'wanted {"instances": [{field: value, ...}, ...]}'
ROUTE = re.compile(r"/[A-Za-z0-9._~!$&'()+,;=:@%/-]{0,2000}")
TAKEN = ("/labels",)
NO_PARAMETERS: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Platform:
    """What Vertex AI says in the environment of a container that it runs."""

    port: int
    health_route: str
    predict_route: str
    storage_uri: str
    project: str
    endpoint: str
    deployed_model: str
    host: str = EVERYWHERE

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Platform | None:
        """Read the environment, or give None where Vertex AI is not the one that runs this process.

        Raises ValueError for a port or a route that cannot be one.

        >>> Platform.read({"AIP_MODE": "PREDICTION"}).port
        8080
        """
        if not (environment.get("AIP_HTTP_PORT") or environment.get("AIP_MODE")):
            return None
        port = environment.get("AIP_HTTP_PORT") or "8080"
        if not (port.isascii() and port.isdigit() and len(port) < 6 and int(port) <= 65535):
            raise ValueError(f"AIP_HTTP_PORT is {port[:60]!r}; allowed: a port, 0 to 65535")
        for name in ("AIP_HEALTH_ROUTE", "AIP_PREDICT_ROUTE"):
            route = environment.get(name, "")
            if route and not ROUTE.fullmatch(route):
                raise ValueError(f"{name} is {route[:60]!r}; allowed: a path that begins with /, as it stands in a URL")
        if environment.get("AIP_PREDICT_ROUTE") in TAKEN:
            raise ValueError(f"AIP_PREDICT_ROUTE is {environment['AIP_PREDICT_ROUTE']}, where labels are taken")
        told = (environment.get(f"AIP_{name}", "") for name in _TOLD)
        return cls(int(port), *told)


_TOLD = ("HEALTH_ROUTE", "PREDICT_ROUTE", "STORAGE_URI", "PROJECT_NUMBER", "ENDPOINT_ID", "DEPLOYED_MODEL_ID")


class Tensors(Protocol):
    """Who answers a body of tensors; `inference.Inference` is the one there is."""

    async def infer(self, request: Request, payload: Any, binary: bytes = b"") -> Answer:
        """Answer an inference request."""


@dataclass(frozen=True)
class Shape:
    """What reading and writing needs to know of a model, found once."""

    model: Model
    name: str
    fields: tuple[str, ...]
    telling: Telling

    @classmethod
    def of(cls, model: Model) -> Shape:
        """Look at a model that is ready."""
        manifest = model.package.manifest
        fields = tuple(field.name for field in model.predictor.signature.fields)
        return cls(model, str(manifest["name"]), fields, Telling.of(manifest))


class Vertex:
    """Answers /predict and /health, and the routes that Vertex AI names in the environment."""

    def __init__(
        self, plane: Plane, *, entries: Entries = "plain", max_rows: int = MAX_ROWS, tensors: Tensors | None = None
    ) -> None:
        self._plane = plane
        self._entries = entries
        self._max_rows = max_rows
        self._tensors = tensors
        self._shape: Shape | None = None

    def routes(self) -> dict[tuple[str, str], Handler]:
        """Give the handlers by method and path."""
        predict: dict[tuple[str, str], Handler] = {("POST", path): self.predict for path in predict_paths()}
        return {**predict, **{("GET", path): self.health for path in health_paths()}}

    async def health(self, request: Request) -> Answer:
        """Say whether the model is loaded: 200 when it is, 503 until then."""
        self._plane.ready()
        return Answer(200, {"status": "ready"})

    async def predict(self, request: Request) -> Answer:
        """Predict the rows of a request."""
        body = await request.body()
        shape = self._known()
        payload = parse_json(body)
        if self._tensors is not None and isinstance(payload, dict) and "inputs" in payload:
            return await self._tensors.infer(request, payload)
        rows, parameters = read_rows(payload, shape.fields), read_parameters(payload)
        check_size(rows, shape.model.names, self._max_rows)
        entries = read_entries(parameters)
        scope = request.scope
        job = Job(identity_of(scope), rows, read_past(parameters), entries, is_shadow(scope), attempt_of(scope))
        outcome = await self._plane.answer(job)
        request.rows, request.version = len(rows), outcome.version
        return self._write(shape, outcome, rows, entries or self._entries)

    def _known(self) -> Shape:
        model = self._plane.ready()
        if self._shape is None or self._shape.model is not model:
            self._shape = Shape.of(model)
        return self._shape

    def _write(self, shape: Shape, outcome: Outcome, rows: list[Any], entries: Entries) -> Answer:
        full = entries == "full" or outcome.decisions is not None
        told = {
            "predictions": shape.telling.full(outcome) if full else shape.telling.plain(outcome.scores),
            "ids": outcome.ids,
            "model": shape.name,
            "version": outcome.version,
        }
        if outcome.decision_version is not None:
            told["decision_version"] = outcome.decision_version
        return Answer(200, orjson.dumps(told), told_headers(outcome, rows, shape.model.names))


def read_rows(payload: Any, fields: Sequence[str]) -> list[Any]:
    """Give a request's rows as objects. Raises HttpError 422 for another shape.

    >>> read_rows({"instances": [{"a": 1, "b": 2}, [1, 2]]}, ("a", "b"))
    [{'a': 1, 'b': 2}, {'a': 1, 'b': 2}]
    >>> read_rows({"instances": [1, [2]]}, ("a",))
    [{'a': 1}, {'a': 2}]
    """
    instances = payload.get("instances") if isinstance(payload, dict) else None
    if not isinstance(instances, list):
        raise HttpError(422, WANTED, field="instances")
    if all(type(instance) is dict for instance in instances):
        return instances
    return [_row(index, instance, fields) for index, instance in enumerate(instances)]


def _row(index: int, instance: Any, fields: Sequence[str]) -> Any:
    if isinstance(instance, dict):
        return instance
    if not isinstance(instance, list):
        if len(fields) == 1:
            return {fields[0]: instance}
        shown = orjson.dumps(instance).decode()
        kind = {str: "a string", bool: "a boolean", int: "an integer", float: "a number"}.get(type(instance))
        what = f"{shown if len(shown) <= 60 else shown[:57] + '...'}{f', {kind}' if kind else ''}"
        raise HttpError(422, f"row {index} is {what}; wanted an object of fields, or an array of them", row=index)
    if len(instance) != len(fields):
        order = ", ".join(fields[:20]) + (", ..." if len(fields) > 20 else "")
        fact = f"row {index} has {len(instance)} values; wanted {len(fields)}, in the order {order}"
        raise HttpError(422, fact, row=index)
    return dict(zip(fields, instance, strict=True))


def read_parameters(payload: Any) -> Mapping[str, Any]:
    """Give a request's parameters, those that we know and others. Raises HttpError 422 for what is no object."""
    parameters = payload.get("parameters")
    if parameters is None:
        return NO_PARAMETERS
    if not isinstance(parameters, dict):
        raise HttpError(422, 'wanted {"parameters": {name: value, ...}}', field="parameters")
    return parameters


def read_entries(parameters: Mapping[str, Any]) -> Entries | None:
    """Give how the caller wants predictions told, or None when it does not say."""
    entries = parameters.get("entries")
    if entries is not None and entries not in get_args(Entries):
        shown = orjson.dumps(entries).decode()[:60]
        raise HttpError(422, f"parameters.entries is {shown}; allowed: plain, full", field="parameters.entries")
    return cast("Entries | None", entries)


def read_past(parameters: Mapping[str, Any]) -> list[Any]:
    """Give the past rows that a request tells, if any. Raises HttpError 422 for another shape."""
    past = parameters.get("past")
    if past is None:
        return []
    if not isinstance(past, list):
        raise HttpError(422, 'wanted {"parameters": {"past": [{field: value, ...}, ...]}}', field="past")
    return past
