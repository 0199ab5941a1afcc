"""The live watcher: one thread that looks at hundreds of models in turn, every few seconds.

    watcher = LiveWatcher(emit)
    reader = LiveReader(home / "log" / "bike" / "profiles")
    watcher.add(Post("bike", reader, [live_watch("bike", 3, package, settings)], home / "watch" / "bike.live.json"))
    watcher.run(stopping)

`emit` appends a model's alarms to its journal. What was learnt is kept after that, together with how far files were
read: a crash in between repeats both, and the alarms' ids are the same.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from trilho.config import Settings
from trilho.core.files import write_whole
from trilho.core.records import AlarmRaised
from trilho.watch.live.folder import Reader
from trilho.watch.live.watch import SHARE, LiveView, LiveWatch
from trilho.watch.promise import Promise
from trilho.watch.reference import load_reference
from trilho_runtime.prediction.live import live_reference
from trilho_runtime.profile import PREDICTION

log = logging.getLogger("trilho")
SCHEMA = 1
PERIOD = 2.0
SAVE_SECONDS = 60.0
SAID_SECONDS = 600.0

Emit = Callable[[str, list[AlarmRaised]], None]


def live_watch(
    model: str, version: int, package: Path, settings: Settings, promise: Promise | None = None, *, share: float = SHARE
) -> LiveWatch:
    """Make the watch of a version from its package. Raises PackageError for one without a reference.

    `promise` is the model's; of its drift and quality the live watch takes `share`, so that the detector of whole
    windows keeps the rest.
    """
    watch, about = settings.watch, settings.model
    path = package / "reference.json"
    reference = load_reference(path)
    if not any(f.name == PREDICTION for f in reference.features) and (package / "validation.npz").exists():
        with np.load(package / "validation.npz", allow_pickle=False) as held:
            found = live_reference(path.read_bytes(), {name: held[name] for name in ("prediction", "time")})
        added = [
            replace(f, blocks=np.zeros((0, len(f.labels)), np.int64)) for f in found.features if f.name == PREDICTION
        ]
        reference = replace(reference, features=(*reference.features, *added))  # held-out rows: shown, never an alarm
    hidden = {about.target, about.time or "", about.key or "", *watch.ignore, *settings.serve.mask}
    promise = promise or Promise.of(watch.false_alarms, 3600.0)
    return LiveWatch(model, version, reference.without(hidden), promise, tolerance=watch.tolerance, share=share)


class Post:
    """Some models that are watched from one place: a model's folder, or a topic that all of them publish to."""

    def __init__(self, name: str, reader: Reader, watches: Iterable[LiveWatch], memory: Path | None = None) -> None:
        self.name, self.reader, self.memory = name, reader, memory
        self.watches = {(w.model, w.version): w for w in watches}
        self._saved, self._changed = 0.0, False
        self._owed: list[AlarmRaised] = []
        self._recall()

    def look(self, emit: Emit, now: float) -> int:
        """Read what is new and say which alarms it raises; give how many rows there were."""
        rows = 0
        for part in self.reader.read():
            self._changed = True
            watch = self.watches.get((part.model, part.version))
            if watch is not None:
                rows += part.rows
                self._owed += watch.update(part, now)
        told = bool(self._owed)
        while self._owed:  # what could not be told is told the next time
            model = self._owed[0].model
            emit(model, [alarm for alarm in self._owed if alarm.model == model])
            self._owed = [alarm for alarm in self._owed if alarm.model != model]
        if told or (self._changed and now - self._saved >= SAVE_SECONDS):
            self.save(now)
        return rows

    def save(self, now: float) -> None:
        """Keep what was learnt and how far was read, as one; then what was read may go."""
        if self.memory is not None:
            watches = [[*key, watch.state()] for key, watch in sorted(self.watches.items())]
            data = {"schema": SCHEMA, "reader": self.reader.state(), "watches": watches}
            write_whole(self.memory, json.dumps(data, separators=(",", ":")))
        self.reader.commit()
        self._saved, self._changed = now, False

    def end(self, now: float) -> None:
        """Keep what has not been kept yet."""
        if self._changed and not self._owed:
            self.save(now)

    def _recall(self) -> None:
        if self.memory is None or not self.memory.exists():
            return
        try:
            data = json.loads(self.memory.read_bytes())
            if data["schema"] != SCHEMA:
                return
            self.reader.restore(data["reader"])
            for model, version, state in data["watches"]:
                if (model, version) in self.watches:
                    self.watches[model, version].restore(state)
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.error("%s: the live watch starts from nothing: %s: %s", self.memory, type(error).__name__, error)


class LiveWatcher:
    """Looks at all posts in turn; one that fails delays no other."""

    def __init__(self, emit: Emit, clock: Callable[[], float] = time.time) -> None:
        self._emit, self._clock = emit, clock
        self._posts: dict[str, Post] = {}
        self._said: dict[str, float] = {}
        self._lock = threading.Lock()
        self.rounds = self.rows = self.failures = 0
        self.seconds = 0.0  # that the last round took

    def add(self, post: Post) -> None:
        """Watch a post, instead of one of the same name; what that had learnt is kept."""
        self.remove(post.name)
        with self._lock:
            self._posts[post.name] = post

    def remove(self, name: str) -> None:
        """Stop watching a post."""
        with self._lock:
            post = self._posts.pop(name, None)
            if post is not None:
                self._guard(post, lambda: post.end(self._clock()))

    def once(self) -> int:
        """Look at every post once; give how many rows there were."""
        begun, rows = time.perf_counter(), 0
        for name in list(self._posts):
            with self._lock:
                post = self._posts.get(name)
                if post is not None:
                    rows += self._guard(post, lambda post=post: post.look(self._emit, self._clock()))  # type: ignore[misc]
        self.rounds, self.rows = self.rounds + 1, self.rows + rows
        self.seconds = time.perf_counter() - begun
        return rows

    def run(self, stopping: threading.Event, seconds: float = PERIOD) -> None:
        """Look every so many seconds until it is to stop, then keep what was learnt."""
        while not stopping.is_set():
            self.once()
            stopping.wait(max(seconds - self.seconds, 0.05))
        self.close()

    def close(self) -> None:
        """Keep what was learnt of every post."""
        for name in list(self._posts):
            self.remove(name)

    def view(self, model: str, version: int) -> LiveView | None:
        """Give what there is to show of a model's present hour."""
        with self._lock:
            for post in self._posts.values():
                if (model, version) in post.watches:
                    return post.watches[model, version].view()
        return None

    def _guard(self, post: Post, act: Callable[[], int | None]) -> int:
        try:
            return act() or 0
        except Exception as error:  # noqa: BLE001  the other models are watched all the same
            self.failures += 1
            now = time.monotonic()
            if now - self._said.get(post.name, -SAID_SECONDS) >= SAID_SECONDS:
                self._said[post.name] = now
                log.error("%s is not watched live: %s: %s", post.name, type(error).__name__, error)
            return 0
