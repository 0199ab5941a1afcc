"""The supervisor: what the journal wants is what answers, whoever dies on the way."""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from trilho.backends.local.journal import LocalJournal, StateReader
from trilho.config import Serve
from trilho.core.processes import alive
from trilho.core.projection import ModelState
from trilho.core.records import (
    ChampionRestored,
    DecisionPackaged,
    DecisionReleased,
    DecisionRestored,
    Payload,
    RolloutEnded,
    RolloutStarted,
    RolloutStepped,
    VersionPackaged,
    VersionServed,
)
from trilho.errors import ConfigError, DataError, Unreachable
from trilho.release.rollout import advance
from trilho.serve import process, servers, supervise
from trilho.serve.routes import trusted
from trilho.serve.supervise import Supervisor, read_status
from trilho_runtime.routing.traffic import read_routes

MODEL = "bike-demand"
PATIENCE = 20.0


def packaged(number: int) -> VersionPackaged:
    return VersionPackaged(
        model=MODEL,
        version=number,
        run="r",
        dataset="d",
        package=str(number),
        metric="mae",
        metrics={},
        commit=None,
        commit_time=None,
        data_until=None,
    )


class World:
    """A home with a journal, packages and supervisors of it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.journal = LocalJournal(home / "journal.sqlite")
        self.reader = StateReader(self.journal)
        self.supervisors: list[Supervisor] = []

    def state(self) -> ModelState:
        return self.reader.model(MODEL)

    def package(self, number: int) -> Path:
        return self.home / "packages" / str(number)

    def version(self, number: int, **behaviour: Any) -> None:
        self.package(number).mkdir(parents=True, exist_ok=True)
        (self.package(number) / "behaviour.json").write_text(json.dumps(behaviour))
        if number not in self.state().versions:
            self.journal.append(packaged(number))

    def share(self, number: int, share: int, champion: int | None) -> None:
        id_, events = f"o{number}", list[Payload]()
        if id_ not in self.state().rollouts:
            steps = [10, 50, 100]
            events.append(
                RolloutStarted(model=MODEL, rollout=id_, version=number, champion=champion, steps=steps, why="")
            )
        events.append(RolloutStepped(model=MODEL, rollout=id_, version=number, share=share, evidence={}))
        self.journal.append(*events)

    def crown(self, number: int) -> None:
        if f"o{number}" not in self.state().rollouts:
            self.share(number, 100, None)
        full = RolloutEnded(model=MODEL, rollout=f"o{number}", version=number, outcome="full", champion=number, why="")
        self.journal.append(full)

    def supervisor(
        self, decision_path: Callable[[int], Path] | None = None, history: Path | None = None, **settings: Any
    ) -> Supervisor:
        made = Supervisor(
            MODEL,
            Serve(**settings),
            self.home,
            journal=self.journal,
            state=self.state,
            package_path=self.package,
            python=Path(sys.executable),
            server="fake_server",
            decision_path=decision_path,
            history=history,
        )
        self.supervisors.append(made)
        return made

    def routes(self) -> dict[int, int]:
        data = json.loads((self.home / "endpoints" / MODEL / "routes.json").read_text())
        return {item["version"]: item["share"] for item in data["versions"]}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setattr(servers, "RETIRE_SECONDS", 0.1)
    made = World(tmp_path / "home")
    yield made
    for supervisor in made.supervisors:
        supervisor.stop()


def until(supervisor: Supervisor, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        supervisor.tick()
        if condition():
            return
        assert time.monotonic() < deadline, (supervisor.status(), supervisor.routes.versions)
        time.sleep(0.01)


def serving(supervisor: Supervisor, *versions: int) -> Callable[[], bool]:
    return lambda: supervisor.status().running and supervisor.routes.shares.keys() == {*versions}


class Caller:
    """Asks an endpoint on a kept-open connection; every answer is counted."""

    def __init__(self, address: str | None) -> None:
        assert address is not None
        self.address = address.removeprefix("http://")
        self.connection = http.client.HTTPConnection(self.address, timeout=15)
        self.versions: Counter[int] = Counter()
        self.failures: list[Any] = []

    def ask(self, times: int = 1) -> None:
        for _ in range(times):
            try:
                self.connection.request("POST", "/predict", b'{"instances": [{}]}')
                answer = self.connection.getresponse()
                body = answer.read()
            except OSError as error:
                self.failures.append(error)
                self.connection.close()
                continue
            if answer.status == 200:
                self.versions[json.loads(body)["version"]] += 1
            else:
                self.failures.append((answer.status, body))

    def ask_until(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self.ask()


def pids_of(supervisor: Supervisor) -> list[int]:
    children = [supervisor._router, *supervisor.servers.running.values()]
    return [child.pid for child in children if child is not None and child.pid is not None]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_champion_is_served_and_announced_once(world: World) -> None:
    world.version(1)
    world.crown(1)
    supervisor = world.supervisor()
    until(supervisor, serving(supervisor, 1))
    caller = Caller(supervisor.status().address)
    caller.ask(5)
    until(supervisor, lambda: supervisor.status().stats.get(1) is not None)
    assert (caller.versions, caller.failures) == (Counter({1: 5}), [])
    served = [x.payload for x in world.journal.read_from() if isinstance(x.payload, VersionServed)]
    assert served == [VersionServed(model=MODEL, version=1, rollout="o1", endpoint=str(supervisor.status().address))]
    caller.ask()
    until(supervisor, lambda: supervisor.status().stats[1].requests == 6)
    assert sum(isinstance(x.payload, VersionServed) for x in world.journal.read_from()) == 1
    status = supervisor.status()
    assert status.versions == {1: "ready"}
    assert (status.stats[1].errors, status.stats[1].rows) == (0, 6)
    assert status.stats[1].p95_ms is not None
    seen = read_status(world.home, MODEL)
    assert seen is not None
    assert (seen.address, seen.running, seen.pid, seen.versions) == (status.address, True, os.getpid(), {1: "ready"})


def test_without_a_champion_nothing_is_served(world: World) -> None:
    supervisor = world.supervisor()
    until(supervisor, lambda: supervisor.status().running)
    assert world.routes() == {}
    caller = Caller(supervisor.status().address)
    caller.connection.request("GET", "/health")
    assert caller.connection.getresponse().status == 503


def test_a_canary_gets_its_share_and_takes_over_without_a_lost_request(world: World) -> None:
    world.version(1)
    world.version(2)
    world.crown(1)
    supervisor = world.supervisor()
    until(supervisor, serving(supervisor, 1))
    caller = Caller(supervisor.status().address)
    caller.ask(10)
    world.share(2, 10, 1)
    until(supervisor, serving(supervisor, 1, 2))
    caller.versions.clear()
    until(supervisor, lambda: supervisor._followed == supervisor.routes.generation)
    caller.ask(100)
    assert caller.versions == Counter({1: 90, 2: 10})
    until(supervisor, lambda: supervisor.stats_since_share()[2].requests == 10)
    assert supervisor.stats_since_share()[1].requests == 90
    world.share(2, 50, 1)
    until(supervisor, lambda: world.routes() == {1: 50, 2: 50})
    assert supervisor.stats_since_share() == {}
    world.crown(2)
    stop = threading.Event()
    thread = threading.Thread(target=caller.ask_until, args=(stop,))
    thread.start()
    until(supervisor, lambda: supervisor.status().versions == {2: "ready"})
    stop.set()
    thread.join()
    assert world.routes() == {2: 100}
    assert caller.failures == []


def test_a_version_is_warm_before_its_first_share(world: World) -> None:
    world.version(1)
    world.version(2, warm_seconds=0.5)
    world.crown(1)
    supervisor = world.supervisor()
    until(supervisor, serving(supervisor, 1))
    world.share(2, 50, 1)
    supervisor.tick()
    assert supervisor.status().versions == {1: "ready", 2: "starting"}
    until(supervisor, lambda: world.routes() == {1: 50, 2: 50} or supervisor.servers.ready(2))
    supervisor.tick()
    assert world.routes() == {1: 50, 2: 50}


def test_what_served_goes_on_while_its_successor_is_not_ready(world: World) -> None:
    world.version(1)
    world.version(2, broken=True)
    world.crown(1)
    supervisor = world.supervisor()
    until(supervisor, serving(supervisor, 1))
    world.crown(2)
    until(supervisor, lambda: supervisor.servers.running[2].exit_code == 1)
    until(supervisor, lambda: supervisor.status().versions[2] == "down")
    assert world.routes() == {1: 100}
    assert supervisor.status().versions == {1: "ready", 2: "down"}
    assert supervisor.servers.running[2].last_words() == "PackageError: estimator.pkl was changed"
    world.version(2)
    until(supervisor, serving(supervisor, 2))


def test_a_server_that_never_starts_ends_its_rollout(world: World) -> None:
    world.version(1)
    world.version(2, broken=True)
    world.crown(1)
    supervisor = world.supervisor()
    until(supervisor, serving(supervisor, 1))
    assert supervisor.failed_starts(1) == (0, "")
    world.share(2, 10, champion=1)
    until(supervisor, lambda: supervisor.failed_starts(2)[0] == 3)
    assert supervisor.failed_starts(2)[1] == "PackageError: estimator.pkl was changed"
    rollout = world.state().rollout
    assert rollout is not None
    now = datetime.now(UTC)
    ended = advance(rollout, supervisor.stats_since_share(), Serve(), now, *supervisor.failed_starts(2))
    assert isinstance(ended, RolloutEnded)
    assert (ended.outcome, ended.champion) == ("rolled back", 1)
    world.journal.append(ended)
    until(supervisor, lambda: 2 not in supervisor.servers.running)
    assert supervisor.failed_starts(2) == (0, "")
    world.version(2)  # mended, and released again: it is not held against it
    world.journal.append(replace(ended, outcome="full", champion=2))
    until(supervisor, serving(supervisor, 2))
    assert supervisor.failed_starts(2) == (0, "")


def test_a_server_is_told_the_digest_that_the_journal_knows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = "0123456789abcdef" * 4
    world.version(1)
    world.package(1).rename(world.package(1).with_name(digest))
    world.crown(1)
    supervisor = world.supervisor()
    monkeypatch.setattr(supervisor.servers, "package_path", lambda _: world.package(1).with_name(digest))
    until(supervisor, serving(supervisor, 1))
    body = process.get(str(supervisor.servers.running[1].address), "/")
    assert body is not None
    assert json.loads(body)["digest"] == digest


def test_the_router_is_told_the_champion(world: World) -> None:
    for number in (1, 2):
        world.version(number)
    world.crown(2)
    world.share(1, 75, 2)
    supervisor = world.supervisor()
    until(supervisor, serving(supervisor, 1, 2))
    routes = read_routes(world.home / "endpoints" / MODEL / "routes.json")
    assert routes.main is not None
    assert (routes.main.version, routes.main.share) == (2, 25)


def test_the_champion_is_named_while_its_word_can_be_had(world: World) -> None:
    for number in (1, 2):
        world.version(number)
    world.crown(1)
    state = world.state()
    assert trusted(state, {1: 100}) == 1
    assert trusted(state, {2: 100}) is None  # it is not ready, and what served before answers
    world.share(2, 50, 1)
    assert trusted(world.state(), {1: 50, 2: 50}) == 1
    assert trusted(world.state(), {2: 100}) == 1  # its server is being started again
    world.share(2, 100, 1)
    assert trusted(world.state(), {2: 100}) is None  # it gets no traffic any more


def test_a_package_that_is_gone_is_a_failed_start(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(number: int) -> Path:
        raise DataError(f"artifact {number} is not in the store")

    world.version(1)
    world.crown(1)
    supervisor = world.supervisor()
    monkeypatch.setattr(supervisor.servers, "package_path", gone)
    for count in (1, 2, 3):
        supervisor.tick()
        assert supervisor.failed_starts(1) == (count, "artifact 1 is not in the store")


def test_a_server_that_was_ready_for_a_while_has_not_failed_to_start(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.version(1)
    world.crown(1)
    supervisor = world.supervisor()
    for settled, failed in ((60.0, 1), (0.0, 0)):
        monkeypatch.setattr(process, "SETTLED_SECONDS", settled)
        monkeypatch.setattr(process, "CHECK_SECONDS", 0.0)
        until(supervisor, serving(supervisor, 1))
        if failed == 0:
            until(supervisor, lambda: supervisor.failed_starts(1)[0] == 0)
        pid = supervisor.servers.running[1].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        until(supervisor, lambda before=pid: supervisor.servers.running[1].pid != before)  # type: ignore[misc]
        assert supervisor.failed_starts(1)[0] == failed


def test_a_missing_package_does_not_stop_the_others(world: World) -> None:
    world.version(1)
    world.crown(1)
    supervisor = world.supervisor()

    def path(number: int) -> Path:
        if number == 2:
            raise DataError("artifact 2 is not in the store")
        return world.package(number)

    supervisor.servers.package_path = path
    until(supervisor, serving(supervisor, 1))
    world.journal.append(packaged(2))
    world.share(2, 50, 1)
    supervisor.tick()
    assert world.routes() == {1: 100}


def replace_server(supervisor: Supervisor, number: signal.Signals) -> None:
    before = supervisor.servers.running[1].pid
    assert before is not None
    os.kill(before, number)
    until(supervisor, lambda: supervisor.servers.ready(1) and supervisor.servers.running[1].pid != before)


def test_a_killed_server_loses_no_request(world: World) -> None:
    world.version(1)
    world.crown(1)
    supervisor = world.supervisor()
    until(supervisor, serving(supervisor, 1))
    caller = Caller(supervisor.status().address)
    stop = threading.Event()
    thread = threading.Thread(target=caller.ask_until, args=(stop,))
    thread.start()
    for _ in range(3):
        replace_server(supervisor, signal.SIGKILL)
        wanted = caller.versions[1] + 5
        until(supervisor, partial(lambda wanted: caller.versions[1] > wanted, wanted))
    stop.set()
    thread.join()
    assert caller.failures == []


def test_a_hung_server_is_replaced(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trilho.serve.process.CHECK_SECONDS", 0.05)
    monkeypatch.setattr("trilho.serve.process.PROBE_SECONDS", 0.1)
    world.version(1)
    world.crown(1)
    supervisor = world.supervisor()
    until(supervisor, serving(supervisor, 1))
    replace_server(supervisor, signal.SIGSTOP)


def test_counts_go_on_over_a_killed_router(world: World) -> None:
    world.version(1)
    world.crown(1)
    supervisor = world.supervisor()
    until(supervisor, serving(supervisor, 1))
    address = supervisor.status().address
    Caller(address).ask(3)
    until(supervisor, lambda: supervisor.status().stats[1].requests == 3)
    assert supervisor._router is not None
    before = supervisor._router.pid
    assert before is not None
    os.kill(before, signal.SIGKILL)
    until(supervisor, lambda: supervisor.status().running and supervisor._router.pid != before)  # type: ignore[union-attr]
    assert supervisor.status().address == address
    Caller(address).ask(2)
    until(supervisor, lambda: supervisor.status().stats[1].requests == 5)


def test_two_supervisors_do_not_serve_one_model(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trilho.core.lease.LEASE_SECONDS", 0.1)
    first, second = world.supervisor(), world.supervisor()
    first.tick()
    with pytest.raises(Unreachable) as caught:
        second.tick()
    assert (
        caught.value.fact == f"{MODEL} is being served by process {os.getpid()} already, and one at a time may do that"
    )
    first.stop()
    second.tick()


def test_stopping_ends_everything_and_the_port_is_kept(world: World) -> None:
    world.version(1, answer_seconds=0.3)
    world.crown(1)
    supervisor = world.supervisor()
    until(supervisor, serving(supervisor, 1))
    address, pids = supervisor.status().address, pids_of(supervisor)
    assert len(pids) == 2
    caller = Caller(address)
    thread = threading.Thread(target=caller.ask)
    thread.start()
    time.sleep(0.1)  # the request is under way
    supervisor.stop()
    thread.join()
    assert (caller.versions[1], caller.failures) == (1, [])
    assert not any(alive(pid) for pid in pids)
    status = read_status(world.home, MODEL)
    assert status is not None
    assert (status.running, status.pid, status.versions) == (False, None, {})
    again = world.supervisor()
    until(again, serving(again, 1))
    assert again.status().address == address


def test_a_configured_port_that_is_taken_is_said_clearly(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "PORT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        supervisor = world.supervisor(port=port)
        with pytest.raises(ConfigError) as caught:
            until(supervisor, lambda: False)
        assert caught.value.fact == f"port {port} cannot be used: {os.strerror(errno.EADDRINUSE)}"
        assert caught.value.hint == "free the port, or change serve.port"

    def running() -> bool:
        with contextlib.suppress(ConfigError):
            supervisor.tick()
        return supervisor.status().running

    wait_for(running)  # it is free again
    assert supervisor.status().address == f"http://127.0.0.1:{port}"


def test_a_kept_port_that_is_taken_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "PORT_SECONDS", 0.2)
    first = world.supervisor()
    until(first, lambda: first.status().running)
    port = int(str(first.status().address).rpartition(":")[2])
    first.stop()
    with socket.create_server(("127.0.0.1", port)):
        second = world.supervisor()
        until(second, lambda: second.status().running)
        assert second.status().address != f"http://127.0.0.1:{port}"


RUN = """
import sys, time
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_supervise import World
world = World(Path(sys.argv[1]))
supervisor = world.supervisor()
while True:
    supervisor.tick()
    time.sleep(0.02)
