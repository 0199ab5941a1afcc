"""Several processes at one address: they answer as one, and one that dies is replaced."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.serving import ROW, Launcher, Running, alive, call, until

from trilho_runtime.processes.channel import Channel
from trilho_runtime.processes.hub import Hub, Worker
from trilho_runtime.processes.sums import add_json, add_metrics

ASK = {"instances": [ROW]}


class Callers:
    """Ask an address all the time, each on a kept connection; a connection that says it is the last is left."""

    def __init__(self, address: str, number: int = 4) -> None:
        self.host = address.removeprefix("http://")
        self.ids: list[str] = []
        self.failures: list[Any] = []
        self.refused = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(number)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._stop.is_set():
            try:
                if connection is None:
                    connection = http.client.HTTPConnection(self.host, timeout=10)
                    connection.connect()
            except ConnectionRefusedError:
                self.refused += 1
                self._stop.wait(0.01)
                connection = None
                continue
            connection = self._once(connection)

    def _once(self, connection: http.client.HTTPConnection) -> http.client.HTTPConnection | None:
        try:
            connection.request("POST", "/predict", json.dumps(ASK).encode())
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.failures.append(error)
            connection.close()
            return None
        if answer.status == 200:
            self.ids += json.loads(body)["ids"]
        else:
            self.failures.append((answer.status, body))
        if answer.headers.get("connection") == "close":
            connection.close()
            return None
        return connection


@pytest.fixture
def crew(launch: Launcher, package: Path, tmp_path: Path) -> Running:
    running = start(launch, package, "--log", tmp_path / "log", "--profiles", tmp_path / "profiles")
    all_accept(running)
    return running


def start(launch: Launcher, package: Path, *more: object) -> Running:
    return launch.run(launch.python, "trilho_runtime.workers", "--workers", 2, package, "--version", 1, *more)


def workers(address: str) -> dict[int, str]:
    info = call(address, "/").json
    return {worker["pid"]: worker["state"] for worker in info["workers"]}


def all_accept(running: Running, without: Collection[int] = ()) -> list[int]:
    address = running.wait_until_ready()

    def accept() -> list[int]:
        found = workers(address)
        good = set(found.values()) == {"accepting"} and len(found) == 2 and not set(without) & set(found)
        return sorted(found) if good else []

    return list(until(accept, what="two workers that accept"))


def counted(address: str, metric: str) -> int:
    text = call(address, "/metrics").body.decode()
    return sum(int(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(metric))


def logged(folder: Path) -> list[str]:
    return [json.loads(line)["id"] for path in folder.glob("*.jsonl") for line in path.read_bytes().splitlines()]


def test_every_scrape_counts_every_answer(crew: Running, tmp_path: Path) -> None:
    for asked in range(1, 13):  # each on a connection of its own, which whoever is free accepts
        assert call(crew.address, "/predict", {"instances": [{**ROW, "unknown": 1}]}).status == 200
        assert counted(crew.address, "trilho_rows_total") == asked
        assert counted(crew.address, "trilho_latency_seconds_count") == asked
        assert call(crew.address, "/").json["extra_fields"] == {"unknown": asked}
        assert call(crew.address, "/profile").json["rows"] == asked
    assert counted(crew.address, "trilho_ready") == 1
    assert len(logged(tmp_path / "log")) == 12


def test_it_says_how_much_memory_each_takes(crew: Running) -> None:
    told = call(crew.address, "/").json["workers"]
    assert len(told) == 2
    assert all(10_000_000 < worker["memory_bytes"] < 500_000_000 for worker in told)


def test_a_killed_worker_is_replaced_while_the_other_answers(crew: Running, tmp_path: Path) -> None:
    before = all_accept(crew)
    for _ in range(6):
        call(crew.address, "/predict", ASK)
    assert counted(crew.address, "trilho_rows_total") == 6
    callers = Callers(crew.address)
    until(lambda: len(callers.ids) > 50)
    os.kill(before[0], signal.SIGKILL)
    now = all_accept(crew, without={before[0]})
    seen = len(callers.ids)
    until(lambda: len(callers.ids) > seen + 50)
    callers.end()
    assert before[1] in now
    assert len(callers.failures) <= 4  # whoever was being answered by it, and nobody else
    lines = set(logged(tmp_path / "log"))
    assert set(callers.ids) <= lines  # nothing that was answered is lost
    assert counted(crew.address, "trilho_rows_total") >= 6


def test_a_stop_under_load_loses_nothing(crew: Running, tmp_path: Path) -> None:
    pids = all_accept(crew)
    callers = Callers(crew.address)
    until(lambda: len(callers.ids) > 100)
    assert crew.stop() == 0
    until(lambda: callers.refused > 0)
    callers.end()
    assert callers.failures == []
    assert sorted(callers.ids) == sorted(logged(tmp_path / "log"))
    assert [pid for pid in pids if alive(pid)] == []


def test_workers_are_renewed_without_a_lost_request(crew: Running, tmp_path: Path) -> None:
    before = set(all_accept(crew))
    callers = Callers(crew.address)
    until(lambda: len(callers.ids) > 50)
    crew.process.send_signal(signal.SIGHUP)
    after = set(all_accept(crew, without=before))
    callers.end()
    assert not before & after
    assert callers.failures == []
    assert counted(crew.address, "trilho_rows_total") == len(callers.ids)
    assert sorted(callers.ids) == sorted(logged(tmp_path / "log"))


def test_a_package_that_broke_leaves_the_workers_as_they_are(launch: Launcher, own_package: Path) -> None:
    running = start(launch, own_package)
    before = all_accept(running)
    (own_package / "sample.json").write_text("{}")
    running.process.send_signal(signal.SIGHUP)
    until(lambda: "stay as they are" in running.errors.read_text())
    assert all_accept(running) == before
    assert "sample.json" in running.errors.read_text()
    assert call(running.address, "/predict", ASK).json["predictions"] == [10.0]


def test_a_package_that_cannot_be_loaded_ends_it(launch: Launcher, own_package: Path) -> None:
    (own_package / "sample.json").write_text("{}")
    running = start(launch, own_package)
    assert running.process.wait(20) == 1
    assert "sample.json" in running.errors.read_text()


def test_they_end_when_their_parent_is_killed(crew: Running) -> None:
    pids = all_accept(crew)
    crew.process.kill()
    until(lambda: not any(alive(pid) for pid in pids))


UNFORKED = """
import sys

