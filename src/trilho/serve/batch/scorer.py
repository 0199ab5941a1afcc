"""The process that predicts: the project's interpreter with one package, asked for one part after the other."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from trilho.errors import DataError, TrilhoError

ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}


class ScorerError(TrilhoError):
    """The model cannot be loaded, or fails on rows of the right types."""


class Scorer:
    """A model in a process of its own; it ends with this one, however that ends."""

    def __init__(
        self, python: Path, package: Path, digest: str | None, decision: Path | None, history: Path | None = None
    ) -> None:
        command = [str(python), "-m", "trilho_runtime.scorer", str(package.resolve())]
        command += ["--digest", digest] if digest else []
        command += ["--decision", str(decision.resolve())] if decision else []
        command += ["--history", str(history.resolve())] if history else []
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**os.environ, **ONE_THREAD, "PYTHONDONTWRITEBYTECODE": "1"},
            text=True,
        )
        told = self._read()
        self.path: str = told["path"]
        self.why: str = told["why"]
        self.fields: Sequence[Mapping[str, Any]] = told["fields"]

    def score(self, folder: Path) -> Mapping[str, Any]:
        """Have the part in a folder predicted. Raises DataError for a wrong value, ScorerError when the
        model fails, OSError when its predictions cannot be written."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"folder": str(folder)}) + "\n")
            self._process.stdin.flush()
        except OSError:
            self._read()  # says why it is gone
        told = self._read()
        if "field" in told:
            raise DataError(told["error"], hint="the table breaks the model's signature: see `trilho models show`")
        if told.get("disk"):
            raise OSError(told["error"])
        if "error" in told:
            raise ScorerError(
                f"the model failed: {told['error']}", hint="the same rows, asked at the endpoint, fail too"
            )
        return told

    def close(self) -> None:
        """End the process and what it holds."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._said.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return dict(json.loads(line))
        code = self._process.wait()
        raise ScorerError(f"the model's process ended with exit code {code}: {self._last_words()}", hint=_hint(code))

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "it wrote nothing")


class Scorers:
    """Models' processes, each started when it is first needed and kept until the end of a block."""

    def __init__(self, start: Callable[[int], Scorer]) -> None:
        self._start = start
        self._running: dict[int, Scorer] = {}

    def __enter__(self) -> Scorers:
        """Use them until the end of a block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End them all."""
        for scorer in self._running.values():
            scorer.close()

    def of(self, version: int) -> Scorer:
        """Give a version's process."""
        if version not in self._running:
            self._running[version] = self._start(version)
        return self._running[version]


def _hint(code: int) -> str:
    if code == -9:
        return "it was killed, perhaps for want of memory: give the machine more, or --part-rows fewer"
    return "look at the package with `trilho models show`, and at the project's own interpreter"
