"""What the notebook left of its model, and the project's own model beside it."""

from __future__ import annotations

import hashlib
import importlib
import pickle
from pathlib import Path
from typing import Any

SAMPLE = 200


def module(request: dict[str, Any], name: str) -> Any:
    """Import a module of the project's package."""
    return importlib.import_module(f"{request['package']}.{name}")


class Kept:
    """What the notebook left of the model's last fit: its input, its predictions, and which rows those are."""

    def __init__(self, request: dict[str, Any], table: Any) -> None:
        self.request, self.table = request, table
        self.X = self.content(request["X"])
        predictions = self.content(request["predictions"])
        self.predictions = None if predictions is None else column_of(predictions, request["column"])
        self.positions = self.place(self.content(request["positions"]))

    def content(self, file: str) -> Any:
        """Read a value that the capture kept."""
        if not file:
            return None
        path = Path(self.request["scratch"]) / file
        try:
            if path.suffix == ".npy":
                return importlib.import_module("numpy").load(path, allow_pickle=False)
            if path.suffix == ".parquet":
                frame = importlib.import_module("pandas").read_parquet(path)
                return frame.set_index("__index__") if "__index__" in frame.columns else frame
            return pickle.loads(path.read_bytes())  # noqa: S301  the capture's own file
        except (OSError, ValueError, ImportError, AttributeError, pickle.UnpicklingError):
            return None

    def place(self, positions: Any) -> Any:
        """Give for each row of the model's input its position in the project's table; None where that is not known."""
        if positions is None:
            return None
        found = [int(position) for position in positions]
        labels = self.table.index.tolist()
        if labels == list(range(len(labels))):  # as it was read, or numbered anew
            whole = len(labels) == self.request["read_rows"]
            return found if whole and all(0 <= position < len(labels) for position in found) else None
        at = {label: position for position, label in enumerate(labels)}
        return [at[position] for position in found] if all(position in at for position in found) else None

    def sample(self) -> list[int]:
        """Choose rows by a hash of their position and of the data: the same for everybody, and no one's choice."""
        pool = sorted(set(self.positions)) if self.positions else range(len(self.table))
        salt = self.request["digest"]
        ranked = sorted(pool, key=lambda p: hashlib.sha256(f"{salt}:{p}".encode()).digest())
        return sorted(ranked[:SAMPLE])

    def rows_of(self, positions: list[int]) -> list[int] | None:
        """Say which rows of the model's input these rows of the table are."""
        if self.positions is None:
            return None
        at = {position: row for row, position in enumerate(self.positions)}
        return [at[position] for position in positions] if all(p in at for p in positions) else None


class Fitted:
    """The model, fitted when first asked for: the notebook's own where it can be had and needs no state."""

    def __init__(self, request: dict[str, Any], rows: Any, target: Any, kept: Kept, sample: list[int]) -> None:
        self.request, self.rows, self.target, self.kept, self.sample = request, rows, target, kept, sample
        self._model: Any = None
        self._fitted: Any = None  # positions of the rows that it was fitted to, where that is not all of them in order

    @property
    def model(self) -> Any:
        """Give the fitted model."""
        if self._model is None:
            known = self.kept.positions
            self._fitted = None if known is None or known == list(range(len(self.rows))) else known
            self._model = self.kept.content(self.request["object"])
            if self._model is None:
                self.fit()
        return self._model

    @property
    def fitted(self) -> Any:
        """Give the positions of the rows that it was fitted to; None where those are all rows in their order."""
        import numpy as np

        _ = self.model
        return None if self._fitted is None else np.asarray(self._fitted, dtype=np.int64)

    def fit(self) -> None:
        """Fit it with the project's code: to all rows where that replays the notebook, else to those it was given."""
        known = self._fitted
        choices = [None] if known is None else [None, known] if self.request["fit_all"] else [known, None]
        for choice in choices:
            given, target = self.rows, self.target
            if choice is not None:
                given, target = given.iloc[choice], target.iloc[choice]
            if self.request["form"] == "features":
                given = module(self.request, "features").build(given)
            model = module(self.request, "fit").fit(given, target)
            if self._model is None or self.is_the_notebooks(model):
                self._model, self._fitted = model, choice
            if self.is_the_notebooks(self._model):
                return

    def is_the_notebooks(self, model: Any) -> bool:
        """Say whether a model predicts for the sample what the notebook's does."""
        import numpy as np

        at = self.kept.rows_of(self.sample)
        if at is None or self.kept.predictions is None:
            return True
        rows = self.rows if self.request["batch_only"] else self.rows.iloc[self.sample]
        found = np.asarray(module(self.request, "predict").predict(model, rows), dtype=float)
        found = found[self.sample] if self.request["batch_only"] else found
        return bool(np.allclose(found, np.asarray(self.kept.predictions, dtype=float)[at], rtol=1e-9, atol=1e-12))

    def predict(self, rows: Any) -> Any:
        """Ask it for raw rows."""
        return module(self.request, "predict").predict(self.model, rows)

    def build(self, rows: Any) -> Any:
        """Give the features of raw rows."""
        build = module(self.request, "features").build
        return build(rows) if self.request["build"] == "build(df)" else build(rows, self.model.state)


def column_of(predictions: Any, column: int) -> Any:
    """Take one number a row, of several classes the one that counts."""
    return predictions[:, column] if predictions.ndim == 2 and predictions.shape[1] > 1 else predictions.reshape(-1)
