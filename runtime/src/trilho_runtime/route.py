"""The router: one address in front of a model's version processes.

    python -m trilho_runtime.route --routes FILE --label-dir DIR [--port P] ...

It splits requests by share, and sends a request on when a version does not answer: a prediction changes nothing but the
log, where its id counts once, so that asking twice is safe. Labels are written down here, whichever version answered.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trilho_runtime.prediction.log import LineLog
from trilho_runtime.routing.edge import Inside
from trilho_runtime.routing.router import ANSWER_SECONDS, RETRY_SECONDS, Router
from trilho_runtime.routing.routes import Table
from trilho_runtime.serving.arguments import add_caller_arguments, add_server_arguments, read_access
from trilho_runtime.web.body import MAX_BODY
from trilho_runtime.web.notes import RequestNotes, use_format

if TYPE_CHECKING:
    import socket

CONNECTIONS = 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve one model's versions at one address."""
    from trilho_runtime.web.service import CannotStart, bind, check_folder, serve

    given = _parser().parse_args(arguments)
    given.platform = None
    use_format(given.notes)
    try:
        check_folder(given.label_dir)
        access = read_access(given)
        listener = bind(given.host, given.port)
    except CannotStart as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return serve(_run(given, listener, access))


async def _run(given: argparse.Namespace, listener: socket.socket, access: Any) -> int:
    from trilho_runtime.web.service import Service, allow_connections

    traces = None
    if os.environ.get("TRILHO_TRACES"):
        from trilho_runtime.web.tracing import open_traces

        traces = open_traces("trilho-router")

    table = Table(given.routes)
    table.look()
    following = asyncio.ensure_future(table.follow())
    router = Router(table, LineLog(given.label_dir, fsync=given.fsync), given.answer_seconds, given.retry_seconds)
    if traces is not None:
        traces.model = table.routes.model
    guard = Inside(access) if access is not None else None
    app = router.app(guard=guard, notes=RequestNotes(given.requests), max_body=given.max_body, traces=traces)
    service = Service(app, listener, allow_connections(2 * CONNECTIONS) // 2)
    code = await service.run(given.ready_file, given.parent_pipe)
    following.cancel()
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trilho_runtime.route", description=main.__doc__)
    parser.add_argument("--routes", type=Path, required=True, help="the file that says which versions get what share")
    parser.add_argument("--label-dir", type=Path, required=True, metavar="DIR", help="where labels are written")
    add_server_arguments(parser, "0")
    parser.add_argument("--fsync", action="store_true", help="labels survive a power cut as well")
    parser.add_argument("--max-body", type=int, default=MAX_BODY, metavar="BYTES", help="of one request")
    parser.add_argument("--requests", choices=["none", "errors", "all"], default="errors", help="said of each request")
    parser.add_argument("--notes", choices=["text", "json"], default="text", help="json is what Cloud Logging reads")
    add_caller_arguments(parser)
    parser.add_argument("--answer-seconds", type=float, default=ANSWER_SECONDS, help="a version may take so long")
    parser.add_argument("--retry-seconds", type=float, default=RETRY_SECONDS, help="other versions are asked so long")
    return parser


if __name__ == "__main__":
    sys.exit(main())
