"""The methods of the gRPC services over REST, as the clients' own REST transports call them.

The client's package says which path, verb and body each method has; nothing of it is written down here. Answers and
errors are Google's JSON.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from google.api import httpbody_pb2
from google.protobuf import json_format

from trilho.testing.emulator.http import STATUSES, ApiError, Reply, Request, require_no_page, to_reply
from trilho.testing.emulator.resources import Message
from trilho.testing.emulator.rpc import Method, RpcServer
from trilho.testing.emulator.rules import Refusal

Json = dict[str, Any]
Option = Mapping[str, str]

VARIABLE = re.compile(r"\{([\w.]+)(?:=([^}]*))?\}")
OPERATIONS = "google.longrunning.Operations"
OPERATION = "/{version=*}/{name=**/operations/*}"
OPERATION_OPTIONS: Mapping[str, Option] = {
    "GetOperation": {"method": "get", "uri": OPERATION},
    "DeleteOperation": {"method": "delete", "uri": OPERATION},
    "CancelOperation": {"method": "post", "uri": f"{OPERATION}:cancel"},
    "WaitOperation": {"method": "post", "uri": f"{OPERATION}:wait"},
}
SYSTEM = ("$alt", "alt", "$prettyPrint", "prettyPrint", "version", "key", "fields")
CODES = {"FAILED_PRECONDITION": 400, "OUT_OF_RANGE": 400, "ABORTED": 409, "CANCELLED": 499, "UNKNOWN": 500,
         "DATA_LOSS": 500} | {status: code for code, status in STATUSES.items() if code != 412}  # fmt: skip


class Rest:
    """Answers REST requests with the methods of an RpcServer; to be made when all services have been added."""

    def __init__(self, server: RpcServer) -> None:
        self._server = server
        self._routes = [
            (option["method"].upper(), _pattern(option["uri"]), option.get("body", ""), method)
            for method, _, _ in server.served.values()
            for option in _options(method)
        ]

    def answer(self, request: Request) -> Reply:
        """Give the answer to a request."""
        try:
            require_no_page(request.headers)
            return self._answer(request)
        except ApiError as error:
            return to_reply(error.document(), error.code)
        except Refusal as refusal:
            return _refusal(refusal)

    def _answer(self, request: Request) -> Reply:
        for verb, pattern, body, method in self._routes:
            if verb == request.method and (found := pattern.fullmatch(request.path)):
                values = {_dotted(name): unquote(value) for name, value in found.groupdict().items()}
                asked = _read(method.request, _document(method, body, values, request))
                headers = {name.lower(): value for name, value in request.headers.items()}
                answer, answer_headers = self._server.answer(method, asked, headers)
                return _written(answer, answer_headers, numbers="enum-encoding=int" in request.first("$alt"))
        raise Refusal("NOT_FOUND", f"trilho emulate has no method {request.method} {request.path}.")


def _options(method: Method) -> Iterator[Option]:
    """Give the ways in which a client calls a method over REST; none where it cannot."""
    if method.service == OPERATIONS:
        yield from [OPERATION_OPTIONS[method.name]] if method.name in OPERATION_OPTIONS else []
        return
    module = importlib.import_module(method.transport.__module__.rpartition(".")[0] + ".rest_base")
    base = getattr(module, f"_Base{method.transport.__name__.removesuffix('GrpcTransport')}RestTransport")
    if (one := getattr(base, f"_Base{method.name}", None)) is not None:
        yield from one._get_http_options()


def _pattern(uri: str) -> re.Pattern[str]:
    """Give the paths of a URI template: `*` is a segment, `**` are several; `:verb` is never a part of a name.

    >>> _pattern("/v1/{name=projects/*/models/*}:copy").fullmatch("/v1/projects/p/models/m:copy")["name"]
    'projects/p/models/m'
    """

    def variable(found: re.Match[str]) -> str:
        parts = (part.replace("**", ".+").replace("*", "[^/:]+") for part in (found[2] or "*").split("/"))
        return f"(?P<{found[1].replace('.', '__')}>{'/'.join(parts)})"

    return re.compile(VARIABLE.sub(variable, uri))


def _dotted(name: str) -> str:
    return name.replace("__", ".")


def _document(method: Method, body: str, values: Mapping[str, str], request: Request) -> Json:
    """Put together what body, path and query say of a request."""
    document: Json = {}
    if body:
        document = request.json() if body == "*" else {_camel(body): request.json()}
    for name, value in values.items():
        _set(document, name, value)
    descriptor = _pb(method.request).DESCRIPTOR
    for name, given in request.query.items():
        if name not in SYSTEM:
            _set(document, name, _value(descriptor, name, given))
    if method.service == OPERATIONS:
        document.pop("version", None)
    return document


def _set(document: Json, name: str, value: Any) -> None:
    *above, last = (_camel(part) for part in name.split("."))
    for part in above:
        document = document.setdefault(part, {})
    document[last] = value


def _camel(name: str) -> str:
    """Give a field's name in JSON.

    >>> _camel("update_mask")
    'updateMask'
    """
    return re.sub(r"_([a-z0-9])", lambda found: found[1].upper(), name)


def _value(descriptor: Any, name: str, given: Sequence[str]) -> Any:
    """Give a query parameter as JSON has it: many for a repeated field, true and false as such."""
    *above, last = (_camel(part) for part in name.split("."))
    for part in above:
        field = _field(descriptor, part)
        descriptor = field.message_type if field is not None else None
    field = _field(descriptor, last)
    read = [one == "true" if field is not None and field.type == field.TYPE_BOOL else one for one in given]
    return read if field is not None and field.is_repeated else read[0]


def _field(descriptor: Any, name: str) -> Any:
    fields = descriptor.fields if descriptor is not None else ()
    return next((field for field in fields if name in (field.json_name, field.name)), None)


def _pb(kind: type[Any]) -> Any:
    return kind.pb() if issubclass(kind, Message) else kind


def _read(kind: type[Any], document: Json) -> Any:
    message = kind()
    try:
        json_format.ParseDict(document, kind.pb(message) if issubclass(kind, Message) else message)
    except json_format.ParseError as error:
        raise Refusal("INVALID_ARGUMENT", f"Invalid JSON payload received. {error}") from None
    return message


def _written(answer: Any, headers: Mapping[str, str], *, numbers: bool) -> Reply:
    if isinstance(answer, httpbody_pb2.HttpBody):
        return Reply(answer.data, headers={**headers, "Content-Type": answer.content_type})
    message = type(answer).pb(answer) if isinstance(answer, Message) else answer
    reply = to_reply(json_format.MessageToDict(message, use_integers_for_enums=numbers))
    reply.headers |= headers
    return reply


def _refusal(refusal: Refusal) -> Reply:
    code = CODES[refusal.status]
    error: Json = {"code": code, "message": refusal.message, "status": refusal.status}
    if refusal.reason:
        metadata = {key: value for key, value in refusal.metadata.items() if key != "domain"}
        kind = "type.googleapis.com/google.rpc.ErrorInfo"
        domain = refusal.metadata.get("domain", "")
        error["details"] = [{"@type": kind, "reason": refusal.reason, "domain": domain, "metadata": metadata}]
    return to_reply({"error": error}, code)
