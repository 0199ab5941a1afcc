"""Callers that ask without a pause until they are told to stop, and write down every answer.

    python benchmarks/soak_callers.py ADDRESS ROWS.json ANSWERS --callers 8

Each keeps its connection; one that breaks is counted as a failed request and made again. A line of ANSWERS is the
moment of the question, of the answer, its status, the row's place, and the version, id and prediction that came:
`1700000000.1 1700000000.2 200 17 1 ab12.0 0.75`. It ends when its standard input does, after the requests under way.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

PIECE = 1 << 16
PATIENCE_SECONDS = 30.0
TOLD = 20  # failures that are shown


@dataclass
class Caller:
    """A connection, and the question that is open on it."""

    address: tuple[str, int]
    connection: socket.socket
    row: int = 0
    asked: float = 0.0
    received: bytes = b""

    @classmethod
    def at(cls, address: tuple[str, int]) -> Caller:
        """Connect."""
        return cls(address, _connected(address))

    def ask(self, row: int, request: bytes) -> None:
        """Send a question."""
        self.row, self.asked, self.received = row, time.time(), b""
        self.connection.sendall(request)

    def receive(self) -> tuple[int, bytes] | None:
        """Give status and body of an answer once it is whole. Raises OSError for a connection that broke."""
        part = self.connection.recv(PIECE)
        if not part:
            raise ConnectionError("closed")
        self.received += part
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found:
            return None
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r")[0])
        return (int(head[9:12]), body) if len(body) >= length else None


def _connected(address: tuple[str, int]) -> socket.socket:
    connection = socket.create_connection(address, timeout=PATIENCE_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


class Asking:
    """Several callers in one process, by turns."""

    def __init__(self, address: tuple[str, int], requests: Sequence[bytes], callers: int, out: IO[str]) -> None:
        self._requests, self._out, self._next = requests, out, 0
        self._selector = selectors.DefaultSelector()
        self._callers = [Caller.at(address) for _ in range(callers)]
        self._ending, self._failures = False, 0

    def run(self) -> None:
        """Ask until standard input ends, and then until everything is answered."""
        self._selector.register(sys.stdin, selectors.EVENT_READ, None)
        for caller in self._callers:
            self._selector.register(caller.connection, selectors.EVENT_READ, caller)
            self._ask(caller)
        open_ = set(map(id, self._callers))
        while open_:
            for key, _ in self._selector.select(PATIENCE_SECONDS):
                if key.data is None:
                    self._ending = not os.read(sys.stdin.fileno(), 64)
                    if self._ending:
                        self._selector.unregister(sys.stdin)
                elif self._hear(key.data):
                    open_.discard(id(key.data))
            self._give_up()

    def _ask(self, caller: Caller) -> None:
        place = self._next % len(self._requests)
        self._next += 1
        caller.ask(place, self._requests[place])

    def _hear(self, caller: Caller) -> bool:
        """Take what came, and ask again; say whether this caller is done."""
        try:
            found = caller.receive()
            if found is None:
                return False
            self._write(caller, *found)
        except OSError as error:
            self._write(caller, 0, repr(error).encode())
            self._renew(caller)
        if self._ending:
            self._selector.unregister(caller.connection)
            return True
        self._ask(caller)
        return False

    def _renew(self, caller: Caller) -> None:
        self._selector.unregister(caller.connection)
        caller.connection.close()
        caller.connection = _connected(caller.address)
        self._selector.register(caller.connection, selectors.EVENT_READ, caller)

    def _give_up(self) -> None:
        now = time.time()
        for key in list(self._selector.get_map().values()):
            if key.data is not None and now - key.data.asked > PATIENCE_SECONDS:
                self._write(key.data, 0, b"no answer")
                self._renew(key.data)
                self._ask(key.data)

    def _write(self, caller: Caller, status: int, body: bytes) -> None:
        said = "- - -"
        if status == 200:
            told: dict[str, Any] = json.loads(body)
            said = f"{told['version']} {told['ids'][0]} {told['predictions'][0]['1']!r}"
        elif (told_of := self._failures) < TOLD:
            self._failures = told_of + 1
            sys.stderr.write(f"{time.time():.3f} row {caller.row}: {status} {body[:300].decode(errors='replace')}\n")
        self._out.write(f"{caller.asked!r} {time.time()!r} {status} {caller.row} {said}\n")


def requests_of(rows: Sequence[Any]) -> list[bytes]:
    """Give a request for each row."""
    bodies = [json.dumps({"instances": [row]}, separators=(",", ":")).encode() for row in rows]
    head = "POST /predict HTTP/1.1\r\nhost: soak\r\ncontent-type: application/json\r\ncontent-length: "
    return [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]


def main(arguments: Sequence[str]) -> None:
    """Ask."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("rows", type=Path)
    parser.add_argument("answers", type=Path)
    parser.add_argument("--callers", type=int, default=8)
    given = parser.parse_args(arguments)
    parts = urlsplit(given.address)
    requests = requests_of(json.loads(given.rows.read_bytes()))
    with given.answers.open("w") as out:
        Asking((parts.hostname or "127.0.0.1", parts.port or 80), requests, given.callers, out).run()


if __name__ == "__main__":
    main(sys.argv[1:])
