"""The finished package, opened again: does it give the predictions that are wanted, from a table and from JSON?

Runs in the project's interpreter with nothing of the project's source on the path: one process, one package.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..equality import compare_numbers
from .outcome import carried_out, stage, worse
from .subject import NotCompared


def compare(told: Mapping[str, Any]) -> dict[str, Any]:
    """Open the package and ask it for the sample: as a table, and unless it needs other rows too as JSON."""
    import pandas as pd

    from trilho_runtime.package import open_package

    folder = Path(told["folder"])
    positions, expected = np.load(folder / "sample.npy"), np.load(folder / "expected.npy")
    newest = told["newest"] or len(positions)
    positions, expected = positions[:newest], expected[:newest]
    predictor = open_package(Path(told["package"])).load()
    rows = pd.read_parquet(folder / "asked.parquet").drop(columns=told["target"])
    answers = np.asarray(predictor.predict_frame(rows))
    order = np.load(folder / "asked.npy")
    by_row = dict(zip(order.tolist(), answers.tolist(), strict=True))
    found = compare_numbers([by_row[row] for row in positions.tolist()], expected, told["tolerance"], positions)
    if not told["batch_only"]:
        requests = json.loads((folder / "requests.json").read_text(encoding="utf-8"))[:newest]
        if len(requests) != len(positions):
            raise NotCompared(f"{len(requests)} rows as JSON, {len(positions)} in the sample")
        answers = np.asarray(predictor.predict(requests))
        found = worse(found, compare_numbers(answers, expected, told["tolerance"], positions))
    return stage(found, told["tolerance"])


def main(request: str) -> int:
    """Carry out what a request asks, and leave the result beside it."""
    told = json.loads(Path(request).read_text(encoding="utf-8"))
    sys.dont_write_bytecode = True
    result = carried_out("package", lambda: compare(told))
    text = json.dumps(result, ensure_ascii=False, allow_nan=False)
    Path(told["folder"], "packaged.json").write_text(text, encoding="utf-8")
    return 0
