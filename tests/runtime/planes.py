"""A model without a package: what the data plane is tested with where no process is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import orjson

from trilho_runtime.model.outputs import Outputs
from trilho_runtime.package import ModelError, Package, Predictor
from trilho_runtime.schema.signature import Field, Signature
from trilho_runtime.serving.loaded import Loaded

SIGNATURE = Signature((Field("x", "number", False), Field("c", "string", True), Field("at", "timestamp", True)))
ROW: dict[str, Any] = {"x": 1.0, "c": "a", "at": "2024-01-01T05:00:00"}
Predict = Callable[[Mapping[str, Any]], Any]


def double(columns: Mapping[str, Any]) -> Any:
    """Predict 2x, or fail where x is 13."""
    if (columns["x"] == 13).any():
        raise ModelError("model", ValueError("13 brings bad luck"))
    return columns["x"] * 2


@dataclass
class FakePredictor:
    """Predicts with a function, and remembers how many rows came together."""

    predict: Predict = double
    outputs: Outputs = field(default_factory=lambda: Outputs("value"))
    fast: bool = True
    signature: Signature = SIGNATURE
    history: Any = None
    path: str = "compiled"
    why: str = ""
    stages: Sequence[Any] = ()
    asked: list[int] = field(default_factory=list)

    def predict_columns(self, columns: Mapping[str, Any]) -> Any:
        self.asked.append(len(columns["x"]))
        return self.predict(columns)


@dataclass
class FakePackage:
    """A package that is only a manifest."""

    manifest: dict[str, Any]

    def sample(self) -> tuple[list[dict[str, Any]], list[Any]]:
        return [ROW], [2.0]


def loaded(predictor: FakePredictor | None = None) -> Loaded:
    """Give a model that is ready."""
    found = predictor or FakePredictor()
    manifest = {
        "name": "tiny", "task": found.outputs.task, "time": "at", "files": {}, "signature": found.signature.to_json(),
        "outputs": found.outputs.to_json(),
    }  # fmt: skip
    package = cast(Package, FakePackage(manifest))
    return Loaded(package, cast(Predictor, found), found.signature.names)


def classes(*probabilities: float) -> Predict:
    """Predict the same probability of each class for every row."""
    return lambda columns: np.tile(probabilities, (len(columns["x"]), 1))


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """Read all lines of a log, without their time."""
    lines = [orjson.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_bytes().splitlines()]
    assert all(line.pop("t").endswith("Z") for line in lines)
    return lines
