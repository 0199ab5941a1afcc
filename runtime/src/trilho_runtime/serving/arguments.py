"""The prediction server's command line, and what the environment adds to it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trilho_runtime.protocols.plane import MAX_ROWS
from trilho_runtime.web.body import MAX_BODY
from trilho_runtime.web.service import CannotStart

if TYPE_CHECKING:
    from trilho_runtime.prediction.mask import Mask

MASK_KEY = "TRILHO_MASK_KEY"
PROFILE_SECONDS = 5.0
SUMMARY = "Serve one model version over HTTP."


def read_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line; Vertex AI's own environment says where to listen and what to serve."""
    from trilho_runtime.protocols.vertex import Platform

    parser = argparse.ArgumentParser(prog="python -m trilho_runtime.server", description=SUMMARY)
    try:
        platform = Platform.read(os.environ)
    except ValueError as error:
        parser.error(str(error))
    _add_model(parser, platform.storage_uri if platform is not None else "")
    add_server_arguments(parser, str(platform.port) if platform is not None else "0")
    if platform is not None:
        parser.set_defaults(host=platform.host)
    _add_requests(parser)
    _add_log(parser)
    add_caller_arguments(parser)
    given = parser.parse_args(arguments)
    given.platform = platform
    if not given.package:
        parser.error("the following arguments are required: package (or AIP_STORAGE_URI)")
    return given


def add_server_arguments(parser: argparse.ArgumentParser, port: str) -> None:
    """Add what every server of ours takes."""
    parser.add_argument("--port", type=int, default=port, help="0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--ready-file", type=Path, help="written once the port is bound: pid, port, address")
    parser.add_argument("--parent-pipe", type=int, metavar="FD", help="end when this pipe does")


def _add_model(parser: argparse.ArgumentParser, storage: str) -> None:
    parser.add_argument("package", nargs="?", default=storage, help="the model package: a folder, gs:// or https://")
    parser.add_argument("--version", type=int, default=1, help="the model version, named in answers and log lines")
    parser.add_argument("--name", default="", help="the model's name in answers and routes; by default the package's")
    parser.add_argument("--digest", help="the package's digest in the artifact store; another package is not loaded")
    parser.add_argument("--trust", action="append", metavar="FILE", help="load only what the key in FILE has signed")
    parser.add_argument("--decision", type=Path, metavar="FILE", help="the file that says which decision holds")
    parser.add_argument("--history", type=Path, metavar="FILE", help="the store of past rows, for a model of lags")
    parser.add_argument("--fd", type=int, help="the open file of a bound socket, which a parent hands on")
    parser.add_argument("--channel", type=int, metavar="FD", help="the stream to the parent of several workers")


def _add_requests(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--extra-fields", choices=["count", "refuse"], default="count", help="fields the model lacks")
    parser.add_argument("--max-rows", type=_positive, default=MAX_ROWS, help="rows that one request may hold")
    parser.add_argument("--max-body", type=_positive, default=MAX_BODY, metavar="BYTES", help="of one request")
    parser.add_argument("--entries", choices=["plain", "full"], default="plain", help="full ones say id and versions")


def _add_log(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--log", type=Path, metavar="DIR", help="write a line per prediction to a file in this folder")
    parser.add_argument("--fsync", action="store_true", help="lines survive a power cut as well, at a cost")
    parser.add_argument("--topic", help="publish each request to this Pub/Sub topic: projects/PROJECT/topics/NAME")
    parser.add_argument("--mask", metavar="FILE", help=f'a file, or JSON: {{"cpf": "hash"}}; the key is {MASK_KEY}')
    parser.add_argument("--label-dir", type=Path, metavar="DIR", help="take labels, and write them to a file here")
    parser.add_argument(
        "--profiles", type=_place, metavar="DIR", help="publish the live profile to files here: a folder, gs://"
    )
    parser.add_argument("--profile-topic", metavar="TOPIC", help="push it to projects/PROJECT/topics/NAME of Pub/Sub")
    parser.add_argument("--profile-seconds", type=float, default=PROFILE_SECONDS, metavar="S", help="how often")
    parser.add_argument("--requests", choices=["none", "errors", "all"], default="errors", help="said of each request")
    parser.add_argument("--notes", choices=["text", "json"], default="text", help="json is what Cloud Logging reads")


def add_caller_arguments(parser: argparse.ArgumentParser) -> None:
    """Add who may call, and what a server that everybody can reach needs to be told."""
    parser.add_argument("--api-key", action="append", default=[], metavar="REF", help="env:NAME or file:PATH")
    parser.add_argument("--audience", help="what callers' Google ID tokens must be made for")
    parser.add_argument("--caller", action="append", default=[], metavar="EMAIL", help="whose tokens are taken")
    parser.add_argument("--open", action="store_true", help="ask nobody who they are, whoever can reach the address")


def _place(text: str) -> Path | str:
    """Read a folder, or an address as it is: a path would lose one of its slashes."""
    return text if "://" in text else Path(text)


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return int(text)


def read_mask(told: str | None) -> Mask | None:
    """Read a mask from a file, or from JSON. Raises CannotStart for what is none, or lacks its key."""
    if not told:
        return None
    from trilho_runtime.prediction.mask import Mask

    hint = f'--mask with a file or JSON such as {{"cpf": "hash"}}, and {MASK_KEY} in the environment'
    try:
        text = told if told.lstrip().startswith("{") else Path(told).read_text(encoding="utf-8")
        return Mask.parse(text, os.environ.get(MASK_KEY, ""))
    except (OSError, ValueError) as error:
        raise CannotStart(f"--mask: {error}", hint, 2) from None


def read_access(given: argparse.Namespace) -> Any:
    """Give who may call; None for everybody. Raises CannotStart where that was not said for an open address."""
    from trilho_runtime.web.access import AccessError, check_exposure, open_access
    from trilho_runtime.web.http import note

    try:
        access = open_access(given.api_key, os.environ, audience=given.audience, callers=given.caller)
        said = check_exposure(given.host, access, opened=given.open, on_vertex=given.platform is not None)
    except AccessError as error:
        raise CannotStart(str(error), error.hint, 2) from None
    if said is not None:
        note(said, "WARNING")
    return access
