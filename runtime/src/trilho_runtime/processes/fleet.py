"""Several versions of a model in one container: a process for each, and the router in front of them.

Two versions of one module in one process would answer with one's code for both. A platform that knows neither sticky
keys nor shadows has one container, one port, one route: what it lacks happens inside.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trilho_runtime.processes.plan import Plan, PlanError
from trilho_runtime.web.http import note
from trilho_runtime.web.kept import Kept, collect, fetch

LOOK_SECONDS = 0.1
RETIRE_SECONDS = 1.0
FAILED_STARTS = 3
ENDING = (signal.SIGTERM, signal.SIGINT)


class Fleet:
    """Runs the versions of a plan and the router; `run` takes the thread, and the process's signals."""

    def __init__(
        self, read: Callable[[], Plan], server: Callable[[int, str], Sequence[str]], router: Sequence[str]
    ) -> None:
        self._read, self._server = read, server
        self._plan = read()
        self._folder = Path(tempfile.mkdtemp(prefix="trilho-"))
        self._pipe = os.pipe()  # nobody writes to it: its end is how the children learn of ours
        self._servers: dict[int, Kept] = {}
        self._left: dict[int, float] = {}
        self._routes: dict[str, Any] = {}
        self._generation = 0
        self._was_ready = False
        self._exit_code: int | None = None
        self._complaint = ""
        command = [*router, "--routes", str(self._folder / "routes.json")]
        self._router = Kept("router", self._folder, lambda: command, self._pipe[0], "/stats")

    def run(self) -> int:
        """Keep everything until told to stop, and give the exit code."""
        wake, woken = socket.socketpair()
        for end in (wake, woken):
            end.setblocking(False)
        signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
        for number in (*ENDING, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        self._write_routes()
        while self._exit_code is None or not self._all_gone():
            self._step()
            select.select([wake], [], [], LOOK_SECONDS)
            with contextlib.suppress(BlockingIOError):
                if set(ENDING) & set(wake.recv(4096)):
                    self._end(0)
        shutil.rmtree(self._folder, ignore_errors=True)
        return self._exit_code

    def _step(self) -> None:
        """Take the next steps towards what the plan says."""
        ended = collect()
        if self._exit_code is None:
            self._follow()
            for number in sorted(self._plan.packages.keys() - self._servers.keys()):
                self._servers[number] = self._version(number, self._plan.packages[number])
        for number, kept in list(self._servers.items()):
            kept.keep(ended)
            if kept.gone:
                del self._servers[number]
        self._router.keep(ended)
        if self._exit_code is None:
            self._write_routes()
            self._retire()
            self._give_up()
        elif self._router.gone:  # not before: while it finishes its requests, the versions answer them
            for kept in self._servers.values():
                kept.leave()

    def _version(self, number: int, package: str) -> Kept:
        return Kept(f"v{number}", self._folder, lambda: self._server(number, package), self._pipe[0], "/health")

    def _follow(self) -> None:
        """Take the routes as they are now; what is malformed is said once, and the old ones stay."""
        try:
            self._plan, self._complaint = self._read(), ""
        except (PlanError, OSError) as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                note(f"the routes stay as they were: {error}")

    def _write_routes(self) -> None:
        """Tell the router who is there: a version that is not ready leaves its share to the others."""
        plan = self._plan
        ready = {number: share for number, share in plan.shares.items() if self._ready(number)}
        if not self._was_ready and len(ready) < len(plan.shares) and not self._failing():
            ready = {}  # who is sticky meets the right version from the first request on
        before = {item["version"]: item["share"] for item in self._routes.get("versions", [])}
        shares = ready or {number: share for number, share in before.items() if self._ready(number)} or before
        total = sum(shares.values())
        versions = [
            {"version": number, "address": self._address(number), "share": 100 * share / total}
            for number, share in sorted(shares.items())
            if self._address(number)
        ]
        routes: dict[str, Any] = {**{"model": "", "fields": self._fields()}, **plan.more, "versions": versions}
        if plan.shadow is not None and self._ready(plan.shadow.version):
            number = plan.shadow.version
            routes["shadow"] = {"version": number, "address": self._address(number), "share": plan.shadow.share}
        if routes != self._routes:
            self._routes, self._generation = routes, self._generation + 1
            temporary = self._folder / "routes.part"
            temporary.write_text(json.dumps({"schema": 1, "generation": self._generation, **routes}), "utf-8")
            temporary.replace(self._folder / "routes.json")

    def _ready(self, number: int) -> bool:
        kept = self._servers.get(number)
        return kept is not None and kept.state == "ready"

    def _failing(self) -> bool:
        return any(kept.failed_starts for kept in self._servers.values())

    def _address(self, number: int) -> str | None:
        kept = self._servers.get(number)
        return kept.address if kept is not None else None

    def _fields(self) -> list[str]:
        """Give the order of a row's fields, for callers who send arrays."""
        for number in sorted(self._plan.shares, key=lambda number: -self._plan.shares[number]):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                signature = json.loads((Path(self._plan.packages[number]) / "manifest.json").read_bytes())["signature"]
                return [str(field["name"]) for field in signature]
        return []

    def _retire(self) -> None:
        """End the versions that the plan has dropped, once the router has said that it no longer asks them."""
        now = time.monotonic()
        routed = {item["version"] for item in self._routes["versions"]}
        for number, kept in self._servers.items():
            if number in self._plan.packages or number in routed:
                self._left.pop(number, None)
            elif now - self._left.setdefault(number, now) > RETIRE_SECONDS and self._followed():
                kept.leave()

    def _followed(self) -> bool:
        body = fetch(self._router.address, "/stats") if self._router.address is not None else None
        return body is not None and int(json.loads(body)["generation"]) >= self._generation

    def _give_up(self) -> None:
        """End when nothing can start: who started this container should learn of it."""
        self._was_ready = self._was_ready or bool(self._routes.get("versions"))
        hopeless = [kept for kept in (self._router, *self._servers.values()) if kept.failed_starts >= FAILED_STARTS]
        if hopeless and not self._was_ready:
            self._end(max(1, hopeless[0].exit_code))

    def _end(self, code: int) -> None:
        if self._exit_code is None:
            self._exit_code = code
            self._router.leave()

    def _all_gone(self) -> bool:
        return self._router.gone and not self._servers
