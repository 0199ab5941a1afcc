"""An adopted model in its project: its own fit and features on the sample, and the tables that the pipeline takes.

Runs in the project's interpreter. What `fit` gives must predict what the file predicted where it was inspected.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..equality import compare_numbers
from .outcome import carried_out, stage

ROW = "__row__"  # the position of a row in the sample


def compare(told: Mapping[str, Any]) -> dict[str, Any]:
    """Compare the project's model with the file's predictions, and leave the sample as tables."""
    import pandas as pd

    from trilho_runtime.fit import answers
    from trilho_runtime.schema.signature import Signature
    from trilho_runtime.steps.function import load_function

    folder, target = Path(told["folder"]), told["target"]
    sys.path.insert(0, str(Path(told["project"]) / "src"))
    rows = pd.read_parquet(told["sample"])
    if target not in rows.columns:  # the check needs some truth; it is looked at by nobody
        rows[target] = np.arange(len(rows)) % 2 if told["task"] == "classification" else np.zeros(len(rows))
    raw, positions = rows.drop(columns=target), np.arange(len(rows), dtype=np.int64)
    sample = positions[: told["at_most"]]
    made = load_function(told["features"])(raw)
    model = load_function(told["train"])(made, rows[target])
    expected = np.asarray(told["predictions"], dtype=np.float64)
    found = compare_numbers(answers(model, made, told["task"]), expected, told["tolerance"], positions)
    rows.assign(**{ROW: positions}).to_parquet(folder / "rows.parquet", index=False)
    for name, values in (("sample", sample), ("fit_rows", positions), ("expected", expected[sample])):
        np.save(folder / f"{name}.npy", values)
    requests = Signature.infer(raw).rows(raw.iloc[sample])
    (folder / "requests.json").write_text(json.dumps(requests, default=str, allow_nan=False), encoding="utf-8")
    return stage(found, told["tolerance"])


def main(request: str) -> int:
    """Carry out what a request asks, and leave the result beside it."""
    told = json.loads(Path(request).read_text(encoding="utf-8"))
    sys.dont_write_bytecode = True
    result = carried_out("fit", lambda: compare(told))
    text = json.dumps(result, ensure_ascii=False, allow_nan=False)
    Path(told["folder"], "asked_model.json").write_text(text, encoding="utf-8")
    return 0
