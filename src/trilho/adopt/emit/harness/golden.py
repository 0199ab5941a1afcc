"""Run a new project once in its own interpreter, and keep what its tests compare with.

It is started by path with REQUEST.json and OUT, never imported by trilho.

OUT gets facts.json, rows.parquet and, where the features are a table, features.parquet. What the notebook itself left
(its X, its predictions, its state) is kept where it is known; what the project computes only where it is not.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
import warnings
from pathlib import Path
from typing import Any

from .columns import column_facts, digest_of, kind_of, sums_of, time_facts, write_table
from .fitted import Fitted, Kept, module
from .labels import label_facts
from .past import past_facts, table_with_past

PROBED = 5
NEVER_SEEN = "never seen before"


def main(request_path: str, out: str) -> int:
    """Do what a request says."""
    import pandas as pd

    warnings.simplefilter("ignore")
    request: dict[str, Any] = json.loads(Path(request_path).read_text(encoding="utf-8"))
    place = Path(out)
    sys.path.insert(0, request["src"])
    table = module(request, "load").load(Path(request["data"]))
    kept = Kept(request, table)
    columns = [column_facts(table[name], str(name)) for name in table.columns]
    for column in columns:
        if column["name"] == request["time"] and column["kind"] == "string":
            column.update(time_facts(table[request["time"]]))
    facts: dict[str, Any] = {"rows": len(table), "columns": columns}
    facts["digest"] = digest_of(table)
    facts["labels"] = label_facts(request, table)
    positions = kept.sample()
    facts["positions"] = positions
    personal = {fact["name"] for fact in columns if fact["personal"] or fact["name"] in request["personal"]}
    personal -= set(request["needed"])
    write_table(table.iloc[positions].drop(columns=sorted(personal)), place / "rows.parquet")
    past, target = request["past"], request["target"]
    rows = table_with_past(table, target) if past else table.drop(columns=target)
    model = Fitted(request, rows, table[target], kept, positions)
    facts.update(feature_facts(request, rows, positions, kept, model, place, pd))
    facts["past"] = past_facts(model.build, rows, past, target) if past else {"rows": 0, "problem": ""}
    facts.update(prediction_facts(request, rows, positions, kept, model))
    state = {name: state_text(request, model, name) for name in request["state"]}
    facts["state"] = {name: text for name, text in state.items() if text}
    facts["fitted"] = model.fitted is not None
    if model.fitted is not None:
        importlib.import_module("numpy").save(place / "fitted.npy", model.fitted)
    facts["versions"] = distributions(request["distributions"])
    (place / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    return 0


def feature_facts(
    request: dict[str, Any], rows: Any, positions: list[int], kept: Kept, model: Fitted, out: Path, pd: Any
) -> dict[str, Any]:
    """Keep the features of the sample, the notebook's where they are known, and the sums of all."""
    if not request["build"]:
        return {"features": None}
    try:
        made = model.build(rows)
    except Exception:  # noqa: BLE001  rows that training leaves out can be such that they have no features
        model.build(rows.iloc[positions])
        return {"features": None}
    if not isinstance(made, pd.DataFrame) or len(made) != len(rows):
        return {"features": None}
    made = made.loc[rows.index] if request["past"] else made  # they may be sorted
    here = made.iloc[positions]
    at = kept.rows_of(positions)
    theirs = None
    if at is not None and isinstance(kept.X, pd.DataFrame) and list(kept.X.columns) == list(made.columns):
        theirs = kept.X.iloc[at]
        theirs.index = here.index
    source = here if theirs is None else theirs
    if not write_table(source, out / "features.parquet"):
        return {"features": None}
    return {
        "features": {
            "from": "project" if theirs is None else "notebook",
            "columns": [str(name) for name in made.columns],
            "dtypes": [str(kind) for kind in made.dtypes],
            "sums": sums_of(made),
        }
    }


def prediction_facts(
    request: dict[str, Any], rows: Any, positions: list[int], kept: Kept, model: Fitted
) -> dict[str, Any]:
    """Keep the predictions of the sample, and find out what the model answers when a value is new or missing."""
    import numpy as np

    together = np.asarray(model.predict(rows if request["batch_only"] else rows.iloc[positions]), dtype=float)
    here = together[positions] if request["batch_only"] else together
    at = kept.rows_of(positions)
    theirs = None if at is None or kept.predictions is None else np.asarray(kept.predictions, dtype=float)[at]
    found = {"predictions": (here if theirs is None else theirs).tolist(),
             "predictions_from": "project" if theirs is None else "notebook"}  # fmt: skip
    if theirs is not None and request["processed"] and not np.allclose(here, theirs, rtol=1e-9, atol=1e-12):
        found = {"predictions": here.tolist(), "predictions_from": "project"}
    if request["batch_only"]:
        return {**found, "alone": False, "missing": [], "unseen": []}
    probed = rows.iloc[positions[:PROBED]]
    return {**found, "alone": bool(alone(model, probed, here[:PROBED])), **probe(request, model, probed)}


