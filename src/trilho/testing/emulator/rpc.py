"""A gRPC server for any of Google's generated clients, made from the client that is installed.

A client's transport knows the path of every method and, in its annotations, the request and the response: nothing of
it is written down here, and a further service is one more transport that is added. What a service does beyond creating,
reading, listing, updating and deleting by the rules of the AIPs (crud.py) is a handler.

Not emulated: methods that stream, quotas, resource names by project number (names come back as they were sent).
"""

from __future__ import annotations

import importlib
import re
import sys
import traceback
import typing
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.auth.credentials import AnonymousCredentials
from google.longrunning import operations_pb2
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from trilho.testing.emulator.crud import Crud
from trilho.testing.emulator.operations import Operations
from trilho.testing.emulator.resources import Message, Resources
from trilho.testing.emulator.rules import Refusal, Rules

THREADS = 64
STOP_SECONDS = 2.0
LONGEST_MESSAGE = 2000  # it travels in a header, and clients refuse long headers
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]

# Permissions that do not follow from the method's name (https://cloud.google.com/vertex-ai/docs/general/iam-permissions)
PERMISSIONS = {
    "BatchCancelPipelineJobs": "pipelineJobs.cancel",
    "BatchDeletePipelineJobs": "pipelineJobs.delete",
    "DeployModel": "endpoints.deploy",
    "UndeployModel": "endpoints.undeploy",
    "MutateDeployedModel": "endpoints.update",
    "UpdateEndpointLongRunning": "endpoints.update",
    "Predict": "endpoints.predict",
    "RawPredict": "endpoints.predict",
    "Explain": "endpoints.explain",
    "ListModelVersions": "models.list",
    "DeleteModelVersion": "models.delete",
    "MergeVersionAliases": "models.update",
    "PauseSchedule": "schedules.update",
    "ResumeSchedule": "schedules.update",
    "AddContextArtifactsAndExecutions": "contexts.addContextArtifactsAndExecutions",
    "AddContextChildren": "contexts.addContextChildren",
    "RemoveContextChildren": "contexts.removeContextChildren",
    "QueryContextLineageSubgraph": "contexts.queryContextLineageSubgraph",
    "AddExecutionEvents": "executions.addExecutionEvents",
    "QueryExecutionInputsAndOutputs": "executions.queryExecutionInputsAndOutputs",
    "QueryArtifactLineageSubgraph": "artifacts.queryArtifactLineageSubgraph",
}


@dataclass(frozen=True)
class Method:
    """A method of a service, as its client knows it."""

    service: str
    name: str
    request: type[Any]
    response: type[Any]
    transport: type[Any]

    @property
    def path(self) -> str:
        """Where the client calls it."""
        return f"/{self.service}/{self.name}"

    @property
    def long_running(self) -> bool:
        """Whether it is answered by an operation."""
        return self.response is operations_pb2.Operation


@dataclass(frozen=True)
class Call:
    """A call under way: its method, the headers it came with, and those that the answer will have."""

    method: Method
    permission: str
    resource: str
    headers: Mapping[str, str]
    operations: Operations
    answer_headers: dict[str, str] = field(default_factory=dict)

    def later(self, resource: str, work: Callable[[], Any]) -> Any:
        """Answer with an operation that does the work; its metadata is of the method's own type."""
        return self.operations.start(resource, work, metadata_of(self.method))


Handler = Callable[[Call, Any], Any]


