"""A load generator: so many callers at once, each asking again as soon as it is answered, from one process.

    python benchmarks/load.py ADDRESS ROWS.json --callers 8 --requests 4000 [--size 100] [--answers FILE]

It speaks HTTP over plain sockets and waits with epoll, so that it takes as little of the machine as can be; it prints
one JSON object with the rate and the waits. `--answers` keeps every prediction with the row that it is of.
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PIECE = 1 << 18
PATIENCE_SECONDS = 60.0


class Callers:
    """Connections that ask in turn; `requests` are sent over and over until there are enough answers."""

    def __init__(self, host: str, port: int, requests: list[bytes], callers: int) -> None:
        self._requests = requests
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        for _ in range(callers):
            connection = socket.create_connection((host, port), timeout=PATIENCE_SECONDS)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets[connection.fileno()] = connection
            self._poll.register(connection.fileno(), select.EPOLLIN)

    def ask(self, count: int) -> tuple[float, list[float], list[tuple[int, int, bytes]]]:
        """Ask so often; give the seconds in all, the seconds of each, and request, status and body of each answer."""
        asked, waits = 0, list[float]()
        told: list[tuple[int, int, bytes]] = []
        under_way: dict[int, tuple[int, float]] = {}
        received = dict.fromkeys(self._sockets, b"")
        clock, began = time.perf_counter, time.perf_counter()
        for number, connection in list(self._sockets.items())[:count]:
            under_way[number] = (asked, clock())
            connection.sendall(self._requests[asked % len(self._requests)])
            asked += 1
        while under_way:
            events = self._poll.poll(PATIENCE_SECONDS)
            if not events:
                raise TimeoutError(f"no answer for {PATIENCE_SECONDS:.0f} s")
            for number, _ in events:
                whole = self._receive(number, received)
                if whole is None:
                    continue
                now = clock()
                request, since = under_way.pop(number)
                waits.append(now - since)
                told.append((request, *whole))
                if asked < count:
                    under_way[number] = (asked, clock())
                    self._sockets[number].sendall(self._requests[asked % len(self._requests)])
                    asked += 1
        return clock() - began, waits, told

    def tell(self) -> int:
        """Print the ids of answers as they come, until the server ends."""
        for place, connection in enumerate(self._sockets.values()):
            connection.sendall(self._requests[place])
        received = dict.fromkeys(self._sockets, b"")
        while True:
            for number, _ in self._poll.poll(PATIENCE_SECONDS):
                try:
                    whole = self._receive(number, received)
                    if whole is None:
                        continue
                    sys.stdout.write("".join(f"{id_}\n" for id_ in json.loads(whole[1])["ids"]))
                    sys.stdout.flush()
                    self._sockets[number].sendall(self._requests[number % len(self._requests)])
                except OSError:
                    return 0

    def _receive(self, number: int, received: dict[int, bytes]) -> tuple[int, bytes] | None:
        part = self._sockets[number].recv(PIECE)
        if not part:
            raise ConnectionError("the server closed the connection")
        data = received[number] + part
        end = data.find(b"\r\n\r\n")
        place = data.find(b"content-length: ", 0, end) if end >= 0 else -1
        if place < 0 or len(data) < end + 4 + int(data[place + 16 : data.find(b"\r", place)]):
            received[number] = data
            return None
        received[number] = b""
        return int(data[9:12]), data[end + 4 :]


def requests_of(rows: list[Any], size: int) -> list[bytes]:
    """Give the requests that ask for all rows, so many at once."""
    bodies = [
        json.dumps({"instances": rows[at : at + size]}, separators=(",", ":")).encode()
        for at in range(0, len(rows), size)
    ]
    head = "POST /predict HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: "
    return [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]


def main(arguments: list[str]) -> int:
    """Ask, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("rows", type=Path)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--size", type=int, default=1)
    parser.add_argument("--answers", type=Path)
    parser.add_argument("--ids", action="store_true", help="print the id of each answer at once, until the server ends")
    given = parser.parse_args(arguments)
    parts = urlsplit(given.address)
    requests = requests_of(json.loads(given.rows.read_bytes()), given.size)
    callers = Callers(parts.hostname or "127.0.0.1", parts.port or 80, requests, given.callers)
    if given.ids:
        return callers.tell()
    seconds, waits, told = callers.ask(given.requests)
    waits.sort()
    refused = [status for _, status, _ in told if status != 200]
    if given.answers is not None:
        kept = [
            (request % len(requests) * given.size, json.loads(body)) for request, status, body in told if status == 200
        ]
        given.answers.write_text(json.dumps([(at, body["ids"], body["predictions"]) for at, body in kept]))
    found = {
        "rate": given.requests / seconds, "refused": len(refused),
        "p50_ms": 1000 * waits[len(waits) // 2], "p99_ms": 1000 * waits[int(0.99 * len(waits))],
    }  # fmt: skip
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
