"""What a container is told and what it tells: executor input and executor output, as KFP v2 has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trilho.pipeline.execution.fingerprint import step_of
from trilho.pipeline.execution.outcome import Asked
from trilho.pipeline.ir.reader import Container
from trilho.pipeline.ir.values import ValueMismatch, coerced, from_old, is_json, read_text, shown, to_old
from trilho.pipeline.keeping.artifacts import Artifact, Artifacts, Keeping


@dataclass(frozen=True)
class Exchange:
    """One execution's side of the contract; `scratch` is where it writes what is not told otherwise."""

    asked: Asked
    container: Container
    scratch: Path
    keeping: Keeping
    folder: str | None
    """The URI of the folder that its artifacts stay in, where they do not go to the store."""

    @property
    def is_ours(self) -> bool:
        """Whether it is a step of trilho's."""
        return step_of(self.container) is not None

    @property
    def output_file(self) -> Path:
        """Where the executor output is written."""
        return self.scratch / "executor_output.json"

    def request(self, schema_version: str) -> dict[str, Any]:
        """Give the executor input, and make the folders that outputs are written to."""
        component = self.asked.component
        given = self.asked.parameters
        values = {name: value for name, value in given.items() if name in component.inputs or not self.is_ours}
        artifacts = {name: {"artifacts": [self._entry(x) for x in xs]} for name, xs in self.asked.artifacts.items()}
        inputs: dict[str, Any] = {"parameterValues": values, "artifacts": artifacts}
        if schema_version == "2.0.0":
            inputs["parameters"] = {name: to_old(value) for name, value in values.items()}
        self._parameter("").mkdir()
        wanted = {name: self._wanted(name) for name in component.artifact_outputs}
        for path in filter(None, map(self.keeping.local, wanted.values())):
            path.parent.mkdir(parents=True, exist_ok=True)
        outputs = {
            "outputFile": str(self.output_file),
            "parameters": {name: {"outputFile": str(self._parameter(name))} for name in component.outputs},
            "artifacts": {name: {"artifacts": [self._entry(one)]} for name, one in wanted.items()},
        }
        return {"inputs": inputs, "outputs": outputs}

    def told(self) -> dict[str, Any] | None:
        """Read the executor output; None where there is none."""
        try:
            found = json.loads(self.output_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise ValueMismatch(f"its executor output is no JSON: {error}") from None
        return dict(found) if isinstance(found, Mapping) else {}

    def values(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """Give the output values, from the executor output or else from the file that each may be written to."""
        given = {name: from_old(value) for name, value in dict(told.get("parameters") or {}).items()}
        given |= dict(told.get("parameterValues") or {})
        found: dict[str, Any] = {}
        for name, kind in self.asked.component.outputs.items():
            file = self._parameter(name)
            try:
                if name in given:
                    found[name] = None if given[name] is None else coerced(given[name], kind)
                elif file.exists():
                    found[name] = read_text(file.read_text(encoding="utf-8"), kind)
                else:
                    raise ValueMismatch("it was not written")
                if not is_json(found[name]):
                    raise ValueMismatch(f"{shown(found[name])} is or holds NaN or an infinity, which JSON has not")
            except ValueError as error:
                raise ValueMismatch(f"its output {name}: {error}") from None
        return found

    def artifacts(self, told: Mapping[str, Any]) -> Artifacts:
        """Take over the output artifacts."""
        said = dict(told.get("artifacts") or {})
        found: dict[str, tuple[Artifact, ...]] = {}
        for name, output in self.asked.component.artifact_outputs.items():
            listed = list(dict(said.get(name) or {}).get("artifacts") or [{}])
            wanted, several = self._wanted(name), listed if output.is_list else listed[:1]
            found[name] = tuple(self.keeping.take(wanted, one, self.scratch) for one in several)
        return found

    def _parameter(self, name: str) -> Path:
        return self.scratch / "parameters" / name

    def _wanted(self, name: str) -> Artifact:
        output = self.asked.component.artifact_outputs[name]
        uri = str(self.scratch / "artifacts" / name / name) if self.folder is None else f"{self.folder}/{name}"
        return Artifact(name, uri, output.schema, output.metadata)

    def _entry(self, artifact: Artifact) -> dict[str, Any]:
        """Give an artifact to a step: steps of ours find a URI's mount by themselves, others are given the path."""
        path = self.keeping.local(artifact) if "://" in artifact.uri and not self.is_ours else None
        return artifact.entry(None if path is None else str(path))