class RpcServer:
    """Serve services over gRPC on the loopback interface, over TLS when it is given a key and a certificate.

    `authenticate` is told the headers of each call and raises Refusal("UNAUTHENTICATED", ...) for
    those it does not know.
    """

    def __init__(
        self,
        resources: Resources,
        rules: Rules | None = None,
        operations: Operations | None = None,
        *,
        identity: tuple[bytes, bytes] | None = None,
        port: int = 0,
        authenticate: Callable[[Mapping[str, str]], None] = lambda _: None,
    ) -> None:
        self.resources, self.rules = resources, rules or Rules()
        self.operations = operations or Operations()
        self._authenticate = authenticate
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="rpc")
        self._server = grpc.server(self._pool, options=UNLIMITED)
        self._known: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
        self.served: dict[str, tuple[Method, str, Handler]] = {}
        for name, (request, handler) in self.operations.handlers().items():
            response = {"ListOperations": operations_pb2.ListOperationsResponse}.get(name, operations_pb2.Operation)
            self._register(Method("google.longrunning.Operations", name, request, response, object), handler, "")
        self._server.add_generic_rpc_handlers((_Lookup(self._known),))
        self.port = self._bind(identity, port)

    def _bind(self, identity: tuple[bytes, bytes] | None, port: int) -> int:
        if identity is None:
            return self._server.add_insecure_port(f"127.0.0.1:{port}")
        return self._server.add_secure_port(f"127.0.0.1:{port}", grpc.ssl_server_credentials([identity]))

    def add(
        self,
        transport: type[Any],
        handlers: Mapping[str, Handler] | None = None,
        *,
        permissions: Mapping[str, str] | None = None,
    ) -> None:
        """Serve every unary method of a client's gRPC transport: by its handler, else by the rules of the AIPs.

        `permissions` says what a method needs ("versions.access"), where its name does not.
        """
        handlers = dict(handlers or {})
        crud = Crud(self.resources)
        for method in discover(transport):
            handler = handlers.pop(method.name, crud.answer)
            self._register(method, handler, permission_of(method, {**PERMISSIONS, **(permissions or {})}))
        if handlers:
            raise ValueError(f"{transport.__name__} has no method {', '.join(handlers)}")

    def _register(self, method: Method, handler: Handler, permission: str) -> None:
        def serve(request: Any, context: grpc.ServicerContext) -> Any:
            headers = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
            try:
                answer, answer_headers = self.answer(method, request, headers)
            except Refusal as refusal:
                return _refuse(context, refusal)
            context.send_initial_metadata(tuple(answer_headers.items()))
            return answer

        self.served[method.path] = (method, permission, handler)
        self._known[method.path] = grpc.unary_unary_rpc_method_handler(serve, _reader(method.request), _written)

    def answer(self, method: Method, request: Any, headers: Mapping[str, str]) -> tuple[Any, Mapping[str, str]]:
        """Give a call's answer and its headers, whatever carried it here. Raises Refusal."""
        _, permission, handler = self.served[method.path]
        call = Call(method, permission, resource_of(request), headers, self.operations)
        try:
            self._authenticate(headers)
            self.rules.enter(permission, call.resource, method.name)
            return handler(call, request), call.answer_headers
        except Refusal:
            raise
        except Exception as error:  # a bug of the emulator's is told to the caller, whole
            traceback.print_exc()
            raise Refusal("INTERNAL", f"The emulator failed: {type(error).__name__}: {error}") from error

    def start(self) -> None:
        """Serve from now on."""
        self._server.start()

    def stop(self) -> None:
        """Serve no longer."""
        self._server.stop(STOP_SECONDS).wait()
        self._pool.shutdown(wait=False)


class _Lookup(grpc.GenericRpcHandler):
    """Finds the method of a call; one that is not emulated is refused by name, not as an unknown path."""

    def __init__(self, known: Mapping[str, Any]) -> None:
        self._known = known

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        path = handler_call_details.method
        if (found := self._known.get(path)) is not None:
            return found

        def refuse(_: Any, context: grpc.ServicerContext) -> Any:
            return _refuse(context, Refusal("UNIMPLEMENTED", f"trilho emulate does not have {path.lstrip('/')}."))

        return grpc.unary_unary_rpc_method_handler(refuse)


class _Recorder(grpc.Channel):
    """A channel that only notes which unary method is asked for."""

    path = ""

    def unary_unary(self, method: str, *_: Any, **__: Any) -> Any:
        self.path = method
        return lambda *_, **__: None

    def unary_stream(self, *_: Any, **__: Any) -> Any:
        return lambda *_, **__: None

    stream_unary = stream_stream = unary_stream

    def subscribe(self, callback: Any, try_to_connect: bool | None = False) -> None:
        """Do nothing."""

    def unsubscribe(self, callback: Any) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def __enter__(self) -> _Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""


def discover(transport: type[Any]) -> Iterator[Method]:
    """Give the unary methods of a client's transport, without those that every service shares (operations, IAM)."""
    recorder = _Recorder()
    made = transport(channel=recorder, credentials=AnonymousCredentials())  # type: ignore[no-untyped-call]
    made._stubs.clear()
    made._logged_channel = recorder
    for name, member in vars(transport).items():
        if not isinstance(member, property) or name in ("grpc_channel", "operations_client", "kind"):
            continue
        recorder.path = ""
        getattr(made, name)
        service, _, method = recorder.path.lstrip("/").partition("/")
        answer = typing.get_type_hints(member.fget)["return"]
        if method and service.rpartition(".")[2] == transport.__name__.removesuffix("GrpcTransport"):
            (request,), response = typing.get_args(answer)
            yield Method(service, method, request, response, transport)


