"""The project's own functions, called as the standard steps call them, and what the notebook's run kept to hold them
against."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .interception import find_inside, recorded
from .values import kept, positions_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Positions = NDArray[np.int64]
    Floats = NDArray[np.float64]


class NotCompared(Exception):
    """A stage has nothing to be compared with, or could not be carried out."""


class Event(NamedTuple):
    """Rows that the shipped model was fitted to or asked about: where they are, what they were, what it predicts."""

    event: str
    positions: Positions | None
    golden: Floats | None
    X: Any
    y: Any


class Subject:
    """One project, its rows once they are loaded, and its model once it is fitted."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        self.request = request
        self.target, self.task, self.form = request["target"], request["task"], request["form"]
        self.raw: Any = None
        self.events: list[Event] = []
        self.model: Any = None
        self.trained_on: Positions | None = None

    def function(self, key: str) -> Callable[..., Any]:
        """Import one of the project's functions."""
        from trilho_runtime.function import load_function

        reference = self.request["steps"][key]
        if not reference:
            raise NotCompared(f"the project names no function for {key}")
        return load_function(reference)

    def load(self) -> None:
        """Load the project's data, all files of it, and place the notebook's rows in it."""
        import pandas as pd

        from trilho_runtime.load import load_rows

        if not self.request["files"]:
            raise NotCompared("the project has no data file")
        parts = [load_rows(self.request["steps"]["load"], Path(file)) for file in self.request["files"]]
        raw = pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]
        if self.target not in raw.columns:
            raise NotCompared(f"load gave no column {self.target}, which is the target")
        if raw[self.target].dtype.kind not in "iufb":
            found = ", ".join(map(repr, raw[self.target].unique()[:4]))
            raise NotCompared(f"the target {self.target} is {raw[self.target].dtype} ({found}); a number is wanted")
        self.raw = raw.reset_index(drop=True)
        self.events = [_event(told, len(self.raw)) for told in self.request["events"]]

    def fit(self, rows: Positions) -> Any:
        """Fit to rows of the table, in that order."""
        labels = self.raw[self.target].iloc[rows]
        labels = labels.astype("int64") if self.task == "classification" else labels
        return self.function("train")(self._features(self.inputs(rows)), labels)

    def learn(self, rows: Positions) -> None:
        """Fit the model that is asked from here on."""
        self.model, self.trained_on = self.fit(rows), rows

    def fit_rows(self) -> Iterator[Positions]:
        """Give the rows that the notebook's model was fitted to, in its order; then what may be meant besides.

        A fit that replays filters or the split itself takes the whole table.
        """
        everything = np.arange(len(self.raw), dtype=np.int64)
        known = [e.positions for e in self.events if e.event == "fit" and e.positions is not None][:1]
        choices = [everything, *known] if self.request["fit_all"] or not known else [*known, everything]
        for index, rows in enumerate(choices):
            if not any(np.array_equal(rows, before) for before in choices[:index]):
                yield rows

    def ask(self, model: Any, rows: Positions) -> Floats:
        """Predict rows of the table: of a model that looks at other rows too, as part of all of them."""
        return (
            self._answers(model, self._everything())[rows] if self.request["batch_only"] else self._answers(model, rows)
        )

    def given(self, rows: Positions) -> Any:
        """Give what reaches the estimator for rows of the table."""
        if self.form == "features":
            whole = self.request["batch_only"]
            made = self._features(self.inputs(self._everything() if whole else rows))
            return made.iloc[rows] if whole else made
        return self.watched(rows)[0]

    def watched(self, rows: Positions) -> tuple[Any, Any]:
        """Give what the project's model gives to its estimator for rows of the table, and what that answers."""
        told = self.request["object"]
        inside = find_inside(self.model, told["type"]) if told["method"] else None
        if inside is None:
            raise NotCompared(f"the project's model holds no {told['type']}")
        with recorded(inside, told["method"]) as calls:
            asked = self._everything() if self.request["batch_only"] else rows
            self._answers(self.model, asked)
        if not calls or _length(calls[-1][1]) != len(asked):
            raise NotCompared(f"the project's model does not ask its {told['type']} for each row")
        given, answer = calls[-1]
        return (_some(given, rows), _some(answer, rows)) if self.request["batch_only"] else (given, answer)

    def inputs(self, rows: Positions) -> Any:
        """Give rows of the table as a caller has them."""
        return self.raw.iloc[rows].drop(columns=self.target)

    def _features(self, rows: Any) -> Any:
        from trilho_runtime.fit import features_of, make_features

        reference = self.request["steps"]["features"]
        return make_features(features_of(reference), rows, reference)

    def _answers(self, model: Any, rows: Positions) -> Floats:
        from trilho_runtime.fit import answers

        return answers(model, self._features(self.inputs(rows)), self.task)

    def _everything(self) -> Positions:
        return np.arange(len(self.raw), dtype=np.int64)


def parameters(function: Callable[..., Any]) -> int:
    """Count what a function takes by position.

    >>> parameters(lambda rows, target: 0)
    2
    """
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in kinds for p in inspect.signature(function).parameters.values())


def scores_of(values: Any, column: int) -> Floats:
    """Give one number a row: of a table of probabilities, one column."""
    found = np.asarray(values)
    found = found[:, column] if found.ndim == 2 and found.shape[1] > 1 else found
    return np.asarray(found, dtype=np.float64).reshape(-1)


def _event(told: Mapping[str, Any], table_rows: int) -> Event:
    (X, index), (y, _) = kept(told["X"]), kept(told["y"])
    golden = scores_of(np.load(told["golden"]), told["column"]) if told["golden"] else None
    rows = _length(golden if golden is not None else X)
    return Event(told["event"], positions_of(told["positions"], rows, index, table_rows), golden, X, y)


def _length(value: Any) -> int:
    shape = getattr(value, "shape", None)  # a sparse matrix has no length
    return int(shape[0]) if shape else len(value) if hasattr(value, "__len__") else 0


def _some(value: Any, rows: Positions) -> Any:
    return value.iloc[rows] if hasattr(value, "iloc") else np.asarray(value)[rows]
