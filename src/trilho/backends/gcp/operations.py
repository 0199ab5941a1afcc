"""Long-running operations of Vertex AI: waited for, with a word now and then, and found again after a kill."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from trilho.backends.gcp.cloud import CALL_SECONDS, Cloud
from trilho.core.files import write_whole
from trilho.errors import NotYet

T = TypeVar("T")
LOOK_SECONDS = 2.0
LONGEST_LOOK = 15.0
WORD_SECONDS = 30.0
LONGEST_SECONDS = 2700.0  # a large image on a rare machine may take half an hour


@dataclass(frozen=True)
class Operations:
    """What is under way; `kept` is the file that holds its names for whoever comes after a kill."""

    cloud: Cloud
    kept: Path | None = None
    look_seconds: float = LOOK_SECONDS
    longest_seconds: float = LONGEST_SECONDS
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = field(default=time.sleep)

    def finish(self, client: Any, name: str, doing: str, raised: tuple[type[Exception], ...] = ()) -> None:
        """Wait for an operation's end. What it failed with is raised in our words, or as Google's client would raise it
        where that is one of `raised`; NotYet when it takes too long, since it goes on by itself."""
        from google.api_core.exceptions import from_grpc_status

        ended = self.until(lambda: _ended(self._get(client, name, doing)), doing, name)
        if ended.error.code:
            error: Exception = from_grpc_status(ended.error.code, ended.error.message)  # type: ignore[no-untyped-call]
            raise error if isinstance(error, raised) else self.cloud.explain(error, doing) from None

    def until(self, look: Callable[[], T | None], doing: str, what: str) -> T:
        """Look again and again until something is there, and give it; NotYet when that takes too long."""
        began, told, pause = self.clock(), 0.0, self.look_seconds
        while (found := look()) is None:
            waited = self.clock() - began
            if waited > self.longest_seconds:
                raise NotYet(
                    f"{doing}: it is under way for {waited:.0f} s and goes on ({what})",
                    hint="run the same again: it waits on, and starts nothing twice",
                )
            if waited - told >= WORD_SECONDS:
                told = waited
                self.cloud.say(f"{doing}: under way for {waited:.0f} s")
            self.sleep(pause)
            pause = min(pause * 1.3, max(LONGEST_LOOK, self.look_seconds))
        return found

    def known(self, client: Any, name: str) -> bool:
        """Say whether an operation is still to be asked about."""
        from google.api_core.exceptions import NotFound

        def ask() -> bool:
            try:
                self._ask(client, name)
            except NotFound:
                return False
            return True

        return self.cloud.call(f"looking at {name}", ask)

    def under_way(self) -> dict[str, str]:
        """Give the names of the operations that were kept, by what they deploy."""
        try:
            found = json.loads(self.kept.read_bytes()) if self.kept is not None else {}
            return {str(key): str(value) for key, value in found.items()}
        except (OSError, ValueError, AttributeError):
            return {}

    def keep(self, key: str, name: str) -> None:
        """Keep an operation's name."""
        self._write({**self.under_way(), key: name})

    def forget(self, key: str) -> None:
        """Keep an operation's name no longer."""
        held = self.under_way()
        if key in held:
            self._write({one: name for one, name in held.items() if one != key})

    def _write(self, held: dict[str, str]) -> None:
        if self.kept is not None:
            write_whole(self.kept, json.dumps(held))

    def _get(self, client: Any, name: str, doing: str) -> Any:
        return self.cloud.call(doing, lambda: self._ask(client, name))

    def _ask(self, client: Any, name: str) -> Any:
        return client.get_operation({"name": name}, retry=None, timeout=CALL_SECONDS)


def _ended(operation: Any) -> Any | None:
    return operation if operation.done else None
