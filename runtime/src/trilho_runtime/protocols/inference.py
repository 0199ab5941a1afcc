"""The Open Inference Protocol v2 over REST: the same model for the clients of Triton, KServe and MLServer.

One input tensor a field of the signature, of shape [rows] or [rows, 1]; or one tensor [rows, fields] in the order of
the signature, where one datatype carries them all. Inputs and outputs may be binary (`binary_tensor_data`).

The past rows that a model with a history may be told have no shape of a tensor, one entity having more of them than
another. They go in the request's parameters, whose values the protocol has as texts: "past" is the JSON of a list.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from trilho_runtime.package import versions
from trilho_runtime.prediction.entries import Telling
from trilho_runtime.prediction.job import Job
from trilho_runtime.protocols.inferred import HEADER_LENGTH, Wanted, described, inferred
from trilho_runtime.protocols.plane import MAX_ROWS, Model, Plane, check_size, told_headers
from trilho_runtime.protocols.tensors import Binary, Tensor, read_tensor, wrong
from trilho_runtime.schema.signature import Field
from trilho_runtime.web.http import (
    ALL,
    READING,
    Answer,
    Handler,
    HttpError,
    Request,
    attempt_of,
    identity_of,
    is_shadow,
    parse_json,
)

MODELS = "/v2/models/"
VERTEX_TYPE = "application/vnd.vertex-ai-triton.binary+json"  # Vertex AI keeps no other header of a raw prediction
DATATYPES = {"number": "FP64", "integer": "INT64", "boolean": "BOOL", "string": "BYTES", "timestamp": "BYTES"}
OF_NUMPY = {"float16": "FP16", "float32": "FP32", "float64": "FP64"}
PLATFORM = "trilho_package"
PAST = 'of a request, optional: rows of before with their targets, as JSON text: "[{\\"field\\": value, ...}, ...]"'


class Inference:
    """Answers everything under /v2."""

    def __init__(self, plane: Plane, *, max_rows: int = MAX_ROWS) -> None:
        self._plane = plane
        self._max_rows = max_rows

    def routes(self) -> dict[tuple[str, str], Handler]:
        """Give the handlers by method and path."""
        return {
            ("GET", "/v2"): self.server,
            ("GET", "/v2/health/live"): self.live,
            ("GET", "/v2/health/ready"): self.health,
            (ALL, f"{MODELS}*"): self.model,
        }

    async def server(self, request: Request) -> Answer:
        """Say which server this is."""
        version = versions(["trilho-runtime"]).get("trilho-runtime", "unknown")  # importable, and yet not installed
        told = {"name": "trilho", "version": version, "extensions": ["binary_tensor_data"]}
        return Answer(200, told)

    async def live(self, request: Request) -> Answer:
        """Say that the server takes requests."""
        return Answer(200, {"live": True})

    async def health(self, request: Request) -> Answer:
        """Say whether the server's model is ready."""
        self._plane.ready()
        return Answer(200, {"live": True, "ready": True})

    async def model(self, request: Request) -> Answer:
        """Give a model's metadata, say whether it is ready, or answer an inference request."""
        model, scope = self._plane.ready(), request.scope
        verb = self._verb(scope.path, model)
        allowed = ("POST",) if verb == "infer" else READING
        if scope.method not in allowed:
            named = ", ".join(allowed)
            raise HttpError(405, f"{scope.path[:200]} takes {named}", headers=[("allow", named)])
        if verb == "infer":
            return await self._post(request)
        if verb == "ready":
            return Answer(200, {"name": model.package.manifest["name"], "ready": True})
        return Answer(200, self._metadata(model))

    async def _post(self, request: Request) -> Answer:
        """Answer JSON, or JSON and then bytes."""
        body = await request.body()
        size = header_length(request.scope.headers, len(body))
        return await self.infer(request, read_head(body[:size]), body[size:])

    async def infer(self, request: Request, payload: Any, binary: bytes = b"") -> Answer:
        """Answer an inference request that is parsed. Rows that the model refuses are 400 here, as all of this is."""
        model = self._plane.ready()
        inputs, telling = _inputs(payload, binary, self._max_rows), Telling.of(model.package.manifest)
        rows = rows_of(inputs, model.predictor.signature.fields)
        wanted = Wanted(payload, telling, self._plane.decides)
        check_size(rows, model.names, self._max_rows)
        scope = request.scope
        job = Job(identity_of(scope), rows, past_of(payload), shadow=is_shadow(scope), attempt=attempt_of(scope))
        try:
            outcome = await self._plane.answer(job)
        except HttpError as error:
            if error.answer.status != 422:
                raise
            told = error.answer.payload
            raise HttpError(400, told["error"], field=told.get("field"), row=told.get("row")) from None
        request.rows, request.version = len(rows), outcome.version
        head = {
            "model_name": model.package.manifest["name"],
            "model_version": str(outcome.version),
            "id": payload.get("id") or request.id,
        }
        return wanted.answer(head, inferred(telling, outcome), told_headers(outcome, rows, model.names))

    def _verb(self, path: str, model: Model) -> str:
        """Give what is asked of the model, "" for its metadata. Raises HttpError 404 for another model or version."""
        name, *rest = path[len(MODELS) :].split("/")
        known = str(model.package.manifest["name"])
        if unquote(name) != known:
            raise HttpError(404, f"no model {unquote(name)[:100]!r} here; there is {known}")
        if len(rest) >= 2 and rest[0] == "versions":
            if rest[1] != str(self._plane.version):
                raise HttpError(404, f"{known} has no version {rest[1][:60]!r} here; there is {self._plane.version}")
            rest = rest[2:]
        verb = "/".join(rest)
        if verb not in ("", "ready", "infer"):
            raise HttpError(404, f"no {verb[:60]!r} of a model here; there is infer, ready")
        return verb

    def _metadata(self, model: Model) -> dict[str, Any]:
        fields, telling = model.predictor.signature.fields, Telling.of(model.package.manifest)
        return {
            "name": model.package.manifest["name"],
            "versions": [str(self._plane.version)],
            "platform": PLATFORM,
            "inputs": [{"name": f.name, "datatype": datatype_of(f), "shape": [-1]} for f in fields],
            "outputs": [
                {"name": name, "datatype": datatype, "shape": [-1, width] if width else [-1]}
                for name, datatype, width in described(telling, self._plane.decides)
            ],
            **({"parameters": {"past": PAST}} if model.predictor.history is not None else {}),
        }