"""


def test_nothing_outlives_a_killed_supervisor(world: World) -> None:
    world.version(1)
    world.crown(1)
    process = subprocess.Popen([sys.executable, "-c", RUN, str(world.home), str(Path(__file__).parent)])
    wait_for(lambda: getattr(read_status(world.home, MODEL), "versions", None) == {1: "ready"})
    status = read_status(world.home, MODEL)
    assert status is not None
    ready = world.home / "endpoints" / MODEL
    pids = [json.loads((ready / f"{name}.ready.json").read_text())["pid"] for name in ("router", "v1")]
    assert status.pid == process.pid
    process.kill()
    process.wait()
    status = read_status(world.home, MODEL)
    assert status is not None
    assert (status.running, status.versions) == (False, {1: "down"})
    supervisor = world.supervisor()
    until(supervisor, serving(supervisor, 1))
    assert supervisor.status().address == status.address  # though the old router needed a moment to let go
    wait_for(lambda: not any(alive(pid) for pid in pids))


def test_a_version_in_the_shadow_is_told_to_the_router_once_it_is_ready(world: World) -> None:
    world.version(1)
    world.version(2, warm_seconds=0.3)
    world.crown(1)
    supervisor = world.supervisor(sticky="shop")
    until(supervisor, serving(supervisor, 1))
    begun = RolloutStarted(
        model=MODEL, rollout="o2", version=2, champion=1, steps=[10, 100], why="", shadow=50, sticky="customer"
    )
    world.journal.append(begun)
    routes = world.home / "endpoints" / MODEL / "routes.json"
    until(supervisor, lambda: read_routes(routes).shadow is not None)
    until(supervisor, lambda: supervisor._followed >= supervisor.routes.generation)
    told = read_routes(routes)
    assert told.shadow is not None
    assert (told.shadow.version, told.shadow.share, told.sticky) == (2, 50.0, "customer")
    assert world.routes() == {1: 100}
    caller = Caller(supervisor.status().address)
    caller.ask(20)
    until(supervisor, lambda: supervisor.shadow_since_share(2).requests == 10)
    assert (caller.failures, caller.versions) == ([], {1: 20})
    ended = RolloutEnded(model=MODEL, rollout="o2", version=2, outcome="aborted", champion=1, why="")
    world.journal.append(ended)
    until(supervisor, lambda: read_routes(routes).shadow is None and 2 not in supervisor.status().versions)
    assert read_routes(routes).sticky == "shop"


def test_the_version_that_served_before_is_kept_warm_for_a_rollback(world: World) -> None:
    world.version(1)
    world.version(2)
    world.crown(1)
    supervisor = world.supervisor()
    supervisor._warm_seconds = 3600.0
    until(supervisor, serving(supervisor, 1))
    world.crown(2)
    until(supervisor, serving(supervisor, 2))
    before = supervisor.servers.running[1].pid
    assert supervisor._wanted(world.state()) == {1, 2}
    world.journal.append(ChampionRestored(model=MODEL, version=1, replaced=2, why="worse"))
    until(supervisor, serving(supervisor, 1))
    assert supervisor.servers.running[1].pid == before
    supervisor._warm_seconds = 0.0
    until(supervisor, lambda: set(supervisor.status().versions) == {1})


def test_settings_reach_the_servers_and_keys_no_command_line(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "a-key-of-more-than-16-letters"
    (tmp_path / "key").write_text(key)
    monkeypatch.setenv("TRILHO_SECRETS", str(tmp_path))
    world.version(1)
    world.crown(1)
    supervisor = world.supervisor(api_keys=["secret://key"], entries="full", max_rows=7, mask={"cpf": "hash"})
    until(supervisor, lambda: supervisor._router is not None and supervisor._router.state != "down")
    until(supervisor, lambda: supervisor.servers.ready(1))
    body = process.get(str(supervisor.servers.running[1].address), "/")
    assert body is not None
    told = json.loads(body)["told"]
    assert told[told.index("--entries") + 1] == "full"
    assert told[told.index("--max-rows") + 1] == "7"
    assert told[told.index("--mask") + 1] == '{"cpf": "hash"}'
    for pid in pids_of(supervisor):
        assert key not in Path(f"/proc/{pid}/cmdline").read_text()


def test_without_its_keys_nothing_is_served(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRILHO_SECRETS", str(tmp_path))
    world.version(1)
    world.crown(1)
    supervisor = world.supervisor(api_keys=["secret://key"])
    with pytest.raises(ConfigError, match="secret://key is not here"):
        supervisor.tick()
    assert supervisor._router is None


def test_a_version_has_as_many_workers_as_settings_say(world: World) -> None:
    supervisor = world.supervisor(workers=2)
    assert supervisor.servers.launch.module == ["trilho_runtime.workers", "--workers", "2"]


def test_servers_are_told_which_decision_holds_and_are_not_started_again(world: World) -> None:
    file = world.home / "endpoints" / MODEL / "decision.json"
    for number in (1, 2):
        world.journal.append(
            DecisionPackaged(
                model=MODEL, decision=number, artifact=f"a{number}", reference="m.d:f", commit=None, commit_time=None,
                run=None,
            )
        )  # fmt: skip
    world.journal.append(DecisionReleased(model=MODEL, decision=1, replaced=None, why=""))
    world.version(1)
    world.crown(1)
    past = world.home / "p.sqlite"
    supervisor = world.supervisor(decision_path=lambda number: world.home / f"a{number}", history=past)
    supervisor.tick()
    assert json.loads(file.read_text()) == {"schema": 1, "version": 1, "folder": str(world.home / "a1")}
    until(supervisor, lambda: supervisor.status().versions == {1: "ready"})
    child = supervisor.servers.running[1]
    pid = child.pid
    told = json.loads(process.get(str(child.address), "/") or b"")["told"]
    assert told[told.index("--decision") + 1] == str(file)
    assert told[told.index("--history") + 1] == str(world.home / "p.sqlite")
    world.journal.append(DecisionReleased(model=MODEL, decision=2, replaced=1, why=""))
    supervisor.tick()
    assert json.loads(file.read_text())["version"] == 2
    file.unlink()
    supervisor.tick()
    assert json.loads(file.read_text())["version"] == 2
    world.journal.append(DecisionRestored(model=MODEL, decision=1, replaced=2, why=""))
    supervisor.tick()
    assert json.loads(file.read_text())["folder"] == str(world.home / "a1")
    assert supervisor.servers.running[1].pid == pid


def test_a_decision_that_is_gone_leaves_the_file_as_it_was(world: World) -> None:
    def gone(number: int) -> Path:
        raise DataError("artifact a1 is not here", hint="")

    file = world.home / "endpoints" / MODEL / "decision.json"
    world.version(1)
    world.crown(1)
    world.journal.append(
        DecisionPackaged(
            model=MODEL, decision=1, artifact="a1", reference="m.d:f", commit=None, commit_time=None, run=None
        ),
        DecisionReleased(model=MODEL, decision=1, replaced=None, why=""),
    )
    supervisor = world.supervisor(decision_path=gone)
    until(supervisor, lambda: supervisor.status().versions == {1: "ready"})
    assert not file.exists()
