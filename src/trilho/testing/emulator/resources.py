"""What the emulated services hold: one message by full resource name.

A message that is held is never changed: who edits it edits a copy, which then takes its place. So an answer can be
written to the wire while a job goes on. Nothing outlives the emulator's process but what lies in its buckets.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

from proto import Message as Message

from trilho.testing.emulator.clock import Clock
from trilho.testing.emulator.rules import Refusal

Held = TypeVar("Held")


class Resources:
    """The resources of all services; threads may share it."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.lock = threading.RLock()
        self._held: dict[str, Any] = {}

    def get(self, name: str, kind: type[Held]) -> Held:
        """Give a resource. Raises Refusal NOT_FOUND."""
        found = self.find(name, kind)
        if found is None:
            raise not_found(kind.__name__, name)
        return found

    def find(self, name: str, kind: type[Held]) -> Held | None:
        """Give a resource, None where there is none of this kind and name."""
        with self.lock:
            found = self._held.get(name)
        return found if isinstance(found, kind) else None

    def under(self, parent: str, collection: str, kind: type[Held]) -> list[Held]:
        """Give the resources of a collection, oldest first; the parent's last part may be `-`, for all."""
        prefix = f"{parent}/{collection}/"
        with self.lock:
            held = list(self._held.items())
        if parent.endswith("/-"):
            start, depth, end = parent[:-1], prefix.count("/"), f"/{collection}/"
            return [
                m for n, m in held if n.startswith(start) and n.count("/") == depth and end in n and isinstance(m, kind)
            ]
        return [m for n, m in held if n.startswith(prefix) and "/" not in n[len(prefix) :] and isinstance(m, kind)]

    def every(self, kind: type[Held]) -> list[Held]:
        """Give all resources of a kind."""
        with self.lock:
            return [message for message in self._held.values() if isinstance(message, kind)]

    def create(self, name: str, message: Held, *, exists: str = "") -> Held:
        """Hold a new resource under a name, with its times and etag set. Raises Refusal ALREADY_EXISTS."""
        new: Any = copied(message)
        new.name = name
        self.stamp(new, "create_time")
        with self.lock:
            if name in self._held:
                raise Refusal("ALREADY_EXISTS", exists or f"{type(message).__name__} `{name}` already exists.")
            self._held[name] = new
        held: Held = new
        return held

    @contextmanager
    def editing(self, name: str, kind: type[Held], *, touch: bool = True) -> Iterator[Held]:
        """Edit a copy of a resource that takes its place at the end; `touch` renews its update time and etag."""
        with self.lock:
            new = copied(self.get(name, kind))
            yield new
            if touch:
                self.stamp(new)
            self._held[name] = new

    def remove(self, name: str, kind: type[Held]) -> Held:
        """Hold a resource no longer, nor what is under it."""
        with self.lock:
            found = self.get(name, kind)
            for other in [other for other in self._held if other == name or other.startswith(f"{name}/")]:
                del self._held[other]
        return found

    def stamp(self, message: Message, *more: str) -> None:
        """Set the times of now, and an etag, where the resource has such fields."""
        fields, now = type(message).meta.fields, self.now()
        for field in {"update_time", *more} & set(fields):
            setattr(message, field, now)
        if "etag" in fields:
            message.etag = secrets.token_hex(8)

    def now(self) -> datetime:
        """Give the emulator's time."""
        return datetime.fromtimestamp(self.clock.now(), UTC)


def copied(message: Held) -> Held:
    """Give a copy that shares nothing."""
    kind: Any = type(message)
    new: Held = kind()
    kind.copy_from(new, message)
    return new


def new_id() -> str:
    """Give an id as Google's services make them: a number of 19 digits.

    >>> len(new_id())
    19
    """
    return str(10**18 + secrets.randbelow(8 * 10**18))


def not_found(kind: str, name: str) -> Refusal:
    """Say that a resource is not there, by its full name."""
    return Refusal("NOT_FOUND", f"{kind} `{name}` not found.")
