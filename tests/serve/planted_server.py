"""A prediction server that takes the real one's command line and does what its package's behaviour.json plants.

`x` times two is the answer of a row; `wrong_row` is answered otherwise, `fail_every` n-th request gets a 500, each
answer takes `answer_seconds`, and `broken` ends it at once.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any


async def serve(given: argparse.Namespace, behaviour: dict[str, Any]) -> None:
    numbers, lock = itertools.count(1), asyncio.Lock()

    async def predictions(body: bytes) -> tuple[int, bytes]:
        rows = [row["x"] for row in json.loads(body)["instances"]]
        async with lock:  # one after the other, as a model works
            await asyncio.sleep(behaviour.get("answer_seconds", 0))
        every = behaviour.get("fail_every")
        if every and next(numbers) % every == 0:
            return 500, b"{}"
        told = [2.0 * x + (x == behaviour.get("wrong_row")) for x in rows]
        return 200, json.dumps({"predictions": told}).encode()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                size = int(head.partition(b"content-length:")[2].partition(b"\r")[0] or 0)
                body = await reader.readexactly(size)
                status, told = await predictions(body) if head.startswith(b"post") else (200, b"{}")
                writer.write(f"HTTP/1.1 {status} x\r\nContent-Length: {len(told)}\r\n\r\n".encode() + told)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(converse, given.host, given.port)
    port = server.sockets[0].getsockname()[1]
    draft = given.ready_file.with_suffix(".draft")
    draft.write_text(json.dumps({"pid": os.getpid(), "port": port, "address": f"http://{given.host}:{port}"}))
    draft.replace(given.ready_file)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("package", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--parent-pipe", type=int, required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--ready-file", type=Path, required=True)
    given, _ = parser.parse_known_args()
    behaviour: dict[str, Any] = json.loads((given.package / "behaviour.json").read_text())
    if behaviour.get("broken"):
        sys.exit("PackageError: estimator.pkl was changed")
    (given.package.parent / "pid").write_text(str(os.getpid()))
    (given.package.parent / "niceness").write_text(str(os.nice(0)))
    threading.Thread(target=lambda: (os.read(given.parent_pipe, 1), os._exit(0)), daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    asyncio.run(serve(given, behaviour))


if __name__ == "__main__":
    main()