def alone(model: Fitted, rows: Any, together: Any) -> bool:
    """Say whether each row is predicted the same by itself."""
    import numpy as np

    for at in range(len(rows)):
        try:
            one = np.asarray(model.predict(rows.iloc[[at]]), dtype=float)
        except Exception:  # noqa: BLE001  the project's code can raise anything
            return False
        if not np.allclose(one, together[at : at + 1], rtol=1e-9, atol=1e-12):
            return False
    return True


def probe(request: dict[str, Any], model: Fitted, rows: Any) -> dict[str, list[str]]:
    """Name the columns in which a missing value, or a text that was never seen, gets an answer."""
    first, missing, unseen = rows.iloc[[0]], [], []
    apart = {request["time"], request["key"]}
    for name in first.columns:
        kind = kind_of(first[name])
        if name in apart or kind in ("other", "integer", "boolean"):
            continue
        if answers(model, emptied(first, name, kind)):
            missing.append(str(name))
        if kind == "string" and answers(model, first.assign(**{str(name): texts(first[name], NEVER_SEEN)})):
            unseen.append(str(name))
    return {"missing": missing, "unseen": unseen}


def emptied(row: Any, name: Any, kind: str) -> Any:
    """Give a row without the value of one column, which keeps its type."""
    import pandas as pd

    empty = row.copy()
    empty[name] = pd.Series([None], index=row.index).astype(row[name].dtype) if kind != "number" else float("nan")
    return empty


def texts(column: Any, text: str) -> Any:
    """Give a column of one text, of the same type."""
    import pandas as pd

    return pd.Series([text] * len(column), index=column.index, dtype="object" if column.dtype == object else None)


def answers(model: Fitted, row: Any) -> bool:
    """Say whether a row gets a finite prediction."""
    import numpy as np

    try:
        return bool(np.isfinite(np.asarray(model.predict(row), dtype=float)).all())
    except Exception:  # noqa: BLE001  the project's code can raise anything
        return False


def state_text(request: dict[str, Any], model: Fitted, name: str) -> str:
    """Describe a learnt value: the notebook's own where it is known."""
    literal = request["literals"].get(name)
    known = evaluated(literal) if literal else None
    if known is not None:
        return described(known)
    state = getattr(model.model, "state", None)
    try:
        return described(getattr(state, name))
    except AttributeError:
        return ""


def evaluated(literal: str) -> Any:
    """Give the value that a repr is of; None where it is no code."""
    import numpy as np

    names = {"__builtins__": {}, "nan": float("nan"), "inf": float("inf"), "np": np}
    try:
        return eval(literal, names)  # noqa: S307  a repr that the capture wrote
    except Exception:  # noqa: BLE001  a repr need not be code
        return None


def described(value: Any) -> str:
    """Write a learnt value as text, floats to twelve digits; "" for what has no plain content."""
    import numpy as np
    import pandas as pd

    if isinstance(value, pd.Series):
        value = value.to_dict()
    if isinstance(value, (pd.Index, np.ndarray)):
        value = value.tolist()
    if isinstance(value, dict):
        parts = [(described(key), described(held)) for key, held in value.items()]
        return "{" + ", ".join(f"{key}: {held}" for key, held in sorted(parts)) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(described, value)) + "]"
    if isinstance(value, (bool, np.bool_)) or value is None:
        return str(value)
    if isinstance(value, (int, float, np.number)):
        return f"{float(value):.12g}"
    return repr(value) if isinstance(value, str) else type(value).__name__


def distributions(names: list[str]) -> dict[str, str]:
    """Give the versions of distributions, and of all that they require and is installed."""
    from importlib.metadata import PackageNotFoundError, distribution

    found: dict[str, str] = {}
    queue = list(names)
    while queue:
        name = normal(queue.pop())
        if name in found:
            continue
        try:
            there = distribution(name)
        except PackageNotFoundError:
            continue
        found[name] = there.version
        for requirement in there.requires or []:
            wanted, _, marker = requirement.partition(";")
            if "extra" not in marker:
                queue.append(re.split(r"[\s\[<>=!~(@]", wanted.strip(), maxsplit=1)[0])
    return found


def normal(name: str) -> str:
    """Write a distribution's name as indexes do."""
    return re.sub(r"[-_.]+", "-", name).lower()
