"""The scorer: a process that predicts parts of a table with one package, as a server predicts rows.

    python -m trilho_runtime.scorer PACKAGE [--digest D] [--decision FOLDER] [--history FILE]

It reads a line of JSON for each part, {"folder": DIR}, and answers each with a line: how many rows, how long it took,
and their profile, which adds up over parts. The predictions lie in the same folder. The first line it writes says what
it is ready for. A part with a wrong value is answered by an error that names field and row, and changes nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import orjson
from numpy.typing import NDArray

from trilho_runtime.prediction.entries import Telling
from trilho_runtime.schema.casting import cast_columns
from trilho_runtime.serving.exchange import read_part

SCHEMA = 1
REFERENCE = "reference.json"
PREDICTION, PROBABILITIES, LABELS, DECISIONS = "prediction.npy", "probabilities.npy", "labels.json", "decisions.json"


@dataclass(frozen=True)
class Scorer:
    """A loaded model, its decision where it has one, the bins of its reference, and where its past is looked up."""

    predictor: Any
    decision: Any
    reference: Any
    lookup: Any = None

    def score(self, folder: Path) -> dict[str, Any]:
        """Predict the part in a folder and write its predictions beside it. Raises RowError and ModelError."""
        started = time.perf_counter()
        given, rows = read_part(folder)
        columns = cast_columns(self.predictor.signature, given, rows)
        predictor = self.predictor if self.lookup is None else self.lookup.complete(self.predictor, columns)
        scores = predictor.predict_columns(columns) if rows else np.zeros(0)
        failed, why = self._write(folder, columns, scores)
        told = {"rows": rows, "seconds": round(time.perf_counter() - started, 6), "undecided": failed, "why": why}
        return {**told, "profile": self._profile(columns)}

    def _write(self, folder: Path, columns: Mapping[str, NDArray[Any]], scores: NDArray[np.float64]) -> tuple[int, str]:
        telling = Telling(self.predictor.outputs)
        single, labels = scores, None
        if scores.ndim == 2:
            best = scores.argmax(axis=1)
            single = scores[np.arange(len(scores)), best]
            labels = [telling.classes[place] for place in best.tolist()]
            np.save(folder / PROBABILITIES, scores, allow_pickle=False)
        elif telling.kind == "class":
            labels = [telling.class_of(score) for score in scores.tolist()]
        if labels is not None:
            (folder / LABELS).write_bytes(orjson.dumps(labels))
        np.save(folder / PREDICTION, single, allow_pickle=False)
        if self.decision is None:
            return 0, ""
        asked = scores.tolist()
        asked = telling.plain(asked) if telling.kind in ("probabilities", "class") else asked
        decided, failed, why = self.decision.decide_all(asked, _Rows(columns))
        (folder / DECISIONS).write_bytes(orjson.dumps(decided))
        return failed, why

    def _profile(self, columns: Mapping[str, NDArray[Any]]) -> dict[str, list[int]]:
        if self.reference is None:
            return {}
        return {name: counts.tolist() for name, counts in self.reference.profile(columns).items()}


class _Rows(Sequence[Mapping[str, Any]]):
    """Columns as rows of JSON values, each made when it is asked for."""

    def __init__(self, columns: Mapping[str, NDArray[Any]]) -> None:
        self._columns = columns
        self._count = len(next(iter(columns.values()))) if columns else 0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: Any) -> Any:
        if row >= self._count:
            raise IndexError(row)
        return {name: _json(column[row]) for name, column in self._columns.items()}


def _json(value: Any) -> Any:
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else value.item().isoformat()
    value = value.item() if isinstance(value, np.generic) else value
    return None if value != value else value


def answer(scorer: Scorer, line: str) -> dict[str, Any]:
    """Score the part that a line names, or say what is wrong with it."""
    from trilho_runtime.model.predictor import ModelError
    from trilho_runtime.schema.signature import RowError

    try:
        return scorer.score(Path(json.loads(line)["folder"]))
    except RowError as error:
        return {"error": str(error), "field": error.field, "row": error.row}
    except OSError as error:
        return {"error": error.strerror or str(error), "disk": True}
    except (ModelError, ValueError) as error:
        return {"error": str(error)}


def load_scorer(package: Path, digest: str | None, decision: Path | None, history: Path | None = None) -> Scorer:
    """Check and load a package, prove it on its sample, and load the decision: one that is named, or its own."""
    from trilho_runtime.decision import load_decision, packaged_decision
    from trilho_runtime.package import check_digest, open_package
    from trilho_runtime.profile import Reference
    from trilho_runtime.serving.lookup import Lookup

    if digest is not None:
        check_digest(package, digest)
    opened = open_package(package)
    predictor = opened.load()
    opened.prove(predictor)
    reference = Reference.from_json(opened.read(REFERENCE)) if REFERENCE in opened.manifest["files"] else None
    rule = load_decision(decision) if decision is not None else packaged_decision(opened.folder, opened.manifest)
    return Scorer(predictor, rule, reference, Lookup.in_file(history) if history is not None else None)


def serve(scorer: Scorer, asked: TextIO, told: TextIO) -> None:
    """Answer lines until there are no more."""
    predictor = scorer.predictor
    ready = {"schema": SCHEMA, "ready": True, "path": predictor.path, "why": predictor.why}
    _tell(told, {**ready, "outputs": predictor.outputs.to_json(), "fields": predictor.signature.to_json()})
    for line in asked:
        _tell(told, answer(scorer, line))


def _tell(out: TextIO, data: Mapping[str, Any]) -> None:
    out.write(orjson.dumps(data).decode() + "\n")
    out.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Predict the parts of a table that are named on standard input."""
    parser = argparse.ArgumentParser(prog="python -m trilho_runtime.scorer", description=main.__doc__)
    parser.add_argument("package", type=Path)
    parser.add_argument("--digest", help="the package's digest in the artifact store")
    parser.add_argument("--decision", type=Path, metavar="FOLDER")
    parser.add_argument("--history", type=Path, metavar="FILE", help="the store of past rows, for a model of lags")
    given = parser.parse_args(arguments)
    from trilho_runtime.decision import DecisionError
    from trilho_runtime.package import PackageError

    told = os.fdopen(os.dup(1), "w", encoding="utf-8")  # what the project's code prints must not look like an answer
    os.dup2(2, 1)
    try:
        scorer = load_scorer(given.package, given.digest, given.decision, given.history)
    except (PackageError, DecisionError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    serve(scorer, sys.stdin, told)
    return 0


if __name__ == "__main__":
    sys.exit(main())
