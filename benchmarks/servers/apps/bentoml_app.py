# mypy: ignore-errors
"""BentoML with one worker: two services, one of which lets BentoML put waiting requests together."""

import os
from pathlib import Path
from typing import Any

import bentoml
from model import Model


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Single:
    """One request at a time."""

    def __init__(self) -> None:
        self.kept = Model(Path(os.environ["BENCH_FOLDER"]))

    @bentoml.api
    def predict(self, instances: list[dict[str, Any]]) -> list[float]:
        """Answer the rows."""
        return self.kept.predict(instances)


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Batching:
    """Adaptive batching, by rows."""

    def __init__(self) -> None:
        self.kept = Model(Path(os.environ["BENCH_FOLDER"]))

    @bentoml.api(batchable=True, max_batch_size=1000, max_latency_ms=1000)
    def predict(self, instances: list[dict[str, Any]]) -> list[float]:
        """Answer the rows of all requests in the batch."""
        return self.kept.predict(instances)
