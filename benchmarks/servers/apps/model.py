"""The fitted pipeline as a server keeps it: unpickled once, asked with a table of the columns it was fitted on."""

import json
from pathlib import Path
from typing import Any

import joblib
import pandas as pd

Row = dict[str, Any]


class Model:
    """The pipeline, with the types of its columns: a null in a table of one row would otherwise lose them."""

    def __init__(self, folder: Path) -> None:
        self.pipeline = joblib.load(folder / "model.joblib")
        self.types: dict[str, str] = json.loads((folder / "types.json").read_bytes())

    def predict(self, rows: list[Row]) -> list[float]:
        """Give the probability of class 1 for each row."""
        table = pd.DataFrame(rows, columns=list(self.types)).astype(self.types)
        return [float(value) for value in self.pipeline.predict_proba(table)[:, 1]]

    def predict_all(self, requests: list[list[Row]]) -> list[list[float]]:
        """Answer several requests with one call of the pipeline, as a batching server does."""
        told = iter(self.predict([row for rows in requests for row in rows]))
        return [[next(told) for _ in rows] for rows in requests]
