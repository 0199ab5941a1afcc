"""The prediction server as a process: answers, refusals, its log, its ends."""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.serving import ANSWER, ROW, Launcher, Reply, Running, alive, call, until

from trilho.core.digest import digest_folder
from trilho_runtime.package import folder_digest
from trilho_runtime.web.http import REQUEST_ID


def predict(address: str, *rows: object, headers: dict[str, str] | None = None) -> Reply:
    return call(address, "/predict", {"instances": list(rows)}, headers)


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_bytes().splitlines()]


@pytest.fixture(scope="module")
def server(launch_many: Launcher, package: Path) -> Running:
    return launch_many.server(package, "--log", launch_many.folder / "log", version=3)


@pytest.fixture(scope="module")
def address(server: Running) -> str:
    return server.wait_until_ready()


def test_rows_get_predictions_and_each_is_logged_before_the_answer(address: str, launch_many: Launcher) -> None:
    extra = {"new_field": [1, {"deep": None}]}
    reply = predict(address, ROW, {**ROW, "x": 0, **extra}, headers={"x-request-id": "abc_1-Z"})
    assert reply.status == 200
    ids = reply.json["ids"]
    assert reply.json == {"predictions": [ANSWER, 7.0], "ids": ids, "model": "tiny", "version": 3}
    assert (reply.headers["x-request-id"], reply.headers["x-trilho-version"]) == ("abc_1-Z", "3")
    logged = [line for line in lines_of(launch_many.folder / "log") if line["id"] in ids]
    assert [{k: v for k, v in line.items() if k != "t"} for line in logged] == [
        {"v": 2, "id": ids[0], "n": 3, "x": ROW, "y": ANSWER},
        {"v": 2, "id": ids[1], "n": 3, "x": {**ROW, "x": 0}, "y": 7.0},
    ]
    name = next((launch_many.folder / "log").iterdir()).name
    assert name.startswith("v3-")


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "é", "../../etc"])
def test_an_id_that_is_not_well_formed_is_replaced(address: str, given: str) -> None:
    reply = predict(address, ROW, headers={"x-request-id": given.encode("utf-8").decode("latin-1")})
    assert reply.status == 200
    made = reply.headers["x-request-id"]
    assert made != given
    assert REQUEST_ID.fullmatch(made)


def test_a_request_id_that_is_used_again_names_other_predictions(address: str, launch_many: Launcher) -> None:
    replies = [predict(address, ROW, headers={"x-request-id": "mine"}) for _ in range(2)]
    assert [reply.headers["x-request-id"] for reply in replies] == ["mine", "mine"]
    ids = [reply.json["ids"][0] for reply in replies]
    assert len(set(ids)) == 2
    assert set(ids) <= {line["id"] for line in lines_of(launch_many.folder / "log")}


def test_all_attempts_of_the_routers_are_one_prediction(address: str) -> None:
    identity = "0123456789abcdef01234567"
    assert predict(address, ROW, headers={"x-trilho-identity": identity}).json["ids"] == [f"{identity}.0"]
    assert predict(address, ROW, headers={"x-trilho-identity": "mine"}).json["ids"] != ["mine.0"]


@pytest.mark.parametrize(
    ("at", "logged"),
    [
        ("2024-02-01T08:00:00+02:00", "2024-02-01T06:00:00"),
        ("2024-02-01 08:00:00.250Z", "2024-02-01T08:00:00.250000"),
        ("2024-02-01T08:00:00z", "2024-02-01T08:00:00"),
        ("2024-02-01", "2024-02-01T00:00:00"),
        ("0001-01-01T00:00:00", "0001-01-01T00:00:00"),
    ],
)
def test_a_time_is_logged_in_one_spelling(address: str, launch_many: Launcher, at: str, logged: str) -> None:
    (id_,) = predict(address, {**ROW, "at": at}).json["ids"]
    (line,) = [line for line in lines_of(launch_many.folder / "log") if line["id"] == id_]
    assert line["x"] == {**ROW, "at": logged}


