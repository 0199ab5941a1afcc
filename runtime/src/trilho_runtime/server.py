"""The prediction server: one model version, one process.

    python -m trilho_runtime.server PACKAGE --version N [--port P] [--log DIR] ...

The port is bound at once and answers 503 until the model is loaded. SIGTERM lets the requests under way finish; so does
the end of the parent, seen at the other end of a pipe, so that no server outlives its supervisor.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

    from trilho_runtime.predict import PredictionApp
    from trilho_runtime.service import Service

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
CONNECTIONS = 2048


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve one model version over HTTP."""
    given = _parser().parse_args(arguments)
    for name in THREADS:  # before any library reads them: more threads make one row slower
        os.environ.setdefault(name, "1")
    from trilho_runtime.service import CannotStart, bind, check_folder, serve

    try:
        if given.log is not None:
            check_folder(given.log)
        listener = bind(given.host, given.port)
    except CannotStart as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return serve(_run(given, listener))


async def _run(given: argparse.Namespace, listener: socket.socket) -> int:
    from trilho_runtime.log import LineLog
    from trilho_runtime.predict import PredictionApp
    from trilho_runtime.service import Service, allow_connections

    log = None if given.log is None else LineLog(given.log, f"v{given.version}-", fsync=given.fsync)
    predictions = PredictionApp(given.version, log, refuse_extra_fields=given.extra_fields == "refuse")
    service = Service(predictions.app(), listener, allow_connections(CONNECTIONS))
    threading.Thread(target=_load, args=(given.package, given.digest, predictions, service), daemon=True).start()
    return await service.run(given.ready_file, given.parent_pipe)


def _load(folder: Path, digest: str | None, predictions: PredictionApp, service: Service) -> None:
    """Load the model, then let it answer; a server without one ends."""
    from trilho_runtime.http import note
    from trilho_runtime.package import PackageError
    from trilho_runtime.predict import load_model

    try:
        predictions.model = load_model(folder, digest)
        return
    except PackageError as error:
        note(str(error))
    except BaseException:  # noqa: BLE001  whatever it was, a server that never gets ready must not stay
        note(traceback.format_exc())
    service.stop_soon(exit_code=1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trilho_runtime.server", description=main.__doc__)
    parser.add_argument("package", type=Path, help="the model package's folder")
    parser.add_argument("--version", type=int, required=True, help="the model version, named in answers and log lines")
    parser.add_argument("--digest", help="the package's digest in the artifact store; another package is not loaded")
    add_server_arguments(parser, os.environ.get("AIP_HTTP_PORT", "0"))
    parser.add_argument("--log", type=Path, metavar="DIR", help="write a line per prediction to a file in this folder")
    parser.add_argument("--fsync", action="store_true", help="lines survive a power cut as well, at a cost")
    parser.add_argument("--extra-fields", choices=["count", "refuse"], default="count", help="fields the model lacks")
    return parser


def add_server_arguments(parser: argparse.ArgumentParser, port: str) -> None:
    """Add what every server of ours takes."""
    parser.add_argument("--port", type=int, default=port, help="0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--ready-file", type=Path, help="written once the port is bound: pid, port, address")
    parser.add_argument("--parent-pipe", type=int, metavar="FD", help="end when this pipe does")


if __name__ == "__main__":
    sys.exit(main())
