# mypy: ignore-errors
"""FastAPI with a body checked by pydantic and a plain function, which it runs in its threads: the usual."""

import os
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from model import Model
from pydantic import BaseModel

app = FastAPI()
kept = Model(Path(os.environ["BENCH_FOLDER"]))


class Asked(BaseModel):
    """What a caller sends."""

    instances: list[dict[str, Any]]


@app.post("/predict")
def predict(asked: Asked) -> dict[str, list[float]]:
    """Answer the rows."""
    return {"predictions": kept.predict(asked.instances)}
