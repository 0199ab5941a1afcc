"""Pub/Sub: Google's own emulator, where it is installed, as a child that ends with this process however it ends."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from trilho.errors import Unreachable

READY_SECONDS = 60.0
STOP_SECONDS = 5.0
FOLDER = "platform/pubsub-emulator/lib"
# The shell reads its input until that ends, which it does when the emulator's process does, and then ends the child.
WATCH = '"$@" </dev/null & child=$!; trap "" INT; read -r _; kill "$child" 2>/dev/null; wait "$child"'


def find_jar(roots: Iterable[Path] | None = None) -> Path | None:
    """Give the emulator's jar of the Google Cloud SDK that is installed here, None where there is none."""
    for root in _sdk_roots() if roots is None else roots:
        found = sorted((root / FOLDER).glob("cloud-pubsub-emulator-*-all.jar"))
        if found:
            return found[-1]
    return None


def _sdk_roots() -> list[Path]:
    named = [Path(value) for name in ("CLOUDSDK_ROOT_DIR", "GCLOUD_SDK") if (value := os.environ.get(name))]
    program = shutil.which("gcloud")
    beside = [Path(program).resolve().parents[1]] if program else []
    return [*named, *beside, Path("/usr/lib/google-cloud-sdk"), Path.home() / "google-cloud-sdk"]


class PubSub:
    """Google's Pub/Sub emulator while it runs."""

    def __init__(self, jar: Path, folder: Path, port: int = 0) -> None:
        self._words = [shutil.which("java") or "java", "-jar", str(jar), "--host=127.0.0.1"]
        self.port = port or _free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._log = folder / "pubsub.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; `wait` says when it answers."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", WATCH, "pubsub", *self._words, f"--port={self.port}"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Wait until it answers. Raises Unreachable when it does not."""
        until = time.monotonic() + READY_SECONDS
        while time.monotonic() < until:
            if self._answers():
                return
            if self._process is None or self._process.poll() is not None or self._has_ended():
                break
            time.sleep(0.05)
        said = self._log.read_text(errors="replace").strip().splitlines()
        raise Unreachable(
            f"Google's Pub/Sub emulator does not answer at {self.address}: {said[-1] if said else 'it is silent'}",
            hint=f"what it printed is in {self._log}",
        )

    def stop(self) -> None:
        """End it and wait until it has ended."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False

    def _has_ended(self) -> bool:
        return b"Exception in thread" in self._log.read_bytes()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
