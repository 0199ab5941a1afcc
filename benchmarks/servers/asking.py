"""Ask any server for a while: `python -m benchmarks.servers.asking ADDRESS BODIES.json --callers 8 --seconds 2`.

The file has the bodies of the requests, as texts; the callers are those of benchmarks.load. One short round is asked
first: it warms the server up and tells how many requests make so many seconds. With `--each`, every body is asked for
once instead, and its answer is kept.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.load import Callers

WARMING = 8  # requests of each caller
PIECE = 1 << 18


def whole(data: bytes) -> tuple[int, bytes] | None:
    """Give the status and the body of an answer that is there to its end, of a known length or in chunks.

    >>> whole(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\n{}"), whole(b"HTTP/1.1 200 OK\\r\\n")
    ((200, b'{}'), None)
    >>> whole(b"HTTP/1.1 500 No\\r\\ntransfer-encoding: chunked\\r\\n\\r\\n2\\r\\n{}\\r\\n0\\r\\n\\r\\n")
    (500, b'{}')
    """
    head, found, body = data.partition(b"\r\n\r\n")
    if not found:
        return None
    lines = [line.partition(b":") for line in head.lower().split(b"\r\n")[1:]]
    fields = {name: value.strip() for name, _, value in lines}
    if fields.get(b"transfer-encoding") == b"chunked":
        return (int(head[9:12]), _joined(body)) if body.endswith(b"0\r\n\r\n") else None
    return (int(head[9:12]), body) if len(body) >= int(fields.get(b"content-length", b"0")) else None


def _joined(chunked: bytes) -> bytes:
    """Put the chunks of a body together."""
    parts = []
    while chunked:
        size, _, rest = chunked.partition(b"\r\n")
        parts.append(rest[: int(size, 16)])
        chunked = rest[int(size, 16) + 2 :]
    return b"".join(parts)


class Asking(Callers):
    """Callers that understand the answers of every server here, not of ours alone."""

    def _receive(self, number: int, received: dict[int, bytes]) -> tuple[int, bytes] | None:
        part = self._sockets[number].recv(PIECE)
        if not part:
            raise ConnectionError("the server closed the connection")
        received[number] += part
        told = whole(received[number])
        if told is not None:
            received[number] = b""
        return told


def requests(path: str, bodies: Sequence[str]) -> list[bytes]:
    """Make whole HTTP requests.

    >>> requests("/p", ["{}"])[0].split(b"\\r\\n")[0], requests("/p", ["{}"])[0][-6:]
    (b'POST /p HTTP/1.1', b'\\r\\n\\r\\n{}')
    """
    head = f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: "
    encoded = [body.encode() for body in bodies]
    return [f"{head}{len(body)}\r\n\r\n".encode() + body for body in encoded]


def main(arguments: list[str]) -> int:
    """Ask, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("bodies", type=Path)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--each", type=Path, help="ask for every body once, and keep [[number, answer], ...] here")
    given = parser.parse_args(arguments)
    parts = urlsplit(given.address)
    made = requests(parts.path, json.loads(given.bodies.read_bytes()))
    callers = Asking(parts.hostname or "127.0.0.1", parts.port or 80, made, given.callers)
    count, warming = len(made), 0
    if given.each is None:
        warming = WARMING * given.callers
        took, _, _ = callers.ask(warming)
        count = max(warming, round(warming / took * given.seconds))
    seconds, waits, told = callers.ask(count)
    waits.sort()
    refused = [(status, body) for _, status, body in told if status != 200]
    if given.each is not None:
        given.each.write_text(json.dumps([(at, json.loads(body)) for at, status, body in told if status == 200]))
    print(json.dumps({
        "requests": count, "asked": count + warming, "rate": count / seconds,
        "p99_ms": 1000 * waits[int(0.99 * len(waits))],
        "refused": len(refused), "first": refused[0][1].decode(errors="replace")[:300] if refused else "",
    }))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
