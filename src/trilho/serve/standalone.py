"""One package served by itself, without a project: a server process that ends when this one does."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trilho.errors import DataError, PackageError, TrilhoError, Unreachable
from trilho.serve.endpoint import read_json
from trilho.serve.process import get

LOOK_SECONDS = 0.05
END_SECONDS = 15.0


def bring(package: str) -> Path:
    """Give a package's folder here, fetched from its storage if need be. Raises Unreachable, safe to retry."""
    from trilho_runtime.package import PackageError as Broken
    from trilho_runtime.package import open_package
    from trilho_runtime.processes.download import DownloadError
    from trilho_runtime.processes.storage import local

    try:
        folder = local(package)
        open_package(folder)
    except DownloadError as error:
        kind = {5: Unreachable}.get(error.exit_code, DataError)
        raise kind(error.fact, hint=error.hint) from None
    except Broken as error:
        raise PackageError(str(error), hint="take the package from where it was written again") from None
    return folder


@dataclass(frozen=True)
class Options:
    """How a package is to be served."""

    port: int = 0
    host: str = "127.0.0.1"
    version: int = 1
    workers: int = 1
    log: Path | None = None
    more: Sequence[str] = field(default_factory=list)

    def command(self, python: Path, package: Path, ready_file: Path, pipe: int) -> list[str]:
        """Give the server's command line."""
        module = ["server"] if self.workers == 1 else ["workers", "--workers", str(self.workers)]
        log = self.log
        kept = [] if log is None else ["--log", str(log / "predictions"), "--label-dir", str(log / "labels")]
        kept += [] if log is None else ["--profiles", str(log / "profiles")]
        return [
            *(str(python), "-m", f"trilho_runtime.{module[0]}", *module[1:], str(package)),
            *("--version", str(self.version), "--host", self.host, "--port", str(self.port), *kept, *self.more),
            *("--ready-file", str(ready_file), "--parent-pipe", str(pipe)),
        ]


class Server:
    """The server process of one package."""

    def __init__(self, python: Path, package: Path, options: Options) -> None:
        self._package = package
        self._folder = tempfile.TemporaryDirectory(prefix="trilho-serve-")
        self._ready_file = Path(self._folder.name) / "ready.json"
        reads, self._ours = os.pipe()  # the server ends when our end closes, whatever becomes of this process
        env = {name: value for name, value in os.environ.items() if not name.startswith("AIP_")}
        self._process = subprocess.Popen(
            options.command(python, package, self._ready_file, reads),
            stdin=subprocess.DEVNULL, stdout=sys.stderr, stderr=subprocess.PIPE, pass_fds=(reads,),
            start_new_session=True, env={**env, "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        os.close(reads)
        self._last = ""
        self._reader = threading.Thread(target=self._pass_on, daemon=True)
        self._reader.start()

    def wait_until_ready(self, stop: threading.Event) -> dict[str, Any] | None:
        """Give the address and what the server says of itself; None when told to stop. Raises when it ends before."""
        while not stop.wait(LOOK_SECONDS):
            if self._process.poll() is not None:
                self._raise_end()
            found = read_json(self._ready_file)
            body = get(found["address"], "/") if found is not None and found.get("pid") == self._process.pid else None
            if found is not None and body is not None:
                return {**json.loads(body), "address": found["address"], "pid": found["pid"]}
            if found is not None and get(found["address"], "/health") is not None:  # / is for callers with a key
                return {"address": found["address"], "pid": found["pid"]}
        return None

    def wait(self, stop: threading.Event) -> int:
        """Wait until told to stop, or until the server ends by itself; give its exit code."""
        while not stop.wait(LOOK_SECONDS):
            code = self._process.poll()
            if code is not None:
                return code
        return self.end()

    def end(self) -> int:
        """Let the server finish what it has under way, and give its exit code."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._ours)
        self._reader.join(1.0)
        self._folder.cleanup()
        return self._process.returncode

    def _raise_end(self) -> None:
        self._reader.join(1.0)
        code = self._process.returncode
        said = f": {self._last}" if self._last else ""
        error = Unreachable if code == 5 else TrilhoError
        raise error(f"the server of {self._package} ended with exit code {code}{said}", hint="its own words are above")

    def _pass_on(self) -> None:
        stream = self._process.stderr
        assert stream is not None
        with contextlib.suppress(OSError, ValueError):
            for line in stream:
                text = line.decode(errors="replace")
                self._last = text.strip() if text.strip() and not text.startswith("Hint:") else self._last
                sys.stderr.write(text)
                sys.stderr.flush()


def example(package: Path, address: str, headers: Sequence[str] = ()) -> str:
    """Give a command that asks for a prediction of one row, which the package itself holds."""
    sample: Mapping[str, Any] = read_json(package / "sample.json") or {}
    rows = list(sample.get("rows") or [])[:1]
    body = json.dumps({"instances": rows}, ensure_ascii=False)
    shown = "".join(f" -H {shlex.quote(header)}" for header in headers)
    return f"curl -s {address}/predict{shown} -d {shlex.quote(body)}"
