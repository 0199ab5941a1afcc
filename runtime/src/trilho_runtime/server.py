"""The prediction server: one model version, one process.

    python -m trilho_runtime.server PACKAGE --version N [--port P] [--log DIR] ...

The port is bound at once and answers 503 until the model is loaded. SIGTERM lets the requests under way finish; so does
the end of the parent, seen at the other end of a pipe, so that no server outlives its supervisor.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import gc
import os
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trilho_runtime.serving.arguments import add_server_arguments, read_access, read_arguments, read_mask

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from trilho_runtime.prediction.live import Push
    from trilho_runtime.prediction.mask import Mask
    from trilho_runtime.processes.worker import Member
    from trilho_runtime.serving.lookup import Lookup
    from trilho_runtime.serving.predict import PredictionApp
    from trilho_runtime.serving.rules import FollowedRules
    from trilho_runtime.serving.topic import Topic
    from trilho_runtime.web.http import App
    from trilho_runtime.web.service import Service
    from trilho_runtime.web.tracing import Traces

__all__ = ["THREADS", "add_server_arguments", "main", "read_arguments"]

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
CONNECTIONS = 2048
GARBAGE = 20_000  # objects more than before, until the collector looks: a request of 100 rows makes a few hundred
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})  # a disk that is full now may not be later: the log is shed until then


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve one model version over HTTP."""
    given = read_arguments(arguments)
    for name in THREADS:  # before any library reads them: more threads make one row slower
        os.environ.setdefault(name, "1")
    from trilho_runtime.web.notes import use_format
    from trilho_runtime.web.service import CannotStart, bind, check_folder, inherited, serve

    use_format(given.notes)
    try:
        given.profiles, given.pushes = _pushes(given)
        for folder in filter(None, (given.log, given.label_dir, given.profiles)):
            check_folder(folder, passing=FULL)
        allowed = Allowed(read_access(given), read_mask(given.mask))
        topic = _topic(given)
        listener = bind(given.host, given.port) if given.fd is None else inherited(given.fd)
    except CannotStart as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return serve(_run(given, listener, allowed, topic))


@dataclass(frozen=True)
class Allowed:
    """Who may call, and what the log may hold."""

    access: Any
    mask: Mask | None


async def _run(given: argparse.Namespace, listener: socket.socket, allowed: Allowed, topic: Topic | None = None) -> int:
    from trilho_runtime.prediction.log import LineLog
    from trilho_runtime.prediction.served import ServedLog
    from trilho_runtime.serving.predict import PredictionApp
    from trilho_runtime.web.service import Service, allow_connections

    log = None
    if given.log is not None:
        log = ServedLog(LineLog(given.log, f"v{given.version}-", fsync=given.fsync))
    rules = _rules(given)
    predictions = PredictionApp(
        given.version, log, fsync=given.fsync, mask=allowed.mask, rules=rules, lookup=_lookup(given), topic=topic,
        entries=given.entries, refuse_extra_fields=given.extra_fields == "refuse", max_rows=given.max_rows,
        name=given.name,
    )  # fmt: skip
    member = await _join(given.channel, predictions)
    app = _app(given, predictions, allowed)
    service = Service(app, listener, allow_connections(CONNECTIONS), predictions.close)
    threading.Thread(target=_load, args=(given, predictions, service, member, rules), daemon=True).start()
    aside = [asyncio.ensure_future(predictions.publish(given.profile_seconds))]
    aside += [asyncio.ensure_future(rules.follow())] if rules is not None else []
    code = await (service.run(given.ready_file, given.parent_pipe) if member is None else member.serve(service))
    for task in aside:
        task.cancel()
    return code


def _app(given: argparse.Namespace, predictions: PredictionApp, allowed: Allowed) -> App:
    """Give everything that is answered: predictions, labels, and what there is to read about both."""
    from trilho_runtime.protocols.openapi import OpenApi, Served
    from trilho_runtime.web.notes import RequestNotes

    more: dict[tuple[str, str], Any] = {}
    if given.label_dir is not None:
        from trilho_runtime.prediction.log import LineLog
        from trilho_runtime.protocols.labelling import Labelling

        labels = LineLog(given.label_dir, fsync=given.fsync)
        more |= Labelling(labels, classes=lambda: predictions.ready().predictor.outputs.classes).routes()
    routes = [*predictions.routes(), *more, ("GET", "/openapi.json"), ("GET", "/docs")]
    hidden = () if allowed.mask is None else tuple(allowed.mask.rules)
    told = Served(
        routes, keys=bool(given.api_key), tokens=bool(given.audience), max_rows=given.max_rows, hidden=hidden,
        refuse_extra=given.extra_fields == "refuse",
    )  # fmt: skip
    more |= OpenApi(predictions, told).routes()
    return predictions.app(
        more, guard=allowed.access, notes=RequestNotes(given.requests), max_body=given.max_body, traces=_traces(given)
    )


