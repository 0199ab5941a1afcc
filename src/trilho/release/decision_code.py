"""A decision's code: packed from the project, tried in the project's own interpreter, compared on scores.

To pack it nothing is imported; to try it, it is, in a process that has a minute.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trilho.config import FILE
from trilho.core.ports import ArtifactStore, Columns
from trilho.errors import ConfigError, Refused
from trilho_runtime.decision import write_decision
from trilho_runtime.prediction.entries import Telling
from trilho_runtime.schema.signature import Signature
from trilho_runtime.steps.function import StepError

SECONDS = 60.0
MOST_ROWS = 10_000  # served scores that two decisions are compared on
WHOLE = (0.0, 0.5, 1.0)


@dataclass(frozen=True)
class Scores:
    """Scores as a rule is given them, with the rows that they are of, and what they are in words."""

    scores: Sequence[Any] = ()
    rows: Sequence[Mapping[str, Any]] = ()
    on: str = ""

    def to_json(self) -> dict[str, Any]:
        """Give them as the runtime reads them."""
        return {"scores": list(self.scores), "rows": list(self.rows)}


@dataclass(frozen=True)
class Code:
    """Where a project's decision is written, and what runs it."""

    reference: str
    folder: Path
    source: Path
    python: Path
    store: ArtifactStore = field(repr=False)

    def pack(self) -> str:
        """Keep the project's present code and give its digest. Raises ConfigError for what is no decision."""
        with tempfile.TemporaryDirectory(prefix="trilho-") as name:
            try:
                write_decision(self.source, self.reference, Path(name) / "decision")
            except StepError as error:
                fact = f"{self.folder / FILE}: steps.decide is {self.reference!r}: {error}"
                raise ConfigError(fact, hint="decide takes the score, or the score and the row") from None
            return self.store.put(Path(name) / "decision")

    def check(self, artifact: str, tried: Scores) -> dict[str, Any]:
        """Load a decision and have it decide scores. Raises Refused when it cannot be loaded, or fails on one."""
        given = tried.to_json() if tried.scores else {}
        return self._run("check", [self.store.path(artifact)], given)

    def compare(self, old: str | None, new: str, scores: Scores) -> dict[str, Any]:
        """Count on scores where a decision differs from the one before. Raises Refused when one cannot be loaded."""
        folders = [self.store.path(artifact) for artifact in (old, new) if artifact is not None]
        return {**self._run("compare", folders, scores.to_json()), "on": scores.on}

    def _run(self, verb: str, folders: Sequence[Path], given: Mapping[str, Any]) -> dict[str, Any]:
        command = [str(self.python), "-m", "trilho_runtime.decision", verb, *map(str, folders)]
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}  # an artifact never changes, not by a cache either
        hint = f"correct {self.reference}: trilho decisions check says when it decides"
        try:
            done = subprocess.run(
                command, input=json.dumps(given), capture_output=True, text=True, timeout=SECONDS, check=False,
                env=environment,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise Refused(f"{self.reference} has not decided within {SECONDS:g} s", hint=hint) from None
        except OSError as error:
            raise ConfigError(f"{self.python} cannot be run: {error.strerror}", hint="change python") from None
        if done.returncode != 0:
            said = [line for line in done.stderr.strip().splitlines() if line.strip()] or ["it said nothing"]
            raise Refused(said[-1].strip(), hint=hint)
        return dict(json.loads(done.stdout))


def tried_scores(package: Path | None) -> Scores:
    """Give scores that every decision on a model must decide: the extremes and the middle, with rows that it knows.

    For a model of several classes, all on one of them, for each.
    """
    if package is None:
        return Scores()
    manifest, sample = _json(package / "manifest.json"), _json(package / "sample.json")
    rows = sample.get("rows", [])
    given: list[Any] = list(WHOLE)
    if manifest.get("task"):
        telling = Telling.of(manifest)
        if telling.kind == "probabilities":
            given = [dict.fromkeys(telling.labels, 0.0) | {label: 1.0} for label in telling.labels]
        elif telling.kind == "class":
            given = list(telling.classes)
    kept = [rows[place % len(rows)] for place in range(len(given))] if rows else []
    return Scores(given, _known(manifest, kept))


def sample_scores(package: Path) -> Scores:
    """Give the scores of the rows that a package holds, for a model that has served nothing yet."""
    manifest, sample = _json(package / "manifest.json"), _json(package / "sample.json")
    if not manifest.get("task") or not sample.get("rows"):
        return Scores()
    scores = _given(Telling.of(manifest), sample["predictions"])
    return Scores(scores, _known(manifest, sample["rows"]), "rows of the package's sample")


def served_scores(rows: Columns, package: Path) -> Scores:
    """Give the newest served scores, as the log has them."""
    manifest = _json(package / "manifest.json")
    if not manifest.get("task") or not len(rows.get("_row", ())):
        return Scores()
    telling = Telling.of(manifest)
    scores: list[Any] = rows["_prediction"].tolist()
    if telling.kind == "probabilities":
        scores = [None if chances is None else list(chances) for chances in rows["_probabilities"].tolist()]
    width = len(telling.classes)
    whole = [
        place
        for place, score in enumerate(scores)
        if telling.kind != "probabilities" or (score is not None and len(score) == width)
    ]
    names = [field.name for field in Signature.from_json(manifest["signature"]).fields]
    columns = {name: rows[name] for name in names if name in rows}
    fields = [{name: _plain(column[place]) for name, column in columns.items()} for place in whole]
    told = _given(telling, [scores[place] for place in whole])
    return Scores(told, _known(manifest, fields), "scores that were served last")


def _given(telling: Telling, scores: Sequence[Any]) -> list[Any]:
    return telling.plain(scores) if telling.kind in ("probabilities", "class") else list(scores)


def _known(manifest: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Give rows as a rule sees them: each known field, times in one spelling."""
    if not manifest.get("signature"):
        return [dict(row) for row in rows]
    signature = Signature.from_json(manifest["signature"])
    names = [field.name for field in signature.fields]
    whole = [{name: row.get(name) for name in names} for row in rows]
    try:
        return [dict(row) for row in signature.canonical(whole)]
    except ValueError:  # a time that the log holds as a hash
        return whole


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return None if value != value else value


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
