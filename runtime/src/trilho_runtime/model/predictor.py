"""A loaded model: rows in, scores out, by array code where it was compiled and as it was fitted where not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trilho_runtime.fit import joined, last_features, make_features
from trilho_runtime.history import History, Past
from trilho_runtime.model.form import Form
from trilho_runtime.model.outputs import Outputs
from trilho_runtime.schema.signature import Field, RowError, Signature
from trilho_runtime.steps.function import StepError

if TYPE_CHECKING:
    from trilho_runtime.compiled.plan import Compiled

Floats = NDArray[np.float64]
COMPILED, PARTLY, PANDAS = "compiled", "partly", "pandas"
TABLE = Form()


class ModelError(Exception):
    """The project's own code, or its estimator, failed on rows of the right types; `stage` says which."""

    def __init__(self, stage: str, error: BaseException) -> None:
        what = str(error) if isinstance(error, StepError) else f"{type(error).__name__}: {error}"
        super().__init__(f"{stage}: {what}")
        self.stage = stage


@dataclass(frozen=True)
class Predictor:
    """A loaded model: rows in, scores out: the value, a probability, or one probability for each class.

    `path` is how rows reach the model now: "compiled" (array code alone), "partly" or "pandas"; `why` says what keeps
    it from being compiled. `original` gives the estimator as it was fitted, read when it is first needed. With a
    history each row is answered by itself, after the past of its entity: rows that are asked together do not see each
    other, since their targets are not known yet.
    """

    signature: Signature
    task: str
    features: Callable[[Any], Any]
    reference: str
    original: Callable[[], Any]
    outputs: Outputs
    form: Form = TABLE
    compiled: Compiled | None = None
    made: Signature | None = None
    """The fields of the table that the features function makes, where the model behind it is compiled."""
    path: str = PANDAS
    stages: tuple[Mapping[str, Any], ...] = ()
    why: str = ""
    history: History | None = None

    @property
    def estimator(self) -> Any:
        """Give the estimator as it was fitted."""
        return self.original()

    @property
    def fast(self) -> bool:
        """Say whether a few rows are answered so quickly that nothing else has to wait for them."""
        return self.path == COMPILED

    def predict(self, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Predict rows of JSON values: a float a row, or a list of them for a model of several probabilities.

        Raises RowError for a wrong value, ModelError when the model's code fails.
        """
        return list(self.predict_columns(self.signature.columns(rows)).tolist()) if rows else []

    def predict_columns(self, columns: Mapping[str, NDArray[Any]]) -> Floats:
        """Predict rows that the signature has checked."""
        if self.compiled is not None and self.made is None:
            return self._computed(columns)
        if self.history is None:
            return self._answers(self.signature.frame(columns))
        found = [self._after(self.history, columns, row, past) for row, past in enumerate(self.history.find(columns))]
        return np.array(found, np.float64)

    def predict_frame(self, frame: Any) -> Floats:
        """Predict a pandas table of raw rows."""
        if self.history is not None:
            return self.predict_columns(self.signature.arrays(frame))
        if self.compiled is not None and self.made is None:
            try:
                columns = self.signature.arrays(frame)
            except (TypeError, ValueError):  # a null or a type that no request may hold: the model itself may take it
                return self._answers(frame)
            return self._computed(columns)
        return self._answers(frame)

    def renewed(self, past: Sequence[Mapping[str, Any]], asked: Mapping[str, NDArray[Any]]) -> Predictor:
        """Give the predictor with newer past rows of JSON values, their targets among them, for the rows asked.

        Raises RowError for a wrong value, and where the model looks at no past rows.
        """
        if self.history is None:
            raise RowError("past: this model looks at no past rows", "past")
        target = self.history.target
        try:
            columns = Signature((*self.signature.fields, Field(target, "number", False))).columns(past)
        except RowError as error:
            raise RowError(f"past {error}", error.field, error.row) from None
        values = columns.pop(target)
        return replace(self, history=self.history.renewed(columns, values, asked))

    def predict_after(self, past: Any, frame: Any) -> Floats:
        """Predict a pandas table of raw rows after another one, both with targets, as the training run does."""
        if self.history is None:
            return self._answers(frame)
        return self._last(joined(past, frame, self.history.target), self.history, len(frame))

    def uncompiled(self) -> Predictor:
        """Give the same model as it was fitted, without its array code."""
        return replace(self, compiled=None, made=None, path=PANDAS)

    def _after(self, history: History, columns: Mapping[str, NDArray[Any]], row: int, past: Past) -> Floats:
        """Predict one row as the last one of the table of its past."""
        found: Floats = self._last(self.signature.frame(history.table(columns, row, past)), history, 1)[0]
        return found

    def _last(self, table: Any, history: History, count: int) -> Floats:
        try:
            made = last_features(self.features, table, self.reference, history.target, count)
        except (Exception, SystemExit) as error:
            raise ModelError("features", error) from error
        return self._asked(made, count)

    def _answers(self, frame: Any) -> Floats:
        try:
            made = make_features(self.features, self.form.given(frame), self.reference) if self.reference else frame
        except (Exception, SystemExit) as error:
            raise ModelError("features", error) from error
        return self._asked(made if self.reference else self.form.given(frame), len(frame))

    def _asked(self, made: Any, count: int) -> Floats:
        if self.compiled is not None and self.made is not None:
            try:
                columns = self.made.arrays(made)
            except (KeyError, TypeError, ValueError):  # other types than at training: the model itself may take them
                columns = None
            if columns is not None:
                return self._computed(columns)
        try:
            return self.outputs.scores(self.estimator, made, count)
        except (Exception, SystemExit) as error:
            raise ModelError("model", error) from error

    def _computed(self, columns: Mapping[str, NDArray[Any]]) -> Floats:
        """Ask the array code. Raises ModelError for what is no number, as of the model itself."""
        assert self.compiled is not None
        try:
            found = np.asarray(self.compiled.predict(columns), np.float64)
        except RowError:  # a category that the model was not trained on: field and row are known
            raise
        except (Exception, SystemExit) as error:
            raise ModelError("model", error) from error
        if not np.isfinite(found).all():
            row = int(np.argwhere(~np.isfinite(found))[0][0])
            raise ModelError("model", StepError(f"the model predicted {found[row]} for row {row}"))
        return found
