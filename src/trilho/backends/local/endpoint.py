"""An endpoint on this machine: the container's own program, as Vertex AI or Cloud Run would run it.

It is told its routes in a file, which it follows while it runs; nothing restarts when traffic moves. The endpoint of a
project on this machine is the supervisor's (`trilho.serve`), which follows the journal; this one follows its caller.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trilho.core.capabilities import ROUTER, Capabilities
from trilho.core.files import write_whole
from trilho.core.ports import Answer, NotFound, Served, ServedPackage, ServedState, Split
from trilho.errors import NotYet, Refused, TrilhoError, Unreachable, UsageError

READY_SECONDS = 120.0
LOOK_SECONDS = 0.05
ASK_SECONDS = 60.0
STOP_SECONDS = 20.0
FAILED_STARTS = 3
LAST_LINES = 15


class LocalEndpoint:
    """The Endpoint port on this machine; all it knows lies in its folder."""

    def __init__(
        self, folder: Path, *, python: Path, model: str, env: Mapping[str, str] | None = None, port: int = 0
    ) -> None:
        self.folder, self.python, self.model, self._env, self._port = folder, python, model, dict(env or {}), port

    @property
    def capabilities(self) -> Capabilities:
        """What its traffic can be asked to do."""
        return ROUTER

    def deploy(self, served: ServedPackage) -> None:
        """Start a version's process, and wait until it is ready."""
        with self._changing() as held:
            held["versions"][str(served.version)] = str(served.package)
        self._keep_running()
        end = time.monotonic() + READY_SECONDS
        while not self._ready(served.version):
            words = self._words(served.version)
            if words is not None or time.monotonic() > end:
                said = f"\n{words}" if words else ""
                with self._changing() as held:
                    del held["versions"][str(served.version)]
                self._stop_idle()
                raise TrilhoError(
                    f"deploying version {served.version} of {self.model}: its server never became ready{said}",
                    hint=f"look at it alone: trilho serve {served.package}",
                )
            time.sleep(LOOK_SECONDS)

    def route(self, split: Split) -> None:
        """Let the versions of a split answer."""
        with self._changing() as held:
            missing = [str(version) for version in split.versions if str(version) not in held["versions"]]
            if missing:
                raise NotFound(
                    f"version {', '.join(missing)} of {self.model} is not deployed in {self.folder}",
                    hint="deploy it first",
                )
            before = (held["split"] or {}).get("position") or 0
            if split.position is not None and split.position < before:
                told = f"follows a decision of the journal's record {before}; this one is of {split.position}"
                raise Refused(
                    f"{self.folder} {told}",
                    hint="look again what serves: trilho rollout",
                )
            held["split"] = {**_written(split), "position": split.position if split.position is not None else before}
        self._keep_running()
        self._until_followed(split)

    def status(self) -> Served:
        """Say what is there."""
        held = self._held()
        versions: dict[int, ServedState] = {}
        for number in sorted(map(int, held["versions"])):
            failed = not self._ready(number) and self._words(number) is not None
            versions[number] = "ready" if self._ready(number) else "failed" if failed else "starting"
        split = _read(held["split"]) if held["split"] else None
        return Served(versions=versions, split=split, address=self._address(held) if versions else None)

    def predict(self, rows: Sequence[Any]) -> Answer:
        """Ask as a caller would."""
        held = self._held()
        if not held["split"]:
            raise NotYet(f"no version of {self.model} gets traffic", hint="release a version first: trilho release")
        status, body = self._request(held["port"], "POST", "/predict", {"instances": list(rows)})
        if status in (400, 413, 422):
            raise UsageError(f"{self.model} refused the rows: {body.decode(errors='replace')}", hint="correct the rows")
        if status != 200:
            raise Unreachable(f"{self._address(held)} answered {status}: {body.decode(errors='replace')[:300]}")
        answer = json.loads(body)
        return Answer(predictions=answer["predictions"], version=int(answer["version"]))

    def undeploy(self, version: int) -> None:
        """End a version's process."""
        with self._changing() as held:
            if str(version) not in held["versions"]:
                return
            split = _read(held["split"]) if held["split"] else None
            if split is not None and version in split.versions and len(held["versions"]) > 1:
                share = split.shares.get(version, 0)
                raise Refused(
                    f"version {version} of {self.model} gets {share}% of the traffic",
                    hint="give its share to another version first",
                )
            del held["versions"][str(version)]
            if not held["versions"]:
                held["split"] = None
        self._stop_idle()

    def stop(self) -> None:
        """End all processes; what is deployed is kept, and comes back with the next change."""
        held = self._held()
        if not held["pid"] or not self._alive(held):
            return
        os.killpg(held["pid"], signal.SIGTERM)
        end = time.monotonic() + STOP_SECONDS
        while self._alive(held) and time.monotonic() < end:
            time.sleep(LOOK_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(held["pid"], signal.SIGKILL)

    # ---- what is kept ----

    def _held(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.folder / "deployed.json").read_bytes())
        except (OSError, ValueError):
            found = {}
        return {"versions": {}, "split": None, "pid": 0, "port": self._port, **found}

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, Any]]:
        """Give what is kept, to be changed by one at a time, and write it and the routes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            held = self._held()
            yield held
            if held["versions"]:
                write_whole(self.folder / "routes.json", json.dumps(_routes(held, self.model)))
            write_whole(self.folder / "deployed.json", json.dumps(held))

    # ---- the process ----

    def _keep_running(self) -> None:
        with self._changing() as held:
            if not held["versions"] or self._alive(held):
                return
            held["port"] = held["port"] or _free_port()
            held["pid"] = self._start(held["port"])

    def _start(self, port: int) -> int:
        inner = self.folder / "container"
        inner.mkdir(exist_ok=True)
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("TRILHO_", "AIP_", "PYTHON"))}
        own = {"TRILHO_HOST": "127.0.0.1", "PORT": str(port), "TMPDIR": str(inner)}
        routes = {"TRILHO_ROUTES": str(self.folder / "routes.json"), "TRILHO_NAME": self.model}
        with (self.folder / "container.log").open("wb") as log:
            process = subprocess.Popen(
                [str(self.python), "-m", "trilho_runtime.container"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**kept, **self._env, **own, **routes},
                start_new_session=True,
            )
        return process.pid

    def _alive(self, held: Mapping[str, Any]) -> bool:
        """Say whether the container's process is there, and no zombie of ours."""
        if not held["pid"]:
            return False
        with contextlib.suppress(ChildProcessError):
            os.waitpid(held["pid"], os.WNOHANG)
        try:
            os.kill(held["pid"], 0)
        except ProcessLookupError:
            return False
        return True

    def _stop_idle(self) -> None:
        if not self._held()["versions"]:
            self.stop()

    def _ready(self, version: int) -> bool:
        """Say whether a version's own server answers: it says where in the container's folder once it is."""
        for path in (self.folder / "container").glob(f"trilho-*/v{version}.ready.json"):
            with contextlib.suppress(OSError, ValueError, KeyError):
                told = json.loads(path.read_bytes())
                port = int(str(told["address"]).rpartition(":")[2])
                if self._request(port, "GET", "/health")[0] == 200:
                    return True
        return False

    def _words(self, version: int) -> str | None:
        """Give the last lines of the container where a version has failed to start again and again, else None."""
        with contextlib.suppress(OSError):
            text = (self.folder / "container.log").read_text(encoding="utf-8", errors="replace")
            if text.count(f"v{version} ended with") >= FAILED_STARTS or not self._alive(self._held()):
                return "\n".join(text.splitlines()[-LAST_LINES:])
        return None

    def _until_followed(self, split: Split) -> None:
        """Wait until the router shares as it was told to."""
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            with contextlib.suppress(OSError, ValueError, KeyError, http.client.HTTPException):
                told = json.loads(self._request(self._held()["port"], "GET", "/")[1])["versions"]
                if {int(item["version"]): round(item["share"]) for item in told if item["share"]} == dict(split.shares):
                    return
            time.sleep(LOOK_SECONDS)
        raise Unreachable(f"{self._address(self._held())} does not follow its routes", hint="try again")

    def _address(self, held: Mapping[str, Any]) -> str:
        return f"http://127.0.0.1:{held['port']}"

    def _request(self, port: int, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ASK_SECONDS)
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def _routes(held: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Give the routes of what is kept; before anything gets traffic they name the first version, which is not told."""
    split = _read(held["split"]) if held["split"] else None
    shares = dict(split.shares) if split is not None else {int(next(iter(held["versions"]))): 100}
    versions = [
        {"version": int(number), "share": shares.get(int(number), 0), "package": package}
        for number, package in held["versions"].items()
    ]
    routes: dict[str, Any] = {
        "model": model,
        "champion": max(shares, key=lambda number: shares[number]),
        "versions": versions,
    }
    if split is not None and split.sticky:
        routes["sticky"] = split.sticky
    if split is not None and split.shadow is not None:
        routes["shadow"] = {
            "version": split.shadow,
            "share": split.shadow_share,
            "package": held["versions"][str(split.shadow)],
        }
    return routes


def _written(split: Split) -> dict[str, Any]:
    return {
        "shares": {str(version): share for version, share in split.shares.items()},
        "shadow": split.shadow,
        "shadow_share": split.shadow_share,
        "sticky": split.sticky,
    }


def _read(told: Mapping[str, Any]) -> Split:
    return Split(
        shares={int(version): int(share) for version, share in told["shares"].items()},
        shadow=told["shadow"],
        shadow_share=told["shadow_share"],
        sticky=told["sticky"],
        position=told["position"] or None,
    )


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port