from trilho_runtime import spawn

from trilho_runtime import workers

spawn.may_fork = lambda: False
sys.exit(workers.main())
"""


def test_where_nothing_may_be_forked_workers_are_started_anew(launch: Launcher, package: Path, tmp_path: Path) -> None:
    (tmp_path / "unforked.py").write_text(UNFORKED)
    running = launch.run(launch.python, "unforked", "--workers", 2, package, "--version", 1, cwd=tmp_path)
    before = all_accept(running)
    assert call(running.address, "/predict", ASK).json["predictions"] == [10.0]
    os.kill(before[0], signal.SIGKILL)
    assert all_accept(running, without={before[0]})
    assert running.stop() == 0


@pytest.mark.parametrize(("arguments", "said"), [
    (("--workers", "0"), "'0' is no number of workers; allowed: 1 to 256"),
    (("--workers", "2", "--versoin", "3"), "unrecognized arguments: --versoin 3"),
])  # fmt: skip
def test_a_wrong_command_is_said_at_once(
    launch: Launcher, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    running = launch.run(launch.python, "trilho_runtime.workers", tmp_path, *arguments)
    assert running.process.wait(20) == 2
    assert said in running.errors.read_text()


class TestSums:
    def test_counters_add_up_and_the_ended_count(self) -> None:
        one = '# HELP a A.\n# TYPE a counter\na{code="200"} 3\na{code="422"} 1\n'
        two = '# HELP a A.\n# TYPE a counter\na{code="200"} 4\na{code="500"} 2\n'
        whole = add_metrics([one, two], [one])
        assert whole == '# HELP a A.\n# TYPE a counter\na{code="200"} 10\na{code="422"} 2\na{code="500"} 2'

    def test_gauges_of_the_ended_are_gone(self) -> None:
        text = "# TYPE waiting gauge\nwaiting 2\n# TYPE trilho_ready gauge\ntrilho_ready 1\n"
        loading = "# TYPE waiting gauge\nwaiting 1\n# TYPE trilho_ready gauge\ntrilho_ready 0\n"
        whole = dict(line.split() for line in add_metrics([text, loading], [text]).splitlines() if line[0] != "#")
        assert whole == {"waiting": "3", "trilho_ready": "0"}

    def test_histograms_add_up_bucket_by_bucket(self) -> None:
        text = '# TYPE h histogram\nh_bucket{le="1"} 2\nh_bucket{le="+Inf"} 3\nh_sum 1.5\nh_count 3\n'
        assert add_metrics([text, text]).splitlines()[1:] == [
            'h_bucket{le="1"} 4', 'h_bucket{le="+Inf"} 6', "h_sum 3.0", "h_count 6",
        ]  # fmt: skip

    def test_labels_with_spaces_stay_whole(self) -> None:
        assert add_metrics(['# TYPE a counter\na{f="b c"} 1'] * 2).splitlines()[1] == 'a{f="b c"} 2'

    def test_facts_are_the_first_ones_and_counters_add_up(self) -> None:
        one = {"version": 3, "signature": [{"maximum": 8}], "history": {"rows": 2, "asked": {"known": 1}}}
        assert add_json([one, one]) == {
            "version": 3, "signature": [{"maximum": 8}], "history": {"rows": 4, "asked": {"known": 2}},
        }  # fmt: skip

    def test_profiles_add_up_bin_by_bin(self) -> None:
        one = {"version": 1, "rows": 2, "counts": {"x": [1, 1], "y": [2]}}
        two = {"version": 1, "rows": 1, "counts": {"x": [0, 1], "y": [1]}}
        assert add_json([one, two]) == {"version": 1, "rows": 3, "counts": {"x": [1, 2], "y": [3]}}


class Spoken(Channel):
    """A channel that nobody is at the other end of."""

    def __init__(self) -> None:
        self.told: list[Mapping[str, Any]] = []
        self.open = True

    def say(self, data: Mapping[str, Any]) -> None:
        self.told.append(data)


class TestHub:
    def worker(self, pid: int) -> Worker:
        return Worker(0, pid, Spoken(), early=False, started=0.0, state="accepting")

    def told(self, worker: Worker) -> list[Mapping[str, Any]]:
        assert isinstance(worker.channel, Spoken)
        return worker.channel.told

    def test_an_answer_waits_for_all_others(self) -> None:
        hub, (a, b, c) = Hub(), (self.worker(pid) for pid in (1, 2, 3))
        hub.ask(a, 7, "metrics", [a, b, c])
        assert [self.told(x) for x in (a, b, c)] == [
            [],
            [{"give": 1, "what": "metrics"}],
            [{"give": 1, "what": "metrics"}],
        ]
        hub.hear(b, {"given": 1, "what": "metrics", "text": "b 1"})
        hub.answer([a, b, c], now=0.0)
        assert self.told(a) == []
        hub.hear(c, {"given": 1, "what": "metrics", "text": "c 1"})
        hub.answer([a, b, c], now=0.0)
        assert (self.told(a)[0]["answer"], self.told(a)[0]["parts"]) == (7, ["b 1", "c 1"])

    def test_who_says_nothing_in_time_is_quoted(self) -> None:
        hub, (a, b) = Hub(), (self.worker(pid) for pid in (1, 2))
        hub.hear(b, {"keep": {"metrics": "b 5"}})
        hub.ask(a, 1, "metrics", [a, b])
        hub.answer([a, b], now=float("inf"))
        assert self.told(a)[0]["parts"] == ["b 5"]

    def test_the_counts_of_the_ended_stay(self) -> None:
        hub, (a, b, c) = Hub(), (self.worker(pid) for pid in (1, 2, 3))
        for worker in (b, c):
            hub.hear(worker, {"keep": {"metrics": "# TYPE n counter\nn 5"}})
            hub.bury(worker)
        hub.ask(a, 1, "metrics", [a])
        hub.answer([a], now=0.0)
        assert self.told(a)[0]["ended"] == ["# TYPE n counter\nn 10"]

    def test_a_question_whose_asker_ended_is_dropped(self) -> None:
        hub, (a, b) = Hub(), (self.worker(pid) for pid in (1, 2))
        hub.ask(a, 1, "metrics", [a, b])
        hub.bury(a)
        assert list(hub.due) == []

    def test_who_ends_while_asked_is_not_waited_for(self) -> None:
        hub, (a, b) = Hub(), (self.worker(pid) for pid in (1, 2))
        hub.ask(a, 1, "metrics", [a, b])
        hub.bury(b)
        hub.answer([a], now=0.0)
        assert self.told(a)[0]["parts"] == []


class TestChannel:
    def test_lines_come_whole_however_they_are_cut(self) -> None:
        import selectors

        heard: list[Mapping[str, Any]] = []
        ours, theirs = socket.socketpair()
        with theirs, selectors.DefaultSelector() as selector:
            channel = Channel(selector, ours, heard.append)
            for piece in (b'{"a"', b": 1}\n{", b'"b": 2}\n'):
                theirs.sendall(piece)
                channel.read()
            assert heard == [{"a": 1}, {"b": 2}]
            theirs.sendall(b'{"last": 3}\n')
            theirs.shutdown(socket.SHUT_WR)
            channel.drain()
            assert heard[-1] == {"last": 3}
            assert not channel.open

    def test_what_does_not_fit_goes_out_later(self) -> None:
        import selectors

        ours, theirs = socket.socketpair()
        with theirs, selectors.DefaultSelector() as selector:
            channel = Channel(selector, ours, lambda _: None)
            text = "x" * 3_000_000
            channel.say({"text": text})
            received = bytearray()
            theirs.setblocking(False)
            while not received.endswith(b"\n"):
                for key, _ in selector.select(1):
                    key.data()
                received += theirs.recv(1 << 20)
            assert json.loads(received) == {"text": text}
            channel.close()


def test_counts_of_statuses_add_up(crew: Running) -> None:
    for body, _ in [(ASK, 200), ({"instances": []}, 422), (b"{", 400)] * 3:
        call(crew.address, "/predict", body)
    text = call(crew.address, "/metrics").body.decode()
    found = Counter({line.split('code="')[1][:3]: int(line.rpartition(" ")[2]) for line in text.splitlines()
                     if line.startswith("trilho_requests_total")})  # fmt: skip
    assert found == Counter({"200": 3, "422": 3, "400": 3})
