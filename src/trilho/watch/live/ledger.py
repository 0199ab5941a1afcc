"""What servers' profile files have told already, so that each row counts once however often its file is seen.

A file holds all that one process has counted of one hour, and is replaced every few seconds. What is new in it is what
it holds now less what it held before. A copy that is older than one seen before, or is delivered twice, adds nothing.
"""

from __future__ import annotations

import base64
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Counts = dict[str, Ints]
SCHEMA = 1
HOUR = 3600.0
STALE_SECONDS = 6 * HOUR  # a file that rests for so long is closed: what it says later is not counted
KEPT = 256  # files whose counts are held
CLOSED = 4096  # names of files that are no longer listened to


class NotAProfile(ValueError):
    """Text that is no profile file, or only half of one."""


@dataclass(frozen=True)
class Profile:
    """Counts of one model version in one hour, which begins at `hour` seconds since 1970."""

    model: str
    version: int
    hour: float
    event_time: bool
    rows: int
    counts: Counts

    @classmethod
    def parse(cls, text: bytes) -> Profile:
        """Read a file as servers write it. Raises NotAProfile."""
        try:
            data = orjson.loads(text)
            if data["schema"] != SCHEMA:
                raise NotAProfile(f"a live profile of schema {data['schema']}, this trilho reads {SCHEMA}")
            counts = {str(name): np.array(values, np.int64) for name, values in data["counts"].items()}
            hour = datetime.fromisoformat(f"{data['hour']}:00").replace(tzinfo=UTC).timestamp()
            rows, about = int(data["rows"]), (str(data["model"]), int(data["version"]))
            if rows < 0 or any(c.ndim != 1 or (c < 0).any() for c in counts.values()):
                raise NotAProfile("a live profile with counts below zero")
        except NotAProfile:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise NotAProfile(f"no live profile: {type(error).__name__}: {error}") from None
        return cls(*about, hour, bool(data.get("event_time", False)), rows, counts)

    def less(self, before: Profile | None) -> Profile | None:
        """Give what is new since an earlier state of the same file; None where this is not a later state of it."""
        if before is None:
            return self
        if self.counts.keys() != before.counts.keys() or self.rows < before.rows:
            return None
        counts = {}
        for name, now in self.counts.items():
            old = before.counts[name]
            if len(now) != len(old) or (now < old).any():
                return None
            counts[name] = now - old
        return Profile(self.model, self.version, self.hour, self.event_time, self.rows - before.rows, counts)


class Ledger:
    """Remembers each file's last state for as long as it may grow, in bounded memory.

    >>> ledger, counts = Ledger(), {"x": np.array([1, 2])}
    >>> file = Profile("bike", 1, 0.0, False, 3, counts)
    >>> ledger.take("a.json", file, 10.0).rows, ledger.take("a.json", file, 11.0)
    (3, None)
    """

    def __init__(self, stale_seconds: float = STALE_SECONDS) -> None:
        self._stale = stale_seconds
        self._held: OrderedDict[str, tuple[Profile, float]] = OrderedDict()
        self._closed: OrderedDict[str, None] = OrderedDict()
        self._latest = -np.inf
        self.passed_over = 0  # rows of files that were closed, or were old when first seen

    def see(self, changed: float) -> None:
        """Take note of how late it is, by a file's time of change: what is much older is passed over."""
        self._latest = max(self._latest, changed)

    def take(self, name: str, file: Profile, changed: float) -> Profile | None:
        """Give what a file that changed at some time adds to what is known; None for nothing."""
        self.see(changed)
        if name in self._closed or (name not in self._held and changed < self._latest - self._stale):
            self._close(name)
            self.passed_over += file.rows
            return None
        before = self._held[name][0] if name in self._held else None
        new = file.less(before)
        if new is None:
            return None
        self._held[name] = (file, changed)
        self._held.move_to_end(name)
        self._shrink()
        return new if new.rows else None

    def _shrink(self) -> None:
        while self._held:
            name, (_, changed) = next(iter(self._held.items()))
            if len(self._held) <= KEPT and changed >= self._latest - self._stale:
                return
            del self._held[name]
            self._close(name)

    def _close(self, name: str) -> None:
        self._closed[name] = None
        while len(self._closed) > CLOSED:
            self._closed.popitem(last=False)

    def state(self) -> dict[str, Any]:
        """Give what a restarted reader goes on from, as JSON values."""
        held = {name: [changed, _pack(file)] for name, (file, changed) in self._held.items()}
        return {"schema": SCHEMA, "latest": _finite(self._latest), "held": held, "closed": list(self._closed)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self._latest = -np.inf if state["latest"] is None else float(state["latest"])
        self._held = OrderedDict((name, (_unpack(text), changed)) for name, (changed, text) in state["held"].items())
        self._closed = OrderedDict.fromkeys(state["closed"])


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _pack(file: Profile) -> str:
    hour = datetime.fromtimestamp(file.hour, UTC).strftime("%Y-%m-%dT%H")
    counts = {name: values.tolist() for name, values in file.counts.items()}
    about = {"schema": SCHEMA, "model": file.model, "version": file.version, "hour": hour}
    text = orjson.dumps({**about, "event_time": file.event_time, "rows": file.rows, "counts": counts})
    return base64.b64encode(zlib.compress(text, 1)).decode()


def _unpack(text: str) -> Profile:
    return Profile.parse(zlib.decompress(base64.b64decode(text)))
