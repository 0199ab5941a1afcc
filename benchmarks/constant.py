"""A granian server that answers every request with the same bytes: the floor of any server written on it.

python -m benchmarks.constant READY_FILE
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from trilho_runtime.web.service import HttpServer, address_of, bind, write_whole

ANSWER = b'{"predictions":[126.94],"ids":["a9f7ba6f72dacd66a21e8ea9.0"],"model":"constant","version":1}'
HEADERS = [("content-type", "application/json")]
CONNECTIONS = 64


async def answer(_: Any, proto: Any) -> None:
    """Read the request, since a server that leaves bodies unread would be measured at something else."""
    await proto()
    proto.response_bytes(200, HEADERS, ANSWER)


async def serve(ready_file: Path) -> None:
    """Answer on a free port of this machine until SIGTERM, or until the parent has gone."""
    listener = bind("127.0.0.1", 0)
    server = HttpServer(answer, listener, CONNECTIONS)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.stop)
    serving = asyncio.ensure_future(server.serve())
    write_whole(ready_file, {"pid": os.getpid(), "address": address_of(listener)})
    await serving


def end_with_parent() -> None:
    """Leave when standard input does: the parent holds its other end."""
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    """Serve; the one argument is the file that says where."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m benchmarks.constant READY_FILE")
    threading.Thread(target=end_with_parent, daemon=True).start()
    asyncio.run(serve(Path(sys.argv[1])))
    os._exit(0)


if __name__ == "__main__":
    main()
