"""What the AIPs say of every resource: Create, Get, List, Update and Delete (AIP-131 to 135), by names alone.

Where a collection lies is read from the client's own `..._path` functions. Nothing is known of a resource's meaning:
required fields, states and references are checked by the handlers of the services that have some.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from google.protobuf import empty_pb2

from trilho.testing.emulator.listing import masked, merge, order, page, read_filter
from trilho.testing.emulator.resources import Message, Resources, copied, new_id
from trilho.testing.emulator.rules import Refusal

if TYPE_CHECKING:
    from trilho.testing.emulator.listing import Field, Function
    from trilho.testing.emulator.rpc import Call, Method

KEPT = ("name", "create_time", "update_time", "etag")  # what an update never sets
ID = re.compile(r"[a-zA-Z0-9_-]{1,128}")


class Crud:
    """Answers the standard methods of any service."""

    def __init__(self, resources: Resources) -> None:
        self.resources = resources

    def answer(self, call: Call, request: Any) -> Any:
        """Answer a method by its name."""
        verb = re.match(r"(Create|Get|List|Update|Delete)[A-Z]", call.method.name)
        if verb is None or not _is_standard(verb[1], call.method):
            raise Refusal("UNIMPLEMENTED", f"trilho emulate does not have {call.method.path.lstrip('/')}.")
        return getattr(self, f"_{verb[1].lower()}")(call, request)

    def create(self, parent: str, collection: str, id_: str, message: Message, *, exists: str = "") -> Any:
        """Hold a new resource under a parent, by its id or a new one."""
        if not parent:
            raise Refusal("INVALID_ARGUMENT", "The request is missing the required field `parent`.")
        if id_ and not ID.fullmatch(id_):
            raise Refusal("INVALID_ARGUMENT", f"Invalid resource id {id_!r}: it must match {ID.pattern}.")
        return self.resources.create(f"{parent}/{collection}/{id_ or new_id()}", message, exists=exists)

    def listed(
        self,
        found: list[Any],
        kind: type[Message],
        request: Any,
        functions: Mapping[str, Function] | None = None,
        fields: Mapping[str, Field] | None = None,
    ) -> tuple[list[Any], str]:
        """Give the page of a list that a request asks for, by its filter, order and mask, and the next page's token."""
        test = read_filter(getattr(request, "filter", ""), kind, functions, fields)
        chosen = order([one for one in found if test(one)], getattr(request, "order_by", ""), kind)
        some, token = page(chosen, getattr(request, "page_size", 0), getattr(request, "page_token", ""))
        paths = list(request.read_mask.paths) if "read_mask" in _fields(request) else []
        return [masked(one, paths) for one in some] if paths else list(some), token

    def update(self, given: Any, paths: list[str], kept: tuple[str, ...] = ()) -> Any:
        """Set what an update's mask names, but for `kept`; an etag that is given must be the present one (AIP-154)."""
        kind = type(given)
        with self.resources.editing(given.name, kind) as held:
            if etag := getattr(given, "etag", ""):
                _check_etag(etag, held)
            before = copied(held)
            merge(held, given, paths)
            for name in (*KEPT, *kept):
                if name in kind.meta.fields:
                    merge(held, before, [name])
            return held

    def _create(self, call: Call, request: Any) -> Any:
        noun = _snake(call.method.name[len("Create") :])
        message, id_ = getattr(request, noun), getattr(request, f"{noun}_id", "") or ""
        collection = collection_of(call.method, noun)
        if not call.method.long_running:
            return self.create(request.parent, collection, id_, message)
        id_ = id_ or new_id()
        name = f"{request.parent}/{collection}/{id_}"
        if self.resources.find(name, type(message)) is not None:
            raise Refusal("ALREADY_EXISTS", f"{type(message).__name__} `{name}` already exists.")
        return call.later(name, lambda: self.create(request.parent, collection, id_, message))

    def _get(self, call: Call, request: Any) -> Any:
        return self.resources.get(request.name, call.method.response)

    def _list(self, call: Call, request: Any) -> Any:
        response = call.method.response
        field = next(name for name, held in response.meta.fields.items() if held.repeated and held.message)
        kind = response.meta.fields[field].message
        kind = getattr(importlib.import_module(response.__module__), kind) if isinstance(kind, str) else kind
        collection = collection_of(call.method, _snake(kind.__name__))
        found, token = self.listed(self.resources.under(request.parent, collection, kind), kind, request)
        return response(**{field: found, "next_page_token": token})

    def _update(self, call: Call, request: Any) -> Any:
        given = getattr(request, _snake(call.method.name[len("Update") :]))
        paths = list(request.update_mask.paths) if "update_mask" in _fields(request) else []
        if self.resources.find(given.name, type(given)) is None and getattr(request, "allow_missing", False):
            return self.resources.create(given.name, given)
        self.resources.get(given.name, type(given))
        if call.method.long_running:
            return call.later(given.name, lambda: self.update(given, paths))
        return self.update(given, paths)

    def _delete(self, call: Call, request: Any) -> Any:
        kind = kind_of(call.method, call.method.name[len("Delete") :])
        held = self.resources.get(request.name, kind)
        if etag := getattr(request, "etag", ""):
            _check_etag(etag, held)
        if call.method.long_running:
            return call.later(request.name, lambda: self.resources.remove(request.name, kind) and None)
        self.resources.remove(request.name, kind)
        return empty_pb2.Empty()


def _is_standard(verb: str, method: Method) -> bool:
    fields = method.request.meta.fields if issubclass(method.request, Message) else {}
    noun = _snake(method.name[len(verb) :])
    needs = {"Create": {"parent", noun}, "Update": {noun}, "List": {"parent"}}.get(verb, {"name"})
    return needs <= set(fields)


def collection_of(method: Method, noun: str) -> str:
    """Give the name of a noun's collection, from the client's function that formats such names.

    >>> from trilho.testing.emulator.rpc import discover, transport_of
    >>> method = next(discover(transport_of("tensorboard_service")))
    >>> collection_of(method, "tensorboard"), collection_of(method, "tensorboard_time_series")
    ('tensorboards', 'timeSeries')
    """
    client = client_of(method)
    make = getattr(client, f"{noun}_path", None) or getattr(client, f"{noun.rpartition('_')[2]}_path", None)
    if make is None:
        words = noun.split("_")
        return words[0] + "".join(word.capitalize() for word in words[1:]) + "s"
    count = make.__code__.co_argcount
    return str(make(*["x"] * count)).split("/")[-2]


def client_of(method: Method) -> Any:
    """Give the client class that a method's transport belongs to."""
    package = method.transport.__module__.partition(".transports.")[0]
    return getattr(importlib.import_module(package), method.transport.__name__.removesuffix("GrpcTransport") + "Client")


def kind_of(method: Method, noun: str) -> type[Any]:
    """Give the type of a noun, which the API's package exports under its name."""
    api = method.transport.__module__.partition(".services.")[0]
    found = getattr(importlib.import_module(api), noun, None)
    if found is None:
        raise Refusal("UNIMPLEMENTED", f"trilho emulate does not have {method.path.lstrip('/')}.")
    kind: type[Any] = found
    return kind


def _check_etag(etag: str, held: Any) -> None:
    if held.etag != etag:
        raise Refusal("ABORTED", f"{type(held).__name__} `{held.name}` has changed: its etag is not {etag!r}.")


def _fields(request: Any) -> Any:
    return type(request).meta.fields if isinstance(request, Message) else {}


def _snake(noun: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", noun).lower()
