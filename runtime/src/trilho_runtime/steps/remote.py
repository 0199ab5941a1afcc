"""A step where a service runs it: what was done before is found beside the artifacts, and how it ended is left there.

    ROOT/cache/FINGERPRINT.json   what a step left: written last and whole, so that it never names half of a result
    ROOT/runs/RUN/TASK.json       how a task of a run ended, for whoever follows it

The service's own cache knows an image's name and not what is in it, so it stays off; the step itself looks here when
it starts. The artifact store is reached as files, through the mount that the service gives to every container.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from trilho_runtime.steps.artifact import Artifact
from trilho_runtime.steps.digest import digest_json, digest_path
from trilho_runtime.steps.fingerprint import libraries_digest, step_fingerprint

SCHEMA = 1
DIGEST = "trilho_digest"  # in an artifact's metadata: what hashing it would give
NAMES = ("TRILHO_CODE", "TRILHO_UNCOUNTED")


def is_mounted(root: str) -> bool:
    """Say whether a store's files can be reached from here: its kind of URI has a mount.

    >>> is_mounted("gs://bucket/root"), is_mounted("https://bucket/root"), is_mounted("/tmp/root")
    (True, False, False)
    """
    return "://" in root and Artifact("root", root).path != Path(root)


@dataclass
class RemoteStep:
    """One execution of a step by a service."""

    reference: str
    request: Mapping[str, Any]
    root: str
    run: str
    task: str
    source: Path | None = None
    cache: bool = True
    _begun: float = field(default_factory=time.monotonic)

    def perform(self, call: Callable[[], int]) -> int:
        """Give the step's exit code, without calling it where the store has its result already.

        `call` runs the step, says what went wrong, and leaves the executor output.
        """
        known = self._known() if self.cache else None
        if known is not None:
            self._answer(known["outputs"], known["values"])
            self._record("cached", known["outputs"], known["values"], since=known["run"])
            print(f"step {self.reference}: unchanged since {known['run']}")  # noqa: T201
            return 0
        code = call()
        if code != 0:
            error = self._error(code)
            self._record("failed", said=error.pop("said"), error=error)
            return code
        outputs, values = self._finish()
        if self.cache:
            self._write(self._kept, {"task": self.task, "run": self.run, "outputs": outputs, "values": values})
        self._record("ran", outputs, values)
        return 0

    @cached_property
    def fingerprint(self) -> str:
        """Give what the step's result depends on, as it is known where the step runs."""
        code, uncounted = (tuple(filter(None, os.environ.get(name, "").split(","))) for name in NAMES)
        version = os.environ.get("TRILHO_VERSION", "")
        inputs = self.request.get("inputs") or {}  # a service leaves out what is empty
        given = inputs.get("artifacts", {})
        return step_fingerprint(
            self.reference,
            inputs.get("parameterValues", {}),
            {name: [digest_of(x) for x in artifacts["artifacts"]] for name, artifacts in given.items()},
            self._outputs,
            code=code,
            uncounted=uncounted,
            source=self.source,
            libraries="" if version else libraries_digest(),
            version=version,
        )

    @property
    def _outputs(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.request["outputs"].get("artifacts", {})
        return found

    @property
    def _kept(self) -> Path:
        return Artifact("cache", f"{self.root.rstrip('/')}/cache/{self.fingerprint}.json").path

    def _known(self) -> dict[str, Any] | None:
        """Read what an earlier run left, if all of it is there."""
        try:
            found = json.loads(self._kept.read_text(encoding="utf-8"))
            outputs, values, run = dict(found["outputs"]), dict(found["values"]), str(found["run"])
            whole = found["schema"] == SCHEMA and all(
                not output["stored"] or Artifact(name, output["uri"]).path.exists() for name, output in outputs.items()
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return (
            {"outputs": outputs, "values": values, "run": run} if whole and set(outputs) == set(self._outputs) else None
        )

    def _finish(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Name what the step left by content, in its executor output too, so that no later step hashes it again."""
        told = json.loads(self._output_file.read_text(encoding="utf-8"))
        outputs = {}
        for name, artifacts in told.get("artifacts", {}).items():
            artifact = artifacts["artifacts"][0]
            metadata = {key: value for key, value in (artifact.get("metadata") or {}).items() if key != DIGEST}
            digest, stored = _digest(artifact["uri"], metadata)
            outputs[name] = {"uri": artifact["uri"], "digest": digest, "stored": stored, "metadata": metadata}
        values = dict(told.get("parameterValues", {}))
        self._answer(outputs, values)
        return outputs, values

    def _answer(self, outputs: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        artifacts = {}
        for name, output in outputs.items():
            asked = self._outputs.get(name, {}).get("artifacts", [{}])[0]
            metadata = {**output["metadata"], DIGEST: output["digest"]}
            artifacts[name] = {"artifacts": [{**asked, "uri": output["uri"], "metadata": metadata}]}
        _write_whole(self._output_file, {"parameterValues": values, "artifacts": artifacts})

    @property
    def _output_file(self) -> Path:
        return Path(self.request["outputs"]["outputFile"])

    def _error(self, code: int) -> dict[str, Any]:
        """Give what the step wrote of its failure, with its traceback as `said`."""
        try:
            found = json.loads(Path(f"{self._output_file}.error.json").read_text(encoding="utf-8"))
            return {key: found[key] for key in ("kind", "fact", "hint", "exit_code", "said")}
        except (OSError, ValueError, KeyError, TypeError):
            return {"kind": "StepFailed", "fact": f"exit {code}", "hint": None, "exit_code": code, "said": []}

    def _record(
        self, state: str, outputs: Mapping[str, Any] | None = None, values: Mapping[str, Any] | None = None, **more: Any
    ) -> None:
        shown = {name: {"uri": x["uri"], "digest": x["digest"]} for name, x in (outputs or {}).items()}
        record = {
            "task": self.task,
            "state": state,
            "fingerprint": self.fingerprint if self.cache else None,
            "seconds": round(time.monotonic() - self._begun, 4),
            "outputs": shown,
            "values": values or {},
            **more,
        }
        self._write(Artifact("record", f"{self.root.rstrip('/')}/runs/{self.run}/{self.task}.json").path, record)

    def _write(self, path: Path, content: Mapping[str, Any]) -> None:
        """Write beside the artifacts; where that is not allowed the step goes on, and will not be found unchanged."""
        try:
            _write_whole(path, {"schema": SCHEMA, **content})
        except OSError as error:
            print(f"step {self.reference}: {path} cannot be written: {error.strerror}", file=sys.stderr)  # noqa: T201


def digest_of(artifact: Mapping[str, Any]) -> str:
    """Give an input artifact's digest; one that a step of ours wrote carries it."""
    metadata = artifact.get("metadata") or {}
    return str(metadata[DIGEST]) if DIGEST in metadata else _digest(artifact["uri"], metadata)[0]


def _digest(uri: str, metadata: Mapping[str, Any]) -> tuple[str, bool]:
    """Give the digest of what lies under a URI and whether anything does; else what is known of it is all there is."""
    path = Artifact("artifact", uri).path
    return (
        (digest_path(path), True) if path.exists() else (digest_json([uri.rpartition("/")[2], dict(metadata)]), False)
    )


def _write_whole(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        draft.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