def datatype_of(field: Field) -> str:
    """Give the datatype that carries a field whole.

    >>> datatype_of(Field("x", "integer", False, "int8")), datatype_of(Field("at", "timestamp", True))
    ('INT8', 'BYTES')
    """
    if field.type == "integer" and field.dtype:
        return field.dtype.upper()
    return OF_NUMPY.get(field.dtype, "FP64") if field.type == "number" else DATATYPES[field.type]


def header_length(headers: Any, size: int) -> int:
    """Give the length of a body's JSON; what follows is binary. Raises HttpError 400 for one that cannot be."""
    told = headers.get(HEADER_LENGTH)
    kind, _, parameter = headers.get("content-type", "").partition(";")
    if told is None and kind.strip() == VERTEX_TYPE:
        told = parameter.strip().removeprefix("json-header-size=")
    if told is None:
        return size
    if not (told.isascii() and told.isdigit() and len(told) < 12 and int(told) <= size):
        raise wrong(f"the length of the JSON is {told[:60]!r}; the body has {size} bytes")
    return int(told)


def read_head(body: bytes) -> Any:
    """Read a request's JSON; some clients write NaN into it, which is a null of a floating-point tensor."""
    if b"NaN" not in body:
        return parse_json(body)
    parse_json(body.replace(b"NaN", b"0"))
    try:
        return json.loads(body, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        raise wrong(f"the body is not JSON: {error}") from None


def _constant(name: str) -> float:
    if name != "NaN":
        raise ValueError(f"{name} is no value of a tensor")
    return float("nan")


def _inputs(payload: Any, binary: bytes, most: int) -> list[Tensor]:
    if not isinstance(payload, dict) or not isinstance(payload.get("inputs"), list) or not payload["inputs"]:
        raise wrong('wanted {"inputs": [{"name", "shape", "datatype", "data"}, ...]}', "inputs")
    if not isinstance(payload.get("id", ""), str):
        raise wrong("id is not a string", "id")
    if not isinstance(payload.get("parameters") or {}, dict):
        raise wrong("parameters is not an object", "parameters")
    rest = Binary(binary)
    inputs = [read_tensor(told, rest, most) for told in payload["inputs"]]
    rest.check_end()
    if len({tensor.name for tensor in inputs}) < len(inputs):
        raise wrong("two inputs have the same name", "inputs")
    return inputs


def past_of(payload: Mapping[str, Any]) -> list[Any]:
    """Give the past rows that a request's parameters tell: the JSON text of a list, or the list. Raises HttpError 400.

    >>> past_of({"parameters": {"past": '[{"shop": "a", "sales": 7}]'}}), past_of({})
    ([{'shop': 'a', 'sales': 7}], [])
    """
    told = (payload.get("parameters") or {}).get("past")
    try:
        past = parse_json(told.encode("utf-8", "surrogatepass")) if isinstance(told, str) else told
    except HttpError as error:
        raise wrong(f"parameters.past: {error}".replace("the body", "it"), "past") from None
    if past is None:
        return []
    if not isinstance(past, list):
        raise wrong('wanted "parameters": {"past": "[{field: value, ...}, ...]"}, the JSON text of a list', "past")
    return past


def rows_of(inputs: Sequence[Tensor], fields: Sequence[Field]) -> list[dict[str, Any]]:
    """Turn tensors into rows: one tensor a field, or one whose columns are the fields.

    >>> two = (Field("a", "number", False), Field("b", "number", False))
    >>> rows_of([Tensor("all", "FP64", (1, 2), [1.0, 2.0])], two)
    [{'a': 1.0, 'b': 2.0}]
    """
    first, names = inputs[0], [field.name for field in fields]
    if len(inputs) == 1 and len(first.shape) == 2 and (first.name not in names or first.shape[1] > 1):
        if first.shape[1] != len(names):
            fact = f"input {first.name} has {first.shape[1]} columns; the model has {len(names)} fields"
            raise wrong(f"{fact}, {', '.join(names[:20])}", first.name)
        width = len(names)
        return [
            dict(zip(names, first.values[at : at + width], strict=True)) for at in range(0, len(first.values), width)
        ]
    for tensor in inputs:
        if tensor.rows != first.rows or len(tensor.values) != first.rows:
            raise wrong(f"input {tensor.name} has shape {list(tensor.shape)}; wanted [{first.rows}]", tensor.name)
    given = [tensor.name for tensor in inputs]
    return [dict(zip(given, row, strict=True)) for row in zip(*(t.values for t in inputs), strict=True)]