def test_an_event_time_a_year_ahead_is_422(address: str) -> None:
    now = datetime.now(timezone.utc)  # noqa: UP017
    soon, late = ((now + timedelta(hours=hours)).isoformat() for hours in (365 * 24, 367 * 24))
    reply = predict(address, {**ROW, "at": soon}, {**ROW, "at": late})
    assert (reply.status, reply.json["field"], reply.json["row"]) == (422, "at", 1)
    assert "more than a year ahead of this server's clock" in reply.json["error"]
    assert predict(address, {**ROW, "at": "9999-12-31T23:59:59.999999"}).status == 422
    assert predict(address, {**ROW, "at": soon}).status == 200


def test_a_package_that_is_not_the_digests_is_not_loaded(launch: Launcher, own_package: Path) -> None:
    """A manifest is changed together with its files, so that it agrees with itself."""
    digest = digest_folder(own_package)
    assert folder_digest(own_package) == digest
    launch.server(own_package, "--digest", digest).wait_until_ready()
    manifest = json.loads((own_package / "manifest.json").read_bytes())
    (own_package / "estimator.pkl").write_bytes(b"other")
    manifest["files"]["estimator.pkl"] = hashlib.sha256(b"other").hexdigest()
    (own_package / "manifest.json").write_text(json.dumps(manifest))
    changed = launch.server(own_package, "--digest", digest)
    assert changed.process.wait(15) == 1
    assert f"its digest is {digest_folder(own_package)[:16]}, {digest[:16]} is wanted" in changed.errors.read_text()


def test_the_info_says_what_a_row_holds_and_extra_fields_are_counted(address: str) -> None:
    predict(address, {**ROW, "colour": "red"}, {**ROW, "colour": "blue"})
    info = call(address, "/").json
    assert (info["model"], info["version"], info["task"], info["path"]) == ("tiny", 3, "regression", "pandas")
    assert info["signature"][2].items() >= {"name": "x", "type": "number", "nullable": False}.items()
    assert info["extra_fields"]["colour"] == 2


@pytest.mark.parametrize(
    ("row", "field", "says"),
    [
        ({"x": "1"}, "x", 'x is "1", a string; wanted a number'),
        ({"x": None}, "x", "x is null; wanted a number"),
        ({"count": 1.5}, "count", "count is 1.5, a number; wanted an integer"),
        ({"count": 2**63}, "count", "wanted an integer"),
        ({"at": "soon"}, "at", "wanted an ISO 8601 time"),
        ({"flag": "yes"}, "flag", "wanted true or false"),
        ({"wish": 3}, "wish", "wanted a string"),
    ],
)
def test_a_wrong_field_is_422_with_field_and_row(address: str, row: dict[str, Any], field: str, says: str) -> None:
    reply = predict(address, ROW, {**ROW, **row})
    assert reply.status == 422
    assert (reply.json["field"], reply.json["row"]) == (field, 1)
    assert says in reply.json["error"]


def test_a_missing_field_is_422_and_a_missing_nullable_one_is_null(address: str) -> None:
    without_nullable = {k: v for k, v in ROW.items() if k not in ("wish", "level")}
    assert predict(address, without_nullable).json["predictions"] == [ANSWER]
    reply = predict(address, {k: v for k, v in ROW.items() if k != "count"})
    assert (reply.status, reply.json["field"], reply.json["row"]) == (422, "count", 0)
    assert "count is missing" in reply.json["error"]


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 400, "not JSON"),
        (b"{", 400, "not JSON"),
        (b'{"instances": [{"x": NaN}]}', 400, "not JSON"),
        (b'{"instances": [{"x": 1e999}]}', 400, "not JSON"),
        (b'{"instances": [{"x": "\xff"}]}', 400, "not JSON"),
        (b"[" * 100_000, 400, "not JSON"),
        (b"[]", 422, "wanted"),
        (b"null", 422, "wanted"),
        (b'{"instances": {}}', 422, "wanted"),
        (b'{"instances": []}', 422, "empty"),
        (b'{"instances": [3]}', 422, "row 0 is 3, an integer"),
        (b'{"instances": [null]}', 422, "row 0 is null"),
        (b'{"instances": [{}]}', 422, "is missing"),
    ],
)
def test_a_body_of_another_shape_is_refused(address: str, body: bytes, status: int, says: str) -> None:
    reply = call(address, "/predict", body)
    assert reply.status == status
    assert says in reply.json["error"]


