"""What two small notebooks do, and what a run of each would keep. Run with a data scientist's interpreter.

python parity_notebook.py rides|late FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROWS = 300


def keep(value: Any, file: Path) -> str:
    if isinstance(value, np.ndarray):
        np.save(file.with_suffix(".npy"), value)
        return f"values/{file.stem}.npy"
    frame = value.to_frame() if isinstance(value, pd.Series) else value.copy()
    frame.insert(0, "__index__", frame.index)
    frame.to_parquet(file.with_suffix(".parquet"), index=False)
    return f"values/{file.stem}.parquet"


def rides(folder: Path) -> dict[str, Any]:
    """A regression on columns of every awkward kind, fitted again on everything after it was measured."""
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.metrics import mean_absolute_error, r2_score
    from sklearn.model_selection import train_test_split

    rng = np.random.default_rng(3)
    time = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(ROWS) * 7, unit="h")
    table = pd.DataFrame({
        "id": 9_007_199_254_740_993 + np.arange(ROWS) * 10_000_019, "at": time,
        "temp": rng.normal(20, 6, ROWS).round(3), "seats": rng.integers(1, 5, ROWS).astype(float),
        "holiday": rng.random(ROWS) < 0.1, "place": rng.choice(["Praça da Sé", "Água Branca", "Brás; \"B\""], ROWS),
        "kind": rng.choice(["bike", "trem"], ROWS),
    })  # fmt: skip
    table["rides"] = (40 + 3 * table.temp + 9 * table.seats + rng.normal(0, 5, ROWS)).round()
    table.loc[5:20, "temp"] = np.nan
    table.loc[15:30, "seats"] = np.nan
    table.loc[17, ["place"]] = None  # a row with nothing in what may be missing
    table["rain"] = np.where(np.arange(ROWS) % 3 == 0, None, np.arange(ROWS) % 2 == 0)
    table.to_csv(folder / "data.csv", index=False)

    df = pd.read_csv(folder / "data.csv", parse_dates=["at"], dtype={"kind": "category"})
    X = pd.DataFrame({
        "hour": df["at"].dt.hour, "temp": df["temp"].astype("float32"), "seats": df["seats"].fillna(2),
        "holiday": df["holiday"], "accented": df["place"].fillna("").str.contains("ç|Á").astype("int8"),
        "train": (df["kind"] == "trem").astype(int), "odd": df["id"] % 2,
        "rain": df["rain"].eq(True).astype(int),
    })  # fmt: skip
    y = df["rides"]
    a, b, ya, yb = train_test_split(X, y, test_size=0.25, random_state=1)
    model = HistGradientBoostingRegressor(max_iter=20, random_state=0).fit(a, ya)
    p = model.predict(b)
    mae, r2 = mean_absolute_error(yb, p), r2_score(yb, p)
    model.fit(X, y)
    values = folder / "values"
    return {
        "X": keep(X, values / "X"), "Xa": keep(a, values / "Xa"), "y": keep(y, values / "y"),
        "golden": keep(model.predict(X), values / "golden"),
        "Xb": keep(b, values / "Xb"), "goldenb": keep(model.predict(b), values / "goldenb"),
        "positionsb": keep(b.index.to_numpy(), values / "positionsb"), "p": keep(p, values / "p"),
        "measured": keep(p, values / "measured"),
        "yb": keep(yb, values / "yb"), "mae": float(mae), "r2": float(r2),
    }  # fmt: skip


def late(folder: Path) -> dict[str, Any]:
    """A classifier of xgboost's own, with medians kept in a global, stopped early on the newest rows."""
    import xgboost as xgb
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(5)
    table = pd.DataFrame({
        "ts": pd.date_range("2024-03-01", periods=ROWS, freq="3h"), "carrier": rng.choice(list("ABC"), ROWS),
        "wind": np.where(rng.random(ROWS) < 0.1, np.nan, rng.gamma(2, 4, ROWS)),
    })  # fmt: skip
    odds = table.wind.fillna(6) / 6 + (table.carrier == "A") - 1.5
    table["late"] = (rng.random(ROWS) < 1 / (1 + np.exp(-odds))).astype(int)
    table.to_csv(folder / "data.csv", index=False)

    raw = pd.read_csv(folder / "data.csv")
    raw["ts"] = pd.to_datetime(raw["ts"])
    codes = {c: i for i, c in enumerate(sorted(raw.carrier.unique()))}
    medians: dict[str, float] = {}

    def make(d: pd.DataFrame) -> pd.DataFrame:
        o = pd.DataFrame(index=d.index)
        o["carrier"] = d.carrier.map(codes).fillna(-1)
        o["hour"] = d.ts.dt.hour
        medians.setdefault("wind", d.wind.median())
        o["wind"] = d.wind.fillna(medians["wind"])
        return o

    cut = raw.ts.quantile(0.8)
    tr, te = raw[raw.ts < cut], raw[raw.ts >= cut]
    a, b = make(tr), make(te)
    train, test = xgb.DMatrix(a, label=tr.late), xgb.DMatrix(b, label=te.late)
    params = {"objective": "binary:logistic", "max_depth": 3, "seed": 7, "nthread": 1, "subsample": 0.8}
    model = xgb.train(params, train, 60, evals=[(test, "test")], early_stopping_rounds=10, verbose_eval=False)
    p = model.predict(test)
    values = folder / "values"
    return {
        "X": keep(a, values / "X"), "y": keep(tr.late, values / "y"),
        "golden": keep(model.predict(train), values / "golden"),
        "positions": keep(a.index.to_numpy(), values / "positions"), "Xb": keep(b, values / "Xb"),
        "goldenb": keep(p, values / "goldenb"), "positionsb": keep(b.index.to_numpy(), values / "positionsb"),
        "auc": float(roc_auc_score(te.late, p)),
    }  # fmt: skip


if __name__ == "__main__":
    place = Path(sys.argv[2])
    (place / "values").mkdir(parents=True)
    sys.stdout.write(json.dumps({"rides": rides, "late": late}[sys.argv[1]](place)))