def transport_of(service: str, api: str = "google.cloud.aiplatform_v1") -> type[Any]:
    """Give a service's gRPC transport: `transport_of("pipeline_service")`."""
    module = importlib.import_module(f"{api}.services.{service}.transports.grpc")
    name = "".join(word.capitalize() for word in service.split("_")) + "GrpcTransport"
    found: type[Any] = getattr(module, name)
    return found


def permission_of(method: Method, known: Mapping[str, str]) -> str:
    """Give the permission that a method needs.

    >>> permission_of(Method("google.cloud.aiplatform.v1.PipelineService", "CreatePipelineJob", str, str, object), {})
    'aiplatform.pipelineJobs.create'
    >>> permission_of(Method("google.cloud.aiplatform.v1.ScheduleService", "ListSchedules", str, str, object), {})
    'aiplatform.schedules.list'
    """
    api = re.sub(r"\.v\d.*", "", method.service).split(".")[-1]
    if method.name in known:
        return f"{api}.{known[method.name]}"
    verb, *nouns = re.findall(r"[A-Z][a-z0-9]*", method.name)
    noun = "".join(nouns) or verb
    many = noun if verb in ("List", "Purge", "BatchCreate", "BatchDelete") else plural(noun)
    return f"{api}.{many[:1].lower()}{many[1:]}.{verb.lower()}"


def plural(noun: str) -> str:
    """Give the plural of a resource's noun.

    >>> plural("Policy"), plural("Index"), plural("Endpoint"), plural("Gateway")
    ('Policies', 'Indexes', 'Endpoints', 'Gateways')
    """
    if re.search(r"[^aeiou]y$", noun):
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("s", "x", "ch")) else f"{noun}s"


def resource_of(request: Any) -> str:
    """Give the resource that a request is about: what its permission is asked on."""
    for name in ("parent", "name", "endpoint", "context", "execution", "artifact"):
        if isinstance(value := getattr(request, name, None), str) and value:
            return value
    for value in (getattr(request, name, None) for name in _message_fields(request)):
        if isinstance(own := getattr(value, "name", None), str) and own:
            return own
    return ""


def _message_fields(request: Any) -> list[str]:
    return list(type(request).meta.fields) if isinstance(request, Message) else []


def metadata_of(method: Method) -> Message | None:
    """Give an empty metadata message of the type that a method's operations have, None where there is none."""
    module = sys.modules[method.request.__module__]
    for name in (f"{method.name}OperationMetadata", "DeleteOperationMetadata", "GenericOperationMetadata"):
        if name.startswith("Delete") and not method.name.startswith("Delete"):
            continue
        found = getattr(module, name, None) or getattr(getattr(module, "operation", None), name, None)
        found = found or getattr(sys.modules.get(f"{module.__package__}.operation"), name, None)
        if found is not None:
            made: Message = found()
            return made
    return None


def _reader(kind: type[Any]) -> Callable[[bytes], Any]:
    reader: Callable[[bytes], Any] = kind.deserialize if issubclass(kind, Message) else kind.FromString
    return reader


def _written(message: Any) -> bytes:
    written: bytes = type(message).serialize(message) if isinstance(message, Message) else message.SerializeToString()
    return written


def _refuse(context: grpc.ServicerContext, refusal: Refusal) -> Any:
    """End a call with a status, and the details that clients read reason and metadata from."""
    message = refusal.message if len(refusal.message) <= LONGEST_MESSAGE else f"{refusal.message[:LONGEST_MESSAGE]}..."
    status = status_pb2.Status(code=refusal.code, message=message)
    if refusal.reason:
        metadata = {key: value for key, value in refusal.metadata.items() if key != "domain"}
        domain = refusal.metadata.get("domain", "")
        detail = any_pb2.Any()
        detail.Pack(error_details_pb2.ErrorInfo(reason=refusal.reason, domain=domain, metadata=metadata))
        status.details.append(detail)
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    return context.abort(getattr(grpc.StatusCode, refusal.status), message)
