"""The process that stands for a deployed model's container: its command, with what Vertex AI sets in its environment.

The command runs on this machine with the interpreter that `places` names for the image, and must listen on
AIP_HTTP_PORT, which is another port for each container; one that has the model's declared port instead is found there
where nothing else had it. AIP_STORAGE_URI is a folder of this machine. A container that ends is not started again: its
predictions are UNAVAILABLE. Machine types, accelerators, replicas, liveness probes and gRPC ports are accepted and mean
nothing.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trilho.errors import TrilhoError
from trilho.pipeline.places import Place, Places
from trilho.pipeline.workers.keeper import Keeper, exit_words

LOOK_SECONDS = 0.03
PREDICT_SECONDS = 60.0
STOP_SECONDS = 15.0
LAST_LINES = 15
REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_]\w*)\)")


class Container:
    """A server's process, from its start to its end; it and all it started end with the emulator, however that ends."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        places: Places,
        place: Place | None,
        environment: Mapping[str, str],
        routes: tuple[str, str],
        log: Path,
        declared: int = 0,
    ) -> None:
        """`declared` is the port that the model says its server has: it is looked at too where it is free now."""
        self.port, self.log = _free_port(), log
        self._ports = [self.port, *([declared] if declared and _is_free(declared) else [])]
        self.health, self.predict = routes
        self.ended: str | None = None
        own = {**environment, "AIP_HTTP_PORT": str(self.port), "AIP_HEALTH_ROUTE": routes[0]}
        self._given = {**own, "AIP_PREDICT_ROUTE": routes[1]}
        self._words = [expand(word, self._given) for word in command]
        self._environment = {**_surroundings(places, place), **places.environment, **self._given}
        self._folder = place.source if place is not None and place.source is not None else log.parent
        self._keeper = Keeper(places.platform, folder=log.parent, preload=())
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"container-{self.port}")

    def start(self) -> None:
        """Start it; `ready` waits for it."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._thread.start()

    def _run(self) -> None:
        if self._stopped.is_set():
            self.ended = "stopped before it began"
            return
        try:
            ended = self._keeper.run_command(
                self._words, environment=self._environment, folder=self._folder, log=self.log
            )
            self.ended = exit_words(ended.code)
        except TrilhoError as error:
            self.ended = error.fact

    def ready(self, timeout_seconds: float) -> str | None:
        """Wait until its health route says 200; give what is wrong when it never does, else None."""
        end = time.monotonic() + timeout_seconds
        while time.monotonic() < end:
            if self.ended is not None:
                return f"Model server exited unexpectedly ({self.ended}). {self.said()}".rstrip()
            for port in self._ports:
                self.port = port
                with contextlib.suppress(OSError, http.client.HTTPException):
                    if self.request("GET", self.health, timeout_seconds=5.0)[0] == 200:
                        return None
            time.sleep(LOOK_SECONDS)
        where = f"GET {self.health} on port {self._ports[0]} (AIP_HTTP_PORT)"
        return f"Model server never became ready: {where} did not answer 200 in {timeout_seconds:.0f} s. {self.said()}"

    def request(
        self,
        method: str,
        route: str,
        body: bytes | None = None,
        content_type: str = "application/json",
        timeout_seconds: float = PREDICT_SECONDS,
    ) -> tuple[int, bytes, str]:
        """Send an HTTP request; give status, body and content type. Raises OSError or HTTPException."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_seconds)
        try:
            connection.request(method, route, body, {"Content-Type": content_type} if body is not None else {})
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers.get("Content-Type", "")
        finally:
            connection.close()

    def said(self) -> str:
        """Give the last lines of its log."""
        with contextlib.suppress(OSError):
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
            return "Its last lines:\n" + "\n".join(lines) if lines else ""
        return ""

    def stop(self) -> None:
        """End it and all it started, also while it is being started."""
        self._stopped.set()
        self._keeper.close()
        end = time.monotonic() + STOP_SECONDS
        while self._thread.is_alive() and time.monotonic() < end:
            self._thread.join(LOOK_SECONDS)
            self._keeper.close()  # of a thread that was about to start it


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Expand $(NAME) as Kubernetes does: `$$` is `$`, and what is unknown stays.

    >>> expand("--port=$(PORT) $$(PORT) $(NO)", {"PORT": "1"})
    '--port=1 $(PORT) $(NO)'
    """
    return REFERENCE.sub(lambda found: "$" if found[0] == "$$" else variables.get(found[1], found[0]), text)


def variables_of(pairs: Sequence[Any], known: Mapping[str, str]) -> dict[str, str]:
    """Give a container's variables; later ones may refer to those before."""
    found: dict[str, str] = {}
    for pair in pairs:
        found[pair.name] = expand(pair.value, {**known, **found})
    return found


def _surroundings(places: Places, place: Place | None) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("TRILHO_", "AIP_", "PYTHON"))}
    kept["PYTHONUNBUFFERED"] = "1"
    if place is None:
        return kept
    if place.source is not None:
        kept["PYTHONPATH"] = str(place.source)
    return {**kept, "PATH": f"{place.python.parent}{os.pathsep}{kept.get('PATH', os.defpath)}"}


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port