def _traces(given: argparse.Namespace) -> Traces | None:
    """Give where traces go; nothing of them is imported where the environment names no collector."""
    if not os.environ.get("TRILHO_TRACES"):
        return None
    from trilho_runtime.web.tracing import open_traces

    return open_traces("trilho-server", model=given.name)


def _rules(given: argparse.Namespace) -> FollowedRules | None:
    if given.decision is None:
        return None
    from trilho_runtime.serving.rules import FollowedRules

    return FollowedRules(given.decision)


def _topic(given: argparse.Namespace) -> Topic | None:
    """Give where requests are published to. Raises CannotStart for what names no topic."""
    if not given.topic:
        return None
    from trilho_runtime.prediction.publish import Publisher
    from trilho_runtime.serving.topic import Topic
    from trilho_runtime.web.service import CannotStart

    try:
        publisher = Publisher(given.topic)
    except ValueError as error:
        raise CannotStart(str(error), "--topic projects/PROJECT/topics/NAME", 2) from None
    return Topic(publisher, given.platform.endpoint if given.platform is not None else "")


def _pushes(given: argparse.Namespace) -> tuple[Path | None, list[Push]]:
    """Give where the live profile goes. Raises CannotStart for what is no such place."""
    from trilho_runtime.web.service import CannotStart

    if not given.profile_topic and not isinstance(given.profiles, str):
        return given.profiles, []
    from trilho_runtime.serving.profiles import open_pushes

    try:
        return open_pushes(given.profiles, given.profile_topic)
    except ValueError as error:
        hint = "--profiles DIR or gs://BUCKET/PATH, --profile-topic projects/PROJECT/topics/NAME"
        raise CannotStart(str(error), hint, 2) from None


def _lookup(given: argparse.Namespace) -> Lookup | None:
    if given.history is None:
        return None
    from trilho_runtime.serving.lookup import Lookup

    return Lookup.in_file(given.history)


async def _join(channel: int | None, predictions: PredictionApp) -> Member | None:
    """Join the other workers, where this is one of several."""
    if channel is None:
        return None
    from trilho_runtime.processes.worker import join

    return await join(channel, predictions)


def _load(
    given: argparse.Namespace,
    predictions: PredictionApp,
    service: Service,
    member: Member | None,
    rules: FollowedRules | None,
) -> None:
    """Load the model, then let it answer; a server without one ends."""
    from trilho_runtime.package import PackageError
    from trilho_runtime.processes.download import DownloadError
    from trilho_runtime.web.http import note

    code = 1
    try:
        _start(given, predictions, rules)
        if member is not None:
            member.ready()
        return
    except PackageError as error:
        note(str(error))
    except DownloadError as error:
        note(str(error))
        code = error.exit_code
    except BaseException:  # noqa: BLE001  whatever it was, a server that never gets ready must not stay
        note(traceback.format_exc())
    if member is not None:
        member.failed()
    service.stop_soon(exit_code=code)


def _start(given: argparse.Namespace, predictions: PredictionApp, rules: FollowedRules | None) -> None:
    from trilho_runtime.processes.storage import local
    from trilho_runtime.serving.loaded import live_profile, load_model
    from trilho_runtime.web.memory import keep_memory

    model = load_model(local(given.package), given.digest, given.trust)
    if rules is not None:
        rules.look()
    elif model.package.manifest.get("decision"):
        from trilho_runtime.serving.rules import packaged_rule

        predictions.decide_by(packaged_rule(model.package))
    predictions.live = live_profile(model, given.version, given.profiles, given.pushes)
    predictions.model = model
    gc.collect()
    gc.set_threshold(GARBAGE)
    gc.freeze()  # what was loaded stays: a collector that looks through it again and again holds requests up
    keep_memory()


if __name__ == "__main__":
    sys.exit(main())
