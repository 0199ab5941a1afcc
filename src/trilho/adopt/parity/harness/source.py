"""The project's own functions beside the notebook: load, features, fit and evaluate, each compared with what was kept.

Runs in the project's interpreter, told by a JSON file, and leaves one: what each stage came to, the rows that were
loaded, the sample, and the predictions that are wanted of it from here on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..equality import Found, compare_numbers, shown
from .outcome import carried_out, line_of, stage, worse
from .predictions import Predictions
from .subject import Event, NotCompared, Subject, parameters
from .tables import compare_tables
from .values import as_table, json_rows, read_value, replay_read

if TYPE_CHECKING:
    from numpy.typing import NDArray

CELLS = 20_000_000  # of a sparse matrix that are written out to be compared
ROW = "__row__"


class Comparison:
    """One project held against one notebook's run."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        self.request = request
        self.subject = Subject(request)
        self.tolerance = float(request["tolerance"])
        self.predictions: Predictions | None = None
        self.measured: dict[str, float] = {}

    def run(self) -> dict[str, Any]:
        """Carry out all stages; one that fails leaves those that need it uncompared."""
        stages = [
            {"name": "load", **carried_out("load", self.load)},
            {"name": "features", **carried_out("features", self._after_load(self.features))},
            {"name": "fit", **carried_out("fit", self._after_load(self.fit))},
            {"name": "evaluate", **carried_out("evaluate", self._after_load(self.evaluate))},
        ]
        return {"schema": 1, "stages": stages, "versions": versions(self.request["libraries"]), **self._left()}

    def load(self) -> dict[str, Any]:
        """Load the data as the project does, and compare with what the notebook read."""
        self.subject.load()
        return stage(worse(self._compare_table(), self._compare_target()), 0.0)

    def features(self) -> dict[str, Any]:
        """Compare what the estimator is given, for every row that the notebook's was given."""
        if self.request["form"] == "whole":
            raise NotCompared("the rows are the model's input as they are")
        if self.request["form"] == "model":
            self.subject.learn(next(self.subject.fit_rows()))
        found: Found | None = None
        target, seen = self.request["target"], set[int]()
        for event in self.subject.events:
            rows, expected = _bounded(event)
            if expected is None or rows is None:
                continue
            seen.update(rows.tolist())
            made = as_table(self.subject.given(rows))
            if made is not None and list(expected.columns) == list(range(made.shape[1])):
                made = as_table(np.asarray(made))  # the notebook's had no names
            if made is None:
                raise NotCompared("what reaches the estimator is no table")
            if target in expected.columns and target not in made.columns:  # served rows have none: it must not matter
                expected = expected.drop(columns=target)
            found = worse(found, compare_tables(made, expected, rows))
        if found is None:
            raise NotCompared("the notebook's run kept no rows that its model was given")
        return stage(found._replace(rows=len(seen)), 0.0)

    def fit(self) -> dict[str, Any]:
        """Fit as the notebook did, and compare predictions with those of the notebook's model."""
        self.predictions = Predictions(self.subject)
        found, note = self.predictions.compare()
        return stage(found, self.tolerance, note)

    def evaluate(self) -> dict[str, Any]:
        """Measure as the notebook did, and compare each metric."""
        wanted = {metric["name"]: metric["value"] for metric in self.request["metrics"]}
        if not wanted:
            raise NotCompared("the notebook computes no metric")
        evaluate, raw, target = self.subject.function("evaluate"), self.subject.raw, self.request["target"]
        given = [raw.copy()] if parameters(evaluate) == 1 else [raw.drop(columns=target), raw[target]]
        self.measured = {str(name): float(value) for name, value in dict(evaluate(*given)).items()}
        missing = [name for name in wanted if name not in self.measured]
        if missing:
            raise NotCompared(f"evaluate gives no {', '.join(missing)}; it gives {', '.join(self.measured)}")
        values = [self.measured[name] for name in wanted]
        found = compare_numbers(values, list(wanted.values()), self.tolerance, np.arange(len(wanted)))
        said = [
            f"{name} is {value!r}, {wanted[name]!r} in the notebook"
            for name, value in zip(wanted, values, strict=True)
            if compare_numbers([value], [wanted[name]], self.tolerance, np.arange(1)).different
        ]
        return stage(found._replace(rows=len(raw), reason="; ".join(said), first=None), self.tolerance)

    def _after_load(self, then: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
        def carry_out() -> dict[str, Any]:
            if self.subject.raw is None:
                raise NotCompared("load failed")
            return then()

        return carry_out

    def _compare_table(self) -> Found:
        raw, target, told = self.subject.raw, self.request["target"], self.request["read"]
        if self.request["form"] == "whole":
            expected = next((as_table(e.X) for e in self.subject.events if e.event == "fit"), None)
        elif told["file"]:
            expected = as_table(read_value(told["file"])[0])
        else:
            expected = as_table(replay_read(told))
        if expected is None:
            raise NotCompared(
                "the run kept no copy of the table that the notebook read, and the read can't be repeated"
            )
        ours = raw.drop(columns=[c for c in [target] if c not in expected.columns])
        theirs = [name for name in expected.columns if name in set(ours.columns)]
        return compare_tables(ours, _times_read(expected[theirs], ours), np.arange(len(raw)))

    def _compare_target(self) -> Found | None:
        """Compare the target with what the notebook's model was fitted to, where that is the target as it is."""
        event = next((e for e in self.subject.events if e.event == "fit" and e.y is not None), None)
        if event is None or event.positions is None or self.request["transform"]:
            return None
        theirs, positive = np.asarray(event.y).reshape(-1), self.request["positive"]
        if positive or theirs.dtype.kind in "OUS":
            theirs = np.array([repr(value) == positive or str(value) == positive for value in theirs.tolist()])
        ours = self.subject.raw[self.request["target"]].to_numpy()[event.positions]
        found = compare_numbers(ours, theirs, 0.0, event.positions)
        return found._replace(reason=f"target {self.request['target']}: {found.reason}" if found.reason else "")

    def _left(self) -> dict[str, Any]:
        """Write what the following stages need: the rows, the sample, and what is to be predicted of it."""
        left: dict[str, Any] = {"metrics": self.measured, "problem": "", "sample": 0, "pairs": []}
        if self.predictions is None or not self.predictions.scores:
            return {**left, "problem": "no predictions to compare with"}
        folder, sample = Path(self.request["folder"]), self.predictions.sample
        wanted, ours = self.predictions.expected(), self.predictions.of_sample()
        np.save(folder / "fit_rows.npy", np.asarray(self.subject.trained_on))
        np.save(folder / "sample.npy", sample)
        np.save(folder / "expected.npy", np.array(wanted, dtype=np.float64))
        raw = self.subject.raw
        try:
            raw.assign(**{ROW: np.arange(len(raw), dtype=np.int64)}).to_parquet(folder / "rows.parquet", index=False)
        except Exception as error:  # noqa: BLE001  pyarrow raises many kinds
            left["problem"] = f"the rows cannot be written as Parquet: {line_of(error)}"
        rows = json_rows(self.subject.inputs(sample))
        (folder / "requests.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
        pairs = [[shown(a), shown(b)] for a, b in zip(wanted, ours, strict=True)]
        return {**left, "sample": len(sample), "pairs": pairs}


def versions(libraries: Mapping[str, str]) -> dict[str, str | None]:
    """Give the versions that are installed here of what the notebook imported."""
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str | None] = {}
    for name in libraries:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _bounded(event: Event) -> tuple[NDArray[np.int64] | None, Any]:
    """Give an event's rows and its table; of a sparse matrix so many rows as can be written out."""
    X, rows = event.X, event.positions
    if rows is not None and hasattr(X, "toarray"):
        most = max(1, CELLS // max(1, X.shape[1]))
        X, rows = X[:most], rows[:most]
    return rows, as_table(X)


def _times_read(expected: Any, ours: Any) -> Any:
    """Give times that the notebook read as text as times, where the project reads them so at once."""
    import pandas as pd

    changed = expected.copy()
    for name in expected.columns:
        if ours[name].dtype.kind == "M" and expected[name].dtype.kind != "M":
            changed[name] = pd.to_datetime(expected[name]).astype(ours[name].dtype)
    return changed


def main(request: str) -> int:
    """Carry out what a request asks, and leave the result beside it."""
    told = json.loads(Path(request).read_text(encoding="utf-8"))
    sys.dont_write_bytecode = True
    sys.path.insert(0, told["source"])
    text = json.dumps(Comparison(told).run(), ensure_ascii=False, allow_nan=False)
    Path(told["folder"], "source.json").write_text(text, encoding="utf-8")
    return 0
