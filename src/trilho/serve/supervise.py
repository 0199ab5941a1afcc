"""The supervisor of one model's endpoint: it makes the processes be what the journal says should serve.

One process answers for each version, since two versions of one module in one process answer with the wrong code; a
router in front splits the traffic. `tick` compares what is with what should be and takes the next steps; it may be
called at any time, from any state, after any crash. A version is routed to once it is ready, and ended once nothing
is routed to it; when nothing wanted is ready, what served goes on serving.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trilho.config import Serve
from trilho.core.lease import Lease
from trilho.core.ports import Journal
from trilho.core.projection import ModelState
from trilho.core.readings import EndpointStatus, ShadowStats, VersionStats
from trilho.core.records import VersionServed
from trilho.errors import ConfigError, TrilhoError
from trilho.serve.complaints import Complaints
from trilho.serve.endpoint import folder_of, publish, read_json, write_json
from trilho.serve.endpoint import read_status as read_status
from trilho.serve.flags import environment, router_flags, write_keys
from trilho.serve.package import Scored
from trilho.serve.process import Child, get
from trilho.serve.routes import RoutesFile, choose, trusted
from trilho.serve.servers import ONE_THREAD, Launch, Servers
from trilho.serve.traffic import Traffic

PORT_SECONDS = 5.0
PORT_IN_USE = 2
DECISION = "decision.json"


class Supervisor:
    """Runs the endpoint of one model on this machine; not for several threads, but for `status`."""

    def __init__(
        self,
        model: str,
        settings: Serve,
        home: Path,
        *,
        journal: Journal,
        state: Callable[[], ModelState],
        package_path: Callable[[int], Path],
        python: Path,
        host: str = "127.0.0.1",
        server: str = "trilho_runtime.server",
        router: str = "trilho_runtime.route",
        workers: str = "trilho_runtime.workers",
        opened: bool = False,
        slices: Sequence[str] = (),
        warm_seconds: float = 0.0,
        decision_path: Callable[[int], Path] | None = None,
        history: Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.model = model
        self.folder = folder_of(home, model)
        self._settings, self._journal, self._state = settings, journal, state
        self._host, self._router_module, self._opened = host, router, opened
        self._environ = dict(environ or {})  # that servers and router find besides
        self._home, self._log_folder = home, home / "log" / model
        self._lease = Lease(self.folder / "lease", f"{model} is being served")
        self._pipe: tuple[int, int] | None = None
        self._router: Child | None = None
        self._complaints = Complaints(model)
        self._decision_path = decision_path
        self._decided: dict[str, Any] | None = None  # what decision.json says
        launch = Launch(
            python=python,
            settings=settings,
            log=self._log_folder,
            server=server,
            workers=workers,
            decision=self.folder / DECISION if decision_path is not None else None,
            history=history,
        )
        self.servers = Servers(self.folder, launch, package_path, self._complaints)
        self.routes = RoutesFile(self.folder, model)
        self._slices, self._warm_seconds = list(slices), warm_seconds
        self._scored: dict[tuple[int, int], Scored] = {}
        self._followed = 0  # the generation of the routes that the router has read
        self._traffic = Traffic()
        self._port, self._port_since = 0, 0.0
        self._published: tuple[float, Any] = (0.0, None)

    def tick(self) -> None:
        """Take the next steps towards what the journal says should serve.

        Raises Unreachable when another process serves this model, ConfigError when the port is taken.
        """
        if self._pipe is None:
            self._begin()
        model = self._state()
        wanted = self._wanted(model)
        with self._complaints.about("decision.json"):
            self._write_decision(model)
        self.servers.keep(wanted)
        with self._complaints.about("routes.json"):
            shares = choose(model.shares, self.routes.shares, self.servers.ready)
            told = {"champion": trusted(model, shares), **self._more(model)}
            self.routes.write(shares, self.servers.addresses, told)
        self.servers.retire(wanted | self.routes.named, followed=self._followed >= self.routes.generation)
        self._keep_router()
        self._measure(model)
        self._publish()
        self._check_port()

    def status(self) -> EndpointStatus:
        """Give the endpoint as the last tick left it."""
        router = self._router
        return EndpointStatus(
            model=self.model,
            address=router.address if router else None,
            running=router is not None and router.state == "ready",
            pid=os.getpid() if router else None,
            versions=self.servers.states,
            stats=self._traffic.stats(self._traffic.total.copy()),
            updated=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )

    def stats_since_share(self) -> Mapping[int, VersionStats]:
        """Give what each version answered since the rollout's present share of traffic began."""
        stats, rollout = self._traffic.stats(self._traffic.since), self._state().rollout
        if rollout is None or rollout.champion is None:
            return stats
        expected = self._scored_of(rollout.version, rollout.champion).expected
        if not expected:
            return stats
        return {**stats, rollout.version: replace(stats.get(rollout.version, VersionStats()), expected=expected)}

    def shadow_since_share(self, version: int) -> ShadowStats:
        """Give what a version answered unseen since the rollout's present part began."""
        return self._traffic.shadow(version)

    def failed_starts(self, version: int) -> tuple[int, str]:
        """Say how many starts of a version's server have failed in a row, and what the last one said."""
        return self.servers.failed_starts(version)

    def stop(self) -> None:
        """End the router, then the servers, each after the requests it has under way; nothing is left running."""
        children = [child for child in [self._router, *self.servers.running.values()] if child is not None]
        for child in children:  # the router first: while it finishes its requests the servers answer them
            if child is not self._router and self._router is not None:
                self._router.wait(15.0)
            child.leave()
        for child in children:
            child.wait(15.0)
        if self._pipe is not None:
            self._publish(final=True)
            for end in self._pipe:
                os.close(end)
        self._router, self._pipe = None, None
        self.routes.forget()
        self.servers.running.clear()
        self._lease.release()

    def _begin(self) -> None:
        self._lease.take()
        write_keys(self._settings.api_keys, self.folder)
        self._pipe = os.pipe()  # no one writes to it: its end is how the children learn of ours
        self.servers.begin(self._pipe[0], {**environment(self._settings, self._home), **self._environ})
        before = read_json(self.folder / "endpoint.json") or {}
        self._traffic = Traffic.from_memory(before.get("traffic", {}))
        self._port = self._settings.port or int(before.get("port") or 0)
        self._port_since = time.monotonic()
        with self._complaints.about("routes.json"):
            self.routes.begin()
        self._router = Child(
            "router",
            self.folder,
            self._router_command,
            check="/stats",
            pipe=self._pipe[0],
            env={**ONE_THREAD, **self._environ},
        )

    def _wanted(self, model: ModelState) -> set[int]:
        under_way = model.rollout
        if under_way is None:
            return {*model.shares, *self._kept_warm(model)}
        # The new version is warm before its first share, and the champion stays so until it is no longer needed.
        return {*model.shares, under_way.version, *([under_way.champion] if under_way.champion is not None else [])}

    def _kept_warm(self, model: ModelState) -> set[int]:
        """Give the version that served before, for a while: to roll a release back should not wait for a start."""
        line = model.succession
        if len(line) < 2 or line[-2] not in self.servers.running:
            return set()
        since = (datetime.now(UTC) - datetime.fromisoformat(model.champions[-1][0])).total_seconds()
        return {line[-2]} if since < self._warm_seconds else set()

    def _more(self, model: ModelState) -> dict[str, Any]:
        """Give what routes.json says besides shares: who is asked unseen, and by what requests are told apart."""
        rollout = model.rollout
        sticky = (rollout.sticky if rollout is not None else None) or self._settings.sticky
        more: dict[str, Any] = {"sticky": sticky} if sticky else {}
        if rollout is None or model.champion is None:
            return more
        scored = self._scored_of(rollout.version, model.champion)
        more |= {"fields": scored.fields, "edges": scored.edges, "slices": self._slices}
        if rollout.in_shadow and self.servers.ready(rollout.version):
            address = self.servers.addresses[rollout.version]
            more["shadow"] = {"version": rollout.version, "address": address, "share": rollout.shadow}
        return more

    def _scored_of(self, version: int, champion: int) -> Scored:
        if (version, champion) not in self._scored:
            try:
                packages = self.servers.package_path(version), self.servers.package_path(champion)
            except TrilhoError:  # its server says what is wrong with the package
                return Scored()
            self._scored = {(version, champion): Scored.read(*packages)}
        return self._scored[version, champion]

    def _router_command(self, ready_file: Path) -> list[str]:
        return [
            *(sys.executable, "-m", self._router_module, "--routes", str(self.routes.path)),
            *("--host", self._host, "--port", str(self._port), "--ready-file", str(ready_file)),
            *router_flags(self._settings, self._log_folder, self.folder, opened=self._opened),
        ]

    def _write_decision(self, model: ModelState) -> None:
        """Say which decision holds; every server follows the file, so that none has to be started again."""
        if self._decision_path is None:
            return
        file = self.folder / DECISION
        if model.decision is None:
            file.unlink(missing_ok=True)
            self._decided = None
            return
        if self._decided is None or self._decided["version"] != model.decision or not file.exists():
            folder = self._decision_path(model.decision)
            told = {"schema": 1, "version": model.decision, "folder": str(folder.resolve())}
            write_json(file, told)
            self._decided = told

    def _keep_router(self) -> None:
        assert self._router is not None
        before = self._router.state
        self._router.keep()
        if before == "ready" and self._router.state != "ready":
            self._port_since = time.monotonic()
        if self._router.state == "ready" and self._router.address:
            self._port = int(self._router.address.rpartition(":")[2])
            self._port_since = time.monotonic()

    def _check_port(self) -> None:
        router = self._router
        if router is None or router.exit_code != PORT_IN_USE or router.state != "down":
            return
        if time.monotonic() - self._port_since < PORT_SECONDS:
            return  # what was killed a moment ago may still be letting go of it
        if self._settings.port == 0:
            self._port, router.exit_code = 0, None
            return
        why = router.last_words().rpartition(": ")[2]
        raise ConfigError(f"port {self._port} cannot be used: {why}", hint="free the port, or change serve.port")

    def _measure(self, model: ModelState) -> None:
        router, rollout = self._router, model.rollout
        body = get(router.address, "/stats") if router and router.state == "ready" and router.address else None
        if body is not None:
            stats = json.loads(body)
            self._followed = int(stats["generation"])
            self._traffic.update(stats)
        elif router is not None and router.state == "down":
            self._followed = self.routes.generation  # nobody follows older routes
        self._traffic.restart(f"{rollout.id} {rollout.share} {rollout.share_since}" if rollout else "")
        if router is None or body is None:
            return
        for number, count in self._traffic.total.items():
            version = model.versions.get(number)
            if count.requests > count.errors and version is not None and version.first_served is None:
                self._announce(model, number, str(router.address))

    def _announce(self, model: ModelState, number: int, address: str) -> None:
        rollouts = [rollout.id for rollout in model.rollouts.values() if rollout.version == number]
        served = VersionServed(
            model=self.model, version=number, rollout=rollouts[-1] if rollouts else None, endpoint=address
        )
        self._journal.append(served, actor="trilho")

    def _publish(self, final: bool = False) -> None:
        status = self.status()
        now, facts = time.monotonic(), (status.address, status.running, status.versions)
        if not final and facts == self._published[1] and now - self._published[0] < 1.0:
            return
        more: dict[str, Any] = {"port": self._port, "routes": self.routes.versions, "traffic": self._traffic.memory()}
        if final:
            more |= {"running": False, "pid": None, "versions": {}}
        with self._complaints.about("endpoint.json"):
            publish(self.folder / "endpoint.json", status, more)
        self._published = (now, facts)
