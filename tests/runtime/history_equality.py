"""A model of lags and rolling sums: each served row's features through the store, beside those of the whole table.

A script for an interpreter that has pandas; `test_online.py` runs it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trilho_runtime.history import History, keys_of
from trilho_runtime.model.outputs import Outputs
from trilho_runtime.model.predictor import Predictor
from trilho_runtime.schema.signature import Signature
from trilho_runtime.serving.lookup import Lookup, spelled
from trilho_runtime.serving.online import SqlitePast

SHOPS, DAYS, PACKED = 4, 70, 30
WEIGHTS = 0.5 ** np.arange(8)[::-1]
NAMES = ["lag_1", "lag_7", "week", "ewm", "rise", "promo"]


def build(df: Any) -> Any:
    past = df.sort_values(["shop", "city", "day"])
    sold = past.groupby(["shop", "city"], dropna=False)["sold"]
    return past.assign(
        lag_1=sold.shift(1),
        lag_7=sold.shift(7),
        week=sold.transform(lambda s: s.shift(1).rolling(7).sum()),
        ewm=sold.transform(lambda s: s.shift(1).rolling(8).apply(lambda w: (w * WEIGHTS).sum(), raw=True)),
        rise=sold.shift(1) - sold.shift(8),
    )[NAMES].dropna()


class Keep:
    """A model that keeps what it was given."""

    def __init__(self) -> None:
        self.given: list[Any] = []

    def predict(self, made: Any) -> Any:
        self.given += made.to_numpy().tolist()
        return made["lag_1"].to_numpy()


def table() -> Any:
    """Give whole numbers: their sums are the same in any order."""
    rng = np.random.default_rng(11)
    rows = [
        {"shop": shop, "city": None if shop == 2 else f"c{shop % 2}", "promo": int(rng.random() < 0.3),
         "day": pd.Timestamp("2024-01-01 06:00") + pd.Timedelta(days=day), "sold": float(rng.integers(20, 90))}
        for day in range(DAYS) for shop in range(SHOPS)
    ]  # fmt: skip
    return pd.DataFrame(rows).astype({"day": "datetime64[us]"})


def main(folder: Path) -> dict[str, Any]:
    whole = table()
    raw = whole.drop(columns="sold")
    signature = Signature.infer(raw)
    told: dict[str, Any] = {"target": "sold", "time": "day", "entity": ["shop", "city"], "rows": 8}
    packed = PACKED * SHOPS
    kept = History.fit(signature.arrays(raw.iloc[:packed]), whole["sold"].to_numpy()[:packed], **told)
    keep = Keep()
    predictor = Predictor(signature, "regression", build, "m:build", lambda: keep, Outputs("value"), history=kept)
    store, lookup = SqlitePast(folder / "past.sqlite", writable=True), Lookup.in_file(folder / "past.sqlite")
    wanted = build(whole)
    differences = without = 0
    states: set[str] = set()
    for day in range(PACKED, DAYS):
        at = range(day * SHOPS, (day + 1) * SHOPS)
        rows = signature.rows(raw.iloc[at])
        asked = signature.columns(json.loads(json.dumps(rows)))
        completed = lookup.complete(predictor, asked)
        for one, into in ((completed, True), (predictor, False)):
            keep.given.clear()
            one.predict_columns(asked)
            found = np.array(keep.given)
            unlike = int((found != wanted.loc[list(at)].to_numpy()).any(axis=1).sum())
            differences, without = (differences + unlike, without) if into else (differences, without + unlike)
        states |= {past.state for past in completed.history.find(asked)}  # type: ignore[union-attr]
        keys, moments = keys_of(asked, told["entity"], len(rows)), asked["day"]
        truth = whole["sold"].iloc[at].tolist()
        store.put(
            (list(key), spelled(moment), f"r{day}.{place}", {**row, "sold": value})
            for place, (key, moment, row, value) in enumerate(zip(keys, moments, rows, truth, strict=True))
        )
        store.trim(32, keys)
    return {"rows": (DAYS - PACKED) * SHOPS, "differences": differences, "without_the_store": without,
            "states": sorted(states)}  # fmt: skip


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]))))
