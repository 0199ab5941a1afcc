"""The project's own functions, called as the standard steps call them, and what the notebook's run kept to hold them
against."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .interception import find_inside, recorded
from .values import kept, placed, positions_of

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
        self.past = request["past"]
        self.whole = bool(request["batch_only"] or self.past)  # whether a row is asked as part of the table
        self.raw: Any = None
        self.labels: Any = None  # of the rows as load gave them: where it left rows out, the places of those it kept
        self.left_out = 0  # rows that the notebook read and load leaves out
        self.events: list[Event] = []
        self.model: Any = None
        self.trained_on: Positions | None = None

    def function(self, key: str) -> Callable[..., Any]:
        """Import one of the project's functions."""
        from trilho_runtime.steps.function import load_function

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
        labels = np.asarray(raw.index)
        if self.target not in raw.columns:
            raise NotCompared(f"load gave no column {self.target}, which is the target")
        if raw[self.target].dtype.kind not in "iufb":
            found = ", ".join(map(repr, raw[self.target].unique()[:4]))
            raise NotCompared(f"the target {self.target} is {raw[self.target].dtype} ({found}); a number is wanted")
        self.raw = raw.reset_index(drop=True)
        self.labels = labels
        self.events = [self._event(told) for told in self.request["events"]]

    def places(self, file: str, rows: int, index: Any) -> Positions | None:
        """Give the places in the loaded table of rows whose positions in the notebook's the run kept."""
        if self.request["prepared"]:  # load gives what the model was fitted to, in that order
            return np.arange(rows, dtype=np.int64)
        known = positions_of(file, rows, index, len(self.raw))
        named = index if self.form == "whole" and index is not None else known
        return placed(named, self.labels, known)

    def numbered(self, values: Any) -> Any:
        """Give the notebook's classes as load makes them: 1 for the one that counts, where they are no numbers."""
        positive = self.request["positive"]
        if not positive and values.dtype.kind not in "OUST":
            return values
        return np.array([repr(value) == positive or str(value) == positive for value in values.tolist()])

    def _event(self, told: Mapping[str, Any]) -> Event:
        (X, index), (y, _) = kept(told["X"]), kept(told["y"])
        golden = scores_of(np.load(told["golden"]), told["column"]) if told["golden"] else None
        rows = _length(golden if golden is not None else X)
        return Event(told["event"], self.places(told["positions"], rows, index), golden, X, y)

    def fit(self, rows: Positions) -> Any:
        """Fit to rows of the table, in that order."""
        labels = self.raw[self.target].iloc[rows]
        labels = labels.astype("int64") if self.task == "classification" else labels
        return self.function("train")(self._features(self._table(rows)), labels)

    def learn(self, rows: Positions) -> None:
        """Fit the model that is asked from here on."""
        self.model, self.trained_on = self.fit(rows), rows

    def fit_rows(self) -> Iterator[Positions]:
        """Give the rows that the notebook's model was fitted to, in its order; then what may be meant besides.

        A fit that replays filters or the split itself takes the whole table.
        """
        everything = np.arange(len(self.raw), dtype=np.int64)
        known = [e.positions for e in self.events if e.event == "fit" and e.positions is not None][:1]
        all_first = self.request["fit_all"] or self.request["prepared"] or self.past or not known
        choices = [everything, *known] if all_first else [*known, everything]
        for index, rows in enumerate(choices):
            if not any(np.array_equal(rows, before) for before in choices[:index]):
                yield rows

    def ask(self, model: Any, rows: Positions) -> Floats:
        """Predict rows of the table: of a model that looks at other rows too, as part of all of them."""
        return self._answers(model, self._everything())[rows] if self.whole else self._answers(model, rows)

    def given(self, rows: Positions) -> Any:
        """Give what reaches the estimator for rows of the table."""
        if self.form == "features":
            made = self._features(self._table(self._everything() if self.whole else rows))
            return made.loc[rows] if self.past else made.iloc[rows] if self.whole else made
        return self.watched(rows)[0]

    def watched(self, rows: Positions) -> tuple[Any, Any]:
        """Give what the project's model gives to its estimator for rows of the table, and what that answers."""
        told = self.request["object"]
        inside = find_inside(self.model, told["type"]) if told["method"] else None
        if inside is None:
            raise NotCompared(f"the project's model holds no {told['type']}")
        with recorded(inside, told["method"]) as calls:
            asked = self._everything() if self.whole else rows
            self._answers(self.model, asked)
        if self.past and calls:
            return _by_label(*calls[-1], rows)
        if not calls or _length(calls[-1][1]) != len(asked):
            raise NotCompared(f"the project's model does not ask its {told['type']} for each row")
        given, answer = calls[-1]
        return (_some(given, rows), _some(answer, rows)) if self.whole else (given, answer)

    def inputs(self, rows: Positions) -> Any:
        """Give rows of the table as a caller has them."""
        return self.raw.iloc[rows].drop(columns=self.target)

    def _table(self, rows: Positions) -> Any:
        """Give rows as the standard steps do: to a model of lags with the target, as the last column and a float."""
        given = self.inputs(rows)
        if not self.past:
            return given
        return given.assign(**{self.target: self.raw[self.target].iloc[rows].astype("float64")})

    def _features(self, rows: Any) -> Any:
        from trilho_runtime.fit import features_of, make_features

        reference = self.request["steps"]["features"]
        return make_features(features_of(reference), rows, reference)

    def answers_of(self, rows: Any) -> Floats:
        """Ask the model for rows that are not the table's."""
        from trilho_runtime.fit import answers

        return answers(self.model, self._features(rows), self.task)

    def _answers(self, model: Any, rows: Positions) -> Floats:
        from trilho_runtime.fit import answers

        given = self._features(self._table(rows))
        if not self.past:
            return answers(model, given, self.task)
        asked = model.predict_proba if self.task == "classification" else model.predict  # none for a short past
        return scores_of(asked(given), self.request["object"]["column"])

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


def _by_label(given: Any, answer: Any, rows: Positions) -> tuple[Any, Any]:
    """Find rows in what reached the estimator by their labels, since it may be sorted, and incomplete rows left out."""
    if not hasattr(given, "index") or not given.index.is_unique:
        raise NotCompared("what reaches the estimator has no labels that say which row is which")
    places = given.index.get_indexer(rows)
    if (places < 0).any():
        raise NotCompared(f"{int((places < 0).sum())} of {len(rows)} rows do not reach the estimator")
    return given.iloc[places], _some(answer, places)


def _length(value: Any) -> int:
    shape = getattr(value, "shape", None)  # a sparse matrix has no length
    return int(shape[0]) if shape else len(value) if hasattr(value, "__len__") else 0


def _some(value: Any, rows: Positions) -> Any:
    return value.iloc[rows] if hasattr(value, "iloc") else np.asarray(value)[rows]
