"""One-row requests to the bike example: through router and server, to the server alone, and to a constant.

Everything is on this machine and shares its cores, the callers too: these are comparisons, not capacities.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.commands import PROJECT_PYTHON, Bike
from benchmarks.measure import ROOT, Figure, environment, figure, in_turns, seconds

ROW = {"event_id": "x1", "ts": "2012-01-02T08:00:00", "temp_min_c": 2.0, "temp_max_c": 9.5, "precip_mm": 0.0}
BODY = json.dumps({"instances": [ROW]}).encode()
CALLERS = 8
REQUESTS = {1: 240, CALLERS: 1200}
START_SECONDS = 60.0
ROUTER_MS = 1.0
AIM = 1500


@contextmanager
def server(ready: Path, command: Sequence[str]) -> Iterator[str]:
    """Run a server that ends with this process, and give its address once it answers with a prediction."""
    end, hold = os.pipe()
    piped = [] if "benchmarks.constant" in command else ["--ready-file", str(ready), "--parent-pipe", str(end)]
    with ready.with_suffix(".err").open("wb") as errors:
        process = subprocess.Popen(
            [*command, *piped], cwd=ROOT, env=environment(OMP_NUM_THREADS="1"), pass_fds=(end,), stdin=end,
            stdout=subprocess.DEVNULL, stderr=errors,
        )  # fmt: skip
    os.close(end)
    try:
        yield _answers(ready, process)
    finally:
        process.terminate()
        process.wait(20)
        os.close(hold)


def _answers(ready: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"a server ended: {ready.with_suffix('.err').read_text()}")
        if ready.exists():
            address = str(json.loads(ready.read_bytes())["address"])
            if Caller(address).call() == 200:
                return address
        time.sleep(0.02)
    raise SystemExit(f"a server was not ready after {START_SECONDS:.0f} s")


class Caller:
    """One kept-open connection. A plain socket: http.client would take longer than the constant server."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self._socket = socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 0), timeout=20)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = f"POST /predict HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {len(BODY)}"
        self._request = head.encode() + b"\r\n\r\n" + BODY

    def call(self) -> int:
        """Send the row and read the whole answer; give its status."""
        self._socket.sendall(self._request)
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._more()
        head, _, body = received.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
        while len(body) < length:
            body += self._more()
        return int(head.split(b" ", 2)[1])

    def _more(self) -> bytes:
        part = self._socket.recv(65536)
        if not part:
            raise ConnectionError("the server closed the connection")
        return part


@dataclass(frozen=True)
class Load:
    """Callers that ask one after the other, each on its connection."""

    callers: list[Caller]
    requests: int

    def rate(self) -> float:
        """Send all requests and give how many were answered a second. Raises RuntimeError when one failed."""
        failed: list[int] = []

        def ask(caller: Caller) -> None:
            failed.extend(s for s in (caller.call() for _ in range(self.requests // len(self.callers))) if s != 200)

        threads = [threading.Thread(target=ask, args=(caller,)) for caller in self.callers]

        def all_of_them() -> None:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        took = seconds(all_of_them)
        if failed:
            raise RuntimeError(f"{len(failed)} requests were answered with {failed[0]}")
        return self.requests / took


def serving(example: Bike, turns: int = 9) -> list[Figure]:
    """Ask the packaged bike example, with its log switched on."""
    with tempfile.TemporaryDirectory(prefix="trilho-bench-") as name, ExitStack() as running:
        folder = Path(name)
        bare = [str(PROJECT_PYTHON), "-m", "trilho_runtime.server", str(example.package), "--version", "1"]
        alone = running.enter_context(server(folder / "v1.json", [*bare, "--log", str(folder / "predictions")]))
        routes = folder / "routes.json"
        shares = [{"version": 1, "address": alone, "share": 100}]
        routes.write_text(json.dumps({"schema": 1, "model": "bike-demand", "generation": 1, "versions": shares}))
        router = [sys.executable, "-m", "trilho_runtime.route", "--routes", str(routes)]
        routed = running.enter_context(server(folder / "router.json", [*router, "--label-dir", str(folder / "labels")]))
        fixed = [sys.executable, "-m", "benchmarks.constant", str(folder / "constant.json")]
        constant = running.enter_context(server(folder / "constant.json", fixed))
        return [line for callers in (1, CALLERS) for line in _ask(routed, alone, constant, callers, turns)]


def _ask(routed: str, alone: str, constant: str, callers: int, turns: int) -> list[Figure]:
    loads = [
        Load([Caller(address) for _ in range(callers)], REQUESTS[callers]) for address in (routed, alone, constant)
    ]
    ours, server_alone, floor = in_turns(*(load.rate for load in loads), turns=turns)
    name = f"one-row requests, {callers} caller{'s' if callers > 1 else ''}"
    met = statistics.median(ours) >= AIM
    about = f"at least {AIM:,} a second"
    lines = [
        figure(name, "the server alone", ours, server_alone, unit="1/s", aim=about, met=met),
        figure(name, "granian, a constant", ours, floor, unit="1/s", aim=about, met=met),
    ]
    if callers == 1:
        waits = [[1000 / rate for rate in rates] for rates in (ours, server_alone)]
        added = statistics.median(a - b for a, b in zip(*waits, strict=True))
        aim = f"the router adds at most {ROUTER_MS:g} ms"
        lines.append(figure("a one-row request's wait", "the server alone", *waits, unit="ms", aim=aim,
                            met=added <= ROUTER_MS))  # fmt: skip
    return lines
