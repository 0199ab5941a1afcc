"""The body of a journal record: its kind and its version, how it is stored and how it is read again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, TypeVar


@dataclass(frozen=True, kw_only=True)
class Payload:
    """The body of a journal record; `model` is the project's model name."""

    type: ClassVar[str]
    version_of_schema: ClassVar[int] = 1
    model: str


P = TypeVar("P", bound=type[Payload])
PAYLOADS: dict[str, type[Payload]] = {}
UPCASTS: dict[tuple[str, int], Callable[[dict[str, Any]], dict[str, Any]]] = {}


def kind(name: str, version: int = 1) -> Callable[[P], P]:
    """Register a payload under its record type."""

    def register(cls: P) -> P:
        cls.type = name
        cls.version_of_schema = version
        PAYLOADS[name] = cls
        return cls

    return register


def encode(payload: Payload) -> dict[str, Any]:
    """Give the payload as JSON values.

    >>> from trilho.core.records import VersionApproved
    >>> encode(VersionApproved(model="m", version=2, why="looks right"))
    {'model': 'm', 'version': 2, 'why': 'looks right'}
    """
    return asdict(payload)


def decode(type_: str, version: int, data: dict[str, Any]) -> Payload:
    """Rebuild a payload from its stored form, bringing older versions up to today's.

    Raises KeyError for a type this trilho does not know (a newer one wrote it).

    >>> decode("version.approved", 1, {"model": "m", "version": 2, "why": "ok"})
    VersionApproved(model='m', version=2, why='ok')
    """
    cls = PAYLOADS[type_]
    while version < cls.version_of_schema:
        data = UPCASTS[type_, version](data)
        version += 1
    return cls(**data)
