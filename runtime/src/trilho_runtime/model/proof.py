"""The proof of a package: loaded anew, it predicts for its stored rows what the model predicted where it was made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from trilho_runtime.history import History
from trilho_runtime.model.manifest import PackageError
from trilho_runtime.model.precision import are_same, tolerance_of
from trilho_runtime.model.predictor import Predictor
from trilho_runtime.package import TOLERANCE, ModelError, Package, first_difference, open_package
from trilho_runtime.steps.function import StepError

ALONE = 5  # of the sample's rows, how many are proven by themselves as well
COMMAND = "import sys; sys.path[0] = sys.argv.pop(1); from trilho_runtime.model.proof import main; main(sys.argv[1])"
HINT = "the model has to answer each row by itself, with the types of the sample, wherever its code is imported"


def prove(package: Package) -> dict[str, Any]:
    """Ask a package for the sample's predictions, by the path that serves and as it was fitted.

    Give the number of rows, and the path. Raises StepError where one differs from what the model predicted.
    """
    predictor = package.load()
    rows = prove_rows(package, predictor)
    if predictor.compiled is not None:
        prove_rows(package, package.load(compiled=False))
    return {"rows": rows, "path": predictor.path, "why": predictor.why}


def prove_rows(package: Package, predictor: Predictor) -> int:
    """Ask a predictor for the sample's predictions, together and row by row, and give their number."""
    rows, expected = package.sample()
    try:
        together = predictor.predict(rows)
        alone = [] if predictor.history is not None else [predictor.predict([row])[0] for row in rows[:ALONE]]
    except (ModelError, ValueError) as error:
        raise StepError(f"the sample cannot be predicted from JSON: {error}") from error
    reference = predictor.reference or "the model"
    tolerance = tolerance_of(package.manifest)
    if predictor.history is not None:  # each row is predicted by itself
        why = f"{reference} looks at more than {_seen(predictor.history)}"
        compare(together, expected, "after its past", why, tolerance)
        return len(expected)
    others = f"{reference} looks at other rows than the one it describes"
    differs = not are_same(alone, together[: len(alone)], tolerance)
    why = others if differs else f"a feature of {reference} depends on other rows, or on a column's type"
    compare(together, expected, "served as JSON", why, tolerance)
    compare(alone, expected[: len(alone)], "alone", others, tolerance)
    return len(expected)


def prove_table(package: Package, rows: Any, told: Any) -> int:
    """Ask a package that answers whole tables only for the held-out table's predictions, and give their number."""
    found = package.load().predict_frame(rows)
    why = "what it was packed from is not what predicted"
    compare(found, told["prediction"].to_numpy(), "by the package", why, tolerance_of(package.manifest))
    return len(found)


def prove_apart(folder: Path, own: Iterable[Path] = ()) -> dict[str, Any]:
    """Prove a package in a fresh process, in which the project's modules are importable from the package alone.

    `own` are the modules' files and folders where the user has them. Raises PackageError where it is not proven.
    """
    runtime = str(Path(__file__).resolve().parents[2])
    hidden = {str(place.parent) for place in own}
    path = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p and str(Path(p).resolve()) not in hidden]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, runtime, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=folder.parent,
    )
    try:
        told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise PackageError(f"the package cannot be loaded in another process: {last:.300}", HINT) from None
    if "error" in told:
        raise PackageError(told["error"], told["hint"] or HINT)
    return told


def compare(found: Any, expected: Any, how: str, why: str, tolerance: float = TOLERANCE) -> None:
    """Raise StepError for the first row of the sample that is predicted otherwise than it was."""
    row = first_difference(found, expected, tolerance) if len(expected) else None
    if row is not None:
        told, wanted = (np.asarray(values)[row].tolist() for values in (found, expected))
        fact = f"row {row} of the sample is predicted {told!r} when {how}, {wanted!r} in the whole table"
        raise StepError(f"{fact}: {why}")


def _seen(history: History) -> str:
    of = f"its {' and '.join(history.entity)}" if history.entity else "the table"
    past = f"the {history.rows} rows of {of} before that by {history.time}"
    return f"a row without its {history.target} and {past}, or the data is not in that order"


def main(folder: str) -> None:
    """Prove a package and print what was found, or what is wrong, as one line of JSON."""
    try:
        told = prove(open_package(Path(folder), ()))
    except (PackageError, StepError) as error:
        told = {"error": getattr(error, "fact", str(error)), "hint": getattr(error, "hint", "")}
    print(json.dumps(told))  # noqa: T201
