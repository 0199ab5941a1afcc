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
from .prepared import as_given
from .subject import Event, NotCompared, Subject, parameters
from .tables import compare_tables, retyped
from .values import as_table, digest_of, hashed_sample, json_rows, read_value, replay_read

if TYPE_CHECKING:
    from numpy.typing import NDArray

CELLS = 20_000_000  # of a sparse matrix that are written out to be compared
ROW = "__row__"
LAST_DIGITS = 1e-12  # the same sum in another order: fit_transform in the notebook, transform in the project
NEWEST = 50  # rows of a model of lags that are asked with the past that the package carries
WITH_PAST = 200  # others of it, each asked with a past of its own


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
        found = worse(self._compare_table(), self._compare_target())
        left = self.subject.left_out
        return stage(found, 0.0, f"{left} rows without a target are left out" if left else "")

    def features(self) -> dict[str, Any]:
        """Compare what the estimator is given, for every row that the notebook's was given."""
        if self.request["form"] == "whole":
            raise NotCompared("the rows are the model's input as they are")
        if self.request["form"] == "model":
            self.subject.learn(next(self.subject.fit_rows()))
        exact = self._compare_features(0.0)
        if not exact.different or exact.largest is None or exact.largest > LAST_DIGITS:
            return stage(exact, 0.0)
        near = self._compare_features(LAST_DIGITS)
        return stage(exact, 0.0) if near.different else stage(near, LAST_DIGITS, f"{exact.reason} in the last digits")

    def _compare_features(self, tolerance: float) -> Found:
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
            found = worse(found, compare_tables(made, expected, rows, tolerance))
        if found is None:
            raise NotCompared("the notebook's run kept no rows that its model was given")
        return found._replace(rows=len(seen))

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
        given = [Path(self.request["files"][0])] if self.request["prepared"] else given
        made = dict(evaluate(*given)).items()
        self.measured = {str(name): float(value) for name, value in made if np.ndim(value) == 0}
        missing = [name for name in wanted if name not in self.measured]
        first = next(iter(wanted))
        note = ""
        if missing and self.request["prepared"] and first in self.measured:
            note = f"computed where the project cannot take them from, and not compared: {', '.join(missing)}"
            wanted, missing = {name: value for name, value in wanted.items() if name in self.measured}, []
        if missing:
            raise NotCompared(f"evaluate gives no {', '.join(missing)}; it gives {', '.join(self.measured)}")
        values = [self.measured[name] for name in wanted]
        found = compare_numbers(values, list(wanted.values()), self.tolerance, np.arange(len(wanted)))
        said = [
            f"{name} is {value!r}, {wanted[name]!r} in the notebook"
            for name, value in zip(wanted, values, strict=True)
            if compare_numbers([value], [wanted[name]], self.tolerance, np.arange(1)).different
        ]
        return stage(found._replace(rows=len(raw), reason="; ".join(said), first=None), self.tolerance, note)

    def _after_load(self, then: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
        def carry_out() -> dict[str, Any]:
            if self.subject.raw is None:
                raise NotCompared("load failed")
            return then()

        return carry_out

    def _compare_table(self) -> Found:
        raw, target, told = self.subject.raw, self.request["target"], self.request["read"]
        if self.request["prepared"]:
            return self._compare_prepared()
        if self.request["form"] == "whole":
            return self._compare_input()
        if self.request["loaded"] and digest_of(raw, told["kernel"]) == self.request["loaded"]:
            return Found(len(raw), 0, 0.0, None, "")
        expected = as_table(read_value(told["file"])[0] if told["file"] else replay_read(told))
        if expected is None:
            raise NotCompared(
                "the run kept no copy of the table that the notebook read, and the read can't be repeated"
            )
        expected = self._with_target(expected)
        ours = raw.drop(columns=[c for c in [target] if c not in expected.columns])
        theirs = [name for name in expected.columns if name in set(ours.columns)]
        return compare_tables(ours, _times_read(expected[theirs], ours), np.arange(len(raw)))

    def _compare_prepared(self) -> Found:
        """Compare what load gives with what the notebook's model was fitted to, row by row in its order."""
        event = next((e for e in self.subject.events if e.event == "fit"), None)
        ours = self.subject.raw.drop(columns=self.request["target"])
        expected = None if event is None else as_given(event.X, list(ours.columns), self.request["target"])
        if event is None or event.positions is None or expected is None:
            raise NotCompared("the run kept no copy of what the notebook's model was fitted to")
        ours = ours.iloc[event.positions]
        if len(event.positions) < len(self.subject.raw):  # together with other rows a column may be of floats
            ours = retyped(ours, expected)
        return compare_tables(ours, expected, event.positions)

    def _compare_input(self) -> Found:
        """Compare the model's input as load gives it with what the notebook's model was fitted to."""
        event = next((e for e in self.subject.events if e.event == "fit"), None)
        expected = as_table(event.X) if event is not None else None
        if event is None or expected is None or event.positions is None:
            raise NotCompared("the run kept no copy of its model's input")
        ours = self.subject.raw.iloc[event.positions]
        names = [name for name in ours.columns if name in set(expected.columns)]
        if len(names) < len(expected.columns):
            names = [name for name in ours.columns if name != self.request["target"]]
        return compare_tables(ours[names], expected[names] if set(names) <= set(expected.columns) else expected,
                              event.positions)  # fmt: skip

    def _with_target(self, expected: Any) -> Any:
        """Give what the notebook read as load makes it: its classes as 0 and 1, rows without a target left out."""
        target, raw, positive = self.request["target"], self.subject.raw, self.request["positive"]
        if target not in expected.columns:
            return expected
        if self.request["derived"]:  # from the column of that name: what was fitted to is compared
            return expected.drop(columns=target)
        known = expected[target].notna()
        if len(raw) < len(expected) and int(known.sum()) == len(raw):
            self.subject.left_out = len(expected) - len(raw)
            expected = expected[known]
        if positive and raw[target].dtype.kind in "iufb" and str(expected[target].dtype) != str(raw[target].dtype):
            numbers = self.subject.numbered(expected[target].to_numpy())
            expected = expected.assign(**{target: numbers.astype(raw[target].dtype)})
        elif self.subject.left_out and expected[target].dtype.kind == "f" and raw[target].dtype.kind in "iu":
            expected = expected.assign(**{target: expected[target].astype(raw[target].dtype)})
        return expected

    def _compare_target(self) -> Found | None:
        """Compare the target with what the notebook's model was fitted to, where that is the target as it is."""
        event = next((e for e in self.subject.events if e.event == "fit" and e.y is not None), None)
        if event is None or event.positions is None or self.request["transform"]:
            return None
        theirs = np.asarray(event.y).reshape(-1)
        theirs = self.subject.numbered(theirs)
        ours = self.subject.raw[self.request["target"]].to_numpy()[event.positions]
        found = compare_numbers(ours, theirs, 0.0, event.positions)
        return found._replace(reason=f"target {self.request['target']}: {found.reason}" if found.reason else "")

    def _left(self) -> dict[str, Any]:
        """Write what the following stages need: the rows, the sample, and what is to be predicted of it."""
        left: dict[str, Any] = {"metrics": self.measured, "problem": "", "sample": 0, "pairs": []}
        if self.predictions is None or not self.predictions.scores:
            return {**left, "problem": "no predictions to compare with"}
        folder = Path(self.request["folder"])
        if self.subject.past:
            left["newest"] = self._choose_newest()
        sample = self.predictions.sample
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
        if self.subject.past:
            pasts = [json_rows(raw.iloc[self._before(row)]) for row in sample[left["newest"] :].tolist()]
            (folder / "pasts.json").write_text(json.dumps(pasts, ensure_ascii=False), encoding="utf-8")
        pairs = [[shown(a), shown(b)] for a, b in zip(wanted, ours, strict=True)]
        return {**left, "sample": len(sample), "pairs": pairs}

    def _choose_newest(self) -> int:
        """Follow the newest rows to the end, which the package's own past is of, then others with a past of theirs."""
        assert self.predictions is not None
        moments = self.subject.raw[self.subject.past["time"]].to_numpy()
        known = np.array(sorted(self.predictions.scores), dtype=np.int64)
        known = known[~np.isnat(moments[known].astype("datetime64[us]"))]
        order = known[np.argsort(moments[known], kind="stable")]
        newest = np.sort(order[-NEWEST:])
        others = hashed_sample(np.setdiff1d(known, newest).tolist(), self.request["seed"], WITH_PAST)
        self.predictions.sample = np.concatenate([newest, others])
        return len(newest)

    def _before(self, row: int) -> NDArray[np.int64]:
        """Give the places of a row's newest past rows, strictly earlier than it, in order of time."""
        raw, told = self.subject.raw, self.subject.past
        moments = raw[told["time"]].to_numpy()
        earlier = moments < moments[row]
        for name in told["entity"]:
            own = raw[name].iloc[row]
            earlier &= (raw[name].isna() if own != own else raw[name] == own).to_numpy()
        places = np.flatnonzero(earlier)
        return places[np.argsort(moments[places], kind="stable")][-int(told["rows"]) :]


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