def test_too_much_is_413(address: str) -> None:
    assert predict(address, *[ROW] * 1000).status == 200
    reply = predict(address, *[{}] * 1001)
    assert reply.status == 413
    assert "1001 instances in one request; at most 1000" in reply.json["error"]
    large = call(address, "/predict", b"x" * 1_500_001)
    assert (large.status, "larger than 1500000 bytes" in large.json["error"]) == (413, True)


def test_a_body_that_comes_in_chunks_is_read_and_bounded(address: str) -> None:
    def chunked(*chunks: bytes) -> bytes:
        host, _, port = address.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
            for chunk in chunks:
                connection.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            connection.sendall(b"0\r\n\r\n")
            return connection.recv(65536).split(b"\r\n")[0]

    whole = json.dumps({"instances": [ROW]}).encode()
    assert chunked(whole[:9], whole[9:]) == b"HTTP/1.1 200 OK"
    assert chunked(*[b" " * 100_000] * 20) == b"HTTP/1.1 413 Payload Too Large"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/predict", 405), ("POST", "/", 405), ("GET", "/nothing", 404), ("POST", "/labels", 404)],
)
def test_other_paths_and_methods_are_refused(address: str, method: str, path: str, status: int) -> None:
    reply = call(address, path, b"{}" if method == "POST" else None)
    assert reply.status == status
    assert path in reply.json["error"]


def test_a_compressed_body_is_refused(address: str) -> None:
    assert call(address, "/predict", b"\x1f\x8b", {"content-encoding": "gzip"}).status == 415


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ("raise", "features: ValueError: x may not be that"),
        ("exit", "features: SystemExit: 3"),
        ("short", "features: tiny.features:build made 0 rows of 1"),
        ("nan", "model: Sum predicted nan for row 0"),
    ],
)
def test_what_the_users_code_raises_is_422_and_the_traceback_is_in_the_log(
    address: str, server: Running, wish: str, says: str
) -> None:
    reply = predict(address, {**ROW, "wish": wish})
    assert reply.status == 422
    assert says in reply.json["error"]
    assert reply.json["row"] == 0
    assert says.split(": ")[-1] in server.errors.read_text()
    assert predict(address, ROW).status == 200


def test_callers_at_the_same_time_each_get_their_own(address: str) -> None:
    """While one request is slow the others wait, and are then predicted as one table; one of them fails alone."""
    wishes: list[dict[str, Any]] = [{"x": float(n)} for n in range(8)] + [{"wish": "raise"}, {"x": "1"}]
    replies: dict[int, Reply] = {}

    def ask(index: int) -> None:
        replies[index] = predict(address, {**ROW, **wishes[index]})

    slow = threading.Thread(target=predict, args=(address, {**ROW, "wish": "sleep"}))
    threads = [threading.Thread(target=ask, args=(index,)) for index in range(len(wishes))]
    for thread in [slow, *threads]:
        thread.start()
    for thread in [slow, *threads]:
        thread.join()
    assert [replies[n].json["predictions"] for n in range(8)] == [[2.0 * n + 7] for n in range(8)]
    assert len({replies[n].json["ids"][0] for n in range(8)}) == 8
    assert [replies[n].status for n in (8, 9)] == [422, 422]


def test_metrics_count_requests_rows_and_time(address: str) -> None:
    def metrics() -> dict[str, float]:
        text = call(address, "/metrics").body.decode()
        return {k: float(v) for k, v in (ln.rsplit(" ", 1) for ln in text.splitlines() if not ln.startswith("#"))}

    before = metrics()
    predict(address, ROW, ROW)
    predict(address, {})
    after = metrics()
    moved = {k: after[k] - before.get(k, 0.0) for k in after if after[k] != before.get(k, 0.0) and "latency" not in k}
    assert moved == {
        'trilho_requests_total{version="3",code="200"}': 1,
        'trilho_requests_total{version="3",code="422"}': 1,
        'trilho_rows_total{version="3"}': 2,
    }
    assert after['trilho_latency_seconds_count{version="3"}'] - before['trilho_latency_seconds_count{version="3"}'] == 1


