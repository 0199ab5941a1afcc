"""The script that keeps what a project answers now as what its tests expect, for a change that is meant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trilho.adopt.emit.scoring import limit_name
from trilho.adopt.plan import Choice, Plan

FILE = "keep_golden.py"
SCRIPT = '''"""Keep what the project answers now as what its tests expect, after a change that is meant.

`make golden WHY="..."` runs it. What was expected before, and why it is no longer, stands in the git diff.
"""

import getpass
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

GOLDEN = Path(__file__).parent / "golden"
DATA = Path(__file__).parents[1] / DATA_FILE


def main(why: str) -> None:
    """Write golden/ anew, and say what has changed."""
    golden = json.loads((GOLDEN / "golden.json").read_text(encoding="utf-8"))
    before = dict(golden["metrics"])
    table = load(DATA)
    keep_rows(table, golden)
    target = table[TARGET_NAME]
    ROWS_MADE
    model = fitted(rows, target)
    sample = rows.iloc[golden["positions"]]
    golden["predictions"] = np.asarray(SCORED, dtype=float).tolist()
    BLOCKS
    columns = set(rows.columns)
    for answered in ("missing", "unseen"):  # that these still get an answer is what the tests say
        golden[answered] = [name for name in golden[answered] if name in columns]
    golden["kept"] = {"by": getpass.getuser(), "why": why, "metrics_before": before}
    lines = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in golden.items()]
    (GOLDEN / "golden.json").write_text("{\\n" + ",\\n".join(lines) + "\\n}\\n", encoding="utf-8")
    print(f"Kept. Metrics were {before} and are {golden['metrics']}.")
    print("git diff tests/golden shows the rest.")


def keep_rows(table: pd.DataFrame, golden: dict[str, Any]) -> None:
    """Keep the sample of the rows, and what is known of all of them."""
    golden["rows"] = len(table)
    golden["dtypes"] = {name: str(dtype) for name, dtype in table.dtypes.items()}
    golden["positions"] = [at for at in golden["positions"] if at < len(table)]
    if golden["digest"]:
        hashes = pd.util.hash_pandas_object(table, index=False).to_numpy()
        golden["digest"] = hashlib.sha256(hashes.tobytes()).hexdigest()
    known = pd.read_parquet(GOLDEN / "rows.parquet").columns  # personal data is not kept
    kept = [name for name in known if name in table.columns]
    table.iloc[golden["positions"]][kept].to_parquet(GOLDEN / "rows.parquet")
    if (GOLDEN / "fitted.npy").exists():
        chosen = np.load(GOLDEN / "fitted.npy")
        np.save(GOLDEN / "fitted.npy", chosen[chosen < len(table)])


def fitted(rows: pd.DataFrame, target: pd.Series) -> MODEL_TYPE:
    """Fit the model as the tests do."""
    FITTED


if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1].strip():
        sys.exit('why do the answers change? make golden WHY="the trees are shallower: see issue 12"')
    main(sys.argv[1].strip())
'''
FEATURES = """features = BUILT_ROWS
    features.iloc[golden["positions"]].to_parquet(GOLDEN / "features.parquet")
    golden["features"] = {str(name): str(dtype) for name, dtype in features.dtypes.items()}
    numbers = features.select_dtypes("number")
    golden["sums"] = {str(name): float(numbers[name].sum()) for name in numbers.columns}
"""
STATE = """golden["state"] = {name: described(getattr(model.state, name)) for name in golden["state"]}
"""
METRICS = """found = evaluate(EVALUATED)
    golden["metrics"] = {name: float(value) for name, value in found.items() if np.ndim(value) == 0}
"""
LIMIT = """golden["limit"] = LIMIT_NAME
"""


def keeping_script(plan: Plan, choice: Choice, facts: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Give the script's text, names still in capitals, and the imports that it needs."""
    state, decides = bool(facts["state"] and plan.predict is not None), has_limit(choice)
    judged = bool(choice.metrics and plan.evaluate)
    builds = bool(facts["features"]) or plan.form == "features"
    blocks = [
        FEATURES if facts["features"] else "",
        STATE if state else "",
        METRICS.replace("EVALUATED", "DATA" if plan.prepared else "rows, target") if judged else "",
        LIMIT if decides else "",
    ]
    text = SCRIPT.replace("BLOCKS\n", "    ".join(block for block in blocks if block) or "pass\n")
    name = choice.threshold and limit_name(choice.threshold)
    imports = [f"from {plan.package}.load import load", f"from {plan.package}.fit import fit",
               f"from {plan.package}.predict import predict",
               *([f"from {plan.package}.evaluate import evaluate"] if judged else []),
               *([f"from {plan.package}.features import build"] if builds else []),
               *(["from test_fit import described"] if state else []),
               *([f"from {plan.package}.decide import {name}"] if decides else [])]  # fmt: skip
    return text.replace("LIMIT_NAME", name or ""), imports


def has_limit(choice: Choice) -> bool:
    """Say whether the project decides by a limit."""
    return choice.threshold is not None and choice.task == "classification"