def test_nothing_that_a_caller_sends_is_a_500(address: str) -> None:
    rng = random.Random(11)
    values: list[Any] = [None, True, 0, -1.5, 1e308, 10**18, "", "a", "2024-01-01", [], [None], {}, {"a": []}]
    values += ["\x00", "é"]
    seen = set()
    for _ in range(300):
        rows: list[Any] = [{k: rng.choice([v, rng.choice(values)]) for k, v in ROW.items() if rng.random() < 0.95}]
        rows += [rng.choice(values)] if rng.random() < 0.1 else []
        body = json.dumps({"instances": rows}).encode()
        if rng.random() < 0.3:
            position = rng.randrange(len(body))
            body = body[:position] + bytes([rng.randrange(256)]) + body[position + 1 :]
        seen.add(call(address, rng.choice(["/predict", "/v1/predict"]), body).status)
    assert seen == {200, 400, 422}


@pytest.mark.parametrize(
    "raw",
    [
        b"GARBAGE\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"b" * 500_000 + b"\r\n\r\n",
    ],
)
def test_what_is_no_http_gets_an_error_of_the_callers(address: str, raw: bytes) -> None:
    host, _, port = address.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(raw)
        assert connection.recv(65536).split(b" ")[1][:1] == b"4"
    assert call(address, "/health").status == 200


def test_many_idle_connections_do_not_shut_others_out(address: str) -> None:
    host, _, port = address.removeprefix("http://").rpartition(":")
    idle = [socket.create_connection((host, int(port)), timeout=20) for _ in range(400)]
    try:
        assert predict(address, ROW).status == 200
    finally:
        for connection in idle:
            connection.close()


def test_extra_fields_can_be_refused_and_vertex_names_its_own_routes(launch: Launcher, package: Path) -> None:
    env = {**os.environ, "AIP_PREDICT_ROUTE": "/vertex/predict", "AIP_HEALTH_ROUTE": "/vertex/health"}
    running = launch.server(package, "--extra-fields", "refuse", env=env)
    address = running.wait_until_bound()
    early = call(address, "/predict", {"instances": [ROW]})
    assert (early.status, early.headers["retry-after"]) in [(503, "1")] or early.status == 200
    running.wait_until_ready()
    assert call(address, "/vertex/health").status == 200
    assert call(address, "/vertex/predict", {"instances": [ROW]}).json["predictions"] == [ANSWER]
    reply = predict(address, ROW, {**ROW, "colour": 1})
    assert (reply.status, reply.json["field"], reply.json["row"]) == (422, "colour", 1)


def test_a_port_in_use_is_one_clear_error(launch: Launcher, package: Path) -> None:
    first = launch.server(package)
    port = first.wait_until_bound().rpartition(":")[2]
    second = launch.server(package, "--port", port)
    assert second.process.wait(15) == 2
    fact, hint = second.errors.read_text().splitlines()
    assert fact == f"port {port} of 127.0.0.1: Address already in use"
    assert hint.startswith("Hint: --port")
    assert not second.ready_file.exists()


def test_a_package_that_is_broken_ends_the_server_with_the_reason(launch: Launcher, own_package: Path) -> None:
    (own_package / "estimator.pkl").write_bytes(b"")
    running = launch.server(own_package)
    assert running.process.wait(15) == 1
    assert "estimator.pkl: its digest is " in running.errors.read_text()
    assert "Traceback" not in running.errors.read_text()


def test_a_log_folder_that_cannot_be_made_is_one_clear_error(launch: Launcher, package: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    running = launch.server(package, "--log", tmp_path / "file" / "log")
    assert running.process.wait(15) == 1
    assert "Not a directory" in running.errors.read_text().splitlines()[0]


def test_a_stop_lets_the_requests_under_way_finish(launch: Launcher, package: Path) -> None:
    running = launch.server(package, "--log", launch.folder / "log")
    address = running.wait_until_ready()
    replies: list[Reply] = []
    wish = {**ROW, "wish": "sleep"}
    threads = [threading.Thread(target=lambda: replies.append(predict(address, wish))) for _ in range(3)]
    for thread in threads:
        thread.start()
    waiting = 'trilho_waiting{version="1"} 2'
    until(lambda: waiting in call(address, "/metrics").body.decode(), what="two requests that wait")
    assert running.stop() == 0
    for thread in threads:
        thread.join()
    assert [reply.status for reply in replies] == [200, 200, 200]
    assert len(lines_of(launch.folder / "log")) == 3
    with pytest.raises(ConnectionRefusedError):
        call(address, "/health")


def shed_by(address: str) -> tuple[Any, str]:
    """What GET / and /metrics say of the log."""
    metrics = call(address, "/metrics").body.decode().splitlines()
    (counted,) = [line for line in metrics if line.startswith("trilho_log_shed_total")]
    return call(address, "/").json["log"], counted.rpartition(" ")[2]


def test_a_full_disk_sheds_the_log_and_never_a_prediction(launch: Launcher, package: Path) -> None:
    """A limit on file size stands for a full disk; raised again, it stands for a disk with room again.

    The server's own log is a file too, and much shorter than the first request's lines.
    """
    if not hasattr(resource, "prlimit"):
        pytest.skip("another process's limits can be changed on Linux only")
    log = launch.folder / "log"
    running = launch.server(package, "--log", log)
    address = running.wait_until_ready()
    first = predict(address, *[ROW] * 50)
    assert (first.status, first.headers.get("x-trilho-logged")) == (200, None)
    assert shed_by(address) == ({"state": "written", "shed": 0}, "0")
    size = next(log.iterdir()).stat().st_size
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (size + 10, resource.RLIM_INFINITY))
    for _ in range(3):
        reply = predict(address, ROW, {**ROW, "x": 0})
        assert (reply.status, reply.headers["x-trilho-logged"]) == (200, "0")
        assert reply.json["predictions"] == [ANSWER, 7.0]
    told, counted = shed_by(address)
    assert (told["state"], told["shed"], counted) == ("shed", 6, "6")
    assert str(log) in told["why"]
    assert (
        running.errors.read_text().count("predictions are answered and not logged") == 1
    )  # once a minute, not once a request
    resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, unlimited)
    after = predict(address, ROW)
    assert (after.status, after.headers.get("x-trilho-logged")) == (200, None)
    assert shed_by(address) == ({"state": "written", "shed": 6}, "6")
    assert [line["id"] for line in lines_of(log)] == [*first.json["ids"], *after.json["ids"]]
    assert "written again; 6 rows were not logged" in running.errors.read_text()


ORPHAN = """
import os, subprocess, sys, time
read, write = os.pipe()
command = [sys.argv[1], "-m", "trilho_runtime.server", sys.argv[2], "--version", "1", "--ready-file", sys.argv[3]]
subprocess.Popen([*command, "--parent-pipe", str(read)], pass_fds=[read])
time.sleep(60)
"""


def test_a_server_ends_with_its_parent_however_that_ends(project_python: Path, package: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    parent = subprocess.Popen([sys.executable, "-c", ORPHAN, str(project_python), str(package), str(ready)])
    try:
        until(ready.exists, what="bound")
        data = json.loads(ready.read_bytes())
        until(lambda: call(data["address"], "/health").status == 200, what="ready")
        assert alive(data["pid"])
    finally:
        parent.kill()
        parent.wait(10)
    started = time.monotonic()
    until(lambda: not alive(data["pid"]), 2.5, "the orphan's end")
    assert time.monotonic() - started < 2.5


def test_a_server_that_is_loading_stops_at_once(launch: Launcher, package: Path) -> None:
    running = launch.server(package)
    running.wait_until_bound()
    started = time.monotonic()
    assert running.stop(signal.SIGINT) == 0
    assert time.monotonic() - started < 3
